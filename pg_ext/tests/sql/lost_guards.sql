-- Guards that somebody has dropped or disabled: nothing is written that they would have looked at.
\pset format unaligned
\pset tuples_only on
CREATE SCHEMA unwatched;
SET search_path = unwatched, public;
SET client_min_messages = warning;
CREATE TABLE post (id int PRIMARY KEY);
CREATE TABLE comment (id int PRIMARY KEY, post_id int REFERENCES post ON DELETE CASCADE);
CREATE TABLE pin (id int PRIMARY KEY, post_id int REFERENCES post);
CREATE TABLE note (id int PRIMARY KEY, of_type text, of_id int);
CREATE TABLE stranger (id int PRIMARY KEY REFERENCES pin);
SELECT keepsake.manage('post'), keepsake.manage('comment'), keepsake.manage('note'), keepsake.declare_reference('note', 'of_type', 'of_id', 'post', 'post');
INSERT INTO post VALUES (1), (2), (3);
INSERT INTO comment VALUES (10, 1), (20, 2);
INSERT INTO pin VALUES (30, 3);
SELECT count(*) FROM keepsake.soft_delete('post', 1);

\echo == Dropped.
BEGIN;
DROP TRIGGER keepsake_guard_insert ON pin;
SAVEPOINT s;
INSERT INTO pin VALUES (31, 1);
ROLLBACK TO s;
\set VERBOSITY terse
INSERT INTO pin SELECT 31, 1;
ROLLBACK TO s;
WITH w AS (INSERT INTO pin VALUES (31, 1) RETURNING id) SELECT * FROM w;
ROLLBACK TO s;
COPY pin FROM stdin;
31	1
\.
ROLLBACK TO s;
UPDATE pin SET post_id = 1;
ROLLBACK TO s;
MERGE INTO pin USING (VALUES (31, 1)) AS v (id, post_id) ON pin.id = v.id WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.post_id);
ROLLBACK TO s;
PREPARE put AS INSERT INTO pin VALUES ($1, $2);
EXECUTE put (31, 1);
ROLLBACK TO s;
DELETE FROM post WHERE id = 2;
ROLLBACK TO s;
SELECT keepsake.soft_delete('post', 2);
ROLLBACK TO s;
-- What is no row that refers, and what lets go.
DELETE FROM pin;
DELETE FROM comment WHERE id = 20;
INSERT INTO post VALUES (4);
SELECT keepsake.guard_references('pin');
INSERT INTO pin VALUES (31, 1);
ROLLBACK TO s;
SELECT keepsake.manage('post');
EXECUTE put (32, 2);
DELETE FROM comment WHERE id = 20;
DELETE FROM pin;
DELETE FROM post WHERE id = 2;
ROLLBACK;

\echo == A plan that was made before.
DEALLOCATE put;
PREPARE put AS INSERT INTO pin VALUES ($1, $2);
BEGIN;
EXECUTE put (31, 3);
DROP TRIGGER keepsake_guard_update ON pin;
EXECUTE put (32, 3);
ROLLBACK;

\echo == Disabled: the command that does it enables them again.
BEGIN;
ALTER TABLE comment DISABLE TRIGGER USER;
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'comment'::regclass AND tgname ~ 'guard' ORDER BY 1;
ROLLBACK;
\echo == Unless no event trigger follows: some, all of ours, and all there are, as pg_restore does.
BEGIN;
ALTER EVENT TRIGGER keepsake_follow_ddl DISABLE;
ALTER TABLE comment DISABLE TRIGGER keepsake_guard_update;
SAVEPOINT s;
INSERT INTO comment VALUES (11, 1);
ROLLBACK TO s;
DELETE FROM post WHERE id = 2;
ROLLBACK TO s;
ALTER TABLE comment ENABLE ALWAYS TRIGGER keepsake_guard_update;
INSERT INTO comment VALUES (11, 2);
DELETE FROM post WHERE id = 2;
ROLLBACK TO s;
ALTER TABLE comment DISABLE TRIGGER USER;
INSERT INTO comment VALUES (11, 1);
ROLLBACK TO s;
ALTER TABLE comment DISABLE TRIGGER ALL;
COPY comment (id, post_id) FROM stdin;
12	2
\.
INSERT INTO comment VALUES (13, 2);
DELETE FROM post WHERE id = 2;
ROLLBACK TO s;
SELECT keepsake.guard_references('comment');
DELETE FROM post WHERE id = 2;
ROLLBACK TO s;
SET LOCAL session_replication_role = replica;
INSERT INTO comment VALUES (13, 2);
ROLLBACK;

