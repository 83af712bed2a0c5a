-- Foreign keys that touch a managed table, then the declared references.
SELECT con.conname::text AS name,
       con.conrelid AS child,
       con.confrelid AS parent,
       con.confdeltype::text AS on_delete,
       columns.child AS child_columns,
       columns.parent AS parent_columns,
       columns.operators,
       NULL::text AS type_column,
       NULL::text AS type_value,
       NULL::text AS parent_type
FROM pg_constraint con
CROSS JOIN LATERAL (
    SELECT array_agg(ca.attname::text ORDER BY k.n) AS child,
           array_agg(pa.attname::text ORDER BY k.n) AS parent,
           array_agg(format('OPERATOR(%I.%s)', opn.nspname, op.oprname) ORDER BY k.n) AS operators
    FROM unnest(con.conkey, con.confkey, con.conpfeqop) WITH ORDINALITY AS k (child, parent, operator, n)
    JOIN pg_attribute ca ON ca.attrelid = con.conrelid AND ca.attnum = k.child
    JOIN pg_attribute pa ON pa.attrelid = con.confrelid AND pa.attnum = k.parent
    JOIN pg_operator op ON op.oid = k.operator
    JOIN pg_namespace opn ON opn.oid = op.oprnamespace
) columns
WHERE con.contype = 'f' AND con.conparentid = 0
  AND (con.confrelid IN (SELECT relation FROM keepsake.managed_table)
       OR con.conrelid IN (SELECT relation FROM keepsake.managed_table))
UNION ALL
SELECT format('%s.%s=%s', d.type_column, d.id_column, d.type_value),
       d.child, d.parent, 'c',
       ARRAY[d.id_column::text], ARRAY[a.attname::text],
       ARRAY[format('OPERATOR(%I.%s)', opn.nspname, op.oprname)],
       d.type_column::text, d.type_value,
       CASE WHEN id.atttypid <> a.atttypid THEN format_type(a.atttypid, a.atttypmod) END
FROM keepsake.declared_reference d
JOIN pg_attribute id ON id.attrelid = d.child AND id.attname = d.id_column
JOIN pg_index i ON i.indrelid = d.parent AND i.indisprimary
JOIN pg_attribute a ON a.attrelid = d.parent AND a.attnum = i.indkey[0]
JOIN pg_opclass oc ON oc.oid = i.indclass[0]
JOIN pg_amop am ON am.amopfamily = oc.opcfamily AND am.amopstrategy = 3
               AND am.amoplefttype = oc.opcintype AND am.amoprighttype = oc.opcintype
JOIN pg_operator op ON op.oid = am.amopopr
JOIN pg_namespace opn ON opn.oid = op.oprnamespace
ORDER BY 2, 1
