-- References that a deletion let go of come back with the row that they referred to.
\pset format unaligned
\pset tuples_only on
CREATE SCHEMA kept;
SET search_path = kept, public;
SET client_min_messages = warning;
CREATE FUNCTION last(of regclass) RETURNS uuid LANGUAGE sql AS
    $$ SELECT id FROM keepsake.deletion WHERE root_table = of AND state = 'deleted' ORDER BY id DESC LIMIT 1 $$;
CREATE TABLE a (id int PRIMARY KEY);
CREATE TABLE b (id int PRIMARY KEY);
CREATE TABLE c (id int PRIMARY KEY, a_id int REFERENCES a ON DELETE SET NULL, b_id int REFERENCES b ON DELETE CASCADE,
                d_id int DEFAULT 9 REFERENCES a ON DELETE SET DEFAULT);
SELECT keepsake.manage('a', keep => 'archive', cascade => true), keepsake.manage('b', keep => 'archive', cascade => true);
INSERT INTO a VALUES (1), (2), (3), (9);
INSERT INTO b VALUES (1), (2);
INSERT INTO c VALUES (1, 1, 1, 1), (2, 1, 2, 9), (3, 1, 2, 2), (4, 2, 2, 1);

\echo == By the foreign key: where the column still holds what was left.
DELETE FROM a WHERE id = 1;
SELECT * FROM c ORDER BY 1;
UPDATE c SET a_id = 3 WHERE id = 2;
SELECT keepsake.restore(last('a')) -> 'restored';
SELECT * FROM c ORDER BY 1;
SELECT count(*) FROM keepsake.archive_undo;

\echo == By the application, as an ORM does; another reference that it let go of stays so.
BEGIN;
UPDATE c SET a_id = NULL WHERE a_id = 1;
UPDATE c SET a_id = NULL WHERE id = 4;
DELETE FROM a WHERE id = 1;
COMMIT;
SELECT keepsake.restore(last('a')) -> 'restored';
SELECT * FROM c ORDER BY 1;

\echo == Let go of and then deleted, in one transaction: by either deletion first.
BEGIN;
DELETE FROM a WHERE id = 1;
DELETE FROM b WHERE id = 1;
COMMIT;
SELECT keepsake.restore(last('b')) -> 'restored';
SELECT * FROM c WHERE id = 1;
SELECT keepsake.restore(last('a')) -> 'restored';
SELECT * FROM c WHERE id = 1;
BEGIN;
DELETE FROM a WHERE id = 1;
DELETE FROM b WHERE id = 1;
COMMIT;
SELECT keepsake.restore(last('a')) -> 'restored';
SELECT keepsake.restore(last('b')) -> 'restored';
SELECT * FROM c ORDER BY 1;
\echo == What an earlier deletion of the transaction let go of comes back with the row that another brings along.
CREATE TABLE root (id int PRIMARY KEY);
CREATE TABLE branch (id int, k int, root_id int REFERENCES root ON DELETE CASCADE, PRIMARY KEY (id, k));
CREATE TABLE leaf (id int PRIMARY KEY, branch_id int, branch_k int, FOREIGN KEY (branch_id, branch_k) REFERENCES branch ON DELETE SET NULL);
SELECT keepsake.manage('root', keep => 'archive', cascade => true), keepsake.manage('leaf', keep => 'archive');
INSERT INTO root VALUES (1), (2);
INSERT INTO branch VALUES (1, 1, 1), (2, 1, 2), (3, 1, NULL);
INSERT INTO leaf VALUES (1, 1, 1), (2, 2, 1), (3, 3, 1);
BEGIN;
DELETE FROM branch WHERE id IN (1, 3);
DELETE FROM root WHERE id = 1;
COMMIT;
SELECT keepsake.restore(last('root')) -> 'restored';
SELECT * FROM leaf ORDER BY 1;
SELECT keepsake.restore(last('branch')) -> 'restored';
SELECT * FROM leaf ORDER BY 1;

