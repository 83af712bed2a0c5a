-- Unique indexes and exclusion constraints that hold among live rows only: a deleted row escapes
-- them, so bringing it back can break them. An index without a predicate holds for deleted rows
-- too and so cannot be broken, unless it is over the state columns or over expressions.
SELECT coalesce(con.conname, ic.relname)::text AS name,
       con.oid IS NOT NULL AS exclusion,
       pg_get_expr(i.indpred, i.indrelid) AS predicate,
       i.indnullsnotdistinct AS nulls_equal,
       part.expressions,
       part.operators,
       part.collations
FROM pg_index i
JOIN pg_class ic ON ic.oid = i.indexrelid
LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.contype = 'x'
CROSS JOIN LATERAL (
    SELECT array_agg(pg_get_indexdef(i.indexrelid, k.n::int, false) ORDER BY k.n) AS expressions,
           array_agg(format('OPERATOR(%I.%s)', opn.nspname, op.oprname) ORDER BY k.n) AS operators,
           array_agg(CASE WHEN col.oid IS NULL THEN '' ELSE format(' COLLATE %I.%I', coln.nspname, col.collname) END ORDER BY k.n) AS collations
    FROM unnest(i.indkey::int2[], i.indclass::oid[], i.indcollation::oid[]) WITH ORDINALITY AS k (attnum, opclass, collation_oid, n)
    JOIN pg_opclass oc ON oc.oid = k.opclass
    LEFT JOIN pg_amop am ON con.oid IS NULL AND am.amopfamily = oc.opcfamily AND am.amopstrategy = 3
                        AND am.amoplefttype = oc.opcintype AND am.amoprighttype = oc.opcintype
    JOIN pg_operator op ON op.oid = coalesce(con.conexclop[k.n], am.amopopr)
    JOIN pg_namespace opn ON opn.oid = op.oprnamespace
    LEFT JOIN pg_collation col ON col.oid = k.collation_oid
    LEFT JOIN pg_namespace coln ON coln.oid = col.collnamespace
    WHERE k.n <= i.indnkeyatts
) part
WHERE i.indrelid = $1
  AND (i.indisunique OR con.oid IS NOT NULL)
  AND i.indisvalid AND i.indisready
  AND (i.indpred IS NOT NULL OR i.indexprs IS NOT NULL
       OR EXISTS (SELECT FROM pg_attribute a
                  WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
                    AND a.attname IN ('deleted_at', 'deletion_id')))
ORDER BY 1
