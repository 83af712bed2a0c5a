-- What the worker's role may do beyond executing the functions of attachments_api. Nothing, as this schema and the extension leave
-- it; but PUBLIC may have been granted more by others, and what PUBLIC has every role has. `keepsake doctor` reports each row.

CREATE FUNCTION attachments.worker_rights() RETURNS TABLE (what text, object text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
WITH worker AS (SELECT r.* FROM pg_roles r WHERE r.rolname = 'keepsake_worker'),
-- Schemas in which it finds anything, those that every role reads apart.
schema AS (
    SELECT n.oid, n.nspname, has_schema_privilege(w.oid, n.oid, 'CREATE') AS may_create
    FROM pg_namespace n, worker w
    WHERE n.nspname <> ALL ('{pg_catalog,information_schema,pg_toast}'::name[])
      AND (has_schema_privilege(w.oid, n.oid, 'USAGE') OR has_schema_privilege(w.oid, n.oid, 'CREATE')))

SELECT 'execute function', p.oid::regprocedure::text
FROM pg_proc p JOIN schema s ON s.oid = p.pronamespace, worker w
WHERE s.nspname <> 'attachments_api' AND has_function_privilege(w.oid, p.oid, 'EXECUTE')
UNION ALL
SELECT 'use relation', c.oid::regclass::text
FROM pg_class c JOIN schema s ON s.oid = c.relnamespace, worker w
WHERE c.relkind = ANY ('{r,p,v,m,f}'::"char"[])
  AND (has_table_privilege(w.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
       OR has_any_column_privilege(w.oid, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))
   OR c.relkind = 'S' AND has_sequence_privilege(w.oid, c.oid, 'USAGE, SELECT, UPDATE')
UNION ALL
SELECT 'create in schema', s.nspname FROM schema s WHERE s.may_create
UNION ALL
SELECT 'create in database', current_database() FROM worker w WHERE has_database_privilege(w.oid, current_database(), 'CREATE')
UNION ALL
SELECT 'make temporary tables in database', current_database()
FROM worker w WHERE has_database_privilege(w.oid, current_database(), 'TEMPORARY')
UNION ALL
SELECT 'create in tablespace', t.spcname FROM pg_tablespace t, worker w WHERE has_tablespace_privilege(w.oid, t.oid, 'CREATE')
UNION ALL
SELECT 'use untrusted language', l.lanname
FROM pg_language l, worker w WHERE l.lanispl AND NOT l.lanpltrusted AND has_language_privilege(w.oid, l.oid, 'USAGE')
UNION ALL
SELECT 'use foreign server', f.srvname FROM pg_foreign_server f, worker w WHERE has_server_privilege(w.oid, f.oid, 'USAGE')
UNION ALL
SELECT 'use large object', o.oid::text
FROM pg_largeobject_metadata o, worker w
WHERE o.lomowner = w.oid OR EXISTS (SELECT FROM aclexplode(o.lomacl) a WHERE a.grantee IN (0, w.oid))
UNION ALL
SELECT 'act as role', m.roleid::regrole::text FROM pg_auth_members m JOIN worker w ON w.oid = m.member
UNION ALL
SELECT 'own', pg_describe_object(d.classid, d.objid, d.objsubid)
FROM pg_shdepend d JOIN worker w ON w.oid = d.refobjid
WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o'
  AND d.dbid IN (0, (SELECT b.oid FROM pg_database b WHERE b.datname = current_database()))
UNION ALL
SELECT 'has the attribute', attribute
FROM worker w, LATERAL (VALUES ('SUPERUSER', w.rolsuper), ('CREATEROLE', w.rolcreaterole), ('CREATEDB', w.rolcreatedb),
                               ('REPLICATION', w.rolreplication), ('BYPASSRLS', w.rolbypassrls)) AS has (attribute, yes)
WHERE yes
$$;
COMMENT ON FUNCTION attachments.worker_rights IS
    'Rights of keepsake_worker beyond executing the functions of attachments_api. No row: it has no others.';
REVOKE ALL ON FUNCTION attachments.worker_rights FROM PUBLIC;
