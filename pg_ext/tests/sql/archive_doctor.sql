-- What doctor() finds of archives. Each fix is run, then the finding is gone and the others are as before.
CREATE SCHEMA ward;
SET search_path = ward, public;
\set SHOW_CONTEXT never
-- Runs the fixes of one check; tells which findings are left of it, and which came or went besides.
CREATE FUNCTION cure(name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before text[] := ARRAY(SELECT d::text FROM keepsake.doctor() d WHERE check_name <> name);
    fixes text[] := ARRAY(SELECT d.fix FROM keepsake.doctor() d WHERE check_name = name);
    one text;
BEGIN
    FOREACH one IN ARRAY fixes LOOP EXECUTE one; END LOOP;
    RETURN format('%s fixed, %s left, others %s', cardinality(fixes), (SELECT count(*) FROM keepsake.doctor() WHERE check_name = name),
                  CASE WHEN before = ARRAY(SELECT d::text FROM keepsake.doctor() d WHERE check_name <> name) THEN 'as before' ELSE 'changed' END);
END
$$;
CREATE VIEW findings AS SELECT severity, check_name, replace(object, current_database(), 'DB') AS object, replace(finding, current_database(), 'DB') AS finding, replace(fix, current_database(), 'DB') AS fix
    FROM keepsake.doctor() WHERE object ~ 'ward|\mDB\M|regress|^keepsake';
CREATE TYPE ward.state AS ENUM ('ill', 'well');
CREATE TABLE bed (id int PRIMARY KEY, state state, n int);
CREATE TABLE patient (id int PRIMARY KEY, bed_id int REFERENCES bed ON DELETE CASCADE, name text) PARTITION BY RANGE (id);
CREATE TABLE patient_1 PARTITION OF patient FOR VALUES FROM (0) TO (10);
SELECT keepsake.manage('bed', keep => 'archive', cascade => true);
-- A healthy pair, but for the library.
SELECT * FROM findings;
SELECT cure('library_not_preloaded');
SELECT * FROM findings;

-- The triggers, the setting, the archive itself.
DROP TRIGGER keepsake_archive_row ON bed; DROP TRIGGER keepsake_archive_truncate ON patient_1;
SELECT * FROM findings;
SELECT cure('trigger_missing');
ALTER TABLE bed DISABLE TRIGGER keepsake_archive_truncate;
SELECT * FROM findings;
SELECT cure('trigger_disabled');
CREATE ROLE regress_ward;
ALTER DATABASE regression SET keepsake.capture = off; ALTER ROLE regress_ward SET keepsake.capture = 'no'; ALTER ROLE regress_ward IN DATABASE regression SET keepsake.capture = false;
SELECT * FROM findings;
SELECT cure('capture_off');
DROP TABLE ward_deleted.bed;
SELECT * FROM findings;
SELECT cure('archive_missing');
ALTER EVENT TRIGGER keepsake_before_attach DISABLE; ALTER EVENT TRIGGER keepsake_follow_drops DISABLE; ALTER EVENT TRIGGER keepsake_follow_rewrite DISABLE;
SELECT * FROM findings;
SELECT cure('event_trigger_disabled');

-- Tables that hang on an archived one, and managed schemas.
ALTER EVENT TRIGGER keepsake_follow_archives DISABLE;
CREATE TABLE visitor (id int PRIMARY KEY, bed_id int REFERENCES bed ON DELETE SET NULL);
CREATE TABLE staying (id int PRIMARY KEY, bed_id int); SELECT keepsake.manage('staying'); ALTER TABLE staying ADD FOREIGN KEY (bed_id) REFERENCES bed;
ALTER TABLE bed ADD fresh int DEFAULT 1;
ALTER EVENT TRIGGER keepsake_follow_archives ENABLE;
SELECT * FROM findings;
SELECT cure('child_unmanaged');
SELECT cure('archive_behind');
CREATE SCHEMA ward2; CREATE TABLE ward2.one (id int PRIMARY KEY); CREATE TABLE ward2.two (id int);
SELECT keepsake.manage_schema('ward2', retention => '1 day');
ALTER EVENT TRIGGER keepsake_follow_archives DISABLE; CREATE TABLE ward2.three (id int PRIMARY KEY); ALTER EVENT TRIGGER keepsake_follow_archives ENABLE;
SELECT * FROM findings;
SELECT cure('table_unmanaged'), cure('table_without_key');
SELECT retention FROM keepsake.managed_table WHERE relation = 'ward2.three'::regclass;

-- Who may do what with archives, and what others have put there.
ALTER TABLE ward_deleted.bed OWNER TO CURRENT_USER;
GRANT INSERT, DELETE ON ward_deleted.patient TO regress_ward; GRANT TRUNCATE ON ward_deleted.patient TO PUBLIC; GRANT SELECT ON ward_deleted.patient TO regress_ward;
SELECT severity, check_name, replace(object, current_user, 'OWNER') AS object, replace(finding, current_user, 'OWNER') AS finding, fix FROM findings;
SELECT cure('archive_owner'), cure('archive_granted');
ALTER EVENT TRIGGER keepsake_follow_archives DISABLE; ALTER TABLE bed ENABLE ROW LEVEL SECURITY; ALTER EVENT TRIGGER keepsake_follow_archives ENABLE;
SELECT * FROM findings;
SELECT cure('archive_open');
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER "on it" BEFORE INSERT ON ward_deleted.bed FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE INDEX "by n" ON ward_deleted.bed (n); CREATE STATISTICS ward_deleted."of bed" ON id, n FROM ward_deleted.bed;
ALTER TABLE ward_deleted.bed ADD CONSTRAINT few CHECK (n < 5); CREATE POLICY all_of_it ON ward_deleted.bed USING (true);
ALTER TABLE ward_deleted.bed ALTER n SET STATISTICS 100;
ALTER TABLE ward_deleted.patient SET UNLOGGED;
UPDATE pg_depend SET deptype = 'n' WHERE classid = 'pg_class'::regclass AND objid = 'ward_deleted.bed'::regclass AND refclassid = 'pg_type'::regclass AND objsubid > 0;
SELECT * FROM findings;
SELECT cure('archive_trigger'), cure('archive_index'), cure('archive_statistics'), cure('archive_constraint'), cure('archive_policy'), cure('archive_unlogged'), cure('archive_holds_type');

-- Layouts.
ALTER EVENT TRIGGER keepsake_follow_drops DISABLE; ALTER EVENT TRIGGER keepsake_forget_dropped_tables DISABLE;
ALTER TABLE ward_deleted.patient DROP COLUMN name;
ALTER EVENT TRIGGER keepsake_follow_drops ENABLE; ALTER EVENT TRIGGER keepsake_forget_dropped_tables ENABLE;
SELECT * FROM findings;
-- Then the archive has a column less than its table.
SELECT cure('archive_column_lost'), cure('archive_behind');
BEGIN; DELETE FROM keepsake.archive_column WHERE archive = 'ward_deleted.patient'::regclass; SELECT * FROM findings; ROLLBACK;

-- What copies archives, what is left of dropped tables.
SET client_min_messages = error;
CREATE PUBLICATION regress_all FOR ALL TABLES; CREATE PUBLICATION regress_one FOR TABLE ward_deleted.bed, bed; CREATE PUBLICATION regress_schema FOR TABLES IN SCHEMA ward_deleted;
RESET client_min_messages;
SELECT * FROM findings;
DROP PUBLICATION regress_all;
SELECT cure('publication_of_archives');
INSERT INTO ward2.one VALUES (1); DELETE FROM ward2.one; DROP TABLE ward2.one;
SELECT keepsake.manage('ward2.three', '0');
SELECT * FROM findings;
SELECT cure('no_retention');

ALTER DATABASE regression RESET session_preload_libraries;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA ward, ward2, ward_deleted, ward2_deleted CASCADE;
DROP PUBLICATION regress_one, regress_schema;
DROP ROLE regress_ward;
