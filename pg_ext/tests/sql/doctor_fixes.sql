-- Each fix of doctor() changes what its finding says, and nothing else: tables are broken, fixed, and compared with what they were.
SET client_min_messages = error;
CREATE SCHEMA mend;
SET search_path = mend;
SELECT current_database() AS here \gset
ALTER DATABASE :"here" SET session_preload_libraries = 'keepsake';

CREATE VIEW shape AS
SELECT format('column %s.%s %s %s %s', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)) AS line
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace = 'mend'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND c.relname NOT IN ('shape', 'was') AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT format('table %s %s %s %s %s %s', c.oid::regclass, c.relowner::regrole, c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.reloptions)
FROM pg_class c WHERE c.relnamespace = 'mend'::regnamespace AND c.relname NOT IN ('shape', 'was')
UNION ALL
SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = 'mend'::regnamespace
UNION ALL
SELECT format('constraint %s %s %s', con.conrelid::regclass, con.conname, pg_get_constraintdef(con.oid)) FROM pg_constraint con
WHERE con.connamespace = 'mend'::regnamespace AND con.contype <> 'n'
UNION ALL
SELECT format('%s %s', pg_get_triggerdef(t.oid), t.tgenabled) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'mend'::regnamespace AND NOT t.tgisinternal
UNION ALL
SELECT format('policy %s on %s %s %s %s USING %s CHECK %s', policyname, tablename, permissive, roles, cmd, qual, with_check) FROM pg_policies WHERE schemaname = 'mend'
UNION ALL
SELECT format('publication %s of %s (%s) WHERE %s', pubname, tablename, array_to_string(attnames, ', '), rowfilter) FROM pg_publication_tables WHERE schemaname = 'mend'
UNION ALL
SELECT format('managed %s %s %s %s', m.relation, m.on_delete, m.retention, m.keep) FROM keepsake.managed_table m
UNION ALL
SELECT format('hidden %s %s %s', h.relation, h.how, h.enabled_rls) FROM keepsake.hidden_reads h
UNION ALL
SELECT format('bound %s %s', b.relation, b.key_column) FROM keepsake.bound_storage b
UNION ALL
SELECT format('setting %s', setting) FROM pg_db_role_setting s, unnest(s.setconfig) AS setting
WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database());
CREATE TABLE was (line text);

CREATE FUNCTION broken(sql text) RETURNS TABLE (what text) LANGUAGE plpgsql AS $$
DECLARE
    finding record;
BEGIN
    DELETE FROM mend.was;
    INSERT INTO mend.was SELECT line FROM mend.shape;
    EXECUTE sql;
    FOR finding IN SELECT DISTINCT d.check_name, d.fix FROM keepsake.doctor() d WHERE d.fix <> '' AND (d.object LIKE 'mend.%' OR d.object !~ '\.') LOOP
        what := finding.check_name;
        RETURN NEXT;
        EXECUTE finding.fix;
    END LOOP;
    RETURN QUERY SELECT 'left: ' || d.check_name FROM keepsake.doctor() d WHERE d.fix <> '' AND (d.object LIKE 'mend.%' OR d.object !~ '\.');
    RETURN QUERY (SELECT '-' || line FROM (TABLE mend.was EXCEPT ALL TABLE mend.shape) AS gone
                  UNION ALL SELECT '+' || line FROM (TABLE mend.shape EXCEPT ALL TABLE mend.was) AS new ORDER BY 1);
END
$$;

