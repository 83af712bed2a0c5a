-- Archived rows that hang on archived rows by declared references: notes of posts and of comments, and replies to notes.
\pset format unaligned
\pset tuples_only on
CREATE SCHEMA board;
SET search_path = board, public;
SET client_min_messages = warning;
CREATE TABLE post (id bigint PRIMARY KEY, title text);
CREATE TABLE comment (id uuid PRIMARY KEY, post_id bigint REFERENCES post ON DELETE CASCADE);
CREATE TABLE note (id int PRIMARY KEY, of_type text, of_id text, body text UNIQUE);
CREATE TABLE reply (id int PRIMARY KEY, note_id int NOT NULL REFERENCES note ON DELETE CASCADE);
CREATE TABLE place (id int PRIMARY KEY);
CREATE TABLE loose (id int PRIMARY KEY, of_type text, of_id text);
CREATE INDEX ON note (of_type, of_id);
SELECT keepsake.manage('post', keep => 'archive', cascade => true), keepsake.manage('note', keep => 'archive', cascade => true), keepsake.manage('place');
\echo == What cannot be declared.
SELECT keepsake.declare_reference('note', 'of_type', 'of_id', 'place', 'place');
SELECT keepsake.declare_reference('loose', 'of_type', 'of_id', 'post', 'post');
INSERT INTO note VALUES (1, 'post', '1', 'early');
SELECT keepsake.declare_reference('note', 'of_type', 'of_id', 'post', 'post');
DELETE FROM note;
SELECT keepsake.declare_reference('note', 'of_type', 'of_id', 'post', 'post'), keepsake.declare_reference('note', 'of_type', 'of_id', 'comment', 'comment'),
       keepsake.declare_reference('note', 'of_type', 'of_id', 'note', 'note');
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgrelid IN ('post'::regclass, 'note'::regclass) AND NOT tgisinternal ORDER BY 1, 2;
SELECT count(*) FROM keepsake.doctor() WHERE object ~ '^(board|note|post)' AND severity IN ('error', 'warning');
CREATE FUNCTION last(of regclass) RETURNS uuid LANGUAGE sql AS
    $$ SELECT id FROM keepsake.deletion WHERE root_table = of AND state = 'deleted' ORDER BY id DESC LIMIT 1 $$;
CREATE FUNCTION c(n int) RETURNS uuid LANGUAGE sql AS $$ SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid $$;
CREATE VIEW live AS SELECT concat_ws(' | ',
    'posts ' || coalesce((SELECT string_agg(id::text, ' ' ORDER BY id) FROM post), '-'),
    'comments ' || coalesce((SELECT string_agg(right(id::text, 1), ' ' ORDER BY id) FROM comment), '-'),
    'notes ' || coalesce((SELECT string_agg(id::text, ' ' ORDER BY id) FROM note), '-'),
    'replies ' || coalesce((SELECT string_agg(id::text, ' ' ORDER BY id) FROM reply), '-'));
CREATE FUNCTION holds(deletion uuid) RETURNS SETOF text LANGUAGE sql AS
    $$ SELECT relation || ' ' || row_count FROM keepsake.deletion_table WHERE deletion_id = deletion ORDER BY 1 $$;
INSERT INTO post VALUES (1, 'one'), (2, 'two');
INSERT INTO comment VALUES (c(1), 1), (c(2), 2);
INSERT INTO note VALUES (10, 'post', '1', 'a'), (11, 'comment', c(1)::text, 'b'), (20, 'post', '2', 'd'), (30, 'other', '1', 'e');
INSERT INTO note VALUES (12, 'note', '10', 'c');
INSERT INTO reply VALUES (100, 10), (120, 12), (200, 20);
TABLE live;

