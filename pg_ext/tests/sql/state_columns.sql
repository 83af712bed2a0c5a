-- The columns that mark a deleted row, exchanged for others of their names: what takes them is refused in plain words,
-- and what has nothing to do with them goes on. A value is never read as what it is not.
SELECT pg_postmaster_start_time() AS started \gset
SET client_min_messages = warning;
CREATE SCHEMA marks;
SET search_path = marks;
CREATE DOMAIN own_uuid AS uuid;
CREATE DOMAIN own_time AS timestamptz;
CREATE TABLE up (id int PRIMARY KEY, note text);
CREATE TABLE down (id int PRIMARY KEY, up_id int REFERENCES up ON DELETE CASCADE, note text);
SELECT keepsake.manage('up'), keepsake.manage('down');
INSERT INTO up SELECT n, 'x' FROM generate_series(1, 9) n;
INSERT INTO down SELECT n, n, 'x' FROM generate_series(1, 9) n;
SELECT keepsake.soft_delete('up', 9) AS deletion \gset

-- What came in the place of each column, and what each way to delete or restore says to it.
CREATE TABLE outcome (exchange text, statement text, state text, message text, hint text);
CREATE PROCEDURE attempt(exchange text, statement text) LANGUAGE plpgsql AS $$
DECLARE state text := '00000'; message text; hint text;
BEGIN
    BEGIN
        EXECUTE exchange;
        EXECUTE statement;
        RAISE SQLSTATE 'UNDO1';
    EXCEPTION
        WHEN SQLSTATE 'UNDO1' THEN NULL;
        WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    END;
    INSERT INTO marks.outcome VALUES (exchange, statement, state, message, hint);
END $$;
CREATE VIEW exchanges AS
SELECT format(form, relation, col, type) AS exchange, relation, col
FROM unnest('{up,down}'::text[]) AS relation,
     (VALUES ('deletion_id', '{text,bigint,"char",own_uuid,uuid[],bytea}'::text[]), ('deleted_at', '{timestamp,text,date,own_time,bool,timestamptz[]}')) AS a (col, types),
     unnest(types) AS type,
     unnest('{"ALTER TABLE %1$I RENAME COLUMN %2$I TO x1; ALTER TABLE %1$I ADD COLUMN %2$I %3$s","ALTER TABLE %1$I RENAME COLUMN %2$I TO x1; ALTER TABLE %1$I ADD COLUMN %2$I %3$s GENERATED ALWAYS AS (NULL::%3$s) STORED"}'::text[]) AS form
UNION ALL
SELECT format(form, relation), relation, 'both' FROM unnest('{up,down}'::text[]) AS relation,
    unnest('{"ALTER TABLE %I RENAME COLUMN deleted_at TO x; ALTER TABLE %1$I RENAME COLUMN deletion_id TO deleted_at; ALTER TABLE %1$I RENAME COLUMN x TO deletion_id",
             "ALTER TABLE %I RENAME COLUMN deletion_id TO x1", "ALTER TABLE %I RENAME COLUMN deleted_at TO x1",
             "ALTER TABLE %I RENAME COLUMN deletion_id TO x1; ALTER TABLE %1$I ADD COLUMN deletion_id uuid GENERATED ALWAYS AS (NULL::uuid) STORED"}'::text[]) AS form;
CREATE VIEW ways AS
SELECT unnest('{"DELETE FROM marks.down WHERE id = 1","DELETE FROM marks.up WHERE id = 1","SELECT keepsake.soft_delete(''marks.up'', 1)","SELECT keepsake.soft_delete(''marks.down'', 2)",
    "UPDATE marks.up SET deleted_at = now() WHERE id = 1","UPDATE marks.up SET x1 = NULL","UPDATE marks.up SET id = 77 WHERE id = 9","UPDATE marks.down SET up_id = 3 WHERE id = 4","INSERT INTO marks.down VALUES (99, 1)",
    "SELECT keepsake.hold(''marks.up'', 1, ''why'')","SELECT * FROM keepsake.plan_delete(''marks.up'', 1)","SELECT keepsake.purge_batch(10, now() + interval ''1 year'')",
    "WITH d AS (DELETE FROM marks.up WHERE id = 1 RETURNING *) SELECT count(*) FROM d","SELECT * FROM keepsake.doctor()"}'::text[])
