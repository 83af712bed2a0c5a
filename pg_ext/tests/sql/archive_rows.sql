-- However a row is stored, its archive has the same values.
CREATE SCHEMA rows;
SET search_path = rows, keepsake;

CREATE TABLE odd (a int, gone text, b numeric, c text, d bool, e text[], f int8, PRIMARY KEY (f));
ALTER TABLE odd ALTER c SET STORAGE EXTERNAL;
INSERT INTO odd VALUES (1, 'erased', 1.50, 'short', true, '{a,NULL}', 1), (NULL, 'erased', NULL, NULL, NULL, NULL, 2);
SELECT manage('odd', keep => 'archive');
CREATE TABLE was (f int8, row jsonb);
CREATE PROCEDURE remove() LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM was;
    DELETE FROM rows_deleted.odd;
    INSERT INTO was SELECT f, to_jsonb(o) FROM odd o;
    DELETE FROM odd;
END $$;
CREATE FUNCTION same() RETURNS TABLE (was text, archived text, same bool) LANGUAGE sql AS $$
    SELECT left(w.row::text, 90), left(n.row::text, 90), coalesce(w.row = n.row, false) FROM was w FULL JOIN (
        SELECT f, to_jsonb(o) - '{keepsake_deletion,keepsake_seq,keepsake_layout}'::text[] AS row FROM rows_deleted.odd o) n USING (f) ORDER BY f
$$;
CALL remove();
SELECT * FROM same();
-- Rows that have a value in a column that is dropped, rows that are older than a column, and rows of now.
INSERT INTO odd VALUES (1, 'erased', 1.50, 'short', true, '{a,NULL}', 1), (NULL, NULL, NULL, NULL, NULL, NULL, 2);
ALTER TABLE odd DROP COLUMN gone, ADD COLUMN g text DEFAULT 'given', ADD COLUMN h int;
INSERT INTO odd VALUES (1, 1.50, 'short', true, '{a,NULL}', 3, 'own', 7), (NULL, NULL, NULL, NULL, NULL, 4, NULL, NULL);
CALL remove();
SELECT * FROM same();
-- Values that are compressed, that are stored elsewhere, and both beside small ones.
INSERT INTO odd SELECT n, n, repeat(md5(n::text), CASE WHEN n % 2 = 0 THEN 300 END), NULL, NULL, n, repeat('x', n * 1000), n FROM generate_series(1, 4) AS n;
CALL remove();
SELECT * FROM same();
-- More than a block of memory, of many rows and of large ones.
INSERT INTO odd (f, c, h) SELECT n, repeat('y', n % 50), n FROM generate_series(1, 3000) AS n;
INSERT INTO odd (f, g) SELECT n, string_agg(md5(n::text || m::text), '') FROM generate_series(4001, 4010) AS n, generate_series(1, 250) AS m GROUP BY n;
CALL remove();
SELECT count(*), bool_and(same) FROM same();

-- A partition has the same columns in another order, one of them dropped.
CREATE TABLE part (id int, label text, n int8, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
CREATE TABLE part_2 (was text, n int8, label text, id int NOT NULL);
ALTER TABLE part_2 DROP COLUMN was;
ALTER TABLE part ATTACH PARTITION part_2 FOR VALUES FROM (10) TO (20);
SELECT manage('part', keep => 'archive');
INSERT INTO part VALUES (1, 'one', 1), (2, NULL, 2), (11, 'eleven', 11), (12, NULL, NULL);
DELETE FROM part;
SELECT id, label, n FROM rows_deleted.part ORDER BY id;

-- A row keeps its number, and its subtransaction decides about it.
CREATE TABLE many (id int PRIMARY KEY, label text);
SELECT manage('many', keep => 'archive');
INSERT INTO many SELECT n, repeat('z', n % 100) FROM generate_series(1, 4000) AS n;
CREATE FUNCTION one_by_one() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN 1..4000 LOOP
        BEGIN
            DELETE FROM many WHERE id = n;
            IF n % 3 = 0 THEN
                RAISE division_by_zero;
            END IF;
        EXCEPTION WHEN division_by_zero THEN
            NULL;
        END;
    END LOOP;
END $$;
SELECT one_by_one();
SELECT count(*), count(DISTINCT keepsake_deletion) AS deletions, count(DISTINCT keepsake_seq) AS numbers, count(*) FILTER (WHERE id % 3 = 0) AS undone,
       count(*) FILTER (WHERE label IS DISTINCT FROM repeat('z', id % 100)) AS wrong FROM rows_deleted.many;
SELECT count(*) FROM many;

RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA rows, rows_deleted CASCADE;
