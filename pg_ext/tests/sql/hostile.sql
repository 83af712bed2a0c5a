-- What people, by mistake or not, do to the engine.

-- A cast that would cut or round one key down to another's is not made.
BEGIN;
CREATE TABLE code (id varchar(3) PRIMARY KEY);
CREATE TABLE price (id numeric(10, 0) PRIMARY KEY);
SELECT keepsake.manage('code'), keepsake.manage('price');
INSERT INTO code VALUES ('abc');
INSERT INTO price VALUES (1);
CALL fill();
SAVEPOINT s;
SELECT keepsake.soft_delete('code', 'abcd');
ROLLBACK TO s;
SELECT keepsake.soft_delete('code', '{"id": "abcd"}'::jsonb);
ROLLBACK TO s;
SELECT keepsake.soft_delete('price', 1.4);
ROLLBACK TO s;
SELECT keepsake.soft_delete('price', '{"id": 1.4}'::jsonb);
ROLLBACK TO s;
SELECT keepsake.soft_delete('thread', 1.4);
ROLLBACK TO s;
SELECT keepsake.soft_delete('code', 'abc') IS NOT NULL AS done, keepsake.soft_delete('price', '1') IS NOT NULL AS done;
ROLLBACK;

-- NULLs are told, not guessed at.
SELECT keepsake.soft_delete(NULL, 1);
SELECT keepsake.restore_group(NULL);
SELECT keepsake.restore_row(NULL, 1);
SELECT keepsake.manage('pg_class', cascade => NULL);
SELECT keepsake.soft_delete('thread', NULL::int);
SELECT keepsake.soft_delete('thread', NULL);
SELECT keepsake.manage(NULL);
SELECT keepsake.bind_storage('thread', NULL);
SELECT keepsake.purge_batch(0);
SELECT keepsake.purge_batch(NULL);
SELECT keepsake.restore(NULL) IS NULL AS null_in_null_out;

-- A new row is live; marks that belong to no deletion are not managed.
BEGIN;
CALL fill();
SAVEPOINT s;
INSERT INTO thread VALUES (9, 'born deleted', now(), keepsake.uuid_v7());
ROLLBACK TO s;
INSERT INTO thread VALUES (9, 'half', NULL, keepsake.uuid_v7());
ROLLBACK TO s;
CREATE TABLE old_style (id int PRIMARY KEY, deleted_at timestamptz, deletion_id uuid);
INSERT INTO old_style VALUES (1, now(), NULL);
SELECT keepsake.manage('old_style');
ROLLBACK;

-- A BEFORE UPDATE trigger that skips a row, or takes the mark away, stops the whole.
BEGIN;
CALL fill();
CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE FUNCTION unmark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.deleted_at := NULL; NEW.deletion_id := NULL; RETURN NEW; END $$;
SAVEPOINT s;
CREATE TRIGGER skip BEFORE UPDATE ON post FOR EACH ROW WHEN (OLD.id = 10) EXECUTE FUNCTION skip();
SELECT keepsake.soft_delete('thread', 1);
ROLLBACK TO s;
CREATE TRIGGER skip BEFORE UPDATE ON comment FOR EACH ROW EXECUTE FUNCTION unmark();
SELECT keepsake.soft_delete('thread', 1);
ROLLBACK TO s;
CREATE TRIGGER skip BEFORE UPDATE ON thread FOR EACH ROW EXECUTE FUNCTION skip();
SELECT keepsake.soft_delete('thread', 1);
ROLLBACK TO s;
CREATE TRIGGER unmark BEFORE UPDATE ON thread FOR EACH ROW EXECUTE FUNCTION unmark();
SELECT keepsake.soft_delete('thread', 1);
ROLLBACK TO s;
SELECT keepsake.soft_delete('thread', 1) AS d \gset
CREATE TRIGGER skip BEFORE UPDATE ON post FOR EACH ROW EXECUTE FUNCTION skip();
SELECT keepsake.restore(:'d');
ROLLBACK;

-- After an error that somebody caught, the engine's mark, role and path are put back.
BEGIN;
CALL fill();
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
CREATE TRIGGER fail BEFORE UPDATE ON comment FOR EACH ROW EXECUTE FUNCTION fail();
SET LOCAL search_path = public, pg_temp;
DO $$
BEGIN
    PERFORM keepsake.soft_delete('thread', 1);
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE '% as % in %', SQLERRM, current_user = session_user, current_setting('search_path');
END
$$;
SAVEPOINT s;
DELETE FROM comment WHERE id = 100;
ROLLBACK TO s;
SELECT * FROM live WHERE tbl IN ('thread', 'post');
ROLLBACK;

-- Rows of a table that inherits have addresses of their own.
BEGIN;
CALL fill();
CREATE TABLE heir () INHERITS (post);
INSERT INTO heir VALUES (500, 1, 'heir');
SELECT keepsake.soft_delete('post', 10) AS d \gset
SELECT keepsake.purge_deletion(:'d') -> 'rows' AS purged;
SELECT id, deleted_at FROM heir;
ROLLBACK;

