-- Ordinary reads do not see deleted rows, by a view or by a policy.
SET client_min_messages = warning;
CREATE SCHEMA hide;
SET search_path = hide;
CREATE ROLE regress_hide_owner;
CREATE ROLE regress_hide_reader;
CREATE ROLE regress_hide_nobody;
GRANT USAGE ON SCHEMA keepsake TO regress_hide_owner, regress_hide_reader, regress_hide_nobody;
GRANT ALL ON SCHEMA hide TO regress_hide_owner;
GRANT USAGE ON SCHEMA hide TO regress_hide_reader, regress_hide_nobody;
SET ROLE regress_hide_owner;
CREATE TABLE album (id int PRIMARY KEY, title text, artist text);
CREATE TABLE track (id int PRIMARY KEY, album_id int REFERENCES album ON DELETE CASCADE, name text);
CREATE INDEX ON track (album_id);
SELECT keepsake.manage('album'), keepsake.manage('track');
CREATE UNIQUE INDEX album_title ON album (title) WHERE deleted_at IS NULL;
INSERT INTO album SELECT n, 'album ' || n, 'a' || n % 2 FROM generate_series(1, 6) n;
INSERT INTO track SELECT n, (n + 1) / 2, 'track ' || n FROM generate_series(1, 12) n;
GRANT SELECT, INSERT, UPDATE, DELETE ON album, track TO regress_hide_reader;

-- Refused: another way, a stranger, a table that is not managed, a name that is taken.
SELECT keepsake.hide_deleted('album', 'somehow');
SET ROLE regress_hide_reader;
SELECT keepsake.hide_deleted('album', 'view');
SET ROLE regress_hide_owner;
CREATE TABLE loose (id int PRIMARY KEY);
SELECT keepsake.hide_deleted('loose', 'view');
CREATE TABLE album_live ();
SELECT keepsake.hide_deleted('album', 'view');
DROP TABLE album_live;
CREATE TYPE album_live AS ENUM ();
SELECT keepsake.hide_deleted('album', 'view');
DROP TYPE album_live;

-- The view: live rows, for whoever may read the table, and written through.
SELECT keepsake.hide_deleted('album', 'view'), keepsake.hide_deleted('album', 'view');
SELECT * FROM keepsake.hidden_reads;
SELECT relname, reloptions FROM pg_class WHERE relname = 'album_live';
SELECT keepsake.soft_delete('album', 1) AS d \gset
SELECT id, title, artist FROM album_live ORDER BY id;
INSERT INTO album_live VALUES (7, 'album 7', 'a1') RETURNING *;
UPDATE album_live SET title = 'seventh' WHERE id IN (1, 7) RETURNING *;
DELETE FROM album_live WHERE id = 7 RETURNING *;
SELECT id, deleted_at IS NOT NULL AS deleted FROM album WHERE id IN (1, 7) ORDER BY id;
GRANT SELECT ON album_live TO regress_hide_reader, regress_hide_nobody;
SET ROLE regress_hide_reader;
SELECT count(*) FROM album_live;
SET ROLE regress_hide_nobody;
SELECT count(*) FROM album_live;
SET ROLE regress_hide_owner;

-- A second call brings the columns that came since; it keeps the rights, unless the view is made anew.
ALTER TABLE album ADD year int;
SELECT keepsake.hide_deleted('album', 'view');
SELECT id, title, artist, year FROM album_live WHERE id = 2;
SELECT has_table_privilege('regress_hide_reader', 'album_live', 'SELECT') AS kept;
ALTER TABLE album RENAME artist TO performer;
CREATE VIEW on_top AS SELECT id FROM album_live;
SELECT keepsake.hide_deleted('album', 'view');
DROP VIEW on_top;
SELECT keepsake.hide_deleted('album', 'view');
SELECT id, performer FROM album_live WHERE id = 2;
-- Long names are told from each other.
CREATE TABLE "Ärzte ohne Grenzen und mit sehr langen Namen, die fast gleich1" (id int PRIMARY KEY);
CREATE TABLE "Ärzte ohne Grenzen und mit sehr langen Namen, die fast gleich2" (id int PRIMARY KEY);
SELECT keepsake.manage(oid::regclass), keepsake.hide_deleted(oid::regclass, 'view') FROM pg_class WHERE relname ~ '^Ärzte.*gleich.$' ORDER BY relname;
SELECT view, octet_length(c.relname) FROM keepsake.hidden_reads JOIN pg_class c ON c.oid = view WHERE c.relname ~ '^Ä' ORDER BY c.relname COLLATE "C";
DROP TABLE "Ärzte ohne Grenzen und mit sehr langen Namen, die fast gleich1" CASCADE;
DROP TABLE "Ärzte ohne Grenzen und mit sehr langen Namen, die fast gleich2" CASCADE;
SELECT * FROM keepsake.hidden_reads;
SELECT keepsake.restore(:'d') -> 'restored' AS restored;

