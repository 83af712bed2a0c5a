-- Columns of table $1 by their names $2: how a value is read from the text that its type prints, and how it is compared. A column that is gone,
-- or whose type has no equality, gives no row.
SELECT asked.n::int AS n,
       a.attname::text AS name,
       format('%I.%I', base.schema, base.name) AS type_sql,
       base.oid AS type_oid,
       CASE WHEN col.oid IS NOT NULL THEN format('%I.%I', coln.nspname, col.collname) END AS collation,
       format('OPERATOR(%I.%s)', opn.nspname, op.oprname) AS equals
FROM unnest($2) WITH ORDINALITY AS asked (name, n)
JOIN pg_attribute a ON a.attrelid = $1 AND a.attname = asked.name AND a.attnum > 0 AND NOT a.attisdropped
-- The type itself, or what a domain is over.
JOIN LATERAL (
    WITH RECURSIVE over (oid, name, namespace, kind, base, category) AS (
        SELECT t.oid, t.typname, t.typnamespace, t.typtype, t.typbasetype, t.typcategory FROM pg_type t WHERE t.oid = a.atttypid
        UNION ALL
        SELECT t.oid, t.typname, t.typnamespace, t.typtype, t.typbasetype, t.typcategory
        FROM over JOIN pg_type t ON t.oid = over.base WHERE over.kind = 'd')
    SELECT over.*, tn.nspname AS schema,
           CASE WHEN over.kind = 'e' THEN 'anyenum'::regtype WHEN over.kind = 'r' THEN 'anyrange'::regtype
                WHEN over.kind = 'm' THEN 'anymultirange'::regtype WHEN over.kind = 'c' THEN 'record'::regtype
                WHEN over.category = 'A' THEN 'anyarray'::regtype WHEN over.oid = 'varchar'::regtype THEN 'text'::regtype
                ELSE over.oid END AS compared_as
    FROM over JOIN pg_namespace tn ON tn.oid = over.namespace WHERE over.kind <> 'd'
) base ON true
LEFT JOIN pg_collation col ON col.oid = a.attcollation
LEFT JOIN pg_namespace coln ON coln.oid = col.collnamespace
-- By the primary key's own equality where the column is in it.
LEFT JOIN LATERAL (
    SELECT i.indclass[k.n - 1] AS opclass
    FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
    WHERE i.indrelid = $1 AND i.indisprimary AND k.attnum = a.attnum AND k.n <= i.indnkeyatts
) key ON true
JOIN LATERAL (
    SELECT am.amopopr
    FROM pg_opclass oc
    JOIN pg_amop am ON am.amopfamily = oc.opcfamily AND am.amoplefttype = oc.opcintype AND am.amoprighttype = oc.opcintype
                   AND (oc.opcmethod, am.amopstrategy) IN ((403, 3), (405, 1))
    WHERE CASE WHEN key.opclass IS NOT NULL THEN oc.oid = key.opclass
               ELSE oc.opcdefault AND oc.opcintype IN (base.oid, base.compared_as) END
    ORDER BY oc.opcintype = base.oid DESC, oc.opcmethod LIMIT 1
) equality ON true
JOIN pg_operator op ON op.oid = equality.amopopr
JOIN pg_namespace opn ON opn.oid = op.oprnamespace
