-- Deleted parents come back with the rows that refer to them, where both are kept in place or one of both is: rooms, desks and tags in place,
-- items and notes archived; notes are on desks, tags refer to any of them.
\pset format unaligned
\pset tuples_only on
CREATE SCHEMA house;
SET search_path = house, public;
SET client_min_messages = warning;
CREATE TABLE room (id int PRIMARY KEY, name text UNIQUE);
CREATE TABLE desk (id int PRIMARY KEY, room_id int REFERENCES room ON DELETE CASCADE);
CREATE TABLE item (id int PRIMARY KEY, up int REFERENCES item ON DELETE CASCADE);
CREATE TABLE note (id int PRIMARY KEY, desk_id int REFERENCES desk, of_type text, of_id text);
CREATE TABLE tag (id int PRIMARY KEY, of_type text, of_id text);
SELECT keepsake.manage('room'), keepsake.manage('desk'), keepsake.manage('tag'), keepsake.manage('item', keep => 'archive'), keepsake.manage('note', keep => 'archive'),
       keepsake.live_unique('room');
SELECT keepsake.declare_reference('note', 'of_type', 'of_id', 'item', 'item');
SELECT keepsake.declare_reference('tag', 'of_type', 'of_id', parent::text, parent) FROM unnest('{desk,item,note,tag}'::regclass[]) AS parent;
CREATE FUNCTION last(of regclass) RETURNS uuid LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT id FROM keepsake.deletion WHERE root_table = of AND state = 'deleted' ORDER BY id DESC LIMIT 1 $$;
CREATE VIEW live AS SELECT concat_ws(' | ',
    'rooms ' || coalesce((SELECT string_agg(id::text, ' ' ORDER BY id) FROM room WHERE deleted_at IS NULL), '-'),
    'desks ' || coalesce((SELECT string_agg(id::text, ' ' ORDER BY id) FROM desk WHERE deleted_at IS NULL), '-'),
    'items ' || coalesce((SELECT string_agg(id::text, ' ' ORDER BY id) FROM item), '-'),
    'notes ' || coalesce((SELECT string_agg(id::text, ' ' ORDER BY id) FROM note), '-'),
    'tags ' || coalesce((SELECT string_agg(id::text, ' ' ORDER BY id) FROM tag WHERE deleted_at IS NULL), '-'));
CREATE VIEW left_over AS SELECT root_table, relation, row_count FROM keepsake.deletion_table JOIN keepsake.deletion ON id = deletion_id
    WHERE state = 'deleted' AND row_count > 0 AND root_table::text ~ '^(room|desk|item|note|tag)$' ORDER BY 1, 2;
INSERT INTO room VALUES (1, 'one'), (2, 'two');
INSERT INTO desk VALUES (10, 1), (11, 1), (20, 2);
INSERT INTO item VALUES (100, NULL), (101, 100);
INSERT INTO note VALUES (1000, 10, NULL, NULL), (1001, NULL, 'item', '101');
INSERT INTO tag VALUES (1, 'note', '1000'), (2, 'desk', '10'), (3, 'item', '101'), (4, 'tag', '2');
TABLE live;

\echo == An archived row under a row in place, which is under another.
DELETE FROM note WHERE id = 1000;
DELETE FROM room WHERE id = 1;
TABLE live;
SELECT kind, table_name, key FROM keepsake.restore_conflicts(last('note'));
SELECT keepsake.restore(last('note'), 'parents') - 'deletion_id';
TABLE live;
TABLE left_over;
SELECT keepsake.restore(last('room')) -> 'restored';
TABLE live;
TABLE left_over;

\echo == A row in place under an archived one, which is under others of several deletions.
DELETE FROM tag WHERE id = 3;
DELETE FROM item WHERE id = 101;
DELETE FROM item WHERE id = 100;
TABLE live;
SELECT keepsake.restore(last('tag'), 'parents') - 'deletion_id';
TABLE live;
TABLE left_over;
SELECT keepsake.restore(last('item')) -> 'restored';
TABLE live;

\echo == A row in place under archived ones and others in place, in turn.
DELETE FROM tag WHERE id = 1;
DELETE FROM note WHERE id = 1000;
DELETE FROM desk WHERE id = 10;
DELETE FROM room WHERE id = 1;
SELECT keepsake.restore(last('tag'), 'parents') - 'deletion_id';
TABLE live;
TABLE left_over;
SELECT keepsake.restore(last('room')) -> 'restored', keepsake.restore(last('desk')) -> 'restored';
TABLE live;