\echo == The same where the row that let go was deleted after it.
BEGIN;
DELETE FROM branch WHERE id = 1;
DELETE FROM leaf WHERE id = 1;
DELETE FROM root WHERE id = 1;
COMMIT;
SELECT keepsake.restore(last('root')) -> 'restored';
SELECT * FROM leaf ORDER BY 1;
SELECT count(*) FROM keepsake.deletion WHERE root_table = 'leaf'::regclass AND state = 'deleted';

\echo == A row passes to another deletion, and what referred to it with it.
DELETE FROM branch WHERE id IN (1, 2);
DELETE FROM root WHERE id = 1;
SELECT keepsake.restore(last('branch')) -> 'passed' -> 0 -> 'rows';
SELECT * FROM leaf ORDER BY 1;
SELECT keepsake.restore(last('root')) -> 'restored';
SELECT * FROM leaf ORDER BY 1;

\echo == One row of several; the columns of the key and of the reference have other names by now.
DELETE FROM branch WHERE id IN (1, 2);
ALTER TABLE leaf RENAME id TO number;
ALTER TABLE leaf RENAME branch_id TO up;
SELECT keepsake.restore_row('branch', '{"id": 2, "k": 1}'::jsonb) -> 'restored';
SELECT * FROM leaf ORDER BY 1;
SELECT keepsake.restore(last('branch')) -> 'restored';
SELECT * FROM leaf ORDER BY 1;
SELECT count(*) FROM keepsake.archive_undo;

\echo == First to the default, then to NULL: step by step.
BEGIN;
DELETE FROM a WHERE id = 2;
UPDATE c SET d_id = NULL WHERE d_id = 9;
DELETE FROM a WHERE id = 9;
COMMIT;
SELECT * FROM c ORDER BY 1;
SELECT keepsake.restore_group(last('a')) -> 'restored';
SELECT * FROM c ORDER BY 1;
\echo == A row beneath two others of the transaction waits for both.
CREATE TABLE node (id int PRIMARY KEY, left_id int REFERENCES node ON DELETE SET NULL, right_id int REFERENCES node ON DELETE SET NULL);
SELECT keepsake.manage('node', keep => 'archive', cascade => true);
INSERT INTO node VALUES (5, NULL, NULL), (7, NULL, NULL), (2, 5, 7);
BEGIN;
DELETE FROM node WHERE id = 2;
DELETE FROM node WHERE id = 5;
DELETE FROM node WHERE id = 7;
COMMIT;
SELECT keepsake.restore(last('node')) -> 'restored';
SELECT keepsake.restore(last('node')) -> 'restored';
SELECT * FROM node ORDER BY 1;
SELECT state FROM keepsake.deletion WHERE root_table = 'node'::regclass;
\echo == A row that another row of the transaction let go of, and that does not come along: it is not referred to before it is back.
CREATE TABLE twig (id int PRIMARY KEY, up int REFERENCES twig ON DELETE SET NULL, other int DEFAULT 1 REFERENCES twig ON DELETE SET DEFAULT);
SELECT keepsake.manage('twig', keep => 'archive');
INSERT INTO twig (id) VALUES (1), (3);
INSERT INTO twig VALUES (8, NULL, 1);
INSERT INTO twig VALUES (5, 3, 8);
INSERT INTO twig VALUES (4, NULL, 5);
BEGIN;
DELETE FROM twig WHERE id IN (3, 5);
DELETE FROM twig WHERE id IN (4, 8);
COMMIT;
SELECT keepsake.restore(last('twig')) -> 'restored';
SELECT * FROM twig ORDER BY 1;
SELECT keepsake.restore(id) -> 'restored' FROM keepsake.deletion WHERE root_table = 'twig'::regclass AND state = 'deleted';
SELECT * FROM twig ORDER BY 1;
DROP SCHEMA kept CASCADE;
DROP SCHEMA kept_deleted CASCADE;
DELETE FROM keepsake.deletion WHERE root_table::oid NOT IN (SELECT oid FROM pg_class);
RESET search_path;
