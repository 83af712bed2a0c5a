-- Errors that pass through the engine, however deep: every field of them arrives, nothing of ours is added, the
-- server stays up, and what was undone leaves no trace in the session.
SELECT pg_postmaster_start_time() AS started \gset
SET client_min_messages = warning;
CREATE SCHEMA pass;
SET search_path = pass;
CREATE TABLE nest (id int PRIMARY KEY, note text);
CREATE TABLE gone (id int PRIMARY KEY);
CREATE TABLE chain (id int PRIMARY KEY);
SELECT keepsake.manage('nest'), keepsake.manage('gone', '0'), keepsake.manage('chain');
INSERT INTO nest SELECT n, 'x' FROM generate_series(1, 60) n;
INSERT INTO gone VALUES (1);
INSERT INTO chain SELECT n FROM generate_series(1, 60) n;

-- One that fails, with every field that an error can have.
CREATE FUNCTION fail() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('pass.how') = 'cancel' THEN
        PERFORM pg_cancel_backend(pg_backend_pid());
        PERFORM pg_sleep(10);
    ELSIF current_setting('pass.how') = 'division' THEN
        PERFORM 1 / 0;
    ELSIF current_setting('pass.how') = 'ours' THEN
        PERFORM keepsake.soft_delete('nest', 4711);
    END IF;
    RAISE EXCEPTION USING ERRCODE = current_setting('pass.how'), MESSAGE = 'the innermost failed', DETAIL = 'its detail',
        HINT = 'its hint', COLUMN = 'its column', CONSTRAINT = 'its constraint', DATATYPE = 'its type', TABLE = 'its table', SCHEMA = 'its schema';
END $$;
CREATE FUNCTION deeper() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE depth int := current_setting('pass.depth')::int + 1;
BEGIN
    PERFORM set_config('pass.depth', depth::text, true);
    RETURN depth < current_setting('pass.deepest')::int;
