-- Unique indexes and exclusion constraints of tables. Of a partitioned table also those that a partition has on its own,
-- with the condition under which a row comes into the partition. What is not valid guards nothing.
WITH relation AS (
    SELECT root, root AS oid, NULL::text AS partition FROM unnest($1::oid[]) AS root
    UNION ALL
    SELECT root, tree.relid::oid, pg_get_partition_constraintdef(tree.relid)
    FROM unnest($1::oid[]) AS root, pg_partition_tree(root::regclass) AS tree WHERE tree.level > 0
)
SELECT r.root,
       coalesce(con.conname, ic.relname)::text AS name,
       con.oid IS NOT NULL AS exclusion,
       concat_ws(' AND ', '(' || pg_get_expr(i.indpred, i.indrelid) || ')', '(' || r.partition || ')') AS predicate,
       coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) AS nulls_equal,
       part.expressions,
       part.operators,
       part.collations
FROM relation r
JOIN pg_index i ON i.indrelid = r.oid
JOIN pg_class ic ON ic.oid = i.indexrelid
LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.conexclop IS NOT NULL
CROSS JOIN LATERAL (
    SELECT array_agg(pg_get_indexdef(i.indexrelid, k.n::int, false) ORDER BY k.n) AS expressions,
           array_agg(format('OPERATOR(%I.%s)', opn.nspname, op.oprname) ORDER BY k.n) AS operators,
           array_agg(CASE WHEN col.oid IS NULL THEN '' ELSE format(' COLLATE %I.%I', coln.nspname, col.collname) END ORDER BY k.n) AS collations
    FROM unnest(i.indkey::int2[], i.indclass::oid[], i.indcollation::oid[]) WITH ORDINALITY AS k (attnum, opclass, collation_oid, n)
    JOIN pg_opclass oc ON oc.oid = k.opclass
    LEFT JOIN pg_amop am ON con.oid IS NULL AND am.amopfamily = oc.opcfamily AND am.amopstrategy = 3
                        AND am.amoplefttype = oc.opcintype AND am.amoprighttype = oc.opcintype
    JOIN pg_operator op ON op.oid = coalesce(con.conexclop[k.n], am.amopopr)
    LEFT JOIN pg_collation col ON col.oid = k.collation_oid
    LEFT JOIN pg_namespace coln ON coln.oid = col.collnamespace
    JOIN pg_namespace opn ON opn.oid = op.oprnamespace
    WHERE k.n <= i.indnkeyatts
) part
WHERE (i.indisunique OR con.oid IS NOT NULL)
  AND i.indisvalid AND i.indisready
  -- An index over whole rows cannot be asked about a row that is not there.
  AND NOT concat(i.indexprs::text, i.indpred::text) ~ ':varattno 0 '
  AND NOT (i.indrelid <> r.root AND EXISTS (
        SELECT FROM pg_inherits h JOIN pg_index whole ON whole.indexrelid = h.inhparent
        WHERE h.inhrelid = i.indexrelid AND whole.indisvalid))
ORDER BY r.root, name
