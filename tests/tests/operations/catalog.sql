-- What an installed Keepsake is made of, so that two can be compared: what, its definition, the statement that makes
-- it and the one that removes it. The order of columns does not matter: nothing of ours reads `*`.
WITH own AS (
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'keepsake'
), relation AS (
    SELECT c.* FROM pg_class c JOIN own ON own.classid = 'pg_class'::regclass AND own.objid = c.oid
), function AS (
    SELECT p.* FROM pg_proc p JOIN own ON own.classid = 'pg_proc'::regclass AND own.objid = p.oid
), managed AS (
    SELECT c.* FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
), described (what, definition, make, drop) AS (
    SELECT format('%s %s', CASE prokind WHEN 'p' THEN 'procedure' ELSE 'function' END, oid::regprocedure),
           replace(pg_get_functiondef(oid), '$libdir/keepsake', 'MODULE_PATHNAME') || coalesce(' ACL ' || proacl::text, ''),
           replace(pg_get_functiondef(oid), '$libdir/keepsake', 'MODULE_PATHNAME') || ';',
           format('DROP ROUTINE %s;', oid::regprocedure)
    FROM function
    UNION ALL
    SELECT format('relation %s', oid::regclass),
           format('%s persistence %s options %s acl %s', relkind, relpersistence, reloptions, relacl),
           CASE relkind WHEN 'v' THEN format('CREATE VIEW %s AS %s', oid::regclass, pg_get_viewdef(oid))
                        WHEN 'i' THEN '-- made with its table or index below'
                        WHEN 'S' THEN '-- made with its column' ELSE '-- CREATE TABLE: copy it from pg_ext/sql' END,
           CASE relkind WHEN 'v' THEN format('DROP VIEW %s;', oid::regclass) ELSE format('DROP TABLE %s;', oid::regclass) END
    FROM relation
    UNION ALL
    SELECT format('view text %s', oid::regclass), pg_get_viewdef(oid),
           format('CREATE OR REPLACE VIEW %s AS %s', oid::regclass, pg_get_viewdef(oid)), ''
    FROM relation WHERE relkind = 'v'
    UNION ALL
    SELECT format('column %s.%s', a.attrelid::regclass, a.attname),
           format('%s%s%s identity %s generated %s acl %s collation %s', format_type(a.atttypid, a.atttypmod),
                  CASE WHEN a.attnotnull THEN ' NOT NULL' END, ' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid),
                  a.attidentity, a.attgenerated, a.attacl, a.attcollation::regcollation),
           format('ALTER TABLE %s ADD COLUMN %I %s%s%s;', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod),
                  CASE WHEN a.attnotnull THEN ' NOT NULL' END, ' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid)),
           format('ALTER TABLE %s DROP COLUMN %I;', a.attrelid::regclass, a.attname)
    FROM pg_attribute a JOIN relation r ON r.oid = a.attrelid AND r.relkind IN ('r', 'p', 'v')
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT format('constraint %s on %s', con.conname, con.conrelid::regclass),
           pg_get_constraintdef(con.oid),
           format('ALTER TABLE %s ADD CONSTRAINT %I %s;', con.conrelid::regclass, con.conname, pg_get_constraintdef(con.oid)),
           format('ALTER TABLE %s DROP CONSTRAINT %I;', con.conrelid::regclass, con.conname)
    FROM pg_constraint con JOIN relation r ON r.oid = con.conrelid
    UNION ALL
    SELECT format('index %s', i.indexrelid::regclass), pg_get_indexdef(i.indexrelid), pg_get_indexdef(i.indexrelid) || ';',
           format('DROP INDEX %s;', i.indexrelid::regclass)
    FROM pg_index i JOIN relation r ON r.oid = i.indrelid
    UNION ALL
    SELECT format('trigger %s on %s', t.tgname, t.tgrelid::regclass), pg_get_triggerdef(t.oid) || ' enabled ' || t.tgenabled::text,
           pg_get_triggerdef(t.oid) || ';', format('DROP TRIGGER %I ON %s;', t.tgname, t.tgrelid::regclass)
    FROM pg_trigger t JOIN relation r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal
    UNION ALL
    SELECT format('type %s', t.oid::regtype), format('%s %s', t.typtype,
               (SELECT string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid)),
           '-- CREATE TYPE: copy it from pg_ext/sql', format('DROP TYPE %s;', t.oid::regtype)
    FROM pg_type t JOIN own ON own.classid = 'pg_type'::regclass AND own.objid = t.oid
    WHERE t.typrelid = 0 AND t.typelem = 0
    UNION ALL
    SELECT format('event trigger %s', t.evtname), format('%s %s %s %s', t.evtevent, t.evttags, t.evtfoid::regproc, t.evtenabled),
           format('-- CREATE EVENT TRIGGER %I: copy it from pg_ext/sql', t.evtname), format('DROP EVENT TRIGGER %I;', t.evtname)
    FROM pg_event_trigger t JOIN own ON own.classid = 'pg_event_trigger'::regclass AND own.objid = t.oid
    UNION ALL
    SELECT format('dumped rows of %s', config.relation::regclass), coalesce(config.condition, ''),
           format('SELECT pg_catalog.pg_extension_config_dump(%L, %L);', config.relation::regclass, config.condition), ''
    FROM pg_extension e, unnest(e.extconfig, e.extcondition) AS config (relation, condition)
    WHERE e.extname = 'keepsake'
    UNION ALL
    SELECT format('comment on %s %s', o.type, o.identity), d.description || coalesce(' column ' || nullif(d.objsubid, 0)::text, ''),
           format('COMMENT ON %s %s IS %L;', upper(o.type), o.identity, d.description),
           format('COMMENT ON %s %s IS NULL;', upper(o.type), o.identity)
    FROM pg_description d
    JOIN own ON own.classid = d.classoid AND own.objid = d.objoid
    CROSS JOIN LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) AS o
    WHERE d.objsubid = 0
    UNION ALL
    SELECT format('comment on column %s.%s', a.attrelid::regclass, a.attname), d.description,
           format('COMMENT ON COLUMN %s.%I IS %L;', a.attrelid::regclass, a.attname, d.description),
           format('COMMENT ON COLUMN %s.%I IS NULL;', a.attrelid::regclass, a.attname)
    FROM pg_description d JOIN relation r ON d.classoid = 'pg_class'::regclass AND r.oid = d.objoid
    JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum = d.objsubid
    UNION ALL
    SELECT format('schema keepsake'), nspacl::text, '-- GRANT or REVOKE on the schema', ''
    FROM pg_namespace WHERE nspname = 'keepsake'
    UNION ALL
    SELECT 'version', extversion, '-- raise the version in Cargo.toml', '' FROM pg_extension WHERE extname = 'keepsake'
    UNION ALL
    -- What manage() gives to the application's tables.
    SELECT format('user trigger %s on %s', t.tgname, t.tgrelid::regclass), pg_get_triggerdef(t.oid),
           '-- SELECT keepsake.manage(relation) FROM keepsake.managed_table;',
           format('DROP TRIGGER %I ON %s;', t.tgname, t.tgrelid::regclass)
    FROM pg_trigger t JOIN managed m ON m.oid = t.tgrelid WHERE NOT t.tgisinternal
    UNION ALL
    SELECT format('user column %s.%s', a.attrelid::regclass, a.attname), format_type(a.atttypid, a.atttypmod),
           '-- SELECT keepsake.manage(relation) FROM keepsake.managed_table;', ''
    FROM pg_attribute a JOIN managed m ON m.oid = a.attrelid WHERE a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT format('user index %s', i.indexrelid::regclass), pg_get_indexdef(i.indexrelid),
           '-- SELECT keepsake.manage(relation) FROM keepsake.managed_table;', ''
    FROM pg_index i JOIN managed m ON m.oid = i.indrelid
)
SELECT what, coalesce(definition, '') AS definition, coalesce(make, '') AS make, coalesce(drop, '') AS drop
FROM described ORDER BY what