-- The policy, for the owner as well. The view goes.
SELECT keepsake.hide_deleted('album', 'policy'), keepsake.hide_deleted('track', 'policy');
SELECT keepsake.hide_deleted('album', 'policy');
SELECT to_regclass('album_live');
SELECT * FROM keepsake.hidden_reads ORDER BY 1;
SELECT polrelid::regclass, polname, polpermissive, polcmd FROM pg_policy ORDER BY 1, 2;
SELECT id FROM album ORDER BY id;
PREPARE albums AS SELECT count(*) FROM album;
EXECUTE albums;
BEGIN;
SET LOCAL keepsake.include_deleted = on;
SELECT id FROM album ORDER BY id;
EXECUTE albums;
COMMIT;
EXECUTE albums;

-- Every way to delete, to change and to bring back, for the owner and for others.
SET ROLE regress_hide_reader;
DELETE FROM album WHERE id = 1 RETURNING id, title;
UPDATE album SET deleted_at = now() WHERE id = 2 RETURNING id, deleted_at IS NOT NULL AS deleted;
UPDATE album SET deleted_at = now() WHERE id = 2 RETURNING id;
UPDATE album SET title = title || '!' WHERE id IN (2, 3) RETURNING id, title;
SELECT keepsake.soft_delete('album', 3) AS d \gset
SELECT keepsake.soft_delete('album', 3) = :'d' AS same;
PREPARE remove(int) AS DELETE FROM album WHERE id = $1 RETURNING id;
EXECUTE remove(4);
EXECUTE remove(4);
MERGE INTO album a USING (VALUES (5, true), (6, false), (9, false)) v (id, gone) ON a.id = v.id
    WHEN MATCHED AND gone THEN DELETE
    WHEN MATCHED THEN UPDATE SET title = 'merged'
    WHEN NOT MATCHED THEN INSERT (id, title) VALUES (v.id, 'inserted');
MERGE INTO album a USING (VALUES (9)) v (id) ON a.id = v.id WHEN MATCHED THEN UPDATE SET deleted_at = now();
SELECT id, title FROM album ORDER BY id;
SELECT count(*) FROM track;
INSERT INTO track VALUES (99, 1, 'under a deleted album');
INSERT INTO album (id, title) VALUES (10, 'album 1') ON CONFLICT (title) WHERE deleted_at IS NULL DO UPDATE SET year = 1 RETURNING id, year;
INSERT INTO album (id, title) VALUES (11, 'album 1') ON CONFLICT (title) WHERE deleted_at IS NULL DO UPDATE SET year = 2 RETURNING id, year;
INSERT INTO album (id, title) VALUES (1, 'x') ON CONFLICT DO NOTHING;
INSERT INTO album (id, title) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET year = 3;
-- A hidden row conflicts with a live one; both may be seen, so both are named.
RESET ROLE;
SELECT id AS d1 FROM keepsake.deletion WHERE root_table = 'album'::regclass AND root_key = '{"id": 1}' AND state = 'deleted' \gset
SET ROLE regress_hide_reader;
SELECT kind, table_name, key, constraint_name, key_values, holder FROM keepsake.restore_conflicts(:'d1');
DELETE FROM album WHERE id = 10;
SELECT keepsake.restore(:'d1') -> 'restored' AS restored;
SELECT keepsake.restore(:'d') -> 'restored' AS restored;
SELECT id, title FROM album ORDER BY id;
-- Many roots at once, by one UPDATE.
UPDATE album SET deleted_at = now() WHERE id IN (1, 3);
SELECT id FROM album ORDER BY id;
-- Only the statement itself sees what it deletes.
BEGIN;
UPDATE album SET deleted_at = now() WHERE id = 6;
SELECT count(*) FROM album WHERE id = 6;
ROLLBACK;
-- Without the right to delete, a hidden row stays out of reach.
RESET ROLE;
SELECT id AS d FROM keepsake.deletion WHERE root_table = 'album'::regclass AND root_key IS NULL AND state = 'deleted' \gset
GRANT SELECT ON album TO regress_hide_nobody;
\set VERBOSITY sqlstate
SET ROLE regress_hide_nobody;
SELECT keepsake.restore(:'d');
\set VERBOSITY default
SET ROLE regress_hide_owner;
-- Parallel workers see what the session sees.
SET min_parallel_table_scan_size = 0;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
EXPLAIN (COSTS off) SELECT count(*) FROM album;
SELECT count(*) FROM album;
SET keepsake.include_deleted = on;
SELECT count(*) FROM album;
RESET keepsake.include_deleted;
SELECT keepsake.restore(:'d') -> 'restored' AS restored;
RESET min_parallel_table_scan_size;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;

