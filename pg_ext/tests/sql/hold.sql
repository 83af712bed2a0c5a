-- Legal holds block purge, never a soft delete or restore.
CREATE VIEW left_rows AS SELECT
    (SELECT count(*) FROM thread) AS threads, (SELECT count(*) FROM post) AS posts, (SELECT count(*) FROM comment) AS comments,
    (SELECT count(*) FROM likes) AS likes, (SELECT count(*) FROM member) AS members;

-- A live row, deleted later with its parents: the whole deletion stays.
BEGIN;
CALL fill();
SELECT keepsake.hold('comment', 101, 'case 7') AS h \gset
SELECT keepsake.hold('comment', '101', 'again') = :h AS same;
SELECT relation, row_key, reason, actor = current_user AS mine, released_at FROM keepsake.hold;
SELECT keepsake.soft_delete('thread', 1) AS d \gset
SELECT keepsake.soft_delete('thread', 2) IS NOT NULL AS done;
SELECT keepsake.purge_batch(100, now() + '31 days') -> 'tables' AS gone;
SELECT * FROM left_rows;
SELECT count(*) FROM keepsake.purge_candidates(100, now() + '31 days');
SELECT * FROM keepsake.purge_plan(now() + '31 days');
SAVEPOINT s;
\set VERBOSITY sqlstate
SELECT keepsake.purge_deletion(:'d');
ROLLBACK TO s;
\set VERBOSITY default
-- Restored and deleted again, it is held as before; released, it goes.
SELECT keepsake.restore(:'d') IS NOT NULL AS restored;
SELECT keepsake.soft_delete('post', 10) AS d \gset
SELECT keepsake.purge_batch(100, now() + '31 days') -> 'rows' AS held;
SELECT keepsake.release(:h), keepsake.release(:h) AS again;
SELECT keepsake.purge_batch(100, now() + '31 days') -> 'rows' AS gone;
SELECT released_by = current_user AS released, reason FROM keepsake.hold;
SELECT * FROM left_rows;
ROLLBACK;

-- A deletion, a tenant; a hold at the head of the queue does not stop what is behind it.
BEGIN;
CALL fill();
SET LOCAL request.jwt.claims = '{"tenant": "acme", "sub": "u1"}';
SELECT keepsake.soft_delete('post', 10) AS a \gset
SET LOCAL request.jwt.claims = '{"tenant": "other"}';
SELECT keepsake.soft_delete('post', 11) AS b \gset
RESET request.jwt.claims;
SELECT keepsake.soft_delete('post', 20) AS c \gset
SELECT keepsake.hold_tenant('acme', 'audit') AS t \gset
SELECT keepsake.hold_tenant('acme', 'audit') = :t AS same;
SET LOCAL keepsake.actor = 'counsel';
SELECT keepsake.hold(:'b', 'case 8') AS h \gset
SELECT actor, tenant, deletion_id = :'b' AS b FROM keepsake.hold ORDER BY id;
SELECT * FROM keepsake.purge_plan(now() + '31 days');
SELECT keepsake.purge_batch(1, now() + '31 days') -> 'tables' AS gone;
SELECT keepsake.purge_batch(100, now() + '31 days') -> 'tables' AS gone;
SELECT keepsake.restore(:'a') IS NOT NULL AS restored;
SELECT keepsake.release(:h);
SELECT keepsake.purge_batch(100, now() + '31 days') -> 'rows' AS gone;
\set VERBOSITY sqlstate
SAVEPOINT s;
SELECT keepsake.hold(:'b', 'too late');
ROLLBACK TO s;
SELECT keepsake.hold(:'a', 'restored');
ROLLBACK TO s;
SELECT keepsake.hold('post', 11, 'gone');
ROLLBACK TO s;
SELECT keepsake.hold('post', 10, NULL);
ROLLBACK TO s;
SELECT keepsake.release(-1);
\set VERBOSITY default
ROLLBACK;

-- A held row that passes to another deletion holds that one.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('post', 10) AS post \gset
SELECT keepsake.soft_delete('member', '00000000-0000-0000-0000-000000000001') AS member \gset
SELECT keepsake.hold('likes', '{"post_id": 10, "member_id": "00000000-0000-0000-0000-000000000001"}'::jsonb, 'case 9') AS h \gset
SELECT keepsake.restore(:'post') -> 'passed' -> 0 -> 'rows' AS passed;
SELECT keepsake.purge_batch(100, now() + '31 days') -> 'rows' AS held;
\set VERBOSITY sqlstate
SAVEPOINT s;
SELECT keepsake.purge_deletion(:'member');
ROLLBACK TO s;
\set VERBOSITY default
SELECT keepsake.release(:h);
SELECT keepsake.purge_batch(100, now() + '31 days') -> 'rows' AS gone;
ROLLBACK;

-- A held row keeps its key.
BEGIN;
CREATE TABLE tag (name text PRIMARY KEY);
INSERT INTO tag VALUES ('Red'), ('Blue');
SELECT keepsake.manage('tag', '0');
SELECT keepsake.hold('tag', 'Red', 'case 10') AS h \gset
SELECT row_key FROM keepsake.hold;
SAVEPOINT s;
UPDATE tag SET name = 'Green' WHERE name = 'Red';
ROLLBACK TO s;
UPDATE tag SET name = 'Green' WHERE name = 'Blue';
SELECT count(keepsake.soft_delete('tag', name)) FROM tag;
SELECT keepsake.purge_batch() -> 'rows' AS gone;
SELECT name FROM tag;
-- A key column renamed since: better all held than the wrong one gone.
ALTER TABLE tag RENAME name TO title;
SELECT keepsake.purge_batch() -> 'rows' AS held;
DROP TABLE tag;
SELECT count(*) FROM keepsake.hold;
ROLLBACK;

-- Who may.
BEGIN;
CALL fill();
CREATE ROLE regress_holder;
GRANT USAGE ON SCHEMA keepsake TO regress_holder;
GRANT SELECT ON thread TO regress_holder;
SELECT keepsake.soft_delete('thread', 1) AS d \gset
SET LOCAL ROLE regress_holder;
\set VERBOSITY sqlstate
SAVEPOINT s;
SELECT keepsake.hold('thread', 2, 'mine');
ROLLBACK TO s;
SELECT keepsake.hold(:'d', 'mine');
ROLLBACK TO s;
SELECT keepsake.hold_tenant('acme', 'mine');
ROLLBACK TO s;
SELECT keepsake.release(1);
ROLLBACK TO s;
SELECT * FROM keepsake.hold;
ROLLBACK TO s;
RESET ROLE;
GRANT DELETE ON thread TO regress_holder;
SET LOCAL ROLE regress_holder;
SELECT keepsake.hold('thread', 2, 'mine') IS NOT NULL AS live, keepsake.hold('thread', 1, 'mine') IS NOT NULL AS deleted,
       keepsake.hold(:'d', 'mine') IS NOT NULL AS deletion;
RESET ROLE;
SELECT DISTINCT actor FROM keepsake.hold;
\set VERBOSITY default
ROLLBACK;
DROP VIEW left_rows;
