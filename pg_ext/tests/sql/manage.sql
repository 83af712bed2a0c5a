-- What manage() takes on, and what it refuses with the way to mend it.
BEGIN;
CREATE TABLE owner_of (id int PRIMARY KEY);
CREATE TABLE owned (id int PRIMARY KEY, owner_id int REFERENCES owner_of ON DELETE CASCADE);
SAVEPOINT s;
SELECT keepsake.manage('owned');
ROLLBACK TO s;
CREATE TABLE keyless (a int);
SELECT keepsake.manage('keyless');
ROLLBACK TO s;
CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
SELECT keepsake.manage('parted');
ROLLBACK TO s;
CREATE TEMP TABLE passing (id int PRIMARY KEY);
SELECT keepsake.manage('passing');
ROLLBACK TO s;
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE afar (id int) SERVER elsewhere;
SELECT keepsake.manage('afar');
ROLLBACK TO s;
CREATE TABLE old_style (id int PRIMARY KEY, deleted_at date);
SELECT keepsake.manage('old_style');
ROLLBACK TO s;
SELECT keepsake.manage('pg_class');
ROLLBACK TO s;
CREATE VIEW seen AS SELECT * FROM owned;
SELECT keepsake.manage('seen');
ROLLBACK TO s;
SELECT keepsake.manage('keepsake.deletion');
ROLLBACK TO s;
SELECT keepsake.manage('owner_of', '-1 day');
ROLLBACK TO s;

-- Names that need quoting, and a schema of their own.
CREATE SCHEMA "my ""shop""";
CREATE TABLE "my ""shop"""."Order; DROP" ("Key's" int, "select" text, "from" text, PRIMARY KEY ("Key's", "select"));
CREATE TABLE "my ""shop"""."Line" (id int PRIMARY KEY, "k'" int, s text, FOREIGN KEY ("k'", s) REFERENCES "my ""shop"""."Order; DROP" ON DELETE CASCADE);
SELECT keepsake.manage('"my ""shop"""."Order; DROP"', '7 days'), keepsake.manage('"my ""shop"""."Line"');
CREATE UNIQUE INDEX ON "my ""shop"""."Order; DROP" ("from") WHERE deleted_at IS NULL;
INSERT INTO "my ""shop"""."Order; DROP" VALUES (1, '''x\', 'v');
INSERT INTO "my ""shop"""."Line" VALUES (1, 1, '''x\');
SELECT keepsake.soft_delete('"my ""shop"""."Order; DROP"', '{"Key''s": 1, "select": "''x\\"}'::jsonb) AS d \gset
SELECT count(deleted_at) FROM "my ""shop"""."Line";
INSERT INTO "my ""shop"""."Order; DROP" VALUES (2, 'y', 'v');
SELECT * FROM keepsake.restore_conflicts(:'d');
SELECT keepsake.purge_deletion(:'d') AS purged;
SELECT relation, retention FROM keepsake.managed_table WHERE retention <> interval '30 days';

-- A second manage() mends and keeps the retention; unmanage() undoes it, but not over deleted rows.
SELECT keepsake.manage('"my ""shop"""."Order; DROP"');
SELECT relation, retention FROM keepsake.managed_table WHERE retention <> interval '30 days';
SELECT keepsake.set_retention('"my ""shop"""."Order; DROP"', '1 hour');
SELECT relation, retention FROM keepsake.managed_table WHERE retention <> interval '30 days';
SAVEPOINT t;
SELECT keepsake.soft_delete('"my ""shop"""."Order; DROP"', '{"Key''s": 2, "select": "y"}'::jsonb) IS NOT NULL AS done;
SELECT keepsake.unmanage('"my ""shop"""."Order; DROP"');
ROLLBACK TO t;
SELECT keepsake.unmanage('"my ""shop"""."Line"'), keepsake.unmanage('"my ""shop"""."Order; DROP"');
SELECT attname FROM pg_attribute WHERE attrelid = '"my ""shop"""."Line"'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY 1;
SELECT count(*) AS triggers_left FROM pg_trigger WHERE tgrelid = '"my ""shop"""."Line"'::regclass AND NOT tgisinternal;
DELETE FROM "my ""shop"""."Order; DROP";
SELECT keepsake.unmanage('"my ""shop"""."Line"') AS again;
ROLLBACK;

-- A dropped table leaves the registry.
BEGIN;
CREATE TABLE brief (id int PRIMARY KEY);
SELECT keepsake.manage('brief');
DROP TABLE brief;
SELECT count(*) FROM keepsake.managed_table WHERE relation::text LIKE '%brief%';
ROLLBACK;
