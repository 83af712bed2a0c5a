-- Foreign keys that touch a table kept in place, then the declared references; those of the tables in $1, unless that is NULL.
WITH known AS (
    SELECT con.conname::text AS name,
           con.conrelid AS child,
           con.confrelid AS parent,
           coalesce(override.on_delete, con.confdeltype::text) AS on_delete,
           -- SET NULL (columns) is known from PostgreSQL 15 on.
           coalesce(listed.columns, columns.child) AS set_columns,
           con.confmatchtype = 'f' OR columns.not_null
               OR EXISTS (SELECT FROM pg_constraint held WHERE held.conrelid = con.conrelid AND held.contype = 'c' AND held.conkey && con.conkey) AS refuses_null,
           columns.child AS child_columns,
           columns.parent AS parent_columns,
           columns.operators,
           columns.collations,
           con.confdeltype = 'r' AND override.on_delete IS NULL AS restricts,
           con.confdeltype = 'a' AND override.on_delete IS NULL AND con.condeferrable AND con.condeferred
               AND EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = con.confrelid AND t.tgname = 'keepsake_check_deferred' AND t.tgenabled IN ('O', 'A')
                           AND t.tgfoid = 'keepsake.check_deferred()'::regprocedure) AS checked_at_commit,
           columns.print_alike,
           NULL::text AS type_column,
           NULL::text AS type_value,
           NULL::text AS parent_type,
           con.condeferrable AS deferrable,
           -- Known from PostgreSQL 18 on.
           coalesce((to_jsonb(con) ->> 'conperiod')::boolean, false) AS has_period,
           false AS is_lost
    FROM pg_constraint con
    CROSS JOIN LATERAL (
        SELECT array_agg(ca.attname::text ORDER BY k.n) AS child,
               array_agg(pa.attname::text ORDER BY k.n) AS parent,
               bool_or(ca.attnotnull) AS not_null,
               array_agg(CASE WHEN ca.attcollation <> pa.attcollation THEN (
                   SELECT format('%I.%I', ln.nspname, l.collname) FROM pg_collation l JOIN pg_namespace ln ON ln.oid = l.collnamespace
                   WHERE l.oid = CASE WHEN (SELECT bool_and(d.collisdeterministic) FROM pg_collation d WHERE d.oid IN (ca.attcollation, pa.attcollation))
                                      THEN ca.attcollation ELSE pa.attcollation END) END ORDER BY k.n) AS collations,
               array_agg(format('OPERATOR(%I.%s)', opn.nspname, op.oprname) ORDER BY k.n) AS operators,
               -- Not so 1.0 and 1.00, or two that differ in blanks or case.
               bool_and(ca.atttypid = pa.atttypid AND ca.attcollation = pa.attcollation
                        AND (ca.atttypid = ANY ('{int2,int4,int8,oid,uuid,date,timestamp,timestamptz}'::regtype[])
                             OR ca.atttypid = ANY ('{text,varchar}'::regtype[])
                                AND EXISTS (SELECT FROM pg_collation l WHERE l.oid = ca.attcollation AND l.collisdeterministic))) AS print_alike
        FROM unnest(con.conkey, con.confkey, con.conpfeqop) WITH ORDINALITY AS k (child, parent, operator, n)
        JOIN pg_attribute ca ON ca.attrelid = con.conrelid AND ca.attnum = k.child
        JOIN pg_attribute pa ON pa.attrelid = con.confrelid AND pa.attnum = k.parent
        JOIN pg_operator op ON op.oid = k.operator
        JOIN pg_namespace opn ON opn.oid = op.oprnamespace
    ) columns
    CROSS JOIN LATERAL (
        SELECT array_agg(a.attname::text ORDER BY a.attnum) AS columns
        FROM jsonb_array_elements_text(nullif(to_jsonb(con) -> 'confdelsetcols', 'null')) AS k (attnum)
        JOIN pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = k.attnum::int2
        WHERE con.confdeltype IN ('n', 'd')
    ) listed
    LEFT JOIN LATERAL (
        SELECT CASE o.on_delete WHEN 'cascade' THEN 'c' WHEN 'set null' THEN 'n' WHEN 'set default' THEN 'd' ELSE 'r' END AS on_delete
        FROM keepsake.reference_override o WHERE o.child = con.conrelid AND o.reference = con.conname
    ) override ON true
    WHERE con.contype = 'f' AND con.conparentid = 0 AND ($1 IS NULL OR con.conrelid = ANY ($1))
      -- What is not enforced does nothing (PostgreSQL 18).
      AND coalesce((to_jsonb(con) ->> 'conenforced')::boolean, true)
      AND (con.confrelid IN (SELECT relation FROM keepsake.kept_in_place)
           OR con.conrelid IN (SELECT relation FROM keepsake.kept_in_place))
    UNION ALL
    SELECT format('%s.%s=%s', d.type_column, d.id_column, d.type_value),
           d.child, d.parent, 'c', '{}', false,
           ARRAY[d.id_column::text], ARRAY[a.attname::text],
           ARRAY[CASE WHEN op.oid IS NOT NULL THEN format('OPERATOR(%I.%s)', opn.nspname, op.oprname) END], '{}', false, false,
           false,
           d.type_column::text, d.type_value,
           CASE WHEN id.atttypid <> k.oid THEN format('%I.%I', kn.nspname, k.typname) END,
           false,
           false,
           type.attnum IS NULL OR id.attnum IS NULL OR op.oid IS NULL
    FROM keepsake.declared_reference d
    LEFT JOIN pg_attribute type ON type.attrelid = d.child AND type.attname = d.type_column AND NOT type.attisdropped
    LEFT JOIN pg_attribute id ON id.attrelid = d.child AND id.attname = d.id_column AND NOT id.attisdropped
    LEFT JOIN pg_index i ON i.indrelid = d.parent AND i.indisprimary
    LEFT JOIN pg_attribute a ON a.attrelid = d.parent AND a.attnum = i.indkey[0]
    LEFT JOIN pg_type k ON k.oid = a.atttypid
    LEFT JOIN pg_namespace kn ON kn.oid = k.typnamespace
    LEFT JOIN pg_opclass oc ON oc.oid = i.indclass[0]
    LEFT JOIN pg_amop am ON am.amopfamily = oc.opcfamily AND am.amopstrategy = 3
                        AND am.amoplefttype = oc.opcintype AND am.amoprighttype = oc.opcintype
    LEFT JOIN pg_operator op ON op.oid = am.amopopr
    LEFT JOIN pg_namespace opn ON opn.oid = op.oprnamespace
    WHERE ($1 IS NULL OR d.child::oid = ANY ($1)) AND d.child IN (SELECT relation FROM keepsake.managed_table) AND d.parent IN (SELECT relation FROM keepsake.managed_table)
)
SELECT known.*,
       known.child::regclass::text AS shown,
       -- Whether a role sees all rows: it owns the table, may bypass policies, or there are none.
       NOT (p.relrowsecurity AND NOT pg_has_role(c.relowner, p.relowner, 'USAGE') AND NOT co.rolbypassrls)
       AND NOT (c.relrowsecurity AND NOT pg_has_role(p.relowner, c.relowner, 'USAGE') AND NOT po.rolbypassrls) AS readable
FROM known
JOIN pg_class c ON c.oid = known.child
JOIN pg_class p ON p.oid = known.parent
JOIN pg_roles co ON co.oid = c.relowner
JOIN pg_roles po ON po.oid = p.relowner
ORDER BY known.child, known.name
