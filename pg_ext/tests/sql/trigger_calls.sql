-- Whoever may create a trigger may have it call any of the engine's functions, at any time, level and event, on any
-- table. Each function serves its own calls and refuses the others (39P01), and none brings the server down.
SELECT pg_postmaster_start_time() AS started \gset
SET client_min_messages = warning;
CREATE SCHEMA calls;
SET search_path = calls;
CREATE TABLE plain (id int PRIMARY KEY, other int, note text);
CREATE TABLE kept (id int PRIMARY KEY, other int, note text NOT NULL DEFAULT 'k');
CREATE TABLE child (id int PRIMARY KEY, other int REFERENCES kept ON DELETE CASCADE, note text);
CREATE TABLE parted (id int PRIMARY KEY, other int, note text) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
-- Of another shape than the table that it is a partition of.
CREATE TABLE parted_2 (gone int, note text, other int, id int NOT NULL);
ALTER TABLE parted_2 DROP COLUMN gone;
ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES FROM (10) TO (20);
CREATE TABLE heir () INHERITS (plain);
CREATE TABLE kept_if_allowed (id int PRIMARY KEY, other int, note text);
CREATE VIEW shown AS SELECT id, other, note FROM plain;
CREATE INDEX ON kept (note);
SELECT keepsake.manage('kept'), keepsake.manage('child'), keepsake.manage('parted'), keepsake.manage('kept_if_allowed', on_delete => 'allow');
SELECT keepsake.bind_storage('kept', 'note');
INSERT INTO plain VALUES (1, 1, 'a'), (2, 2, 'b');
INSERT INTO kept VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c');
INSERT INTO child VALUES (1, 1, 'a'), (2, 2, 'b');
INSERT INTO parted VALUES (1, 1, 'a'), (11, 2, 'b'), (2, 3, 'c');
INSERT INTO kept_if_allowed VALUES (1, 1, 'a'), (2, 2, 'b');
DELETE FROM kept WHERE id = 3;
DELETE FROM parted WHERE id = 2;

-- Every function that a trigger may call, of today and of tomorrow.
CREATE VIEW functions AS SELECT proname::text AS function FROM pg_proc
WHERE pronamespace = 'keepsake'::regnamespace AND prorettype = 'trigger'::regtype;
CREATE VIEW triggers AS
SELECT format('CREATE %sTRIGGER a_probe %s %s ON %s %s%sFOR EACH %s', kind, timing, events, relation, deferred, referencing, level) AS head, relation, timing, level, events
FROM unnest('{plain,kept,child,parted,parted_2,heir,kept_if_allowed,shown}'::text[]) AS relation,
     unnest('{BEFORE,AFTER,INSTEAD OF}'::text[]) AS timing,
     unnest('{ROW,STATEMENT}'::text[]) AS level,
     unnest('{INSERT,UPDATE,DELETE,TRUNCATE,INSERT OR UPDATE OR DELETE,UPDATE OF other}'::text[]) AS events,
     (VALUES ('', '', ''), ('', '', 'REFERENCING NEW TABLE AS keepsake_new '), ('', '', 'REFERENCING OLD TABLE AS keepsake_old '),
             ('', '', 'REFERENCING NEW TABLE AS x '), ('', '', 'REFERENCING OLD TABLE AS keepsake_new '), ('CONSTRAINT ', 'DEFERRABLE INITIALLY DEFERRED ', '')) AS form (kind, deferred, referencing)
-- What CREATE TRIGGER refuses by itself need not be tried.
WHERE (timing = 'INSTEAD OF') = (relation = 'shown' AND level = 'ROW') AND NOT (timing = 'INSTEAD OF' AND (events = 'UPDATE OF other' OR kind <> '' OR referencing <> ''))
  AND NOT (events = 'TRUNCATE' AND (level = 'ROW' OR relation = 'shown'))
  AND (kind = '' OR timing = 'AFTER' AND level = 'ROW' AND relation <> 'shown')
  AND (referencing = '' OR timing = 'AFTER' AND relation <> 'shown' AND events IN ('INSERT', 'UPDATE', 'DELETE') AND NOT (level = 'ROW' AND relation IN ('parted', 'parted_2', 'heir'))
       AND (events <> 'INSERT' OR referencing !~ 'OLD') AND (events <> 'DELETE' OR referencing !~ 'NEW'));
