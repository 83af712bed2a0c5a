-- Rows in place that hang on archived rows by declared references: files of posts and of comments.
\pset format unaligned
\pset tuples_only on
CREATE SCHEMA forum;
SET search_path = forum, public;
SET client_min_messages = warning;
CREATE TABLE post (id bigint PRIMARY KEY, title text UNIQUE);
CREATE TABLE comment (id uuid PRIMARY KEY, post_id bigint NOT NULL REFERENCES post ON DELETE CASCADE, body text);
CREATE TABLE file (id int PRIMARY KEY, of_type text NOT NULL, of_id text NOT NULL, name text);
CREATE TABLE note (id int PRIMARY KEY, file_id int NOT NULL REFERENCES file ON DELETE CASCADE);
CREATE TABLE mention (id int PRIMARY KEY, file_id int REFERENCES file ON DELETE SET NULL);
CREATE INDEX ON file (of_type, of_id);
SELECT keepsake.manage('post', keep => 'archive', cascade => true), keepsake.manage('comment', keep => 'archive');
SELECT keepsake.manage('file'), keepsake.manage('note');
CREATE UNIQUE INDEX ON file (name) WHERE deleted_at IS NULL;
SELECT keepsake.declare_reference('file', 'of_type', 'of_id', 'post', 'post'),
       keepsake.declare_reference('file', 'of_type', 'of_id', 'comment', 'comment');
CREATE FUNCTION last(of regclass) RETURNS uuid LANGUAGE sql AS
    $$ SELECT id FROM keepsake.deletion WHERE root_table = of AND state = 'deleted' ORDER BY id DESC LIMIT 1 $$;
CREATE FUNCTION c(n int) RETURNS uuid LANGUAGE sql AS $$ SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid $$;
-- What is live.
CREATE VIEW live AS SELECT concat_ws(' | ',
    'posts ' || coalesce((SELECT string_agg(id::text, ' ' ORDER BY id) FROM post), '-'),
    'comments ' || coalesce((SELECT string_agg(right(id::text, 1), ' ' ORDER BY id) FROM comment), '-'),
    'files ' || coalesce((SELECT string_agg(id::text, ' ' ORDER BY id) FROM file WHERE deleted_at IS NULL), '-'),
    'notes ' || coalesce((SELECT string_agg(id::text, ' ' ORDER BY id) FROM note WHERE deleted_at IS NULL), '-'),
    'mentions ' || coalesce((SELECT string_agg(id || '→' || coalesce(file_id::text, '∅'), ' ' ORDER BY id) FROM mention), '-'));
-- What a deletion holds.
CREATE FUNCTION holds(deletion uuid) RETURNS SETOF text LANGUAGE sql AS
    $$ SELECT relation || ' ' || row_count FROM keepsake.deletion_table WHERE deletion_id = deletion ORDER BY 1 $$;
CREATE PROCEDURE fill() LANGUAGE sql AS $$
    INSERT INTO post VALUES (1, 'one'), (2, 'two');
    INSERT INTO comment VALUES (c(1), 1), (c(2), 1), (c(3), 2);
    INSERT INTO file VALUES (10, 'post', '1', 'a'), (11, 'post', '1', 'b'), (12, 'comment', c(1), 'c'), (20, 'post', '2', 'd'), (30, 'other', '1', 'e');
    INSERT INTO note VALUES (100, 10), (200, 20);
    INSERT INTO mention VALUES (1, 10), (2, 20);
$$;
CALL fill();
TABLE live;

\echo == What hangs on a row goes with it, in its deletion, and comes back with it.
DELETE FROM post WHERE id = 1;
TABLE live;
SELECT * FROM holds(last('post'));
SELECT root_key, (SELECT count(*) FROM keepsake.deletion) FROM keepsake.deletion WHERE id = last('post');
SELECT * FROM keepsake.restore_conflicts(last('post'));
SELECT last('post') AS post \gset
SELECT keepsake.restore(:'post') - 'deletion_id';
TABLE live;
SELECT keepsake.restore(:'post') - 'deletion_id', (SELECT count(*) FROM keepsake.restore_conflicts(:'post'));

\echo == By soft_delete(), by a cascade alone, within a function, in a rolled back savepoint.
SELECT keepsake.soft_delete('comment', c(1), 'why') IS NOT NULL;
SELECT reason, root_key ->> 'id' FROM keepsake.deletion WHERE id = last('comment');
TABLE live;
SELECT keepsake.restore(last('comment')) -> 'restored';
CREATE FUNCTION both_posts() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM post WHERE id = 1;
    BEGIN
        DELETE FROM post WHERE id = 2;
        RAISE EXCEPTION 'no';
    EXCEPTION WHEN raise_exception THEN
    END;
    RETURN (SELECT string_agg(id::text, ' ' ORDER BY id) FROM file WHERE deleted_at IS NULL);
