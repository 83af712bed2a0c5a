-- manage(…, keep => …) on tables with declared references, and with foreign keys that are overridden.
\pset format unaligned
\pset tuples_only on
CREATE SCHEMA shifting;
SET search_path = shifting, public;
SET client_min_messages = warning;
CREATE TABLE post (id int PRIMARY KEY, title text);
CREATE TABLE comment (id int PRIMARY KEY, post_id int REFERENCES post ON DELETE CASCADE, quotes int REFERENCES post ON DELETE SET NULL);
CREATE TABLE file (id int PRIMARY KEY, of_type text, of_id text);
CREATE TABLE cover (id int PRIMARY KEY, file_id int REFERENCES file ON DELETE SET NULL);
CREATE TABLE vote (id int PRIMARY KEY, comment_id int REFERENCES comment);
SELECT keepsake.manage('post'), keepsake.manage('comment'), keepsake.manage('file'), keepsake.manage('cover'), keepsake.manage('vote');
SELECT keepsake.declare_reference('file', 'of_type', 'of_id', 'post', 'post'), keepsake.declare_reference('file', 'of_type', 'of_id', 'comment', 'comment');
SELECT keepsake.override_reference('vote', 'vote_comment_id_fkey', 'cascade');
CREATE FUNCTION last(of regclass) RETURNS uuid LANGUAGE sql AS
    $$ SELECT id FROM keepsake.deletion WHERE root_table = of AND state = 'deleted' ORDER BY id DESC LIMIT 1 $$;
