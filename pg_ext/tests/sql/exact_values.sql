-- What SET NULL and SET DEFAULT let go of comes back as it was, whatever its type, to the last digit and blank.
SET client_min_messages = warning;
CREATE SCHEMA exact;
SET search_path = exact;
CREATE TYPE pair AS (a int, b text);
CREATE TYPE mood AS ENUM ('good', 'it''s "so"', 'bad,{}');
CREATE DOMAIN label AS text;
-- One table of each type that refers to another of the same, by a key of that type as well.
CREATE TABLE sample (type text, value text);
INSERT INTO sample VALUES
    ('numeric', '123456789012345678901234567890.123456789'), ('numeric', '13.00'), ('numeric', '1e-20'), ('numeric', 'NaN'), ('numeric(40,5)', '99999999999999999999999999.10000'),
    ('char(5)', 'ab'), ('bpchar', 'cd   '), ('"char"', 'z'), ('varchar(9)', 'x  '), ('text', E'line\nfeed\ttab "quote" ''single'' \\ back é 😀'), ('text', ''), ('label', ' l '),
    ('float8', '1.7976931348623157e308'), ('float8', '5e-324'), ('float8', '-0'), ('float8', 'Infinity'), ('float8', '0.1'), ('float4', '3.4028235e38'), ('float4', '1e-45'),
    ('int8', '9223372036854775807'), ('int8', '-9223372036854775808'), ('int2', '-32768'),
    ('int[]', '[0:2]={1,NULL,3}'), ('text[]', '{"a,b","{}",NULL,"NULL",""}'), ('numeric[]', '{1.00,2.0}'), ('int[]', '{{1,2},{3,4}}'),
    ('pair', '(1,"a,b")'), ('pair', '(,)'), ('mood', 'it''s "so"'), ('mood', 'bad,{}'),
    ('timestamptz', '2026-02-03 04:05:06.789012+05:30'), ('timestamptz', 'infinity'), ('timestamptz', '4713-01-01 00:00:00 BC'), ('timestamp', '0044-03-15 BC'), ('date', '5874897-12-31'), ('timetz', '23:59:60-12'),
    ('interval', '-1 year 2 mons -3 days 04:05:06.789'), ('bytea', '\x00ff5c'), ('uuid', '00000000-0000-0000-0000-00000000000f'), ('inet', '::1/64'), ('bit varying(9)', '00101'), ('money', '12.34'),
    ('oid', '4294967295'), ('bool', 't'), ('int4range', '[1,5)'), ('tid', '(7,8)'), ('pg_lsn', 'FF/FF'), ('name', 'pg "name"');
CREATE TABLE outcome (type text, value text, action text, let_go bool, same bool, state text);
CREATE PROCEDURE try(type text, value text, action text) LANGUAGE plpgsql AS $$
DECLARE before text; during text; after text; state text;
BEGIN
    BEGIN
        EXECUTE format('CREATE TABLE up (id int PRIMARY KEY, k %1$s UNIQUE); CREATE TABLE down (k %1$s PRIMARY KEY, r %1$s DEFAULT NULL REFERENCES up (k) ON DELETE %2$s)', type, action);
        EXECUTE format('INSERT INTO up VALUES (1, %1$L); INSERT INTO down VALUES (%1$L, %1$L)', value);
        PERFORM keepsake.manage('up');
        SELECT d::text INTO before FROM down d;
        -- A session that prints otherwise than the one that restores.
        SET LOCAL datestyle = 'German'; SET LOCAL intervalstyle = 'sql_standard'; SET LOCAL extra_float_digits = 0; SET LOCAL bytea_output = 'escape'; SET LOCAL timezone = 'Asia/Kolkata';
        DELETE FROM up;
        RESET datestyle; RESET intervalstyle; RESET extra_float_digits; RESET bytea_output; SET LOCAL timezone = 'UTC';
        SELECT CASE WHEN num_nulls(d.r) = 1 THEN 'let go' END INTO during FROM down d;
        PERFORM keepsake.restore(id) FROM keepsake.deletion d WHERE d.root_table = 'exact.up'::regclass;
        SELECT d::text INTO after FROM down d;
        RAISE SQLSTATE 'UNDO1';
    EXCEPTION
        WHEN SQLSTATE 'UNDO1' THEN NULL;
        WHEN OTHERS THEN state := SQLSTATE || ' ' || SQLERRM;
    END;
    INSERT INTO exact.outcome VALUES (type, value, action, during = 'let go', after = before, state);
END $$;
SET timezone = 'UTC';
DO $$
DECLARE s record; a text;
BEGIN
    FOR s IN SELECT * FROM exact.sample LOOP
        FOREACH a IN ARRAY ARRAY['SET NULL', 'SET DEFAULT'] LOOP
            CALL exact.try(s.type, s.value, a);
        END LOOP;
    END LOOP;
END $$;
RESET timezone;
SELECT count(*) > 90 AS many FROM outcome;
SELECT * FROM outcome WHERE (let_go AND same) IS NOT TRUE;

-- Many rows, in several parts; some given another value since, some gone, some waiting for another deletion.
CREATE TABLE up (id int PRIMARY KEY);
CREATE TABLE down (a int, b text, up_id int REFERENCES up ON DELETE SET NULL, other int REFERENCES up ON DELETE CASCADE, PRIMARY KEY (a, b));
SELECT keepsake.manage('up'), keepsake.manage('down');
INSERT INTO up VALUES (1), (2), (3);
INSERT INTO down SELECT n, 'b' || n, 1, CASE WHEN n % 10 = 0 THEN 2 END FROM generate_series(1, 2500) n;
SELECT keepsake.soft_delete('up', 1) AS deletion \gset
SELECT count(*) FILTER (WHERE up_id IS NULL) AS let_go FROM down;
SELECT count(*) AS parts, sum(cardinality(row_keys)) AS remembered FROM keepsake.detached WHERE deletion_id = :'deletion';
UPDATE down SET up_id = 3 WHERE a = 7;
ALTER TABLE down ADD COLUMN more text;
SELECT keepsake.restore(:'deletion') -> 'restored' AS restored;
SELECT up_id, count(*) FROM down GROUP BY up_id ORDER BY up_id;
SELECT count(*) AS remembered FROM keepsake.detached WHERE relation = 'down'::regclass;

RESET search_path;
DELETE FROM keepsake.deletion WHERE root_table::text LIKE 'exact.%';
DROP SCHEMA exact CASCADE;
RESET client_min_messages;
