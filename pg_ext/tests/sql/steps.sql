-- What one transaction deletes beneath a row, by statements of its own or by a trigger, comes back with it.
SET client_min_messages = warning;
CREATE SCHEMA steps;
SET search_path = steps;
SELECT current_database() AS here \gset
ALTER DATABASE :"here" SET session_preload_libraries = 'keepsake';
\c -
SET client_min_messages = warning;
SET search_path = steps;
CREATE TABLE author (id int PRIMARY KEY, n text);
CREATE TABLE book (id int PRIMARY KEY, author_id int REFERENCES author ON DELETE CASCADE, next int REFERENCES book);
CREATE TABLE page (id int PRIMARY KEY, book_id int REFERENCES book ON DELETE CASCADE, note int);
CREATE TABLE mark (id int PRIMARY KEY, page_id int REFERENCES page ON DELETE SET NULL);
CREATE INDEX ON book (author_id); CREATE INDEX ON page (book_id); CREATE INDEX ON mark (page_id); CREATE INDEX ON book (next);
SELECT keepsake.manage('author'), keepsake.manage('book'), keepsake.manage('page'), keepsake.manage('mark');
CREATE VIEW live AS SELECT (SELECT string_agg(id::text, ' ' ORDER BY id) FROM author WHERE deleted_at IS NULL) AS author,
    (SELECT string_agg(id::text, ' ' ORDER BY id) FROM book WHERE deleted_at IS NULL) AS book,
    (SELECT string_agg(id::text, ' ' ORDER BY id) FROM page WHERE deleted_at IS NULL) AS page,
    (SELECT string_agg(id || ':' || coalesce(page_id::text, '-'), ' ' ORDER BY id) FROM mark WHERE deleted_at IS NULL) AS mark;
CREATE VIEW made AS SELECT d.root_table, d.root_key, t.relation, t.row_count, d.group_id = (SELECT min(group_id::text)::uuid FROM keepsake.deletion) AS first_group
    FROM keepsake.deletion d JOIN keepsake.deletion_table t ON t.deletion_id = d.id
    WHERE d.state = 'deleted' AND d.root_table::text LIKE 'steps.%' OR d.state = 'deleted' AND d.root_table IN ('author'::regclass, 'book', 'page', 'mark') ORDER BY d.id, t.relation::text;
INSERT INTO author VALUES (1, 'a'), (2, 'b');
INSERT INTO book VALUES (1, 1, NULL), (2, 1, 1), (3, 2, NULL);
INSERT INTO page (id, book_id) VALUES (1, 1), (2, 2), (3, 2), (4, 3);
INSERT INTO mark VALUES (1, 1), (2, 3), (3, 4);
-- As an object-relational mapper does it: children first.
BEGIN;
DELETE FROM page WHERE book_id IN (1, 2);
DELETE FROM book WHERE id IN (2, 1);
DELETE FROM author WHERE id IN (1);
COMMIT;
SELECT root_table, root_key, relation, row_count FROM made;
SELECT * FROM keepsake.restore_conflicts((SELECT deletion_id FROM author WHERE id = 1));
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM author WHERE id = 1;
SELECT * FROM live;
-- Each row by itself, others in between, a savepoint that is undone, and a row that was deleted in a transaction before.
DELETE FROM page WHERE id = 1;
BEGIN;
DELETE FROM page WHERE id = 2;
DELETE FROM page WHERE id = 4;
SAVEPOINT s;
DELETE FROM page WHERE id = 3;
DELETE FROM author WHERE id = 1;
ROLLBACK TO s;
DELETE FROM book WHERE id = 2;
DELETE FROM book WHERE id = 1;
SELECT keepsake.soft_delete('author', 1) IS NOT NULL AS done;
COMMIT;
SELECT root_table, root_key, relation, row_count FROM made;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM author WHERE id = 1;
SELECT * FROM live;
SELECT count(keepsake.restore(deletion_id)) FROM page WHERE deletion_id IS NOT NULL;
SELECT * FROM live;
-- Rows of one statement of which some are beneath the parent: the others keep their deletion.
BEGIN;
DELETE FROM page;
DELETE FROM author WHERE id = 2;
COMMIT;
SELECT root_table, root_key, relation, row_count FROM made;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM author WHERE id = 2;
SELECT * FROM live;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM page WHERE id = 1;
SELECT * FROM live;
-- A reference without an action, as Django makes it.
CREATE TABLE a2 (id int PRIMARY KEY);
CREATE TABLE b2 (id int PRIMARY KEY, a_id int NOT NULL REFERENCES a2 DEFERRABLE INITIALLY DEFERRED);
SELECT keepsake.manage('a2'), keepsake.manage('b2');
INSERT INTO a2 VALUES (1); INSERT INTO b2 VALUES (1, 1), (2, 1);
BEGIN; DELETE FROM b2; DELETE FROM a2; COMMIT;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM a2;
SELECT count(*) FROM b2 WHERE deleted_at IS NULL;
-- A deletion whose rows went over is gone: its id is as one that was never made; a hold on it goes over.
BEGIN;
SELECT keepsake.soft_delete('b2', 1) AS d \gset
SELECT keepsake.hold(:'d'::uuid, 'court') IS NOT NULL AS held;
SELECT keepsake.soft_delete('b2', 2) IS NOT NULL AS done;
SELECT keepsake.soft_delete('a2', 1) AS a \gset
SELECT deletion_id = :'a' AS of_parent FROM keepsake.hold WHERE reason = 'court';
SELECT count(*) FROM keepsake.deletion WHERE id = :'d';
ROLLBACK;

