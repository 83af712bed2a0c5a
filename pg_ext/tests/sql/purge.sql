-- Purge takes what has expired, children first, and nothing else.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('thread', 1) AS old \gset
SELECT keepsake.purge_batch() AS too_early;
SELECT count(*) FROM keepsake.purge_candidates();
SELECT table_name, count(*) FROM keepsake.purge_candidates(100, now() + '31 days') GROUP BY 1 ORDER BY 1;
SELECT table_name FROM keepsake.purge_candidates(1, now() + '31 days');

-- In batches: children go before their parents, and a purge that has begun cannot be restored from.
SELECT keepsake.purge_batch(3, now() + '31 days') AS first;
SELECT state FROM keepsake.deletion WHERE id = :'old';
SAVEPOINT s;
\set VERBOSITY sqlstate
SELECT keepsake.restore(:'old');
\set VERBOSITY default
ROLLBACK TO s;
SELECT keepsake.purge_batch(100, now() + '31 days') AS rest;
SELECT state, settled_at IS NOT NULL AS settled FROM keepsake.deletion WHERE id = :'old';
SELECT keepsake.purge_batch(100, now() + '31 days') AS nothing_left;
SELECT count(*) FROM thread;
SELECT * FROM live;
\set VERBOSITY sqlstate
SELECT keepsake.restore(:'old');
\set VERBOSITY default
ROLLBACK TO s;
ROLLBACK;

-- The retention of the root's table counts for the whole deletion.
BEGIN;
CALL fill();
SELECT keepsake.set_retention('thread', '10 days'), keepsake.set_retention('comment', '1 day');
SELECT keepsake.soft_delete('thread', 1) IS NOT NULL AS done;
SELECT keepsake.purge_batch(100, now() + '9 days') -> 'rows' AS rows;
SELECT keepsake.purge_batch(100, now() + '10 days') -> 'rows' AS rows;
ROLLBACK;

-- A row that something still refers to waits: here a comment deleted on its own, kept longer.
BEGIN;
CALL fill();
SELECT keepsake.set_retention('comment', '90 days');
SELECT keepsake.soft_delete('comment', 101) IS NOT NULL AS done;
SELECT keepsake.soft_delete('post', 10) IS NOT NULL AS done;
SELECT keepsake.purge_batch(100, now() + '40 days') AS blocked;
SELECT count(*) AS kept FROM comment WHERE deletion_id IS NOT NULL;
SELECT keepsake.purge_batch(100, now() + '91 days') -> 'rows' AS rows;
SELECT * FROM live;
ROLLBACK;

-- A deletion whose rows cannot go does not stand in the way of the others, and is tried again later.
BEGIN;
CALL fill();
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'post % is kept', OLD.id; END $$;
CREATE TRIGGER keep BEFORE DELETE ON post FOR EACH ROW WHEN (OLD.id = 10) EXECUTE FUNCTION keep();
SELECT count(keepsake.soft_delete('post', id)) FROM post;
SELECT keepsake.purge_batch(100, now() + '31 days') AS report;
SELECT id FROM post;
SELECT count(*) AS whole FROM comment WHERE post_id = 10;
SELECT state, purge_error FROM keepsake.deletion ORDER BY id;
DROP TRIGGER keep ON post;
SELECT keepsake.purge_batch(100, now() + '32 days') AS report;
ROLLBACK;

-- Purge of one deletion at once.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('thread', 1) AS d \gset
SELECT keepsake.purge_deletion(:'d') -> 'rows' AS rows;
SELECT keepsake.purge_deletion(:'d') -> 'rows' AS again;
SELECT keepsake.soft_delete('thread', 2) AS e \gset
SELECT keepsake.restore(:'e') IS NOT NULL AS restored;
\set VERBOSITY sqlstate
SELECT keepsake.purge_deletion(:'e');
\set VERBOSITY default
ROLLBACK;

-- The procedure commits between batches, so it runs outside a transaction.
CALL fill();
SELECT keepsake.set_retention('thread', '0'), keepsake.soft_delete('thread', 1) IS NOT NULL AS done;
CALL keepsake.purge(4, 3);
CALL keepsake.purge(4);
SELECT count(*) FROM post WHERE thread_id = 1;
SELECT keepsake.soft_delete('thread', 2) IS NOT NULL AS done;
SELECT keepsake.soft_delete('member', id) IS NOT NULL AS done FROM member;
SELECT keepsake.set_retention('member', '0');
CALL keepsake.purge();
SELECT keepsake.set_retention('member', '30 days'), keepsake.set_retention('thread', '30 days');
SELECT (SELECT count(*) FROM thread) + (SELECT count(*) FROM member) + (SELECT count(*) FROM comment) AS left_over;
