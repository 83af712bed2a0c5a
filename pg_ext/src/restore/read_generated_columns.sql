-- Stored generated columns, and what they are computed from.
SELECT a.attname::text AS name, pg_get_expr(d.adbin, d.adrelid) AS expression, format_type(a.atttypid, a.atttypmod) AS type
FROM pg_attribute a
JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = $1 AND a.attgenerated <> '' AND NOT a.attisdropped
