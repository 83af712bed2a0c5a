-- A deletion, its restore and its purge on a server that forgets what it read of the catalog whenever it may: what was kept
-- past its life then fails at once. Short, since each statement takes thousands of times as long.
CREATE EXTENSION keepsake;
CREATE TABLE forgotten (id int PRIMARY KEY, label text);
CREATE TABLE forgotten_child (id int PRIMARY KEY, forgotten_id int REFERENCES forgotten ON DELETE CASCADE);
SELECT keepsake.manage('forgotten'), keepsake.manage('forgotten_child');
CREATE UNIQUE INDEX ON forgotten (label) WHERE deleted_at IS NULL;
INSERT INTO forgotten VALUES (1, 'one'), (2, 'two');
INSERT INTO forgotten_child VALUES (10, 1), (20, 2);
SET debug_discard_caches = 1;
DELETE FROM forgotten WHERE id = 1 RETURNING id;
SELECT jsonb_path_query(keepsake.restore(id), '$.restored[*].rows') FROM keepsake.deletion;
SELECT keepsake.soft_delete('forgotten', 2) IS NOT NULL AS deleted;
SELECT keepsake.purge_batch(10, now() + interval '31 days') -> 'rows' AS purged;
RESET debug_discard_caches;
SELECT f.id, f.deleted_at IS NULL AS live, c.id AS child, c.deleted_at IS NULL AS child_live
FROM forgotten f LEFT JOIN forgotten_child c ON c.forgotten_id = f.id;
