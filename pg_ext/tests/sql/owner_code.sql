-- What a table's owner wrote runs as that owner, leaves nothing behind, and reaches nobody who calls: neither a superuser
-- nor a role that may only purge.
CREATE ROLE regress_mallory;
CREATE ROLE regress_purger;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keepsake TO regress_purger;
CREATE SCHEMA mallory AUTHORIZATION regress_mallory;
GRANT USAGE ON SCHEMA mallory TO regress_purger;

-- A table of hers, with one expired deletion.
SET ROLE regress_mallory;
SET search_path = mallory;
CREATE TABLE t (id int PRIMARY KEY, parent int REFERENCES t ON DELETE CASCADE, note text);
SELECT keepsake.manage('t', '0');
GRANT SELECT, DELETE ON t TO regress_purger;
CREATE TABLE q (x int);
CREATE FUNCTION escape() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'escape runs as %', current_user;
    RETURN NULL;
END
$$;
CREATE PROCEDURE refill() LANGUAGE sql AS $$
    INSERT INTO mallory.t VALUES (1, NULL, 'one'), (2, 1, 'two') ON CONFLICT DO NOTHING;
    DELETE FROM mallory.t WHERE id = 1 AND deleted_at IS NULL;
$$;
RESET search_path;
RESET ROLE;

-- A deferred trigger would fire at the commit, with the rights of who commits. It fires within the call, as her.
CREATE FUNCTION mallory.queue() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO mallory.q VALUES (1); RETURN coalesce(NEW, OLD); END $$;
ALTER FUNCTION mallory.queue OWNER TO regress_mallory;
SET ROLE regress_mallory;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON mallory.q DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mallory.escape();
CREATE TRIGGER a BEFORE UPDATE OR DELETE ON mallory.t FOR EACH ROW EXECUTE FUNCTION mallory.queue();
CALL mallory.refill();
RESET ROLE;
BEGIN;
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'rows' AS rows;
COMMIT;
SET ROLE regress_mallory;
CALL mallory.refill();
RESET ROLE;
SET ROLE regress_purger;
BEGIN;
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'rows' AS rows;
COMMIT;
RESET ROLE;
CALL keepsake.purge();

-- The same on the way of a deletion and of a restore.
SET ROLE regress_mallory;
INSERT INTO mallory.t VALUES (1, NULL, 'one'), (2, 1, 'two');
RESET ROLE;
BEGIN;
SELECT keepsake.soft_delete('mallory.t', 1) AS d \gset
COMMIT;
BEGIN;
SELECT keepsake.restore(:'d') -> 'restored' AS restored;
COMMIT;

-- For herself nothing is restricted: her constraint waits for her commit.
SET ROLE regress_mallory;
BEGIN;
SELECT keepsake.soft_delete('mallory.t', 1) IS NOT NULL AS deleted;
\echo now the commit
COMMIT;
DROP TRIGGER a ON mallory.t;
RESET ROLE;

-- A partitioned table that her trigger writes to: what PostgreSQL would defer there is refused.
SET ROLE regress_mallory;
CREATE TABLE mallory.parts (x int) PARTITION BY LIST (x);
CREATE TABLE mallory.part1 PARTITION OF mallory.parts DEFAULT;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON mallory.part1 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mallory.escape();
CREATE OR REPLACE FUNCTION mallory.queue() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO mallory.parts VALUES (1); RETURN coalesce(NEW, OLD); END $$;
CREATE TRIGGER a BEFORE DELETE ON mallory.t FOR EACH ROW EXECUTE FUNCTION mallory.queue();
RESET ROLE;
BEGIN;
SELECT keepsake.purge_batch(100, now() + interval '1 s') AS report;
COMMIT;
SELECT purge_error FROM keepsake.deletion WHERE purge_error IS NOT NULL;
UPDATE keepsake.deletion SET purge_failed_at = NULL, purge_error = NULL;

-- What else outlives a call: a cursor, a prepared statement, a temporary table, a role, a listener.
CREATE TABLE attempt (n int PRIMARY KEY, what text);
GRANT SELECT ON attempt TO PUBLIC;
INSERT INTO attempt VALUES
    (1, 'DECLARE stays CURSOR WITH HOLD FOR SELECT current_user'),
    (2, 'PREPARE stays AS SELECT current_user'),
    (3, 'CREATE TEMPORARY TABLE stays (x int)'),
    (4, 'SET SESSION AUTHORIZATION DEFAULT'),
    (5, 'RESET ROLE'),
    (6, 'LISTEN stays'),
    (7, 'SET CONSTRAINTS ALL IMMEDIATE'),
    (8, 'DECLARE stays CURSOR FOR SELECT current_user'),
    (9, 'CREATE DOMAIN pg_temp.text AS pg_catalog.text');