\echo == Declared references.
BEGIN;
DROP TRIGGER keepsake_guard_update ON note;
SAVEPOINT s;
INSERT INTO note VALUES (1, 'post', 1);
ROLLBACK TO s;
COPY note (id, of_type, of_id) FROM stdin;
1	post	1
\.
ROLLBACK TO s;
DELETE FROM post WHERE id = 2;
ROLLBACK TO s;
DELETE FROM note;
SELECT keepsake.manage('note');
INSERT INTO note VALUES (1, 'post', 2);
DELETE FROM post WHERE id = 2;
SELECT count(*) FROM note WHERE deleted_at IS NOT NULL;
ROLLBACK;
-- Of a table that refers to nothing that is managed, triggers are its owner's.
INSERT INTO stranger VALUES (30);
BEGIN;
ALTER TABLE stranger DISABLE TRIGGER ALL;
INSERT INTO stranger VALUES (99);
ROLLBACK;

\echo == Disabled by the owner of a table that has declared references alone: enabled again as well. A superuser, who loads a dump so, passes.
BEGIN;
CREATE ROLE regress_keeper;
GRANT USAGE, CREATE ON SCHEMA unwatched TO regress_keeper;
GRANT SELECT ON post TO regress_keeper;
ALTER TABLE note OWNER TO regress_keeper;
SET LOCAL ROLE regress_keeper;
ALTER TABLE note DISABLE TRIGGER USER;
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'note'::regclass AND tgname ~ 'guard' ORDER BY 1;
SAVEPOINT s;
INSERT INTO note VALUES (1, 'post', 1);
ROLLBACK TO s;
ALTER TABLE note DISABLE TRIGGER ALL;
INSERT INTO note VALUES (1, 'post', 1);
ROLLBACK TO s;
ALTER TABLE note ENABLE REPLICA TRIGGER keepsake_guard_insert;
INSERT INTO note VALUES (1, 'post', 1);
ROLLBACK TO s;
RESET ROLE;
ALTER TABLE note DISABLE TRIGGER ALL;
INSERT INTO note VALUES (1, 'post', 1);
ROLLBACK;

\echo == Replaced by triggers of the same names that look at nothing, or not at all rows.
CREATE FUNCTION look_away() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
BEGIN;
DROP TRIGGER keepsake_guard_insert ON pin;
CREATE TRIGGER keepsake_guard_insert AFTER INSERT ON pin EXECUTE FUNCTION look_away();
SAVEPOINT s;
INSERT INTO pin VALUES (31, 1);
ROLLBACK TO s;
DELETE FROM post WHERE id = 2;
ROLLBACK TO s;
SELECT object, fix FROM keepsake.doctor() WHERE check_name = 'guard_missing';
SELECT keepsake.guard_references('pin');
INSERT INTO pin VALUES (31, 1);
ROLLBACK TO s;
ROLLBACK;
BEGIN;
CREATE OR REPLACE TRIGGER keepsake_guard_update AFTER UPDATE OF id ON pin FOR EACH ROW EXECUTE FUNCTION keepsake.guard_update();
SAVEPOINT s;
UPDATE pin SET post_id = 1;
ROLLBACK TO s;
DELETE FROM post WHERE id = 2;
ROLLBACK TO s;
SELECT object, fix FROM keepsake.doctor() WHERE check_name = 'guard_missing';
SELECT keepsake.guard_references('pin');
UPDATE pin SET post_id = 1;
ROLLBACK TO s;
CREATE OR REPLACE TRIGGER keepsake_guard_update AFTER UPDATE ON pin FOR EACH ROW WHEN (false) EXECUTE FUNCTION keepsake.guard_update();
SAVEPOINT s;
UPDATE pin SET post_id = 1;
ROLLBACK TO s;
DELETE FROM post WHERE id = 2;
ROLLBACK TO s;
SELECT object, fix FROM keepsake.doctor() WHERE check_name = 'guard_missing';
CREATE OR REPLACE TRIGGER keepsake_guard_update AFTER INSERT ON pin FOR EACH ROW EXECUTE FUNCTION keepsake.guard_update();
SAVEPOINT s;
UPDATE pin SET post_id = 1;
ROLLBACK TO s;
DELETE FROM post WHERE id = 2;
ROLLBACK TO s;
SELECT object, fix FROM keepsake.doctor() WHERE check_name = 'guard_missing';
ROLLBACK;
BEGIN;
DROP TRIGGER keepsake_guard_update ON pin;
CREATE CONSTRAINT TRIGGER keepsake_guard_update AFTER UPDATE ON pin DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION keepsake.guard_update();
SAVEPOINT s;
UPDATE pin SET post_id = 1;
ROLLBACK TO s;
DELETE FROM post WHERE id = 2;
ROLLBACK TO s;
SELECT object, fix FROM keepsake.doctor() WHERE check_name = 'guard_missing';
SELECT keepsake.guard_references('pin');
UPDATE pin SET post_id = 1;
ROLLBACK;

