-- Rows in place that refer by a key with a PERIOD, which may have several parents (PostgreSQL 18).
SELECT current_setting('server_version_num')::int < 180000 AS older \gset
\if :older
\quit
\endif
SET client_min_messages = warning;
CREATE SCHEMA period;
SET search_path = period;
CREATE TABLE p (id int4range, at daterange, PRIMARY KEY (id, at WITHOUT OVERLAPS));
CREATE TABLE c (id int PRIMARY KEY, p int4range, at daterange, FOREIGN KEY (p, PERIOD at) REFERENCES p (id, PERIOD at));
CREATE INDEX ON c (p);
SELECT keepsake.manage('p'), keepsake.manage('c');
INSERT INTO p VALUES ('[1,2)', '[2020-01-01,2020-07-01)'), ('[1,2)', '[2020-07-01,2021-01-01)'), ('[2,3)', '[2020-01-01,2021-01-01)');
INSERT INTO c SELECT n, '[1,2)', '[2020-03-01,2020-10-01)' FROM generate_series(1, 3) n;
\set VERBOSITY sqlstate
DELETE FROM p WHERE id = '[1,2)';
DELETE FROM c;
DELETE FROM p WHERE id = '[1,2)';
INSERT INTO c VALUES (4, '[1,2)', '[2020-03-01,2020-04-01)');
\set VERBOSITY default
SELECT c.kind, c.key, c.holder FROM keepsake.deletion d, keepsake.restore_conflicts(d.id) c WHERE d.root_table = 'c'::regclass AND c.key = '{"id": 1}' ORDER BY 3;
-- The parents, then the rows, each once.
SELECT keepsake.restore(id) -> 'restored' AS restored FROM keepsake.deletion WHERE root_table = 'p'::regclass;
SELECT keepsake.restore(id) -> 'restored' AS restored FROM keepsake.deletion WHERE root_table = 'c'::regclass;
SELECT id, p, at FROM c WHERE deleted_at IS NULL ORDER BY id;
SELECT id, at FROM p WHERE deleted_at IS NULL ORDER BY id, at;
-- A parent that is gone for good, as only a session without triggers can take it.
BEGIN;
DELETE FROM c;
SET LOCAL session_replication_role = replica;
DELETE FROM p WHERE at @> '2020-08-01'::date AND id = '[1,2)';
SET LOCAL session_replication_role = origin;
SELECT c.kind, c.key, c.holder FROM keepsake.deletion d, keepsake.restore_conflicts(d.id) c WHERE d.root_table = 'c'::regclass AND d.state = 'deleted' ORDER BY c.key::text;
SELECT keepsake.restore(id, 'skip') - 'deletion_id' - 'conflicts' AS skipped FROM keepsake.deletion WHERE root_table = 'c'::regclass AND state = 'deleted';
ROLLBACK;
-- One by its key.
SELECT keepsake.soft_delete('p', '{"id": "[2,3)", "at": "[2020-01-01,2021-01-01)"}'::jsonb) IS NOT NULL AS done;
SELECT keepsake.restore(id, 'skip') -> 'restored' AS restored FROM keepsake.deletion WHERE root_table = 'p'::regclass AND state = 'deleted';
-- The range of a deleted row is its own, also where a parent's that covers it changes: as long as it can be restored, the foreign key keeps that.
CREATE TABLE held (id int4range, at daterange, PRIMARY KEY (id, at WITHOUT OVERLAPS));
CREATE TABLE within (id int PRIMARY KEY, p int4range, at daterange, FOREIGN KEY (p, PERIOD at) REFERENCES held (id, PERIOD at));
CREATE INDEX ON within (p);
SELECT keepsake.manage('held'), keepsake.manage('within');
INSERT INTO held VALUES ('[1,2)', '[2020-01-01,2021-01-01)');
INSERT INTO within VALUES (1, '[1,2)', '[2020-01-01,2021-01-01)'), (2, '[1,2)', '[2020-03-01,2020-04-01)');
DELETE FROM within;
\set VERBOSITY sqlstate
UPDATE held SET at = '[2020-01-01,2020-06-01)';
\set VERBOSITY default
UPDATE held SET at = '[2019-01-01,2022-01-01)';
SELECT keepsake.restore(id) -> 'restored' AS restored FROM keepsake.deletion WHERE root_table = 'within'::regclass AND state = 'deleted' ORDER BY id;
SELECT id, at FROM within ORDER BY id;

RESET search_path;
DELETE FROM keepsake.deletion WHERE root_table::text LIKE 'period.%';
DROP SCHEMA period CASCADE;
RESET client_min_messages;
