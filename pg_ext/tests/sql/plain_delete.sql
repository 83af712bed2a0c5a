-- A plain DELETE is a soft delete, whatever way it comes; so is an UPDATE of deleted_at.
SET client_min_messages = warning;
CREATE SCHEMA plain;
SET search_path = plain;
SET intervalstyle = postgres;
CREATE TABLE author (id int PRIMARY KEY, name text);
CREATE TABLE book (id int PRIMARY KEY, author_id int REFERENCES author ON DELETE CASCADE, title text);
CREATE TABLE page (book_id int REFERENCES book ON DELETE CASCADE, number int, PRIMARY KEY (book_id, number));
CREATE INDEX ON book (author_id);
SELECT keepsake.manage('author'), keepsake.manage('book'), keepsake.manage('page');
CREATE VIEW living AS
    SELECT (SELECT string_agg(id::text, ' ' ORDER BY id) FROM author WHERE deleted_at IS NULL) AS authors,
           (SELECT string_agg(id::text, ' ' ORDER BY id) FROM book WHERE deleted_at IS NULL) AS books,
           (SELECT count(*) FROM page WHERE deleted_at IS NULL) AS pages;
-- What the deletions of this transaction hold.
CREATE VIEW held AS
    SELECT d.root_table, d.root_key, string_agg(t.relation || ' ' || t.row_count, ', ' ORDER BY t.relation::text) AS rows
    FROM keepsake.deletion d JOIN keepsake.deletion_table t ON t.deletion_id = d.id
    WHERE d.deleted_at = now() GROUP BY d.id ORDER BY d.id;
INSERT INTO author SELECT n, 'author ' || n FROM generate_series(1, 4) n;
INSERT INTO book SELECT n, (n + 1) / 2, 'book ' || n FROM generate_series(1, 8) n;
INSERT INTO page SELECT b, p FROM generate_series(1, 8) b, generate_series(1, 3) p;

-- The right count, the rows, and no second time.
BEGIN;
DELETE FROM author WHERE id = 1 RETURNING id, name;
DELETE FROM author WHERE id IN (1, 2, 99);
\echo :ROW_COUNT
DELETE FROM author WHERE id = 1;
\echo :ROW_COUNT
SELECT * FROM held;
SELECT * FROM living;
ROLLBACK;

-- Several rows of one statement are one deletion.
BEGIN;
DELETE FROM book USING author WHERE author.id = book.author_id AND author.id IN (1, 2) RETURNING book.id, author.name;
SELECT * FROM held;
ROLLBACK;

-- In WITH, also when it is deleted from twice; in a sub-query's table; by a prepared statement.
BEGIN;
WITH gone AS (DELETE FROM book WHERE id = 1 RETURNING id) SELECT * FROM gone;
WITH gone AS (DELETE FROM book WHERE id = 2 RETURNING author_id) DELETE FROM author USING gone WHERE id = gone.author_id;
DELETE FROM book WHERE id IN (SELECT book_id FROM page WHERE book_id = 3);
PREPARE remove(int) AS DELETE FROM book WHERE id = $1;
EXECUTE remove(4);
EXECUTE remove(4);
SELECT * FROM held;
SELECT * FROM living;
ROLLBACK;
DEALLOCATE remove;

-- A plan that was made before the table was managed.
CREATE TABLE later (id int PRIMARY KEY);
INSERT INTO later VALUES (1), (2);
PREPARE remove AS DELETE FROM later WHERE id = 1;
SET plan_cache_mode = force_generic_plan;
BEGIN;
EXECUTE remove;
ROLLBACK;
SELECT keepsake.manage('later');
EXECUTE remove;
SELECT id, deleted_at IS NOT NULL AS deleted FROM later ORDER BY id;
RESET plan_cache_mode;

-- PL/pgSQL, its ROW_COUNT and FOUND; a function with a body of SQL; a cursor's row.
BEGIN;
DO $$
DECLARE
    n int;
    title text;
    c CURSOR FOR SELECT * FROM book WHERE id = 8 FOR UPDATE;
BEGIN
    DELETE FROM book WHERE id IN (1, 2);
    GET DIAGNOSTICS n = ROW_COUNT;
    DELETE FROM book b WHERE id = 3 RETURNING b.title INTO title;
    RAISE WARNING '% rows, then "%", found %', n, title, FOUND;
    OPEN c;
    FETCH c INTO title;
    DELETE FROM book WHERE CURRENT OF c;
    RAISE WARNING 'found %', FOUND;
END
$$;
CREATE FUNCTION drop_book(which int) RETURNS text BEGIN ATOMIC DELETE FROM book WHERE id = which RETURNING title; END;
SELECT drop_book(4);
SELECT * FROM held;
SELECT * FROM living;
ROLLBACK;

