-- A row is known by the very value of its key, whatever the type: it is found, held, purged and brought back as itself, and nothing else in its place.
SET client_min_messages = warning;
CREATE SCHEMA typed;
SET search_path = typed, public;
-- Where they are installed.
DO $$ DECLARE e name; BEGIN
    FOR e IN SELECT name FROM pg_available_extensions WHERE name IN ('citext', 'hstore', 'ltree', 'isn', 'cube', 'seg') LOOP EXECUTE format('CREATE EXTENSION %I', e); END LOOP;
END $$;
CREATE TYPE pair AS (a int, b text);
CREATE TYPE nested AS (p pair, m numeric[]);
CREATE TYPE mood AS ENUM ('good', 'it''s "so"', 'bad,{}');
CREATE DOMAIN label AS text;
CREATE DOMAIN money_like AS numeric(38, 10) CHECK (value > 0);
CREATE DOMAIN doc AS jsonb;
CREATE DOMAIN moods AS mood[];
DO $$ BEGIN CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false); EXCEPTION WHEN feature_not_supported THEN NULL; END $$;
-- Each type with two keys that are alike in print, in part or as numbers of a computer.
CREATE TABLE sample (n int GENERATED ALWAYS AS IDENTITY, type text, one text, other text);
INSERT INTO sample (type, one, other) VALUES
    ('int2', '1', '-1'), ('int4', '2147483647', '-2147483648'), ('int8', '9223372036854775807', '9223372036854775806'), ('oid', '4294967295', '0'), ('oid8', '1', '2'),
    ('numeric', '100000000000000000000000000001', '100000000000000000000000000002'), ('numeric', '0.1', '0.10000000000000000000000001'),
    ('numeric', 'NaN', '13.00'), ('numeric(40,5)', '99999999999999999999999999.10000', '99999999999999999999999999.1001'), ('money_like', '0.0000000001', '0.0000000002'),
    ('float4', '3.4028235e38', '3.4028233e38'), ('float4', 'NaN', 'Infinity'), ('float8', '0.1', '0.10000000000000002'), ('float8', '5e-324', '0'), ('float8', '1.7976931348623157e308', '-Infinity'), ('money', '12.34', '12.35'),
    ('char(3)', 'a', 'abc'), ('char(5)', 'xyz', 'xyz w'), ('bpchar', 'a', 'ab'), ('"char"', 'a', 'b'), ('name', 'a b', 'a'), ('varchar(3)', 'a', 'abc'), ('varchar', 'a ', 'a'), ('text', '', ' '),
    ('text', E'line\nfeed\t"quote" ''single'' \\ é 😀', E'line\nfeed'), ('text', 'null', 'true'), ('text', '1', '01'), ('text COLLATE "C"', 'b', 'B'), ('text COLLATE blind', 'b', 'a'), ('label', ' l ', 'l'), ('citext', 'Ab', 'ac'),
    ('bytea', '\x00ff5c', '\x00ff'), ('bit(3)', '100', '101'), ('bit(1)', '1', '0'), ('varbit', '1', '10'), ('varbit(9)', '00101', '001010'), ('bool', 't', 'f'), ('uuid', '00000000-0000-0000-0000-00000000000f', '00000000-0000-0000-0000-00000000001f'),
    ('date', '5874897-12-31', 'infinity'), ('date', '0044-03-15 BC', '0044-03-15'), ('time', '24:00:00', '00:00:00'), ('timetz', '23:59:60-12', '12:00:00+12'), ('timestamp', '2026-02-03 04:05:06.789012', '2026-02-03 04:05:06.789'),
    ('timestamptz', '2026-02-03 04:05:06.789012+05:30', '2026-02-03 04:05:06.789+05:30'), ('timestamptz', '4713-01-01 00:00:00+00 BC', 'infinity'), ('interval', '-1 year 2 mons -3 days 04:05:06.789', '1 mon'),
    ('inet', '::1/64', '::1'), ('cidr', '10.0.0.0/8', '10.0.0.0/16'), ('macaddr', '08:00:2b:01:02:03', '08:00:2b:01:02:04'), ('macaddr8', '08:00:2b:01:02:03:04:05', '08:00:2b:01:02:03:04:06'),
    ('tid', '(0,1)', '(1,0)'), ('pg_lsn', 'FF/FF', '0/FF'), ('xid8', '18446744073709551615', '1'), ('oidvector', '1 2', '1 2 3'), ('tsvector', '''a'':1A ''b''', '''a'':1'), ('tsquery', '''a'' & ''b''', '''a'' | ''b'''),
    ('jsonb', '"x"', '"y"'), ('jsonb', '{"k": 1}', '{"k": 1.0000000000000000000000001}'), ('jsonb', '{"k": {"k": null}}', '{}'), ('jsonb', 'null', '[]'), ('jsonb', '12345678901234567890.10', '"12345678901234567890.10"'), ('doc', '"x"', '{"a": ["b"]}'),
    ('int4range', '[1,5)', '[1,6)'), ('numrange', '[1.00,2.0)', '[1.001,2.0)'), ('tstzrange', '["2026-02-03 04:05:06+00",infinity)', 'empty'), ('int8multirange', '{[1,2),[5,9)}', '{}'),
    ('int[]', '[0:2]={1,NULL,3}', '{1,NULL,3}'), ('text[]', '{a,b}', '{"a,b"}'), ('text[]', '{"a,b","{}",NULL,"NULL",""}', '{}'), ('numeric[]', '{1.00,100000000000000000000000000001}', '{1.00,100000000000000000000000000002}'), ('int[]', '{{1,2},{3,4}}', '{1,2,3,4}'),
    ('jsonb[]', '{"\"x\"",null}', '{"{\"a\": 1}"}'), ('bpchar[]', '{a,"b  "}', '{ab}'),
    ('pair', '(1,"a,b")', '(1,a)'), ('pair', '(,)', '(0,)'), ('nested', '("(1,""a"")","{1.00,2}")', '("(1,""a"")","{1.01,2}")'),
    ('mood', 'it''s "so"', 'good'), ('mood[]', '{"bad,{}",good}', '{good}'), ('moods', '{good,good}', '{good}'),
    ('hstore', '"a"=>"1", "b"=>NULL', '"a"=>"1"'), ('ltree', 'a.b', 'a'), ('isbn13', '978-0-393-04002-9', '978-0-11-000222-4'), ('cube', '(1, 2),(3, 4)', '(1, 2)'), ('seg', '1.0 .. 2', '1.00');
CREATE TABLE outcome (n int, step text, was text);
CREATE FUNCTION note(n int, step text, ok bool) RETURNS void LANGUAGE sql AS $$
    INSERT INTO typed.outcome SELECT n, step, 'no' WHERE ok IS NOT TRUE
$$;
-- One row is held and comes back, the other goes for good. Then the first is deleted by its text, by its value and as jsonb.
CREATE PROCEDURE try(s sample) LANGUAGE plpgsql AS $$
DECLARE d uuid; h bigint; found bool; problem text;
BEGIN
    BEGIN
        EXECUTE format('CREATE TABLE t (k %1$s PRIMARY KEY, one bool)', s.type);
        PERFORM keepsake.manage('t', '0');
        EXECUTE format('INSERT INTO t (k, one) VALUES (%L, true), (%L, false)', s.one, s.other);
        h := keepsake.hold('t', s.one, 'held');
        -- A session that prints otherwise.
        SET LOCAL datestyle = 'German'; SET LOCAL intervalstyle = 'sql_standard'; SET LOCAL extra_float_digits = 0; SET LOCAL bytea_output = 'escape'; SET LOCAL timezone = 'Asia/Kolkata';
        IF s.type !~ 'date|time|interval' THEN PERFORM typed.note(s.n, 'held once', keepsake.hold('t', s.one, 'again') = h); END IF;
        DELETE FROM t WHERE one;
        DELETE FROM t WHERE NOT one;
        RESET datestyle; RESET intervalstyle; RESET extra_float_digits; RESET bytea_output; RESET timezone;
        PERFORM keepsake.purge_batch();
        PERFORM typed.note(s.n, 'the held row stays, the other goes', (SELECT array_agg(t.one) = '{t}' FROM t));
        SELECT keepsake.restore(deletion_id) IS NOT NULL INTO found FROM t;
        PERFORM typed.note(s.n, 'restored', found AND (SELECT count(*) = 1 FROM t WHERE deleted_at IS NULL));
        PERFORM keepsake.release(h);
        EXECUTE format('INSERT INTO t (k, one) VALUES (%L, false)', s.other);
        d := keepsake.soft_delete('t', s.one);
        PERFORM typed.note(s.n, 'found by its text', (SELECT array_agg(t.one) = '{t}' FROM t WHERE deletion_id = d));
        PERFORM keepsake.restore(d);
        IF s.type = '"char"' THEN SELECT keepsake.soft_delete('t', k::text) FROM t WHERE one INTO d; ELSE SELECT keepsake.soft_delete('t', k) FROM t WHERE one INTO d; END IF;
        PERFORM typed.note(s.n, 'found by its value', (SELECT array_agg(t.one) = '{t}' FROM t WHERE deletion_id = d));
        PERFORM keepsake.restore(d);
        SELECT keepsake.soft_delete('t', jsonb_build_object('k', to_jsonb(k))) INTO d FROM t WHERE one AND s.type NOT IN ('"char"', 'pair', 'nested', 'hstore') AND s.one !~ 'BC';
        PERFORM typed.note(s.n, 'found as jsonb', d IS NULL OR (SELECT array_agg(t.one) = '{t}' FROM t WHERE deletion_id = d));
        RAISE SQLSTATE 'UNDO1';
    EXCEPTION
        WHEN SQLSTATE 'UNDO1' THEN NULL;
        WHEN OTHERS THEN problem := SQLSTATE || ' ' || SQLERRM;
    END;
    IF problem IS NOT NULL THEN INSERT INTO typed.outcome VALUES (s.n, problem, s.type); END IF;
END $$;
SET timezone = 'UTC';
DO $$ DECLARE s typed.sample; BEGIN FOR s IN SELECT * FROM typed.sample WHERE to_regtype(regexp_replace(type, ' COLLATE.*| *\(.*', '')) IS NOT NULL AND (type !~ 'blind' OR to_regcollation('blind') IS NOT NULL) LOOP CALL typed.try(s); END LOOP; END $$;
RESET timezone;
SELECT count(*) > 80 AS many, count(DISTINCT regexp_replace(type, '\(.*| COLLATE.*', '')) >= 55 AS types FROM sample;
SELECT s.type, s.one, o.step, o.was FROM outcome o JOIN sample s USING (n) ORDER BY s.n, o.step;

-- A key of several columns.
CREATE TABLE several (a char(2), b numeric, c mood, d jsonb, PRIMARY KEY (a, b, c, d));
SELECT keepsake.manage('several', '0');
INSERT INTO several VALUES ('x', 1.10, 'good', '"x"'), ('x', 1.1000001, 'good', '"x"'), ('xy', 1.10, 'good', '"x"');
SELECT keepsake.hold('several', '{"a": "x", "b": 1.1, "c": "good", "d": "x"}'::jsonb, 'one of them') IS NOT NULL AS held;
SELECT row_key FROM keepsake.hold WHERE relation = 'several'::regclass;
DELETE FROM several;
SELECT keepsake.purge_batch() -> 'rows' AS none, (SELECT count(*) FROM several) AS kept;
SELECT jsonb_array_length(keepsake.restore(deletion_id) -> 'restored') FROM several LIMIT 1;
DELETE FROM several WHERE b > 1.1;
DELETE FROM several WHERE a = 'xy';
DELETE FROM several WHERE a = 'x';
SELECT keepsake.purge_batch() -> 'rows' AS gone, (SELECT array_agg(s::text) FROM several s) IS NOT NULL AS kept;
SELECT a, b, c, d FROM several;
DROP TABLE several;

RESET search_path;
DELETE FROM keepsake.deletion WHERE root_table::text !~ '^[a-z.]+$' OR root_table::text LIKE 'typed.%';
DROP SCHEMA typed CASCADE;
RESET client_min_messages;
