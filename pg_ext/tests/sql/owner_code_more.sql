-- More of what a table's owner may try: see owner_code.
CREATE ROLE regress_mallory;
CREATE ROLE regress_victim;
CREATE ROLE regress_purger;
GRANT USAGE ON SCHEMA keepsake TO regress_mallory, regress_victim, regress_purger;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keepsake TO regress_purger;
GRANT EXECUTE ON FUNCTION keepsake.bind_storage TO regress_mallory;
CREATE SCHEMA mallory AUTHORIZATION regress_mallory;
CREATE SCHEMA victim AUTHORIZATION regress_victim;
SET ROLE regress_victim;
CREATE TABLE victim.t (id int PRIMARY KEY);
SELECT keepsake.manage('victim.t', '0');
INSERT INTO victim.t SELECT generate_series(1, 9);
SET ROLE regress_mallory;
CREATE TABLE mallory.t (id int PRIMARY KEY, note text);
SELECT keepsake.manage('mallory.t', '0');
CREATE FUNCTION mallory.attack() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$;
CREATE TRIGGER attack BEFORE DELETE ON mallory.t FOR EACH ROW EXECUTE FUNCTION mallory.attack();
CREATE PROCEDURE mallory.refill() LANGUAGE sql AS $$
    INSERT INTO mallory.t VALUES (1) ON CONFLICT DO NOTHING;
    DELETE FROM mallory.t WHERE id = 1 AND deleted_at IS NULL;
$$;
CALL mallory.refill();
RESET ROLE;

-- Cursors are opened, read and closed past SQL, too. The caller's own stay his; hers are closed.
CREATE TABLE secret (word text);
INSERT INTO secret VALUES ('abracadabra'), ('open sesame');
SET ROLE regress_mallory;
CREATE FUNCTION mallory.run() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'runs as %', current_user;
    RETURN 'run';
END
$$;
CREATE TABLE mallory.log (line int);
CREATE OR REPLACE FUNCTION mallory.attack() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    theirs refcursor;
    mine refcursor := 'mine';
    found record;
BEGIN
    FOREACH theirs IN ARRAY ARRAY['of_transaction', 'of_session', '<unnamed portal 1>'] LOOP
        BEGIN
            FETCH theirs INTO found;
            RAISE WARNING 'READ %', found;
        EXCEPTION WHEN OTHERS THEN
            RAISE NOTICE '%', regexp_replace(SQLERRM, '\d+', 'N');
        END;
        BEGIN
            CLOSE theirs;
            RAISE WARNING 'CLOSED';
        EXCEPTION WHEN OTHERS THEN
            RAISE NOTICE '%', regexp_replace(SQLERRM, '\d+', 'N');
        END;
        BEGIN
            OPEN theirs FOR SELECT mallory.run();
            RAISE WARNING 'REPLACED';
        EXCEPTION WHEN OTHERS THEN
            RAISE NOTICE '%', regexp_replace(SQLERRM, '\d+', 'N');
        END;
    END LOOP;
    -- It runs when it is first fetched from.
    OPEN mine FOR EXECUTE 'INSERT INTO mallory.log VALUES (1) RETURNING mallory.run()';
    RETURN OLD;
END
$$;
RESET ROLE;
\c
DECLARE of_session CURSOR WITH HOLD FOR TABLE secret;
BEGIN;
DECLARE of_transaction CURSOR FOR TABLE secret;
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'rows' AS rows;
SELECT name FROM pg_cursors ORDER BY 1;
FETCH of_transaction;
COMMIT;
FETCH of_session;
CLOSE of_session;
DROP TABLE secret;

-- A setting by which an error ends the session.
SET ROLE regress_mallory;
CREATE OR REPLACE FUNCTION mallory.attack() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('exit_on_error', 'on', true);
    RAISE EXCEPTION 'the session ends';
END
$$;
CALL mallory.refill();
SET ROLE regress_purger;
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'failed' AS failed;
RESET ROLE;
SELECT purge_error FROM keepsake.deletion WHERE purge_error IS NOT NULL;
UPDATE keepsake.deletion SET purge_failed_at = NULL;

-- An error that looks like the caller's cancel stops her own purge alone.
SET ROLE regress_mallory;
CREATE OR REPLACE FUNCTION mallory.attack() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'canceling statement due to user request' USING ERRCODE = 'query_canceled';
END
$$;
SET ROLE regress_victim;
DELETE FROM victim.t WHERE id = 1;
SET ROLE regress_purger;
SELECT keepsake.purge_batch(100, now() + interval '1 s');
RESET ROLE;

