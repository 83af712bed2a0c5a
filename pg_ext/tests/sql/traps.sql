-- The traps of soft delete that one session can spring, one by one. Those that take two are in specs/traps_of_two.spec.

-- A read policy that hides deleted rows makes an UPDATE with WHERE fail; the deletion is no such UPDATE.
CREATE ROLE regress_app;
GRANT USAGE ON SCHEMA keepsake TO regress_app;
BEGIN;
CALL fill();
GRANT SELECT, DELETE ON post TO regress_app;
ALTER TABLE post ENABLE ROW LEVEL SECURITY;
CREATE POLICY live_only ON post FOR SELECT USING (deleted_at IS NULL);
CREATE POLICY any_delete ON post FOR DELETE USING (true);
SET LOCAL ROLE regress_app;
SELECT keepsake.soft_delete('post', 10) IS NOT NULL AS done;
SELECT id FROM post ORDER BY id;
RESET ROLE;
SELECT * FROM live WHERE tbl IN ('post', 'comment');
ROLLBACK;

-- A foreign key's cascade runs as the table's owner, past the policies of whoever deletes: no live child is left
-- because the caller does not see it.
BEGIN;
CALL fill();
GRANT SELECT, DELETE ON post TO regress_app;
ALTER TABLE comment ENABLE ROW LEVEL SECURITY;
SET LOCAL ROLE regress_app;
SELECT keepsake.soft_delete('post', 10) IS NOT NULL AS done;
RESET ROLE;
SELECT count(*) AS live_children FROM comment WHERE post_id = 10 AND deleted_at IS NULL;
ROLLBACK;

