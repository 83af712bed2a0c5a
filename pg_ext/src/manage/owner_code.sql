-- What code of the owner's a write to table $1 would run although its triggers are off. What is in pg_catalog or of an extension is not his.
WITH RECURSIVE part AS (SELECT $1 AS oid UNION SELECT relid::oid FROM pg_partition_tree($1)),
-- The table, its expressions, the types of its columns, and what these are made of.
code (classid, objid) AS (
    SELECT s.classid::oid, s.objid FROM (
        SELECT 'pg_class'::regclass, p.oid FROM part p
        UNION ALL SELECT 'pg_class'::regclass, x.indexrelid FROM pg_index x JOIN part p ON p.oid = x.indrelid
        UNION ALL SELECT 'pg_constraint'::regclass, con.oid FROM pg_constraint con JOIN part p ON p.oid = con.conrelid WHERE con.contype = 'c'
        UNION ALL SELECT 'pg_attrdef'::regclass, d.oid FROM pg_attrdef d JOIN part p ON p.oid = d.adrelid
                  JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum AND a.attgenerated <> ''
        UNION ALL SELECT 'pg_policy'::regclass, pol.oid FROM pg_policy pol JOIN part p ON p.oid = pol.polrelid
                  JOIN pg_class c ON c.oid = p.oid AND c.relforcerowsecurity
        UNION ALL SELECT 'pg_type'::regclass, a.atttypid FROM pg_attribute a JOIN part p ON p.oid = a.attrelid WHERE a.attnum > 0 AND NOT a.attisdropped
    ) AS s (classid, objid)
    UNION
    SELECT n.classid::oid, n.objid FROM code c CROSS JOIN LATERAL (
        SELECT d.refclassid, d.refobjid FROM pg_depend d
        WHERE c.classid <> 'pg_type'::regclass AND d.classid = c.classid AND d.objid = c.objid AND d.refclassid = 'pg_type'::regclass
        UNION ALL SELECT 'pg_type'::regclass, of.oid FROM pg_type t CROSS JOIN LATERAL unnest(ARRAY[t.typelem, t.typbasetype]) AS of (oid)
                  WHERE c.classid = 'pg_type'::regclass AND t.oid = c.objid
        UNION ALL SELECT 'pg_type'::regclass, of.oid FROM pg_range r CROSS JOIN LATERAL unnest(ARRAY[r.rngsubtype, r.rngtypid]) AS of (oid)
                  WHERE c.classid = 'pg_type'::regclass AND c.objid IN (r.rngtypid, r.rngmultitypid)
        UNION ALL SELECT 'pg_type'::regclass, a.atttypid FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
                  WHERE c.classid = 'pg_type'::regclass AND t.oid = c.objid
        UNION ALL SELECT 'pg_constraint'::regclass, con.oid FROM pg_constraint con WHERE c.classid = 'pg_type'::regclass AND con.contypid = c.objid
        UNION ALL SELECT 'pg_cast'::regclass, k.oid FROM pg_cast k WHERE c.classid = 'pg_type'::regclass AND c.objid IN (k.castsource, k.casttarget)
    ) AS n (classid, objid) WHERE n.objid <> 0)
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