\echo == A table that inherits, by way of the one that it inherits from.
CREATE TABLE base (id int, post_id int);
CREATE TABLE heir (PRIMARY KEY (id), FOREIGN KEY (post_id) REFERENCES post) INHERITS (base);
INSERT INTO heir VALUES (1, 2);
BEGIN;
DROP TRIGGER keepsake_guard_update ON heir;
SAVEPOINT s;
UPDATE base SET post_id = 1;
ROLLBACK TO s;
MERGE INTO base USING (VALUES (1)) AS v (id) ON base.id = v.id WHEN MATCHED THEN UPDATE SET post_id = 1;
ROLLBACK TO s;
UPDATE ONLY base SET post_id = 1;
INSERT INTO base VALUES (2, 1);
DELETE FROM base;
ROLLBACK;
DROP TABLE base CASCADE;

\echo == Partitions, by themselves and through the whole.
CREATE TABLE part (id int, k int, post_id int REFERENCES post ON DELETE CASCADE, PRIMARY KEY (k, id)) PARTITION BY LIST (k);
CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
SELECT keepsake.manage('part');
BEGIN;
DROP TRIGGER keepsake_guard_insert ON part_1;
SAVEPOINT s;
INSERT INTO part_1 VALUES (1, 1, 1);
ROLLBACK TO s;
DELETE FROM post WHERE id = 2;
ROLLBACK TO s;
SELECT keepsake.guard_references('part');
INSERT INTO part_1 VALUES (1, 1, 2);
DELETE FROM post WHERE id = 2;
ROLLBACK;
BEGIN;
DROP TRIGGER keepsake_guard_moved ON part;
SAVEPOINT s;
INSERT INTO part VALUES (1, 1, 2);
ROLLBACK TO s;
DELETE FROM post WHERE id = 2;
ROLLBACK;

\echo == A key of a partition alone cannot be guarded: rows come to it through the whole.
\set VERBOSITY default
CREATE TABLE whole (id int PRIMARY KEY, post_id int) PARTITION BY RANGE (id);
CREATE TABLE whole_1 PARTITION OF whole FOR VALUES FROM (0) TO (9);
CREATE TABLE whole_2 (id int PRIMARY KEY, post_id int REFERENCES post);
ALTER TABLE whole_1 ADD FOREIGN KEY (post_id) REFERENCES post;
\set VERBOSITY terse
ALTER TABLE whole ATTACH PARTITION whole_2 FOR VALUES FROM (10) TO (19);
CREATE TABLE later (id int PRIMARY KEY);
ALTER TABLE whole_1 ADD FOREIGN KEY (post_id) REFERENCES later;
SELECT keepsake.manage('later');
\echo == One that is there already, from before: the errors say what to do, and nothing else is refused.
\set VERBOSITY default
ALTER EVENT TRIGGER keepsake_follow_ddl DISABLE;
ALTER TABLE whole_1 ADD CONSTRAINT alone FOREIGN KEY (post_id) REFERENCES post;
ALTER EVENT TRIGGER keepsake_follow_ddl ENABLE;
INSERT INTO post VALUES (5);
DELETE FROM post WHERE id = 5;
INSERT INTO whole_1 VALUES (1, 5);
SELECT keepsake.guard_references('whole_1');
SELECT keepsake.manage('post', retention => '10 days');
ALTER TABLE whole ADD COLUMN other_id int;
ALTER TABLE whole_1 ALTER COLUMN other_id SET DEFAULT 5;
SELECT object, finding, fix FROM keepsake.doctor() WHERE check_name = 'guard_missing';
\set VERBOSITY terse
ALTER TABLE whole_2 ADD COLUMN other_id int;
ALTER TABLE whole_1 ADD FOREIGN KEY (other_id) REFERENCES post;
BEGIN;
SAVEPOINT s;
ALTER TABLE whole_1 ADD FOREIGN KEY (other_id) REFERENCES post;
ROLLBACK TO s;
ALTER TABLE whole ATTACH PARTITION whole_2 FOR VALUES FROM (10) TO (19);
ROLLBACK TO s;
CREATE TABLE whole_3 PARTITION OF whole (FOREIGN KEY (other_id) REFERENCES post) FOR VALUES FROM (20) TO (29);
ROLLBACK;
ALTER TABLE whole_1 DROP CONSTRAINT alone;
DELETE FROM post WHERE id = 5;
SELECT object, finding, fix FROM keepsake.doctor() WHERE check_name = 'guard_missing';

