-- What a policy hides is gone for every statement: for those that read no column, for triggers, for constraints, for ON CONFLICT.
SET client_min_messages = warning;
CREATE ROLE regress_hidden_owner;
GRANT CREATE ON SCHEMA public TO regress_hidden_owner;
SELECT current_database() AS here \gset
ALTER DATABASE :"here" SET session_preload_libraries = 'keepsake';
\c -
SET client_min_messages = warning;
GRANT SELECT ON keepsake.deletion TO regress_hidden_owner;
CREATE SCHEMA hid AUTHORIZATION regress_hidden_owner;
SET search_path = hid;
SET ROLE regress_hidden_owner;

-- UPDATE and MERGE that read no column.
CREATE TABLE t (id int PRIMARY KEY, v int, w text);
SELECT keepsake.manage('t'), keepsake.hide_deleted('t', 'policy');
INSERT INTO t VALUES (1, 1), (2, 2), (3, 3);
DELETE FROM t WHERE id = 1;
WITH changed AS (UPDATE t SET v = 0 RETURNING 1) SELECT count(*) FROM changed;
UPDATE t SET v = 0;
UPDATE t SET w = 'x' FROM (SELECT 1) AS one;
MERGE INTO t USING (SELECT 1) AS one ON true WHEN MATCHED THEN UPDATE SET v = 9;
MERGE INTO t USING (VALUES (1)) AS o (id) ON t.id = o.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN DO NOTHING;
PREPARE blind AS UPDATE t SET v = 0;
EXECUTE blind;
BEGIN;
SET LOCAL keepsake.include_deleted = on;
SELECT * FROM (SELECT id, v, w FROM t) AS shown ORDER BY id;
-- A recovery screen may.
UPDATE t SET v = 7 WHERE id = 1;
EXECUTE blind;
ROLLBACK;
-- A row that is deleted by an UPDATE is gone for the triggers of that very statement.
UPDATE t SET deleted_at = now() WHERE id = 2 RETURNING id;
SELECT count(keepsake.restore(id)) AS restored FROM keepsake.deletion WHERE root_table = 't'::regclass AND state = 'deleted';
SELECT id, v, w FROM t ORDER BY id;
-- unmanage sees them, whoever asks.
DELETE FROM t WHERE id = 1;
\set VERBOSITY sqlstate
SELECT keepsake.unmanage('t');
SELECT keepsake.hide_deleted('t', 'nothing');
SELECT keepsake.unmanage('t');
\set VERBOSITY default
SELECT keepsake.restore(deletion_id) IS NOT NULL AS restored FROM t WHERE id = 1;
SELECT keepsake.unmanage('t');

-- Counters that triggers keep.
CREATE TABLE a (id int PRIMARY KEY, n int, m int);
CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE);
SELECT keepsake.manage('a'), keepsake.hide_deleted('a', 'policy'), keepsake.manage('b'), keepsake.hide_deleted('b', 'policy');
CREATE FUNCTION count_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN UPDATE hid.a SET n = (SELECT count(*) FROM hid.b WHERE b.a = a.id) WHERE id = coalesce(new.a, old.a); RETURN NULL; END $$;
CREATE FUNCTION count_all() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN UPDATE hid.a SET m = (SELECT count(*) FROM hid.b WHERE b.a = a.id) WHERE true; RETURN NULL; END $$;
CREATE TRIGGER count_row AFTER INSERT OR UPDATE OR DELETE ON b FOR EACH ROW EXECUTE FUNCTION count_row();
CREATE TRIGGER count_all AFTER INSERT OR UPDATE OR DELETE ON b FOR EACH STATEMENT EXECUTE FUNCTION count_all();
INSERT INTO a VALUES (1), (2);
INSERT INTO b VALUES (1, 1), (2, 1), (3, 1), (4, 2);
DELETE FROM b WHERE id = 1;
SELECT id, n, m FROM a ORDER BY id;
UPDATE b SET deleted_at = now() WHERE id = 2;
SELECT id, n, m FROM a ORDER BY id;
SELECT keepsake.soft_delete('b', 3) IS NOT NULL AS done;
SELECT id, n, m FROM a ORDER BY id;
-- Of a cascade, and of a restore.
CREATE TABLE top (id int PRIMARY KEY);
ALTER TABLE b ADD COLUMN top int REFERENCES top ON DELETE CASCADE;
SELECT keepsake.manage('top'), keepsake.hide_deleted('top', 'policy');
INSERT INTO top VALUES (1);
INSERT INTO b (id, a, top) VALUES (5, 1, 1), (6, 1, 1), (7, 2, 1);
DELETE FROM top;
SELECT id, n, m FROM a ORDER BY id;
SELECT keepsake.restore(id) IS NOT NULL AS restored FROM keepsake.deletion WHERE root_table = 'top'::regclass AND state = 'deleted';
SELECT id, n, m FROM a ORDER BY id;