CREATE ROLE regress_tenant;
CREATE TABLE parent (id int PRIMARY KEY, tenant int NOT NULL);
CREATE TABLE child (id int, k int, parent int REFERENCES parent ON DELETE CASCADE, late int CONSTRAINT late REFERENCES parent DEFERRABLE INITIALLY DEFERRED,
    object text NOT NULL DEFAULT 'o', PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE child1 PARTITION OF child FOR VALUES IN (1);
CREATE INDEX ON child (parent);
CREATE INDEX ON child (late);
CREATE INDEX ON child (object);
CREATE TABLE seen (id int PRIMARY KEY, v text);
ALTER TABLE parent ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_tenant ON parent TO regress_tenant USING (tenant = 1) WITH CHECK (tenant = 1);
SELECT keepsake.manage('parent'), keepsake.manage('child'), keepsake.manage('seen'), keepsake.bind_storage('child', 'object'),
       keepsake.hide_deleted('parent', 'policy'), keepsake.hide_deleted('child', 'policy'), keepsake.hide_deleted('seen', 'view');
INSERT INTO parent VALUES (1, 1), (2, 2);
INSERT INTO child VALUES (1, 1, 1), (2, 1, 2);
DELETE FROM parent WHERE id = 2;
SELECT * FROM broken('SELECT 1');

-- Every trigger, of every table, dropped and disabled.
SELECT t.tgrelid::regclass AS table, t.tgname AS trigger, b.*
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
CROSS JOIN LATERAL broken(format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass)) AS b
WHERE c.relnamespace = 'mend'::regnamespace AND NOT t.tgisinternal AND t.tgparentid = 0 AND p.pronamespace = 'keepsake'::regnamespace
ORDER BY 1, 2, 3;
SELECT DISTINCT broken(string_agg(format('ALTER TABLE %s DISABLE TRIGGER %I', t.tgrelid::regclass, t.tgname), '; ')) AS what
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
WHERE c.relnamespace = 'mend'::regnamespace AND NOT t.tgisinternal AND t.tgparentid = 0 AND p.pronamespace = 'keepsake'::regnamespace;

-- Policies, whose tenants stay apart.
SELECT * FROM broken('DROP POLICY keepsake_hide_deleted ON parent');
SELECT * FROM broken('DROP POLICY keepsake_keep_deleted ON child');
SELECT * FROM broken('DROP POLICY keepsake_hide_deleted ON child1');
SELECT * FROM broken('ALTER TABLE child1 NO FORCE ROW LEVEL SECURITY');
SELECT * FROM broken('ALTER TABLE child DISABLE ROW LEVEL SECURITY');
SELECT * FROM broken('ALTER TABLE child NO FORCE ROW LEVEL SECURITY');
-- Columns, indexes, options, settings.
SELECT * FROM broken('ALTER TABLE seen ALTER deleted_at SET DEFAULT now()');
SELECT * FROM broken('ALTER TABLE seen SET (autovacuum_enabled = false)');
SELECT * FROM broken('DROP INDEX child_deletion_id_idx');
SELECT * FROM broken('DROP INDEX child_parent_idx');
SELECT * FROM broken('ALTER TABLE seen ADD COLUMN w int');
SELECT * FROM broken('CREATE UNIQUE INDEX unique_v ON seen (v COLLATE "C" text_pattern_ops DESC) INCLUDE (w) NULLS NOT DISTINCT WITH (fillfactor = 60)');
SELECT * FROM broken(format('ALTER DATABASE %I RESET session_preload_libraries', current_database()));

-- Publications.
SELECT * FROM broken('CREATE PUBLICATION mends FOR TABLE seen (id, v), child WITH (publish = ''insert, update, delete, truncate'')');
SELECT * FROM broken('ALTER PUBLICATION mends SET TABLE seen (id, v, deleted_at, deletion_id) WHERE (id > 0), child');
SELECT * FROM broken('ALTER PUBLICATION mends SET TABLE seen (v, w) WHERE (id > 1)');
SELECT * FROM broken('ALTER PUBLICATION mends SET TABLE seen WHERE (deleted_at IS NULL)');
SELECT check_name, finding FROM keepsake.doctor() WHERE object = 'mends';
SELECT * FROM broken('ALTER PUBLICATION mends SET TABLE seen (v, id)');
DROP PUBLICATION mends;
-- Deletions work as before.
INSERT INTO seen VALUES (1, 'a');
DELETE FROM seen;
SELECT count(*) AS restored FROM (SELECT keepsake.restore(id) FROM keepsake.deletion WHERE root_table IN ('parent'::regclass, 'seen'::regclass)) AS r;
SELECT id, parent FROM child ORDER BY id;

ALTER DATABASE :"here" RESET session_preload_libraries;
RESET search_path;
DELETE FROM keepsake.deletion WHERE root_table::text LIKE 'mend.%';
DROP SCHEMA mend CASCADE;
DROP ROLE regress_tenant;
RESET client_min_messages;
