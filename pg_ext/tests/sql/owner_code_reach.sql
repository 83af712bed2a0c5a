-- More ways in which code of a table's owner tried to reach past the call.
CREATE ROLE regress_mallory;
CREATE ROLE regress_victor;
CREATE ROLE regress_purger;
GRANT USAGE ON SCHEMA keepsake TO regress_mallory, regress_victor, regress_purger;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keepsake TO regress_purger;
CREATE SCHEMA us AUTHORIZATION regress_mallory;
GRANT ALL ON SCHEMA us TO regress_victor;
CREATE TABLE secret (t text);
INSERT INTO secret VALUES ('s3cret');
SET ROLE regress_mallory;
CREATE TABLE us.t (id int PRIMARY KEY);
SELECT keepsake.manage('us.t', '0');
CREATE FUNCTION us.spy() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'runs as %', current_user; RETURN 'x'; END $$;
CREATE FUNCTION us.bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$;
CREATE TRIGGER bad BEFORE DELETE ON us.t FOR EACH ROW EXECUTE FUNCTION us.bad();
CREATE PROCEDURE us.expire() LANGUAGE sql AS $$
    INSERT INTO us.t SELECT coalesce(max(id), 0) + 1 FROM us.t;
    DELETE FROM us.t WHERE deleted_at IS NULL;
$$;
RESET ROLE;

-- The caller's cursors cannot be read, closed or replaced, and none is left.
SET ROLE regress_mallory;
CREATE OR REPLACE FUNCTION us.bad() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    s refcursor := 'secret';
    stays refcursor := 'stays';
    r record;
BEGIN
    BEGIN FETCH s INTO r; RAISE WARNING 'read %', r; EXCEPTION WHEN OTHERS THEN RAISE NOTICE '%', SQLERRM; END;
    BEGIN CLOSE s; RAISE WARNING 'closed'; EXCEPTION WHEN OTHERS THEN RAISE NOTICE '%', SQLERRM; END;
    OPEN stays FOR SELECT us.spy();
    FOR r IN SELECT 1 AS one LOOP RAISE NOTICE 'its own loops run: %', r.one; END LOOP;
    RETURN OLD;
END
$$;
CALL us.expire();
RESET ROLE;
BEGIN;
DECLARE secret CURSOR FOR SELECT * FROM secret;
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'rows' AS rows;
SELECT name FROM pg_cursors;
FETCH secret;
COMMIT;

-- Nor the engine's own, whatever they are called.
SET ROLE regress_mallory;
CREATE OR REPLACE FUNCTION us.bad() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    s refcursor;
    n text;
BEGIN
    FOR n IN SELECT name FROM pg_cursors LOOP
        s := n;
        BEGIN MOVE FORWARD ALL IN s; EXCEPTION WHEN OTHERS THEN NULL; END;
        BEGIN CLOSE s; RAISE WARNING 'closed %', n; EXCEPTION WHEN OTHERS THEN NULL; END;
    END LOOP;
    RETURN OLD;
END
$$;
CALL us.expire();
CALL us.expire();
RESET ROLE;
SET ROLE regress_purger;
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'rows' AS rows;
RESET ROLE;

-- A setting that ends the session with the next error.
SET ROLE regress_mallory;
CREATE OR REPLACE FUNCTION us.bad() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('exit_on_error', 'on', true);
    RAISE EXCEPTION 'bye';
END
$$;
CALL us.expire();
RESET ROLE;
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'failed' AS failed;
SELECT purge_error FROM keepsake.deletion WHERE purge_error IS NOT NULL AND root_table = 'us.t'::regclass;

-- Many deletions that fail: a batch of n meets n of them, and another owner's go in the next.
DELETE FROM keepsake.deletion WHERE root_table = 'us.t'::regclass;
SET ROLE regress_mallory;
CALL us.expire();
CALL us.expire();
CALL us.expire();
RESET ROLE;
SELECT keepsake.purge_batch(2, now() + interval '1 s') - 'last' AS report;
SELECT keepsake.purge_batch(2, now() + interval '1 s') - 'last' AS report;