-- Views and rules.
BEGIN;
CREATE VIEW good_book AS SELECT id, title FROM book WHERE id > 4 AND deleted_at IS NULL;
DELETE FROM good_book WHERE id IN (1, 5, 6) RETURNING *;
CREATE TABLE shelf (id int);
INSERT INTO shelf VALUES (7);
CREATE RULE clear AS ON DELETE TO shelf DO ALSO DELETE FROM book WHERE id = OLD.id;
DELETE FROM shelf;
SELECT * FROM held;
ROLLBACK;

-- MERGE: the rows go the same way.
BEGIN;
MERGE INTO book USING (VALUES (1), (2)) AS v (id) ON book.id = v.id WHEN MATCHED THEN DELETE;
SELECT * FROM held;
ROLLBACK;

-- An ORM's own soft delete: the same cascade; again, no change; the time is the transaction's.
BEGIN;
UPDATE author SET deleted_at = '2001-01-01', name = 'late' WHERE id <= 2 RETURNING id, name, deleted_at = now() AS now;
UPDATE author SET deleted_at = '2002-01-01' WHERE id = 1 RETURNING deleted_at = now() AS now;
INSERT INTO author VALUES (3) ON CONFLICT (id) DO UPDATE SET deleted_at = clock_timestamp();
SELECT * FROM held;
SELECT * FROM living;
SAVEPOINT s;
UPDATE author SET deleted_at = NULL WHERE id = 1;
ROLLBACK TO s;
UPDATE author SET deleted_at = now(), deletion_id = '00000000-0000-0000-0000-000000000001' WHERE id = 4;
ROLLBACK;

-- What restricts a soft delete restricts this one.
CREATE TABLE prize (id int PRIMARY KEY, book_id int REFERENCES book);
INSERT INTO prize VALUES (1, 5);
SELECT keepsake.manage('prize');
DELETE FROM author WHERE id = 3;
UPDATE author SET deleted_at = now() WHERE id = 3;
SELECT * FROM living;
DROP TABLE prize;

-- A statement that is undone leaves nothing behind for the next.
BEGIN;
SAVEPOINT s;
DO $$ BEGIN DELETE FROM author WHERE id = 1; RAISE EXCEPTION 'undo'; EXCEPTION WHEN raise_exception THEN NULL; END $$;
DELETE FROM book WHERE id = 8;
SELECT * FROM held;
ROLLBACK;

-- A trigger of the table's own may skip a row of the statement, and may write to the table itself.
BEGIN;
CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN OLD.id <> 1 THEN NEW END; END $$;
CREATE TRIGGER a_skip BEFORE UPDATE ON book FOR EACH ROW EXECUTE FUNCTION skip();
CREATE TRIGGER z_skip BEFORE UPDATE ON author FOR EACH ROW EXECUTE FUNCTION skip();
DELETE FROM book WHERE id IN (1, 2);
DELETE FROM author WHERE id IN (1, 2);
SELECT * FROM held;
ROLLBACK;
BEGIN;
CREATE FUNCTION and_the_next() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.deleted_at IS NOT NULL AND OLD.deleted_at IS NULL THEN
        DELETE FROM book WHERE id = NEW.id + 1 AND id % 2 = 0;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER next AFTER UPDATE ON book FOR EACH ROW EXECUTE FUNCTION and_the_next();
DELETE FROM book WHERE id IN (1, 3);
-- Also where the engine's own write fires it: what the trigger deletes is a deletion of its own.
DELETE FROM author WHERE id = 3;
SELECT * FROM living;
SELECT count(*) AS rows FROM book;
ROLLBACK;

-- A trigger that watches the key is not told of a key that stays.
BEGIN;
CREATE FUNCTION fixed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the key is fixed'; END $$;
CREATE TRIGGER fixed BEFORE UPDATE OF id ON book FOR EACH ROW EXECUTE FUNCTION fixed();
DELETE FROM book WHERE id = 1 RETURNING id;
SELECT * FROM held;
ROLLBACK;

-- Rights: DELETE suffices, and its policies hold; UPDATE alone does not delete.
CREATE ROLE regress_deleter;
CREATE ROLE regress_updater;
GRANT USAGE ON SCHEMA plain TO regress_deleter, regress_updater;
GRANT SELECT, DELETE ON book TO regress_deleter;
GRANT SELECT, UPDATE ON book TO regress_updater;
BEGIN;
SET LOCAL ROLE regress_deleter;
DELETE FROM book WHERE id = 1 RETURNING id;
SAVEPOINT s;
DELETE FROM author WHERE id = 1;
ROLLBACK TO s;
UPDATE book SET deleted_at = now() WHERE id = 2;
ROLLBACK;
BEGIN;
SET LOCAL ROLE regress_updater;
SAVEPOINT s;
DELETE FROM book WHERE id = 1;
ROLLBACK TO s;
UPDATE book SET deleted_at = now() WHERE id = 1;
ROLLBACK;
GRANT UPDATE ON book TO regress_deleter;
ALTER TABLE book ENABLE ROW LEVEL SECURITY;
CREATE POLICY reading ON book FOR SELECT USING (true);
CREATE POLICY writing ON book FOR UPDATE USING (true);
CREATE POLICY removing ON book FOR DELETE USING (id <= 2);
BEGIN;
SET LOCAL ROLE regress_deleter;
DELETE FROM book WHERE id IN (2, 3) RETURNING id;
SAVEPOINT s;
UPDATE book SET deleted_at = now() WHERE id IN (1, 4);
ROLLBACK TO s;
UPDATE book SET deleted_at = now() WHERE id = 1;
ROLLBACK;
-- Nor does a view lend more than its owner's own DELETE.
CREATE VIEW any_book AS SELECT * FROM book;
GRANT SELECT, DELETE ON any_book TO regress_updater;
BEGIN;
SET LOCAL ROLE regress_updater;
DELETE FROM any_book WHERE id = 5 RETURNING id;
ROLLBACK;
DROP VIEW any_book;
ALTER TABLE book DISABLE ROW LEVEL SECURITY;