\echo == In place under in place: of one deletion and of another; a row that would pass to the deletion of its parent.
DELETE FROM tag WHERE id = 4;
DELETE FROM tag WHERE id = 2;
SELECT keepsake.restore((SELECT min(id::text)::uuid FROM keepsake.deletion WHERE root_table = 'tag'::regclass AND state = 'deleted'), 'parents') - 'deletion_id';
TABLE live;
DELETE FROM desk WHERE id IN (11, 20);
DELETE FROM room WHERE id = 2;
SELECT keepsake.restore(last('desk'), 'parents') - 'deletion_id';
TABLE live;
TABLE left_over;

\echo == By row, and by transaction.
DELETE FROM note WHERE id = 1000;
DELETE FROM room WHERE id = 1;
SELECT keepsake.restore_row('note', 1000, 'parents') - 'deletion_id';
SELECT keepsake.restore(last('room')) -> 'restored';
DELETE FROM note WHERE id = 1000;
DELETE FROM room WHERE id = 1;
SELECT keepsake.restore_group(last('note'), 'parents') - 'deletion_id';
SELECT keepsake.restore(last('room')) -> 'restored';
TABLE live;

\echo == What stands in the way of a parent leaves all as it was.
DELETE FROM note WHERE id = 1000;
DELETE FROM room WHERE id = 1;
INSERT INTO room VALUES (3, 'one');
\set VERBOSITY terse
SELECT keepsake.restore(last('note'), 'parents') -> 'restored';
\set VERBOSITY default
TABLE live;
DELETE FROM room WHERE id = 3;

\echo == Nor does a caller restore parents that he may not delete.
CREATE ROLE house_writer;
GRANT USAGE ON SCHEMA house TO house_writer;
GRANT SELECT, INSERT, DELETE ON note, desk TO house_writer;
GRANT SELECT ON room TO house_writer;
SET ROLE house_writer;
\set VERBOSITY terse
SELECT keepsake.restore(last('note'), 'parents') -> 'restored';
\set VERBOSITY default
RESET ROLE;
GRANT DELETE ON room TO house_writer;
ALTER TABLE room ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON room TO house_writer USING (id > 1);
SET ROLE house_writer;
\set VERBOSITY terse
SELECT keepsake.restore(last('note'), 'parents') -> 'restored';
\set VERBOSITY default
RESET ROLE;
ALTER POLICY few ON room USING (true);
SET ROLE house_writer;
SELECT keepsake.restore(last('note'), 'parents') -> 'restored';
RESET ROLE;
TABLE live;
\echo == Parents that do not come back are tried once, however many ways lead to them.
CREATE TABLE brick (id int PRIMARY KEY, name text, one int REFERENCES brick ON DELETE CASCADE, two int REFERENCES brick ON DELETE CASCADE);
SELECT keepsake.manage('brick');
CREATE UNIQUE INDEX brick_name ON brick (name) WHERE deleted_at IS NULL;
INSERT INTO brick VALUES (1, 'ground', NULL, NULL), (2, NULL, 1, 1), (3, NULL, 1, 1);
INSERT INTO brick SELECT n, NULL, n / 2 * 2 - 2, n / 2 * 2 - 1 FROM generate_series(4, 60) AS n;
DO $$ BEGIN FOR n IN REVERSE 60..1 LOOP DELETE FROM brick WHERE id = n; COMMIT; END LOOP; END $$;
INSERT INTO brick VALUES (61, 'ground');
SET statement_timeout = '5min';
\set VERBOSITY sqlstate
SELECT keepsake.restore(deletion_id, 'parents') FROM brick WHERE id = 60;
\set VERBOSITY default
RESET statement_timeout;
SELECT array_agg(id) AS live FROM brick WHERE deleted_at IS NULL;
DELETE FROM brick WHERE id = 61;
SELECT keepsake.restore(deletion_id, 'parents') IS NOT NULL AS restored FROM brick WHERE id = 60;
SELECT count(*) AS live FROM brick WHERE deleted_at IS NULL;
DELETE FROM brick;
SELECT count(keepsake.purge_deletion(id)) > 0 AS purged FROM keepsake.deletion WHERE root_table = 'brick'::regclass AND state = 'deleted';
SELECT count(keepsake.purge_deletion(id)) > 0 FROM keepsake.deletion WHERE root_table IN ('note'::regclass, 'room'::regclass) AND state = 'deleted';
DROP SCHEMA house CASCADE;
DROP SCHEMA house_deleted CASCADE;
DROP ROLE house_writer;
DELETE FROM keepsake.deletion WHERE root_table::oid NOT IN (SELECT oid FROM pg_class);
RESET search_path;
