-- One owner's tables stop no purge but their own: whatever error a trigger raises, however long it sleeps.
CREATE ROLE regress_good;
CREATE ROLE regress_bad;
CREATE SCHEMA good AUTHORIZATION regress_good;
CREATE SCHEMA bad AUTHORIZATION regress_bad;
SET ROLE regress_bad;
CREATE TABLE bad.t (id int PRIMARY KEY, code text);
SELECT keepsake.manage('bad.t', '0');
CREATE FUNCTION bad.fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.code = 'sleep' THEN
        PERFORM pg_sleep(600);
    ELSIF OLD.code = 'sleep on' THEN
        BEGIN
            PERFORM pg_sleep(600);
        EXCEPTION WHEN query_canceled THEN
            PERFORM pg_sleep(600);
        END;
    ELSIF OLD.code <> '' THEN
        RAISE EXCEPTION 'refused with %', OLD.code USING ERRCODE = OLD.code;
    END IF;
    RETURN OLD;
END
$$;
CREATE TRIGGER fail BEFORE DELETE ON bad.t FOR EACH ROW EXECUTE FUNCTION bad.fail();
SET ROLE regress_good;
CREATE TABLE good.t (id int PRIMARY KEY);
SELECT keepsake.manage('good.t', '0');
RESET ROLE;
CREATE PROCEDURE expire(codes text[]) LANGUAGE plpgsql AS $$
DECLARE
    one text;
BEGIN
    TRUNCATE keepsake.deletion CASCADE;
    FOREACH one IN ARRAY codes LOOP
        INSERT INTO bad.t SELECT coalesce(max(t.id), 0) + 1, one FROM bad.t t;
        DELETE FROM bad.t WHERE deleted_at IS NULL;
    END LOOP;
    INSERT INTO good.t VALUES (1), (2) ON CONFLICT DO NOTHING;
    DELETE FROM good.t WHERE id = 1;
    DELETE FROM good.t WHERE id = 2;
END
$$;
CREATE VIEW outcome AS
    SELECT root_table, state, purge_error, count(*) FROM keepsake.deletion
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;

SET client_min_messages = warning;
CALL expire('{57014, 40001, 40P01, 53200, 53100, P0001, 57P01, XX000, "", 55P03}');
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'failed' AS failed;
SELECT * FROM outcome;
SELECT count(*) FROM good.t;
SELECT keepsake.purge_batch(100, now() + interval '1 s') AS nothing_left;

-- Within SERIALIZABLE, too, and for who only looks.
CALL expire('{57014, 40001}');
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM keepsake.purge_candidates(100, now() + interval '1 s');
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'rows' AS rows;
COMMIT;
SELECT * FROM outcome;

-- A trigger that sleeps, and one that sleeps on when it is cancelled. What else its owner has is put off untried.
CALL expire('{"", sleep, "", ""}');
SET keepsake.purge_timeout = '300ms';
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'more' AS more;
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'more' AS more;
SELECT * FROM outcome;
CALL expire('{"sleep on"}');
CALL keepsake.purge();
SELECT state, purge_error IS NOT NULL AS told FROM keepsake.deletion ORDER BY 1;

-- The caller's own time leaves enough to record it; his own cancel ends the run.
CALL expire('{sleep}');
RESET keepsake.purge_timeout;
SET statement_timeout = '8s';
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'failed' AS failed;
RESET statement_timeout;
SELECT state, purge_error FROM keepsake.deletion ORDER BY 1;
UPDATE keepsake.deletion SET purge_failed_at = NULL, purge_error = NULL;
SET keepsake.purge_timeout = 0;
SET statement_timeout = 0;
CREATE FUNCTION cancel() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(600); RETURN OLD; END $$;
DROP TRIGGER fail ON bad.t;
CREATE TRIGGER fail BEFORE DELETE ON bad.t FOR EACH ROW EXECUTE FUNCTION cancel();
ALTER TABLE bad.t OWNER TO CURRENT_USER;
SELECT keepsake.purge_batch(100, now() + interval '1 s') -> 'failed' AS failed;
RESET keepsake.purge_timeout;

TRUNCATE keepsake.deletion CASCADE;
DROP VIEW outcome;
DROP PROCEDURE expire;
DROP SCHEMA good, bad CASCADE;
RESET client_min_messages;
DROP FUNCTION cancel;
DROP ROLE regress_good, regress_bad;