END $$;
SELECT both_posts();
SELECT * FROM holds(last('post'));
SELECT keepsake.restore(last('post')) -> 'restored';
BEGIN;
DELETE FROM post WHERE id = 1;
SAVEPOINT s;
DELETE FROM post WHERE id = 2;
ROLLBACK TO s;
DELETE FROM comment WHERE id = c(3);
COMMIT;
TABLE live;
SELECT keepsake.restore_group(last('post')) -> 'restored';
TABLE live;

\echo == No row refers to what is gone.
INSERT INTO file VALUES (13, 'post', '3', 'x');
INSERT INTO file VALUES (13, 'post', 'x', 'x');
UPDATE file SET of_id = '3' WHERE id = 10;
DELETE FROM post WHERE id = 1;
INSERT INTO file VALUES (13, 'post', '1', 'x');
TRUNCATE post CASCADE;
SELECT keepsake.manage('post', on_truncate => 'archive');

\echo == Conflicts on both sides, all at once; skip leaves what has no place.
INSERT INTO post VALUES (3, 'one');
INSERT INTO file VALUES (14, 'post', '3', 'a');
SELECT kind, table_name, key, constraint_name, holder FROM keepsake.restore_conflicts(last('post')) ORDER BY 1, 2, 3;
\set VERBOSITY terse
SELECT keepsake.restore(last('post'));
\set VERBOSITY default
SELECT keepsake.restore(last('post'), 'skip') - 'deletion_id' - 'conflicts';
DELETE FROM post WHERE id = 3;
SELECT keepsake.restore((SELECT min(id::text)::uuid FROM keepsake.deletion WHERE state = 'deleted' AND root_table = 'post'::regclass)) -> 'restored';
TABLE live;

\echo == A file that was deleted before comes back only when its post has, and several at once pass to the post.
SELECT keepsake.soft_delete('file', 10) IS NOT NULL;
DELETE FROM file WHERE id IN (11, 12);
DELETE FROM post WHERE id = 1;
SELECT kind, table_name, key, constraint_name, key_values, holder FROM keepsake.restore_conflicts(
    (SELECT id FROM keepsake.deletion WHERE root_key = '{"id": 10}' AND state = 'deleted'));
SELECT jsonb_path_query_array(keepsake.restore((SELECT id FROM keepsake.deletion WHERE root_table = 'file'::regclass AND root_key IS NULL AND state = 'deleted')),
                              '$.passed[*].table');
SELECT * FROM holds(last('post'));
SELECT keepsake.restore(last('post')) -> 'restored';
SELECT keepsake.restore(last('file')) -> 'restored';
TABLE live;

\echo == A single row, and what hung on it.
DELETE FROM post;
TABLE live;
SELECT keepsake.restore_row('post', 2) - 'deletion_id';
TABLE live;
SELECT keepsake.restore(last('post')) -> 'restored';
TABLE live;

\echo == Children by statements of their own, then the parent, in one transaction, as an ORM does it.
BEGIN;
DELETE FROM file WHERE of_type = 'post' AND of_id = '1';
DELETE FROM comment WHERE post_id = 1;
DELETE FROM post WHERE id = 1;
COMMIT;
TABLE live;
SELECT keepsake.restore(last('post')) -> 'restored';
TABLE live;

\echo == Reading an archive, and correcting it.
DELETE FROM post WHERE id = 1;
SELECT (d.deleted).*, d.deletion_id = last('post'), d.actor = current_user, d.deleted_at IS NOT NULL FROM keepsake.deleted_rows(NULL::post) AS d;
SELECT (d.deleted).id FROM keepsake.deleted_rows(NULL::comment, deletion => last('post')) AS d ORDER BY 1;
SELECT (d.deleted).id FROM keepsake.deleted_rows(NULL::comment, key => jsonb_build_object('id', c(2))) AS d;
SELECT count(*) FROM keepsake.deleted_rows(NULL::post, key => '{"id": 2}');
SELECT (d."row").id, d.deletion_id IS NOT NULL FROM keepsake.with_deleted(NULL::post) AS d ORDER BY 1;
SELECT keepsake.change_deleted('post', '{"id": 1}', 'title', 'first');
SELECT keepsake.change_deleted('post', '{"id": 1}', 'id', '9');
SELECT keepsake.change_deleted('post', '{"id": 7}', 'title', 'x');
SELECT keepsake.change_deleted('file', '{"id": 10}', 'name', 'x');
SELECT * FROM keepsake.deleted_rows(NULL::file);
SELECT * FROM keepsake.deleted_rows(NULL::int);
SELECT keepsake.hide_deleted('post', 'policy');
SELECT keepsake.restore(last('post')) -> 'restored';
TABLE post ORDER BY id;
CREATE ROLE reader;
GRANT USAGE ON SCHEMA forum TO reader;
DELETE FROM post WHERE id = 1;
SET ROLE reader;
SELECT count(*) FROM keepsake.deleted_rows(NULL::post);
RESET ROLE;
GRANT SELECT ON post TO reader;
ALTER TABLE post ENABLE ROW LEVEL SECURITY;
SET ROLE reader;
SELECT count(*) FROM keepsake.deleted_rows(NULL::post);
RESET ROLE;
CREATE POLICY firsts ON post FOR SELECT USING (title LIKE 'f%');
SET ROLE reader;
SELECT (d.deleted).title FROM keepsake.deleted_rows(NULL::post) AS d;
SELECT keepsake.change_deleted('post', '{"id": 1}', 'title', 'x');
RESET ROLE;
GRANT UPDATE (title) ON post TO reader;
CREATE POLICY change ON post FOR UPDATE USING (true) WITH CHECK (title <> 'bad');
SET ROLE reader;
SELECT keepsake.change_deleted('post', '{"id": 1}', 'title', 'bad');
SELECT keepsake.change_deleted('post', '{"id": 1}', 'title', 'forth');
SELECT (d.deleted).title FROM keepsake.deleted_rows(NULL::post) AS d;
RESET ROLE;
ALTER TABLE post DISABLE ROW LEVEL SECURITY;
SELECT keepsake.restore(last('post')) -> 'restored';

