-- No live row refers to a deleted one, and nobody but the engine writes the marks.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('post', 10) IS NOT NULL AS done;
SAVEPOINT s;
INSERT INTO comment VALUES (300, 10);
ROLLBACK TO s;
INSERT INTO comment SELECT 300 + n, CASE WHEN n < 3 THEN 20 ELSE 10 END FROM generate_series(1, 3) n;
ROLLBACK TO s;
UPDATE comment SET post_id = 10 WHERE id = 200;
ROLLBACK TO s;
INSERT INTO comment VALUES (300, 20, 100);
ROLLBACK TO s;
INSERT INTO comment VALUES (200, 20) ON CONFLICT (id) DO UPDATE SET post_id = 10;
ROLLBACK TO s;
-- An update that moves nothing is nobody's business.
UPDATE comment SET post_id = post_id WHERE id = 200;
DELETE FROM post WHERE id = 20;
ROLLBACK TO s;
DELETE FROM post WHERE id = 999;
TRUNCATE comment;
ROLLBACK TO s;
TRUNCATE thread CASCADE;
ROLLBACK TO s;
UPDATE post SET deleted_at = now() WHERE id = 20;
ROLLBACK TO s;
UPDATE post SET deleted_at = NULL, deletion_id = NULL WHERE id = 10;
ROLLBACK TO s;
-- Setting the marks to what they are is no change (ORMs write every column).
UPDATE post SET deleted_at = deleted_at, slug = 'c' WHERE id = 20;
ROLLBACK;

-- RESTRICT and NO ACTION refuse, after the cascade: a row that goes too is no obstacle.
BEGIN;
CALL fill();
CREATE TABLE pin (id int PRIMARY KEY, post_id bigint REFERENCES post ON DELETE CASCADE, comment_id int REFERENCES comment);
SELECT keepsake.manage('pin');
INSERT INTO pin VALUES (1, 10, 100), (2, 11, 101);
SAVEPOINT s;
SELECT keepsake.soft_delete('post', 10);
ROLLBACK TO s;
SELECT * FROM live WHERE tbl = 'post';
SELECT keepsake.soft_delete('pin', 2) IS NOT NULL AS done;
SELECT keepsake.soft_delete('post', 10) IS NOT NULL AS done;
ROLLBACK;

-- A table that is not managed counts as restricting, whatever its foreign key says: its rows would be lost.
BEGIN;
CALL fill();
CREATE TABLE stray (post_id bigint REFERENCES post ON DELETE CASCADE);
SELECT keepsake.manage('post');
INSERT INTO stray VALUES (10);
SAVEPOINT s;
SELECT keepsake.soft_delete('post', 10);
ROLLBACK TO s;
SELECT keepsake.soft_delete('post', 11) IS NOT NULL AS done;
INSERT INTO stray VALUES (11);
ROLLBACK;

-- SET NULL: the reference stays until the purge, so that restore needs no memory of it.
BEGIN;
CALL fill();
CREATE TABLE draft (id int PRIMARY KEY, post_id bigint REFERENCES post ON DELETE SET NULL);
SELECT keepsake.manage('draft');
INSERT INTO draft VALUES (1, 10);
SELECT keepsake.soft_delete('post', 10) AS d \gset
SELECT * FROM draft;
SELECT keepsake.purge_deletion(:'d') -> 'rows' AS purged;
SELECT id, post_id FROM draft;
ROLLBACK;

-- The guard's plan follows a change of the table it was made for.
BEGIN;
CALL fill();
INSERT INTO comment VALUES (400, 10);
ALTER TABLE comment ADD COLUMN mood text;
INSERT INTO comment VALUES (401, 10);
ALTER TABLE comment RENAME COLUMN post_id TO post;
INSERT INTO comment VALUES (402, 10);
SELECT keepsake.soft_delete('post', 10) IS NOT NULL AS done;
INSERT INTO comment VALUES (403, 10);
ROLLBACK;

-- What a statement of many rows was planned for is not done for one: the parents are not read whole.
BEGIN;
CREATE TABLE maker (id int PRIMARY KEY, note text);
CREATE TABLE made (id int PRIMARY KEY, maker int REFERENCES maker ON DELETE CASCADE);
SELECT keepsake.manage('maker'), keepsake.manage('made');
INSERT INTO maker SELECT n FROM generate_series(1, 5000) AS n;
ANALYZE maker;
INSERT INTO made SELECT n, n FROM generate_series(1, 5000) AS n;
SELECT pg_stat_get_xact_tuples_returned('maker'::regclass) AS before \gset
INSERT INTO made VALUES (5001, 1);
SELECT pg_stat_get_xact_tuples_returned('maker'::regclass) - :before < 100 AS read_few;
ROLLBACK;

-- A row that is deleted by what a trigger of its own does refers to nothing any more.
BEGIN;
CREATE TABLE shelf (id int PRIMARY KEY);
CREATE TABLE box (id int PRIMARY KEY, shelf_id int REFERENCES shelf ON DELETE CASCADE, breaks boolean);
CREATE FUNCTION break_shelf() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.breaks THEN DELETE FROM shelf WHERE id = NEW.shelf_id; END IF; RETURN NULL; END$$;
CREATE TRIGGER a_trigger AFTER INSERT OR UPDATE OF shelf_id ON box FOR EACH ROW EXECUTE FUNCTION break_shelf();
SELECT keepsake.manage('shelf'), keepsake.manage('box');
INSERT INTO shelf VALUES (1), (2), (3);
INSERT INTO box VALUES (1, 1, true);
INSERT INTO box VALUES (2, 2, true), (3, 3, false);
UPDATE box SET shelf_id = 3, breaks = true WHERE id = 3;
SELECT id, deleted_at IS NULL AS live FROM shelf ORDER BY id;
UPDATE box SET shelf_id = 3, breaks = false WHERE id = 3 AND shelf_id = 3;
SAVEPOINT before;
INSERT INTO shelf VALUES (4);
INSERT INTO box VALUES (4, 4, false);
UPDATE box SET shelf_id = NULL, breaks = true WHERE id = 4;
UPDATE box SET shelf_id = 4 WHERE id = 4;
SELECT id, deleted_at IS NULL AS live FROM box ORDER BY id;
INSERT INTO box VALUES (5, 2, false);
ROLLBACK TO before;
ROLLBACK;
