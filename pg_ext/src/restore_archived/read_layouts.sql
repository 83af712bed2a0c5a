-- Where archives keep the columns of each layout. archive_name is NULL once the archive has lost the column.
SELECT k.archive::oid AS archive,
       k.layout,
       k.source_attnum AS attnum,
       a.attname::text AS archive_name,
       k.type::oid AS type,
       format('%I.%I', tn.nspname, t.typname) AS type_sql,
       k.typmod,
       a.attcollation AS "collation",
       k.missing,
       k.conversion,
       k.in_key
FROM keepsake.archive_column k
LEFT JOIN pg_attribute a ON a.attrelid = k.archive AND a.attname = k.archive_name AND NOT a.attisdropped
LEFT JOIN pg_type t ON t.oid = k.type
LEFT JOIN pg_namespace tn ON tn.oid = t.typnamespace
WHERE k.archive::oid = ANY ($1)
ORDER BY k.archive, k.layout, k.source_attnum
