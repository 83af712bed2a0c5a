-- What a table's owner wrote runs as he, where archived rows are changed and where a new foreign key is looked at.
CREATE ROLE regress_eve;
CREATE SCHEMA eve AUTHORIZATION regress_eve;
CREATE TABLE language (id int PRIMARY KEY);
SELECT keepsake.manage('language');
GRANT REFERENCES ON language TO regress_eve;
GRANT USAGE ON SCHEMA keepsake TO regress_eve;
GRANT SELECT ON keepsake.deletion TO regress_eve;
INSERT INTO language VALUES (1), (2);
DELETE FROM language WHERE id = 2;
SET ROLE regress_eve;
CREATE FUNCTION eve.tell() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_user = 'regress_eve' THEN RAISE NOTICE 'runs as its owner'; ELSE RAISE WARNING 'runs as %', current_user; END IF;
END $$;
CREATE FUNCTION eve.one() RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM eve.tell(); RETURN 1; END $$;
CREATE TYPE eve.mood AS ENUM ('low', 'high');
CREATE FUNCTION eve.mood(text) RETURNS eve.mood LANGUAGE plpgsql AS $$
BEGIN PERFORM eve.tell(); RETURN CASE $1 WHEN 'low' THEN 'low'::eve.mood ELSE 'high'::eve.mood END; END $$;
CREATE CAST (text AS eve.mood) WITH FUNCTION eve.mood(text) AS ASSIGNMENT;
CREATE FUNCTION eve.fits(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM eve.tell(); RETURN true; END $$;
CREATE DOMAIN eve.fitting AS int CHECK (eve.fits(VALUE));
CREATE TABLE eve.parent (id eve.mood PRIMARY KEY);
CREATE TABLE eve.child (id int PRIMARY KEY, mood eve.mood REFERENCES eve.parent ON DELETE SET NULL, sizes eve.fitting[], language int);
SELECT keepsake.manage('eve.parent', keep => 'archive', cascade => true), keepsake.manage('eve.child', keep => 'archive');
INSERT INTO eve.parent VALUES ('low');
INSERT INTO eve.child (id, mood, language) VALUES (1, 'low', 1), (2, NULL, 1);
DELETE FROM eve.child WHERE id = 2;

-- A value for an archived row is read by its owner's cast and his domain's check.
SELECT keepsake.change_deleted('eve.child', '{"id": 2}'::jsonb, 'mood', 'high');
SELECT keepsake.change_deleted('eve.child', '{"id": 2}'::jsonb, 'sizes', '{7}');

-- So is what a transaction let go of, where it is put back into an archived row.
BEGIN;
DELETE FROM eve.parent;
DELETE FROM eve.child;
COMMIT;
SELECT keepsake.restore_group(id) -> 'restored' AS restored FROM keepsake.deletion WHERE root_table = 'eve.parent'::regclass;
SELECT id, mood, language FROM eve.child ORDER BY id;

-- A new reference: the rows that are there are read as their owner, whose index has an expression that the planner runs.
CREATE TABLE eve.speaker (id int PRIMARY KEY, language int);
INSERT INTO eve.speaker VALUES (1, 1);
CREATE INDEX ON eve.speaker ((language + eve.one()));
\connect
SET ROLE regress_eve;
ALTER TABLE eve.speaker ADD CONSTRAINT speaks FOREIGN KEY (language) REFERENCES public.language NOT VALID;
ALTER TABLE eve.speaker DROP CONSTRAINT speaks;
INSERT INTO eve.speaker VALUES (2, 2);
ALTER TABLE eve.speaker ADD CONSTRAINT speaks FOREIGN KEY (language) REFERENCES public.language NOT VALID;
RESET ROLE;

-- A trigger of a restored row writes where its owner may write: to a view, to another's table, under policies.
CREATE TABLE public.diary (id int, line text);
GRANT SELECT, INSERT ON public.diary TO regress_eve;
CREATE VIEW public.diary_lines AS SELECT * FROM public.diary;
GRANT INSERT ON public.diary_lines TO regress_eve;
CREATE TABLE public.watched (id int);
ALTER TABLE public.watched ENABLE ROW LEVEL SECURITY;
CREATE POLICY small ON public.watched FOR INSERT WITH CHECK (id < 10);
GRANT INSERT ON public.watched TO regress_eve;
SET ROLE regress_eve;
CREATE TABLE eve.guest (id int PRIMARY KEY);
CREATE FUNCTION eve.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.diary VALUES (NEW.id, 'table');
    INSERT INTO public.diary_lines VALUES (NEW.id, 'view');
    INSERT INTO public.watched VALUES (NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER note AFTER INSERT ON eve.guest FOR EACH ROW EXECUTE FUNCTION eve.note();
CREATE FUNCTION eve.count() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.diary SELECT count(*), 'statement' FROM new_rows;
    RETURN NULL;
END $$;
CREATE TRIGGER count AFTER INSERT ON eve.guest REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION eve.count();
SELECT keepsake.manage('eve.guest', keep => 'archive');
INSERT INTO eve.guest VALUES (1), (2);
DELETE FROM eve.guest;
RESET ROLE;
SELECT keepsake.restore(id) -> 'restored' AS restored FROM keepsake.deletion WHERE root_table = 'eve.guest'::regclass;
SELECT line, array_agg(id ORDER BY id) FROM public.diary GROUP BY line ORDER BY line;
SELECT id FROM public.watched ORDER BY id;
INSERT INTO eve.guest VALUES (3);
UPDATE eve.guest SET id = 13 WHERE id = 3;
DELETE FROM eve.guest WHERE id = 13;
SELECT keepsake.restore(id) FROM keepsake.deletion WHERE root_table = 'eve.guest'::regclass AND state = 'deleted';
-- A table of hers that looks like a partition that was just detached stops nobody's DDL.
CREATE ROLE regress_ada;
CREATE SCHEMA ada AUTHORIZATION regress_ada;
BEGIN;
SET ROLE regress_eve;
CREATE FUNCTION eve.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TABLE eve.alike (id int PRIMARY KEY, mood eve.mood);
CREATE TRIGGER passes BEFORE TRUNCATE ON eve.alike EXECUTE FUNCTION keepsake.archive_truncate();
ALTER TABLE eve.alike ADD FOREIGN KEY (mood) REFERENCES eve.parent ON DELETE CASCADE;
DROP TRIGGER passes ON eve.alike;
CREATE TRIGGER keepsake_archive_truncate BEFORE TRUNCATE ON eve.alike EXECUTE FUNCTION eve.no();
SET ROLE regress_ada;
CREATE TABLE ada.whole (id int) PARTITION BY LIST (id);
ALTER TABLE ada.whole ADD COLUMN x int;
ROLLBACK;
DROP SCHEMA ada;
DROP ROLE regress_ada;

SET client_min_messages = warning;
DROP TABLE public.diary CASCADE;
DROP TABLE public.watched;
DROP SCHEMA eve CASCADE;
DROP SCHEMA IF EXISTS eve_deleted CASCADE;
DROP TABLE language;
DELETE FROM keepsake.deletion WHERE root_table::oid NOT IN (SELECT oid FROM pg_class);
DROP OWNED BY regress_eve;
DROP ROLE regress_eve;
