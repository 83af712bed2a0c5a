-- Several rows, of several tables, may name one object: it goes when the last of them has.
CREATE TABLE photo (id int PRIMARY KEY, key text NOT NULL);
CREATE TABLE avatar (id int PRIMARY KEY, key text NOT NULL, until timestamptz);
SELECT keepsake.manage('photo', '0'), keepsake.manage('avatar', '0');
SELECT keepsake.bind_storage('photo', 'key');
CREATE INDEX ON photo (key);
CREATE UNIQUE INDEX ON avatar (key, id);
SELECT keepsake.bind_storage('photo', 'key'), keepsake.bind_storage('avatar', 'key', 'until');

BEGIN;
INSERT INTO photo VALUES (1, 'a'), (2, 'a'), (3, 'b');
INSERT INTO avatar VALUES (1, 'a', NULL), (2, 'c', now() + '1 hour');
SELECT keepsake.purge_deletion(keepsake.soft_delete('photo', 1)) -> 'rows' AS purged;
SELECT object_key FROM keepsake.outbox ORDER BY 1;
SELECT object_key FROM keepsake.lease_objects(10, '1 minute');
SELECT count(*) AS dropped FROM keepsake.outbox;
-- A soft-deleted row still names it.
SELECT keepsake.purge_deletion(keepsake.soft_delete('photo', 2)) -> 'rows' AS purged;
SELECT keepsake.soft_delete('avatar', 1) AS d \gset
SELECT object_key FROM keepsake.lease_objects(10, '1 minute');
SELECT keepsake.purge_deletion(:'d') -> 'rows' AS purged;
SELECT object_key FROM keepsake.lease_objects(10, '1 minute');
-- Leased, it cannot be named again; nor by another's key.
\set VERBOSITY sqlstate
SAVEPOINT s;
INSERT INTO photo VALUES (4, 'a');
ROLLBACK TO s;
UPDATE photo SET key = 'a' WHERE id = 3;
ROLLBACK TO s;
\set VERBOSITY default
-- A lease that ran out, or a dead entry, is no hindrance.
UPDATE keepsake.outbox SET leased_until = now(), dead_at = now();
INSERT INTO photo VALUES (4, 'a');
SELECT count(*) AS taken_out FROM keepsake.outbox;

-- A live row may name another object: the old one is handed over, the new one claimed.
UPDATE photo SET key = 'x' WHERE id = 4;
SELECT object_key FROM keepsake.outbox;
UPDATE photo SET key = 'a' WHERE id = 4;
SELECT object_key FROM keepsake.outbox;
UPDATE avatar SET key = 'd' WHERE id = 2;
SELECT object_key, writable_until > now() AS still_writable FROM keepsake.outbox ORDER BY 1;
-- Swapped, both are still named.
UPDATE photo SET key = CASE key WHEN 'a' THEN 'b' ELSE 'a' END;
SELECT object_key FROM keepsake.lease_objects(10, '1 minute') ORDER BY 1;
SELECT keepsake.soft_delete('photo', 4) IS NOT NULL AS done;
SAVEPOINT s;
UPDATE photo SET key = 'y' WHERE id = 4;
ROLLBACK TO s;
-- Handed over once more, a dead entry starts anew.
UPDATE keepsake.outbox SET dead_at = now(), attempts = 12, leased_until = NULL, lease = NULL;
INSERT INTO avatar VALUES (3, 'e');
SELECT keepsake.purge_deletion(keepsake.soft_delete('avatar', 3)) -> 'rows' AS purged;
UPDATE keepsake.outbox SET dead_at = now(), attempts = 12 WHERE object_key = 'e';
INSERT INTO avatar VALUES (3, 'e');
SELECT count(*) FROM keepsake.outbox WHERE object_key = 'e';
-- Without its index nothing is handed out.
DROP INDEX avatar_key_id_idx;
SELECT * FROM keepsake.lease_objects(10, '1 minute');
ROLLBACK;
DROP TABLE photo, avatar;