\echo == Purged with it.
DELETE FROM post WHERE id = 1;
SELECT keepsake.purge_deletion(last('post')) - 'last';
SELECT count(*) FROM file WHERE deleted_at IS NOT NULL;

\echo == The first call of a session, in a function.
INSERT INTO post VALUES (5, 'five');
CREATE FUNCTION delete_five() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN keepsake.soft_delete('post', 5, 'why');
END $$;
\c -
SET search_path = forum, public;
\pset format unaligned
\pset tuples_only on
SELECT delete_five() = last('post')::text;
SELECT reason, root_key FROM keepsake.deletion WHERE id = last('post');
INSERT INTO post VALUES (6, 'six');
INSERT INTO file VALUES (60, 'post', '6', 'six');
\c -
SET search_path = forum, public;
SET client_min_messages = warning;
\pset format unaligned
\pset tuples_only on
DELETE FROM post WHERE id = 6;
SELECT * FROM holds(last('post'));
SELECT keepsake.restore(last('post')) -> 'restored';

\echo == What a deletion would do.
SELECT * FROM keepsake.plan_delete('post', 6);
DELETE FROM post WHERE id = 6;
SELECT * FROM keepsake.purge_plan() WHERE table_name ~ '(post|file)$' ORDER BY 1, 2;
SELECT keepsake.restore(last('post')) IS NOT NULL;
SELECT * FROM keepsake.plan_delete('post', 2);

\echo == A partitioned table, by its name and by that of a partition.
CREATE TABLE event (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE event_low PARTITION OF event FOR VALUES FROM (0) TO (10);
CREATE TABLE event_high PARTITION OF event FOR VALUES FROM (10) TO (20);
SELECT keepsake.manage('event', keep => 'archive');
SELECT keepsake.declare_reference('file', 'of_type', 'of_id', 'event', 'event');
CREATE TABLE event_later PARTITION OF event FOR VALUES FROM (20) TO (30);
SELECT tgname FROM pg_trigger WHERE tgrelid = 'event_later'::regclass AND NOT tgisinternal ORDER BY 1;
INSERT INTO event VALUES (1), (2), (11);
INSERT INTO file VALUES (51, 'event', '1', 'f'), (52, 'event', '2', 'g'), (53, 'event', '11', 'h');
DELETE FROM event WHERE id IN (1, 11);
DELETE FROM event_low WHERE id = 2;
SELECT id, deletion_id IS NOT NULL FROM file WHERE of_type = 'event' ORDER BY id;
SELECT keepsake.restore(id) -> 'restored' FROM keepsake.deletion WHERE root_table = 'event'::regclass ORDER BY id;
UPDATE event SET id = 12 WHERE id = 2;
SELECT count(*) FROM file WHERE of_type = 'event' AND deleted_at IS NOT NULL;

\echo == What doctor() finds, and unmanage() leaves.
SELECT * FROM keepsake.doctor() WHERE object ~ '^forum_deleted' ORDER BY 1, 2, 3;
SELECT check_name, object, finding FROM keepsake.doctor() WHERE object ~ '^(forum\.)?(post|comment|file|event)' AND severity = 'error' ORDER BY 1, 2;
DROP TRIGGER keepsake_delete_declared ON post;
SELECT check_name, object, finding, fix FROM keepsake.doctor() WHERE object ~ '^(forum\.)?(post|comment|file|event)' AND severity = 'error' ORDER BY 1, 2;
SELECT keepsake.manage('post');
SELECT count(*) FROM keepsake.doctor() WHERE object ~ '^(forum\.)?post' AND check_name = 'trigger_missing';
SELECT keepsake.unmanage('event', drop_archive => true);
SELECT tgname FROM pg_trigger WHERE tgrelid = 'event'::regclass;
DROP SCHEMA forum CASCADE;
DROP SCHEMA forum_deleted CASCADE;
DROP ROLE reader;
