-- Purge of archived rows: in any order, in batches, not while they are held, and running nobody's code.
CREATE SCHEMA past;
SET search_path = past;
CREATE TABLE post (id int PRIMARY KEY, title text);
CREATE TABLE comment (id int PRIMARY KEY, post_id int REFERENCES post ON DELETE CASCADE);
SELECT keepsake.manage('post', '0', keep => 'archive', cascade => true);
INSERT INTO post SELECT n, 'post ' || n FROM generate_series(1, 6) n;
INSERT INTO comment SELECT n, (n + 9) / 10 FROM generate_series(1, 60) n;
CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the purge ran code of the owner''s'; END $$;
CREATE VIEW left_over AS SELECT (SELECT count(*) FROM past_deleted.post) AS posts, (SELECT count(*) FROM past_deleted.comment) AS comments;
CREATE VIEW states AS SELECT d.root_key, d.state, (SELECT string_agg(format('%s %s/%s', t.relation, t.purged, t.row_count), ', ' ORDER BY t.relation::text) FROM keepsake.deletion_table t WHERE t.deletion_id = d.id) AS purged
    FROM keepsake.deletion d WHERE d.root_table IN ('past.post'::regclass, 'past.comment'::regclass) ORDER BY d.id;
DELETE FROM post WHERE id = 1; DELETE FROM post WHERE id = 2; DELETE FROM post WHERE id = 3; DELETE FROM comment WHERE id = 31;
CREATE TRIGGER spy AFTER DELETE ON past.post FOR EACH ROW EXECUTE FUNCTION spy();

-- In batches: a deletion that was begun cannot be restored any more.
SELECT keepsake.purge_batch(15) - 'last';
SELECT * FROM states; SELECT * FROM left_over;
-- A hold keeps a deletion.
SELECT keepsake.hold(id, 'a case') IS NOT NULL AS held FROM keepsake.deletion WHERE root_table = 'post'::regclass AND root_key = '{"id": 3}';
SELECT keepsake.purge_batch();
SELECT * FROM states; SELECT * FROM left_over;
SELECT keepsake.release(id) FROM keepsake.hold WHERE reason = 'a case' AND released_at IS NULL;
UPDATE keepsake.deletion SET put_off_at = NULL;
CALL keepsake.purge();
SELECT * FROM states; SELECT * FROM left_over;

-- A row is held, live or archived, by its key; the deletion that it is in is not purged.
INSERT INTO post VALUES (11, 'k'), (12, 'l'), (13, 'm');
DROP TRIGGER spy ON post; SELECT keepsake.hold('post', 11, 'a live row') IS NOT NULL AS live; DELETE FROM post WHERE id IN (11, 12);
DELETE FROM post WHERE id = 13; SELECT keepsake.hold('post', '13', 'an archived row') IS NOT NULL AS archived;
SELECT keepsake.hold('post', 99, 'none');
SELECT keepsake.purge_batch();
SELECT * FROM states OFFSET 4; SELECT * FROM left_over;
SELECT keepsake.release(id) FROM keepsake.hold WHERE reason ~ ' row$' AND released_at IS NULL;
UPDATE keepsake.deletion SET put_off_at = NULL;
SELECT keepsake.purge_batch();

-- Retention of its own; one deletion at once, whatever its retention.
SELECT keepsake.set_retention('post', '30 days');
DELETE FROM post WHERE id = 4; DELETE FROM post WHERE id = 5;
SELECT keepsake.purge_batch();
SELECT keepsake.purge_deletion(id) FROM keepsake.deletion WHERE root_table = 'post'::regclass AND root_key = '{"id": 4}';
SELECT * FROM states OFFSET 6; SELECT * FROM left_over;
SELECT keepsake.set_retention('post', '0');
SELECT keepsake.purge_batch();

-- What a dropped table had deleted stays until its retention is over.
SELECT keepsake.set_retention('post', '1 day');
DELETE FROM post WHERE id = 6;
SELECT count(*) AS lost FROM keepsake.doctor() WHERE check_name = 'deletion_lost' \gset
DROP VIEW states, left_over; DROP TABLE post CASCADE;
SELECT count(*) FROM past_deleted.post;
SELECT count(*) - :lost AS lost_since FROM keepsake.doctor() WHERE check_name = 'deletion_lost';
SELECT keepsake.purge_batch(as_of => now() + interval '2 days');
SELECT count(*) FROM past_deleted.post;
SELECT state FROM keepsake.deletion ORDER BY id DESC LIMIT 1;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA past, past_deleted CASCADE;
