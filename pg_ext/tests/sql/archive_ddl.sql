-- A change of the schema never fails because a table is archived, and the archive follows.
CREATE SCHEMA change;
SET search_path = change;
\set SHOW_CONTEXT never
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE DOMAIN word AS text;
CREATE COLLATION sorted FROM "C";
CREATE TABLE t (id int PRIMARY KEY, m mood, w word, s text COLLATE sorted, n int);
SELECT keepsake.manage('t', keep => 'archive');
INSERT INTO t SELECT n, 'sad', 'w' || n, 's' || n, n FROM generate_series(1, 12) n;
DELETE FROM t WHERE id = 1;
-- What a column had where rows were is noted at once, and before a rewrite in the same command.
ALTER TABLE t ADD a int DEFAULT 7;
ALTER TABLE t ADD b int DEFAULT 8, ALTER n TYPE bigint;
ALTER TABLE t ADD d timestamptz DEFAULT clock_timestamp();
ALTER TABLE t ALTER a SET DEFAULT 9, ALTER n TYPE text;
SELECT layout, source_name, type, missing FROM keepsake.archive_column k WHERE archive = 'change_deleted.t'::regclass
    AND layout = (SELECT min(layout) FROM keepsake.archive_column f WHERE f.archive = k.archive AND f.archive_name = k.archive_name) ORDER BY layout, source_attnum;
