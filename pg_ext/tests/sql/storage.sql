-- Rows that name objects: when a row is purged its key reaches the outbox, never before.
CREATE TABLE file (id int PRIMARY KEY, owner_type text, owner_id text, key text NOT NULL UNIQUE, writable_until timestamptz);
CREATE INDEX ON file (owner_type, owner_id);
SELECT keepsake.bind_storage('file', 'key');
SELECT keepsake.manage('file');
SELECT keepsake.bind_storage('file', 'owner_id');
SELECT keepsake.bind_storage('file', 'nope');
SELECT keepsake.bind_storage('file', 'key', 'id');
SELECT keepsake.bind_storage('file', 'key', 'writable_until');

-- Declared references: enforced, cascaded and restored like foreign keys.
SELECT keepsake.declare_reference('file', 'owner_type', 'id', 'post', 'post');
SELECT keepsake.declare_reference('file', 'owner_type', 'owner_id', 'post', 'post');
SELECT keepsake.declare_reference('file', 'owner_type', 'owner_id', 'member', 'member');

BEGIN;
CALL fill();
INSERT INTO file VALUES (1, 'post', '10', 'k1'), (3, 'elsewhere', 'x', 'k3'),
    (4, 'member', '00000000-0000-0000-0000-000000000001', 'k4');
INSERT INTO file VALUES (2, 'post', '10', 'k2', now() + '1 hour');
SAVEPOINT s;
INSERT INTO file VALUES (5, 'post', '99', 'k5');
ROLLBACK TO s;
INSERT INTO file VALUES (5, 'post', '010', 'k5');
ROLLBACK TO s;
INSERT INTO file VALUES (5, 'post', 'ten', 'k5');
ROLLBACK TO s;
UPDATE file SET owner_type = 'post' WHERE id = 3;
ROLLBACK TO s;
UPDATE file SET key = 'other' WHERE id = 3;
ROLLBACK TO s;
SAVEPOINT t;
SELECT keepsake.soft_delete('post', 10) AS post \gset
INSERT INTO file VALUES (5, 'post', '10', 'k5');
ROLLBACK TO t;
SELECT keepsake.soft_delete('thread', 1) AS thread \gset
SELECT id FROM file WHERE deleted_at IS NULL ORDER BY id;
SELECT count(*) AS waiting FROM keepsake.outbox;
SELECT keepsake.restore(:'thread') IS NOT NULL AS restored;
SELECT id FROM file WHERE deleted_at IS NULL ORDER BY id;

SELECT keepsake.soft_delete('thread', 1) AS thread \gset
SELECT keepsake.purge_deletion(:'thread') -> 'rows' AS purged;
SELECT object_key, relation, writable_until IS NOT NULL AS still_writable FROM keepsake.outbox ORDER BY 1;

-- Lease, acknowledge, fail.
SELECT lease FROM keepsake.lease_objects(10, '1 minute') LIMIT 1 \gset
SELECT count(*) AS leased_to_others FROM keepsake.lease_objects(10, '1 minute');
SELECT keepsake.ack_objects(gen_random_uuid(), ARRAY(SELECT id FROM keepsake.outbox)) AS under_a_wrong_lease;
SELECT keepsake.ack_objects(:'lease', ARRAY(SELECT id FROM keepsake.outbox)) AS acknowledged;
-- The object whose URL can still store it is deleted once more afterwards.
SELECT object_key, next_attempt_at > writable_until AS after_the_url FROM keepsake.outbox;
UPDATE keepsake.outbox SET next_attempt_at = now(), writable_until = now() - interval '1 second';
SELECT lease FROM keepsake.lease_objects(10, '1 minute') \gset
SELECT keepsake.nack_objects(:'lease', ARRAY(SELECT id FROM keepsake.outbox), 'the store said 503') AS failed;
SELECT attempts, last_error, next_attempt_at - now() AS again_in, dead_at FROM keepsake.outbox;
UPDATE keepsake.outbox SET attempts = 11, next_attempt_at = now();
SELECT lease FROM keepsake.lease_objects(10, '1 minute') \gset
SELECT keepsake.nack_objects(:'lease', ARRAY(SELECT id FROM keepsake.outbox), 'the store said 503') AS failed;
SELECT attempts, dead_at IS NOT NULL AS dead FROM keepsake.outbox;
SELECT count(*) AS due FROM keepsake.lease_objects(10, '1 minute');
SAVEPOINT dead;
SELECT keepsake.retry_objects(ARRAY(SELECT id FROM keepsake.outbox)) AS retried;
SELECT keepsake.retry_objects(ARRAY(SELECT id FROM keepsake.outbox) || 0::bigint) AS again;
SELECT count(*) AS due FROM keepsake.lease_objects(10, '1 minute');
SELECT keepsake.retry_objects(ARRAY(SELECT id FROM keepsake.outbox)) AS leased;
ROLLBACK TO dead;
SELECT keepsake.retry_dead_objects() AS retried;
SELECT lease FROM keepsake.lease_objects(10, '1 minute') \gset
SELECT keepsake.ack_objects(:'lease', ARRAY(SELECT id FROM keepsake.outbox)) AS acknowledged;
SELECT count(*) AS waiting FROM keepsake.outbox;
ROLLBACK;

-- A lease that ran out is handed on.
BEGIN;
INSERT INTO keepsake.outbox (object_key, relation) VALUES ('a', 'file'), ('b', 'file');
SELECT count(*) FROM keepsake.lease_objects(1, '-1 second');
SELECT count(*) FROM keepsake.lease_objects(10, '1 minute');
ROLLBACK;

-- A key column that was made anew with another type is not searched as text. The objects that its rows gave up wait; those of
-- other tables do not.
BEGIN;
CREATE TABLE retyped (id int PRIMARY KEY, key text NOT NULL UNIQUE);
SELECT keepsake.manage('retyped');
SELECT keepsake.bind_storage('retyped', 'key');
INSERT INTO retyped VALUES (1, 'retyped/1'), (2, 'retyped/2');
SELECT keepsake.purge_deletion(keepsake.soft_delete('retyped', 1)) -> 'rows' AS purged;
ALTER TABLE retyped DROP COLUMN key CASCADE;
ALTER TABLE retyped ADD COLUMN key int NOT NULL DEFAULT 7;
CREATE INDEX ON retyped (key);
INSERT INTO keepsake.outbox (object_key, relation) VALUES ('another', 'file');
SELECT object_key FROM keepsake.lease_objects(10, interval '1 minute');
INSERT INTO retyped VALUES (3);
SELECT keepsake.purge_deletion(keepsake.soft_delete('retyped', 2)) -> 'rows' AS purged;
SELECT object_key, lease IS NOT NULL AS leased FROM keepsake.outbox ORDER BY 1;
-- Bound anew, the table gives what waits.
ALTER TABLE retyped DROP COLUMN key;
ALTER TABLE retyped ADD COLUMN key text NOT NULL DEFAULT 'retyped/4';
CREATE INDEX ON retyped (key);
SELECT keepsake.bind_storage('retyped', 'key');
UPDATE keepsake.outbox SET next_attempt_at = now();
SELECT object_key FROM keepsake.lease_objects(10, interval '1 minute') ORDER BY 1;
ROLLBACK;