UNION ALL SELECT format('SELECT keepsake.restore(%L)', id) FROM keepsake.deletion WHERE root_table = 'marks.up'::regclass
UNION ALL SELECT format('SELECT * FROM keepsake.restore_conflicts(%L)', id) FROM keepsake.deletion WHERE root_table = 'marks.up'::regclass;
DO $$
DECLARE e text; w text;
BEGIN
    FOR e IN SELECT exchange FROM marks.exchanges LOOP
        FOR w IN SELECT * FROM marks.ways LOOP
            CALL marks.attempt(e, w);
        END LOOP;
    END LOOP;
END $$;
SELECT count(*) > 400 AS many FROM outcome;
-- What is neither done nor refused by the engine's own words is refused by PostgreSQL's: no such column, of another
-- type, or generated.
SELECT DISTINCT state FROM outcome WHERE state NOT IN ('00000', '55000') ORDER BY state;
SELECT DISTINCT message, hint FROM outcome WHERE state = '55000' ORDER BY message;
-- Every statement that would mark or unmark rows of the table itself is refused; none is done by half.
SELECT DISTINCT o.statement FROM outcome o JOIN exchanges e USING (exchange)
WHERE o.state = '00000' AND (e.relation = 'up' AND o.statement ~ 'DELETE FROM marks.up|soft_delete\(''marks.up|restore\(|hold\(' OR e.relation = 'down' AND o.statement ~ 'DELETE FROM marks.down|soft_delete\(''marks.down')
ORDER BY 1;

-- doctor() names such a table.
BEGIN;
ALTER TABLE down RENAME COLUMN deletion_id TO x1;
ALTER TABLE down ADD COLUMN deletion_id text;
SELECT severity, check_name, object FROM keepsake.doctor() WHERE check_name = 'state_column_lost';
DELETE FROM down WHERE id = 1;
ROLLBACK;
-- With the old name back, all is well.
BEGIN;
ALTER TABLE down RENAME COLUMN deletion_id TO x1;
ALTER TABLE down ADD COLUMN deletion_id text;
ALTER TABLE down DROP COLUMN deletion_id;
ALTER TABLE down RENAME COLUMN x1 TO deletion_id;
DELETE FROM down WHERE id = 1;
SELECT keepsake.restore(:'deletion') -> 'restored' AS restored;
ROLLBACK;

-- In a partition that was taken out, changed, and let in again; and in one of another shape.
CREATE TABLE parted (id int PRIMARY KEY, note text) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE part_2 (gone int, id int NOT NULL, note text);
ALTER TABLE part_2 DROP COLUMN gone;
ALTER TABLE parted ATTACH PARTITION part_2 FOR VALUES FROM (10) TO (20);
SELECT keepsake.manage('parted');
INSERT INTO parted VALUES (1, 'a'), (11, 'b'), (12, 'c');
DELETE FROM parted WHERE id = 12;
BEGIN;
ALTER TABLE parted DETACH PARTITION part_2;
ALTER TABLE part_2 RENAME COLUMN deletion_id TO x1;
ALTER TABLE part_2 ADD COLUMN deletion_id text;
DELETE FROM part_2 WHERE id = 11;
SELECT count(*) AS left_in_it FROM part_2;
UPDATE part_2 SET deleted_at = now() WHERE id = 11;
ROLLBACK;
BEGIN;
ALTER TABLE parted DETACH PARTITION part_2;
ALTER TABLE part_2 RENAME COLUMN deletion_id TO x1;
ALTER TABLE part_2 ADD COLUMN deletion_id uuid;
ALTER TABLE part_2 DROP COLUMN x1;
ALTER TABLE parted ATTACH PARTITION part_2 FOR VALUES FROM (10) TO (20);
DELETE FROM parted WHERE id = 11;
SELECT count(*) AS marked FROM parted WHERE deletion_id IS NOT NULL;
ROLLBACK;

RESET search_path;
DELETE FROM keepsake.deletion WHERE root_table::text LIKE 'marks.%';
DROP SCHEMA marks CASCADE;
RESET client_min_messages;
SELECT pg_postmaster_start_time() = :'started' AS never_restarted;
