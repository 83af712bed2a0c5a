-- One statement that does several things, or runs within another.
SET client_min_messages = warning;
CREATE SCHEMA statements;
SET search_path = statements;

-- A trigger that deletes a sibling before its own row is marked: each statement ends by itself.
BEGIN;
CREATE TABLE t (id int PRIMARY KEY, sibling int);
CREATE TABLE c (id int PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE);
SELECT keepsake.manage('t'), keepsake.manage('c');
CREATE FUNCTION take_sibling() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL AND NEW.sibling IS NOT NULL THEN
        DELETE FROM t WHERE id = NEW.sibling;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER take_sibling BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION take_sibling();
INSERT INTO t VALUES (1, 2), (2, NULL), (3, NULL);
INSERT INTO c VALUES (1, 1), (2, 2), (3, 3);
DELETE FROM t WHERE id IN (1, 3);
SELECT c.id, c.deletion_id = t.deletion_id AS with_parent FROM c JOIN t ON t.id = c.t ORDER BY c.id;
SELECT count(*) AS deletions FROM keepsake.deletion WHERE root_table = 't'::regclass;
ROLLBACK;

-- The rights of a DELETE are not those of an UPDATE beside it.
BEGIN;
CREATE TABLE r (id int PRIMARY KEY, owner text);
SELECT keepsake.manage('r');
INSERT INTO r VALUES (1, 'regress_keepsake_mixer'), (2, 'another');
CREATE ROLE regress_keepsake_mixer;
ALTER TABLE r ENABLE ROW LEVEL SECURITY;
CREATE POLICY sees ON r FOR SELECT USING (true);
CREATE POLICY updates ON r FOR UPDATE USING (true);
CREATE POLICY deletes ON r FOR DELETE USING (owner = current_user);
GRANT USAGE ON SCHEMA statements TO regress_keepsake_mixer;
GRANT SELECT, INSERT, UPDATE, DELETE ON r TO regress_keepsake_mixer;
CREATE POLICY inserts ON r FOR INSERT WITH CHECK (true);
SET ROLE regress_keepsake_mixer;
SAVEPOINT before;
WITH d AS (DELETE FROM r WHERE false) UPDATE r SET deleted_at = now() WHERE id = 2;
ROLLBACK TO before;
WITH d AS (DELETE FROM r WHERE false)
INSERT INTO r VALUES (2, '') ON CONFLICT (id) DO UPDATE SET deleted_at = now();
ROLLBACK TO before;
WITH d AS (DELETE FROM r WHERE false) UPDATE r SET deleted_at = now() WHERE id = 1;
ROLLBACK;