\echo == What a deletion would do, and does; and what a restore gives back.
SELECT * FROM keepsake.plan_delete('post', 1);
DELETE FROM post WHERE id = 1;
TABLE live;
SELECT * FROM holds(last('post'));
SELECT root_key, (SELECT count(*) FROM keepsake.deletion WHERE state = 'deleted') FROM keepsake.deletion WHERE id = last('post');
SELECT * FROM keepsake.restore_conflicts(last('post'));
SELECT keepsake.restore(last('post')) - 'deletion_id';
TABLE live;
SELECT keepsake.soft_delete('comment', c(1), 'why') IS NOT NULL;
SELECT * FROM holds(last('comment'));
SELECT keepsake.restore(last('comment')) -> 'restored';
BEGIN;
SELECT keepsake.soft_delete('post', 1) IS NOT NULL;
ROLLBACK;
TABLE live;

\echo == No row refers to what is gone.
INSERT INTO note VALUES (13, 'post', '3', 'x');
INSERT INTO note VALUES (13, 'post', 'x', 'x');
UPDATE note SET of_id = '3' WHERE id = 10;
DELETE FROM post WHERE id = 1;
INSERT INTO note VALUES (13, 'post', '1', 'x');
INSERT INTO note VALUES (13, 'note', '10', 'x');
\set VERBOSITY terse
TRUNCATE post CASCADE;
\set VERBOSITY default
SELECT keepsake.restore(last('post')) -> 'restored';

\echo == Children by statements of their own, then the parent, in one transaction.
BEGIN;
DELETE FROM reply WHERE note_id IN (10, 12);
DELETE FROM note WHERE of_type = 'note';
DELETE FROM note WHERE of_type = 'post' AND of_id = '1';
DELETE FROM post WHERE id = 1;
COMMIT;
TABLE live;
SELECT jsonb_path_query_array(keepsake.restore(last('post')), '$.restored[*].rows');
TABLE live;

\echo == Deleted before its parent, a row comes back after it, or passes to the deletion of the parent.
DELETE FROM note WHERE id = 11;
DELETE FROM post WHERE id = 1;
SELECT kind, table_name, key, constraint_name, holder FROM keepsake.restore_conflicts(last('note'));
\set VERBOSITY terse
SELECT keepsake.restore(last('note')) -> 'passed';
\set VERBOSITY default
SELECT * FROM holds(last('post'));
SELECT keepsake.restore(last('post')) -> 'restored';
TABLE live;
DELETE FROM note WHERE id = 11;
DELETE FROM comment WHERE id = c(1);
SELECT keepsake.restore(last('note'), 'parents') - 'deletion_id';
TABLE live;

\echo == Conflicts of both, skipped with what hangs on them.
DELETE FROM post WHERE id = 1;
INSERT INTO note VALUES (99, 'other', '1', 'a');
SELECT kind, table_name, key, constraint_name FROM keepsake.restore_conflicts(last('post')) ORDER BY 1, 2, 3;
SELECT keepsake.restore(last('post'), 'skip') - 'deletion_id' - 'conflicts';
TABLE live;
DELETE FROM note WHERE id = 99;
SELECT keepsake.restore_row('note', 10) -> 'restored';
TABLE live;

\echo == A row alone; the parent that is purged.
DELETE FROM post WHERE id = 2;
\set VERBOSITY terse
SELECT keepsake.restore_row('note', 20) - 'deletion_id';
\set VERBOSITY default
SELECT keepsake.restore_row('note', 20, 'parents') - 'deletion_id';
TABLE live;
DELETE FROM note WHERE id = 20;
DELETE FROM post WHERE id = 2;
SELECT keepsake.purge_deletion(last('post')) - 'last';
SELECT kind, constraint_name, key FROM keepsake.restore_conflicts(last('note'));
SELECT keepsake.purge_deletion(last('note')) -> 'rows';

\echo == A trigger that keeps a row keeps its parent.
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER keep BEFORE DELETE ON note FOR EACH ROW WHEN (OLD.id = 10) EXECUTE FUNCTION keep();
\set VERBOSITY terse
DELETE FROM post WHERE id = 1;
\set VERBOSITY default
DROP TRIGGER keep ON note;
TABLE live;

