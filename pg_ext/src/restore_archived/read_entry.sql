-- What the entries of an index `i` are made of, and by what their parts clash; `con` is its exclusion constraint, if it has one.
(
    SELECT array_agg(pg_get_indexdef(i.indexrelid, k.n::int, false) ORDER BY k.n) AS expressions,
           array_agg(format('OPERATOR(%I.%s)', opn.nspname, op.oprname) ORDER BY k.n) AS operators,
           array_agg(CASE WHEN col.oid IS NULL THEN '' ELSE format(' COLLATE %I.%I', coln.nspname, col.collname) END ORDER BY k.n) AS collations,
           -- Of which keys rows that clash are neighbours: values that are equal, and ranges of PostgreSQL's own that overlap.
           array_agg(CASE WHEN op.oid = '&&(anyrange,anyrange)'::regoperator
                               AND ca.atttypid = ANY ('{int4range,int8range,numrange,daterange,tsrange,tstzrange}'::regtype[]) THEN 'range'
                          WHEN EXISTS (SELECT FROM pg_opclass d JOIN pg_am ON pg_am.oid = d.opcmethod AND pg_am.amname = 'btree'
                                       JOIN pg_amop m ON m.amopfamily = d.opcfamily AND m.amopstrategy = 3
                                       WHERE d.opcdefault AND d.opcintype = op.oprleft AND m.amopopr = op.oid) THEN 'equal'
                          ELSE '' END ORDER BY k.n) AS narrowed_by
    FROM unnest(i.indkey::int2[], i.indclass::oid[], i.indcollation::oid[]) WITH ORDINALITY AS k (attnum, opclass, collation_oid, n)
    JOIN pg_opclass oc ON oc.oid = k.opclass
    LEFT JOIN pg_amop am ON con.oid IS NULL AND am.amopfamily = oc.opcfamily AND am.amopstrategy = 3
                        AND am.amoplefttype = oc.opcintype AND am.amoprighttype = oc.opcintype
    JOIN pg_operator op ON op.oid = coalesce(con.conexclop[k.n], am.amopopr)
    JOIN pg_namespace opn ON opn.oid = op.oprnamespace
    LEFT JOIN pg_collation col ON col.oid = k.collation_oid
    LEFT JOIN pg_namespace coln ON coln.oid = col.collnamespace
    LEFT JOIN pg_attribute ca ON ca.attrelid = i.indrelid AND ca.attnum = k.attnum
    WHERE k.n <= i.indnkeyatts
)
