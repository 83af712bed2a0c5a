-- Every finding of doctor(): provoked, mended by its own fix where it has one, and gone.
SET client_min_messages = error;
CREATE SCHEMA sick;
SET search_path = sick;
SELECT current_database() AS here \gset
ALTER DATABASE :"here" SET session_preload_libraries = 'keepsake';
-- What is healthy says nothing.
CREATE TABLE area (id int PRIMARY KEY);
CREATE TABLE house (id int PRIMARY KEY, area_id int REFERENCES area ON DELETE CASCADE);
CREATE INDEX ON house (area_id);
SELECT keepsake.manage('area'), keepsake.manage('house');
DELETE FROM keepsake.deletion;
DELETE FROM keepsake.outbox;
CREATE VIEW doctor AS SELECT * FROM keepsake.doctor() WHERE object LIKE 'sick.%' OR object NOT LIKE 'public.%';
SELECT * FROM doctor;

-- Triggers, guards, the index.
DROP TRIGGER keepsake_protect_state ON area;
ALTER TABLE area DISABLE TRIGGER keepsake_convert_delete;
DROP TRIGGER keepsake_guard_insert ON house;
DROP INDEX house_deletion_id_idx;
ALTER EVENT TRIGGER keepsake_follow_ddl DISABLE;
-- References and indexes.
DROP INDEX house_area_id_idx;
CREATE TABLE tenant (id int PRIMARY KEY);
ALTER TABLE house ADD COLUMN tenant_id int REFERENCES tenant ON DELETE CASCADE, ADD COLUMN slug text, ADD CONSTRAINT slug_is_taken UNIQUE (slug, deleted_at);
CREATE UNIQUE INDEX house_number ON house (lower(slug), area_id);
CREATE TABLE shed (id int PRIMARY KEY, house_id int REFERENCES house ON DELETE CASCADE);
CREATE TABLE fence (id int PRIMARY KEY, house_id int NOT NULL REFERENCES house ON DELETE SET NULL);
CREATE TABLE sign (house_id int REFERENCES house ON DELETE SET NULL);
ALTER TABLE house ADD COLUMN near int, ADD CONSTRAINT near FOREIGN KEY (near) REFERENCES area NOT VALID;
CREATE INDEX ON shed (house_id);
CREATE INDEX ON fence (house_id);
CREATE INDEX ON sign (house_id);
CREATE INDEX ON house (near);
-- Policies, publications, settings, the registry.
CREATE POLICY hide ON area USING (deleted_at IS NULL);
CREATE TABLE hidden (id int PRIMARY KEY);
SELECT keepsake.manage('hidden', '0'), keepsake.hide_deleted('hidden', 'policy');
DROP POLICY keepsake_hide_deleted ON hidden;
CREATE PUBLICATION sick_changes FOR TABLE area WITH (publish = 'insert');
ALTER DATABASE :"here" RESET session_preload_libraries;
CREATE TABLE note (id int PRIMARY KEY, kind text, ref int, key text NOT NULL);
CREATE INDEX ON note (key);
SELECT keepsake.manage('note'), keepsake.declare_reference('note', 'kind', 'ref', 'area', 'area'), keepsake.bind_storage('note', 'key');
SELECT keepsake.override_reference('shed', 'shed_house_id_fkey', 'restrict');
ALTER TABLE shed RENAME CONSTRAINT shed_house_id_fkey TO house;
INSERT INTO keepsake.outbox (object_key, relation, dead_at) VALUES ('gone', 'note', now());
INSERT INTO keepsake.deletion (id, root_table, actor, deleted_at, expires_at, purge_error)
VALUES ('00000000-0000-0000-0000-000000000001', 'area', 'x', now(), now(), 'a trigger said no'),
       ('00000000-0000-0000-0000-000000000002', 'area', 'x', now(), now() - interval '3 days', NULL);
\x
SELECT * FROM doctor;
\x
-- The fixes, until nothing is left but what no SQL mends.
SELECT fix FROM doctor WHERE fix <> '' AND fix NOT LIKE 'CALL%' \gexec
DELETE FROM keepsake.deletion;
SELECT fix FROM doctor WHERE fix <> '' \gexec
SELECT severity, check_name, object, finding FROM doctor;
-- Columns that only the registry knows.
ALTER TABLE note RENAME COLUMN key TO store_key;
ALTER TABLE hidden RENAME COLUMN deleted_at TO removed_at;
SELECT severity, check_name, object, finding FROM doctor;
ALTER TABLE note RENAME COLUMN store_key TO key;
ALTER TABLE hidden RENAME COLUMN removed_at TO deleted_at;
ALTER DATABASE :"here" RESET session_preload_libraries;
DROP PUBLICATION sick_changes;
DROP SCHEMA sick CASCADE;
DELETE FROM keepsake.outbox;
