-- Tables with archives that are bound to the bucket: an object lives as long as a live or an archived row names it.
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
CREATE SCHEMA album;
SET search_path = album, public;
CREATE TABLE folder (id int PRIMARY KEY);
CREATE TABLE photo (id int PRIMARY KEY, folder_id int REFERENCES folder ON DELETE CASCADE, key text NOT NULL, until timestamptz, title text);
SELECT keepsake.bind_storage('photo', 'key');
SELECT keepsake.manage('folder', '0', keep => 'archive', cascade => true), keepsake.manage('photo', '0');
SELECT keepsake.bind_storage('photo', 'key');
CREATE INDEX ON photo (key);
SELECT keepsake.bind_storage('photo', 'key', 'until');
SELECT object_key, writable_until FROM keepsake.archive_table WHERE relation = 'photo'::regclass;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'photo'::regclass AND NOT tgisinternal ORDER BY 1;
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'album_deleted.photo'::regclass ORDER BY 1;
CREATE FUNCTION last(of regclass) RETURNS uuid LANGUAGE sql AS
    $$ SELECT id FROM keepsake.deletion WHERE root_table = of AND state = 'deleted' ORDER BY id DESC LIMIT 1 $$;
CREATE VIEW waiting AS SELECT object_key, relation = to_regclass('album.photo') AS of_photo, writable_until > now() AS still_writable FROM keepsake.outbox ORDER BY 1;
-- What a worker would delete.
CREATE FUNCTION leased() RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE keepsake.outbox SET next_attempt_at = now(), lease = NULL, leased_until = NULL;
    RETURN QUERY SELECT l.object_key FROM keepsake.lease_objects(10, '1 minute') AS l ORDER BY 1;
END $$;
SELECT count(*) FROM keepsake.doctor() WHERE object ~ '^album' AND severity <> 'info';

\echo == A DELETE that archives hands nothing over; the purge does, in the same transaction.
INSERT INTO folder VALUES (1), (2);
INSERT INTO photo VALUES (1, 1, 'a', now() + '1 hour'), (2, 1, 'b', NULL), (3, 2, 'c', NULL), (4, NULL, 'd', NULL);
DELETE FROM folder WHERE id = 1;
TABLE waiting;
BEGIN;
SELECT keepsake.purge_deletion(last('folder')) -> 'rows';
TABLE waiting;
ROLLBACK;
TABLE waiting;
SELECT keepsake.purge_deletion(last('folder')) -> 'rows';
TABLE waiting;
SELECT leased();
DELETE FROM keepsake.outbox;

\echo == One object, named by a live row and by an archived one: it goes with the last of them.
INSERT INTO photo VALUES (5, NULL, 'd');
DELETE FROM photo WHERE id = 4;
SELECT keepsake.purge_deletion(last('photo')) -> 'rows';
TABLE waiting;
SELECT leased();
TABLE waiting;
INSERT INTO photo VALUES (4, NULL, 'd');
DELETE FROM photo WHERE id = 4;
-- A live row gives it up, an archived one still names it.
UPDATE photo SET key = 'e' WHERE id = 5;
TABLE waiting;
SELECT leased();
TABLE waiting;
SELECT keepsake.purge_deletion(last('photo')) -> 'rows';
SELECT leased();
-- Leased, it cannot be named again.
\set VERBOSITY sqlstate
INSERT INTO photo VALUES (6, NULL, 'd');
UPDATE photo SET key = 'd' WHERE id = 5;
\set VERBOSITY default
DELETE FROM keepsake.outbox;

\echo == A restore takes what it brings back out of the outbox, with and without triggers; the key of an archived row stays.
DELETE FROM photo WHERE id = 5;
INSERT INTO keepsake.outbox (object_key, relation) VALUES ('e', 'photo');
SELECT keepsake.change_deleted('photo', '{"id": 5}', 'key', 'x');
SELECT keepsake.change_deleted('photo', '{"id": 5}', 'title', 'x');
SELECT keepsake.restore(last('photo')) -> 'restored';
TABLE waiting;
SELECT keepsake.manage('photo', after_triggers => 'skip');
DELETE FROM photo WHERE id = 5;
INSERT INTO keepsake.outbox (object_key, relation) VALUES ('e', 'photo');
SELECT keepsake.restore(last('photo')) -> 'restored';
TABLE waiting;
SELECT keepsake.manage('photo', after_triggers => 'fire');
-- An older version of the row, which has no place.
BEGIN;
CREATE FUNCTION twice() RETURNS void LANGUAGE sql AS $$
    DELETE FROM photo WHERE id = 5;
    INSERT INTO photo VALUES (5, NULL, 'f');
    DELETE FROM photo WHERE id = 5;