END $$;
-- Says all of an error that came out at the top, but for its context, of which it says how deep it went.
CREATE FUNCTION try(work text, how text, deepest int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE state text; message text; detail text; hint text; col text; con text; typ text; tab text; sch text; context text;
BEGIN
    PERFORM set_config('pass.how', how, true), set_config('pass.depth', '0', true), set_config('pass.deepest', deepest::text, true);
    EXECUTE work;
    RETURN 'no error';
EXCEPTION WHEN OTHERS OR query_canceled THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
        col = COLUMN_NAME, con = CONSTRAINT_NAME, typ = PG_DATATYPE_NAME, tab = TABLE_NAME, sch = SCHEMA_NAME, context = PG_EXCEPTION_CONTEXT;
    RETURN concat_ws(' | ', state, message, nullif(detail, ''), nullif(hint, ''), nullif(sch, ''), nullif(tab, ''), nullif(col, ''), nullif(typ, ''),
                     nullif(con, ''), 'fails within fails: ' || (SELECT count(*) FROM regexp_matches(context, 'function fail\(\)', 'g')),
                     'levels: ' || (SELECT count(*) FROM regexp_matches(context, 'function again[a-z_]*\(\)', 'g')));
END $$;

-- A restore within a restore …
CREATE TABLE deletion_of (id int PRIMARY KEY, deletion uuid);
INSERT INTO deletion_of SELECT id, keepsake.soft_delete('pass.nest', id) FROM nest;
CREATE FUNCTION again_restore() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.deleted_at IS NOT NULL THEN RETURN NEW; END IF;
    IF pass.deeper() THEN PERFORM keepsake.restore(deletion) FROM pass.deletion_of d WHERE d.id = OLD.id + 1; ELSE PERFORM pass.fail(); END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER again BEFORE UPDATE ON nest FOR EACH ROW EXECUTE FUNCTION again_restore();
-- … a purge within a purge …
SELECT keepsake.soft_delete('gone', 1) IS NOT NULL AS deleted;
CREATE FUNCTION again_purge() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pass.deeper() THEN PERFORM keepsake.purge_batch(10); ELSE PERFORM pass.fail(); END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER again BEFORE DELETE ON gone FOR EACH ROW EXECUTE FUNCTION again_purge();
-- … and a DELETE within a DELETE.
CREATE FUNCTION again_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pass.deeper() THEN DELETE FROM pass.chain WHERE id = OLD.id + 1; ELSE PERFORM pass.fail(); END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER again BEFORE UPDATE ON chain FOR EACH ROW EXECUTE FUNCTION again_delete();

SELECT how, try('SELECT keepsake.restore(deletion) FROM pass.deletion_of WHERE id = 1', how, 60) AS restore
FROM unnest('{40001,P0001,23505,cancel,division,ours}'::text[]) AS how;
-- (A purge records what fails, whatever it is; only the caller's own cancel ends it.)
SELECT how, try('SELECT keepsake.purge_batch(10)', how, 60) AS purge FROM unnest('{cancel,40001}'::text[]) AS how;
SELECT state, purge_error FROM keepsake.deletion WHERE root_table = 'gone'::regclass;
SELECT how, try('DELETE FROM pass.chain WHERE id = 1', how, 60) AS delete FROM unnest('{40001,P0001,cancel,division,ours}'::text[]) AS how;

-- The same to a client, with nothing caught on the way: no word of Rust, and no backtrace of it.
\set VERBOSITY default
\set SHOW_CONTEXT never
SET pass.deepest = 8;
SET pass.how = '40001';
SET pass.depth = 0;
SELECT keepsake.restore(deletion) FROM pass.deletion_of WHERE id = 1;
SET pass.depth = 0;
DELETE FROM pass.chain WHERE id = 1;
SET pass.how = 'ours';
SET pass.depth = 0;
SELECT keepsake.restore(deletion) FROM pass.deletion_of WHERE id = 1;
\set SHOW_CONTEXT errors

-- An EXCEPTION block at every level that raises its error again.
CREATE OR REPLACE FUNCTION again_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        IF pass.deeper() THEN DELETE FROM pass.chain WHERE id = OLD.id + 1; ELSE PERFORM pass.fail(); END IF;
    EXCEPTION WHEN OTHERS THEN
        RAISE;
    END;
    RETURN NEW;
END $$;
SELECT how, try('DELETE FROM pass.chain WHERE id = 1', how, 40) AS delete FROM unnest('{40001,P0001,ours}'::text[]) AS how;
-- One in the middle that goes on: the levels beneath it are undone, those above it happen.
CREATE OR REPLACE FUNCTION again_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        IF pass.deeper() THEN DELETE FROM pass.chain WHERE id = OLD.id + 1; ELSE PERFORM pass.fail(); END IF;
    EXCEPTION WHEN OTHERS THEN
        IF OLD.id <> 10 THEN RAISE; END IF;
    END;
    RETURN NEW;
END $$;
BEGIN;
SELECT try('DELETE FROM pass.chain WHERE id = 1', 'P0001', 30);
SELECT count(*) AS deleted, count(DISTINCT deletion_id) AS deletions FROM chain WHERE deleted_at IS NOT NULL;
SELECT count(*) AS recorded FROM keepsake.deletion WHERE root_table = 'chain'::regclass;
ROLLBACK;

-- What was undone leaves nothing behind: the role, the path, the engine's mark, the statements that run.
SELECT current_user = session_user AS own_role, current_setting('search_path') AS path, current_setting('enable_seqscan') AS seqscan;
UPDATE chain SET deletion_id = keepsake.uuid_v7() WHERE id = 1;
DROP TRIGGER again ON nest;
DROP TRIGGER again ON gone;
DROP TRIGGER again ON chain;
SELECT keepsake.restore(deletion) -> 'restored' AS restored FROM deletion_of WHERE id = 1;
DELETE FROM chain WHERE id = 1;
SELECT count(*) AS deleted FROM chain WHERE deleted_at IS NOT NULL;
UPDATE keepsake.deletion SET purge_failed_at = NULL;
SELECT keepsake.purge_batch(100) ->> 'failed' AS failed;

-- Nobody closes the cursors that the engine reads from.
CREATE FUNCTION close_all() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'CLOSE ALL';
    RETURN coalesce(NEW, OLD);
END $$;
CREATE FUNCTION close_by_name() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE cursor text;
BEGIN
    FOR cursor IN SELECT name FROM pg_cursors LOOP
        EXECUTE format('CLOSE %I', cursor);
    END LOOP;
    RETURN coalesce(NEW, OLD);
END $$;
CREATE TABLE shut (id int PRIMARY KEY, up int REFERENCES shut ON DELETE SET NULL);
SELECT keepsake.manage('shut', '0');
INSERT INTO shut VALUES (1, NULL), (2, 1), (3, 1), (4, NULL), (5, NULL);
CREATE TRIGGER shut BEFORE UPDATE OR DELETE ON shut FOR EACH ROW EXECUTE FUNCTION close_all();
DELETE FROM shut WHERE id = 1;
DELETE FROM shut WHERE id = 4;
SELECT keepsake.purge_batch(100) IS NOT NULL AS purged;
SELECT regexp_replace(purge_error, '"<.*>"', '…') AS error FROM keepsake.deletion WHERE root_table = 'shut'::regclass ORDER BY id;
DROP TRIGGER shut ON shut;
UPDATE keepsake.deletion SET purge_failed_at = NULL, purge_error = NULL;
CREATE TRIGGER shut BEFORE DELETE ON shut FOR EACH ROW EXECUTE FUNCTION close_by_name();
SELECT keepsake.purge_batch(100) IS NOT NULL AS purged;
SELECT regexp_replace(purge_error, '"<.*>"', '…') AS error FROM keepsake.deletion WHERE root_table = 'shut'::regclass ORDER BY id;

RESET search_path;
RESET client_min_messages;
SET client_min_messages = warning;
DROP SCHEMA pass CASCADE;
RESET client_min_messages;
SELECT pg_postmaster_start_time() = :'started' AS never_restarted;
