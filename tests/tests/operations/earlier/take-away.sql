-- What a version before this one lacked, taken from what this one creates: a function in Rust, an index, a view, and a right that
-- was another. Made up, as no version was released yet; `scripts/install-extension` puts it behind this version's script.
DROP FUNCTION keepsake.sanitize_filename(text);
DROP INDEX keepsake.deletion_bin;
DROP VIEW keepsake.metrics;
GRANT EXECUTE ON FUNCTION keepsake.doctor() TO PUBLIC;
