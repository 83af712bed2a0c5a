-- What an application does beside its managed tables goes on as if they were ordinary ones.
SET client_min_messages = warning;
CREATE SCHEMA beside;
SET search_path = beside;
CREATE TABLE t (id int PRIMARY KEY, v text);
SELECT keepsake.manage('t');
INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c');
-- Copies of its rows are rows of an ordinary table.
CREATE TEMP TABLE scratch AS SELECT * FROM t;
DELETE FROM scratch WHERE id = 1 RETURNING id;
CREATE TEMP TABLE staged (LIKE t INCLUDING ALL);
INSERT INTO staged SELECT * FROM t;
DELETE FROM staged WHERE id = 1 RETURNING id;
CREATE TABLE copied AS SELECT * FROM t;
MERGE INTO copied USING (VALUES (2)) AS s (id) ON copied.id = s.id WHEN MATCHED THEN DELETE;
DELETE FROM copied WHERE id = 1 RETURNING id;
UPDATE copied SET deleted_at = now() WHERE id = 3 RETURNING id;
CREATE TABLE shaped (LIKE t INCLUDING DEFAULTS);
INSERT INTO shaped SELECT * FROM t;
DELETE FROM shaped WHERE id = 1 RETURNING id;
CREATE MATERIALIZED VIEW seen AS SELECT * FROM t WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX ON seen (id);
DELETE FROM t WHERE id = 3;
REFRESH MATERIALIZED VIEW CONCURRENTLY seen;
SELECT id FROM seen ORDER BY id;
SELECT object FROM keepsake.doctor() WHERE check_name = 'table_unregistered' AND object ~ 'beside|scratch|staged|copied|shaped';
-- A copy of the schema may be meant to be managed.
CREATE TABLE twin (LIKE t INCLUDING ALL);
INSERT INTO twin SELECT * FROM t;
\set VERBOSITY sqlstate
DELETE FROM twin WHERE id = 1;
UPDATE twin SET deleted_at = now() WHERE id = 1;
\set VERBOSITY default
SELECT object FROM keepsake.doctor() WHERE check_name = 'table_unregistered' AND object ~ 'twin';
DROP TABLE twin;

-- A tool that rewrites a table lets a copy in the schema of its extension catch up with the table's changes.
CREATE SCHEMA rewriting;
ALTER EXTENSION plpgsql ADD SCHEMA rewriting;
CREATE TABLE rewriting.copy (LIKE t INCLUDING ALL);
INSERT INTO rewriting.copy SELECT * FROM t;
UPDATE rewriting.copy SET deleted_at = now(), deletion_id = keepsake.uuid_v7() WHERE id = 1 RETURNING id;
DELETE FROM rewriting.copy WHERE id = 1 RETURNING id;
SELECT object FROM keepsake.doctor() WHERE check_name = 'table_unregistered' AND object ~ 'rewriting';
ALTER EXTENSION plpgsql DROP SCHEMA rewriting;
DELETE FROM rewriting.copy;
DROP TABLE rewriting.copy;
DROP SCHEMA rewriting;

