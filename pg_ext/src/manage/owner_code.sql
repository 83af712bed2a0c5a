-- What code of the owner's a write to table $1 would run although its triggers are off, among the objects that it concerns ($2, $3). What is in
-- pg_catalog or of an extension is not his.
WITH part AS (SELECT $1 AS oid UNION SELECT relid::oid FROM pg_partition_tree($1)),
code (classid, objid) AS (SELECT * FROM unnest($2::oid[], $3::oid[]))
SELECT format('trigger %I of table %s', t.tgname, t.tgrelid::regclass) AS shown
FROM pg_trigger t JOIN part p ON p.oid = t.tgrelid JOIN pg_proc f ON f.oid = t.tgfoid
WHERE NOT t.tgisinternal AND t.tgenabled IN ('A', 'R') AND f.pronamespace <> 'keepsake'::regnamespace
UNION ALL
SELECT format('rule %I of table %s', r.rulename, r.ev_class::regclass)
FROM pg_rewrite r JOIN part p ON p.oid = r.ev_class WHERE r.ev_type <> '1' AND r.ev_enabled IN ('A', 'R')
UNION ALL
SELECT pg_describe_object(d.refclassid, d.refobjid, 0) || ', of ' || pg_describe_object(c.classid, c.objid, 0)
FROM code c JOIN pg_depend d ON d.classid = c.classid AND d.objid = c.objid
LEFT JOIN pg_proc f ON d.refclassid = 'pg_proc'::regclass AND f.oid = d.refobjid
LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
WHERE coalesce(f.pronamespace, o.oprnamespace) <> 'pg_catalog'::regnamespace
  -- The constructors of his range types are PostgreSQL's own.
  AND coalesce(f.prolang, 0) <> (SELECT l.oid FROM pg_language l WHERE l.lanname = 'internal')
  AND (c.classid <> 'pg_type'::regclass OR EXISTS (SELECT FROM pg_range r WHERE r.rngtypid = c.objid))
  -- Whoever owns an extension may add a function of his own to it.
  AND NOT EXISTS (SELECT FROM pg_depend e JOIN pg_roles r ON r.oid = coalesce(f.proowner, o.oprowner) AND r.rolsuper
                  WHERE e.classid = d.refclassid AND e.objid = d.refobjid AND e.deptype = 'e')
UNION ALL
-- Functions of PostgreSQL's that run what a text says.
SELECT pg_describe_object(c.classid, c.objid, 0)
FROM code c
LEFT JOIN pg_constraint con ON c.classid = 'pg_constraint'::regclass AND con.oid = c.objid
LEFT JOIN pg_policy pol ON c.classid = 'pg_policy'::regclass AND pol.oid = c.objid
WHERE concat(pg_get_constraintdef(con.oid), pg_get_expr(pol.polqual, pol.polrelid), pg_get_expr(pol.polwithcheck, pol.polrelid))
      ~ '(_to_xml|ts_stat|ts_rewrite|pg_input_|brin_|gin_clean)'
ORDER BY 1 LIMIT 1