-- Undone: nothing is left.
SELECT keepsake.hide_deleted('track', 'nothing'), keepsake.hide_deleted('track', 'nothing');
SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = 'track'::regclass;
SELECT polname FROM pg_policy WHERE polrelid = 'track'::regclass;

-- Beside policies of the application's own: these stay, and hide what they hid.
CREATE TABLE note (id int PRIMARY KEY, owner name, body text);
SELECT keepsake.manage('note');
GRANT SELECT, INSERT, UPDATE, DELETE ON note TO regress_hide_reader, regress_hide_nobody;
CREATE POLICY mine ON note USING (owner = current_user);
SELECT keepsake.hide_deleted('note', 'policy');
ALTER TABLE note ENABLE ROW LEVEL SECURITY;
SELECT keepsake.hide_deleted('note', 'policy');
INSERT INTO note VALUES (1, 'regress_hide_reader'), (2, 'regress_hide_reader'), (3, 'regress_hide_nobody');
SET ROLE regress_hide_reader;
DELETE FROM note RETURNING id;
SELECT id FROM note;
SET keepsake.include_deleted = on;
SELECT id FROM note ORDER BY id;
RESET keepsake.include_deleted;
SET ROLE regress_hide_nobody;
SET keepsake.include_deleted = on;
SELECT id FROM note ORDER BY id;
RESET keepsake.include_deleted;
RESET ROLE;
SELECT id AS d FROM keepsake.deletion WHERE root_table = 'note'::regclass \gset
\set VERBOSITY sqlstate
SET ROLE regress_hide_nobody;
SELECT keepsake.restore(:'d');
\set VERBOSITY default
SET ROLE regress_hide_reader;
SELECT keepsake.restore(:'d') -> 'restored' AS restored;
SELECT id FROM note ORDER BY id;
SET ROLE regress_hide_owner;
SELECT keepsake.hide_deleted('note', 'nothing');
SELECT relrowsecurity, relforcerowsecurity, array(SELECT polname FROM pg_policy WHERE polrelid = c.oid) FROM pg_class c WHERE oid = 'note'::regclass;