-- A partition that was detached is an ordinary table.
CREATE TABLE whole (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE part1 PARTITION OF whole FOR VALUES IN (1);
CREATE TABLE part2 PARTITION OF whole FOR VALUES IN (2);
SELECT keepsake.manage('whole');
INSERT INTO whole VALUES (1, 1), (2, 2);
\set VERBOSITY sqlstate
TRUNCATE part2;
TRUNCATE whole;
\set VERBOSITY default
ALTER TABLE whole DETACH PARTITION part2;
TRUNCATE part2;
SELECT count(*) FROM part2;
SELECT id FROM whole;

-- A DELETE is one wherever its name is told.
BEGIN READ ONLY;
DELETE FROM t;
ROLLBACK;
CREATE FUNCTION remove(int) RETURNS int STABLE LANGUAGE sql AS 'DELETE FROM t WHERE id = $1 RETURNING id';
\set SHOW_CONTEXT never
SELECT remove(1);
PREPARE gone(int) AS DELETE FROM t WHERE id = $1 RETURNING id;
EXECUTE gone(2);
EXECUTE gone(2);
-- One that reads like what a foreign key carries out is a DELETE like any other.
PREPARE as_a_key(int) AS DELETE FROM t WHERE $1 OPERATOR(pg_catalog.=) id RETURNING id;
EXECUTE as_a_key(1);
SELECT id, deletion_id IS NOT NULL AS kept FROM t ORDER BY id;

-- SET NULL of some columns may leave the others NOT NULL.
CREATE TABLE person (tenant int, id int, PRIMARY KEY (tenant, id));
CREATE TABLE letter (tenant int NOT NULL, id int PRIMARY KEY, writer int, FOREIGN KEY (tenant, writer) REFERENCES person ON DELETE SET NULL (writer));
SELECT keepsake.manage('person'), keepsake.manage('letter');
INSERT INTO person VALUES (1, 1);
INSERT INTO letter VALUES (1, 1, 1);
DELETE FROM person WHERE id = 1;
SELECT tenant, id, writer FROM letter;
SELECT check_name, object FROM keepsake.doctor() WHERE object ~ 'letter' AND severity = 'error';
-- Nothing is to be put back in a table that is gone.
ALTER TABLE letter DROP CONSTRAINT letter_tenant_writer_fkey;
SELECT check_name FROM keepsake.doctor() WHERE check_name = 'set_null_lost';
DROP TABLE letter;
SELECT check_name FROM keepsake.doctor() WHERE check_name = 'set_null_lost';

-- PostgreSQL checks no row that goes: one may be deleted because it violates a constraint.
CREATE TABLE measure (id int PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 2) STORED);
CREATE TABLE detail (id int PRIMARY KEY, measure_id int REFERENCES measure ON DELETE CASCADE, v int);
CREATE TABLE sliced (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE sliced1 PARTITION OF sliced FOR VALUES IN (1);
CREATE TABLE sliced2 PARTITION OF sliced FOR VALUES IN (2);
SELECT keepsake.manage(t) FROM unnest(ARRAY['measure', 'detail', 'sliced']::regclass[]) AS t;
INSERT INTO measure SELECT n, n FROM generate_series(-9, 1) AS n;
INSERT INTO detail SELECT n, n, n FROM generate_series(-9, 1) AS n;
INSERT INTO sliced SELECT n, 1 + n % 2 FROM generate_series(1, 4) AS n;
ALTER TABLE measure ADD CONSTRAINT positive CHECK (v > 0) NOT VALID;
ALTER TABLE detail ADD CONSTRAINT positive CHECK (v > 0) NOT VALID;
ALTER TABLE sliced ADD CONSTRAINT large CHECK (id > 2) NOT VALID;
DELETE FROM measure WHERE id = -9 RETURNING id, v, twice;
WITH d AS (DELETE FROM measure WHERE id = -8 RETURNING id) SELECT id FROM d;
MERGE INTO measure USING (VALUES (-7)) AS s (id) ON measure.id = s.id WHEN MATCHED THEN DELETE;
SELECT keepsake.soft_delete('measure', -6) IS NOT NULL AS done;
DELETE FROM detail WHERE id = -5;
DELETE FROM sliced WHERE id < 3 RETURNING id;
SELECT id FROM measure WHERE deleted_at IS NULL ORDER BY id;
SELECT id FROM detail WHERE deleted_at IS NULL ORDER BY id;
-- What stays is checked, and so is what comes back.
\set VERBOSITY terse
UPDATE measure SET v = v WHERE id = -4;
MERGE INTO measure USING (VALUES (-4), (2)) AS s (id) ON measure.id = s.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.id, -1);
SELECT keepsake.restore(deletion_id) FROM measure WHERE id = -9;
ALTER TABLE measure DROP CONSTRAINT positive;
ALTER TABLE detail DROP CONSTRAINT positive;
SELECT keepsake.restore(deletion_id) IS NOT NULL AS restored FROM measure WHERE id = -9;
ALTER TABLE measure ADD CONSTRAINT even CHECK (twice > -18) NOT VALID;
DELETE FROM measure WHERE id = -9 RETURNING twice;
-- A constraint that reads the marks, or what a trigger changes, holds.
ALTER TABLE measure ADD CONSTRAINT stays CHECK (deleted_at IS NULL OR v < 0);
DELETE FROM measure WHERE id = 1;
ALTER TABLE measure DROP CONSTRAINT stays;
ALTER TABLE measure ADD COLUMN is_live boolean GENERATED ALWAYS AS (deleted_at IS NULL) STORED;
ALTER TABLE measure ADD CONSTRAINT stays CHECK (is_live OR v < 0);
DELETE FROM measure WHERE id = 1;
CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.v = -1; RETURN new; END $$;
CREATE TRIGGER spoil BEFORE UPDATE ON detail FOR EACH ROW EXECUTE FUNCTION spoil();
ALTER TABLE detail ADD CONSTRAINT positive CHECK (v > 0) NOT VALID;
DELETE FROM detail WHERE id = 1;
\set VERBOSITY default
DROP SCHEMA beside CASCADE;
