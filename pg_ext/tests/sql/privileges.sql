-- Whose rights count.
CREATE ROLE regress_reader;
CREATE ROLE regress_editor;
CREATE ROLE regress_other;
GRANT USAGE ON SCHEMA keepsake TO regress_reader, regress_editor, regress_other;
GRANT SELECT ON thread, post, comment TO regress_reader, regress_editor;
GRANT DELETE ON post TO regress_editor;
CALL fill();

-- The DELETE privilege on the root decides; the cascade needs none, as with a foreign key.
SET ROLE regress_reader;
SELECT keepsake.soft_delete('post', 10);
SELECT keepsake.manage('post');
SELECT keepsake.unmanage('post');
SELECT keepsake.set_retention('post', '0');
SELECT keepsake.purge_batch();
SELECT * FROM keepsake.deletion;
RESET ROLE;
SET ROLE regress_editor;
SELECT keepsake.soft_delete('thread', 1);
SELECT keepsake.soft_delete('post', 10) AS d \gset
RESET ROLE;
SELECT * FROM live WHERE tbl = 'comment';
SELECT actor FROM keepsake.deletion WHERE id = :'d';
SET ROLE regress_reader;
\set VERBOSITY sqlstate
SELECT keepsake.restore(:'d');
\set VERBOSITY default
RESET ROLE;

-- Row-level policies of the root bind, those for DELETE included; a hidden row answers as a missing one.
ALTER TABLE post ENABLE ROW LEVEL SECURITY;
CREATE POLICY readable ON post FOR SELECT USING (thread_id = 1);
CREATE POLICY own ON post FOR DELETE USING (post.slug = 'b' OR EXISTS (SELECT FROM thread t WHERE t.id = post.thread_id AND t.title = 'none'));
SET ROLE regress_editor;
SELECT keepsake.soft_delete('post', 20);
\set VERBOSITY sqlstate
SELECT keepsake.restore(:'d');
\set VERBOSITY default
\set VERBOSITY sqlstate
SELECT * FROM keepsake.restore_conflicts(:'d');
\set VERBOSITY default
SELECT keepsake.soft_delete('post', 11) AS e \gset
SELECT keepsake.restore(:'e') IS NOT NULL AS restored;
RESET ROLE;

-- The holder of a place is named only to whom may see it.
CREATE POLICY all_deletes ON post FOR DELETE USING (true);
ALTER POLICY readable ON post USING (id <> 40);
SET ROLE regress_editor;
SELECT keepsake.soft_delete('post', 11) AS e \gset
RESET ROLE;
INSERT INTO post VALUES (40, 1, 'B');
SET ROLE regress_editor;
SELECT key, key_values, holder FROM keepsake.restore_conflicts(:'e');
RESET ROLE;
SELECT key, key_values, holder FROM keepsake.restore_conflicts(:'e');

-- A schema of the caller's before pg_catalog captures nothing.
CREATE SCHEMA trap;
GRANT ALL ON SCHEMA trap TO regress_editor;
SET ROLE regress_editor;
CREATE FUNCTION trap.steal(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'captured as %', current_user; END $$;
CREATE OPERATOR trap.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = trap.steal);
CREATE FUNCTION trap.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'captured as %', current_user; END $$;
SET search_path = trap, pg_catalog, public;
SELECT keepsake.soft_delete('public.post', 40) IS NULL AS hidden;
SELECT count(*) FROM keepsake.restore_conflicts(:'e');
RESET search_path;
RESET ROLE;
SELECT keepsake.soft_delete('post', 40) IS NOT NULL AS done;
SET ROLE regress_editor;
SET search_path = trap, pg_catalog, public;
SELECT keepsake.restore(:'e') IS NOT NULL AS restored;
SELECT keepsake.soft_delete('public.post', 11) IS NOT NULL AS done;
RESET search_path;
RESET ROLE;

-- What runs with raised rights pins its path; what crosses tenants is nobody's by default.
SELECT proname FROM pg_proc WHERE pronamespace = 'keepsake'::regnamespace AND prosecdef
    AND NOT coalesce(proconfig::text LIKE '%search_path=pg_catalog, pg_temp%', false);
SELECT proname FROM pg_proc WHERE pronamespace = 'keepsake'::regnamespace
    AND NOT has_function_privilege('regress_other', oid, 'EXECUTE') ORDER BY 1;
SELECT relname FROM pg_class WHERE relnamespace = 'keepsake'::regnamespace AND relkind = 'r'
    AND has_table_privilege('regress_other', oid, 'SELECT') ORDER BY 1;

-- A policy may name columns that the caller may not read: PostgreSQL asks nobody for them.
CREATE TABLE discreet (id int PRIMARY KEY, secret text DEFAULT 's');
SELECT keepsake.manage('discreet');
INSERT INTO discreet (id) VALUES (1), (2), (3), (4);
ALTER TABLE discreet ENABLE ROW LEVEL SECURITY;
CREATE POLICY look ON discreet FOR SELECT USING (secret = 's' AND id < 4);
CREATE POLICY change ON discreet FOR UPDATE USING (true);
CREATE POLICY remove ON discreet FOR DELETE USING (secret = 's' AND id <> 2);
GRANT SELECT (id), UPDATE, DELETE ON discreet TO regress_editor;
SET ROLE regress_editor;
UPDATE discreet SET deleted_at = now() WHERE id = 1;
UPDATE discreet SET deleted_at = now() WHERE id IN (2, 3);
UPDATE discreet SET deleted_at = now() WHERE id = 3 AND secret = 's';
UPDATE discreet SET deleted_at = now() WHERE id = 3;
DELETE FROM discreet WHERE id = 4;
SELECT secret FROM discreet;
RESET ROLE;
REVOKE DELETE ON discreet FROM regress_editor;
UPDATE discreet SET secret = 't' WHERE id = 4;
SET ROLE regress_editor;
UPDATE discreet SET deleted_at = now();
RESET ROLE;
SELECT id, deleted_at IS NULL AS live FROM discreet ORDER BY id;
-- To delete and restore by key, the right to read the key will do, as for a DELETE that names it.
INSERT INTO discreet (id) VALUES (-1), (-2);
GRANT DELETE ON discreet TO regress_editor;
SET ROLE regress_editor;
SELECT keepsake.soft_delete('discreet', 2);
SELECT keepsake.soft_delete('discreet', -1) AS d \gset
SELECT keepsake.restore(:'d') -> 'restored' AS restored;
SELECT count(*) FROM keepsake.plan_delete('discreet', -1);
RESET ROLE;
ALTER TABLE discreet DISABLE ROW LEVEL SECURITY;
SET ROLE regress_editor;
SELECT keepsake.soft_delete('discreet', 2) AS d \gset
SELECT keepsake.restore(:'d') -> 'restored' AS restored;
RESET ROLE;
REVOKE SELECT (id) ON discreet FROM regress_editor;
SET ROLE regress_editor;
SELECT keepsake.soft_delete('discreet', 2);
RESET ROLE;
