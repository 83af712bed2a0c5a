-- Every table (partition) whose rows name objects, with the column that does; the table that was bound; and whether that column is
-- of another type by now, so that it cannot be searched as text.
WITH bound AS (
    SELECT b.relation, b.key_column, c.relkind,
           EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = b.relation AND a.attname = b.key_column
                   AND a.atttypid <> 'text'::regtype AND NOT a.attisdropped) AS is_retyped
    FROM keepsake.bound_storage b JOIN pg_class c ON c.oid = b.relation)
SELECT b.relation::oid, b.key_column::text, b.relation::oid, b.is_retyped FROM bound b WHERE b.relkind = 'r'
UNION ALL
SELECT p.relid::oid, b.key_column::text, b.relation::oid, b.is_retyped
FROM bound b, pg_partition_tree(b.relation) p
WHERE b.relkind = 'p' AND p.isleaf