-- Many deletions that fail are no more than the batch takes.
SET ROLE regress_mallory;
INSERT INTO mallory.t SELECT generate_series(11, 40);
DO $$ BEGIN FOR i IN 11 .. 40 LOOP DELETE FROM mallory.t WHERE id = i; END LOOP; END $$;
SET ROLE regress_purger;
SELECT keepsake.purge_batch(10, now() + interval '1 s') - 'last' AS report;
RESET ROLE;
SET ROLE regress_mallory;
DROP TRIGGER attack ON mallory.t;
RESET ROLE;
UPDATE keepsake.deletion SET purge_failed_at = NULL;
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'rows' AS rows;

-- Columns of other types in the place of the marks and of a bound key: an address that she makes up is not followed.
SET ROLE regress_mallory;
CREATE TABLE mallory.marks (id int PRIMARY KEY);
SELECT keepsake.manage('mallory.marks', '0');
INSERT INTO mallory.marks VALUES (1), (2);
DELETE FROM mallory.marks WHERE id = 1;
ALTER TABLE mallory.marks RENAME deletion_id TO was_id;
ALTER TABLE mallory.marks ADD COLUMN deletion_id bigint;
UPDATE mallory.marks SET deletion_id = 42 WHERE id = 1;
UPDATE mallory.marks SET deleted_at = 'tomorrow' WHERE id = 1;
ALTER TABLE mallory.marks RENAME deleted_at TO was_at;
ALTER TABLE mallory.marks ADD COLUMN deleted_at text;
UPDATE mallory.marks SET was_at = now(), deleted_at = 'a' WHERE id = 2;
SELECT deleted_at FROM mallory.marks WHERE id = 2;
DROP TABLE mallory.marks;
CREATE TABLE mallory.o (id int PRIMARY KEY, key text NOT NULL UNIQUE);
SELECT keepsake.manage('mallory.o', '0');
SELECT keepsake.bind_storage('mallory.o', 'key');
INSERT INTO mallory.o VALUES (1, repeat('a', 60));
DELETE FROM mallory.o;
RESET ROLE;
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'rows' AS rows;
SET ROLE regress_mallory;
ALTER TABLE mallory.o RENAME key TO was_key;
ALTER TABLE mallory.o ALTER was_key DROP NOT NULL;
ALTER TABLE mallory.o ADD COLUMN key name UNIQUE;
INSERT INTO mallory.o (id, key) VALUES (1, E'\x01\x01AAAAAA');
SET ROLE regress_purger;
SELECT object_key FROM keepsake.lease_objects(10, '1 min');
SET ROLE regress_mallory;
DROP TABLE mallory.o;
RESET ROLE;
DELETE FROM keepsake.outbox WHERE object_key LIKE 'aaa%';

-- A declared reference of hers that lost its column, or its key, stops what follows it alone.
SET ROLE regress_mallory;
CREATE TABLE mallory.c (id int PRIMARY KEY, type text, ref int);
CREATE TABLE mallory.p (id int PRIMARY KEY);
SELECT keepsake.manage('mallory.c', '0'), keepsake.manage('mallory.p', '0');
SELECT keepsake.declare_reference('mallory.c', 'type', 'ref', 'p', 'mallory.p');
SELECT keepsake.declare_reference('mallory.c', 'type', 'ref', 't', 'mallory.t');
INSERT INTO mallory.p VALUES (1);
INSERT INTO mallory.t VALUES (50);
SET client_min_messages = warning;
ALTER TABLE mallory.p DROP CONSTRAINT p_pkey CASCADE;
ALTER TABLE mallory.c DROP COLUMN ref CASCADE;
RESET client_min_messages;
DELETE FROM mallory.t WHERE id = 50;
DELETE FROM mallory.p;
INSERT INTO mallory.c VALUES (1, 'p');
SET ROLE regress_victim;
DELETE FROM victim.t WHERE id = 2;
SET ROLE regress_purger;
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'rows' AS rows;
SET ROLE regress_mallory;
DROP TABLE mallory.c, mallory.p;

