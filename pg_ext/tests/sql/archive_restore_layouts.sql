-- A row that was archived in an older shape of its table comes back in today's.
\pset format unaligned
\pset tuples_only on
CREATE SCHEMA kept;
SET search_path = kept, public;
SET client_min_messages = warning;
CREATE FUNCTION last(of regclass) RETURNS uuid LANGUAGE sql AS
    $$ SELECT id FROM keepsake.deletion WHERE root_table = of AND state = 'deleted' ORDER BY id DESC LIMIT 1 $$;
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE t (id int PRIMARY KEY, n int, s varchar(5), gone text, m mood, a varchar(3)[]);
SELECT keepsake.manage('t', keep => 'archive');
INSERT INTO t VALUES (1, 10, 'abc', 'g', 'sad', '{a}'), (2, 20, 'de', 'g', 'happy', NULL), (3, 30, 'f', 'g', NULL, '{x,y}');

\echo == Columns added, with what a live row of that age shows, dropped, renamed, retyped.
DELETE FROM t WHERE id < 3;
ALTER TABLE t ADD COLUMN seven int DEFAULT 7;
ALTER TABLE t ADD COLUMN empty text;
ALTER TABLE t ADD COLUMN seven_too int NOT NULL DEFAULT 7;
ALTER TABLE t ALTER seven SET DEFAULT 9;
BEGIN;
SELECT keepsake.restore(last('t')) -> 'restored';
SELECT * FROM t ORDER BY id;
ROLLBACK;
DELETE FROM t WHERE id = 3;
ALTER TABLE t DROP COLUMN gone;
ALTER TABLE t RENAME n TO number;
ALTER TABLE t ALTER number TYPE bigint;
ALTER TABLE t ALTER s TYPE varchar(10);
ALTER TYPE mood RENAME VALUE 'sad' TO 'blue';
ALTER TYPE mood ADD VALUE 'calm' BEFORE 'happy';
ALTER TABLE t ADD COLUMN twice bigint GENERATED ALWAYS AS (number * 2) STORED;
SELECT keepsake.restore(last('t')) -> 'restored';
SELECT keepsake.restore(last('t')) -> 'restored';
SELECT * FROM t ORDER BY id;

\echo == Lengths: what fits comes back, what does not is told.
DELETE FROM t WHERE id < 3;
UPDATE t SET s = 'f';
ALTER TABLE t ALTER s TYPE varchar(2);
SELECT * FROM keepsake.restore_conflicts(last('t'));
SELECT keepsake.restore(last('t'));
SELECT keepsake.restore(last('t'), 'skip') - 'deletion_id';
ALTER TABLE t ALTER s TYPE text;
SELECT keepsake.restore(last('t')) - 'deletion_id';
SELECT id, s FROM t ORDER BY id;

\echo == Types without a conversion.
DELETE FROM t WHERE id < 3;
ALTER TABLE t ALTER s TYPE int USING length(s);
SELECT * FROM keepsake.restore_conflicts(last('t'));
SELECT keepsake.restore(last('t'), 'skip') - 'deletion_id';
ALTER TABLE t DROP COLUMN s;
SELECT keepsake.restore(last('t')) - 'deletion_id';
SELECT id, number, twice FROM t ORDER BY id;

\echo == A table that was renamed and moved.
DELETE FROM t WHERE id = 1;
CREATE SCHEMA other;
ALTER TABLE t RENAME TO u;
ALTER TABLE u SET SCHEMA other;
SELECT keepsake.restore(last('other.u')) -> 'restored';
SELECT count(*) FROM other.u;
DROP SCHEMA other CASCADE;
DROP SCHEMA kept CASCADE;
DROP SCHEMA kept_deleted, other_deleted CASCADE;
DELETE FROM keepsake.deletion WHERE root_table::oid NOT IN (SELECT oid FROM pg_class);
RESET search_path;