-- A table of another's that a trigger of hers exchanges for a view, in her schema: nothing of hers runs as him.
CREATE TABLE us.vt (id int PRIMARY KEY, t int, note text);
ALTER TABLE us.vt OWNER TO regress_victor;
CREATE TABLE us.top (id int PRIMARY KEY);
CREATE TABLE us.mid (id int PRIMARY KEY, top int REFERENCES us.top ON DELETE CASCADE);
ALTER TABLE us.top OWNER TO regress_mallory;
ALTER TABLE us.mid OWNER TO regress_mallory;
ALTER TABLE us.vt ADD FOREIGN KEY (t) REFERENCES us.mid ON DELETE CASCADE;
GRANT SELECT ON us.mid TO regress_victor;
GRANT SELECT ON us.vt TO regress_mallory;
SELECT keepsake.manage('us.top', '0'), keepsake.manage('us.mid', '0'), keepsake.manage('us.vt', '0');
INSERT INTO us.top VALUES (1);
INSERT INTO us.mid VALUES (1, 1);
INSERT INTO us.vt VALUES (1, 1, 'a');
SET ROLE regress_mallory;
CREATE FUNCTION us.ins() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'instead as %', current_user; RETURN NEW; END $$;
CREATE FUNCTION us.f(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'f as %', current_user; RETURN $1; END $$;
CREATE FUNCTION us.swap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SET LOCAL client_min_messages = error;
    DROP TABLE us.vt CASCADE;
    CREATE TABLE us.vt2 (id int PRIMARY KEY, t int, note text, deleted_at timestamptz, deletion_id uuid);
    INSERT INTO us.vt2 VALUES (1, 1, 'z');
    CREATE VIEW us.vt AS SELECT id, t, us.f(note) AS note, deleted_at, deletion_id FROM us.vt2 WHERE us.f(note) IS NOT NULL;
    CREATE TRIGGER i INSTEAD OF UPDATE ON us.vt FOR EACH ROW EXECUTE FUNCTION us.ins();
    GRANT ALL ON us.vt, us.vt2 TO PUBLIC;
    SET LOCAL client_min_messages = notice;
    RETURN NEW;
END
$$;
CREATE TRIGGER swap BEFORE UPDATE ON us.top FOR EACH ROW EXECUTE FUNCTION us.swap();
RESET ROLE;
\set VERBOSITY sqlstate
SELECT keepsake.soft_delete('us.top', 1);
\set VERBOSITY default
SELECT relkind FROM pg_class WHERE oid = 'us.vt'::regclass;

-- A declared reference that has lost its column stops what concerns its tables, and nobody else.
SET ROLE regress_mallory;
DROP TRIGGER swap ON us.top;
CREATE TABLE us.c (id int PRIMARY KEY, ty text, ref int);
SELECT keepsake.manage('us.c', '0');
SELECT keepsake.declare_reference('us.c', 'ty', 'ref', 't', 'us.t');
ALTER TABLE us.c DROP COLUMN ref CASCADE;
INSERT INTO us.t VALUES (100);
DELETE FROM us.t WHERE id = 100;
INSERT INTO us.c VALUES (1, 't');
RESET ROLE;
BEGIN;
INSERT INTO thread VALUES (9001, 'nine');
SELECT keepsake.soft_delete('thread', 9001) IS NOT NULL AS done;
SELECT keepsake.purge_batch(100) IS NOT NULL AS purges;
ROLLBACK;
SELECT check_name FROM keepsake.doctor() WHERE check_name = 'declared_reference_lost';

-- A table of hers that looks like a former partition stops no DDL of another's.
SET ROLE regress_mallory;
CREATE TABLE us.r (id int PRIMARY KEY, top int REFERENCES us.top);
SELECT keepsake.soft_delete('us.top', 1) IS NOT NULL AS done;
DROP TRIGGER keepsake_guard_update ON us.r;
DROP TRIGGER keepsake_guard_insert ON us.r;
RESET ROLE;
SET session_replication_role = replica;
INSERT INTO us.r VALUES (1, 1);
RESET session_replication_role;
SET ROLE regress_mallory;
CREATE FUNCTION us.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER keepsake_guard_insert BEFORE INSERT ON us.r FOR EACH ROW EXECUTE FUNCTION us.no();
RESET ROLE;
CREATE TABLE innocent (x int);
ALTER TABLE innocent ADD COLUMN y int;
DROP TABLE innocent;

-- Tables of two owners that refer to each other in a ring are purged by no statement of one of them.
CREATE TABLE us.a (id int PRIMARY KEY, b int);
CREATE TABLE us.b (id int PRIMARY KEY, a int REFERENCES us.a ON DELETE CASCADE);
ALTER TABLE us.a ADD FOREIGN KEY (b) REFERENCES us.b ON DELETE CASCADE;
GRANT ALL ON us.a, us.b TO regress_mallory, regress_victor;
INSERT INTO us.a VALUES (1);
INSERT INTO us.b VALUES (1, 1);
UPDATE us.a SET b = 1;
SELECT keepsake.manage('us.a', '0'), keepsake.manage('us.b', '0');
ALTER TABLE us.a OWNER TO regress_mallory;
ALTER TABLE us.b OWNER TO regress_victor;
SELECT keepsake.soft_delete('us.a', 1) IS NOT NULL AS done;
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'failed' AS failed;
SELECT purge_error FROM keepsake.deletion WHERE root_table = 'us.a'::regclass;

-- The purge of who has a schema of hers in his path: its names are PostgreSQL's.
CREATE DOMAIN us.jsonb AS pg_catalog.jsonb CHECK (VALUE IS NULL);
CREATE DOMAIN us.uuid AS pg_catalog.uuid CHECK (VALUE IS NULL);
CREATE DOMAIN us.int8 AS pg_catalog.int8 CHECK (VALUE IS NULL);
CREATE DOMAIN us.text AS pg_catalog.text CHECK (VALUE IS NULL);
SET search_path = us, pg_catalog;
CALL keepsake.purge();
RESET search_path;

SET client_min_messages = warning;
DROP TABLE secret;
DROP SCHEMA us CASCADE;
DELETE FROM keepsake.deletion WHERE root_table::oid NOT IN (SELECT oid FROM pg_class);
RESET client_min_messages;
DROP OWNED BY regress_mallory, regress_victor, regress_purger;
DROP ROLE regress_mallory, regress_victor, regress_purger;
