-- Row triggers of ours are left out of a statement that cannot concern them; wherever it might, they fire.
BEGIN;
CALL fill();
ALTER TABLE comment ADD COLUMN body text;
SELECT keepsake.soft_delete('post', 10) AS post \gset

-- Somebody else's trigger changes a column that the statement does not name: the reference, the key, a mark.
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CASE NEW.body
        WHEN 'reference' THEN NEW.post_id := 10;
        WHEN 'key' THEN NEW.id := 999;
        WHEN 'mark' THEN NEW.deleted_at := now();
        WHEN 'both marks' THEN NEW.deleted_at := now(); NEW.deletion_id := gen_random_uuid();
        ELSE NULL;
    END CASE;
    RETURN NEW;
END $$;
CREATE TRIGGER a_meddler BEFORE UPDATE ON comment FOR EACH ROW EXECUTE FUNCTION meddle();
SAVEPOINT s;
UPDATE comment SET body = 'reference' WHERE id = 200;
ROLLBACK TO s;
UPDATE comment SET body = 'key' WHERE id = 200;
ROLLBACK TO s;
UPDATE comment SET body = 'both marks' WHERE id = 200;
ROLLBACK TO s;
UPDATE comment SET body = 'mark' WHERE id = 200 RETURNING id, deleted_at IS NOT NULL AS deleted, deletion_id IS NOT NULL AS known;
SELECT root_table, root_key FROM keepsake.deletion JOIN comment c ON c.deletion_id = deletion.id WHERE c.id = 200;
ROLLBACK TO s;
-- Also one that only a plan knows which was made before it.
DROP TRIGGER a_meddler ON comment;
PREPARE touch(text) AS UPDATE comment SET body = $1 WHERE id = 200;
SET plan_cache_mode = force_generic_plan;
EXECUTE touch('reference');
SAVEPOINT s;
CREATE TRIGGER a_meddler BEFORE UPDATE ON comment FOR EACH ROW EXECUTE FUNCTION meddle();
EXECUTE touch('reference');
ROLLBACK TO s;
-- One that is switched off meddles with nothing.
CREATE TRIGGER a_meddler BEFORE UPDATE ON comment FOR EACH ROW EXECUTE FUNCTION meddle();
ALTER TABLE comment DISABLE TRIGGER a_meddler;
EXECUTE touch('reference');
SELECT post_id FROM comment WHERE id = 200;
ROLLBACK;

-- A reference that is computed moves with what it is computed from.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('post', 10) AS post \gset
CREATE TABLE computed (id int PRIMARY KEY, half int, post_id int GENERATED ALWAYS AS (half * 2) STORED REFERENCES post);
INSERT INTO computed (id, half) VALUES (1, NULL);
UPDATE computed SET half = 5;
ROLLBACK;

-- A DELETE of what nobody refers to is marked by its plan, one of what somebody refers to by the trigger; both alike.
CREATE FUNCTION plan_marks(statement text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (VERBOSE, COSTS OFF) ' || statement LOOP
        IF line LIKE '%deletion_of_statement%' THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END $$;
BEGIN;
CREATE TABLE leaf (id int PRIMARY KEY, body text);
SELECT keepsake.manage('leaf');
INSERT INTO leaf SELECT n, 'x' FROM generate_series(1, 9) n;
SELECT plan_marks('DELETE FROM leaf WHERE id < 3') AS marks;
DELETE FROM leaf WHERE id < 3 RETURNING id, deleted_at = now() AS now, deletion_id IS NOT NULL AS known;
SELECT count(DISTINCT l.deletion_id) AS deletions, bool_and(d.id IS NOT NULL) AS recorded, min(d.root_key::text) AS root_key
FROM leaf l LEFT JOIN keepsake.deletion d ON d.id = l.deletion_id WHERE l.deleted_at IS NOT NULL;
SELECT jsonb_pretty(keepsake.restore(deletion_id) - 'deletion_id') FROM leaf WHERE id = 1;
SELECT count(*) FROM leaf WHERE deleted_at IS NULL AND deletion_id IS NULL;
-- No row, one row that is deleted already, each of several statements by itself.
DELETE FROM leaf WHERE id = 100;
DELETE FROM leaf WHERE id = 3;
DELETE FROM leaf WHERE id = 3;
DELETE FROM leaf WHERE id = 4;
SELECT leaf.id, root_key FROM leaf JOIN keepsake.deletion d ON d.id = deletion_id ORDER BY leaf.id;
-- Two at once.
WITH five AS (DELETE FROM leaf WHERE id = 5 RETURNING id), six AS (DELETE FROM leaf WHERE id = 6 RETURNING id)
SELECT * FROM five, six;
WITH seven AS (UPDATE leaf SET body = 'y' WHERE id = 7 RETURNING id) DELETE FROM leaf USING seven WHERE leaf.id = 8 RETURNING leaf.id;
-- From within a statement that deletes from the same table.
CREATE FUNCTION take_along() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL AND NEW.id = 7 THEN
        DELETE FROM leaf WHERE id = 9;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER take_along AFTER UPDATE ON leaf FOR EACH ROW EXECUTE FUNCTION take_along();
DELETE FROM leaf WHERE id = 7;
SELECT leaf.id, d.root_key FROM leaf JOIN keepsake.deletion d ON d.id = deletion_id WHERE leaf.id IN (7, 9) ORDER BY 1;
ROLLBACK;

-- What says the deletion to the plan says it to nobody else.
BEGIN;
CALL fill();
SAVEPOINT s;
SELECT keepsake.deletion_of_statement('comment'::regclass);
ROLLBACK TO s;
SELECT keepsake.deletion_of_statement('pg_class'::regclass);
ROLLBACK TO s;
UPDATE comment SET deleted_at = now(), deletion_id = keepsake.deletion_of_statement('comment'::regclass);
ROLLBACK TO s;
DELETE FROM comment WHERE id = 200 RETURNING keepsake.deletion_of_statement('post'::regclass);
ROLLBACK;

-- A plan that was made while nobody referred to the table is made anew when somebody does.
BEGIN;
CREATE TABLE leaf (id int PRIMARY KEY);
CREATE TABLE referrer (id int PRIMARY KEY, kind text, leaf_id int, other_id int);
SELECT keepsake.manage('leaf'), keepsake.manage('referrer');
INSERT INTO leaf VALUES (1), (2), (3), (4);
SET plan_cache_mode = force_generic_plan;
PREPARE remove(int) AS DELETE FROM leaf WHERE id = $1;
EXECUTE remove(1);
SELECT plan_marks('EXECUTE remove(2)') AS marks;
SAVEPOINT s;
SELECT keepsake.declare_reference('referrer', 'kind', 'leaf_id', 'leaf', 'leaf');
SELECT plan_marks('EXECUTE remove(2)') AS marks;
INSERT INTO referrer VALUES (1, 'leaf', 2);
EXECUTE remove(2);
SELECT id, deleted_at IS NOT NULL AS deleted FROM referrer;
ROLLBACK TO s;
ALTER TABLE referrer ADD FOREIGN KEY (other_id) REFERENCES leaf ON DELETE CASCADE;
SELECT plan_marks('EXECUTE remove(2)') AS marks;
INSERT INTO referrer VALUES (1, NULL, NULL, 2);
EXECUTE remove(2);
SELECT id, deleted_at IS NOT NULL AS deleted FROM referrer;
ROLLBACK;
DROP FUNCTION plan_marks;
