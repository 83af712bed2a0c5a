-- Every object of the attachment schema and of the extension, a line each: without OIDs, and whatever the order of columns.
WITH ours AS (SELECT oid FROM pg_namespace WHERE nspname IN ('attachments', 'attachments_api', 'keepsake'))
SELECT line FROM (
    SELECT format('schema %s owner %s acl %s', nspname, nspowner::regrole, ARRAY(SELECT a::text FROM unnest(nspacl) a ORDER BY 1))
    FROM pg_namespace WHERE oid IN (SELECT oid FROM ours)
    UNION ALL
    SELECT format('role %s super %s inherit %s createrole %s createdb %s login %s bypassrls %s %s',
                  rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolbypassrls, rolconfig)
    FROM pg_roles WHERE rolname LIKE 'keepsake%'
    UNION ALL
    SELECT format('member %s of %s', member::regrole, roleid::regrole)
    FROM pg_auth_members WHERE member::regrole::text LIKE 'keepsake%' OR roleid::regrole::text LIKE 'keepsake%'
    UNION ALL
    SELECT format('relation %s kind %s owner %s policies %s %s acl %s comment %s', c.oid::regclass, relkind, relowner::regrole,
                  relrowsecurity, relforcerowsecurity, ARRAY(SELECT a::text FROM unnest(relacl) a ORDER BY 1), obj_description(c.oid, 'pg_class'))
    FROM pg_class c WHERE relnamespace IN (SELECT oid FROM ours)
    UNION ALL
    SELECT format('column %s.%s %s not null %s default %s generated %s identity %s collation %s acl %s comment %s', c.oid::regclass, attname,
                  format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid), attgenerated, attidentity, attcollation,
                  ARRAY(SELECT a::text FROM unnest(attacl) a ORDER BY 1), col_description(c.oid, attnum))
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relnamespace IN (SELECT oid FROM ours) AND attnum > 0 AND NOT attisdropped AND relkind <> 'i'
    UNION ALL
    SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE connamespace IN (SELECT oid FROM ours)
    UNION ALL
    SELECT 'index ' || pg_get_indexdef(indexrelid)
    FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE relnamespace IN (SELECT oid FROM ours)
    UNION ALL
    SELECT format('view %s %s', oid::regclass, pg_get_viewdef(oid))
    FROM pg_class WHERE relkind = 'v' AND relnamespace IN (SELECT oid FROM ours)
    UNION ALL
    SELECT format('policy %s %s for %s permissive %s to %s using %s check %s', polrelid::regclass, polname, polcmd, polpermissive,
                  polroles::regrole[], pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
    FROM pg_policy
    UNION ALL
    SELECT format('trigger %s enabled %s', pg_get_triggerdef(oid), tgenabled) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT format('function %s(%s) returns %s language %s owner %s definer %s %s strict %s parallel %s cost %s settings %s acl %s comment %s body %s',
                  oid::regproc, pg_get_function_arguments(oid), pg_get_function_result(oid),
                  (SELECT lanname FROM pg_language l WHERE l.oid = prolang), proowner::regrole, prosecdef, provolatile, proisstrict,
                  proparallel, procost, proconfig, ARRAY(SELECT a::text FROM unnest(proacl) a ORDER BY 1),
                  obj_description(oid, 'pg_proc'), replace(coalesce(pg_get_function_sqlbody(oid), prosrc), E'\n', ' '))
    FROM pg_proc WHERE pronamespace IN (SELECT oid FROM ours)
    UNION ALL
    SELECT format('default privileges %s %s %s', defaclrole::regrole, defaclnamespace, defaclacl) FROM pg_default_acl
    UNION ALL
    SELECT format('quota %s', q) FROM attachments.quota q
    UNION ALL
    SELECT format('scan policy %s', p) FROM attachments.scan_policy p
    UNION ALL
    SELECT format('managed %s %s %s', relation, retention, on_delete) FROM keepsake.managed_table
    UNION ALL
    SELECT format('bound %s', b) FROM keepsake.bound_storage b
) AS lines (line)
ORDER BY line COLLATE "C"
