-- What stands in the way of archived rows: each kind is a row of the report, found before anything is written.
\pset format unaligned
\pset tuples_only on
CREATE SCHEMA kept;
SET search_path = kept, public;
SET client_min_messages = warning;
CREATE FUNCTION last(of regclass) RETURNS uuid LANGUAGE sql AS
    $$ SELECT id FROM keepsake.deletion WHERE root_table = of AND state = 'deleted' ORDER BY id DESC LIMIT 1 $$;

\echo == Unique: plain, partial, over expressions, deferrable; exclusion.
CREATE TABLE room (id int PRIMARY KEY, name text UNIQUE DEFERRABLE INITIALLY DEFERRED, slug text, during int4range,
                   EXCLUDE USING gist (during WITH &&));
CREATE UNIQUE INDEX room_slug ON room (lower(slug)) WHERE id > 1;
SELECT keepsake.manage('room', keep => 'archive');
INSERT INTO room VALUES (1, 'one', 'a', '[1,2)'), (2, 'two', 'B', '[2,3)'), (3, 'three', 'c', '[3,4)'), (4, 'four', 'd', '[4,5)'), (5, 'five', 'e', '[9,10)');
DELETE FROM room;
INSERT INTO room VALUES (1, 'x', 'A', '[10,11)'), (12, 'y', 'b', '[11,12)'), (13, 'three', 'z', '[12,13)'), (14, 'z', 'zz', '[4,6)');
SELECT * FROM keepsake.restore_conflicts(last('room'));
SELECT keepsake.restore(last('room'));
SELECT keepsake.restore(last('room'), 'skip') - 'deletion_id' - 'conflicts';
SELECT id FROM room ORDER BY 1;
SELECT row_count FROM keepsake.deletion_table WHERE deletion_id = last('room');
DELETE FROM room WHERE id IN (1, 12);
SELECT id AS d FROM keepsake.deletion WHERE root_table = 'room'::regclass ORDER BY id LIMIT 1 \gset
SELECT keepsake.restore(:'d', 'skip') - 'deletion_id' - 'conflicts';
SELECT id FROM room ORDER BY 1;

\echo == A constraint that is checked at the commit.
CREATE TABLE late (id int PRIMARY KEY, name text UNIQUE DEFERRABLE INITIALLY DEFERRED);
SELECT keepsake.manage('late', keep => 'archive');
INSERT INTO late VALUES (1, 'a');
DELETE FROM late;
INSERT INTO late VALUES (2, 'a');
SELECT keepsake.restore(last('late'));
DELETE FROM late;
SELECT keepsake.restore(last('late')) -> 'restored', keepsake.restore(last('late'), 'skip') -> 'skipped';

\echo == NOT NULL and CHECK that came since, of the table and of a domain.
CREATE DOMAIN small AS int CHECK (VALUE < 100);
CREATE TABLE item (id int PRIMARY KEY, n small, note text);
CREATE TABLE part (id int PRIMARY KEY, item_id int REFERENCES item ON DELETE CASCADE);
SELECT keepsake.manage('item', keep => 'archive', cascade => true);
INSERT INTO item VALUES (1, 5, NULL), (2, 50, 'x'), (3, 7, 'y');
INSERT INTO part VALUES (1, 1), (2, 2), (3, 3);
DELETE FROM item;
ALTER TABLE item ALTER note SET NOT NULL;
ALTER TABLE part ADD CONSTRAINT few CHECK (id < 3);
ALTER DOMAIN small ADD CONSTRAINT tiny CHECK (VALUE < 10);
SELECT * FROM keepsake.restore_conflicts(last('item'));
SELECT keepsake.restore(last('item'));
SELECT keepsake.restore(last('item'), 'skip') - 'deletion_id' - 'conflicts';
TABLE item; TABLE part;
ALTER TABLE item ALTER note DROP NOT NULL;
ALTER TABLE part DROP CONSTRAINT few;
ALTER DOMAIN small DROP CONSTRAINT tiny;
SELECT keepsake.restore(last('item')) - 'deletion_id';
SELECT count(*) FROM part JOIN item ON item.id = item_id;

