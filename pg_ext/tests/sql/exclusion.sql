-- Rows of one deletion that exclude each other: found among neighbours, not each with each.
CREATE SCHEMA booking;
SET search_path = booking, public;
CREATE TABLE house (id int PRIMARY KEY);
CREATE TABLE stay (id int PRIMARY KEY, house_id int REFERENCES house ON DELETE CASCADE, room int4range, during daterange, span int4range);
SELECT keepsake.manage('house'), keepsake.manage('stay');
ALTER TABLE stay ADD CONSTRAINT room_taken EXCLUDE USING gist (room WITH =, during WITH &&) WHERE (deleted_at IS NULL),
    ADD CONSTRAINT span_taken EXCLUDE USING gist (span WITH &&) WHERE (deleted_at IS NULL);
-- What one transaction deletes and puts anew belongs to one deletion: bounds that touch, empty and endless ranges, NULLs.
INSERT INTO house VALUES (1);
INSERT INTO stay VALUES (1, 1, '[1,2)', '[2024-01-01,2024-01-05)', '[1,3)'), (2, 1, '[1,2)', '[2024-01-05,2024-01-09)', '[3,5)'), (3, 1, '[2,3)', '[2024-01-01,2024-01-05)', 'empty'),
    (4, 1, NULL, '[2024-01-01,)', NULL), (5, 1, '[3,4)', '(,2024-01-03)', '[90,)'), (6, 1, '[4,5)', 'empty', '(,-5)');
BEGIN;
DELETE FROM stay WHERE id IN (1, 5, 6);
INSERT INTO stay VALUES (11, 1, '[1,2)', '[2024-01-04,2024-01-05)', '[2,3)'), (15, 1, '[3,4)', '(,2020-01-01)', '[1000,1001)'), (16, 1, '[4,5)', '(,)', '[-7,-6)'), (17, 1, '[5,6)', '(,)', '[5,6)');
DELETE FROM house;
COMMIT;
SELECT c.key, c.constraint_name, c.holder FROM keepsake.deletion d, keepsake.restore_conflicts(d.id) c
WHERE d.root_table = 'house'::regclass AND d.state = 'deleted' ORDER BY 2, 1::text, 3::text;
SELECT keepsake.restore(id, on_conflict => 'skip') -> 'restored' AS restored FROM keepsake.deletion WHERE root_table = 'house'::regclass AND state = 'deleted';
SELECT id FROM stay WHERE deleted_at IS NULL ORDER BY 1;
-- Many rows that do not: pairs of all of them would take minutes.
CREATE TABLE many (id int PRIMARY KEY, house_id int REFERENCES house ON DELETE CASCADE, span int4range);
SELECT keepsake.manage('many');
ALTER TABLE many ADD CONSTRAINT many_taken EXCLUDE USING gist (span WITH &&) WHERE (deleted_at IS NULL);
INSERT INTO house VALUES (2);
INSERT INTO many SELECT n, 2, int4range(3 * n, 3 * n + 2) FROM generate_series(1, 5000) AS n;
DELETE FROM house WHERE id = 2;
SELECT keepsake.restore(id) -> 'restored' AS restored FROM keepsake.deletion WHERE root_table = 'house'::regclass AND root_key = '{"id": 2}';
