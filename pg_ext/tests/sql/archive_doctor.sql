-- What doctor() finds of archives. Each fix is run, then the finding is gone and the others are as before.
CREATE SCHEMA ward;
SET search_path = ward, public;
\set SHOW_CONTEXT never
-- Runs the fixes of one check; tells which findings are left of it, and which came or went besides.
CREATE FUNCTION cure(name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before text[] := ARRAY(SELECT d::text FROM keepsake.doctor() d WHERE check_name <> name AND object ~ 'ward');
    fixes text[] := ARRAY(SELECT d.fix FROM keepsake.doctor() d WHERE check_name = name AND object ~ 'ward|regress');
    one text;
BEGIN
    FOREACH one IN ARRAY fixes LOOP EXECUTE one; END LOOP;
    RETURN format('%s fixed, %s left, others %s', cardinality(fixes), (SELECT count(*) FROM keepsake.doctor() WHERE check_name = name AND object ~ 'ward|regress'),
                  CASE WHEN before = ARRAY(SELECT d::text FROM keepsake.doctor() d WHERE check_name <> name AND object ~ 'ward') THEN 'as before' ELSE 'changed' END);
END
$$;
CREATE VIEW findings AS SELECT severity, check_name, object, finding, fix FROM keepsake.doctor() WHERE object ~ 'ward|regress_';
CREATE TABLE bed (id int PRIMARY KEY, n int);
CREATE TABLE patient (id int PRIMARY KEY, bed_id int REFERENCES bed ON DELETE CASCADE, name text) PARTITION BY RANGE (id);
CREATE TABLE patient_1 PARTITION OF patient FOR VALUES FROM (0) TO (10);
SELECT keepsake.manage('bed', keep => 'archive', cascade => true);
-- A healthy pair.
SELECT * FROM findings;

-- The triggers, the setting, the archive itself.
DROP TRIGGER keepsake_archive_row ON bed; DROP TRIGGER keepsake_archive_truncate ON patient_1;
SELECT * FROM findings;
SELECT cure('trigger_missing');
ALTER TABLE bed DISABLE TRIGGER keepsake_archive_truncate;
SELECT * FROM findings;
SELECT cure('trigger_disabled');
CREATE ROLE regress_ward;
ALTER ROLE regress_ward SET keepsake.capture = 'no';
SELECT * FROM findings;
SELECT cure('capture_off');
DROP TABLE ward_deleted.bed;
SELECT * FROM findings;
SELECT cure('archive_missing');

-- Tables that hang on an archived one.
ALTER EVENT TRIGGER keepsake_follow_archives DISABLE;
CREATE TABLE visitor (id int PRIMARY KEY, bed_id int REFERENCES bed ON DELETE SET NULL);
CREATE TABLE staying (id int PRIMARY KEY, bed_id int); SELECT keepsake.manage('staying'); ALTER TABLE staying ADD FOREIGN KEY (bed_id) REFERENCES bed;
ALTER EVENT TRIGGER keepsake_follow_archives ENABLE;
SELECT * FROM findings;
SELECT cure('child_unmanaged');

-- What no event trigger has told: columns, types, row-level security.
CREATE TYPE state AS ENUM ('ill', 'well');
ALTER EVENT TRIGGER keepsake_follow_archives DISABLE; ALTER EVENT TRIGGER keepsake_follow_rewrite DISABLE; ALTER EVENT TRIGGER keepsake_follow_drops DISABLE;
ALTER TABLE bed ADD fresh state DEFAULT 'ill'; ALTER TABLE visitor ALTER bed_id TYPE bigint;
ALTER TABLE bed ENABLE ROW LEVEL SECURITY;
SELECT check_name, object, fix FROM keepsake.doctor() WHERE check_name = 'event_trigger_disabled';
ALTER EVENT TRIGGER keepsake_follow_archives ENABLE; ALTER EVENT TRIGGER keepsake_follow_rewrite ENABLE; ALTER EVENT TRIGGER keepsake_follow_drops ENABLE;
SELECT * FROM findings;
SELECT cure('archive_behind'), cure('archive_open');
SELECT polname, polroles::regrole[] = ARRAY[current_user::regrole] AS owners FROM pg_policy WHERE polrelid = 'ward_deleted.bed'::regclass;
DROP POLICY keepsake_source_owner ON ward_deleted.bed;
SELECT * FROM findings;
SELECT cure('archive_closed');
UPDATE pg_depend SET deptype = 'n' WHERE classid = 'pg_class'::regclass AND objid = 'ward_deleted.bed'::regclass AND refclassid = 'pg_type'::regclass AND objsubid > 0;
SELECT * FROM findings;
SELECT cure('archive_holds_type');
ALTER TABLE bed DISABLE ROW LEVEL SECURITY;
ALTER EVENT TRIGGER keepsake_follow_drops DISABLE; ALTER EVENT TRIGGER keepsake_forget_dropped_tables DISABLE;
ALTER TABLE ward_deleted.patient DROP COLUMN name;
ALTER EVENT TRIGGER keepsake_follow_drops ENABLE; ALTER EVENT TRIGGER keepsake_forget_dropped_tables ENABLE;
SELECT * FROM findings;
SELECT cure('archive_column_lost');
SELECT cure('archive_behind');

-- Triggers without registry, as a dump of the schema alone leaves them.
BEGIN; DELETE FROM keepsake.managed_table WHERE relation = 'visitor'::regclass; DELETE FROM keepsake.archive_table WHERE relation = 'visitor'::regclass;
SELECT * FROM findings;
SELECT cure('table_unregistered');
SELECT * FROM findings;
ROLLBACK;

-- Managed schemas.
CREATE SCHEMA ward2; CREATE TABLE ward2.one (id int PRIMARY KEY); CREATE TABLE ward2.two (id int);
SELECT keepsake.manage_schema('ward2', retention => '1 day');
ALTER EVENT TRIGGER keepsake_follow_archives DISABLE; CREATE TABLE ward2.three (id int PRIMARY KEY); ALTER EVENT TRIGGER keepsake_follow_archives ENABLE;
SELECT * FROM findings;
SELECT cure('table_unmanaged'), cure('table_without_key');
SELECT retention FROM keepsake.managed_table WHERE relation = 'ward2.three'::regclass;
SET client_min_messages = warning; DROP SCHEMA ward2, ward2_deleted CASCADE; RESET client_min_messages;

-- Who may do what with archives, and what others have put there.
ALTER TABLE ward_deleted.bed OWNER TO CURRENT_USER; ALTER SCHEMA ward_deleted OWNER TO CURRENT_USER;
GRANT INSERT, DELETE ON ward_deleted.patient TO regress_ward; GRANT TRUNCATE ON ward_deleted.patient TO PUBLIC; GRANT SELECT ON ward_deleted.patient TO regress_ward;
SELECT severity, check_name, object, replace(finding, current_user, 'OWNER') AS finding, fix FROM findings;
SELECT cure('archive_owner'), cure('archive_granted');
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER "on it" BEFORE INSERT ON ward_deleted.bed FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE INDEX "by n" ON ward_deleted.bed (n); CREATE STATISTICS ward_deleted."of bed" ON id, n FROM ward_deleted.bed;
ALTER TABLE ward_deleted.bed ADD CONSTRAINT few CHECK (n < 5); CREATE POLICY all_of_it ON ward_deleted.bed USING (true);
ALTER TABLE ward_deleted.bed ALTER n SET STATISTICS 100;
ALTER TABLE ward_deleted.patient SET UNLOGGED;
SELECT * FROM findings;
SELECT cure('archive_trigger'), cure('archive_index'), cure('archive_statistics'), cure('archive_constraint'), cure('archive_policy'), cure('archive_unlogged');

-- Layouts, what is left of dropped tables, a retention of nothing.
BEGIN; DELETE FROM keepsake.archive_column WHERE archive = 'ward_deleted.patient'::regclass; SELECT * FROM findings; ROLLBACK;
INSERT INTO bed VALUES (1, 1); INSERT INTO visitor VALUES (7); DELETE FROM visitor; DELETE FROM bed; DROP TABLE visitor; SELECT keepsake.manage('bed', '0');
SELECT * FROM findings;
SELECT cure('no_retention');
SELECT * FROM findings;

-- Large objects that go with their row.
CREATE FUNCTION lo_manage() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
CREATE TRIGGER scans BEFORE UPDATE OR DELETE ON bed FOR EACH ROW EXECUTE FUNCTION lo_manage();
SELECT * FROM findings;
SELECT cure('large_objects_unlinked');
SELECT * FROM findings;

RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA ward, ward_deleted CASCADE;
DROP ROLE regress_ward;