-- DDL after manage(): a renamed schema is followed, a lost column is told.
BEGIN;
CREATE SCHEMA one;
CREATE TABLE one.t (id int PRIMARY KEY);
SELECT keepsake.manage('one.t');
INSERT INTO one.t VALUES (1), (2);
SELECT keepsake.soft_delete('one.t', 1) IS NOT NULL AS done;
ALTER SCHEMA one RENAME TO two;
CREATE SCHEMA one;
CREATE TABLE one.t (id int PRIMARY KEY, deleted_at timestamptz, deletion_id uuid);
INSERT INTO one.t VALUES (2);
SELECT keepsake.soft_delete('two.t', 2) IS NOT NULL AS done;
SELECT count(deleted_at) AS untouched FROM one.t;
ROLLBACK;
BEGIN;
CALL fill();
ALTER TABLE file RENAME COLUMN owner_id TO owner_key;
SELECT keepsake.soft_delete('post', 10) IS NOT NULL AS followed;
ALTER TABLE file DROP COLUMN owner_key;
SELECT keepsake.soft_delete('post', 11);
ROLLBACK;

-- A table that is taken back still may not refer to deleted rows.
BEGIN;
CALL fill();
DROP VIEW live;
SELECT keepsake.unmanage('likes');
SELECT keepsake.soft_delete('thread', 2) IS NOT NULL AS done;
INSERT INTO likes SELECT 20, id FROM member;
ROLLBACK;

-- Tables of two owners, one of whom cannot see all rows of the other's: refused, never overlooked.
CREATE ROLE regress_owner;
BEGIN;
CALL fill();
ALTER TABLE comment OWNER TO regress_owner;
GRANT SELECT ON post TO regress_owner;
SAVEPOINT s;
SELECT keepsake.soft_delete('post', 10) IS NOT NULL AS without_policies;
ROLLBACK TO s;
ALTER TABLE post ENABLE ROW LEVEL SECURITY;
SELECT keepsake.soft_delete('post', 10);
ROLLBACK;

-- The type of a bound key column is its owner's to change: its casts run as that owner.
BEGIN;
GRANT CREATE ON SCHEMA public TO regress_owner;
CALL fill();
INSERT INTO file (id, key) VALUES (1, 'k1');
ALTER TABLE file OWNER TO regress_owner;
SET LOCAL ROLE regress_owner;
CREATE TYPE wrapped AS (t text);
CREATE FUNCTION unwrap(wrapped) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'cast as %', current_user; RETURN ($1).t; END $$;
CREATE CAST (wrapped AS text) WITH FUNCTION unwrap(wrapped) AS ASSIGNMENT;
DROP TRIGGER keepsake_keep_object_key ON file;
DROP TRIGGER keepsake_exchange_object ON file;
ALTER TABLE file ALTER COLUMN key TYPE wrapped USING row(key)::wrapped;
RESET ROLE;
SELECT keepsake.soft_delete('file', 1) AS d \gset
SELECT keepsake.purge_deletion(:'d') -> 'rows' AS purged;
SELECT object_key FROM keepsake.outbox;
ROLLBACK;
DROP ROLE regress_owner;

-- The key of a deleted row is how its deletion knows it.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('thread', 2) IS NOT NULL AS done;
UPDATE thread SET id = 3 WHERE id = 2;
ROLLBACK;

-- Triggers of a table run as its owner, so they find its schema and not what the caller put in the way.
BEGIN;
CALL fill();
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.title := upper(NEW.title); RETURN NEW; END $$;
CREATE TRIGGER shout BEFORE UPDATE ON thread FOR EACH ROW EXECUTE FUNCTION shout();
CREATE SCHEMA caller;
CREATE FUNCTION caller.upper(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'captured'; END $$;
SET LOCAL search_path = caller, pg_catalog, public;
SELECT keepsake.soft_delete('thread', 1) IS NOT NULL AS done;
SELECT title FROM public.thread WHERE id = 1;
ROLLBACK;

-- A statement trigger of a table that a deletion did not touch is not fired by its restore.
BEGIN;
CALL fill();
CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'fired on %', TG_TABLE_NAME; RETURN NULL; END $$;
CREATE TRIGGER spy BEFORE UPDATE ON member FOR EACH STATEMENT EXECUTE FUNCTION spy();
CREATE TRIGGER spy BEFORE UPDATE ON thread FOR EACH STATEMENT EXECUTE FUNCTION spy();
SELECT keepsake.soft_delete('thread', 2) AS d \gset
SELECT keepsake.restore(:'d') IS NOT NULL AS restored;
ROLLBACK;

-- A foreign key made after manage() is guarded too, and refused over rows that it could not have let in.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('post', 10) IS NOT NULL AS done;
CREATE TABLE late (id int PRIMARY KEY, post_id bigint REFERENCES post);
SAVEPOINT s;
INSERT INTO late VALUES (1, 10);
ROLLBACK TO s;
INSERT INTO late VALUES (1, 11);
SELECT keepsake.soft_delete('post', 11);
ROLLBACK TO s;
ALTER TABLE member ADD COLUMN favourite bigint REFERENCES post ON DELETE CASCADE;
SAVEPOINT t;
UPDATE member SET favourite = 10;
ROLLBACK TO t;
UPDATE member SET favourite = 11;
SELECT keepsake.soft_delete('post', 11) IS NOT NULL AS done;
SELECT count(deleted_at) AS members_gone_with_it FROM member;
ROLLBACK TO s;
ALTER TABLE late DROP CONSTRAINT late_post_id_fkey;
INSERT INTO late VALUES (1, 10);
ALTER TABLE late ADD FOREIGN KEY (post_id) REFERENCES post;
ROLLBACK;