$$;
SELECT twice();
SELECT keepsake.restore(last('photo')) - 'deletion_id';
TABLE waiting;
SELECT leased();
ROLLBACK;

\echo == TRUNCATE.
SELECT keepsake.manage('photo', on_truncate => 'archive');
TRUNCATE photo;
TABLE waiting;
SELECT keepsake.restore(last('photo')) -> 'restored';
SELECT keepsake.manage('photo', on_truncate => 'allow');
BEGIN;
TRUNCATE photo;
TABLE waiting;
SELECT leased();
ROLLBACK;
SELECT keepsake.manage('photo', on_truncate => 'reject');
\echo == Where nothing is archived, what goes is gone.
BEGIN;
SET LOCAL keepsake.capture = off;
DELETE FROM photo WHERE id = 3;
TABLE waiting;
TRUNCATE photo;
TABLE waiting;
ROLLBACK;

\echo == The schema changes: the column is renamed, gets another type, and goes.
DELETE FROM photo WHERE id = 3;
ALTER TABLE photo RENAME COLUMN key TO object;
ALTER TABLE photo RENAME COLUMN until TO writable;
SELECT object_key, writable_until FROM keepsake.archive_table WHERE relation = 'photo'::regclass;
INSERT INTO keepsake.outbox (object_key, relation) VALUES ('c', 'photo');
SELECT leased();
TABLE waiting;
-- The trigger depends on the column.
\set VERBOSITY terse
ALTER TABLE photo ALTER COLUMN object TYPE varchar(40);
\set VERBOSITY default
DROP TRIGGER keepsake_exchange_object ON photo;
ALTER TABLE photo ALTER COLUMN object TYPE varchar(40);
SELECT check_name, object FROM keepsake.doctor() WHERE object ~ '^(album|photo)' AND severity <> 'info';
INSERT INTO photo VALUES (7, NULL, 'g');
DELETE FROM photo WHERE id = 7;
ALTER TABLE photo ALTER COLUMN object TYPE text;
SELECT keepsake.bind_storage('photo', 'object', 'writable');
INSERT INTO photo VALUES (8, NULL, 'h');
DELETE FROM photo WHERE id = 8;
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'album_deleted.photo'::regclass ORDER BY 1;
INSERT INTO keepsake.outbox (object_key, relation) VALUES ('g', 'photo'), ('h', 'photo'), ('i', 'photo');
SELECT leased();
TABLE waiting;
DELETE FROM keepsake.outbox;
SELECT keepsake.purge_deletion(id) -> 'rows' FROM keepsake.deletion WHERE root_table = 'photo'::regclass AND state = 'deleted' ORDER BY id;
TABLE waiting;
DELETE FROM keepsake.outbox;
SELECT count(*) FROM keepsake.doctor() WHERE object ~ '^(album|photo)' AND severity <> 'info';
DROP INDEX album_deleted.photo_object_idx;
SELECT check_name, object, finding, fix FROM keepsake.doctor() WHERE object ~ '^(album|photo)' AND severity <> 'info';
INSERT INTO keepsake.outbox (object_key, relation) VALUES ('i', 'photo');
SELECT leased();
SELECT keepsake.manage('photo');
SELECT leased();
DELETE FROM keepsake.outbox;
BEGIN;
INSERT INTO photo VALUES (9, NULL, 'k');
DELETE FROM photo WHERE id = 9;
ALTER TABLE photo DROP COLUMN object CASCADE;
SELECT check_name, object FROM keepsake.doctor() WHERE object ~ '^(album|photo)' AND severity <> 'info';
SELECT keepsake.purge_deletion(last('photo')) -> 'rows';
TABLE waiting;
ROLLBACK;

\echo == From one way of keeping deleted rows to the other, and back.
INSERT INTO photo VALUES (10, NULL, 'l');
DELETE FROM photo WHERE id = 10;
SELECT keepsake.manage('folder', keep => 'in place', cascade => true);
SELECT tgname FROM pg_trigger WHERE tgrelid = 'photo'::regclass AND tgname ~ 'object|enqueue' ORDER BY 1;
INSERT INTO keepsake.outbox (object_key, relation) VALUES ('l', 'photo');
SELECT leased();
UPDATE photo SET object = 'm' WHERE id = 10;
SELECT keepsake.manage('folder', keep => 'archive', cascade => true);
SELECT tgname FROM pg_trigger WHERE tgrelid = 'photo'::regclass AND NOT tgisinternal ORDER BY 1;
INSERT INTO keepsake.outbox (object_key, relation) VALUES ('l', 'photo');
SELECT leased();
TABLE waiting;
SELECT count(*) FROM keepsake.doctor() WHERE object ~ '^(album|photo)' AND severity <> 'info';

