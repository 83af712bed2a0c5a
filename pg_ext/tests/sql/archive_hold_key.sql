-- A held row of a table with an archive keeps its key, by which its hold knows it: otherwise it could be deleted and purged under another one.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE TABLE page (id int PRIMARY KEY, body text);
CREATE TABLE year (id int, year int, body text, PRIMARY KEY (id, year)) PARTITION BY RANGE (year);
CREATE TABLE year_1 PARTITION OF year FOR VALUES FROM (0) TO (10) PARTITION BY LIST (year);
CREATE TABLE year_1_1 PARTITION OF year_1 DEFAULT;
CREATE TABLE year_2 PARTITION OF year FOR VALUES FROM (10) TO (20);
CREATE TABLE extra (id int PRIMARY KEY REFERENCES page ON UPDATE CASCADE ON DELETE CASCADE);
SELECT keepsake.manage('page', '0', keep => 'archive', cascade => true), keepsake.manage('year', '0', keep => 'archive');
INSERT INTO page VALUES (1, 'a'), (2, 'b'), (3, 'c');
INSERT INTO year VALUES (1, 1), (2, 1), (3, 11);
INSERT INTO extra VALUES (2), (3);
SELECT keepsake.hold('page', 1, 'a key') AS page \gset
SELECT keepsake.hold('year', '{"id": 1, "year": 1}'::jsonb, 'a key'), keepsake.hold('extra', 2, 'a key') \gset
UPDATE page SET id = 9 WHERE id = 1;
UPDATE page SET id = id + 10;
UPDATE page SET id = 9, body = 'x' FROM (VALUES (1)) AS v (n) WHERE id = n;
WITH moved AS (UPDATE page SET id = 9 WHERE id = 1 RETURNING id) SELECT * FROM moved;
MERGE INTO page USING (VALUES (1)) AS v (n) ON id = n WHEN MATCHED THEN UPDATE SET id = 9;
INSERT INTO page VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 9;
-- By way of a foreign key, and into another partition.
UPDATE page SET id = 9 WHERE id = 2;
UPDATE year SET id = 9 WHERE id = 1;
UPDATE year SET year = 2 WHERE id = 1;
UPDATE year SET year = 12 WHERE id = 1;
UPDATE year_1_1 SET year = 2 WHERE id = 1;
-- By a trigger.
CREATE FUNCTION renumber() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.id := NEW.id + 10; RETURN NEW; END';
CREATE TRIGGER a BEFORE UPDATE ON page FOR EACH ROW WHEN (NEW.body = 'renumber') EXECUTE FUNCTION renumber();
UPDATE page SET body = 'renumber' WHERE id = 1;
DROP TRIGGER a ON page;
-- Its other columns change, and so do the keys of others.
UPDATE page SET body = 'd', id = 1 WHERE id = 1;
UPDATE page SET id = 7 WHERE id = 3;
UPDATE year SET year = 2 WHERE id = 2;
UPDATE year SET year = 3 WHERE id = 3;
SELECT id, body FROM page ORDER BY 1;
SELECT tableoid::regclass, id, year FROM year ORDER BY 2;
-- What is held is not purged; once the hold has ended, the key may change.
DELETE FROM year;
CALL keepsake.purge();
SELECT id, year FROM public_deleted.year ORDER BY 1;
SELECT keepsake.release(:page);
UPDATE page SET id = 9 WHERE id = 1;
DELETE FROM page WHERE id <> 2;
CALL keepsake.purge();
SELECT id FROM public_deleted.page;
SELECT check_name, object FROM keepsake.doctor() WHERE object ~ 'page|year|extra' AND severity = 'error';
SELECT count(keepsake.release(id)) FROM keepsake.hold WHERE reason = 'a key' AND released_at IS NULL;
CALL keepsake.purge();
DROP TABLE extra, page, year;
DROP FUNCTION renumber;
DELETE FROM keepsake.hold WHERE reason = 'a key';
RESET client_min_messages;