CREATE FUNCTION live(of regclass, columns text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    marked text := CASE WHEN EXISTS (SELECT FROM pg_attribute WHERE attrelid = of AND attname = 'deleted_at' AND NOT attisdropped) THEN 'deleted_at IS NULL' ELSE 'true' END;
    found text;
BEGIN
    EXECUTE format('SELECT string_agg(concat_ws(''-'', %s), '' '' ORDER BY id) FROM %s WHERE %s', columns, of, marked) INTO found;
    RETURN of || ': ' || coalesce(found, '-');
END $$;
CREATE VIEW live AS SELECT concat_ws(' | ', live('post', 'id'), live('comment', 'id, post_id, quotes'), live('file', 'id'), live('cover', 'id, file_id'), live('vote', 'id')) AS live;
CREATE VIEW deletions AS SELECT d.id, d.root_table, d.root_key, d.deleted_at, d.expires_at, d.state,
    (SELECT string_agg(format('%s: %s', t.relation, t.row_count), ', ' ORDER BY t.relation::text) FROM keepsake.deletion_table t WHERE t.deletion_id = d.id) AS rows
    FROM keepsake.deletion d WHERE d.root_table::text ~ '^(post|comment|file|cover|vote)$' AND d.state = 'deleted';
INSERT INTO post VALUES (1, 'one'), (2, 'two'), (3, 'three');
INSERT INTO comment VALUES (10, 1, NULL), (11, 1, 2), (20, 2, 1);
INSERT INTO file VALUES (100, 'post', '1'), (101, 'comment', '10'), (102, 'comment', '20'), (103, 'none', NULL);
INSERT INTO cover VALUES (1000, 100), (1001, 102), (1002, 103);
INSERT INTO vote VALUES (50, 10), (51, 20);
TABLE live;
DELETE FROM post WHERE id = 1;
DELETE FROM file WHERE id = 102;
TABLE live;
SELECT root_table, root_key, rows FROM deletions ORDER BY id;
CREATE TABLE before AS TABLE deletions;

\echo == The child alone would refer from an archive to a table in place.
SELECT keepsake.manage('file', keep => 'archive', cascade => true);
\echo == The entities move, with the foreign keys to them; files stay, with what they had let go of.
SELECT keepsake.manage('post', keep => 'archive', cascade => true);
SELECT relation, keep FROM keepsake.managed_table WHERE relation::text ~ '^(post|comment|file|cover|vote)$' ORDER BY 1;
SELECT count(*) FROM deletions JOIN before USING (id, root_table, root_key, deleted_at, expires_at, state, rows);
SELECT check_name, object FROM keepsake.doctor() WHERE object LIKE 'shifting.%' AND severity IN ('error', 'warning');
TABLE live;
INSERT INTO file VALUES (104, 'post', '1');
INSERT INTO file VALUES (104, 'post', '2');
BEGIN;
SELECT keepsake.restore(last('post')) -> 'restored';
TABLE live;
SELECT keepsake.restore(last('file')) -> 'restored';
TABLE live;
ROLLBACK;
BEGIN;
DELETE FROM vote;
DELETE FROM post WHERE id = 2;
TABLE live;
SELECT keepsake.restore(last('post')) -> 'restored';
TABLE live;
ROLLBACK;
\echo == And back: the deletions are what they were.
SELECT keepsake.manage('post', keep => 'in place', cascade => true);
SELECT relation, keep FROM keepsake.managed_table WHERE relation::text ~ '^(post|comment|file|cover|vote)$' ORDER BY 1;
SELECT count(*) FROM deletions JOIN before USING (id, root_table, root_key, deleted_at, expires_at, state, rows);
SELECT check_name, object FROM keepsake.doctor() WHERE object LIKE 'shifting.%' AND severity IN ('error', 'warning');
TABLE live;
BEGIN;
SELECT keepsake.restore(last('post')) -> 'restored';
SELECT keepsake.restore(last('file')) -> 'restored';
TABLE live;
ROLLBACK;
\echo == Entities first, then files: all is archived. Files back alone.
SELECT keepsake.manage('post', keep => 'archive', cascade => true), keepsake.manage('file', keep => 'archive', cascade => true);
SELECT count(*) FROM deletions JOIN before USING (id, root_table, root_key, deleted_at, expires_at, state, rows);
BEGIN;
SELECT keepsake.restore(last('post')) -> 'restored';
SELECT keepsake.restore(last('file')) -> 'restored';
TABLE live;
ROLLBACK;
\echo == An entity cannot leave its archive while files in archives refer to it.
SELECT keepsake.manage('post', keep => 'in place');
SELECT keepsake.manage('file', keep => 'in place', cascade => true);
SELECT count(*) FROM deletions JOIN before USING (id, root_table, root_key, deleted_at, expires_at, state, rows);
SELECT check_name, object FROM keepsake.doctor() WHERE object LIKE 'shifting.%' AND severity IN ('error', 'warning');
SELECT keepsake.restore(last('post')) -> 'restored';
SELECT keepsake.restore(last('file')) -> 'restored';
TABLE live;
\echo == An archived row refers to one that the same deletion removed, and that stays in place.
CREATE TABLE entry (id int PRIMARY KEY);
CREATE TABLE scan (id int PRIMARY KEY, of_type text, of_id text);
CREATE TABLE remark (id int PRIMARY KEY, entry_id int REFERENCES entry ON DELETE CASCADE, scan_id int REFERENCES scan);
SELECT keepsake.manage('entry'), keepsake.manage('scan'), keepsake.manage('remark');
SELECT keepsake.declare_reference('scan', 'of_type', 'of_id', 'entry', 'entry');
INSERT INTO entry VALUES (1);
INSERT INTO scan VALUES (10, 'entry', '1');
INSERT INTO remark VALUES (100, 1, 10);
DELETE FROM entry;
SELECT keepsake.manage('entry', keep => 'archive', cascade => true);
SELECT keepsake.restore(last('entry')) -> 'restored';
SELECT live('entry', 'id'), live('scan', 'id'), live('remark', 'id');
\echo == The same, removed from the archives: the row in place comes back between those of the archives.
CREATE FUNCTION live() RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' | ', live('entry', 'id'), live('scan', 'id'), live('remark', 'id')) $$;
DELETE FROM entry;
SELECT relation, row_count FROM keepsake.deletion_table WHERE deletion_id = last('entry') ORDER BY 1;
SELECT * FROM keepsake.restore_conflicts(last('entry'));
BEGIN;
SELECT keepsake.restore(last('entry')) -> 'restored';
SELECT live();
ROLLBACK;
BEGIN;
SELECT keepsake.restore(last('entry'), 'parents') -> 'restored';
SELECT live();
ROLLBACK;
BEGIN;
SELECT keepsake.restore_group(last('entry')) -> 'restored';
SELECT live();
ROLLBACK;
SELECT keepsake.restore(last('entry'), 'skip') - 'deletion_id';
SELECT live();
SELECT count(*) FROM keepsake.deletion WHERE root_table = 'entry'::regclass AND state = 'deleted';
\echo == A row in place that has no place: what refers to it waits with it.
ALTER TABLE scan ADD COLUMN page int;
CREATE UNIQUE INDEX ON scan (page) WHERE deleted_at IS NULL;
UPDATE scan SET page = 7;
INSERT INTO entry VALUES (2);
INSERT INTO scan (id, of_type, of_id, page) VALUES (11, 'entry', '1', 8);
INSERT INTO remark VALUES (101, 1, 11), (102, 1, NULL);
DELETE FROM entry WHERE id = 1;
INSERT INTO scan (id, of_type, of_id, page) VALUES (12, 'entry', '2', 7);
SELECT kind, table_name, key FROM keepsake.restore_conflicts(last('entry'));
\set VERBOSITY terse
SELECT keepsake.restore(last('entry'));
\set VERBOSITY default
SELECT live();
SELECT keepsake.restore(last('entry'), 'skip') - 'deletion_id' - 'conflicts';
SELECT live();
DELETE FROM scan WHERE id = 12;
SELECT keepsake.restore(id) -> 'restored' FROM keepsake.deletion WHERE root_table = 'entry'::regclass AND state = 'deleted';
SELECT live();
\echo == What refers to a row in place goes as well, but later: PostgreSQL comes to it when the statement ends.
CREATE TABLE reply (id int PRIMARY KEY, remark_id int, scan_id int);
SELECT keepsake.manage('reply', keep => 'archive');
ALTER TABLE reply ADD FOREIGN KEY (remark_id) REFERENCES remark ON DELETE CASCADE, ADD FOREIGN KEY (scan_id) REFERENCES scan;
INSERT INTO reply VALUES (1000, 100, 11);
DELETE FROM entry WHERE id = 1;
SELECT live(), live('reply', 'id');
SELECT keepsake.restore(last('entry')) -> 'restored';
SELECT live(), live('reply', 'id');
INSERT INTO reply VALUES (1001, NULL, 10);
DELETE FROM entry WHERE id = 1;
DO $$ BEGIN DELETE FROM entry WHERE id = 1; EXCEPTION WHEN foreign_key_violation THEN RAISE WARNING 'caught: %', SQLERRM; END $$;
BEGIN;
SELECT keepsake.soft_delete('entry', 1);
ROLLBACK;
SELECT live(), live('reply', 'id');
DELETE FROM reply;
SELECT keepsake.soft_delete('entry', 1) IS NOT NULL;
SELECT keepsake.restore(last('entry')) -> 'restored';
DROP TABLE reply;
\echo == A row in place that passes to another deletion.
CREATE TABLE shelf (id int PRIMARY KEY);
SELECT keepsake.manage('shelf');
ALTER TABLE scan ADD COLUMN shelf_id int REFERENCES shelf ON DELETE CASCADE;
INSERT INTO shelf VALUES (1);
UPDATE scan SET shelf_id = 1 WHERE id = 11;
DELETE FROM entry WHERE id = 1;
DELETE FROM shelf;
SELECT kind, table_name, constraint_name FROM keepsake.restore_conflicts(last('entry'));
\set VERBOSITY terse
SELECT keepsake.restore(last('entry'));
\set VERBOSITY default
SELECT jsonb_path_query_array(keepsake.restore(last('entry'), 'skip'), '$.*[*].table');
SELECT live(), live('shelf', 'id');
SELECT keepsake.restore(last('shelf')) -> 'restored';
SELECT keepsake.restore(last('entry')) -> 'restored';
SELECT live(), live('shelf', 'id');
DELETE FROM keepsake.deletion WHERE id IN (SELECT id FROM before);
DROP SCHEMA shifting CASCADE;
DROP SCHEMA IF EXISTS shifting_deleted CASCADE;
DELETE FROM keepsake.deletion WHERE root_table::oid NOT IN (SELECT oid FROM pg_class);
RESET search_path;