\echo == Rows of another owner, whose code runs as his.
CREATE ROLE board_notes;
GRANT USAGE, CREATE ON SCHEMA board TO board_notes;
ALTER TABLE note OWNER TO board_notes;
CREATE FUNCTION who() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING '% deletes', current_user; RETURN OLD; END $$;
CREATE TRIGGER who BEFORE DELETE ON note FOR EACH ROW EXECUTE FUNCTION who();
DELETE FROM post WHERE id = 1;
DROP TRIGGER who ON note;
SELECT keepsake.restore(last('post')) -> 'restored';
ALTER TABLE note OWNER TO CURRENT_USER;

\echo == Partitions, also of later.
CREATE TABLE mark (id int, part int, of_type text, of_id bigint, PRIMARY KEY (part, id)) PARTITION BY LIST (part);
CREATE TABLE mark_1 PARTITION OF mark FOR VALUES IN (1);
SELECT keepsake.manage('mark', keep => 'archive'), keepsake.declare_reference('mark', 'of_type', 'of_id', 'post', 'post');
CREATE TABLE mark_2 PARTITION OF mark FOR VALUES IN (2);
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgrelid = 'mark_2'::regclass AND NOT tgisinternal ORDER BY 1, 2;
INSERT INTO mark VALUES (1, 1, 'post', 1), (2, 2, 'post', 1);
\set VERBOSITY terse
INSERT INTO mark_2 VALUES (3, 2, 'post', 7);
UPDATE mark SET part = 1, of_id = 7 WHERE id = 2;
\set VERBOSITY default
DELETE FROM post WHERE id = 1;
TABLE mark;
SELECT keepsake.restore(last('post')) -> 'restored';
SELECT * FROM mark ORDER BY id;

\echo == Moves, DDL, the end.
SELECT keepsake.manage('comment', keep => 'in place');
SELECT keepsake.manage('post', keep => 'in place');
ALTER TABLE note RENAME COLUMN of_id TO refers;
DELETE FROM post WHERE id = 1;
SELECT keepsake.restore(last('post')) -> 'restored';
SELECT check_name, object FROM keepsake.doctor() WHERE object ~ '^(board|note|post|mark)' AND severity IN ('error', 'warning') ORDER BY 1, 2;
DROP TRIGGER keepsake_guard_insert ON note;
SELECT check_name, object, fix FROM keepsake.doctor() WHERE object ~ '^(board|note|post|mark)' AND severity = 'error' ORDER BY 1, 2;
SELECT keepsake.manage('note');
SELECT check_name, object FROM keepsake.doctor() WHERE object ~ '^(board|note|post|mark)' AND severity = 'error' ORDER BY 1, 2;
SELECT keepsake.unmanage('mark', drop_archive => true);
SELECT tgname FROM pg_trigger WHERE tgrelid = 'mark'::regclass;
SELECT count(keepsake.purge_deletion(id)) > 0 FROM keepsake.deletion WHERE root_table IN ('note'::regclass, 'post'::regclass) AND state = 'deleted';
SELECT keepsake.manage('post', keep => 'in place', cascade => true);
SELECT relation, keep FROM keepsake.managed_table WHERE relation::text ~ '^(post|comment|note|reply)' ORDER BY 1;
DELETE FROM post WHERE id = 1;
SELECT id, deleted_at IS NOT NULL FROM note ORDER BY id;

\echo == Archived rows that go later in the same statement, by foreign keys, may refer to rows in place that went beneath archived ones.
CREATE TABLE trunk (id int PRIMARY KEY);
CREATE TABLE limb (id int PRIMARY KEY, of_type text, of_id int);
CREATE TABLE twig (id int PRIMARY KEY, of_type text, of_id int);
CREATE TABLE leaf (id int PRIMARY KEY, of_type text, of_id int);
CREATE TABLE fork (id int PRIMARY KEY, trunk_id int REFERENCES trunk ON DELETE CASCADE);
CREATE TABLE nest (id int PRIMARY KEY, fork_id int REFERENCES fork ON DELETE CASCADE, leaf_id int);
SELECT keepsake.manage('trunk', keep => 'archive', cascade => true), keepsake.manage('limb', keep => 'archive'), keepsake.manage('twig', keep => 'archive'),
       keepsake.manage('leaf');
