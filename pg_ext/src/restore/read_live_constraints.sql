-- Unique indexes and exclusion constraints that a deleted row can escape, and so break when it comes
-- back: those whose key or predicate reads deleted_at or deletion_id, by itself or through a
-- generated column. Of a partitioned table also those that a partition has on its own. What is not
-- valid guards nothing; an index over whole rows cannot be asked about a row that is not there.
WITH asked AS (
    SELECT unnest($1::oid[]) AS root
), relation AS (
    SELECT root, root AS oid FROM asked
    UNION SELECT root, relid::oid FROM asked, pg_partition_tree(root::regclass)
), marks AS (
    SELECT r.root, r.oid, array_agg(a.attnum) AS attnums, format(':varattno (%s) ', string_agg(a.attnum::text, '|')) AS pattern
    FROM relation AS r
    JOIN pg_attribute a ON a.attrelid = r.oid AND a.attname IN ('deleted_at', 'deletion_id') AND NOT a.attisdropped
    GROUP BY r.root, r.oid
), generated AS (
    SELECT marks.root, marks.oid, a.attnum FROM marks
    JOIN pg_attribute a ON a.attrelid = marks.oid AND a.attgenerated <> '' AND NOT a.attisdropped
    JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    -- Column numbers as a stored expression has them.
    WHERE d.adbin::text ~ marks.pattern
), reading AS (
    SELECT s.root, s.oid, array_agg(s.attnum) AS attnums, format(':varattno (%s) ', string_agg(s.attnum::text, '|')) AS pattern
    FROM (SELECT marks.root, marks.oid, unnest(marks.attnums) AS attnum FROM marks
          UNION SELECT root, oid, attnum FROM generated) AS s
    GROUP BY s.root, s.oid
)
SELECT reading.root,
       coalesce(con.conname, ic.relname)::text AS name,
       i.indrelid AS relation,
       con.oid IS NOT NULL AS exclusion,
       pg_get_expr(i.indpred, i.indrelid) AS predicate,
       coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) AS nulls_equal,
       part.expressions,
       part.operators,
       part.collations,
       part.narrowed_by
FROM reading
JOIN pg_index i ON i.indrelid = reading.oid
JOIN pg_class ic ON ic.oid = i.indexrelid
LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.conexclop IS NOT NULL
CROSS JOIN LATERAL ENTRY AS part
WHERE (i.indisunique OR con.oid IS NOT NULL)
  AND i.indisvalid AND i.indisready
  AND NOT concat(i.indexprs::text, i.indpred::text) ~ ':varattno 0 '
  AND (i.indkey::int2[] && reading.attnums
       OR concat(i.indexprs::text, i.indpred::text) ~ reading.pattern)
  -- A partition's part of an index of the whole is looked at with the whole.
  AND NOT (i.indrelid <> reading.root AND EXISTS (
        SELECT FROM pg_inherits h JOIN pg_index whole ON whole.indexrelid = h.inhparent
        WHERE h.inhrelid = i.indexrelid AND whole.indisvalid))
ORDER BY name, relation