-- A policy that hides deleted rows does not stand in the way of a DELETE.
ALTER TABLE author ENABLE ROW LEVEL SECURITY;
CREATE POLICY hide ON author USING (deleted_at IS NULL);
GRANT SELECT, DELETE ON author TO regress_deleter;
BEGIN;
SET LOCAL ROLE regress_deleter;
DELETE FROM author WHERE id = 1 RETURNING id;
SELECT count(*) FROM author WHERE id = 1;
ROLLBACK;
ALTER TABLE author DISABLE ROW LEVEL SECURITY;

-- The other policies of a table.
SELECT keepsake.manage('page', on_delete => 'nothing');
SELECT keepsake.manage('page', on_delete => 'reject');
DELETE FROM page WHERE book_id = 8;
UPDATE page SET deleted_at = now() WHERE book_id = 8;
SELECT keepsake.manage('page', on_delete => 'allow');
SELECT keepsake.manage('page');
BEGIN;
DELETE FROM page WHERE book_id = 8 AND number = 1;
SELECT count(*) FROM page WHERE book_id = 8;
-- Deleted rows wait for the purge.
DELETE FROM book WHERE id = 8;
DELETE FROM page WHERE book_id = 8;
SELECT count(*) FROM page WHERE book_id = 8;
ROLLBACK;

-- What a foreign key carries out is never swallowed: it happens, or nothing does.
SELECT keepsake.manage('book', on_delete => 'allow');
BEGIN;
DELETE FROM book WHERE id = 7;
SELECT count(*) FROM page WHERE book_id = 7;
ROLLBACK;
SELECT keepsake.manage('page', on_delete => 'convert');
DELETE FROM book WHERE id = 7;
-- Also where the key's operator is one of another type, and in the purge.
BEGIN;
CREATE TYPE mood AS ENUM ('low', 'high');
CREATE TABLE person (mood mood PRIMARY KEY, code varchar(9) UNIQUE, above mood REFERENCES person ON DELETE CASCADE,
                     friend varchar(9) REFERENCES person (code) ON DELETE CASCADE);
SELECT keepsake.manage('person', '0');
INSERT INTO person VALUES ('low', 'a', NULL, NULL), ('high', 'b', 'low', 'a');
DELETE FROM person WHERE mood = 'low';
SELECT keepsake.purge_batch() AS purged;
SELECT count(*) FROM person;
ROLLBACK;
SELECT keepsake.manage('book', on_delete => 'convert');
SELECT * FROM living;

-- Without the planner's help the trigger stands in: what a session does before the library is loaded.
\c
SET search_path = plain;
SET client_min_messages = warning;
DELETE FROM author WHERE id = 4;
SELECT root_table, root_key FROM keepsake.deletion ORDER BY id DESC LIMIT 1;
SELECT * FROM living;
SELECT jsonb_array_length(keepsake.restore(id) -> 'restored') AS tables FROM (SELECT id FROM keepsake.deletion ORDER BY id DESC LIMIT 1) AS d;
SELECT * FROM living;
\c
SET search_path = plain;
SET client_min_messages = warning;
UPDATE author SET deleted_at = now() WHERE id = 4;
SELECT * FROM living;
-- Loaded at the start of a session, the planner helps with its first statement already.
SELECT current_database() AS here \gset
ALTER DATABASE :"here" SET session_preload_libraries = 'keepsake';
\c
SET search_path = plain;
DELETE FROM book WHERE author_id = 3 RETURNING title;
\echo :ROW_COUNT
ALTER DATABASE :"here" RESET session_preload_libraries;
SET client_min_messages = warning;
-- Triggers that are switched off convert nothing.
BEGIN;
SET LOCAL session_replication_role = replica;
DELETE FROM page WHERE book_id = 6;
SELECT * FROM living;
ROLLBACK;
DROP SCHEMA plain CASCADE;
DELETE FROM keepsake.deletion;
DROP ROLE regress_deleter, regress_updater;
