-- Single rows, and rows that hang on each other: what is looked up without a query, left out of a statement, or taken at once.
SET client_min_messages = warning;
CREATE SCHEMA few;
SET search_path = few;

-- An INSERT with marks is refused, however it says so; one that leaves them NULL goes without the trigger.
CREATE TABLE parent (id int PRIMARY KEY, name text);
CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent ON DELETE CASCADE, key text);
SELECT keepsake.manage('parent'), keepsake.manage('child');
INSERT INTO parent VALUES (1, 'one'), (2, 'two');
INSERT INTO parent (id, deleted_at) VALUES (3, '2026-01-01');
INSERT INTO parent (id, deletion_id) VALUES (3, NULL), (4, '00000000-0000-7000-8000-000000000001');
INSERT INTO parent SELECT 3, 'three', '2026-01-01' ORDER BY 1 LIMIT 1;
PREPARE marked (timestamptz) AS INSERT INTO parent VALUES (3, 'three', $1);
EXECUTE marked ('2026-01-01');
ALTER TABLE parent ALTER deleted_at SET DEFAULT '2026-01-01';
INSERT INTO parent VALUES (3, 'three');
ALTER TABLE parent ALTER deleted_at DROP DEFAULT;
CREATE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.deleted_at = '2026-01-01'; RETURN new; END $$;
CREATE TRIGGER a_marks BEFORE INSERT ON parent FOR EACH ROW WHEN (new.id > 2) EXECUTE FUNCTION mark();
INSERT INTO parent VALUES (3, 'three');
DROP TRIGGER a_marks ON parent;
INSERT INTO parent VALUES (3, 'three') ON CONFLICT DO NOTHING;
INSERT INTO parent VALUES (4, 'four') RETURNING *;

-- What finds the parent is found anew when the parent changes.
PREPARE one (int, int) AS INSERT INTO child VALUES ($1, $2);
EXECUTE one (1, 1);
DELETE FROM parent WHERE id = 2;
EXECUTE one (2, 2);
EXECUTE one (2, NULL);
UPDATE child SET parent_id = 2 WHERE id = 2;
UPDATE child SET parent_id = 3 WHERE id = 2;
ALTER TABLE parent DROP CONSTRAINT parent_pkey CASCADE, ADD PRIMARY KEY (id);
ALTER TABLE child ADD FOREIGN KEY (parent_id) REFERENCES parent ON DELETE CASCADE;
EXECUTE one (3, 2);
EXECUTE one (3, 1);
ALTER TABLE child ADD more int, DROP key;
EXECUTE one (4, 2);
EXECUTE one (4, 1);
ALTER TABLE child ALTER parent_id TYPE bigint;
EXECUTE one (5, 2);
EXECUTE one (5, 1);

-- The root of a deletion, by keys of several types.
CREATE TABLE keyed (id uuid, name varchar(9), n bigint, is_on bool, t text, PRIMARY KEY (id, name, n, is_on, t));
CREATE DOMAIN whole AS int;
CREATE TABLE domained (id whole PRIMARY KEY);
SELECT keepsake.manage('keyed'), keepsake.manage('domained');
INSERT INTO keyed VALUES ('00000000-0000-7000-8000-000000000001', 'a"b', 12345678901234567, true, E'x\ny');
INSERT INTO domained VALUES (7);
DELETE FROM keyed;
DELETE FROM domained;
DELETE FROM parent WHERE id > 2;
SELECT root_table::regclass, root_key FROM keepsake.deletion WHERE root_table IN ('keyed'::regclass, 'domained'::regclass, 'parent'::regclass) ORDER BY id;
DROP INDEX keyed_deletion_id_idx;
SELECT keepsake.restore(id) IS NOT NULL AS restored FROM keepsake.deletion WHERE root_table = 'keyed'::regclass;
DELETE FROM keyed;
SELECT root_key FROM keepsake.deletion WHERE root_table = 'keyed'::regclass AND state = 'deleted';

-- A chain, a tree that is wider than what is taken at once, and rows that do not hang on it.
CREATE TABLE link (id int, of int, up int, PRIMARY KEY (of, id), FOREIGN KEY (of, up) REFERENCES link ON DELETE CASCADE);
CREATE INDEX ON link (of, up);
SELECT keepsake.manage('link');
INSERT INTO link SELECT n, 1, nullif(n - 1, 0) FROM generate_series(1, 500) AS n;
INSERT INTO link SELECT n, 2, nullif(n - 1, 0) FROM generate_series(1, 8) AS n;
INSERT INTO link SELECT n, 2, 8 FROM generate_series(101, 12000) AS n;
INSERT INTO link SELECT n + 20000, 2, n FROM generate_series(101, 12000, 100) AS n;
INSERT INTO link SELECT n + 40000, 2, n + 20000 FROM generate_series(101, 12000, 1000) AS n;
INSERT INTO link VALUES (1, 3, NULL), (2, 3, 1);
DELETE FROM link WHERE id = 3;
SELECT of, count(*) FILTER (WHERE deleted_at IS NULL) AS live, count(deleted_at) AS deleted, count(DISTINCT deletion_id) AS deletions FROM link GROUP BY of ORDER BY of;
SELECT sum(row_count) FROM keepsake.deletion_table WHERE relation = 'link'::regclass;
SELECT keepsake.restore(id) IS NOT NULL AS restored FROM keepsake.deletion WHERE root_table = 'link'::regclass;
SELECT count(*) FROM link WHERE deleted_at IS NOT NULL;
-- Rows that refer to each other in a circle.
UPDATE link SET up = 500 WHERE (of, id) = (1, 1);
SELECT keepsake.soft_delete('link', '{"of": 1, "id": 250}'::jsonb) IS NOT NULL AS done;
SELECT of, count(*) FILTER (WHERE deleted_at IS NULL) AS live, count(deleted_at) AS deleted FROM link GROUP BY of ORDER BY of;

