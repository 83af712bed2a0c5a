-- How a table's deleted rows are hidden.
SELECT h.how, h.enabled_rls, h.view::pg_catalog.oid AS view,
       pg_catalog.left(pg_catalog.md5(c.relname), 8) AS name_hash,
       -- Whether CREATE OR REPLACE VIEW can make the view that the table's columns ask for.
       NOT EXISTS (
           SELECT FROM (SELECT a.attname, a.atttypid, a.atttypmod, a.attcollation, pg_catalog.row_number() OVER (ORDER BY a.attnum) AS n
                        FROM pg_attribute a WHERE a.attrelid = h.view AND a.attnum > 0 AND NOT a.attisdropped) v
           LEFT JOIN (SELECT a.attname, a.atttypid, a.atttypmod, a.attcollation, pg_catalog.row_number() OVER (ORDER BY a.attnum) AS n
                      FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                        AND a.attname NOT IN ('deleted_at', 'deletion_id')) t USING (n, attname, atttypid, atttypmod, attcollation)
           WHERE t.n IS NULL) AS replaceable
FROM pg_class c LEFT JOIN keepsake.hidden_reads h ON h.relation = c.oid
WHERE c.oid = $1
