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
DROP SCHEMA kept CASCADE;
DROP SCHEMA kept_deleted CASCADE;
DELETE FROM keepsake.deletion WHERE root_table::oid NOT IN (SELECT oid FROM pg_class);
RESET search_path;
