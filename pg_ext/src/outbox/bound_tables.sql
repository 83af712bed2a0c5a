-- Every table (partition) whose rows name objects, with the column that does.
SELECT c.oid, b.key_column::text
FROM keepsake.bound_storage b JOIN pg_class c ON c.oid = b.relation
WHERE c.relkind = 'r'
UNION ALL
SELECT p.relid::oid, b.key_column::text
FROM keepsake.bound_storage b JOIN pg_class c ON c.oid = b.relation, pg_partition_tree(b.relation) p
WHERE c.relkind = 'p' AND p.isleaf