-- A chain of keys that PostgreSQL cannot hash.
CREATE TABLE bits (id bit varying PRIMARY KEY, up bit varying REFERENCES bits ON DELETE CASCADE);
SELECT keepsake.manage('bits');
INSERT INTO bits SELECT n::bit(8), nullif(n - 1, 0)::bit(8) FROM generate_series(1, 12) AS n;
DELETE FROM bits WHERE id = 1::bit(8);
SELECT count(*) FILTER (WHERE deleted_at IS NULL) AS live, count(DISTINCT deletion_id) AS deletions FROM bits;
SELECT keepsake.restore(id) -> 'restored' -> 0 -> 'rows' AS restored FROM keepsake.deletion WHERE root_table = 'bits'::regclass;

-- A restore finds the parents of declared references by their key, however many others there are.
CREATE TABLE post (id bigint PRIMARY KEY);
CREATE TABLE note (id int PRIMARY KEY, of_type text, of_id text);
CREATE INDEX ON note (of_type, of_id);
SELECT keepsake.manage('post'), keepsake.manage('note'), keepsake.declare_reference('note', 'of_type', 'of_id', 'post', 'post');
INSERT INTO post SELECT generate_series(1, 5000);
INSERT INTO note VALUES (1, 'post', '7'), (2, 'post', '7');
ANALYZE post, note;
DELETE FROM post WHERE id = 7;
BEGIN;
SELECT seq_scan AS before FROM pg_stat_xact_user_tables WHERE relid = 'post'::regclass \gset
SELECT keepsake.restore(id) IS NOT NULL AS restored FROM keepsake.deletion WHERE root_table = 'post'::regclass;
SELECT seq_scan - :before AS scans_of_all FROM pg_stat_xact_user_tables WHERE relid = 'post'::regclass;
COMMIT;

-- What finds the parent of a single row is kept while other tables, types and functions change; not when something is declared for a table that the
-- partition is one of, whose guards stand already, or when the parent changes.
CREATE VIEW looks AS SELECT coalesce(seq_scan, 0) + coalesce(idx_scan, 0) AS looks FROM pg_stat_xact_user_tables WHERE relid = 'keepsake.declared_reference'::regclass;
CREATE TABLE shelf (id int PRIMARY KEY);
CREATE TABLE book (id int, part int, shelf int REFERENCES shelf, of_type text, of_id int, PRIMARY KEY (part, id)) PARTITION BY LIST (part);
CREATE TABLE book_1 PARTITION OF book FOR VALUES IN (1);
SELECT keepsake.manage('shelf'), keepsake.manage('book');
INSERT INTO shelf VALUES (1), (2);
DELETE FROM shelf WHERE id = 2;
-- The first of a session makes a schema.
CREATE TEMP TABLE first_one (id int);
INSERT INTO book VALUES (1, 1, 1);
INSERT INTO book VALUES (2, 1, 1);
UPDATE book SET shelf = NULL WHERE id = 2;
UPDATE book SET shelf = 1 WHERE id = 2;
BEGIN;
CREATE TEMP TABLE unrelated (id int PRIMARY KEY);
CREATE FUNCTION unrelated() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TYPE unrelated_too AS ENUM ('a');
ANALYZE unrelated;
SELECT looks AS before FROM looks \gset
INSERT INTO book VALUES (3, 1, 1);
UPDATE book SET shelf = NULL WHERE id = 3;
UPDATE book SET shelf = 1 WHERE id = 3;
SELECT looks - :before AS looks FROM looks;
SAVEPOINT refused;
INSERT INTO book VALUES (4, 1, 2);
ROLLBACK TO refused;
ANALYZE shelf;
SELECT looks AS before FROM looks \gset
INSERT INTO book VALUES (5, 1, 1);
SELECT looks > :before AS looks_again FROM looks;
ROLLBACK;
SELECT keepsake.declare_reference('book', 'of_type', 'of_id', 'shelf', 'shelf');
INSERT INTO book VALUES (6, 1, 1, 'shelf', 2);
INSERT INTO book VALUES (7, 1, 1, 'shelf', 1);
SELECT id FROM book ORDER BY id;

DROP SCHEMA few CASCADE;
