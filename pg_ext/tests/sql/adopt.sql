-- manage(…, adopt => …): tables that soft-delete already. Each row, or each group of one cascade, becomes a deletion.
CREATE SCHEMA adoption;
SET search_path = adoption;

-- Rails, in place: a time without a time zone, which is refused with the statement that gives it one.
CREATE TABLE rails_post (id bigint PRIMARY KEY, slug text, deleted_at timestamp(6) without time zone);
INSERT INTO rails_post VALUES (1, 'a', '2024-01-01 10:00'), (2, 'a', NULL), (3, 'c', '2024-02-01 10:00');
SELECT keepsake.manage('rails_post');
ALTER TABLE rails_post ALTER deleted_at TYPE timestamptz USING deleted_at AT TIME ZONE 'UTC';
SELECT keepsake.manage('rails_post');
SELECT keepsake.manage('rails_post', '7 days', adopt => 'deleted_at IS NOT NULL');
SELECT t.id, t.deleted_at AT TIME ZONE 'UTC' AS deleted_at, d.deleted_at = t.deleted_at AS same_time, d.root_key, d.actor, d.state,
       round(extract(epoch FROM d.expires_at - now()) / 86400) AS days
FROM rails_post t JOIN keepsake.deletion d ON d.id = t.deletion_id ORDER BY 1;
-- A later retention of the table's does not make them expire sooner.
SELECT keepsake.set_retention('rails_post', '1 day');
SELECT DISTINCT round(extract(epoch FROM d.expires_at - now()) / 86400) AS days FROM rails_post t JOIN keepsake.deletion d ON d.id = t.deletion_id;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM rails_post WHERE id = 3;
SELECT id, deleted_at IS NULL AS live FROM rails_post ORDER BY 1;
-- Nothing is left to adopt.
SELECT keepsake.manage('rails_post', adopt => 'deleted_at IS NOT NULL');
SELECT count(*) FROM keepsake.deletion WHERE root_table = 'rails_post'::regclass;

-- Laravel with who deleted, and children that its cascade deleted at the same time: they join the deletion of their parent.
CREATE TABLE shop (id int PRIMARY KEY, deleted_at timestamptz, deleted_by text);
CREATE TABLE shelf (id int PRIMARY KEY, shop_id int NOT NULL REFERENCES shop ON DELETE CASCADE, above int REFERENCES shelf, deleted_at timestamptz, deleted_by text);
INSERT INTO shop VALUES (1, '2024-03-01', 'ann'), (2, NULL, NULL);
INSERT INTO shelf VALUES (10, 1, NULL, '2024-03-01', 'ann'), (11, 1, 10, '2024-03-01', 'ann'), (12, 1, NULL, '2024-01-05', 'bob'),
    (20, 2, NULL, '2024-03-01', 'ann'), (21, 2, 20, '2024-03-01', 'ann'), (22, 2, 21, '2024-03-01', 'ann'), (23, 2, NULL, NULL, NULL);
SELECT keepsake.manage('shop', adopt => 'deleted_at IS NOT NULL', adopt_actor => 'deleted_by');
SELECT keepsake.manage('shelf', adopt => 'deleted_at IS NOT NULL', adopt_actor => 'deleted_by');
SELECT d.root_table, d.root_key, d.actor, d.deleted_at::date, string_agg(format('%s: %s', t.relation, t.row_count), ', ' ORDER BY t.relation::text) AS rows
FROM keepsake.deletion d JOIN keepsake.deletion_table t ON t.deletion_id = d.id
WHERE d.root_table IN ('shop'::regclass, 'shelf'::regclass) GROUP BY d.id ORDER BY d.root_table::text, d.root_key::text;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM shop WHERE id = 1;
SELECT 'shop' AS of, id, deleted_at IS NULL AS live FROM shop UNION ALL SELECT 'shelf', id, deleted_at IS NULL FROM shelf ORDER BY 1, 2;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM shelf WHERE id = 20;
SELECT id FROM shelf WHERE deleted_at IS NOT NULL;

