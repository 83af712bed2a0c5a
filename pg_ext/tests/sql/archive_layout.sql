-- An archive follows its table also where no event trigger tells of a change: a DELETE compares.
CREATE SCHEMA plan;
SET search_path = plan;
CREATE TABLE t (id int PRIMARY KEY, a varchar(5), b int);
SELECT keepsake.manage('t', keep => 'archive');
ALTER EVENT TRIGGER keepsake_follow_archives DISABLE; ALTER EVENT TRIGGER keepsake_follow_rewrite DISABLE; ALTER EVENT TRIGGER keepsake_follow_drops DISABLE;
INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (4, 'd', 4), (5, 'e', 5), (6, 'f', 6), (7, 'g', 7), (8, 'h', 8);
DELETE FROM t WHERE id = 1;
ALTER TABLE t ADD c int DEFAULT 7; DELETE FROM t WHERE id = 2;
ALTER TABLE t RENAME a TO a2; DELETE FROM t WHERE id = 3;
ALTER TABLE t ALTER a2 TYPE text; DELETE FROM t WHERE id = 4;
ALTER TABLE t DROP b; DELETE FROM t WHERE id = 5;
ALTER TABLE t ADD b text COLLATE "C"; ALTER TABLE t ALTER b SET STORAGE EXTERNAL; UPDATE t SET b = 'new'; DELETE FROM t WHERE id = 6;
-- Names that change places.
ALTER TABLE t RENAME a2 TO x; ALTER TABLE t RENAME b TO a2; ALTER TABLE t RENAME x TO b; DELETE FROM t WHERE id = 7;
ALTER TABLE t ALTER COLUMN a2 DROP NOT NULL; DELETE FROM t WHERE id = 8;
SELECT * FROM (SELECT row_number() OVER (ORDER BY keepsake_deletion) AS n, to_jsonb(t) - 'keepsake_deletion' - 'keepsake_seq' AS row FROM plan_deleted.t) AS r;
SELECT layout, source_attnum, source_name, archive_name, type, typmod, "collation", missing FROM keepsake.archive_column WHERE archive = 'plan_deleted.t'::regclass ORDER BY 1, 2;
SELECT attnum, attname, format_type(atttypid, atttypmod), coalesce(attstattarget, -1) AS target, attstorage FROM pg_attribute WHERE attrelid = 'plan_deleted.t'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum;
-- A column that is dropped is erased from the archive, also where it was kept under an earlier type.
ALTER TABLE t DROP b; INSERT INTO t VALUES (20); DELETE FROM t;
SELECT attname FROM pg_attribute WHERE attrelid = 'plan_deleted.t'::regclass AND attnum > 3 AND NOT attisdropped ORDER BY attnum;
-- A change within the transaction, and one that is rolled back.
INSERT INTO t VALUES (9), (10);
BEGIN; ALTER TABLE t ADD d int DEFAULT 1; DELETE FROM t WHERE id = 9; ROLLBACK;
BEGIN; DELETE FROM t WHERE id = 9; ALTER TABLE t ADD d int DEFAULT 1; DELETE FROM t WHERE id = 10; COMMIT;
SELECT keepsake_layout, id, d FROM plan_deleted.t WHERE id IN (9, 10) ORDER BY id;
-- A table that is renamed, or moved, is still the same.
CREATE SCHEMA other; ALTER TABLE t RENAME TO u; ALTER TABLE u SET SCHEMA other; INSERT INTO other.u VALUES (11); DELETE FROM other.u;
SELECT keepsake_layout, id, d FROM plan_deleted.t WHERE id = 11;
ALTER EVENT TRIGGER keepsake_follow_archives ENABLE; ALTER EVENT TRIGGER keepsake_follow_rewrite ENABLE; ALTER EVENT TRIGGER keepsake_follow_drops ENABLE;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA plan, plan_deleted, other CASCADE;
