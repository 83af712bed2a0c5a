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
SELECT count(keepsake.purge_deletion(id)) FROM keepsake.deletion WHERE root_table = 'post'::regclass;
DROP SCHEMA unwatched CASCADE;
DROP SCHEMA unwatched_deleted CASCADE;
DELETE FROM keepsake.deletion WHERE root_table::oid NOT IN (SELECT oid FROM pg_class);
RESET search_path;
RESET client_min_messages;