-- An index expression runs with the rights of whoever reads it: with the table owner's, not the caller's.
BEGIN;
CALL fill();
CREATE FUNCTION shown_as(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN lower($1) || current_user; END $$;
GRANT CREATE ON SCHEMA public TO regress_app;
CREATE TABLE word (id int PRIMARY KEY, word text);
ALTER TABLE word OWNER TO regress_app;
SET LOCAL ROLE regress_app;
SELECT keepsake.manage('word');
CREATE UNIQUE INDEX word_shown ON word (shown_as(word)) WHERE deleted_at IS NULL;
INSERT INTO word VALUES (1, 'A');
RESET ROLE;
SELECT keepsake.soft_delete('word', 1) AS d \gset
SET LOCAL ROLE regress_app;
INSERT INTO word VALUES (2, 'a');
RESET ROLE;
SELECT key_values, holder FROM keepsake.restore_conflicts(:'d');
ROLLBACK;

-- A setting that was never made reads NULL, one that was rolled back reads as the empty string: both mean unset.
BEGIN;
CALL fill();
SAVEPOINT s;
SET LOCAL keepsake.actor = 'somebody';
SET LOCAL request.jwt.claims = '{"sub": "ada", "tenant": "acme"}';
ROLLBACK TO s;
SELECT current_setting('keepsake.actor', true) = '' AS empty;
SELECT keepsake.soft_delete('post', 10) AS d \gset
SELECT actor = current_user AS by_me, tenant FROM keepsake.deletion;
SELECT keepsake.restore(:'d') IS NOT NULL AS restored;
ROLLBACK;

-- ON CONFLICT finds a partial index only by its predicate; with it, the deleted row is not in the way.
BEGIN;
CALL fill();
CREATE TABLE account (id int PRIMARY KEY, email text);
SELECT keepsake.manage('account');
CREATE UNIQUE INDEX account_email ON account (email) WHERE deleted_at IS NULL;
INSERT INTO account VALUES (1, 'a@example.org');
SELECT keepsake.soft_delete('account', 1) AS d \gset
SAVEPOINT s;
INSERT INTO account VALUES (2, 'a@example.org') ON CONFLICT (email) DO NOTHING;
ROLLBACK TO s;
INSERT INTO account VALUES (2, 'a@example.org') ON CONFLICT (email) WHERE deleted_at IS NULL DO NOTHING;
INSERT INTO account VALUES (3, 'a@example.org') ON CONFLICT (email) WHERE deleted_at IS NULL DO NOTHING;
SELECT id FROM account WHERE deleted_at IS NULL;
SELECT constraint_name, holder FROM keepsake.restore_conflicts(:'d');
ROLLBACK;

-- A full unique index with deleted_at in it holds nothing among live rows; restoring is judged by it all the same.
BEGIN;
CREATE TABLE account (id int PRIMARY KEY, email text);
SELECT keepsake.manage('account');
CREATE UNIQUE INDEX ON account (email, deleted_at);
INSERT INTO account VALUES (1, 'a'), (2, 'a');
SELECT keepsake.soft_delete('account', 1) AS d \gset
SELECT count(*) AS conflicts FROM keepsake.restore_conflicts(:'d');
SELECT keepsake.restore(:'d') -> 'restored' AS restored;
ROLLBACK;

-- Generated columns and CHECKs that read deleted_at, and triggers that stamp every update, see the rows change.
BEGIN;
CREATE TABLE account (id int PRIMARY KEY, name text, touched int NOT NULL DEFAULT 0);
SELECT keepsake.manage('account');
ALTER TABLE account ADD COLUMN is_live boolean GENERATED ALWAYS AS (deleted_at IS NULL) STORED,
                    ADD CHECK (name <> 'kept' OR deleted_at IS NULL);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.touched := OLD.touched + 1; RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON account FOR EACH ROW EXECUTE FUNCTION touch();
INSERT INTO account VALUES (1, 'a'), (2, 'kept');
SELECT keepsake.soft_delete('account', 1) AS d \gset
SELECT id, touched, is_live FROM account ORDER BY id;
SELECT keepsake.restore(:'d') -> 'restored' AS restored;
SELECT id, touched, is_live FROM account ORDER BY id;
SAVEPOINT s;
\set VERBOSITY sqlstate
SELECT keepsake.soft_delete('account', 2);
\set VERBOSITY default
ROLLBACK TO s;
ROLLBACK;

-- How deep in triggers a deletion is made says nothing; one that finds nothing to cascade to ends there.
BEGIN;
CALL fill();
CREATE FUNCTION close_thread() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM keepsake.soft_delete('thread', NEW.id); RETURN NULL; END $$;
CREATE TRIGGER close AFTER UPDATE ON thread FOR EACH ROW WHEN (NEW.title = 'close') EXECUTE FUNCTION close_thread();
CREATE FUNCTION close_all() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE thread SET title = 'close' WHERE id = 1; RETURN NULL; END $$;
CREATE TRIGGER close AFTER INSERT ON member FOR EACH STATEMENT EXECUTE FUNCTION close_all();
INSERT INTO member VALUES ('00000000-0000-0000-0000-000000000003');
SELECT * FROM live;
UPDATE thread SET title = 'none' WHERE false;
ROLLBACK;

-- A key that changes while it is referred to: by ON UPDATE CASCADE deleted children follow their live parent.
BEGIN;
CREATE TABLE p (id int PRIMARY KEY);
CREATE TABLE c (id int PRIMARY KEY, p_id int REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE);
SELECT keepsake.manage('p'), keepsake.manage('c');
INSERT INTO p VALUES (1), (2);
INSERT INTO c VALUES (1, 1), (2, 1);
SELECT keepsake.soft_delete('c', 1) AS d \gset
UPDATE p SET id = id + 10;
SELECT keepsake.restore(:'d') -> 'restored' AS restored;
SELECT * FROM c ORDER BY id;
SELECT keepsake.soft_delete('p', 11) IS NOT NULL AS done;
SELECT count(*) AS live FROM c WHERE deleted_at IS NULL;
ROLLBACK;

-- The key that changes in the statement that deletes the row: children that would follow it stop it, for they come
-- to refer to a deleted row before the deletion has come to them; a row without any goes, and comes back under the new key.
BEGIN;
CREATE TABLE p (id int PRIMARY KEY);
CREATE TABLE c (id int PRIMARY KEY, p_id int REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE);
SELECT keepsake.manage('p'), keepsake.manage('c');
INSERT INTO p VALUES (1), (2);
INSERT INTO c VALUES (1, 1);
SAVEPOINT s;
UPDATE p SET id = id + 10, deleted_at = now() WHERE id = 1;
ROLLBACK TO s;
UPDATE p SET id = id + 10, deleted_at = now() WHERE id = 2;
SELECT root_key, keepsake.restore(id) -> 'restored' AS restored FROM keepsake.deletion;
SELECT id, deleted_at FROM p ORDER BY 1;
ROLLBACK;

-- Names as long as they can be, alike but for what is cut off of longer ones.
BEGIN;
CREATE TABLE "a table whose name is so long that nothing can be added to it 1" (id int PRIMARY KEY);
CREATE TABLE "a table whose name is so long that nothing can be added to it 2" (id int PRIMARY KEY,
    parent int REFERENCES "a table whose name is so long that nothing can be added to it 1" ON DELETE CASCADE);
SELECT keepsake.manage('"a table whose name is so long that nothing can be added to it 1"'),
       keepsake.manage('"a table whose name is so long that nothing can be added to it 2"');
INSERT INTO "a table whose name is so long that nothing can be added to it 1" VALUES (1);
INSERT INTO "a table whose name is so long that nothing can be added to it 2" VALUES (1, 1);
SELECT keepsake.soft_delete('"a table whose name is so long that nothing can be added to it 1"', 1) IS NOT NULL AS done;
SELECT count(deleted_at) FROM "a table whose name is so long that nothing can be added to it 2";
ROLLBACK;

-- Where triggers do not fire, as when changes of a publisher are applied, nobody guards; but the purge of the parent
-- takes no live child along, be its foreign key ON DELETE CASCADE.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('post', 10) AS d \gset
SET LOCAL session_replication_role = replica;
INSERT INTO comment VALUES (300, 10);
SET LOCAL session_replication_role = origin;
SELECT keepsake.purge_deletion(:'d') AS report;
SELECT id FROM comment WHERE id = 300;
ROLLBACK;

-- Dropping the extension leaves tables, rows and columns as they are.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('post', 10) IS NOT NULL AS done;
SET LOCAL client_min_messages = warning;
DROP EXTENSION keepsake CASCADE;
SELECT count(*) AS rows, count(deleted_at) AS deleted, count(deletion_id) AS marked FROM post;
INSERT INTO comment VALUES (300, 10);
DELETE FROM post WHERE id = 20;
ROLLBACK;
REVOKE USAGE ON SCHEMA keepsake FROM regress_app;
DROP ROLE regress_app;
