-- What the registry knows by name follows the name: columns, foreign keys, values of an enum, a key that changes its type. What cannot be followed is said.
SET client_min_messages = warning;
CREATE SCHEMA names;
SET search_path = names;
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE p (id int PRIMARY KEY, m mood UNIQUE);
CREATE TABLE c (k mood[] PRIMARY KEY, pid int CONSTRAINT first REFERENCES p ON DELETE SET NULL, m mood REFERENCES p (m) ON DELETE SET NULL, other int DEFAULT 3 REFERENCES p ON DELETE SET DEFAULT);
CREATE TABLE r (id int PRIMARY KEY, pid int CONSTRAINT rp REFERENCES p);
CREATE TABLE e (m mood PRIMARY KEY);
SELECT keepsake.manage('p'), keepsake.manage('c'), keepsake.manage('r'), keepsake.manage('e', '0');
SELECT keepsake.override_reference('r', 'rp', 'cascade');
INSERT INTO p VALUES (1, 'good'), (2, 'bad'), (3, NULL);
INSERT INTO c VALUES ('{good,bad}', 1, 'good', 1), ('{bad}', 2, 'bad', 1);
INSERT INTO r VALUES (1, 1), (2, 2);
INSERT INTO e VALUES ('good'), ('bad');
SELECT keepsake.hold('e', 'good', 'held') IS NOT NULL AS held;
DELETE FROM p WHERE id = 1;
DELETE FROM e WHERE m = 'good';
DELETE FROM e WHERE m = 'bad';
SELECT k, pid, m, other FROM c ORDER BY k;
-- The referring columns change places, the constraint and the key get other names, and so does a value that is in all of them.
ALTER TABLE c RENAME pid TO spare; ALTER TABLE c RENAME other TO pid; ALTER TABLE c RENAME spare TO other;
ALTER TABLE c RENAME CONSTRAINT first TO second;
ALTER TABLE c RENAME k TO key;
ALTER TABLE p RENAME id TO "the id";
ALTER TYPE mood RENAME VALUE 'good' TO 'it''s fine';
ALTER TABLE r RENAME CONSTRAINT rp TO rq;
ALTER TABLE r RENAME pid TO "a b";
SELECT severity, check_name, object FROM keepsake.doctor() WHERE severity <> 'info' AND object LIKE 'names.%' AND check_name <> 'reference_unindexed';
SELECT root_key FROM keepsake.deletion WHERE root_table = 'e'::regclass ORDER BY id;
SELECT keepsake.purge_batch() -> 'rows' AS gone;
SELECT m FROM e;
SELECT keepsake.restore(deletion_id) IS NOT NULL AS restored FROM e;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM p WHERE "the id" = 1;
SELECT key, other, m, pid FROM c ORDER BY key;
DELETE FROM p WHERE "the id" = 2;
SELECT id, deleted_at IS NULL AS live FROM r ORDER BY id;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM p WHERE "the id" = 2;

-- A key that changes its type is read by its new one.
DELETE FROM p WHERE "the id" = 2;
ALTER TABLE r ALTER COLUMN id TYPE bigint;
ALTER TABLE p ALTER COLUMN "the id" TYPE bigint;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM p WHERE "the id" = 2;
SELECT key, other, m, pid FROM c ORDER BY key;

-- A foreign key that is dropped and made anew, under another name.
DELETE FROM p WHERE "the id" = 2;
ALTER TABLE c DROP CONSTRAINT second;
SELECT severity, check_name, object, finding FROM keepsake.doctor() WHERE check_name = 'set_null_lost';
ALTER TABLE c ADD CONSTRAINT third FOREIGN KEY (other) REFERENCES p ON DELETE SET NULL;
SELECT check_name FROM keepsake.doctor() WHERE check_name = 'set_null_lost';
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM p WHERE "the id" = 2;
SELECT key, other, m, pid FROM c ORDER BY key;
-- Dropped, and another column gets its name: nothing is put into that one.
DELETE FROM p WHERE "the id" = 2;
ALTER TABLE c DROP COLUMN other;
ALTER TABLE c ADD COLUMN other int REFERENCES p ON DELETE SET NULL;
SELECT severity, check_name, object, finding FROM keepsake.doctor() WHERE check_name = 'set_null_lost';
SET client_min_messages = notice;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM p WHERE "the id" = 2;
SET client_min_messages = warning;
SELECT key, other, m, pid FROM c ORDER BY key;

