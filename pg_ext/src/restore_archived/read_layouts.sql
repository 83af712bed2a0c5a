-- Where archives keep the columns of each layout. archive_name is NULL once the archive has lost the column.
SELECT k.archive::oid AS archive,
       k.layout,
       k.source_attnum AS attnum,
       a.attname::text AS archive_name,
       a.atttypid AS type,
       a.atttypmod AS typmod,
       a.attcollation AS "collation",
       k.missing,
       format('%I.%I', tn.nspname, t.typname) AS missing_type_sql,
       k.type::oid AS missing_type,
       k.typmod AS missing_typmod
FROM keepsake.archive_column k
LEFT JOIN pg_attribute a ON a.attrelid = k.archive AND a.attname = k.archive_name AND NOT a.attisdropped
LEFT JOIN pg_type t ON t.oid = k.type
LEFT JOIN pg_namespace tn ON tn.oid = t.typnamespace
WHERE k.archive::oid = ANY ($1)
ORDER BY k.archive, k.layout, k.source_attnum