SELECT keepsake.restore(id) IS NOT NULL AS restored FROM keepsake.deletion WHERE root_table = 't'::regclass AND state = 'deleted';
SELECT id, m, w, s, n, a, b FROM t WHERE id < 3 ORDER BY id;
-- Types go that the archive alone still uses; those that the table uses are refused as ever, in the same words.
DELETE FROM t WHERE id = 2;
DROP TYPE mood;
ALTER DOMAIN word ADD CHECK (VALUE <> 'w2');
ALTER TABLE t ALTER m TYPE text, ALTER s TYPE text COLLATE "C";
DELETE FROM t WHERE id = 3;
DROP TYPE mood; DROP COLLATION sorted;
SELECT attname FROM pg_attribute WHERE attrelid = 'change_deleted.t'::regclass AND attnum > 3 AND NOT attisdropped ORDER BY attnum;
SELECT count(*) FROM keepsake.archive_column k WHERE archive = 'change_deleted.t'::regclass AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = k.archive AND a.attname = k.archive_name AND NOT a.attisdropped);
CREATE TYPE colour AS ENUM ('red'); ALTER TABLE t ADD c colour DEFAULT 'red'; DELETE FROM t WHERE id = 4;
DROP TYPE colour CASCADE;
-- What is dropped is erased.
ALTER TABLE t DROP w;
SELECT attname FROM pg_attribute WHERE attrelid = 'change_deleted.t'::regclass AND attnum > 3 AND NOT attisdropped ORDER BY attnum;
-- Names follow.
ALTER TABLE t RENAME TO u; ALTER TABLE u RENAME n TO number;
SELECT archive, relation, source_schema, source_name FROM keepsake.archive_table WHERE source_schema IN ('change', 'room', 'hall');
CREATE SCHEMA room; ALTER TABLE u SET SCHEMA room;
SELECT archive, relation, source_schema, source_name FROM keepsake.archive_table WHERE source_schema IN ('change', 'room', 'hall');
ALTER SCHEMA room RENAME TO hall;
SELECT archive, relation, source_schema, source_name FROM keepsake.archive_table WHERE source_schema IN ('change', 'room', 'hall');
SELECT id, number FROM hall_deleted.u ORDER BY id;
-- So do those who may read it.
CREATE ROLE regress_first; CREATE ROLE regress_second;
GRANT ALL ON SCHEMA hall TO regress_first, regress_second;
ALTER TABLE hall.u OWNER TO regress_first;
SET ROLE regress_first; SELECT count(*) FROM hall_deleted.u; GRANT SELECT ON hall_deleted.u TO regress_second; RESET ROLE;
ALTER TABLE hall.u OWNER TO regress_second;
SET ROLE regress_first; SELECT count(*) FROM hall_deleted.u; RESET ROLE;
ALTER TABLE hall.u ENABLE ROW LEVEL SECURITY;
SELECT relrowsecurity FROM pg_class WHERE oid = 'hall_deleted.u'::regclass;
SET ROLE regress_second; SELECT count(*) FROM hall_deleted.u; RESET ROLE;
REASSIGN OWNED BY regress_second TO regress_first;
SET ROLE regress_second; SELECT count(*) FROM hall_deleted.u; RESET ROLE;
SET ROLE regress_first; SELECT count(*) FROM hall_deleted.u; RESET ROLE;
ALTER TABLE hall.u OWNER TO CURRENT_USER;
-- Who refers to it later.
CREATE TABLE child (id int PRIMARY KEY, u_id int REFERENCES hall.u ON DELETE CASCADE);
CREATE TABLE child (id int PRIMARY KEY, u_id int REFERENCES hall.u ON DELETE RESTRICT);
ALTER TABLE child ADD FOREIGN KEY (u_id) REFERENCES hall.u ON DELETE SET NULL;
SELECT keepsake.manage('child', keep => 'archive');
ALTER TABLE child ADD FOREIGN KEY (u_id) REFERENCES hall.u ON DELETE SET NULL;
CREATE TABLE in_place (id int PRIMARY KEY, u_id int);
SELECT keepsake.manage('in_place');
ALTER TABLE in_place ADD FOREIGN KEY (u_id) REFERENCES hall.u;
CREATE TABLE heir () INHERITS (hall.u);
CREATE TABLE split (id int, u_id int REFERENCES hall.u ON DELETE CASCADE) PARTITION BY RANGE (id);
CREATE TABLE split (id int) PARTITION BY RANGE (id);
CREATE TABLE split_1 (id int, u_id int);
ALTER TABLE split ADD u_id int; ALTER TABLE split ATTACH PARTITION split_1 FOR VALUES FROM (0) TO (9);
ALTER TABLE split_1 ADD FOREIGN KEY (u_id) REFERENCES hall.u ON DELETE CASCADE;
-- Partitions: defaults that only they know, and columns in another order.
CREATE TABLE p (id int PRIMARY KEY, x int) PARTITION BY RANGE (id);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10);
SELECT keepsake.manage('p', keep => 'archive');
INSERT INTO p VALUES (1, 1), (2, 2); DELETE FROM p WHERE id = 1;
ALTER TABLE p ADD y int DEFAULT 5;
CREATE TABLE p_2 (y int, gone int, x int, id int NOT NULL); ALTER TABLE p_2 DROP gone; INSERT INTO p_2 VALUES (12, 11, 10);
ALTER TABLE p ATTACH PARTITION p_2 FOR VALUES FROM (10) TO (20);
DELETE FROM p WHERE id = 10;
SELECT id, x, y FROM change_deleted.p ORDER BY id;
SELECT keepsake.restore(d.id) IS NOT NULL AS restored FROM keepsake.deletion d WHERE root_table = 'p'::regclass AND state = 'deleted' ORDER BY id;
SELECT tableoid::regclass, id, x, y FROM p ORDER BY id;
TRUNCATE p_2;
-- A table that is not managed any more changes as any other; a managed one that becomes a partition of one that is not stays managed.
CREATE TABLE once (id int PRIMARY KEY, u_id int);
SELECT keepsake.manage('once', keep => 'archive');
ALTER TABLE once ADD FOREIGN KEY (u_id) REFERENCES hall.u ON DELETE CASCADE;
SELECT keepsake.unmanage('once');
ALTER TABLE once ADD n int; ALTER TABLE once DROP CONSTRAINT once_u_id_fkey;
CREATE TABLE whole (id int) PARTITION BY RANGE (id);
CREATE TABLE part (id int PRIMARY KEY); SELECT keepsake.manage('part', keep => 'archive');
ALTER TABLE whole ATTACH PARTITION part FOR VALUES FROM (0) TO (9);
INSERT INTO whole VALUES (1), (2); DELETE FROM whole WHERE id = 1; DELETE FROM part WHERE id = 2;
SELECT id FROM change_deleted.part ORDER BY id;
SELECT keepsake.restore(d.id) -> 'restored' FROM keepsake.deletion d WHERE root_table = 'part'::regclass ORDER BY id;
SELECT id FROM whole ORDER BY id;
-- A hold keeps its row and no other, whatever the columns of the key are called and in whichever type rows were archived; also where nobody
-- tells the archive of the change.
CREATE TABLE held (id int, part text, n int, PRIMARY KEY (id, part));
SELECT keepsake.manage('held', keep => 'archive');
INSERT INTO held SELECT n, 'p', n FROM generate_series(1, 3) n;
SELECT keepsake.hold('held', '{"id": 1, "part": "p"}'::jsonb, 'case') IS NOT NULL AS held;
DELETE FROM held WHERE id = 1; DELETE FROM held WHERE id = 2;
UPDATE keepsake.deletion SET expires_at = now() - interval '1 day' WHERE root_table = 'held'::regclass;
ALTER EVENT TRIGGER keepsake_follow_archives DISABLE;
ALTER TABLE held RENAME id TO no; ALTER TABLE held RENAME n TO id;
ALTER EVENT TRIGGER keepsake_follow_archives ENABLE;
BEGIN; SELECT d.root_key, keepsake.purge_deletion(d.id) FROM keepsake.deletion d WHERE root_table = 'held'::regclass AND root_key ->> 'no' = '2'; ROLLBACK;
ALTER TABLE held ALTER no TYPE bigint;
SELECT d.root_key, keepsake.purge_deletion(d.id) FROM keepsake.deletion d WHERE root_table = 'held'::regclass AND root_key ->> 'no' = '2';
\set VERBOSITY terse
SELECT keepsake.purge_deletion(d.id) FROM keepsake.deletion d WHERE root_table = 'held'::regclass AND root_key ->> 'no' = '1';
\set VERBOSITY default
SELECT keepsake.restore(d.id) -> 'restored' FROM keepsake.deletion d WHERE root_table = 'held'::regclass AND state = 'deleted';
SELECT * FROM held ORDER BY no;
-- Whatever USING makes of a key, a hold keeps the row that it was placed on: as long as nobody says anew which that is, all that are deleted.
CREATE TABLE kept (id int PRIMARY KEY, n int);
CREATE TABLE heir () INHERITS (kept);
ALTER TABLE heir ADD PRIMARY KEY (id);
SELECT keepsake.manage('heir', keep => 'archive'), keepsake.manage('kept', keep => 'archive');
INSERT INTO kept SELECT n, n FROM generate_series(1, 4) n;
INSERT INTO heir VALUES (1, 10);
SELECT keepsake.hold('kept', 1, 'using') IS NOT NULL AS held, keepsake.hold('heir', 1, 'using') IS NOT NULL AS heirs;
SET client_min_messages = warning;
ALTER TABLE kept ALTER n TYPE bigint USING n * 2;
ALTER TABLE kept ALTER id TYPE bigint;
ALTER TABLE kept ALTER id TYPE bigint USING id + 1;
SET client_min_messages = notice;
SELECT relation, row_key FROM keepsake.hold WHERE reason = 'using' ORDER BY 1;
SELECT check_name, object FROM keepsake.doctor() WHERE check_name = 'hold_key_lost' ORDER BY 2;
DELETE FROM ONLY kept WHERE id = 2; DELETE FROM ONLY kept WHERE id = 1; DELETE FROM heir;
UPDATE keepsake.deletion SET expires_at = now() - interval '1 day' WHERE root_table IN ('kept'::regclass, 'heir'::regclass);
\set VERBOSITY terse
SELECT keepsake.purge_deletion(id) FROM keepsake.deletion WHERE root_table = 'kept'::regclass AND root_key = '{"id": 2}';
SELECT keepsake.purge_deletion(id) FROM keepsake.deletion WHERE root_table = 'heir'::regclass;
SELECT keepsake.hold('kept', 2::bigint, 'anew') IS NOT NULL AS anew;
SELECT keepsake.release(id) FROM keepsake.hold WHERE reason = 'using' AND released_at IS NULL;
DELETE FROM ONLY kept WHERE id = 3;
UPDATE keepsake.deletion SET expires_at = now() - interval '1 day' WHERE root_table = 'kept'::regclass;
SELECT keepsake.purge_deletion(id) -> 'rows' AS purged FROM keepsake.deletion WHERE root_table = 'kept'::regclass AND root_key = '{"id": 3}';
SELECT keepsake.purge_deletion(id) FROM keepsake.deletion WHERE root_table = 'kept'::regclass AND root_key = '{"id": 2}';
\set VERBOSITY default
SELECT keepsake.release(id) FROM keepsake.hold WHERE reason = 'anew' AND released_at IS NULL;
-- A column that is inherited gets its new name with that of the parent's, and so it does in what the registry knows.
CREATE TABLE elder (id int, n int);
CREATE TABLE younger (PRIMARY KEY (id)) INHERITS (elder);
SELECT keepsake.manage('younger', '0', keep => 'archive');
INSERT INTO younger VALUES (1, 1), (2, 2);
SELECT keepsake.hold('younger', 1, 'renamed') IS NOT NULL AS held;
ALTER TABLE elder RENAME id TO no;
SELECT row_key FROM keepsake.hold WHERE reason = 'renamed';
DELETE FROM younger WHERE no = 2;
SELECT keepsake.purge_deletion(id) -> 'rows' AS purged FROM keepsake.deletion WHERE root_table = 'younger'::regclass;
DROP TABLE elder CASCADE;
-- An archive follows its table to where another archive's index has the name of its own.
CREATE TABLE hall.twin (id int PRIMARY KEY); SELECT keepsake.manage('hall.twin', keep => 'archive'); ALTER TABLE hall.twin RENAME TO elder_twin;
CREATE TABLE twin (id int CONSTRAINT younger PRIMARY KEY); SELECT keepsake.manage('twin', keep => 'archive');
INSERT INTO twin VALUES (1); DELETE FROM twin;
ALTER TABLE twin SET SCHEMA hall;
SELECT i.indexrelid::regclass FROM keepsake.archive_table a JOIN pg_index i ON i.indrelid = a.archive WHERE a.relation IN ('hall.twin'::regclass, 'hall.elder_twin'::regclass) ORDER BY 1;
SELECT keepsake.restore(id) -> 'restored' AS restored FROM keepsake.deletion WHERE root_table = 'hall.twin'::regclass;
-- Archives follow what a command does to tables that it does not name: those that inherit, and a partition's own archive, which waits.
CREATE TABLE senior (id int PRIMARY KEY); CREATE TABLE junior (n int PRIMARY KEY) INHERITS (senior); CREATE TABLE minor () INHERITS (junior);
SELECT keepsake.manage('senior', keep => 'archive', cascade => true);
CREATE TABLE later_part (id int PRIMARY KEY, x int, y int); SELECT keepsake.manage('later_part', keep => 'archive');
INSERT INTO later_part VALUES (31, 1, 2); DELETE FROM later_part;
ALTER TABLE p ATTACH PARTITION later_part FOR VALUES FROM (30) TO (40);
INSERT INTO minor VALUES (1, 1); DELETE FROM minor;
ALTER TABLE senior ADD note text DEFAULT 'then'; ALTER TABLE senior ALTER note SET DEFAULT 'now'; ALTER TABLE senior RENAME note TO remark;
ALTER TABLE p DROP y; ALTER TABLE p ADD z int;
SELECT object FROM keepsake.doctor() WHERE check_name = 'archive_behind';
SELECT attrelid::regclass, attname FROM pg_attribute WHERE attrelid IN ('change_deleted.minor'::regclass, 'change_deleted.later_part'::regclass) AND attnum > 3 AND NOT attisdropped ORDER BY 1, attnum;
ALTER TABLE senior ALTER id TYPE bigint;
SELECT keepsake.restore(id) -> 'restored' AS restored FROM keepsake.deletion WHERE root_table = 'minor'::regclass;
SELECT * FROM minor;
-- The archive of a dropped table goes along if it has no rows: what it has of types would keep them from being changed.
CREATE TYPE pair AS (a int, b int);
CREATE TABLE brief (id int PRIMARY KEY, p pair); SELECT keepsake.manage('brief', keep => 'archive');
INSERT INTO brief VALUES (1, '(1,2)'); DELETE FROM brief; SELECT keepsake.restore(id) IS NOT NULL AS restored FROM keepsake.deletion WHERE root_table = 'brief'::regclass;
BEGIN; DROP TABLE brief; SELECT to_regclass('change_deleted.brief'); ROLLBACK;
BEGIN; DELETE FROM brief; DROP TABLE brief; SELECT id FROM change_deleted.brief; ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM brief; DROP TABLE brief; SELECT to_regclass('change_deleted.brief'); ROLLBACK;
CREATE FUNCTION keep_archives() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN
    IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() WHERE schema_name = 'change_deleted') THEN RAISE 'archives stay'; END IF;
END$$;
BEGIN; CREATE EVENT TRIGGER keep_archives ON sql_drop EXECUTE FUNCTION keep_archives(); DROP TABLE brief; SELECT to_regclass('brief'), to_regclass('change_deleted.brief'); ROLLBACK;
DROP FUNCTION keep_archives;
DROP TABLE brief; ALTER TYPE pair ALTER ATTRIBUTE a TYPE bigint;
-- Dropped tables leave their archives.
DROP TABLE hall.u CASCADE;
SELECT archive, relation, source_schema, source_name FROM keepsake.archive_table WHERE relation IS NULL;
SELECT count(*) FROM hall_deleted.u;
DROP SCHEMA hall CASCADE;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA change, change_deleted, room_deleted, hall_deleted CASCADE;
SELECT count(*) FROM keepsake.archive_table WHERE source_schema IN ('change', 'room', 'hall');
DROP ROLE regress_first, regress_second;