-- Constraints on deleted children do not keep a parent.
CREATE TABLE p (id int PRIMARY KEY, k int, UNIQUE (id, k));
CREATE TABLE nn (id int PRIMARY KEY, p int NOT NULL REFERENCES p ON DELETE SET NULL);
CREATE TABLE ck (id int PRIMARY KEY, p int REFERENCES p ON DELETE SET NULL CHECK (p IS NOT NULL));
CREATE TABLE mf (id int PRIMARY KEY, p int, k int NOT NULL, FOREIGN KEY (p, k) REFERENCES p (id, k) MATCH FULL ON DELETE SET NULL);
CREATE TABLE sd (id int PRIMARY KEY, p int DEFAULT 0 REFERENCES p ON DELETE SET DEFAULT);
SELECT count(keepsake.manage(t::regclass)), count(keepsake.hide_deleted(t::regclass, 'policy')) FROM unnest('{p,nn,ck,mf,sd}'::text[]) AS t;
INSERT INTO p VALUES (1, 1);
INSERT INTO nn VALUES (1, 1); INSERT INTO ck VALUES (1, 1); INSERT INTO mf VALUES (1, 1, 1); INSERT INTO sd VALUES (1, 1);
DELETE FROM nn; DELETE FROM ck; DELETE FROM mf; DELETE FROM sd;
DELETE FROM p;
SELECT count(*) FROM p;
-- Restored alone they have no parent; after it they come back as they were.
SELECT c.kind, c.table_name, c.holder FROM keepsake.deletion d, keepsake.restore_conflicts(d.id) c WHERE d.root_table <> 'p'::regclass AND d.state = 'deleted' ORDER BY 2;
SELECT keepsake.restore(id) IS NOT NULL AS restored FROM keepsake.deletion WHERE root_table = 'p'::regclass AND state = 'deleted';
SELECT count(keepsake.restore(id)) FROM keepsake.deletion WHERE root_table IN ('nn'::regclass, 'ck', 'mf', 'sd') AND state = 'deleted';
SELECT (SELECT p FROM nn) nn, (SELECT p FROM ck) ck, (SELECT p FROM mf) mf, (SELECT p FROM sd) sd;
-- A purge leaves the parent until they are gone.
DELETE FROM nn; DELETE FROM ck; DELETE FROM mf; DELETE FROM sd; DELETE FROM p;
RESET ROLE;
SELECT keepsake.purge_batch(100, now() + '31 days') - 'last' AS purged;
SELECT count(*) FROM keepsake.deletion WHERE purge_error IS NOT NULL;
SET ROLE regress_hidden_owner;
-- SET DEFAULT on rows that go themselves.
CREATE TABLE self (id int PRIMARY KEY, p int DEFAULT 0 REFERENCES self ON DELETE SET DEFAULT);
SELECT keepsake.manage('self'), keepsake.hide_deleted('self', 'policy');
INSERT INTO self VALUES (0, NULL), (1, 0), (2, 1);
DELETE FROM self;
SELECT keepsake.restore(id) -> 'restored' AS restored FROM keepsake.deletion WHERE root_table = 'self'::regclass;
SELECT id, p FROM self ORDER BY id;
DELETE FROM self;
RESET ROLE;
SELECT keepsake.purge_batch(100, now() + '31 days') -> 'rows' AS purged;
SET ROLE regress_hidden_owner;

