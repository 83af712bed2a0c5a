-- Every table (partition) whose rows name objects, with the column that does; the table that was bound; and whether that column is
-- of another type by now, so that it cannot be searched as text. Archives come last: see object_rows. Theirs are all columns that were
-- bound in any layout; what a dropped table had archived names its objects still.
WITH bound AS (
    SELECT b.relation, b.key_column, c.relkind,
           EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = b.relation AND a.attname = b.key_column
                   AND a.atttypid <> 'text'::regtype AND NOT a.attisdropped) AS is_retyped
    FROM keepsake.bound_storage b JOIN pg_class c ON c.oid = b.relation)
SELECT b.relation::oid, b.key_column::text, b.relation::oid, b.is_retyped, 1 FROM bound b WHERE b.relkind = 'r'
UNION ALL
SELECT p.relid::oid, b.key_column::text, b.relation::oid, b.is_retyped, 1
FROM bound b, keepsake.partition_tree(b.relation) p
WHERE b.relkind = 'p' AND p.isleaf
UNION ALL
SELECT DISTINCT k.archive::oid, k.archive_name::text, coalesce(t.relation::oid, t.former), a.atttypid NOT IN ('text'::regtype, 'varchar'::regtype), 2
FROM keepsake.archive_table t
JOIN keepsake.archive_column k ON k.archive = t.archive AND k.source_name = t.object_key
JOIN pg_attribute a ON a.attrelid = k.archive AND a.attname = k.archive_name AND NOT a.attisdropped
ORDER BY 5
