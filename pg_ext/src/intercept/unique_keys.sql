-- The unique indexes of table $1 that hold for deleted rows as well and are over plain columns: the columns, and the operators that compare them.
SELECT columns.names, columns.operators, coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false)
FROM pg_index i
CROSS JOIN LATERAL (
    SELECT array_agg(a.attname::text ORDER BY k.n) AS names,
           array_agg(format('OPERATOR(%I.%s)', opn.nspname, op.oprname) ORDER BY k.n) AS operators,
           bool_or(a.attgenerated <> '') AS computed
    FROM unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY AS k (attnum, opclass, n)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    JOIN pg_opclass oc ON oc.oid = k.opclass
    JOIN pg_amop am ON am.amopfamily = oc.opcfamily AND am.amopstrategy = 3 AND am.amoplefttype = oc.opcintype AND am.amoprighttype = oc.opcintype
    JOIN pg_operator op ON op.oid = am.amopopr
    JOIN pg_namespace opn ON opn.oid = op.oprnamespace
    WHERE k.n <= i.indnkeyatts
) columns
WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT columns.computed
