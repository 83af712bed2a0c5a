-- The primary key of table `c`: its columns, their types, and the operators by which its values are equal.
LEFT JOIN LATERAL (
    SELECT array_agg(a.attname::text ORDER BY part.n) AS names,
           array_agg(format('%I.%I', base.schema, base.name) ORDER BY part.n) AS types,
           array_agg(base.oid ORDER BY part.n) AS type_oids,
           array_agg(a.atttypid ORDER BY part.n) AS declared_types,
           array_agg(format('OPERATOR(%I.%s)', opn.nspname, op.oprname) ORDER BY part.n) AS operators
    FROM pg_index i
    CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY AS part (attnum, opclass, n)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = part.attnum
    -- The type itself, or what a domain is over.
    JOIN LATERAL (
        WITH RECURSIVE over (oid, name, namespace, kind, base) AS (
            SELECT t.oid, t.typname, t.typnamespace, t.typtype, t.typbasetype FROM pg_type t WHERE t.oid = a.atttypid
            UNION ALL
            SELECT t.oid, t.typname, t.typnamespace, t.typtype, t.typbasetype
            FROM over JOIN pg_type t ON t.oid = over.base WHERE over.kind = 'd')
        SELECT over.oid, over.name, tn.nspname AS schema
        FROM over JOIN pg_namespace tn ON tn.oid = over.namespace WHERE over.kind <> 'd'
    ) base ON true
    JOIN pg_opclass oc ON oc.oid = part.opclass
    LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.conexclop IS NOT NULL
    LEFT JOIN pg_amop am ON con.oid IS NULL AND am.amopfamily = oc.opcfamily AND am.amopstrategy = 3
                        AND am.amoplefttype = oc.opcintype AND am.amoprighttype = oc.opcintype
    JOIN pg_operator op ON op.oid = coalesce(con.conexclop[part.n], am.amopopr)
    JOIN pg_namespace opn ON opn.oid = op.oprnamespace
    WHERE i.indrelid = c.oid AND i.indisprimary AND part.n <= i.indnkeyatts
) k ON true