-- A table of hers that cannot be guarded does not stop the DDL of others.
CREATE TABLE mallory.orphan (id int PRIMARY KEY, t int REFERENCES mallory.t);
DELETE FROM mallory.t WHERE id = 50;
DROP TRIGGER keepsake_guard_update ON mallory.orphan;
DROP TRIGGER keepsake_guard_insert ON mallory.orphan;
RESET ROLE;
SET session_replication_role = replica;
INSERT INTO mallory.orphan VALUES (1, 50);
RESET session_replication_role;
SET ROLE regress_mallory;
CREATE TRIGGER keepsake_guard_insert BEFORE INSERT ON mallory.orphan FOR EACH ROW EXECUTE FUNCTION mallory.attack();
RESET ROLE;
CREATE TABLE innocent (id int);
DROP TABLE innocent;
ALTER TABLE victim.t ADD COLUMN note text;
DROP TABLE mallory.orphan;

-- Rows of two owners that refer to each other: no statement runs the triggers of both as one of them.
SET ROLE regress_mallory;
CREATE TABLE mallory.r (id int PRIMARY KEY, other int);
GRANT USAGE ON SCHEMA mallory TO regress_victim;
GRANT ALL ON mallory.r TO regress_victim;
SELECT keepsake.manage('mallory.r', '0');
SET ROLE regress_victim;
CREATE TABLE victim.r (id int PRIMARY KEY, other int);
GRANT USAGE ON SCHEMA victim TO regress_mallory;
GRANT SELECT, REFERENCES ON victim.r TO regress_mallory;
SELECT keepsake.manage('victim.r', '0');
ALTER TABLE victim.r ADD FOREIGN KEY (other) REFERENCES mallory.r ON DELETE CASCADE;
SET ROLE regress_mallory;
ALTER TABLE mallory.r ADD FOREIGN KEY (other) REFERENCES victim.r ON DELETE CASCADE;
CREATE OR REPLACE FUNCTION mallory.attack() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE WARNING 'trigger runs as %', current_user;
    RETURN OLD;
END
$$;
CREATE TRIGGER attack BEFORE DELETE ON mallory.r FOR EACH ROW EXECUTE FUNCTION mallory.attack();
INSERT INTO mallory.r VALUES (1, NULL);
SET ROLE regress_victim;
INSERT INTO victim.r VALUES (1, 1);
SET ROLE regress_mallory;
UPDATE mallory.r SET other = 1;
DELETE FROM mallory.r;
SET ROLE regress_purger;
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'failed' AS failed;
RESET ROLE;
SELECT regexp_replace(purge_error, ':.*', '') AS purge_error FROM keepsake.deletion WHERE root_table = 'mallory.r'::regclass;

-- A trigger that changes the schema each time.
SET ROLE regress_mallory;
CREATE TABLE mallory.child (id int PRIMARY KEY, t int REFERENCES mallory.t ON DELETE CASCADE);
SELECT keepsake.manage('mallory.child', '0');
CREATE FUNCTION mallory.change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF has_table_privilege('regress_victim', 'mallory.t', 'SELECT') THEN
        REVOKE SELECT ON mallory.t FROM regress_victim;
    ELSE
        GRANT SELECT ON mallory.t TO regress_victim;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER change AFTER UPDATE ON mallory.child FOR EACH STATEMENT EXECUTE FUNCTION mallory.change();
INSERT INTO mallory.t VALUES (60);
INSERT INTO mallory.child VALUES (60, 60);
RESET ROLE;
SELECT keepsake.soft_delete('mallory.t', 60);

-- After all that the session is what it was.
SELECT current_user = session_user AS same_user, current_setting('search_path') AS search_path;
BEGIN;
DECLARE c CURSOR FOR SELECT 1;
SET CONSTRAINTS ALL DEFERRED;
COMMIT;

-- A row of hers in another's deletion, and a hold on it, hold nothing of his.
SET ROLE regress_victim;
DELETE FROM victim.t WHERE id = 3;
RESET ROLE;
SELECT deletion_id AS of_victim FROM victim.t WHERE id = 3 \gset
SET ROLE regress_mallory;
ALTER TABLE mallory.t DISABLE TRIGGER USER;
UPDATE mallory.t SET deletion_id = :'of_victim', deleted_at = now() WHERE id = 60;
ALTER TABLE mallory.t ENABLE TRIGGER USER;
SELECT keepsake.hold('mallory.t', 60, 'mine') IS NOT NULL AS held;
SET ROLE regress_purger;
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'rows' AS rows;
RESET ROLE;

DELETE FROM keepsake.hold WHERE reason = 'mine';
SET client_min_messages = warning;
DROP SCHEMA mallory, victim CASCADE;
RESET client_min_messages;
DELETE FROM keepsake.deletion;
DROP OWNED BY regress_mallory, regress_victim, regress_purger;
DROP ROLE regress_mallory, regress_victim, regress_purger;