-- A key changes although deleted rows refer to it: they follow it.
CREATE TABLE key (id int PRIMARY KEY, code numeric UNIQUE);
CREATE TABLE ref (id int PRIMARY KEY, key int NOT NULL REFERENCES key, code numeric REFERENCES key (code) ON UPDATE RESTRICT, up int REFERENCES ref);
CREATE TABLE link (key bigint REFERENCES key, n int, PRIMARY KEY (key, n));
SELECT count(keepsake.manage(t::regclass)), count(keepsake.hide_deleted(t::regclass, 'policy')) FROM unnest('{key,ref,link}'::text[]) AS t;
INSERT INTO key VALUES (1, 1.0), (2, 2.0), (3, 3.0);
INSERT INTO ref VALUES (1, 1, 1.00, NULL), (2, 2, 2.0, 1), (3, 2, NULL, NULL);
INSERT INTO link VALUES (3, 1);
DELETE FROM ref WHERE id < 3;
UPDATE key SET id = id + 10, code = code + 0.55 WHERE id = 1;
UPDATE key SET id = id + 10 WHERE id = 2;
UPDATE key SET code = 2.50 WHERE id = 2;
DELETE FROM ref WHERE id = 3;
UPDATE key SET id = id + 10 WHERE id = 2;
SELECT count(keepsake.restore(id)) AS restored FROM keepsake.deletion WHERE root_table = 'ref'::regclass AND state = 'deleted';
SELECT * FROM (SELECT id, key, code, up FROM ref) AS rows ORDER BY id;
-- Not where the reference is of the key by which the deleted row is known.
DELETE FROM link;
UPDATE key SET id = id + 10 WHERE id = 3;
SELECT count(*) FROM key WHERE id = 3;
-- ON CONFLICT finds the index over live rows by itself, and never writes into a deleted row.
CREATE TABLE u (id int PRIMARY KEY, email text, v int);
SELECT keepsake.manage('u');
CREATE UNIQUE INDEX ON u (email) WHERE deleted_at IS NULL;
INSERT INTO u VALUES (1, 'a', 1);
DELETE FROM u WHERE id = 1;
INSERT INTO u VALUES (2, 'a', 2) ON CONFLICT (email) DO UPDATE SET v = 3 RETURNING id, v;
INSERT INTO u VALUES (3, 'a', 2) ON CONFLICT (email) DO UPDATE SET v = 3 RETURNING id, v;
INSERT INTO u VALUES (3, 'a', 2) ON CONFLICT (email) DO NOTHING;
INSERT INTO u VALUES (3, 'a', 2) ON CONFLICT (email) WHERE deleted_at IS NULL DO UPDATE SET v = 4 RETURNING id, v;
-- So it does with another predicate.
INSERT INTO u VALUES (3, 'a', 2) ON CONFLICT (email) WHERE v > 0 DO UPDATE SET v = 4 RETURNING id, v;
INSERT INTO u VALUES (1, 'b', 2) ON CONFLICT (id) DO UPDATE SET v = 5;
INSERT INTO u VALUES (2, 'b', 2) ON CONFLICT (id) DO UPDATE SET v = 6 RETURNING id, v;
BEGIN;
SET LOCAL keepsake.include_deleted = on;
INSERT INTO u VALUES (1, 'b', 2) ON CONFLICT (id) DO UPDATE SET v = 5 RETURNING id, v;
ROLLBACK;
SELECT id, email, v, deleted_at IS NULL AS live FROM u ORDER BY id;
-- DO NOTHING stores nothing only where a live row has the key.
INSERT INTO u VALUES (1, 'b', 2) ON CONFLICT DO NOTHING;
INSERT INTO u VALUES (1, 'b', 2) ON CONFLICT (id) DO NOTHING;
CREATE TABLE tag (id int PRIMARY KEY);
CREATE TABLE u_tag (u int REFERENCES u ON DELETE CASCADE, tag int REFERENCES tag ON DELETE CASCADE, PRIMARY KEY (u, tag));
SELECT keepsake.manage('tag'), keepsake.manage('u_tag'), keepsake.hide_deleted('u_tag', 'policy');
INSERT INTO tag VALUES (1), (2);
INSERT INTO u_tag VALUES (2, 1), (2, 2) ON CONFLICT DO NOTHING;
DELETE FROM u_tag WHERE tag = 1;
DELETE FROM u_tag;
INSERT INTO u_tag VALUES (2, 1), (2, 2) ON CONFLICT DO NOTHING;
SELECT * FROM (SELECT u, tag FROM u_tag) AS t ORDER BY tag;
SELECT count(*) FROM keepsake.deletion WHERE root_table = 'u_tag'::regclass AND state = 'deleted';
DELETE FROM tag WHERE id = 1;
INSERT INTO u_tag VALUES (2, 1) ON CONFLICT DO NOTHING;
SELECT keepsake.restore(id) -> 'restored' AS restored FROM keepsake.deletion WHERE root_table = 'tag'::regclass AND state = 'deleted';
INSERT INTO u_tag VALUES (2, 1);
DELETE FROM u_tag WHERE tag = 1;
INSERT INTO u_tag VALUES (2, 1);

RESET ROLE;
RESET search_path;
DELETE FROM keepsake.deletion WHERE root_table::text LIKE 'hid.%';
DROP SCHEMA hid CASCADE;
REVOKE ALL ON keepsake.deletion FROM regress_hidden_owner;
DROP OWNED BY regress_hidden_owner;
DROP ROLE regress_hidden_owner;
ALTER DATABASE :"here" RESET session_preload_libraries;
RESET client_min_messages;
