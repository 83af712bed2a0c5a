-- A soft delete is a DELETE in the details: what it returns, when it refuses, and how.
SET client_min_messages = warning;
CREATE SCHEMA detail;
SELECT current_database() AS here \gset
ALTER DATABASE :"here" SET session_preload_libraries = 'keepsake';
\c -
SET client_min_messages = warning;
SET search_path = detail;
-- RETURNING.
CREATE TABLE r (id int PRIMARY KEY, gone int, v text DEFAULT 'x');
ALTER TABLE r DROP COLUMN gone;
CREATE TABLE r2 (id int PRIMARY KEY, v text);
SELECT keepsake.manage('r'), keepsake.manage('r2');
INSERT INTO r SELECT generate_series(1, 9);
DELETE FROM r WHERE id = 1 RETURNING *;
DELETE FROM r WHERE id = 2 RETURNING deleted_at IS NULL, coalesce(deletion_id::text, 'none'), r, r.*, (r).deleted_at, row_to_json(r);
DELETE FROM r WHERE id = 3 RETURNING (SELECT v || 's'), (SELECT r), (SELECT row_to_json(r)), (SELECT count(*) FROM (VALUES (1)) AS o WHERE r.deleted_at IS NULL);
WITH d AS (DELETE FROM r WHERE id = 4 RETURNING *) INSERT INTO r2 SELECT * FROM d;
SELECT * FROM r2;
PREPARE p(int) AS DELETE FROM r WHERE id = $1 RETURNING *;
EXECUTE p(5);
DELETE FROM r USING r2 WHERE r.id = 6 RETURNING r.*, r2.id;
SELECT id FROM r WHERE deleted_at IS NULL ORDER BY id;

