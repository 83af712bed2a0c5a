-- Restore from an archive of what PostgreSQL 18 brought: keys WITHOUT OVERLAPS and with PERIOD, virtual generated columns,
-- constraints that are NOT ENFORCED.
SELECT current_setting('server_version_num')::int < 180000 AS older \gset
\if :older
\quit
\endif
\pset format unaligned
\pset tuples_only on
CREATE SCHEMA kept;
SET search_path = kept, public;
SET client_min_messages = warning;
CREATE FUNCTION last(of regclass) RETURNS uuid LANGUAGE sql AS
    $$ SELECT id FROM keepsake.deletion WHERE root_table = of AND state = 'deleted' ORDER BY id DESC LIMIT 1 $$;
CREATE TABLE stay (room int4range, at daterange, who text, PRIMARY KEY (room, at WITHOUT OVERLAPS));
SELECT keepsake.manage('stay', keep => 'archive');
INSERT INTO stay VALUES ('[1,2)', '[2020-01-01,2020-02-01)', 'a'), ('[1,2)', '[2020-03-01,2020-04-01)', 'b');
DELETE FROM stay;
INSERT INTO stay VALUES ('[1,2)', '[2020-01-15,2020-01-16)', 'x');
SELECT * FROM keepsake.restore_conflicts(last('stay'));
SELECT keepsake.restore(last('stay'), 'skip') - 'deletion_id' - 'conflicts';
SELECT who FROM stay ORDER BY at;

CREATE TABLE v (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) VIRTUAL CHECK (twice < 100));
SELECT keepsake.manage('v', keep => 'archive');
INSERT INTO v VALUES (1, 5), (2, 40);
DELETE FROM v;
ALTER TABLE v ADD CONSTRAINT few CHECK (twice < 50), ADD CONSTRAINT soft CHECK (n > 5) NOT ENFORCED;
SELECT * FROM keepsake.restore_conflicts(last('v'));
SELECT keepsake.restore(last('v'), 'skip') - 'deletion_id' - 'conflicts';
TABLE v;

CREATE TABLE emp (id int4range, at daterange, PRIMARY KEY (id, at WITHOUT OVERLAPS));
CREATE TABLE pay (id int PRIMARY KEY, emp int4range, at daterange, FOREIGN KEY (emp, PERIOD at) REFERENCES emp (id, PERIOD at));
CREATE TABLE loose (id int PRIMARY KEY, other int REFERENCES v NOT ENFORCED);
SELECT keepsake.manage('pay', keep => 'archive'), keepsake.manage('loose', keep => 'archive');
INSERT INTO emp VALUES ('[1,2)', '[2020-01-01,2021-01-01)'), ('[1,2)', '[2021-01-01,2022-01-01)');
INSERT INTO pay VALUES (1, '[1,2)', '[2020-06-01,2021-06-01)');
INSERT INTO loose VALUES (1, 77);
DELETE FROM pay;
DELETE FROM loose;
SELECT keepsake.restore(last('pay')) -> 'restored', keepsake.restore(last('loose')) -> 'restored';
DELETE FROM pay;
DELETE FROM emp WHERE at @> '2021-05-01'::date;
SELECT keepsake.restore(last('pay'));
\echo == A range that live parents cover in part.
SELECT kind, table_name, key, constraint_name, holder FROM keepsake.restore_conflicts(last('pay'));
SELECT keepsake.restore(last('pay'), 'skip') - 'deletion_id';
INSERT INTO pay VALUES (2, '[1,2)', '[2020-02-01,2020-03-01)');
DELETE FROM pay;
INSERT INTO emp VALUES ('[1,2)', '[2021-01-01,2021-06-01)');
SELECT count(*) FROM keepsake.restore_conflicts(last('pay'));
SELECT keepsake.restore(id) -> 'restored' FROM keepsake.deletion WHERE root_table = 'pay'::regclass AND state = 'deleted' ORDER BY id;
SELECT id, at FROM pay ORDER BY id;
\echo == Parents in the archive, of several deletions.
DELETE FROM pay WHERE id = 2;
SELECT keepsake.manage('emp', keep => 'archive');
DELETE FROM pay;
DELETE FROM emp WHERE at @> '2020-05-01'::date;
DELETE FROM emp;
SELECT kind, key, holder FROM keepsake.restore_conflicts(last('pay')) ORDER BY holder::text;
BEGIN;
SELECT keepsake.restore(last('emp')) -> 'restored';
SELECT kind, key, holder FROM keepsake.restore_conflicts(last('pay'));
\set VERBOSITY terse
SELECT keepsake.restore(last('pay'));
\set VERBOSITY default
ROLLBACK;
SELECT keepsake.restore(last('pay'), 'parents') -> 'restored';
SELECT id FROM pay;
SELECT at FROM emp ORDER BY at;
\echo == Parents in place.
SELECT keepsake.manage('emp', keep => 'in place');
DELETE FROM pay;
DELETE FROM emp WHERE at @> '2021-05-01'::date;
SELECT kind, key FROM keepsake.restore_conflicts(last('pay'));
\set VERBOSITY terse
SELECT keepsake.restore(last('pay'));
\set VERBOSITY default
SELECT keepsake.restore(last('pay'), 'parents') -> 'restored';
SELECT id FROM pay;
SELECT at FROM emp WHERE deleted_at IS NULL ORDER BY at;
DROP SCHEMA kept CASCADE;
DROP SCHEMA kept_deleted CASCADE;
DELETE FROM keepsake.deletion WHERE root_table::oid NOT IN (SELECT oid FROM pg_class);
