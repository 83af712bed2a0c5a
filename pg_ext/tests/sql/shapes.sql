-- Every shape of reference: partitions, composite keys, cycles, other types, other schemas, odd names.
SET client_min_messages = warning;
CREATE SCHEMA shapes;
CREATE SCHEMA "Other ""Schema""";
SET search_path = shapes;

-- Partitioned parent and child, two levels deep.
CREATE TABLE account (id int, region text, name text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE account_eu PARTITION OF account FOR VALUES IN ('eu');
CREATE TABLE account_us PARTITION OF account FOR VALUES IN ('us') PARTITION BY RANGE (id);
CREATE TABLE account_us_1 PARTITION OF account_us FOR VALUES FROM (0) TO (100);
CREATE TABLE entry (id int, day date, region text, account_id int,
                    PRIMARY KEY (id, day), FOREIGN KEY (region, account_id) REFERENCES account ON DELETE CASCADE) PARTITION BY RANGE (day);
CREATE TABLE entry_1 PARTITION OF entry FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE entry_2 (day date NOT NULL, id int NOT NULL, account_id int, region text);
ALTER TABLE entry ATTACH PARTITION entry_2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE note (id int PRIMARY KEY, region text, account_id int,
                   FOREIGN KEY (region, account_id) REFERENCES account ON DELETE SET NULL (account_id));
CREATE INDEX ON entry (region, account_id);
SELECT keepsake.manage('account_eu');
SELECT keepsake.manage('account'), keepsake.manage('entry');
INSERT INTO account VALUES (1, 'eu'), (1, 'us'), (2, 'us');
INSERT INTO entry VALUES (1, '2026-01-05', 'eu', 1), (1, '2026-02-05', 'eu', 1), (2, '2026-02-06', 'us', 1);
INSERT INTO note VALUES (1, 'eu', 1), (2, 'us', 1);
CREATE VIEW live AS SELECT
    (SELECT string_agg(region || id, ' ' ORDER BY region, id) FROM account WHERE deleted_at IS NULL) AS accounts,
    (SELECT string_agg(id || '/' || day, ' ' ORDER BY day, id) FROM entry WHERE deleted_at IS NULL) AS entries,
    (SELECT string_agg(region || coalesce(account_id::text, '-'), ' ' ORDER BY id) FROM note) AS notes;
BEGIN;
SELECT keepsake.soft_delete('account', '{"region": "eu", "id": 1}'::jsonb) AS deletion \gset
SELECT * FROM live;
SAVEPOINT s;
INSERT INTO entry VALUES (9, '2026-01-09', 'eu', 1);
ROLLBACK TO s;
-- Straight into a partition, and by a move from another.
INSERT INTO entry_2 (id, day, region, account_id) VALUES (9, '2026-02-09', 'eu', 1);
ROLLBACK TO s;
UPDATE entry SET day = '2026-01-20', region = 'eu' WHERE id = 2;
ROLLBACK TO s;
UPDATE entry SET day = '2026-01-20' WHERE id = 2 RETURNING tableoid::regclass, id, deleted_at;
SELECT keepsake.restore(:'deletion') - 'deletion_id' AS restored;
SELECT * FROM live;
DELETE FROM account WHERE id = 1 RETURNING region;
SELECT * FROM live;
ROLLBACK;
-- A delete that names the partition; purge; the outbox of a partitioned table.
BEGIN;
DELETE FROM entry_2 WHERE id = 1 RETURNING day;
DELETE FROM account_us WHERE id = 1;
SELECT * FROM live;
SELECT (keepsake.purge_batch(as_of => now() + interval '1 year')) -> 'tables' AS purged;
SELECT tableoid::regclass, id FROM account UNION ALL SELECT tableoid::regclass, id FROM entry ORDER BY 1, 2;
ROLLBACK;
-- Partitions made and attached later are guarded as well.
CREATE TABLE entry_3 PARTITION OF entry FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
BEGIN;
DELETE FROM account WHERE region = 'eu';
SAVEPOINT s;
INSERT INTO entry_3 (id, day, region, account_id) VALUES (9, '2026-03-09', 'eu', 1);
ROLLBACK TO s;
UPDATE entry_2 SET deleted_at = now() WHERE id = 2;
SELECT * FROM live;
SAVEPOINT s;
TRUNCATE entry_3;
ROLLBACK;
-- A partition that is detached keeps its foreign key, and is guarded as a table of its own.
BEGIN;
INSERT INTO entry_3 (id, day, region, account_id) VALUES (9, '2026-03-09', 'us', 1);
ALTER TABLE entry DETACH PARTITION entry_3;
DELETE FROM account WHERE region = 'eu';
SAVEPOINT s;
UPDATE entry_3 SET region = 'eu' WHERE id = 9;
ROLLBACK TO s;
INSERT INTO entry_3 (id, day, region, account_id) VALUES (10, '2026-03-10', 'eu', 1);
ROLLBACK TO s;
-- To be attached it gives up its own guard, and has that of the partitioned table.
DROP TRIGGER keepsake_guard_update ON entry_3;
ALTER TABLE entry ATTACH PARTITION entry_3 FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
UPDATE entry_3 SET region = 'eu' WHERE id = 9;
ROLLBACK;
-- A foreign key of one partition alone could not be followed.
CREATE TABLE only_eu (id int PRIMARY KEY, region text, account_id int, FOREIGN KEY (region, account_id) REFERENCES account_eu);
-- What a session does first, before it has loaded the library: a move is no deletion.
\c
SET search_path = shapes;
SET client_min_messages = warning;
BEGIN;
UPDATE entry SET day = '2026-01-20' WHERE id = 2;
SELECT tableoid::regclass, id, deleted_at FROM entry ORDER BY 1, 2;
ROLLBACK;
DROP VIEW live;
DROP TABLE note, entry, account;

-- A cycle of two tables, whose keys are checked at the commit, and a reference to itself.
CREATE TABLE team (id int PRIMARY KEY, leader_id int);
CREATE TABLE person (id int PRIMARY KEY, team_id int REFERENCES team ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
                     mentor_id int REFERENCES person ON DELETE CASCADE);
ALTER TABLE team ADD FOREIGN KEY (leader_id) REFERENCES person ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;
SELECT keepsake.manage('team'), keepsake.manage('person');
BEGIN;
INSERT INTO team VALUES (1, 11), (2, 21), (3, NULL);
INSERT INTO person VALUES (11, 1, NULL), (12, 1, 11), (21, 2, 12), (22, 2, 21), (31, 3, 22), (32, 3, NULL);
COMMIT;
BEGIN;
DELETE FROM person WHERE id = 11;
SELECT 'team' AS tbl, string_agg(id::text, ' ' ORDER BY id) FROM team WHERE deleted_at IS NULL
UNION ALL SELECT 'person', string_agg(id::text, ' ' ORDER BY id) FROM person WHERE deleted_at IS NULL;
SELECT keepsake.restore(id) - 'deletion_id' AS restored FROM keepsake.deletion WHERE deleted_at = now();
DELETE FROM person WHERE id = 11;
SELECT (keepsake.purge_batch(as_of => now() + interval '1 year')) -> 'tables' AS purged;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT (SELECT string_agg(id::text, ' ' ORDER BY id) FROM team) AS teams, (SELECT string_agg(id::text, ' ' ORDER BY id) FROM person) AS persons;
ROLLBACK;
DROP TABLE team, person;

-- Keys of several columns and types; a foreign key of another type than its key; names that need quotes.
CREATE DOMAIN code AS text COLLATE "C" CHECK (value <> '');
CREATE TYPE colour AS ENUM ('red', 'green');
CREATE TABLE "Other ""Schema"""."select" ("from" code, "Where" colour, stamp float8, span interval, PRIMARY KEY ("from", "Where", stamp, span));
CREATE TABLE "Other ""Schema"""."order by" ("group" uuid PRIMARY KEY DEFAULT gen_random_uuid(), "from" varchar, "Where" colour, stamp float4, span interval,
    CONSTRAINT "it's a ""key""" FOREIGN KEY ("from", "Where", stamp, span) REFERENCES "Other ""Schema"""."select" ON DELETE CASCADE);
SELECT keepsake.manage('"Other ""Schema"""."select"'), keepsake.manage('"Other ""Schema"""."order by"');
INSERT INTO "Other ""Schema"""."select" VALUES ('Abc', 'red', 0.5, '1 mon 2 days'), ('abd', 'red', 0.1, '30 days');
INSERT INTO "Other ""Schema"""."order by" VALUES ('00000000-0000-0000-0000-000000000001', 'Abc', 'red', 0.5, '1 mon 2 days');
BEGIN;
DELETE FROM "Other ""Schema"""."select" WHERE "from" = 'Abc';
SELECT root_table, root_key FROM keepsake.deletion WHERE deleted_at = now();
SELECT "group", deleted_at IS NULL AS live FROM "Other ""Schema"""."order by";
SET LOCAL intervalstyle = sql_standard;
SET LOCAL extra_float_digits = -5;
SELECT keepsake.restore(id) - 'deletion_id' AS restored FROM keepsake.deletion WHERE deleted_at = now();
ROLLBACK;
DROP SCHEMA "Other ""Schema""" CASCADE;

-- SET NULL and SET DEFAULT are done at once, and undone.
CREATE TABLE shelf (id int PRIMARY KEY);
CREATE TABLE box (id int PRIMARY KEY, shelf_id int REFERENCES shelf ON DELETE SET NULL, home_id int DEFAULT 0 REFERENCES shelf ON DELETE SET DEFAULT);
CREATE TABLE label (shelf_id int REFERENCES shelf ON DELETE SET NULL, text text);
SELECT keepsake.manage('shelf'), keepsake.manage('box');
INSERT INTO shelf SELECT generate_series(0, 3);
INSERT INTO box VALUES (1, 1, 1), (2, 1, 2), (3, 2, 1), (4, 1, 3);
CREATE VIEW boxes AS SELECT string_agg(format('%s:%s/%s%s', id, shelf_id, home_id, CASE WHEN deleted_at IS NOT NULL THEN '(deleted)' END), ' ' ORDER BY id) AS boxes FROM box;
BEGIN;
DELETE FROM box WHERE id = 4;
DELETE FROM shelf WHERE id = 1;
SELECT * FROM boxes;
-- Given another value since: that stays.
UPDATE box SET shelf_id = 3 WHERE id = 2;
SELECT keepsake.restore(id) - 'deletion_id' AS restored FROM keepsake.deletion WHERE deleted_at = now() AND root_table = 'shelf'::regclass;
SELECT * FROM boxes;
ROLLBACK;
-- The default must be live too.
BEGIN;
DELETE FROM shelf WHERE id = 0;
SAVEPOINT s;
DELETE FROM shelf WHERE id = 1;
ROLLBACK TO s;
-- No row comes to refer to a deleted one this way either.
INSERT INTO box VALUES (9, 0, 1);
ROLLBACK;
-- A row without a key could not be given its value back: it restricts.
INSERT INTO label VALUES (3, 'x');
DELETE FROM shelf WHERE id = 3;
DROP TABLE label;

-- Two keys that share a column: what lets go of it lets go of both. It is put back when both rows are there.
CREATE TABLE floor (region int, id int, PRIMARY KEY (region, id));
CREATE TABLE owner (region int, id int, PRIMARY KEY (region, id));
CREATE TABLE room (id int PRIMARY KEY, region int, floor_id int, owner_id int,
                   FOREIGN KEY (region, floor_id) REFERENCES floor ON DELETE SET NULL,
                   FOREIGN KEY (region, owner_id) REFERENCES owner ON DELETE CASCADE);
SELECT keepsake.manage('floor', '0'), keepsake.manage('owner', '0'), keepsake.manage('room', '0');
CREATE VIEW rooms AS SELECT id, region, floor_id, owner_id, deleted_at IS NOT NULL AS deleted FROM room;
INSERT INTO floor VALUES (1, 1), (1, 2);
INSERT INTO owner VALUES (1, 1), (1, 2);
INSERT INTO room VALUES (1, 1, 1, 1), (2, 1, 1, 2), (3, 1, 1, NULL), (4, 1, 2, 1);
BEGIN;
SELECT keepsake.soft_delete('floor', '{"region": 1, "id": 1}'::jsonb) AS floor \gset
SELECT keepsake.soft_delete('owner', '{"region": 1, "id": 1}'::jsonb) AS owner \gset
SELECT * FROM rooms ORDER BY id;
SAVEPOINT s;
-- Room 1 waits for its owner, who comes back with room 4.
SELECT keepsake.restore(:'floor') - 'deletion_id' AS restored;
SELECT * FROM rooms ORDER BY id;
SELECT keepsake.restore(:'owner') - 'deletion_id' AS restored;
SELECT * FROM rooms ORDER BY id;
SELECT coalesce(sum(cardinality(row_keys)), 0) AS remembered FROM keepsake.detached;
ROLLBACK TO s;
-- The other way around.
SELECT keepsake.restore(:'owner') - 'deletion_id' AS restored;
SELECT keepsake.restore(:'floor') - 'deletion_id' AS restored;
SELECT * FROM rooms ORDER BY id;
ROLLBACK TO s;
-- An owner who is purged does not come back: what was let go of stays so, and the restore is not refused.
SELECT keepsake.purge_deletion(:'owner') IS NOT NULL AS purged;
SELECT keepsake.restore(:'floor') - 'deletion_id' AS restored;
SELECT * FROM rooms ORDER BY id;
ROLLBACK;
DROP TABLE room, floor, owner CASCADE;

-- MATCH FULL, whose columns are NULL all or none; a default that is a step further down the same chain.
CREATE TABLE place (x int, y int, PRIMARY KEY (x, y));
CREATE TABLE pin (id int PRIMARY KEY, x int, y int, FOREIGN KEY (x, y) REFERENCES place MATCH FULL ON DELETE CASCADE);
CREATE TABLE mark (id int PRIMARY KEY, x int, y int, FOREIGN KEY (x, y) REFERENCES place MATCH FULL ON DELETE SET NULL);
CREATE TABLE half (id int PRIMARY KEY, x int, y int, FOREIGN KEY (x, y) REFERENCES place MATCH FULL ON DELETE SET NULL (y));
CREATE TABLE step (id int PRIMARY KEY, above int REFERENCES step ON DELETE CASCADE);
CREATE TABLE foot (id int PRIMARY KEY, step_id int DEFAULT 2 REFERENCES step ON DELETE SET DEFAULT);
CREATE TABLE shoe (id int PRIMARY KEY, foot_id int DEFAULT 0 REFERENCES foot ON DELETE SET DEFAULT);
SELECT keepsake.manage(name) FROM unnest('{place,pin,mark,half,step,foot,shoe}'::regclass[]) AS name;
INSERT INTO place VALUES (1, 1), (2, 2);
INSERT INTO pin VALUES (1, 1, 1), (2, NULL, NULL);
INSERT INTO mark VALUES (1, 1, 1), (2, NULL, NULL);
INSERT INTO half VALUES (1, 2, 2);
BEGIN;
DELETE FROM place WHERE x = 1;
SELECT p.id, p.deleted_at IS NULL AS live, m.x, m.y FROM pin p JOIN mark m USING (id) ORDER BY id;
SELECT keepsake.restore(id) -> 'restored' AS restored FROM keepsake.deletion WHERE deleted_at = now();
SELECT p.id, p.deleted_at IS NULL AS live, m.x, m.y FROM pin p JOIN mark m USING (id) ORDER BY id;
-- As PostgreSQL has it.
DELETE FROM place WHERE x = 2;
ROLLBACK;
INSERT INTO step VALUES (1, NULL), (2, 1), (3, NULL);
INSERT INTO foot VALUES (0, 3), (1, 3), (2, 1);
INSERT INTO shoe VALUES (1, 1), (2, 2);
BEGIN;
DELETE FROM foot WHERE id = 1;
SELECT * FROM shoe ORDER BY id;
SAVEPOINT s;
-- The default goes with what it would stand in for;
DELETE FROM step WHERE id = 1;
ROLLBACK TO s;
-- then by itself.
DELETE FROM step WHERE id = 3;
SELECT id, step_id FROM foot ORDER BY id;
SELECT count(keepsake.restore(id)) AS restored FROM keepsake.deletion WHERE deleted_at = now();
SELECT f.id, f.step_id, s.id AS shoe, s.foot_id FROM foot f LEFT JOIN shoe s ON s.foot_id = f.id ORDER BY f.id, s.id;
ROLLBACK;

-- Another action for a soft delete than the foreign key's own.
SELECT keepsake.override_reference('box', 'box_shelf_id_fkey', 'cascade');
SELECT keepsake.override_reference('box', 'box_home_id_fkey', 'restrict');
BEGIN;
SELECT keepsake.soft_delete('shelf', 1);
ROLLBACK;
SELECT keepsake.override_reference('box', 'box_home_id_fkey', 'set null');
BEGIN;
DELETE FROM shelf WHERE id = 1;
SELECT * FROM boxes;
SELECT (keepsake.purge_batch(as_of => now() + interval '1 year')) -> 'tables' AS purged;
SELECT * FROM boxes;
ROLLBACK;
SELECT keepsake.override_reference('box', 'box_home_id_fkey', NULL), keepsake.override_reference('box', 'box_shelf_id_fkey', NULL);
SELECT keepsake.override_reference('box', 'nonsense', 'cascade');
SELECT keepsake.override_reference('box', 'box_home_id_fkey', 'ignore');

-- What a deletion would do, before it does it.
SELECT * FROM keepsake.plan_delete('shelf', 1);
DROP SCHEMA shapes CASCADE;