SET ROLE regress_mallory;
CREATE OR REPLACE FUNCTION mallory.queue() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT * FROM public.attempt ORDER BY n LOOP
        BEGIN
            EXECUTE one.what;
            RAISE NOTICE 'done: %', one.what;
        EXCEPTION WHEN OTHERS THEN
            RAISE NOTICE '%', SQLERRM;
        END;
    END LOOP;
    PERFORM set_config('search_path', 'mallory', false), set_config('keepsake.actor', 'somebody', false),
            set_config('statement_timeout', '1d', false), set_config('default_transaction_read_only', 'on', false),
            set_config('transaction_read_only', 'on', false), set_config('role', 'none', false);
    RETURN OLD;
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE '%', SQLERRM;
    PERFORM set_config('search_path', 'mallory', false), set_config('keepsake.actor', 'somebody', false),
            set_config('statement_timeout', '1d', false), set_config('default_transaction_read_only', 'on', false);
    RETURN OLD;
END
$$;
RESET ROLE;
SET keepsake.actor = 'me';
BEGIN;
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'rows' AS rows;
SELECT name FROM pg_cursors;
COMMIT;
SHOW search_path;
SHOW keepsake.actor;
SHOW statement_timeout;
SHOW default_transaction_read_only;
SHOW transaction_read_only;
RESET keepsake.actor;
SELECT name FROM pg_cursors;
SELECT name FROM pg_prepared_statements;