\echo == What a dropped table had archived still names its objects.
BEGIN;
DROP TABLE photo;
INSERT INTO keepsake.outbox (object_key, relation) VALUES ('l', 'folder');
SELECT leased();
SELECT object_key FROM keepsake.outbox;
SELECT keepsake.purge_batch() -> 'rows' AS purged;
SELECT object_key FROM keepsake.outbox;
SELECT leased();
ROLLBACK;

\echo == unmanage() hands over what it gives up.
BEGIN;
SELECT keepsake.unmanage('photo', drop_archive => true);
TABLE waiting;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'photo'::regclass AND NOT tgisinternal ORDER BY 1;
SELECT count(*) FROM keepsake.bound_storage WHERE relation = 'photo'::regclass;
ROLLBACK;

\echo == What live rows name as well is kept, though nobody looks at them any more; also what waits from before.
BEGIN;
INSERT INTO photo VALUES (20, NULL, 'shared'), (21, NULL, 'shared'), (22, NULL, 'own'), (23, NULL, 'early');
DELETE FROM photo WHERE id IN (20, 22);
INSERT INTO keepsake.outbox (object_key, relation) VALUES ('early', 'photo'), ('of_another', 'folder');
SELECT keepsake.unmanage('photo', drop_archive => true);
SELECT object_key FROM keepsake.outbox WHERE object_key IN ('shared', 'own', 'early', 'of_another') ORDER BY 1;
ROLLBACK;
-- So it is of a table that is kept in place.
BEGIN;
CREATE TABLE placed (id int PRIMARY KEY, key text NOT NULL);
CREATE INDEX ON placed (key);
SELECT keepsake.manage('placed'), keepsake.bind_storage('placed', 'key');
INSERT INTO placed VALUES (1, 'early');
INSERT INTO keepsake.outbox (object_key, relation) VALUES ('early', 'placed'), ('late', 'placed');
SELECT keepsake.unmanage('placed');
SELECT object_key FROM keepsake.outbox WHERE object_key IN ('early', 'late') ORDER BY 1;
ROLLBACK;

\echo == Partitions, also those of later, and of another owner than the one who calls.
CREATE ROLE album_owner;
GRANT CREATE, USAGE ON SCHEMA album TO album_owner;
GRANT EXECUTE ON FUNCTION keepsake.bind_storage TO album_owner;
SET ROLE album_owner;
CREATE TABLE scan (id int, part int, key text NOT NULL, PRIMARY KEY (part, id)) PARTITION BY LIST (part);
CREATE INDEX ON scan (key);
CREATE TABLE scan_1 PARTITION OF scan FOR VALUES IN (1);
SELECT keepsake.manage('scan', '0', keep => 'archive', on_truncate => 'allow'), keepsake.bind_storage('scan', 'key');
CREATE TABLE scan_2 PARTITION OF scan FOR VALUES IN (2);
INSERT INTO scan VALUES (1, 1, 'p'), (2, 2, 'q'), (3, 2, 'r');
RESET ROLE;
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgrelid IN ('scan'::regclass, 'scan_1'::regclass, 'scan_2'::regclass) AND NOT tgisinternal ORDER BY 1, 2;
SELECT count(*) FROM keepsake.doctor() WHERE object ~ '^(album\.)?scan' AND severity <> 'info';
BEGIN;
TRUNCATE scan_2;
SELECT object_key FROM keepsake.outbox ORDER BY 1;
SELECT leased();
ROLLBACK;
UPDATE scan SET part = 1 WHERE id = 2;
DELETE FROM scan WHERE id IN (2, 3);
SELECT object_key FROM keepsake.outbox ORDER BY 1;
SELECT keepsake.purge_deletion(last('scan')) -> 'rows';
SELECT leased();
UPDATE scan_1 SET key = 's';
SELECT leased();
CREATE ROLE album_other;
GRANT USAGE ON SCHEMA album TO album_other;
GRANT EXECUTE ON FUNCTION keepsake.bind_storage TO album_other;
SET ROLE album_other;
SELECT keepsake.bind_storage('album.scan', 'key');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION keepsake.bind_storage FROM album_owner, album_other;

DELETE FROM keepsake.outbox;
SET client_min_messages = error;
DROP SCHEMA album CASCADE;
DROP SCHEMA album_deleted CASCADE;
DROP ROLE album_owner, album_other;
DELETE FROM keepsake.deletion WHERE root_table::oid NOT IN (SELECT oid FROM pg_class);