-- Partitioned; and unmanage takes back what hides.
CREATE TABLE event (id int, day int, body text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (10);
CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM (10) TO (20);
SELECT keepsake.manage('event');
INSERT INTO event VALUES (1, 1), (2, 11), (3, 12);
SELECT keepsake.hide_deleted('event', 'policy');
DELETE FROM event WHERE id = 1 RETURNING id;
UPDATE event SET deleted_at = now() WHERE id = 2;
UPDATE event SET day = 2 WHERE id = 3 RETURNING id, day;
SELECT tableoid::regclass, id FROM event;
-- So do statements that name a partition.
INSERT INTO event VALUES (4, 3), (5, 4), (6, 15);
SELECT id FROM event_1 ORDER BY id;
DELETE FROM event_1 WHERE id = 4 RETURNING id;
DELETE FROM event_1 WHERE id = 1 RETURNING id;
UPDATE event_1 SET body = 'y' RETURNING id;
UPDATE event_2 SET body = 'y';
MERGE INTO event_1 e USING (VALUES (1, 1), (5, 4)) v (id, day) ON e.id = v.id AND e.day = v.day
    WHEN MATCHED THEN UPDATE SET body = 'z' WHEN NOT MATCHED THEN INSERT VALUES (v.id + 100, v.day);
SELECT id, body FROM event_1 ORDER BY id;
RESET ROLE;
SELECT id, deleted_at IS NOT NULL AS deleted, body FROM event ORDER BY id;
SET ROLE regress_hide_owner;
-- Partitions that come later, at every level. Policies that an attached table has stay in effect, or out of it.
CREATE TABLE event_3 PARTITION OF event FOR VALUES FROM (20) TO (30) PARTITION BY RANGE (id);
CREATE TABLE event_3_1 PARTITION OF event_3 FOR VALUES FROM (0) TO (100);
CREATE TABLE event_4 (LIKE event INCLUDING ALL);
ALTER TABLE event ATTACH PARTITION event_4 FOR VALUES FROM (30) TO (40);
CREATE TABLE event_5 (LIKE event INCLUDING ALL);
CREATE POLICY mine ON event_5 USING (id < 10);
CREATE TABLE event_6 (LIKE event INCLUDING ALL);
CREATE POLICY mine ON event_6 USING (id < 10);
ALTER TABLE event_6 ENABLE ROW LEVEL SECURITY;
ALTER TABLE event ATTACH PARTITION event_5 FOR VALUES FROM (40) TO (50);
ALTER TABLE event ATTACH PARTITION event_6 FOR VALUES FROM (50) TO (60);
SELECT c.relname, relrowsecurity, relforcerowsecurity, array(SELECT polname FROM pg_policy WHERE polrelid = c.oid ORDER BY 1)
FROM pg_class c WHERE relname ~ '^event(_\d)*$' ORDER BY relname;
INSERT INTO event VALUES (7, 25), (8, 26), (9, 35), (10, 36), (9, 55), (11, 56);
DELETE FROM event_3_1 WHERE id = 7;
DELETE FROM event_3 WHERE id = 8;
DELETE FROM event_4 WHERE id = 9;
SELECT (SELECT count(*) FROM event_3_1), (SELECT count(*) FROM event_3), (SELECT array_agg(id) FROM event_4), (SELECT array_agg(id) FROM event_6);
RESET ROLE;
SELECT severity, check_name, object, finding, fix FROM keepsake.doctor() WHERE object ~ 'event' AND check_name ~ 'hid';
SET ROLE regress_hide_owner;
-- One that is detached is an ordinary table. Attached again, it is none.
ALTER TABLE event DETACH PARTITION event_4;
ALTER TABLE event_3 DETACH PARTITION event_3_1;
ALTER TABLE event DETACH PARTITION event_6;
SELECT id, deleted_at IS NOT NULL AS deleted FROM event_4 ORDER BY id;
SELECT c.relname, relrowsecurity, relforcerowsecurity, array(SELECT polname FROM pg_policy WHERE polrelid = c.oid ORDER BY 1)
FROM pg_class c WHERE relname ~ '^event(_\d)*$' ORDER BY relname;
ALTER TABLE event_3 ATTACH PARTITION event_3_1 FOR VALUES FROM (0) TO (100);
ALTER TABLE event ATTACH PARTITION event_4 FOR VALUES FROM (30) TO (40);
SELECT (SELECT count(*) FROM event_3_1), (SELECT array_agg(id) FROM event_4);
DROP TABLE event_5, event_6;
RESET ROLE;
SELECT keepsake.restore(id) -> 'restored' AS restored FROM keepsake.deletion
WHERE root_table = 'event'::regclass AND state = 'deleted' AND root_key ->> 'id' NOT IN ('1', '2');
SET ROLE regress_hide_owner;
SELECT tableoid::regclass, id FROM event ORDER BY id;
DELETE FROM event WHERE id > 3;
SELECT keepsake.hide_deleted('event', 'view');
SELECT c.relname, relrowsecurity, relforcerowsecurity, array(SELECT polname FROM pg_policy WHERE polrelid = c.oid ORDER BY 1)
FROM pg_class c WHERE relname ~ '^event(_\d)*$' ORDER BY relname;
SELECT * FROM event_live;
UPDATE event_live SET body = 'x' RETURNING *;
RESET ROLE;
SELECT count(keepsake.restore(id)) FROM keepsake.deletion WHERE root_table = 'event'::regclass;
SET ROLE regress_hide_owner;
SELECT id FROM event_live ORDER BY id;
SELECT keepsake.unmanage('event');
SELECT to_regclass('event_live');
SELECT keepsake.manage('loose'), keepsake.hide_deleted('loose', 'policy'), keepsake.unmanage('loose');
SELECT relrowsecurity, relforcerowsecurity, array(SELECT polname FROM pg_policy WHERE polrelid = c.oid) FROM pg_class c WHERE oid = 'loose'::regclass;
-- A policy would hide deleted parents from the owner of another table that refers to them.
CREATE TABLE review (id int PRIMARY KEY, track_id int REFERENCES track ON DELETE CASCADE);
SELECT keepsake.manage('review');
GRANT SELECT ON track TO regress_hide_nobody;
RESET ROLE;
GRANT regress_hide_nobody TO regress_hide_owner;
ALTER TABLE review OWNER TO regress_hide_nobody;
SET ROLE regress_hide_owner;
SELECT keepsake.hide_deleted('track', 'policy');
SELECT keepsake.hide_deleted('track', 'view');
-- A view that is dropped is forgotten.
DROP VIEW track_live;
SELECT * FROM keepsake.hidden_reads ORDER BY 1;

RESET ROLE;
DELETE FROM keepsake.deletion WHERE root_table IN ('album'::regclass, 'note', 'event');
DROP SCHEMA hide CASCADE;
SELECT * FROM keepsake.hidden_reads;
DROP OWNED BY regress_hide_owner, regress_hide_reader, regress_hide_nobody;
DROP ROLE regress_hide_owner, regress_hide_reader, regress_hide_nobody;