-- A row that is met twice.
CREATE TABLE twice (id int PRIMARY KEY);
SELECT keepsake.manage('twice');
INSERT INTO twice VALUES (1), (2);
\set VERBOSITY sqlstate
MERGE INTO twice USING (VALUES (1), (1)) AS s (id) ON twice.id = s.id WHEN MATCHED THEN DELETE;
\set VERBOSITY default
DELETE FROM twice USING (VALUES (1), (1)) AS s (id) WHERE twice.id = s.id;
SELECT id FROM twice WHERE deleted_at IS NULL;
-- MERGE counts the rows that it deletes, and meets none that is deleted.
CREATE TABLE merged (id int, k int, v int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE merged1 PARTITION OF merged FOR VALUES IN (1);
CREATE TABLE merged2 PARTITION OF merged FOR VALUES IN (2);
CREATE TABLE beneath (id int PRIMARY KEY, id1 int, k int, FOREIGN KEY (id1, k) REFERENCES merged ON DELETE CASCADE ON UPDATE CASCADE);
CREATE FUNCTION merge(sql text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint; BEGIN EXECUTE sql; GET DIAGNOSTICS n = ROW_COUNT; RETURN n; END $$;
SELECT keepsake.manage('merged'), keepsake.manage('beneath');
INSERT INTO merged SELECT n, 1 + n % 2, n FROM generate_series(1, 8) n;
INSERT INTO beneath SELECT n, n, 1 + n % 2 FROM generate_series(1, 8) n;
SELECT merge('MERGE INTO merged m USING (VALUES (1), (2), (9)) AS s (id) ON m.id = s.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (9, 1, 9)');
SELECT merge('MERGE INTO merged m USING generate_series(1, 9) AS s (id) ON m.id = s.id WHEN MATCHED AND v < 4 THEN DELETE WHEN MATCHED AND v < 6 THEN UPDATE SET k = 3 - k, v = v + 10 WHEN MATCHED THEN DO NOTHING');
SELECT tableoid::regclass, id, v, deleted_at IS NULL AS live FROM merged ORDER BY id;
SELECT id FROM beneath WHERE deleted_at IS NULL ORDER BY id;
SELECT state, root_key, (SELECT sum(row_count) FROM keepsake.deletion_table t WHERE t.deletion_id = d.id) AS rows FROM keepsake.deletion d WHERE root_table = 'merged'::regclass ORDER BY id;
-- Under policies of the application's, it is asked for those of a DELETE.
CREATE ROLE regress_merger;
GRANT USAGE ON SCHEMA detail TO regress_merger;
GRANT SELECT, UPDATE, DELETE ON merged TO regress_merger;
ALTER TABLE merged ENABLE ROW LEVEL SECURITY;
CREATE POLICY look ON merged FOR SELECT USING (true);
CREATE POLICY change ON merged FOR UPDATE USING (v = 7) WITH CHECK (deleted_at IS NULL);
CREATE POLICY remove ON merged FOR DELETE USING (v = 6);
SET ROLE regress_merger;
\set VERBOSITY sqlstate
SELECT merge('MERGE INTO merged USING (VALUES (6)) AS s (id) ON merged.id = s.id WHEN MATCHED THEN DELETE');
SELECT merge('MERGE INTO merged USING (VALUES (7)) AS s (id) ON merged.id = s.id WHEN MATCHED THEN DELETE');
SELECT merge('MERGE INTO merged USING (VALUES (7)) AS s (id) ON merged.id = s.id WHEN MATCHED AND v > 7 THEN DELETE WHEN MATCHED THEN UPDATE SET v = 8');
\set VERBOSITY default
RESET ROLE;
SELECT id, v FROM merged WHERE deleted_at IS NULL ORDER BY id;
-- The rights to the columns that it names are enough.
REVOKE SELECT, UPDATE ON merged FROM regress_merger;
GRANT SELECT (id, v), UPDATE (v) ON merged TO regress_merger;
ALTER TABLE merged DISABLE ROW LEVEL SECURITY;
SET ROLE regress_merger;
SELECT merge('MERGE INTO merged USING (VALUES (8)) AS s (id) ON merged.id = s.id WHEN MATCHED AND v = 7 THEN DELETE WHEN MATCHED THEN UPDATE SET v = 9');
SELECT merge('MERGE INTO merged USING (VALUES (7)) AS s (id) ON merged.id = s.id WHEN MATCHED THEN DELETE');
WITH a AS (DELETE FROM merged WHERE v = 14 RETURNING v) UPDATE merged SET v = 16 WHERE id = 5 AND EXISTS (SELECT FROM a) RETURNING id, v;
RESET ROLE;
-- Also where Keepsake's own policies hide deleted rows, and where those of the application say which rows may go.
DROP POLICY look ON merged;
DROP POLICY change ON merged;
DROP POLICY remove ON merged;
SELECT keepsake.hide_deleted('merged', 'policy');
SET ROLE regress_merger;
WITH a AS (DELETE FROM merged WHERE id = 8 RETURNING v) UPDATE merged SET v = 17 WHERE id = 5 AND EXISTS (SELECT FROM a) RETURNING id, v;
RESET ROLE;
CREATE POLICY look ON merged FOR SELECT USING (v > 0);
CREATE POLICY change ON merged FOR UPDATE USING (true);
CREATE POLICY remove ON merged FOR DELETE USING (v < 18);
INSERT INTO merged VALUES (10, 1, 10), (11, 1, 11);
SET ROLE regress_merger;
WITH a AS (DELETE FROM merged WHERE id IN (10, 11) RETURNING v) UPDATE merged SET v = 18 WHERE id = 5 AND EXISTS (SELECT FROM a) RETURNING id, v;
WITH a AS (UPDATE merged SET v = 17 WHERE id = 5 RETURNING v) DELETE FROM merged WHERE id = 9;
RESET ROLE;
SELECT id, v FROM merged WHERE deleted_at IS NULL ORDER BY id;
DROP OWNED BY regress_merger;
DROP ROLE regress_merger;
-- A table that lost its triggers keeps its rows.
SET client_min_messages = error;
CREATE TABLE bare (id int PRIMARY KEY, deleted_at timestamptz, deletion_id uuid);
-- A dump has the index of a managed table as well.
CREATE INDEX ON bare (deletion_id) WHERE deletion_id IS NOT NULL;
INSERT INTO bare VALUES (1);
\set VERBOSITY sqlstate
DELETE FROM bare;
UPDATE bare SET deleted_at = now();
UPDATE bare SET id = 2;
DROP TRIGGER keepsake_convert_delete ON twice;
DELETE FROM twice;
\set VERBOSITY default
SET client_min_messages = warning;
SELECT check_name, fix FROM keepsake.doctor() WHERE check_name IN ('table_unregistered', 'trigger_missing') AND object LIKE 'detail.%';
SELECT keepsake.manage('bare'), keepsake.manage('twice');
DELETE FROM bare;
DELETE FROM twice;
SELECT count(*) FROM bare;

-- The error names the foreign key.
CREATE TABLE p (id int PRIMARY KEY);
CREATE TABLE c (id int PRIMARY KEY, p int CONSTRAINT cp REFERENCES p);
SELECT keepsake.manage('p'), keepsake.manage('c');
INSERT INTO p VALUES (1), (2); INSERT INTO c VALUES (1, 1);
CREATE PROCEDURE fields(sql text) LANGUAGE plpgsql AS $$
DECLARE a text; b text; c text; d text;
BEGIN
    EXECUTE sql;
    RAISE NOTICE 'done';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS a = RETURNED_SQLSTATE, b = SCHEMA_NAME, c = TABLE_NAME, d = CONSTRAINT_NAME;
    RAISE WARNING '% % % %', a, b, c, d;
END $$;
CALL fields('DELETE FROM p WHERE id = 1');
CALL fields('SELECT keepsake.soft_delete(''p'', 1)');
DELETE FROM p WHERE id = 2;
CALL fields('INSERT INTO c VALUES (2, 2)');
CALL fields('UPDATE c SET p = 2');

-- A deferred foreign key is checked at the commit.
CREATE TABLE dp (id int PRIMARY KEY);
CREATE TABLE dc (id int PRIMARY KEY, p int REFERENCES dp DEFERRABLE INITIALLY DEFERRED);
SELECT keepsake.manage('dp'), keepsake.manage('dc');
INSERT INTO dp VALUES (1), (2), (3); INSERT INTO dc VALUES (1, 1), (2, 2), (3, 3);
BEGIN;
DELETE FROM dp WHERE id = 1;
DELETE FROM dc WHERE id = 1;
COMMIT;
BEGIN;
DELETE FROM dp WHERE id = 2;
COMMIT;
BEGIN;
DELETE FROM dp WHERE id = 2;
UPDATE dc SET p = 3 WHERE id = 2;
SET CONSTRAINTS ALL IMMEDIATE;
COMMIT;
BEGIN;
SELECT keepsake.soft_delete('dp', 3) AS d \gset
SELECT keepsake.restore(:'d') IS NOT NULL AS restored;
COMMIT;
BEGIN;
DELETE FROM dp WHERE id = 3;
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK;
SELECT (SELECT string_agg(id::text, ' ' ORDER BY id) FROM dp WHERE deleted_at IS NULL) dp, (SELECT string_agg(id || ':' || p, ' ' ORDER BY id) FROM dc WHERE deleted_at IS NULL) dc;

-- Two collations.
CREATE TABLE kp (k text COLLATE "C" PRIMARY KEY);
CREATE TABLE kc (id int PRIMARY KEY, k text COLLATE "POSIX" REFERENCES kp ON DELETE CASCADE, n text COLLATE "POSIX" REFERENCES kp ON DELETE SET NULL);
SELECT keepsake.manage('kp'), keepsake.manage('kc');
INSERT INTO kp VALUES ('a'), ('b'); INSERT INTO kc VALUES (1, 'a', 'a'), (2, 'b', 'a');
DELETE FROM kp WHERE k = 'a';
SELECT id, k, n, deleted_at IS NULL AS live FROM kc ORDER BY id;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM kp WHERE k = 'a';
SELECT id, k, n, deleted_at IS NULL AS live FROM kc ORDER BY id;

-- Triggers on DELETE do not fire, and that is said.
SET client_min_messages = warning;
CREATE TABLE v (id int PRIMARY KEY);
CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
CREATE TRIGGER veto BEFORE DELETE ON v FOR EACH ROW EXECUTE FUNCTION veto();
SELECT keepsake.manage('v');
SELECT severity, object, finding FROM keepsake.doctor() WHERE check_name = 'delete_trigger_silent';

-- DDL goes as on any table.
CREATE TABLE kp2 (id int PRIMARY KEY);
CREATE TABLE part (id int, k int, p int REFERENCES kp2, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE part1 PARTITION OF part FOR VALUES IN (1);
CREATE TABLE sub PARTITION OF part FOR VALUES IN (2) PARTITION BY LIST (id);
CREATE TABLE sub1 PARTITION OF sub FOR VALUES IN (1);
SELECT keepsake.manage('kp2'), keepsake.manage('part');
ALTER TABLE part DETACH PARTITION part1;
ALTER TABLE part ATTACH PARTITION part1 FOR VALUES IN (1);
ALTER TABLE part DETACH PARTITION sub;
ALTER TABLE part ATTACH PARTITION sub FOR VALUES IN (2);
INSERT INTO kp2 VALUES (1); INSERT INTO part VALUES (1, 1, 1), (1, 2, 1);
DELETE FROM part WHERE k = 1;
DELETE FROM kp2;
SELECT count(*) FILTER (WHERE deleted_at IS NULL) AS live FROM part;
SELECT severity, check_name, object FROM keepsake.doctor() WHERE object LIKE 'detail.%' AND severity = 'error';
CREATE TABLE ddl (id int PRIMARY KEY, p int REFERENCES kp2, q int);
SELECT keepsake.manage('ddl');
ALTER TABLE ddl ALTER COLUMN id TYPE bigint, ALTER COLUMN p TYPE bigint;
ALTER TABLE ddl DROP COLUMN p;
ALTER TABLE ddl ADD COLUMN p int REFERENCES kp2;
ALTER TABLE ddl RENAME COLUMN id TO key;
ALTER TABLE ddl DROP COLUMN q;
CREATE TABLE gen (a int, b int GENERATED ALWAYS AS (a + 1) STORED PRIMARY KEY);
\set VERBOSITY sqlstate
SELECT keepsake.manage('gen');
\set VERBOSITY default
-- A table that is made with its schema.
INSERT INTO kp2 VALUES (7), (8);
DELETE FROM kp2 WHERE id = 7;
CREATE SCHEMA detail2 CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES detail.kp2 ON DELETE CASCADE);
INSERT INTO detail2.c VALUES (1, 7);
INSERT INTO detail2.c VALUES (2, 8);
DROP SCHEMA detail2 CASCADE;

ALTER DATABASE :"here" RESET session_preload_libraries;
RESET search_path;
DELETE FROM keepsake.deletion WHERE root_table::text LIKE 'detail.%';
DROP SCHEMA detail CASCADE;
RESET client_min_messages;
