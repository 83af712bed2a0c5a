-- What a transaction set to NULL or to a default is remembered, if it removed what was referred to.
CREATE SCHEMA loose;
SET search_path = loose;
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY, a int REFERENCES parent ON DELETE SET NULL, b int DEFAULT 9 REFERENCES parent ON DELETE SET DEFAULT, c int REFERENCES parent, note text);
CREATE TABLE member (id int PRIMARY KEY, child_id int REFERENCES child ON DELETE CASCADE);
SELECT keepsake.manage('parent', keep => 'archive', cascade => true), keepsake.manage('member', keep => 'archive');
SELECT tgrelid::regclass, tgname, tgattr, tgqual FROM pg_trigger WHERE tgname = 'keepsake_archive_reference' ORDER BY 1;
INSERT INTO parent SELECT generate_series(1, 9);
INSERT INTO child VALUES (1, 1, NULL, NULL, 'by the foreign key'), (2, NULL, 2, NULL, 'to the default'), (3, NULL, NULL, 3, 'by the application'), (4, 4, NULL, NULL, 'not removed'), (5, 5, 5, NULL, 'twice');
CREATE VIEW kept AS SELECT d.root_key AS of, u.relation, u.columns, u.key_values, u.old_values, u.new_values, u.group_id = d.group_id AS same_group
    FROM keepsake.archive_undo u JOIN keepsake.deletion d ON d.id = u.deletion_id ORDER BY d.id, u.key_values::text, 3;
DELETE FROM parent WHERE id = 1;
DELETE FROM parent WHERE id = 2;
BEGIN; UPDATE child SET c = NULL WHERE id = 3; DELETE FROM parent WHERE id = 3; COMMIT;
-- Without a removal of the parent there is nothing to put back, nor where the statement or savepoint was rolled back.
UPDATE child SET a = NULL WHERE id = 4; UPDATE child SET a = 4 WHERE id = 4; UPDATE child SET note = 'x'; UPDATE child SET a = a, note = 'y';
BEGIN; SAVEPOINT s; UPDATE child SET a = NULL WHERE id = 4; ROLLBACK TO s; DELETE FROM parent WHERE id = 8; COMMIT;
BEGIN; DELETE FROM parent WHERE id = 5; ROLLBACK;
DELETE FROM parent WHERE id = 5;
SELECT * FROM kept;
SELECT * FROM child ORDER BY id;
-- An undo that a savepoint took back is entered with the removal that stays.
BEGIN; UPDATE child SET a = NULL WHERE id = 4; SAVEPOINT s; DELETE FROM parent WHERE id = 4; ROLLBACK TO s; DELETE FROM parent WHERE id = 4; COMMIT;
SELECT * FROM kept WHERE of = '{"id": 4}';
-- The column can be retyped and dropped all the same.
ALTER TABLE child ALTER a TYPE bigint; ALTER TABLE child DROP a;
SELECT keepsake.purge_deletion(id) IS NOT NULL FROM keepsake.deletion WHERE root_table = 'parent'::regclass AND root_key = '{"id": 3}';
SELECT count(*) FROM kept WHERE of = '{"id": 3}';
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA loose, loose_deleted CASCADE;
SELECT count(*) FROM keepsake.archive_undo;
