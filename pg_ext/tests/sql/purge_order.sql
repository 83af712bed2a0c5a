-- What cannot go stands in nobody's way, and the dry run says why.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('post', id) IS NOT NULL AS done FROM post ORDER BY id;
UPDATE keepsake.deletion SET purge_failed_at = now() + interval '30 days' WHERE root_key = '{"id": 10}';
SELECT keepsake.hold(id, 'case') IS NOT NULL AS held FROM keepsake.deletion WHERE root_key = '{"id": 11}';
SELECT * FROM keepsake.purge_plan();
SELECT * FROM keepsake.purge_plan(now() + '30 days');
SELECT * FROM keepsake.purge_plan(now() + '31 days');
SELECT keepsake.purge_batch(100, now() + '30 days') -> 'tables' AS gone;
ROLLBACK;

-- Blocked through and through: a comment kept longer, the one it replies to, and their post.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('comment', 102) AS kept \gset
SELECT keepsake.set_deletion_retention(:'kept', '90 days');
SELECT keepsake.soft_delete('post', 10) AS post \gset
SELECT * FROM keepsake.purge_plan(now() + '31 days');
SELECT keepsake.purge_batch(100, now() + '31 days') AS report;
SELECT * FROM keepsake.purge_plan(now() + '31 days');
SELECT keepsake.purge_batch(100, now() + '31 days') AS report;
SELECT state, put_off_at IS NOT NULL AS put_off FROM keepsake.deletion WHERE id = :'post';
-- For ten minutes it is passed over.
UPDATE keepsake.deletion SET put_off_at = now() + interval '31 days' WHERE put_off_at IS NOT NULL;
SELECT keepsake.purge_batch(100, now() + '31 days 9 minutes') -> 'tables' AS passed_over;
SELECT keepsake.purge_batch(100, now() + '31 days 10 minutes') -> 'tables' AS looked_at;
SELECT keepsake.purge_batch(100, now() + '91 days') -> 'rows' AS rows;
ROLLBACK;

-- Rows that refer to each other, or to themselves.
CREATE TABLE node (id int PRIMARY KEY, next int REFERENCES node ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
CREATE INDEX ON node (next);
SELECT keepsake.manage('node', '0');
BEGIN;
INSERT INTO node VALUES (1, 1), (2, 3), (3, 4), (4, 2);
INSERT INTO node SELECT n, n - 1 FROM generate_series(11, 3000) n WHERE n > 11 UNION ALL VALUES (11, NULL::int);
SET CONSTRAINTS ALL IMMEDIATE;
SELECT count(DISTINCT keepsake.soft_delete('node', id)) FROM node WHERE id IN (1, 2, 11);
SELECT * FROM keepsake.purge_plan();
SELECT keepsake.purge_batch(10) -> 'rows' AS rows;
SELECT keepsake.purge_batch(1000) -> 'rows' AS rows;
SELECT keepsake.purge_batch(5000) -> 'rows' AS rows;
SELECT count(*) FROM node;
ROLLBACK;
-- A ring whose rows are of two deletions, one of which is kept longer, goes as one when both have expired.
BEGIN;
INSERT INTO node VALUES (1, NULL), (2, 1), (3, 2);
SELECT keepsake.soft_delete('node', 3) AS kept \gset
SELECT keepsake.set_deletion_retention(:'kept', '1 day');
SELECT keepsake.soft_delete('node', 1) AS d \gset
UPDATE node SET next = 2 WHERE id = 1;
SELECT keepsake.purge_batch(100) -> 'tables' AS blocked;
SELECT keepsake.purge_batch(100, now() + '1 day') -> 'tables' AS gone;
ROLLBACK;

-- In small batches, and across them: what was blocked goes once its referrer has gone.
INSERT INTO node VALUES (1, NULL), (2, 1), (3, NULL), (4, NULL);
SELECT keepsake.soft_delete('node', 2) IS NOT NULL AS done;
SELECT keepsake.soft_delete('node', 1) IS NOT NULL AS done;
SELECT keepsake.soft_delete('node', 3) IS NOT NULL AS done;
UPDATE keepsake.deletion SET expires_at = expires_at - interval '1 hour' WHERE root_table = 'node'::regclass AND root_key = '{"id": 1}';
CALL keepsake.purge(1);
SELECT id FROM node;
SELECT rows, failed, batches, finished_at IS NOT NULL AS finished, state FROM keepsake.purge_progress ORDER BY id DESC LIMIT 1;
\set VERBOSITY terse
SELECT keepsake.soft_delete('node', 4) IS NOT NULL AS done;
BEGIN;
CALL keepsake.purge();
ROLLBACK;
CALL keepsake.purge(0);
CALL keepsake.purge(10, -1);
SELECT count(*) AS stopped FROM keepsake.purge_progress WHERE state <> 'finished';
CALL keepsake.purge(max_rows => 1);
SELECT count(*) FROM node;
DROP TABLE node;

-- A foreign key from a table that is not managed keeps its row.
BEGIN;
CALL fill();
CREATE TABLE bookmark (post_id bigint REFERENCES post ON DELETE CASCADE DEFERRABLE);
SELECT keepsake.soft_delete('post', 10) IS NOT NULL AS done;
SET LOCAL session_replication_role = replica;
INSERT INTO bookmark VALUES (10);
RESET session_replication_role;
SELECT * FROM keepsake.purge_plan(now() + '31 days');
SELECT keepsake.purge_batch(100, now() + '31 days') -> 'tables' AS report;
SELECT count(*) FROM bookmark;
ROLLBACK;