\echo == What unmanage() and a move take back of other tables, partitions of a table that refers still need.
CREATE TABLE other (id int PRIMARY KEY);
CREATE TABLE label (id int, k int, of_type text, of_id int, PRIMARY KEY (k, id)) PARTITION BY LIST (k);
CREATE TABLE label_1 PARTITION OF label FOR VALUES IN (1) PARTITION BY LIST (k);
CREATE TABLE label_1_1 PARTITION OF label_1 FOR VALUES IN (1);
SELECT keepsake.manage('label'), keepsake.manage('other'), keepsake.declare_reference('label', 'of_type', 'of_id', 'post', 'post');
INSERT INTO post VALUES (6), (7);
SELECT keepsake.unmanage('other');
INSERT INTO label VALUES (1, 1, 'post', 6);
DELETE FROM post WHERE id = 6;
SELECT keepsake.manage('other'), keepsake.manage('other', keep => 'archive');
DELETE FROM post WHERE id = 7;
SELECT count(*) FROM label WHERE deleted_at IS NULL;
CREATE TABLE page (id int PRIMARY KEY);
CREATE TABLE mark (id int, k int, of_type text, of_id int, PRIMARY KEY (k, id)) PARTITION BY LIST (k);
CREATE TABLE mark_1 PARTITION OF mark FOR VALUES IN (1);
SELECT keepsake.manage('page', keep => 'archive'), keepsake.manage('mark', keep => 'archive'), keepsake.declare_reference('mark', 'of_type', 'of_id', 'page', 'page');
INSERT INTO page VALUES (1);
INSERT INTO mark VALUES (1, 1, 'page', 1);
SELECT keepsake.unmanage('other');
DELETE FROM page;
SELECT count(*) FROM mark;

