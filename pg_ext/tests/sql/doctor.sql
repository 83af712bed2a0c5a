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
INSERT INTO keepsake.deletion (id, group_id, root_table, actor, deleted_at, expires_at, purge_error)
VALUES ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000001', 'area', 'x', now(), now(), 'a trigger said no'),
       ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000002', 'area', 'x', now(), now() - interval '3 days', NULL);
\x
SELECT * FROM doctor;
\x
-- The fixes, until nothing is left but what no SQL mends.
SELECT fix FROM doctor WHERE fix <> '' AND fix NOT LIKE 'CALL%' \gexec
DELETE FROM keepsake.deletion;
SELECT fix FROM doctor WHERE fix <> '' \gexec
SELECT severity, check_name, object, finding FROM doctor;
-- Marks with rules of their own, owners apart, triggers of partitions, space, a view that was left behind, an old hold.
CREATE ROLE regress_sick_owner;
CREATE ROLE regress_sick_other;
GRANT USAGE ON SCHEMA sick TO regress_sick_owner, regress_sick_other;
CREATE TABLE odd (id int PRIMARY KEY, n int);
ALTER TABLE odd OWNER TO regress_sick_owner;
CREATE TABLE theirs (id int PRIMARY KEY, odd_id int REFERENCES odd);
CREATE INDEX ON theirs (odd_id);
ALTER TABLE theirs OWNER TO regress_sick_other;
CREATE TABLE log (id int, at int, area_id int REFERENCES area, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE INDEX ON log (area_id);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (10);
CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM (10) TO (20);
CREATE TABLE log_3 PARTITION OF log FOR VALUES FROM (20) TO (30);
CREATE TABLE busy (id int PRIMARY KEY, n int) WITH (fillfactor = 70, autovacuum_enabled = off);
CREATE INDEX busy_n ON busy (n);
CREATE TABLE shown (id int PRIMARY KEY);
SELECT keepsake.manage('odd'), keepsake.manage('log'), keepsake.manage('busy'), keepsake.manage('shown'), keepsake.hide_deleted('shown', 'view');
SELECT * FROM doctor;
INSERT INTO odd VALUES (1);
ALTER TABLE odd ALTER COLUMN deletion_id SET DEFAULT gen_random_uuid(), ADD CONSTRAINT quiet CHECK (n IS NULL OR deleted_at IS NULL),
    ADD COLUMN is_live boolean GENERATED ALWAYS AS (deleted_at IS NULL) STORED, ENABLE ROW LEVEL SECURITY;
ALTER TABLE shown ALTER COLUMN deleted_at SET NOT NULL, ADD COLUMN title text;
DROP TRIGGER keepsake_finish_statement ON log_1;
DROP TRIGGER keepsake_begin_statement ON log_2;
DROP TRIGGER keepsake_guard_moved ON log_2;
DROP TRIGGER keepsake_guard_insert ON log_3;
INSERT INTO busy SELECT n, n FROM generate_series(1, 1000) n;
UPDATE busy SET n = -n;
DELETE FROM busy WHERE id > 100;
ANALYZE busy;
SELECT pg_stat_force_next_flush();
SELECT keepsake.hold('busy', 1, 'the case of the year before last') IS NOT NULL AS held;
UPDATE keepsake.hold SET held_at = held_at - interval '2 years', actor = 'ada';
CREATE VIEW told AS
    SELECT severity, check_name, regexp_replace(object, '^[0-9]+$', 'a dropped table') AS object,
           regexp_replace(finding, '[0-9]{4}-[0-9]{2}-[0-9]{2}', 'then') AS finding,
           regexp_replace(fix, '(release.|root_table = .)[0-9]+', '\1…', 'g') AS fix
    FROM doctor;
\x
SELECT * FROM told;
\x
\set ECHO none
SELECT fix FROM doctor WHERE fix <> '' \gexec
\set ECHO all
SELECT * FROM told;
-- Partitions and tables that are gone, with what the registry says of their rows.
INSERT INTO log VALUES (1, 1), (2, 11), (3, 21), (4, 22);
CREATE TABLE lost (id int PRIMARY KEY);
SELECT keepsake.manage('lost');
INSERT INTO lost VALUES (1);
DELETE FROM keepsake.deletion;
DELETE FROM log WHERE id = 1;
DELETE FROM log WHERE id = 2;
DELETE FROM log WHERE id = 3;
DELETE FROM lost;
SELECT keepsake.hold('log', '{"id": 3, "at": 21}'::jsonb, 'it stays') IS NOT NULL AS held;
ALTER TABLE log DETACH PARTITION log_1;
DROP TABLE log_2, lost;
UPDATE keepsake.deletion SET expires_at = now() - interval '2 days';
SELECT keepsake.purge_batch() -> 'rows' AS purged;
\x
SELECT * FROM told;
\x
\set ECHO none
SELECT fix FROM doctor WHERE fix <> '' \gexec
\set ECHO all
-- What is held is not settled.
SELECT check_name, finding FROM told;
SELECT root_table::text ~ '^[0-9]+$' AS dropped, state, count(*) FROM keepsake.deletion GROUP BY 1, 2 ORDER BY 1, 2;
DELETE FROM keepsake.deletion;
DELETE FROM keepsake.hold;
-- Triggers of a table that is bound, of its key, and of its declared reference.
DROP TRIGGER keepsake_enqueue_objects ON note;
DROP TRIGGER keepsake_claim_objects ON note;
DROP TRIGGER keepsake_keep_object_key ON note;
DROP TRIGGER keepsake_exchange_object ON note;
DROP TRIGGER keepsake_keep_row_key ON note;
DROP TRIGGER keepsake_guard_update ON note;
SELECT check_name, object, finding, fix FROM doctor WHERE severity = 'error';
SELECT DISTINCT fix FROM doctor WHERE severity = 'error' \gexec
SELECT check_name, object, finding, fix FROM doctor WHERE severity = 'error';
-- One of the right name that calls another function is not it.
CREATE OR REPLACE TRIGGER keepsake_claim_objects AFTER INSERT ON note REFERENCING NEW TABLE AS keepsake_new FOR EACH STATEMENT EXECUTE FUNCTION keepsake.guard_insert();
SELECT check_name, object, finding, fix FROM doctor WHERE severity = 'error';
SELECT fix FROM doctor WHERE severity = 'error' \gexec
-- Columns that only the registry knows.
ALTER TABLE note RENAME COLUMN key TO store_key;
ALTER TABLE hidden RENAME COLUMN deleted_at TO removed_at;
SELECT severity, check_name, object, finding FROM doctor;
ALTER TABLE note RENAME COLUMN store_key TO key;
ALTER TABLE hidden RENAME COLUMN removed_at TO deleted_at;
ALTER TABLE note DROP COLUMN key CASCADE;
ALTER TABLE note ADD COLUMN key int;
SELECT severity, check_name, object, finding FROM doctor WHERE severity = 'error';
-- A column whose name Keepsake's queries use, that came while nobody looked.
ALTER EVENT TRIGGER keepsake_follow_ddl DISABLE; ALTER TABLE note ADD COLUMN keepsake_seq int; ALTER EVENT TRIGGER keepsake_follow_ddl ENABLE;
SELECT severity, check_name, object, finding, fix FROM doctor WHERE check_name = 'column_reserved';
SELECT fix FROM doctor WHERE check_name = 'column_reserved' \gexec
SELECT check_name FROM doctor WHERE check_name = 'column_reserved';
-- Deletions for a subscriber that may take over.
CREATE PUBLICATION sick_deletions FOR TABLE keepsake.deletion, keepsake.hold;
SELECT severity, check_name, object, finding, fix FROM doctor WHERE object = 'sick_deletions';
SELECT fix FROM doctor WHERE object = 'sick_deletions' \gexec
SELECT check_name FROM doctor WHERE object = 'sick_deletions';
DROP PUBLICATION sick_deletions;
-- The registry from a publisher: as text, in which tables have names.
CREATE SUBSCRIPTION sick_copy CONNECTION 'dbname=none' PUBLICATION p WITH (connect = false, binary = true);
SELECT check_name FROM doctor WHERE object = 'sick_copy';
BEGIN;
SET LOCAL allow_system_table_mods = on;
INSERT INTO pg_subscription_rel SELECT oid, 'keepsake.deletion'::regclass, 'r', NULL FROM pg_subscription WHERE subname = 'sick_copy';
COMMIT;
SELECT severity, check_name, object, finding, fix FROM doctor WHERE object = 'sick_copy';
SELECT fix FROM doctor WHERE object = 'sick_copy' \gexec
SELECT check_name FROM doctor WHERE object = 'sick_copy';
ALTER SUBSCRIPTION sick_copy SET (slot_name = NONE);
DROP SUBSCRIPTION sick_copy;
ALTER DATABASE :"here" RESET session_preload_libraries;
DROP PUBLICATION sick_changes;
DROP SCHEMA sick CASCADE;
DELETE FROM keepsake.outbox;
DROP ROLE regress_sick_owner, regress_sick_other;