ALTER TABLE nest ADD FOREIGN KEY (leaf_id) REFERENCES leaf;
SELECT keepsake.declare_reference('limb', 'of_type', 'of_id', 'trunk', 'trunk'), keepsake.declare_reference('twig', 'of_type', 'of_id', 'limb', 'limb'),
       keepsake.declare_reference('leaf', 'of_type', 'of_id', 'limb', 'limb'), keepsake.declare_reference('leaf', 'of_type', 'of_id', 'twig', 'twig');
INSERT INTO trunk VALUES (1);
INSERT INTO limb VALUES (10, 'trunk', 1);
INSERT INTO twig VALUES (15, 'limb', 10);
INSERT INTO leaf (id, of_type, of_id) VALUES (20, 'limb', 10), (21, 'twig', 15);
INSERT INTO fork VALUES (30, 1);
INSERT INTO nest VALUES (40, 30, 20), (41, 30, 21);
CREATE VIEW tree AS
    SELECT (SELECT count(*) FROM trunk) AS trunk, (SELECT count(*) FROM limb) AS limb, (SELECT count(*) FROM twig) AS twig,
           (SELECT count(*) FROM leaf WHERE deleted_at IS NULL) AS leaf, (SELECT count(*) FROM fork) AS fork, (SELECT count(*) FROM nest) AS nest;
DELETE FROM trunk;
TABLE tree;
SELECT keepsake.restore(last('trunk')) -> 'restored';
SELECT keepsake.soft_delete('trunk', 1) IS NOT NULL;
TABLE tree;
SELECT keepsake.restore(last('trunk')) -> 'restored';
\echo == One that stays is still found, and nothing of the deletion is left.
INSERT INTO nest VALUES (42, NULL, 21);
\set VERBOSITY terse
DELETE FROM trunk;
SELECT keepsake.soft_delete('trunk', 1);
DELETE FROM limb;
DO $$ BEGIN DELETE FROM board.trunk; EXCEPTION WHEN foreign_key_violation THEN RAISE WARNING 'refused'; END $$;
\set VERBOSITY default
TABLE tree;
DELETE FROM nest WHERE id = 42;
BEGIN;
DELETE FROM limb WHERE id = 99;
DELETE FROM trunk;
TABLE tree;
COMMIT;
SELECT keepsake.restore(last('trunk')) -> 'restored';
\echo == A statement of a trigger, in the midst of it, is answered when it ends itself.
INSERT INTO trunk VALUES (2);
INSERT INTO limb VALUES (11, 'trunk', 2);
INSERT INTO leaf (id, of_type, of_id) VALUES (22, 'limb', 11);
INSERT INTO nest VALUES (43, NULL, 22);
CREATE FUNCTION too() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    DELETE FROM board.trunk WHERE id = 2;
    RETURN NULL;
EXCEPTION WHEN foreign_key_violation THEN
    RAISE WARNING 'kept';
    RETURN NULL;
END $$;
CREATE TRIGGER too AFTER DELETE ON limb FOR EACH STATEMENT EXECUTE FUNCTION too();
DELETE FROM trunk WHERE id = 1;
DROP TRIGGER too ON limb;
TABLE tree;
SELECT keepsake.restore(last('trunk')) -> 'restored';
DROP VIEW tree;
DROP SCHEMA board CASCADE;
DROP SCHEMA board_deleted CASCADE;
DROP ROLE board_notes;
DELETE FROM keepsake.deletion WHERE root_table::oid NOT IN (SELECT oid FROM pg_class);
RESET search_path;