\echo == TRUNCATE, of the table, by CASCADE, through a partitioned one, and of an archived one. An empty table loses nothing.
CREATE TABLE shelf (id int PRIMARY KEY);
CREATE TABLE book (id int PRIMARY KEY, shelf_id int REFERENCES shelf);
SELECT keepsake.manage('book'), keepsake.manage('stranger', keep => 'archive');
INSERT INTO shelf VALUES (1);
BEGIN;
DROP TRIGGER keepsake_refuse_truncate ON book;
SAVEPOINT s;
TRUNCATE book;
ROLLBACK TO s;
INSERT INTO book VALUES (1, 1);
DELETE FROM book;
SAVEPOINT s;
\set VERBOSITY default
TRUNCATE book;
\set VERBOSITY terse
ROLLBACK TO s;
TRUNCATE shelf CASCADE;
ROLLBACK TO s;
SELECT keepsake.manage('book');
ALTER EVENT TRIGGER keepsake_follow_ddl DISABLE;
ALTER TABLE book DISABLE TRIGGER USER;
TRUNCATE book;
ROLLBACK TO s;
SET LOCAL session_replication_role = replica;
TRUNCATE book;
ROLLBACK;
BEGIN;
INSERT INTO part VALUES (1, 1, 2);
DROP TRIGGER keepsake_refuse_truncate ON part_1;
SAVEPOINT s;
TRUNCATE part_1;
ROLLBACK TO s;
ALTER EVENT TRIGGER keepsake_follow_ddl DISABLE;
SELECT keepsake.manage('part');
ALTER TABLE part DISABLE TRIGGER keepsake_refuse_truncate;
ALTER TABLE part_1 DISABLE TRIGGER keepsake_refuse_truncate;
TRUNCATE part;
ROLLBACK;
BEGIN;
DROP TRIGGER keepsake_archive_truncate ON stranger;
SAVEPOINT s;
TRUNCATE stranger;
ROLLBACK TO s;
SELECT keepsake.manage('stranger', on_truncate => 'allow');
TRUNCATE stranger;
ROLLBACK;
BEGIN;
DROP TRIGGER keepsake_archive_truncate ON stranger;
SET LOCAL keepsake.capture = off;
TRUNCATE stranger;
ROLLBACK;
\set VERBOSITY default
DEALLOCATE ALL;
\echo == In a database that has the triggers and not the registry, as a dump of one schema leaves it: what is not loaded yet says so as well.
CREATE TABLE alone (id int PRIMARY KEY);
CREATE TABLE above (id int PRIMARY KEY);
CREATE TABLE below (id int PRIMARY KEY, above_id int REFERENCES above ON DELETE CASCADE);
CREATE TABLE allowing (id int PRIMARY KEY);
CREATE TABLE split (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE split_1 PARTITION OF split FOR VALUES FROM (0) TO (10);
SELECT keepsake.manage('alone'), keepsake.manage('above'), keepsake.manage('below'), keepsake.manage('allowing', on_delete => 'allow'), keepsake.manage('split');
INSERT INTO alone VALUES (1);
INSERT INTO above VALUES (1);
INSERT INTO below VALUES (1, 1);
INSERT INTO allowing VALUES (1);
INSERT INTO split VALUES (1);
DELETE FROM keepsake.managed_table WHERE relation::text IN ('alone', 'above', 'below', 'allowing', 'split');
CREATE VIEW all_rows AS SELECT count(*), count(deleted_at) AS marked FROM (SELECT deleted_at FROM alone UNION ALL SELECT deleted_at FROM above UNION ALL
    SELECT deleted_at FROM below UNION ALL SELECT deleted_at FROM allowing UNION ALL SELECT deleted_at FROM split) AS r;
\set VERBOSITY terse
\c -
SET search_path = unwatched, public;
DELETE FROM below;
\c -
SET search_path = unwatched, public;
UPDATE below SET deleted_at = now();
\c -
SET search_path = unwatched, public;
DELETE FROM allowing;
DELETE FROM alone;
DELETE FROM above RETURNING id;
DELETE FROM below;
DELETE FROM allowing;
DELETE FROM split;
DELETE FROM split_1;
UPDATE alone SET deleted_at = now();
UPDATE above SET deleted_at = now(), deletion_id = keepsake.uuid_v7();
UPDATE split SET deleted_at = now();
MERGE INTO above USING (VALUES (1)) AS v (id) ON above.id = v.id WHEN MATCHED THEN DELETE;
TABLE all_rows;
SET client_min_messages = warning;
SELECT keepsake.manage('alone'), keepsake.manage('above'), keepsake.manage('below'), keepsake.manage('allowing'), keepsake.manage('split');
DELETE FROM alone;
DELETE FROM above;
DELETE FROM allowing;
DELETE FROM split;
TABLE all_rows;
SELECT count(keepsake.restore(id)) FROM keepsake.deletion WHERE root_table::text IN ('alone', 'above', 'allowing', 'split');
TABLE all_rows;
\set VERBOSITY default
\echo == The same of a table with an archive.
CREATE TABLE apart (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE apart_1 PARTITION OF apart FOR VALUES FROM (0) TO (10);
SELECT keepsake.manage('apart', keep => 'archive');
INSERT INTO apart VALUES (1), (2);
DELETE FROM keepsake.managed_table WHERE relation = 'apart'::regclass;
DELETE FROM apart;
DELETE FROM apart_1;
TRUNCATE apart_1;
SELECT keepsake.manage('apart', keep => 'archive');
DELETE FROM apart;
SELECT count(keepsake.restore(id)) FROM keepsake.deletion WHERE root_table = 'apart'::regclass;
SELECT count(*) FROM apart;
-- What was a partition has no row triggers any more.
ALTER TABLE apart DETACH PARTITION apart_1;
TRUNCATE apart_1;

SELECT count(keepsake.purge_deletion(id)) FROM keepsake.deletion WHERE root_table = 'post'::regclass;
DROP SCHEMA unwatched CASCADE;
DROP SCHEMA unwatched_deleted CASCADE;
DELETE FROM keepsake.deletion WHERE root_table::oid NOT IN (SELECT oid FROM pg_class);
RESET search_path;
RESET client_min_messages;
\echo == Where the library is loaded and the extension not installed, that is asked once, until something changes.
CREATE DATABASE without_keepsake;
\c without_keepsake
LOAD 'keepsake';
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent);
BEGIN;
INSERT INTO child VALUES (1);
INSERT INTO child VALUES (2);
INSERT INTO child VALUES (3);
SELECT coalesce(idx_scan, 0) <= 1 FROM pg_stat_xact_sys_tables WHERE relname = 'pg_extension';
COMMIT;
\c regression
DROP DATABASE without_keepsake;
