-- keepsake.live_unique() keeps of a unique index all but the deleted rows, and says what it cannot do.
SET client_min_messages = warning;
CREATE SCHEMA uniq;
SET search_path = uniq;
CREATE TABLE t (id int PRIMARY KEY, a text COLLATE "POSIX", b text, c int, d int UNIQUE, e int, f int,
    CONSTRAINT ab UNIQUE (a, b) INCLUDE (c), CONSTRAINT def UNIQUE (e) DEFERRABLE INITIALLY DEFERRED);
CREATE UNIQUE INDEX expr ON t (lower(b) text_pattern_ops DESC NULLS LAST) WITH (fillfactor = 70) WHERE c > 0 OR c < -9;
CREATE UNIQUE INDEX "Live Already" ON t (f) WHERE e IS NULL;
COMMENT ON CONSTRAINT ab ON t IS 'both';
CREATE TABLE child (id int PRIMARY KEY, d int REFERENCES t (d));
SELECT keepsake.live_unique('t');
SET client_min_messages = notice;
SELECT keepsake.manage('t');
SET client_min_messages = warning;
SELECT * FROM keepsake.live_unique('t');
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 't'::regclass ORDER BY indexrelid::regclass::text;
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 't'::regclass AND contype IN ('u', 'x') ORDER BY 1;
SELECT obj_description('ab'::regclass, 'pg_class');
SELECT * FROM keepsake.live_unique('t');
-- They hold for live rows.
INSERT INTO t VALUES (1, 'x', 'y', 1, 1, 1);
DELETE FROM t WHERE id = 1;
INSERT INTO t VALUES (2, 'x', 'y', 1, 2, 1);
INSERT INTO t VALUES (3, 'x', 'y', 0, 3, 3);
BEGIN;
INSERT INTO t VALUES (4, 'z', 'z', 1, 4, 1);
UPDATE t SET e = 9 WHERE id = 4;
COMMIT;
INSERT INTO t VALUES (5, 'q', 'q', 1, 5, 1);
\set VERBOSITY sqlstate
SELECT keepsake.restore(deletion_id) FROM t WHERE id = 1;
\set VERBOSITY default
-- The conditions of an index are known by today's names.
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE felt (id int PRIMARY KEY, mood mood, name text);
SELECT keepsake.manage('felt');
CREATE UNIQUE INDEX once_good ON felt (name) WHERE mood = 'good' AND deleted_at IS NULL;
INSERT INTO felt VALUES (1, 'good', 'a'), (2, 'good', 'b');
DELETE FROM felt WHERE id = 1;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM felt WHERE id = 1;
ALTER TYPE mood RENAME VALUE 'good' TO 'fine';
DELETE FROM felt WHERE id = 1;
INSERT INTO felt VALUES (3, 'fine', 'a');
SELECT c.constraint_name, c.holder FROM felt, keepsake.restore_conflicts(deletion_id) c WHERE id = 1;
RESET search_path;
DELETE FROM keepsake.deletion WHERE root_table::text LIKE 'uniq.%';
DROP SCHEMA uniq CASCADE;
RESET client_min_messages;