-- Rows that move to another partition are not deleted; those beside them that are deleted do not move.
BEGIN;
CREATE TABLE p (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
SELECT keepsake.manage('p', on_delete => 'reject');
INSERT INTO p VALUES (1, 1), (2, 2), (3, 1);
SAVEPOINT before;
WITH u AS (UPDATE p SET id = id WHERE false) DELETE FROM p WHERE id = 1;
ROLLBACK TO before;
SELECT keepsake.manage('p', on_delete => 'convert');
MERGE INTO p USING (VALUES (1)) AS v (id) ON p.id = v.id WHEN MATCHED THEN UPDATE SET k = 2;
WITH i AS (INSERT INTO p VALUES (9, 1)) UPDATE p SET k = 2 WHERE id = 3;
SELECT tableoid::regclass, id, deleted_at IS NULL AS live FROM p ORDER BY id;
SAVEPOINT before;
MERGE INTO p USING (VALUES (1), (2)) AS v (id) ON p.id = v.id
WHEN MATCHED AND p.id = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET k = 1;
ROLLBACK TO before;
MERGE INTO p USING (VALUES (1), (2)) AS v (id) ON p.id = v.id WHEN MATCHED THEN DELETE;
SELECT id, deleted_at IS NULL AS live FROM p ORDER BY id;
ROLLBACK;

-- An UPDATE of rows of a partitioned table whose parent the same statement deletes; and one that moves rows beneath a deleted parent.
BEGIN;
CREATE TABLE up (id int PRIMARY KEY);
CREATE TABLE parted (id int, k int, up int REFERENCES up ON DELETE SET NULL, v int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE parted1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted2 PARTITION OF parted FOR VALUES IN (2);
SELECT keepsake.manage('up'), keepsake.manage('parted');
INSERT INTO up VALUES (1), (2), (3);
INSERT INTO parted VALUES (1, 1, 1, 0), (2, 1, 2, 0), (3, 2, 3, 0);
WITH gone AS (DELETE FROM up WHERE id < 3 RETURNING id) UPDATE parted SET v = 1 FROM gone WHERE up = gone.id;
SELECT tableoid::regclass, id, up, v FROM parted ORDER BY id;
SAVEPOINT before;
UPDATE parted SET k = 1, up = 1 WHERE id = 3;
ROLLBACK TO before;
UPDATE parted SET k = 1, v = 2 WHERE id = 3;
SELECT keepsake.restore(id) -> 'restored' AS restored FROM keepsake.deletion WHERE root_table = 'up'::regclass;
SELECT id, up, v FROM parted ORDER BY id;
ROLLBACK;

-- A DELETE in a trigger of a table that a foreign key's action deletes from is one like any other.
BEGIN;
CREATE TABLE x (id int PRIMARY KEY);
CREATE TABLE y (id int PRIMARY KEY, x int REFERENCES x ON DELETE CASCADE);
CREATE TABLE m (id int PRIMARY KEY);
SELECT keepsake.manage('m');
CREATE FUNCTION delete_m() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM m WHERE id = OLD.id;
    RETURN OLD;
END $$;
CREATE TRIGGER delete_m BEFORE DELETE ON y FOR EACH ROW EXECUTE FUNCTION delete_m();
INSERT INTO m VALUES (1);
INSERT INTO x VALUES (1);
INSERT INTO y VALUES (1, 1);
DELETE FROM x;
SELECT id, deleted_at IS NULL AS live FROM m;
ROLLBACK;

-- Of a column that two foreign keys share, one must not be put back into what the other forbids.
BEGIN;
CREATE TABLE a (t int, id int, PRIMARY KEY (t, id));
CREATE TABLE b (t int, id int, PRIMARY KEY (t, id));
CREATE TABLE ab (
    id int PRIMARY KEY, t int, a int, b int,
    FOREIGN KEY (t, a) REFERENCES a ON DELETE SET NULL, FOREIGN KEY (t, b) REFERENCES b ON DELETE CASCADE);
SELECT keepsake.manage('a'), keepsake.manage('b'), keepsake.manage('ab');
INSERT INTO a VALUES (1, 1);
INSERT INTO b VALUES (1, 1);
INSERT INTO ab VALUES (1, 1, 1, 1);
SELECT keepsake.soft_delete('a', '{"t": 1, "id": 1}'::jsonb) AS a \gset
SELECT keepsake.soft_delete('b', '{"t": 1, "id": 1}'::jsonb) AS b \gset
SAVEPOINT before;
SELECT keepsake.restore(:'a') - 'deletion_id' AS restored;
ROLLBACK TO before;
SELECT keepsake.restore(:'b') IS NOT NULL AS done;
SELECT keepsake.restore(:'a') IS NOT NULL AS done;
SELECT id, t, a, b FROM ab;
ROLLBACK;

-- Tables that came to inherit, or to be inherited from: nothing is lost without a word, nor marked half.
BEGIN;
CREATE TABLE managed (id int PRIMARY KEY);
SELECT keepsake.manage('managed');
INSERT INTO managed VALUES (1), (2);
CREATE TABLE above (id int NOT NULL, deleted_at timestamptz);
CREATE TABLE below () INHERITS (managed);
INSERT INTO below VALUES (3);
ALTER TABLE managed INHERIT above;
SAVEPOINT before;
DELETE FROM above WHERE id = 1;
ROLLBACK TO before;
UPDATE above SET deleted_at = now() WHERE id = 1;
ROLLBACK TO before;
DELETE FROM managed WHERE id > 1;
SELECT tableoid::regclass, id, deleted_at IS NULL AS live, deletion_id IS NULL AS no_deletion FROM managed ORDER BY id;
ROLLBACK;

-- A trigger that a deletion fires cannot restore or purge it: half of it is not there yet.
BEGIN;
CREATE TABLE up (id int PRIMARY KEY);
CREATE TABLE down (id int PRIMARY KEY, up int REFERENCES up ON DELETE CASCADE);
SELECT keepsake.manage('up', '0'), keepsake.manage('down', '0');
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        PERFORM keepsake.restore(NEW.deletion_id);
        RAISE NOTICE 'restored';
    EXCEPTION WHEN no_data_found THEN
        RAISE NOTICE 'no such deletion yet';
    END;
    BEGIN
        PERFORM keepsake.purge_deletion(NEW.deletion_id);
        RAISE NOTICE 'purged';
    EXCEPTION WHEN no_data_found THEN
        RAISE NOTICE 'no such deletion yet';
    END;
    PERFORM keepsake.purge_batch();
    RETURN NULL;
END $$;
CREATE TRIGGER meddle AFTER UPDATE ON down FOR EACH ROW WHEN (NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION meddle();
INSERT INTO up VALUES (1);
INSERT INTO down VALUES (1, 1);
SET LOCAL client_min_messages = notice;
DELETE FROM up;
SET LOCAL client_min_messages = warning;
SELECT state FROM keepsake.deletion WHERE root_table = 'up'::regclass;
SELECT (SELECT count(*) FROM up WHERE deleted_at IS NOT NULL) AS up, (SELECT count(*) FROM down WHERE deleted_at IS NOT NULL) AS down;
ROLLBACK;
DROP SCHEMA statements CASCADE;