-- A key of another type altogether while rows are deleted and held.
CREATE TABLE q (id int PRIMARY KEY, t text, up int REFERENCES q ON DELETE CASCADE);
CREATE TABLE s (id int PRIMARY KEY);
SELECT keepsake.manage('q', '0'), keepsake.manage('s', '0');
INSERT INTO q VALUES (1, 'a', NULL), (2, 'b', 1), (3, 'c', NULL), (4, 'd', NULL);
INSERT INTO s VALUES (1);
SELECT keepsake.hold('q', 3, 'court') AS h \gset
DELETE FROM q WHERE id = 1; DELETE FROM q WHERE id = 3; DELETE FROM q WHERE id = 4; DELETE FROM s;
ALTER TABLE q ADD COLUMN uid uuid NOT NULL DEFAULT gen_random_uuid();
ALTER TABLE q DROP COLUMN up CASCADE;
ALTER TABLE q DROP CONSTRAINT q_pkey;
ALTER TABLE q ADD PRIMARY KEY (uid);
-- As long as the old key is there, it still tells the row.
SELECT check_name FROM keepsake.doctor() WHERE check_name = 'hold_key_lost';
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM q WHERE t = 'a';
DELETE FROM q WHERE t = 'a';
ALTER TABLE q DROP COLUMN id;
ALTER TABLE q RENAME uid TO id;
SELECT severity, check_name, object, replace(finding, :'h', 'N') AS finding, replace(fix, :'h', 'N') AS fix FROM keepsake.doctor() WHERE check_name = 'hold_key_lost';
SELECT * FROM keepsake.restore_conflicts((SELECT deletion_id FROM q WHERE t = 'a'));
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM q WHERE t = 'a';
DELETE FROM q WHERE t = 'a';
-- What is of other tables is purged; of this one nothing, until the hold is made anew.
SELECT keepsake.purge_batch() -> 'tables' AS gone;
SELECT t FROM q WHERE deleted_at IS NOT NULL ORDER BY t;
SELECT keepsake.hold('q', id, 'court') IS NOT NULL AS held FROM q WHERE t = 'c';
SELECT keepsake.release(:h);
SELECT keepsake.purge_batch() -> 'tables' AS gone;
SELECT t FROM q ORDER BY t;
-- ALTER TYPE … USING: no text of the old key is one of the new.
ALTER TABLE q DROP CONSTRAINT q_pkey;
ALTER TABLE s ALTER COLUMN id TYPE uuid USING gen_random_uuid();
INSERT INTO s VALUES ('00000000-0000-0000-0000-000000000001');
SELECT keepsake.hold('s', '00000000-0000-0000-0000-000000000001'::uuid, 'court') IS NOT NULL AS held;
DELETE FROM s;
ALTER TABLE s ALTER COLUMN id TYPE int USING 7;
SELECT check_name FROM keepsake.doctor() WHERE check_name = 'hold_key_lost';
SELECT keepsake.purge_batch() -> 'rows' AS gone;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM s;
-- The same onto keys that other rows had: what the registry knows by the column, it then knows no more, and says so.
CREATE TABLE u (id int PRIMARY KEY, t text);
CREATE TABLE v (id int PRIMARY KEY, u int REFERENCES u ON DELETE SET NULL);
SELECT keepsake.manage('u', '1 day'), keepsake.manage('v', '1 day');
INSERT INTO u VALUES (1, 'a'), (2, 'b'), (3, 'c');
INSERT INTO v VALUES (1, 1), (2, 2);
SELECT keepsake.hold('u', 3, 'court') IS NOT NULL AS held, keepsake.soft_delete('u', 1) IS NOT NULL AS done, keepsake.soft_delete('u', 3) IS NOT NULL AS done;
SET client_min_messages = warning;
ALTER TABLE v DROP CONSTRAINT v_u_fkey;
ALTER TABLE u ALTER COLUMN id TYPE bigint USING 4 - id, ALTER COLUMN t TYPE varchar USING t || '!';
ALTER TABLE v ALTER COLUMN id TYPE bigint USING 3 - id;
ALTER TABLE u ALTER COLUMN id TYPE int USING id::int;
SELECT check_name, object FROM keepsake.doctor() WHERE check_name ~ '^(hold_key_lost|set_null_lost)$' AND object ~ '(names.)?[uv]$' ORDER BY 1, 2;
UPDATE keepsake.deletion SET expires_at = now() WHERE root_table = 'u'::regclass;
SELECT keepsake.purge_batch() -> 'rows' AS gone;
SELECT keepsake.restore(id) -> 'restored' AS restored FROM keepsake.deletion WHERE root_table = 'u'::regclass ORDER BY id;
SELECT id, t, deleted_at IS NULL AS live FROM u ORDER BY id;
SELECT id, u FROM v ORDER BY id;
-- A cast is one however it is spelled.
SELECT keepsake.hold('u', 2, 'court') IS NOT NULL AS held;
ALTER TABLE u ALTER COLUMN id TYPE bigint USING u.id::int8;
ALTER TABLE u ALTER COLUMN id TYPE int8 USING names.u.id;
SELECT row_key FROM keepsake.hold WHERE relation = 'u'::regclass ORDER BY id;
-- Who does not own the table learns and changes nothing.
CREATE ROLE regress_converter;
GRANT USAGE ON SCHEMA names TO regress_converter;
SET ROLE regress_converter;
ALTER TABLE u ALTER COLUMN id TYPE int USING 4 - id;
RESET ROLE;
SELECT row_key FROM keepsake.hold WHERE relation = 'u'::regclass ORDER BY id;
-- Keys that are lost can be the same.
ALTER TABLE u ALTER COLUMN id TYPE int USING 4 - id;
SELECT keepsake.hold('u', 2, 'court again') IS NOT NULL AS held;
ALTER TABLE u ALTER COLUMN id TYPE bigint USING 4 - id;
SELECT row_key, reason FROM keepsake.hold WHERE relation = 'u'::regclass ORDER BY id;
-- The type of a key gets another name or schema, while the session knows it by the one from before.
CREATE TYPE tone AS ENUM ('low', 'high', 'none');
CREATE TABLE t (k tone PRIMARY KEY);
SELECT keepsake.manage('t');
INSERT INTO t VALUES ('low'), ('high'), ('none');
CREATE SCHEMA other_names;
SELECT keepsake.soft_delete('t', 'low') IS NOT NULL AS low;
BEGIN;
ALTER TYPE tone RENAME TO pitch;
SELECT keepsake.soft_delete('t', 'high') IS NOT NULL AS high;
COMMIT;
ALTER TYPE pitch SET SCHEMA other_names;
SELECT keepsake.soft_delete('t', 'none') IS NOT NULL AS none;
SELECT count(keepsake.restore(id)) FROM keepsake.deletion WHERE root_table = 't'::regclass;
DROP TABLE t;
DROP SCHEMA other_names CASCADE;

RESET search_path;
DROP SCHEMA names CASCADE;
DROP ROLE regress_converter;
DELETE FROM keepsake.deletion WHERE root_table::text !~ '^[a-z.]+$';
RESET client_min_messages;