\echo == A transaction that only reads is told as well, also of rows that pass to another deletion.
CREATE TABLE shelf (id int PRIMARY KEY);
CREATE TABLE room_of (id int PRIMARY KEY);
CREATE TABLE box (id int PRIMARY KEY, shelf_id int REFERENCES shelf ON DELETE CASCADE, room_id int REFERENCES room_of ON DELETE CASCADE);
SELECT keepsake.manage('box', keep => 'archive'), keepsake.manage('shelf', keep => 'archive'), keepsake.manage('room_of', keep => 'archive');
INSERT INTO shelf VALUES (1), (2);
INSERT INTO room_of VALUES (1), (2);
INSERT INTO box VALUES (1, 1, 1), (2, 1, 2);
DELETE FROM shelf WHERE id = 1;
DELETE FROM room_of WHERE id = 1;
INSERT INTO shelf VALUES (1);
BEGIN READ ONLY;
SELECT kind, table_name, key FROM keepsake.restore_conflicts(last('shelf'));
SELECT keepsake.may_change_deleted('box', '{"id": 1}');
COMMIT;

\echo == A value for a column that came after the row was archived.
CREATE TABLE grown (id int PRIMARY KEY, n int, gone text, twice int GENERATED ALWAYS AS (n * 2) STORED);
SELECT keepsake.manage('grown', keep => 'archive');
INSERT INTO grown VALUES (1, 1, 'a'), (2, 2, 'b');
DELETE FROM grown WHERE id = 1;
ALTER TABLE grown ADD early int DEFAULT 7, ALTER gone TYPE varchar(9);
ALTER TABLE grown ADD late text;
DELETE FROM grown WHERE id = 2;
SELECT keepsake.change_deleted('grown', '{"id": 2}', 'late', 'two');
UPDATE grown SET late = 'x';
ALTER TABLE grown ALTER late SET NOT NULL;
SELECT kind, key FROM keepsake.deletion d, keepsake.restore_conflicts(d.id) WHERE d.root_table = 'grown'::regclass AND d.root_key = '{"id": 1}';
SELECT keepsake.change_deleted('grown', '{"id": 1}', 'late', 'one');
SELECT keepsake.change_deleted('grown', '{"id": 1}', 'n', '5');
SELECT keepsake.restore(id) -> 'restored' FROM keepsake.deletion WHERE root_table = 'grown'::regclass ORDER BY id;
SELECT * FROM grown ORDER BY id;
DELETE FROM grown WHERE id = 2;
ALTER TABLE grown ALTER early DROP DEFAULT, ALTER early TYPE point USING point(early, early);
SELECT keepsake.change_deleted('grown', '{"id": 2}', 'late', '8');
ALTER TABLE grown ADD latest int;
SELECT keepsake.change_deleted('grown', '{"id": 2}', 'latest', '8');

\echo == Rows that another key told apart are no versions of one row.
CREATE TABLE told (a int, b int, t text, PRIMARY KEY (a, b));
SELECT keepsake.manage('told', keep => 'archive');
INSERT INTO told VALUES (1, 1, 'one'), (1, 2, 'two'), (2, 3, 'three');
DELETE FROM told;
ALTER TABLE told DROP CONSTRAINT told_pkey, ADD PRIMARY KEY (a);
SELECT kind, key FROM keepsake.restore_conflicts(last('told'));
SELECT keepsake.restore(last('told'));
SELECT keepsake.restore(last('told'), on_conflict => 'skip') -> 'restored';
SELECT t FROM told; SELECT t FROM kept_deleted.told ORDER BY t;
ALTER TABLE told DROP CONSTRAINT told_pkey, ADD uid uuid DEFAULT gen_random_uuid() PRIMARY KEY;
SELECT keepsake.restore(id, on_conflict => 'skip') -> 'restored' FROM keepsake.deletion WHERE root_table = 'told'::regclass AND state = 'deleted';
SELECT t FROM told ORDER BY t; SELECT t FROM kept_deleted.told ORDER BY t;

\echo == Nothing is left behind by a restore that cannot be whole.
DELETE FROM item;
INSERT INTO part VALUES (3, NULL);
SELECT keepsake.restore(last('item'));
SELECT count(*) FROM item;
SELECT count(*) FROM kept_deleted.item;

DROP SCHEMA kept CASCADE;
DROP SCHEMA kept_deleted CASCADE;
DELETE FROM keepsake.deletion WHERE root_table::oid NOT IN (SELECT oid FROM pg_class);
RESET search_path;