-- A flag: a live row must not have it. The condition says which value that is, or adopt_live does.
CREATE TABLE flagged (id int PRIMARY KEY, is_active boolean NOT NULL DEFAULT true, status text DEFAULT 'open', batch text);
INSERT INTO flagged VALUES (1, false, 'gone', 'x'), (2, true, 'open', NULL), (3, false, 'gone', 'x'), (4, false, 'gone', 'y');
BEGIN;
SELECT keepsake.manage('flagged', adopt => 'NOT is_active');
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM flagged WHERE id = 1;
SELECT id, is_active, deleted_at IS NULL AS live FROM flagged ORDER BY 1;
ROLLBACK;
SELECT keepsake.manage('flagged', adopt => 'status = ''gone''');
SELECT keepsake.manage('flagged', adopt_group => 'batch');
SELECT keepsake.manage('flagged', adopt => 'status = ''gone''', adopt_live => '["open"]');
SELECT keepsake.manage('flagged', adopt => 'status = ''gone''', adopt_live => '{"stat": "open"}');
SELECT keepsake.manage('flagged', adopt => 'status = ''gone'') OR (true', adopt_live => '{"status": "open"}');
\set VERBOSITY terse
SELECT keepsake.manage('flagged', adopt => 'false); DELETE FROM adoption.flagged; SELECT (true', adopt_live => '{"status": "open"}');
\set VERBOSITY default
SELECT count(*) FROM flagged;
-- Rows of one group are one deletion.
SELECT keepsake.manage('flagged', adopt => 'status = ''gone''', adopt_group => 'batch', adopt_live => '{"status": "open", "is_active": true}');
SELECT count(*), array_agg(id ORDER BY id) FROM flagged WHERE deletion_id IS NOT NULL GROUP BY deletion_id ORDER BY 2;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM flagged WHERE id = 1;
SELECT id, is_active, status, deleted_at IS NULL AS live FROM flagged ORDER BY 1;

-- Names in quotes.
CREATE TABLE camel (id int PRIMARY KEY, "deletedAt" timestamptz, "isActive" boolean DEFAULT true, "a""b" boolean);
INSERT INTO camel VALUES (1, '2024-01-01', true, false), (2, NULL, false, false), (3, NULL, true, true), (4, NULL, true, false);
SELECT keepsake.manage('camel', adopt => ' "deletedAt"  is not NULL', adopt_time => '"deletedAt"');
SELECT keepsake.manage('camel', adopt => 'not "isActive"');
SELECT keepsake.manage('camel', adopt => '"a""b"');
SELECT keepsake.manage('camel', adopt => '"a""b"', adopt_live => '{"a\"b": false}');
SELECT id, "deletedAt" IS NULL AND "isActive" AND NOT "a""b" AS as_live, deleted_at IS NULL AS live FROM camel ORDER BY 1;

-- Marks that are of no deletion are not passed over in silence: of a table that was copied, or of another database.
CREATE TABLE copied (id int PRIMARY KEY, deleted_at timestamptz, deletion_id uuid);
INSERT INTO copied VALUES (1, '2024-05-01', '00000000-0000-4000-8000-000000000001'), (2, '2024-05-01', '00000000-0000-4000-8000-000000000001'), (3, NULL, NULL);
SELECT keepsake.manage('copied');
SELECT keepsake.manage('copied', adopt => 'deleted_at IS NOT NULL');
SELECT count(DISTINCT c.deletion_id), count(d.id) FROM copied c LEFT JOIN keepsake.deletion d ON d.id = c.deletion_id;
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM copied WHERE id = 1;
SELECT count(*) FROM copied WHERE deleted_at IS NULL;

