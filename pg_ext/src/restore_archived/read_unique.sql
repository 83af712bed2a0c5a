-- Unique indexes and exclusion constraints of tables. Of a partitioned table also those that a partition has on its own,
-- with the condition under which a row comes into the partition. What is not valid guards nothing.
WITH relation AS (
    SELECT root, root AS oid, NULL::text AS partition FROM unnest($1::oid[]) AS root
    UNION ALL
    SELECT root, tree.relid::oid, pg_get_partition_constraintdef(tree.relid)
    FROM unnest($1::oid[]) AS root, keepsake.partition_tree(root) AS tree WHERE tree.level > 0
)
SELECT r.root,
       coalesce(con.conname, ic.relname)::text AS name,
       con.oid IS NOT NULL AS exclusion,
       concat_ws(' AND ', '(' || pg_get_expr(i.indpred, i.indrelid) || ')', '(' || r.partition || ')') AS predicate,
       coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) AS nulls_equal,
       part.expressions,
       part.operators,
       part.collations,
       part.narrowed_by
FROM relation r
JOIN pg_index i ON i.indrelid = r.oid
JOIN pg_class ic ON ic.oid = i.indexrelid
LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.conexclop IS NOT NULL
CROSS JOIN LATERAL ENTRY AS part
WHERE (i.indisunique OR con.oid IS NOT NULL)
  AND i.indisvalid AND i.indisready
  -- An index over whole rows cannot be asked about a row that is not there.
  AND NOT concat(i.indexprs::text, i.indpred::text) ~ ':varattno 0 '
  AND NOT (i.indrelid <> r.root AND EXISTS (
        SELECT FROM pg_inherits h JOIN pg_index whole ON whole.indexrelid = h.inhparent
        WHERE h.inhrelid = i.indexrelid AND whole.indisvalid))
ORDER BY r.root, name
