-- Purge of chosen rows: the rest of their deletions can still be restored.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('thread', 1) AS d \gset
-- A live row, and one that is not there, are no deleted rows.
SELECT keepsake.purge_rows('comment', '[{"id": 200}, {"id": 7}]') AS report;
SELECT keepsake.purge_rows('comment', '[]') -> 'rows' AS none;
-- 102 and 103 hang on 101: a row goes with what refers to it, or not at all.
SELECT keepsake.purge_rows('comment', '[{"id": 101}]') AS report;
SELECT keepsake.purge_rows('comment', '[{"id": 101}, {"id": 102}, {"id": "103"}]') AS report;
SELECT keepsake.purge_rows('post', '[{"id": 10}]') AS referred_to;
SELECT keepsake.purge_rows('likes', '[{"post_id": 10, "member_id": "00000000-0000-0000-0000-000000000001"}]') -> 'rows' AS one;
SELECT relation, row_count, purged FROM keepsake.deletion_table WHERE deletion_id = :'d' ORDER BY relation::text;
SELECT state, settled_at IS NULL AS open FROM keepsake.deletion WHERE id = :'d';
SELECT keepsake.restore(:'d') -> 'restored' AS restored;
SELECT * FROM live ORDER BY tbl;
ROLLBACK;

-- The last row of a deletion.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('comment', 200) AS d \gset
SELECT keepsake.purge_rows('comment', '[{"id": 200}]') -> 'rows' AS one;
SELECT state, settled_at = now() AS settled, settled_role = current_user AS by_me FROM keepsake.deletion WHERE id = :'d';
SELECT row_count, purged FROM keepsake.deletion_table WHERE deletion_id = :'d';
SELECT keepsake.purge_batch(100, now() + '31 days') -> 'rows' AS nothing;
\set VERBOSITY sqlstate
SELECT keepsake.restore(:'d');
\set VERBOSITY default
ROLLBACK;

-- What let go of its last row is forgotten; deletions that were put off are not touched.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('comment', 200) AS d \gset
INSERT INTO keepsake.detached (deletion_id, relation, reference, columns, changed, key_columns, row_keys, old_values)
VALUES (:'d', 'comment', '', '{}', '{}', '{}', '{}', '{}');
SELECT keepsake.soft_delete('comment', 103) AS other \gset
UPDATE keepsake.deletion SET put_off_at = now() WHERE id = :'other';
SELECT keepsake.purge_rows('comment', '[{"id": 200}]') -> 'rows' AS one;
SELECT (SELECT count(*) FROM keepsake.detached WHERE deletion_id = :'d') AS detached, put_off_at = now() AS put_off
FROM keepsake.deletion WHERE id = :'other';
ROLLBACK;

-- A deletion with a held row stays whole.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('post', 10) IS NOT NULL AS done, keepsake.soft_delete('post', 20) IS NOT NULL AS too;
SELECT keepsake.hold('comment', 100, 'case 7') IS NOT NULL AS held;
SELECT keepsake.purge_rows('comment', '[{"id": 103}, {"id": 200}]') AS report;
SELECT id FROM comment WHERE id IN (103, 200);
ROLLBACK;

-- For the owner, and for whom it is granted to.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('comment', 200) IS NOT NULL AS done;
CREATE ROLE regress_stranger;
GRANT SELECT, DELETE ON comment TO regress_stranger;
SET LOCAL ROLE regress_stranger;
SAVEPOINT s;
SELECT keepsake.purge_rows('comment', '[{"id": 200}]');
ROLLBACK TO s;
RESET ROLE;
GRANT EXECUTE ON FUNCTION keepsake.purge_rows TO regress_stranger;
SET LOCAL ROLE regress_stranger;
SAVEPOINT s;
SELECT keepsake.purge_rows('comment', '[{"id": 200}]');
ROLLBACK TO s;
RESET ROLE;
-- What is no key.
SAVEPOINT s;
SELECT keepsake.purge_rows('comment', '[{"id": "x"}]');
ROLLBACK TO s;
SELECT keepsake.purge_rows('comment', '{"id": 200}');
ROLLBACK TO s;
CREATE TABLE free (id int PRIMARY KEY);
SELECT keepsake.purge_rows('free', '[{"id": 1}]');
ROLLBACK TO s;
CREATE TABLE apart (id int PRIMARY KEY); SELECT keepsake.manage('apart', keep => 'archive');
SAVEPOINT s;
SELECT keepsake.purge_rows('apart', '[{"id": 1}]');
ROLLBACK TO s;
SELECT keepsake.purge_rows(0, '[]');
ROLLBACK;
