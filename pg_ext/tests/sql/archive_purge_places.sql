-- Purge of archived rows, wherever they lie: beside those of the batch before, behind many that stay, outside of their row, and in an
-- archive that somebody watches.
CREATE SCHEMA apart;
SET search_path = apart;
CREATE TABLE item (id int PRIMARY KEY, label text);
SELECT keepsake.manage('item', '0', keep => 'archive');
CREATE VIEW left_over AS SELECT count(*), min(id), max(id) FROM apart_deleted.item;
CREATE VIEW states AS SELECT d.state, t.purged, t.row_count, d.settled_at IS NOT NULL AS settled
    FROM keepsake.deletion d JOIN keepsake.deletion_table t ON t.deletion_id = d.id WHERE d.root_table = 'item'::regclass ORDER BY d.id;
INSERT INTO item SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n;
DELETE FROM item WHERE id <= 100;
DELETE FROM item WHERE id BETWEEN 101 AND 15000;
SELECT keepsake.hold(id, 'stays') IS NOT NULL AS held FROM keepsake.deletion WHERE root_table = 'item'::regclass ORDER BY id DESC LIMIT 1;
DELETE FROM item WHERE id BETWEEN 15001 AND 15800;
DELETE FROM item WHERE id BETWEEN 15801 AND 15900;

-- A batch ends in the midst of a deletion, and the next goes on there.
SELECT keepsake.purge_batch(250) - 'last';
SELECT * FROM states; SELECT * FROM left_over;
SELECT keepsake.purge_batch(250) - 'last';
SELECT keepsake.purge_batch(250) - 'last';
SELECT * FROM states; SELECT * FROM left_over;
SELECT keepsake.purge_batch(1000) - 'last';
SELECT * FROM states; SELECT * FROM left_over;

-- What lies before those that went last.
SELECT keepsake.release(id) FROM keepsake.hold WHERE reason = 'stays' AND released_at IS NULL;
SELECT keepsake.purge_batch(5000) - 'last';
SELECT * FROM states; SELECT * FROM left_over;

-- In other orders than they lie, some of a deletion restored before.
DELETE FROM item WHERE id BETWEEN 16001 AND 16010; DELETE FROM item WHERE id BETWEEN 16011 AND 16020;
INSERT INTO item VALUES (16015, 'another');
SELECT keepsake.restore(id, on_conflict => 'skip') IS NOT NULL AS restored FROM keepsake.deletion WHERE root_table = 'item'::regclass AND state = 'deleted' ORDER BY id DESC LIMIT 1;
CALL keepsake.purge(1000);
SELECT * FROM left_over;

-- Values that are stored outside of their row go with it.
CREATE FUNCTION outside() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE found bigint;
BEGIN
    EXECUTE format('SELECT count(DISTINCT chunk_id) FROM %s', (SELECT reltoastrelid::regclass FROM pg_class WHERE oid = 'apart_deleted.item'::regclass)) INTO found;
    RETURN found;
END $$;
INSERT INTO item SELECT n, (SELECT string_agg(md5(n::text || k), '') FROM generate_series(1, 1000) k) FROM generate_series(30001, 30003) n;
DELETE FROM item WHERE id > 30000;
SELECT * FROM outside();
SELECT keepsake.purge_batch() - 'last';
SELECT * FROM outside();

-- A trigger that a superuser has given the archive fires.
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '% goes', old.id; RETURN NULL; END $$;
CREATE TRIGGER watch AFTER DELETE ON apart_deleted.item FOR EACH ROW EXECUTE FUNCTION watch();
DELETE FROM item WHERE id IN (17001, 17002);
SELECT keepsake.purge_batch() - 'last';
DROP TRIGGER watch ON apart_deleted.item;

-- What is undone is there again.
DELETE FROM item WHERE id BETWEEN 18001 AND 18010;
BEGIN;
SELECT keepsake.purge_batch() - 'last'; SELECT * FROM left_over;
ROLLBACK;
SELECT * FROM left_over;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT keepsake.purge_batch() - 'last';
COMMIT;
SELECT * FROM left_over;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA apart, apart_deleted CASCADE;
