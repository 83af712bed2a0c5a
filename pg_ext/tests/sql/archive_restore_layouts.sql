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

\echo == What USING made of live rows is not guessed for archived ones; a cast is done, and each change of a type in its turn.
CREATE TABLE conv (id int PRIMARY KEY, price numeric(6,2), word text, same int, cast_to text, plus text);
SELECT keepsake.manage('conv', keep => 'archive');
INSERT INTO conv VALUES (1, 1.75, 'one', 1, '1', 'a'), (2, 2.25, NULL, NULL, NULL, 'b');
DELETE FROM conv WHERE id = 1;
ALTER TABLE conv ALTER price TYPE int, ALTER plus TYPE varchar(9) USING plus;
ALTER TABLE conv ALTER price TYPE numeric(6,2);
ALTER TABLE conv ALTER cast_to TYPE int USING cast_to::int;
SELECT layout, source_name, conversion FROM keepsake.archive_column WHERE archive = 'kept_deleted.conv'::regclass AND conversion IS NOT NULL ORDER BY 1, 2;
BEGIN;
SELECT keepsake.restore(last('conv')) -> 'restored';
TABLE conv;
ROLLBACK;
-- The type stays, and the values do not.
ALTER TABLE conv ALTER same TYPE int USING same * 100;
DELETE FROM conv WHERE id = 2;
SELECT kind, table_name, key, key_values FROM keepsake.restore_conflicts((SELECT id FROM keepsake.deletion WHERE root_table = 'conv'::regclass AND root_key = '{"id": 1}'));
SELECT keepsake.restore(last('conv')) -> 'restored';
SELECT keepsake.restore(last('conv'), 'skip') - 'deletion_id' - 'conflicts';
-- Not even of NULL it is known what became of it.
UPDATE conv SET word = NULL;
DELETE FROM conv WHERE id = 2;
ALTER TABLE conv ALTER word TYPE varchar(9) USING coalesce(word, 'none');
SELECT key, key_values FROM keepsake.restore_conflicts(last('conv'));
-- A command that fails converts nothing, nor does what comes after it.
INSERT INTO conv VALUES (3, 3, 'three', 3, 3, 'c');
DELETE FROM conv WHERE id = 3;
BEGIN;
SAVEPOINT s;
INSERT INTO conv VALUES (5, 5, 'five', 5, 5, 'e');
ALTER TABLE conv ALTER plus TYPE int USING length(plus) / 0;
ROLLBACK TO s;
ALTER TABLE conv ADD COLUMN late int;
COMMIT;
SELECT keepsake.restore(last('conv')) -> 'restored';
SELECT * FROM conv;
-- What was set to NULL in such a column is not put back.
CREATE TABLE of_conv (id int PRIMARY KEY, conv_id int);
SELECT keepsake.manage('of_conv', keep => 'archive');
ALTER TABLE of_conv ADD FOREIGN KEY (conv_id) REFERENCES conv ON DELETE SET NULL;
INSERT INTO of_conv VALUES (1, 3);
DELETE FROM conv WHERE id = 3;
ALTER TABLE of_conv ALTER conv_id TYPE int USING conv_id + 1;
SELECT keepsake.restore(last('conv')) -> 'restored';
TABLE of_conv;
SELECT check_name, object FROM keepsake.doctor() WHERE object ~ 'conv' AND severity = 'error';
DROP TABLE of_conv, conv;
-- Tables that inherit are converted along, each as its parent is; and other event triggers run commands of their own meanwhile.
CREATE TABLE elder (id int PRIMARY KEY, price int, plus int);
CREATE TABLE heir (own int, PRIMARY KEY (id)) INHERITS (elder);
SELECT keepsake.manage('elder', keep => 'archive', cascade => true);
CREATE TABLE beside (v int);
CREATE FUNCTION meddle_early() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_event_trigger_table_rewrite_oid() = 'kept.elder'::regclass THEN
        ALTER TABLE kept.beside ALTER v TYPE int USING v + 1;
    END IF;
END $$;
CREATE FUNCTION meddle_late() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE objid = 'kept.elder'::regclass) THEN
        ALTER TABLE kept.beside ALTER v TYPE int USING v + 1;
        DELETE FROM kept.elder WHERE id = 3;
    END IF;
END $$;
CREATE EVENT TRIGGER a_meddler_early ON table_rewrite EXECUTE FUNCTION meddle_early();
CREATE EVENT TRIGGER a_meddler_late ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION meddle_late();
INSERT INTO elder VALUES (1, 1, 1), (3, 3, 3);
INSERT INTO heir VALUES (2, 2, 2, 2);
DELETE FROM elder WHERE id < 3;
ALTER TABLE elder ALTER price TYPE int USING price * 100;
SELECT a.relation::regclass, k.layout, k.source_name, k.conversion FROM keepsake.archive_column k JOIN keepsake.archive_table a USING (archive)
WHERE a.relation IN ('elder'::regclass, 'heir'::regclass) AND k.conversion IS NOT NULL ORDER BY 1, 2, 3;
SELECT d.root_key, c.kind, c.table_name, c.key, c.key_values FROM keepsake.deletion d, keepsake.restore_conflicts(d.id) c
WHERE d.root_table IN ('elder'::regclass, 'heir'::regclass) ORDER BY 3, 4;
-- What was deleted after the conversion is as it was then.
SELECT keepsake.restore(id) -> 'restored' FROM keepsake.deletion WHERE root_key = '{"id": 3}' AND root_table = 'elder'::regclass;
TABLE elder;
DROP EVENT TRIGGER a_meddler_early;
DROP EVENT TRIGGER a_meddler_late;
DROP TABLE heir, elder, beside;

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