CREATE VIEW statements AS
SELECT relation, event, replace(statement, '$', relation) AS statement
FROM unnest('{plain,kept,child,parted,parted_2,heir,kept_if_allowed,shown}'::text[]) AS relation,
     (VALUES ('INSERT', 'INSERT INTO $ (id, other, note) VALUES (19, 1, ''x'')'), ('UPDATE', 'UPDATE $ SET note = ''y'', other = NULL'), ('UPDATE', 'UPDATE $ SET id = id + 2 WHERE other = 2'),
             ('DELETE', 'DELETE FROM $ WHERE other = 1'), ('TRUNCATE', 'TRUNCATE $ CASCADE')) AS written (event, statement)
WHERE event <> 'TRUNCATE' OR relation <> 'shown';

CREATE TABLE outcome (function text, head text, statement text, state text, message text);
-- Makes the trigger, fires it, notes what became of it, and undoes all.
CREATE PROCEDURE probe(function text, head text, statement text) LANGUAGE plpgsql AS $$
DECLARE state text := '00000'; message text := '';
BEGIN
    BEGIN
        EXECUTE format('%s EXECUTE FUNCTION keepsake.%I(%s)', head, function, CASE WHEN head ~ 'BEFORE' THEN '''an argument''' ELSE '' END);
        EXECUTE statement;
        SET CONSTRAINTS ALL IMMEDIATE;
        RAISE SQLSTATE 'UNDO1';
    EXCEPTION
        WHEN SQLSTATE 'UNDO1' THEN NULL;
        WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
    END;
    INSERT INTO calls.outcome VALUES (function, head, statement, state, message);
END $$;
DO $$
DECLARE f text; t record; s record;
BEGIN
    FOR f IN SELECT function FROM calls.functions LOOP
        FOR t IN SELECT * FROM calls.triggers LOOP
            FOR s IN SELECT * FROM calls.statements WHERE relation = t.relation AND t.events ~ event LOOP
                CALL calls.probe(f, t.head, s.statement);
            END LOOP;
        END LOOP;
    END LOOP;
END $$;
-- What each function serves, as it tells whoever calls it otherwise.
SELECT DISTINCT message FROM outcome WHERE state = '39P01' ORDER BY message;
-- Anything but success, the protocol and the engine's own refusals; and who was refused without a word of what it serves.
SELECT DISTINCT function, head, statement, state, message FROM outcome
WHERE state NOT IN ('00000', '39P01', '55000', '23503', '23505', '23502', '22023', '0A000', '42809', '42P17', '55006') OR state = '39P01' AND message !~ 'must be called as a trigger: ';
SELECT count(DISTINCT function) = (SELECT count(*) FROM functions) AS all_functions, count(*) > 5000 AS many_calls, count(*) FILTER (WHERE state = '39P01') > 3000 AS many_refused FROM outcome;

-- Called by nobody's trigger.
DO $$
DECLARE f text; state text;
BEGIN
    FOR f IN SELECT function FROM calls.functions LOOP
        BEGIN
            EXECUTE format('SELECT keepsake.%I()', f);
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE;
        END;
        -- PL/pgSQL refuses by itself.
        IF (state IN ('39P01', '0A000')) IS NOT TRUE THEN RAISE 'keepsake.%() called by SELECT: %', f, state; END IF;
    END LOOP;
END $$;
SELECT keepsake.protect_state();
CREATE TRIGGER x BEFORE INSERT ON plain FOR EACH STATEMENT EXECUTE FUNCTION keepsake.protect_state();
INSERT INTO plain VALUES (9, 9, 'z');
DROP TRIGGER x ON plain;
CREATE TRIGGER x AFTER INSERT ON plain REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION keepsake.guard_insert();
INSERT INTO plain VALUES (9, 9, 'z');
CREATE EVENT TRIGGER x ON ddl_command_end EXECUTE FUNCTION keepsake.protect_state();

RESET search_path;
DROP SCHEMA calls CASCADE;
RESET client_min_messages;
SELECT pg_postmaster_start_time() = :'started' AS never_restarted;