-- An application's own cascade, by a trigger that runs before ours.
CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL THEN UPDATE steps.book SET deleted_at = NEW.deleted_at WHERE author_id = NEW.id AND deleted_at IS NULL; END IF; RETURN NULL; END $$;
CREATE TRIGGER own AFTER UPDATE OF deleted_at ON author FOR EACH ROW EXECUTE FUNCTION own();
DELETE FROM author WHERE id = 1;
SELECT root_table, root_key, relation, row_count FROM made;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM author WHERE id = 1;
UPDATE author SET deleted_at = now() WHERE id = 1;
SELECT root_table, root_key, relation, row_count FROM made;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM author WHERE id = 1;
SELECT keepsake.restore(keepsake.soft_delete('author', 1)) -> 'restored' AS restored;
SELECT * FROM live;
DROP TRIGGER own ON author;

-- A trigger that wants a live parent: parents come back first, in a table that refers to itself level by level.
CREATE FUNCTION chk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.deleted_at IS NULL AND EXISTS (SELECT FROM steps.author WHERE id = NEW.author_id AND deleted_at IS NOT NULL) THEN RAISE EXCEPTION 'author of % is deleted', NEW.id; END IF;
  IF NEW.deleted_at IS NULL AND EXISTS (SELECT FROM steps.book WHERE id = NEW.next AND deleted_at IS NOT NULL) THEN RAISE EXCEPTION 'next of % is deleted', NEW.id; END IF;
  RETURN NEW; END $$;
CREATE TRIGGER chk BEFORE INSERT OR UPDATE ON book FOR EACH ROW EXECUTE FUNCTION chk();
SELECT keepsake.override_reference('book', 'book_next_fkey', 'cascade');
INSERT INTO author VALUES (3);
INSERT INTO book SELECT n, 3, NULL FROM generate_series(10, 13) n;
UPDATE book SET next = id + 1 WHERE id BETWEEN 10 AND 12;
DELETE FROM author WHERE id = 3;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM author WHERE id = 3;
DELETE FROM book WHERE id = 13;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM book WHERE id = 13;
SELECT * FROM live;

ALTER DATABASE :"here" RESET session_preload_libraries;
RESET search_path;
DELETE FROM keepsake.deletion WHERE root_table::text LIKE 'steps.%';
DROP SCHEMA steps CASCADE;
RESET client_min_messages;
