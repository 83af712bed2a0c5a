-- Every way by which a row can come under a deleted parent is closed; what concerns live parents passes.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('post', 10) AS post \gset
SAVEPOINT s;

-- INSERT … ON CONFLICT: the new row, the updated row, and the row that is left alone.
INSERT INTO comment VALUES (300, 10) ON CONFLICT (id) DO NOTHING;
ROLLBACK TO s;
INSERT INTO comment VALUES (200, 10) ON CONFLICT (id) DO NOTHING;
INSERT INTO comment VALUES (200, 20) ON CONFLICT (id) DO UPDATE SET post_id = 10;
ROLLBACK TO s;
INSERT INTO comment VALUES (200, 10) ON CONFLICT (id) DO UPDATE SET post_id = 11;
INSERT INTO comment VALUES (200, 11) ON CONFLICT (id) DO UPDATE SET post_id = excluded.post_id RETURNING id, post_id;
ROLLBACK TO s;
-- A deleted row is still in the way of its key, is not written to, and is not revived by it.
INSERT INTO comment VALUES (100, 11) ON CONFLICT (id) DO UPDATE SET post_id = 11 RETURNING id, post_id, deleted_at IS NULL AS live;
ROLLBACK TO s;
INSERT INTO comment VALUES (100, 11) ON CONFLICT (id) DO UPDATE SET deleted_at = NULL, deletion_id = NULL;
ROLLBACK TO s;

-- MERGE.
MERGE INTO comment c USING (VALUES (300, 10)) AS v (id, post_id) ON c.id = v.id
    WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.post_id);
ROLLBACK TO s;
MERGE INTO comment c USING (VALUES (200, 10)) AS v (id, post_id) ON c.id = v.id
    WHEN MATCHED THEN UPDATE SET post_id = v.post_id;
ROLLBACK TO s;
MERGE INTO comment c USING (VALUES (200, 11), (300, 20)) AS v (id, post_id) ON c.id = v.id
    WHEN MATCHED THEN UPDATE SET post_id = v.post_id
    WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.post_id);
SELECT id, post_id FROM comment WHERE id >= 200 ORDER BY id;
ROLLBACK TO s;

-- COPY.
COPY comment (id, post_id) FROM stdin;
300	20
301	10
\.
ROLLBACK TO s;
COPY comment (id, post_id) FROM stdin;
300	20
301	11
\.
SELECT count(*) AS copied FROM comment WHERE id IN (300, 301);
ROLLBACK TO s;

-- A common table expression, INSERT … SELECT, UPDATE … FROM, a view, a function.
WITH new AS (INSERT INTO comment VALUES (300, 10) RETURNING id) SELECT count(*) FROM new;
ROLLBACK TO s;
INSERT INTO comment (id, post_id) SELECT 300 + id, id FROM post;
ROLLBACK TO s;
UPDATE comment c SET post_id = p.id FROM post p WHERE p.id = 10 AND c.id = 200;
ROLLBACK TO s;
CREATE VIEW comments AS SELECT id, post_id FROM comment;
INSERT INTO comments VALUES (300, 10);
ROLLBACK TO s;
CREATE FUNCTION add_comment(int, bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO comment VALUES ($1, $2); END $$;
SELECT add_comment(300, 20);
SELECT add_comment(301, 10);
ROLLBACK TO s;
PREPARE add AS INSERT INTO comment VALUES ($1, $2);
EXECUTE add (300, 20);
EXECUTE add (301, 10);
ROLLBACK TO s;
DEALLOCATE add;

-- By hand: a deleted row is not brought back, nor a live one deleted, by writing its marks.
UPDATE post SET deleted_at = NULL WHERE id = 10;
ROLLBACK TO s;
UPDATE post SET deletion_id = NULL WHERE id = 10;
ROLLBACK TO s;
UPDATE comment SET deletion_id = keepsake.uuid_v7() WHERE id = 100;
ROLLBACK TO s;
-- A deleted row may change otherwise, and move: it comes back where it is then.
UPDATE comment SET post_id = 11 WHERE id = 100;
SELECT keepsake.restore(:'post') IS NOT NULL AS restored;
SELECT id, post_id FROM comment WHERE id = 100;
ROLLBACK;

-- A check that is put off to the commit, or made at once by SET CONSTRAINTS.
BEGIN;
CALL fill();
CREATE TABLE tag (id int PRIMARY KEY, post_id bigint REFERENCES post ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
SELECT keepsake.manage('tag');
SELECT keepsake.soft_delete('post', 10) IS NOT NULL AS done;
SAVEPOINT s;
INSERT INTO tag VALUES (1, 10);
ROLLBACK TO s;
-- A parent that comes later in the transaction.
INSERT INTO tag VALUES (1, 40);
INSERT INTO post VALUES (40, 2, 'late');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT keepsake.soft_delete('post', 40) IS NOT NULL AS done;
SELECT id, deleted_at IS NULL AS live FROM tag;
ROLLBACK;