-- Expressions of indexes, volatile by now; casts, checks of domains: met by what only looks, too.
DROP TRIGGER a ON mallory.t;
SET ROLE regress_mallory;
SET search_path = mallory;
CREATE FUNCTION tell(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN $1; END $$;
CREATE DOMAIN checked AS int CHECK (mallory.tell(VALUE::text) IS NOT NULL);
CREATE TYPE spelled AS ENUM ('1', '2');
CREATE TABLE d (id checked PRIMARY KEY, note text);
CREATE TABLE s (id spelled PRIMARY KEY, d int REFERENCES d ON DELETE SET NULL, note text);
SELECT keepsake.manage('d', '0'), keepsake.manage('s', '0');
CREATE UNIQUE INDEX ON d (tell(note)) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX ON s (tell(note)) WHERE deleted_at IS NULL AND tell(note) IS NOT NULL;
CREATE FUNCTION to_json(spelled) RETURNS json LANGUAGE plpgsql SET search_path = pg_catalog, mallory AS $$ BEGIN RETURN to_json(tell($1::text)); END $$;
CREATE CAST (spelled AS json) WITH FUNCTION to_json(spelled);
INSERT INTO d VALUES (1, 'a'), (2, 'b');
INSERT INTO s VALUES ('1', 1, 'a'), ('2', 2, 'b');
CREATE FUNCTION to_spelled(text) RETURNS spelled LANGUAGE plpgsql SET search_path = pg_catalog, mallory AS $$ DECLARE r spelled; BEGIN r := tell($1); RETURN r; END $$;
CREATE CAST (text AS spelled) WITH FUNCTION to_spelled(text);
CREATE OR REPLACE FUNCTION tell(text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF current_user <> 'regress_mallory' THEN
        RAISE WARNING 'ESCAPED as %', current_user;
    END IF;
    BEGIN
        CREATE TEMPORARY TABLE stays (x int);
        RAISE WARNING 'NOT RESTRICTED';
    EXCEPTION WHEN insufficient_privilege THEN
        NULL;
    END;
    RETURN $1;
END
$$;
RESET search_path;
RESET ROLE;
SELECT keepsake.soft_delete('mallory.d', 1) AS d \gset
SELECT keepsake.soft_delete('mallory.d', '2') AS e \gset
SELECT keepsake.soft_delete('mallory.s', '1') AS s \gset
SELECT keepsake.soft_delete('mallory.s', '{"id": "2"}'::jsonb) AS r \gset
SELECT * FROM keepsake.plan_delete('mallory.d', '1');
SELECT * FROM keepsake.restore_conflicts(:'d');
SELECT * FROM keepsake.restore_conflicts(:'s');
SELECT keepsake.hold('mallory.d', '1', 'test') AS h \gset
SELECT keepsake.hold('mallory.s', '1', 'test') AS i \gset
SELECT * FROM keepsake.purge_plan(now() + interval '1 s') WHERE table_name LIKE 'mallory%' ORDER BY 1, 2;
SELECT keepsake.release(:h), keepsake.release(:i);
SELECT count(*) FROM keepsake.purge_candidates(10, now() + interval '1 s');
SELECT count(*) FROM keepsake.doctor() WHERE object LIKE 'mallory%' AND severity = 'error';
SELECT keepsake.restore(:'d') -> 'restored' AS restored;
SELECT keepsake.restore(:'s') -> 'restored' AS restored;
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'rows' AS rows;

-- Operators that stand in the way of a table's owner are stored in no trigger: the superuser's UPDATE calls none.
SET ROLE regress_mallory;
SET search_path = mallory, pg_catalog;
CREATE FUNCTION same(varchar, varchar) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'operator called as %', current_user; RETURN $1::text OPERATOR(pg_catalog.=) $2::text; END $$;
CREATE FUNCTION same(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'operator called as %', current_user; RETURN true; END $$;
CREATE OPERATOR = (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = same);
CREATE OPERATOR = (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = same);
CREATE TABLE word (id varchar PRIMARY KEY, other varchar REFERENCES word ON DELETE CASCADE);
SELECT keepsake.manage('word', '0');
INSERT INTO word VALUES ('a', NULL), ('b', 'a');
RESET ROLE;
RESET search_path;
UPDATE mallory.word SET id = 'c' WHERE id = 'b';
UPDATE mallory.word SET other = NULL WHERE id = 'c';
SELECT keepsake.soft_delete('mallory.word', 'a') AS d \gset
SELECT keepsake.restore(:'d') IS NOT NULL AS restored;
DELETE FROM mallory.word WHERE id = 'a';
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'rows' AS rows;
SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'mallory.word'::regclass AND tgqual IS NOT NULL ORDER BY 1;

-- A policy of hers binds whoever reads her table, with his rights; it leaves nothing behind, either.
SET ROLE regress_mallory;
CREATE TABLE mallory.guarded (id int PRIMARY KEY);
SELECT keepsake.manage('mallory.guarded');
GRANT SELECT, DELETE ON mallory.guarded TO regress_purger;
CREATE FUNCTION mallory.policy(int) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('search_path', 'mallory', false);
    BEGIN
        CREATE TEMPORARY TABLE stays (x int);
        RAISE WARNING 'NOT RESTRICTED';
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE NOTICE '%', SQLERRM;
    END;
    RETURN true;
END
$$;
CREATE POLICY p ON mallory.guarded USING (mallory.policy(id));
ALTER TABLE mallory.guarded ENABLE ROW LEVEL SECURITY;
INSERT INTO mallory.guarded VALUES (1);
RESET ROLE;
GRANT TEMPORARY ON DATABASE regression TO regress_purger;
SET ROLE regress_purger;
SELECT keepsake.soft_delete('mallory.guarded', 1) IS NOT NULL AS deleted;
SHOW search_path;
RESET ROLE;

-- What the registry records of who it was is the database's own word.
SET ROLE regress_purger;
SET keepsake.actor = 'the director';
RESET ROLE;
INSERT INTO mallory.guarded VALUES (2);
SET ROLE regress_purger;
SELECT keepsake.soft_delete('mallory.guarded', 2) AS d \gset
SELECT keepsake.hold(:'d'::uuid, 'evidence') AS h \gset
SELECT keepsake.release(:h);
SELECT keepsake.restore(:'d') IS NOT NULL AS restored;
RESET ROLE;
RESET keepsake.actor;
SELECT actor, role, session_role = session_user AS logged_in, settled_role, settled_session_role = session_user AS settled_logged_in
FROM keepsake.deletion WHERE id = :'d';
SELECT actor, role, session_role = session_user AS logged_in, released_by, released_role FROM keepsake.hold WHERE id = :h;

DROP TABLE attempt;
SET client_min_messages = warning;
DROP SCHEMA mallory CASCADE;
DELETE FROM keepsake.deletion WHERE root_table::oid NOT IN (SELECT oid FROM pg_class);
RESET client_min_messages;
DROP OWNED BY regress_mallory, regress_purger;
DROP ROLE regress_mallory, regress_purger;
