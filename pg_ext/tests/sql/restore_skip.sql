-- restore(…, 'skip'): what has a place comes back, the rest stays in the deletion for later.
CREATE FUNCTION rows_of(deletion uuid) RETURNS TABLE (tbl text, row_count bigint, there bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR tbl, row_count IN SELECT t.relation::text, t.row_count FROM keepsake.deletion_table t WHERE t.deletion_id = rows_of.deletion ORDER BY 1 LOOP
        EXECUTE format('SELECT count(*) FROM %s WHERE deletion_id = $1', tbl) INTO there USING rows_of.deletion;
        RETURN NEXT;
    END LOOP;
END $$;

BEGIN;
CALL fill();
SELECT keepsake.soft_delete('thread', 1) AS d \gset
INSERT INTO thread VALUES (1000, 'x');
-- Post 11 moves, while it is deleted, to a thread where a live post has its slug.
INSERT INTO post VALUES (30, 2, 'b');
UPDATE post SET thread_id = 2 WHERE id = 11;
SELECT jsonb_pretty(keepsake.restore(:'d', 'skip') - 'deletion_id') AS report;
SELECT * FROM live;
SELECT * FROM rows_of(:'d');
SELECT state, settled_at FROM keepsake.deletion;
SELECT jsonb_pretty(keepsake.restore(:'d', 'skip') - 'deletion_id') AS again;
SELECT kind, key, holder FROM keepsake.restore_conflicts(:'d');
UPDATE post SET slug = 'elsewhere' WHERE id = 30;
SELECT jsonb_pretty(keepsake.restore(:'d', 'skip') - 'deletion_id') AS rest;
SELECT * FROM live;
SELECT state, settled_at IS NOT NULL AS settled FROM keepsake.deletion;
SELECT keepsake.restore(:'d', 'skip') - 'deletion_id' AS again;
ROLLBACK;

-- The root's own conflict leaves everything where it is.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('post', 10) AS d \gset
INSERT INTO post VALUES (30, 1, 'A');
SELECT jsonb_pretty(keepsake.restore(:'d', 'skip') - 'deletion_id') AS report;
SELECT state FROM keepsake.deletion;
SELECT * FROM live;
SELECT * FROM rows_of(:'d');
UPDATE post SET slug = 'z' WHERE id = 30;
SELECT keepsake.restore(:'d', 'skip') - 'deletion_id' AS report;
ROLLBACK;

-- Dependents go with a skipped row, down a self-reference, by cascading and restricting references.
BEGIN;
CREATE TABLE a (id int PRIMARY KEY);
CREATE TABLE node (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE, up int REFERENCES node ON DELETE CASCADE, name text);
CREATE TABLE leaf (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE, node int REFERENCES node);
SELECT keepsake.manage('a'), keepsake.manage('node'), keepsake.manage('leaf');
CREATE UNIQUE INDEX node_name ON node (name) WHERE deleted_at IS NULL;
INSERT INTO a VALUES (1), (2);
INSERT INTO node VALUES (1, 1, NULL, 'one'), (2, 1, 1, 'two'), (3, 1, 2, 'three'), (4, 1, 1, 'four');
INSERT INTO leaf VALUES (1, 1, 3), (2, 1, 4), (3, 1, NULL);
SELECT keepsake.soft_delete('a', 1) AS d \gset
INSERT INTO node VALUES (20, 2, NULL, 'two');
SELECT jsonb_pretty(keepsake.restore(:'d', 'skip') - 'deletion_id') AS report;
SELECT 'node', string_agg(id::text, ' ' ORDER BY id) FROM node WHERE deleted_at IS NULL
UNION ALL SELECT 'leaf', string_agg(id::text, ' ' ORDER BY id) FROM leaf WHERE deleted_at IS NULL;
SELECT * FROM rows_of(:'d');
-- The root, deleted once more, makes a deletion of its own; what was skipped passes to it.
SELECT keepsake.soft_delete('a', 1) AS e \gset
SELECT keepsake.restore(:'d', 'skip') - 'deletion_id' #- '{passed,0,deletion_id}' #- '{passed,1,deletion_id}' AS report;
UPDATE node SET name = 'free' WHERE id = 20;
SELECT keepsake.restore(:'e') -> 'restored' AS restored;
SELECT count(*) FILTER (WHERE deleted_at IS NULL) AS live, count(*) FROM node;
ROLLBACK;

-- Clashes inside the restored set: the first by key keeps the place; the order is the key's, not the text's.
BEGIN;
CREATE TABLE a (id int PRIMARY KEY);
CREATE TABLE tag (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE, name text, during int4range);
SELECT keepsake.manage('a'), keepsake.manage('tag');
INSERT INTO a VALUES (1);
INSERT INTO tag VALUES (10, 1, 'n', '[1,3)'), (9, 1, 'n', '[2,5)'), (11, 1, 'n', '[4,8)'), (12, 1, 'm', '[7,9)');
SELECT keepsake.soft_delete('a', 1) AS d \gset
CREATE UNIQUE INDEX tag_name ON tag (name) WHERE deleted_at IS NULL;
SELECT * FROM keepsake.restore_conflicts(:'d');
SELECT jsonb_pretty(keepsake.restore(:'d', 'skip') - 'deletion_id') AS report;
SELECT id FROM tag WHERE deleted_at IS NULL ORDER BY id;
ROLLBACK;
BEGIN;
CREATE TABLE a (id int PRIMARY KEY);
CREATE TABLE tag (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE, during int4range);
SELECT keepsake.manage('a'), keepsake.manage('tag');
INSERT INTO a VALUES (1);
-- A chain: 1 keeps its place, so 2 goes, so 3 keeps its place, so 4 goes.
INSERT INTO tag VALUES (1, 1, '[1,3)'), (2, 1, '[2,5)'), (3, 1, '[4,8)'), (4, 1, '[7,9)');
SELECT keepsake.soft_delete('a', 1) AS d \gset
ALTER TABLE tag ADD CONSTRAINT tag_during EXCLUDE USING gist (during WITH &&) WHERE (deleted_at IS NULL);
SELECT keepsake.restore(:'d', 'skip') -> 'skipped' AS skipped;
SELECT id FROM tag WHERE deleted_at IS NULL ORDER BY id;
ROLLBACK;

-- Several roots: each may be skipped by itself; when every one is, nothing comes back.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('thread', 1) AS d \gset
UPDATE keepsake.deletion SET root_table = 'post', root_key = NULL WHERE id = :'d';
INSERT INTO thread VALUES (3, 'x');
UPDATE post SET thread_id = 3, slug = 'q' WHERE id = 11;
INSERT INTO post VALUES (30, 3, 'q');
SELECT jsonb_pretty(keepsake.restore(:'d', 'skip') - 'deletion_id') AS report;
SELECT * FROM rows_of(:'d');
SELECT keepsake.restore(:'d', 'skip') -> 'skipped' AS skipped;
UPDATE post SET slug = 'p' WHERE id = 30;
SELECT keepsake.restore(:'d', 'skip') - 'deletion_id' AS rest;
ROLLBACK;

-- No row of several roots is exempt from being held.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('post', 10) AS d \gset
SELECT keepsake.soft_delete('thread', 1) AS e \gset
UPDATE keepsake.deletion SET root_key = NULL WHERE id = :'d';
SELECT keepsake.restore(:'d') -> 'restored' AS restored;
SELECT keepsake.restore(:'e') -> 'restored' AS restored;
SELECT * FROM live;
ROLLBACK;

SELECT keepsake.restore('00000000-0000-0000-0000-000000000000', 'rename');
SELECT keepsake.restore('00000000-0000-0000-0000-000000000000', NULL);
SELECT keepsake.restore(NULL) IS NULL AS null_in_null_out;
DROP FUNCTION rows_of;
