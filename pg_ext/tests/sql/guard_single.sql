-- A single row that comes to refer to a deleted one is refused, whatever its key is made of: with an index that is looked into without a query, and with one
-- that is not.
CREATE SCHEMA single;
SET search_path = single, keepsake;
CREATE DOMAIN code AS text;
CREATE TYPE mood AS ENUM ('sad', 'ok');

-- The SQLSTATE of a statement, or `ok`; it is undone.
CREATE FUNCTION state(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    at text;
    called text;
BEGIN
    BEGIN
        EXECUTE sql;
        RAISE division_by_zero;
    EXCEPTION WHEN division_by_zero THEN
        RETURN 'ok';
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS at = RETURNED_SQLSTATE, called = CONSTRAINT_NAME;
        RETURN concat_ws(' ', at, nullif(called, ''));
    END;
END $$;

CREATE FUNCTION try(type text, live text, dead text, child_type text DEFAULT NULL)
RETURNS TABLE (of text, insert_live text, insert_dead text, insert_null text, insert_none text, update_live text, update_dead text, two_rows text)
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE parent (id %s PRIMARY KEY); CREATE TABLE child (n int PRIMARY KEY, parent_id %s REFERENCES parent ON DELETE CASCADE)', type, coalesce(child_type, type));
    PERFORM manage('parent'), manage('child');
    EXECUTE format('INSERT INTO parent VALUES (%L), (%L); INSERT INTO child VALUES (1, %L)', live, dead, live);
    EXECUTE format('DELETE FROM parent WHERE id = %L', dead);
    RETURN QUERY SELECT concat_ws(' from ', type, child_type),
        state(format('INSERT INTO child VALUES (2, %L)', live)),
        state(format('INSERT INTO child VALUES (2, %L)', dead)),
        state('INSERT INTO child VALUES (2, NULL)'),
        state(format('INSERT INTO child SELECT 2, %L WHERE false', dead)),
        state(format('UPDATE child SET parent_id = %L', live)),
        state(format('UPDATE child SET parent_id = %L', dead)),
        state(format('INSERT INTO child VALUES (2, %L), (3, %L)', live, dead));
    DROP TABLE child, parent;
END $$;

SELECT t.* FROM (VALUES
    ('int2', '1', '-2', NULL), ('int4', '1', '-2', NULL), ('int8', '1', '-9223372036854775808', NULL), ('int8', '1', '2', 'int4'), ('int4', '1', '2', 'int8'),
    ('uuid', '00000000-0000-7000-8000-000000000001', 'ffffffff-0000-7000-8000-000000000001', NULL),
    ('text', 'a', 'z', NULL), ('varchar(9)', 'a', 'b', NULL), ('text', 'a', 'b', 'varchar(5)'), ('text COLLATE "C"', 'a', 'b', NULL), ('char(3)', 'a', 'b', NULL),
    ('code', 'a', 'b', NULL), ('mood', 'ok', 'sad', NULL), ('numeric', '1.0', '2.00', NULL), ('date', '2026-01-01', '2026-01-02', NULL), ('int[]', '{1}', '{2}', NULL)
) AS c (type, live, dead, child_type), LATERAL try(c.type, c.live, c.dead, c.child_type) AS t;

-- Several columns in another order than those of the index, beside other indexes; a key that is no primary key; a parent in partitions; one that is its own.
CREATE TABLE place (country text, number int, label text, UNIQUE (number, country), PRIMARY KEY (country, number));
CREATE UNIQUE INDEX ON place (number) WHERE label = 'none';
CREATE UNIQUE INDEX ON place (lower(country), number);
CREATE TABLE visit (id int PRIMARY KEY, number int, country text, FOREIGN KEY (number, country) REFERENCES place (number, country) ON DELETE CASCADE);
CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE of_parted (id int PRIMARY KEY, parted_id int REFERENCES parted ON DELETE CASCADE);
CREATE TABLE node (id int PRIMARY KEY, up int REFERENCES node ON DELETE CASCADE);
SELECT manage(t) FROM unnest('{place,visit,parted,of_parted,node}'::regclass[]) AS t;
INSERT INTO place VALUES ('de', 1), ('de', 2), ('at', 1);
INSERT INTO visit VALUES (1, 2, 'de');
INSERT INTO parted VALUES (1), (2);
INSERT INTO node VALUES (1), (2);
DELETE FROM place WHERE country = 'de' AND number = 1;
DELETE FROM parted WHERE id = 1;
DELETE FROM node WHERE id = 1;
SELECT sql, state(sql) FROM unnest(ARRAY[
    'INSERT INTO visit VALUES (2, 1, ''de'')', 'INSERT INTO visit VALUES (2, 1, ''at'')', 'INSERT INTO visit VALUES (2, 1, NULL)', 'UPDATE visit SET number = 1',
    'UPDATE visit SET number = 1, country = ''at''', 'INSERT INTO of_parted VALUES (1, 1)', 'INSERT INTO of_parted VALUES (1, 2)',
    'INSERT INTO node VALUES (3, 1)', 'INSERT INTO node VALUES (3, 2)', 'INSERT INTO node VALUES (3, 3)',
    -- What the same statement deletes is deleted.
    'WITH d AS (DELETE FROM node WHERE id = 2) INSERT INTO node VALUES (3, 2)', 'WITH d AS (DELETE FROM place WHERE number = 2) INSERT INTO visit VALUES (2, 2, ''de'')'
]) AS s (sql);
-- A row that is deleted may be set to refer to what it likes.
DELETE FROM visit WHERE id = 1;
SELECT state('UPDATE visit SET number = 1');

-- Columns of these names in a table that is not managed mean nothing. A session that has read nothing yet knows that as well.
CREATE TABLE own (id int PRIMARY KEY, deleted_at timestamptz, deletion_id uuid);
CREATE TABLE half (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE of_all (id int PRIMARY KEY, own_id int REFERENCES own, half_id int REFERENCES half, node_id int REFERENCES node ON DELETE CASCADE, deleted_at text);
INSERT INTO own VALUES (1, now(), '00000000-0000-7000-8000-000000000001');
INSERT INTO half VALUES (1, now());
\c -
SET search_path = single, keepsake;
SELECT state('INSERT INTO of_all VALUES (1, 1, 1, 2, ''then'')');
SELECT state('INSERT INTO of_all VALUES (1, 1, 1, 1, ''then'')');
\c -
SET search_path = single, keepsake;
INSERT INTO of_all VALUES (1, 1, 1, 2, 'then');
SELECT state('UPDATE of_all SET node_id = 1');
SELECT state('UPDATE of_all SET own_id = NULL');

-- A row that is found where a foreign key's check has locked it is looked at as it is now.
BEGIN;
INSERT INTO node VALUES (10), (14);
INSERT INTO node VALUES (11, 10);
INSERT INTO node VALUES (12, 10);
DELETE FROM node WHERE id = 10;
SELECT state('INSERT INTO node VALUES (13, 10)');
ROLLBACK;
BEGIN;
INSERT INTO node VALUES (20);
INSERT INTO node VALUES (21, 20);
SAVEPOINT s;
UPDATE node SET up = 2 WHERE id = 20;
INSERT INTO node VALUES (22, 20);
ROLLBACK TO s;
INSERT INTO node VALUES (22, 20);
INSERT INTO node VALUES (23);
UPDATE node SET up = 23 WHERE id = 21;
SET LOCAL session_replication_role = replica;
UPDATE node SET deleted_at = now(), deletion_id = '00000000-0000-7000-8000-000000000001' WHERE id = 23;
RESET session_replication_role;
SELECT state('UPDATE node SET up = 23 WHERE id = 22');
ROLLBACK;

RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA single CASCADE;