-- Live rows under deleted ones are not passed over either.
CREATE TABLE folder (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE paper (id int PRIMARY KEY, folder_id int REFERENCES folder, deleted_at timestamptz);
INSERT INTO folder VALUES (1, '2024-01-01');
INSERT INTO paper VALUES (1, 1, NULL), (2, 1, '2024-01-01');
CREATE TABLE leaf (id int PRIMARY KEY, folder_id int REFERENCES folder ON DELETE CASCADE, is_deleted boolean);
INSERT INTO leaf VALUES (1, NULL, false), (2, 1, true);
SELECT keepsake.manage('folder', adopt => 'deleted_at IS NOT NULL');
SELECT keepsake.manage('paper', adopt => 'deleted_at IS NOT NULL');
UPDATE paper SET folder_id = NULL WHERE id = 1;
SELECT keepsake.manage('paper', adopt => 'deleted_at IS NOT NULL');
SELECT count(DISTINCT deletion_id) FROM (SELECT deletion_id FROM paper UNION ALL SELECT deletion_id FROM folder) AS both_tables;
-- A flag of a child, under a parent that is deleted already.
SELECT keepsake.manage('leaf');
SELECT keepsake.manage('leaf', adopt => 'is_deleted', adopt_time => '''2024-01-01''::timestamptz');
SELECT count(DISTINCT deletion_id) FROM (SELECT deletion_id FROM leaf WHERE id = 2 UNION ALL SELECT deletion_id FROM folder) AS both_tables;

-- With an archive: children first. A row that comes back is as it was when it was live.
CREATE TABLE forum (id int PRIMARY KEY, name text, deleted_at timestamp, deleted_by text);
CREATE TABLE topic (id int PRIMARY KEY, forum_id int NOT NULL REFERENCES forum ON DELETE CASCADE, is_deleted boolean NOT NULL DEFAULT false, deleted_at timestamp);
CREATE TABLE mark (id int PRIMARY KEY, topic_id int REFERENCES topic ON DELETE SET NULL);
INSERT INTO forum VALUES (1, 'one', '2024-03-01', 'ann'), (2, 'two', NULL, NULL);
INSERT INTO topic VALUES (10, 1, true, '2024-03-01'), (11, 1, true, '2024-01-01'), (20, 2, true, '2024-02-01'), (21, 2, false, NULL);
INSERT INTO mark VALUES (1, 20), (2, 21);
SELECT keepsake.manage('mark', keep => 'archive'), keepsake.manage('topic', keep => 'archive');
SELECT keepsake.manage('forum', keep => 'archive', adopt => 'deleted_at IS NOT NULL', adopt_actor => 'deleted_by');
SELECT keepsake.manage('topic', keep => 'archive', adopt => 'is_deleted', adopt_live => '{"is_deleted": false, "deleted_at": null}');
-- Nor may a live row be changed because what it refers to is adopted.
SELECT * FROM mark ORDER BY 1;
UPDATE mark SET topic_id = NULL WHERE id = 1;
SELECT keepsake.manage('topic', keep => 'archive', adopt => 'is_deleted', adopt_live => '{"is_deleted": false, "deleted_at": null}');
SELECT keepsake.manage('forum', keep => 'archive', adopt => 'deleted_at IS NOT NULL', adopt_actor => 'deleted_by');
SELECT * FROM forum; SELECT * FROM topic; SELECT * FROM mark ORDER BY 1;
SELECT d.root_table, d.root_key, d.actor, d.deleted_at AT TIME ZONE 'UTC' AS deleted_at, round(extract(epoch FROM d.expires_at - now()) / 86400) AS days,
       (SELECT string_agg(format('%s: %s', t.relation, t.row_count), ', ') FROM keepsake.deletion_table t WHERE t.deletion_id = d.id) AS rows
FROM keepsake.deletion d WHERE d.root_table IN ('forum'::regclass, 'topic'::regclass) ORDER BY 1, 2;
-- The forum with the topic that was deleted at the same time; not the one that was deleted before.
SELECT keepsake.restore(id) -> 'restored' AS restored FROM keepsake.deletion WHERE root_table = 'forum'::regclass;
SELECT * FROM forum ORDER BY 1; SELECT * FROM topic ORDER BY 1;
SELECT keepsake.restore(id) -> 'restored' AS restored FROM keepsake.deletion WHERE root_table = 'topic'::regclass AND root_key = '{"id": 20}';
SELECT * FROM topic ORDER BY 1; SELECT * FROM mark ORDER BY 1;

-- A rule or trigger that soft-deletes would keep the rows.
CREATE TABLE ruled (id int PRIMARY KEY, deleted_at timestamptz);
CREATE RULE soft AS ON DELETE TO ruled DO INSTEAD UPDATE ruled SET deleted_at = now() WHERE id = OLD.id;
INSERT INTO ruled VALUES (1, '2024-01-01');
SELECT keepsake.manage('ruled', keep => 'archive', adopt => 'deleted_at IS NOT NULL');

-- Partitions, a tree in an archive, a table without a primary key, times that are no times.
CREATE TABLE parted (id int, area text, above int, area_above text, gone timestamptz, PRIMARY KEY (id, area), FOREIGN KEY (above, area_above) REFERENCES parted) PARTITION BY LIST (area);
CREATE TABLE parted_n PARTITION OF parted FOR VALUES IN ('n');
CREATE TABLE parted_s PARTITION OF parted FOR VALUES IN ('s');
INSERT INTO parted VALUES (1, 'n', NULL, NULL, '2024-01-01'), (2, 's', 1, 'n', '2024-01-01'), (3, 's', 2, 's', '2024-01-01'), (4, 's', NULL, NULL, NULL), (5, 'n', NULL, NULL, 'infinity');
BEGIN;
SELECT keepsake.manage('parted', adopt => 'gone IS NOT NULL', adopt_time => 'gone');
SELECT array_agg(id ORDER BY id) AS ids, bool_and(deleted_at <= now()) AS past FROM parted WHERE deleted_at IS NOT NULL GROUP BY deletion_id ORDER BY 1;
ROLLBACK;
SELECT keepsake.manage('parted', keep => 'archive', adopt => 'gone IS NOT NULL', adopt_time => 'gone');
SELECT count(*), array_agg(DISTINCT keepsake_deletion IS NOT NULL) FROM adoption_deleted.parted;
SELECT id FROM parted ORDER BY 1;
SELECT keepsake.restore(keepsake_deletion) -> 'restored' AS restored FROM adoption_deleted.parted WHERE id = 1;
SELECT * FROM parted ORDER BY 1;
CREATE TABLE keyless (note text, gone boolean);
INSERT INTO keyless VALUES ('a', true), ('b', NULL);
SELECT keepsake.manage('keyless', keep => 'archive', adopt => 'gone');
SELECT * FROM keyless;
SELECT keepsake.restore(keepsake_deletion) -> 'restored' AS restored FROM adoption_deleted.keyless;
SELECT * FROM keyless ORDER BY 1;

-- A group has a deletion for each tenant: a hold on one holds its rows.
CREATE TABLE leased (id int PRIMARY KEY, tenant text, batch text, gone boolean);
INSERT INTO leased VALUES (1, 'a', 'lease', true), (2, 'b', 'lease', true), (3, 'a', 'lease', true), (4, NULL, 'lease', true), (5, 'b', 'lease', true);
CREATE TABLE leased_kept (LIKE leased INCLUDING ALL);
INSERT INTO leased_kept SELECT * FROM leased;
SELECT keepsake.manage('leased', adopt => 'gone', adopt_tenant => 'tenant', adopt_group => 'batch');
SELECT keepsake.manage('leased_kept', keep => 'archive', adopt => 'gone', adopt_tenant => 'tenant', adopt_group => 'batch');
SELECT d.tenant, array_agg(t.id ORDER BY t.id) AS ids FROM leased t JOIN keepsake.deletion d ON d.id = t.deletion_id GROUP BY d.id ORDER BY 1;
SELECT d.tenant, array_agg(t.id ORDER BY t.id) AS ids FROM adoption_deleted.leased_kept t JOIN keepsake.deletion d ON d.id = t.keepsake_deletion GROUP BY d.id ORDER BY 1;
-- So has a tree, and what would join the deletion of another tenant's row does not.
CREATE TABLE lessor (id int PRIMARY KEY, above int REFERENCES lessor, tenant text, deleted_at timestamptz);
CREATE TABLE lessee (id int PRIMARY KEY, lessor_id int REFERENCES lessor, tenant text, deleted_at timestamptz);
INSERT INTO lessor VALUES (1, NULL, 'a', '2024-01-01'), (2, 1, 'a', '2024-01-01'), (3, 2, 'b', '2024-01-01');
INSERT INTO lessee VALUES (1, 1, 'b', '2024-01-01'), (2, 1, 'a', '2024-01-01');
SELECT keepsake.manage('lessor', adopt => 'deleted_at IS NOT NULL', adopt_tenant => 'tenant');
SELECT d.tenant, array_agg(t.id ORDER BY t.id) AS ids FROM lessor t JOIN keepsake.deletion d ON d.id = t.deletion_id GROUP BY d.id ORDER BY 1;
SELECT keepsake.manage('lessee', adopt => 'deleted_at IS NOT NULL', adopt_tenant => 'tenant');
SELECT keepsake.manage('lessee', adopt => 'deleted_at IS NOT NULL', adopt_tenant => 'tenant', adopt_group => 'id::text');
SELECT d.tenant, array_agg(t.id ORDER BY t.id) AS ids FROM lessee t JOIN keepsake.deletion d ON d.id = t.deletion_id GROUP BY d.id ORDER BY 1;

-- Expressions may end with a comment.
CREATE TABLE remarked (id int PRIMARY KEY, who text, gone timestamptz);
INSERT INTO remarked VALUES (1, 'ann', '2024-01-01');
SELECT keepsake.manage('remarked', adopt => 'gone IS NOT NULL -- c', adopt_live => '{"gone": null}', adopt_time => 'gone -- c', adopt_actor => 'who -- c',
    adopt_tenant => 'who -- c', adopt_group => 'who -- c');
SELECT d.actor, d.tenant FROM remarked t JOIN keepsake.deletion d ON d.id = t.deletion_id;

-- Only the owner, and his condition runs as him.
CREATE ROLE adoption_owner; CREATE ROLE adoption_other;
GRANT CREATE, USAGE ON SCHEMA adoption TO adoption_owner;
SET ROLE adoption_owner;
CREATE TABLE theirs (id int PRIMARY KEY, deleted_at timestamptz);
INSERT INTO theirs VALUES (1, now());
CREATE FUNCTION who() RETURNS boolean LANGUAGE sql AS 'SELECT current_user = ''adoption_owner''';
RESET ROLE;
SELECT keepsake.manage('theirs', adopt => 'deleted_at IS NOT NULL AND who()');
SELECT count(deletion_id) FROM theirs;
GRANT USAGE ON SCHEMA adoption TO adoption_other;
SET ROLE adoption_other;
SELECT keepsake.manage('adoption.theirs', adopt => 'deleted_at IS NOT NULL');
RESET ROLE;

-- Nothing of this is left.
DROP OWNED BY adoption_owner, adoption_other; DROP ROLE adoption_owner, adoption_other;
