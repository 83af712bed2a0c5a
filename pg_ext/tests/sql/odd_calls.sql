-- What nobody means, and somebody sends: odd statements, odd arguments. Each gets an answer or a plain refusal, never an
-- internal error (XX000), and the server stays up.
SELECT pg_postmaster_start_time() AS started \gset
SET client_min_messages = warning;
CREATE SCHEMA odd;
SET search_path = odd, public;
CREATE TABLE t (id int PRIMARY KEY, up int REFERENCES t ON DELETE CASCADE, note text);
CREATE TABLE n (k numeric PRIMARY KEY);
CREATE TABLE f (k float8 PRIMARY KEY);
CREATE TABLE a (k int[] PRIMARY KEY);
CREATE TABLE j (k jsonb PRIMARY KEY);
CREATE TABLE two (a int, b text, PRIMARY KEY (a, b));
CREATE TABLE parted (id int PRIMARY KEY, note text) PARTITION BY HASH (id);
CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE VIEW v AS SELECT id, note FROM t;
CREATE SEQUENCE seq;
CREATE TYPE composite AS (a int);
SELECT keepsake.manage(c::regclass) FROM unnest('{t,n,f,a,j,two,parted}'::text[]) AS c;
INSERT INTO t SELECT n, nullif(n - 1, 0), 'x' FROM generate_series(1, 30) n;
INSERT INTO n VALUES (1.00), (123456789012345678901234567890.5);
INSERT INTO f VALUES (1.7976931348623157e308), ('-0'), ('NaN');
INSERT INTO a VALUES ('{1,NULL}'), ('[0:1]={1,2}');
INSERT INTO j VALUES ('{"x": [1e400]}');
INSERT INTO two VALUES (1, 'x');
INSERT INTO parted SELECT n, 'x' FROM generate_series(1, 20) n;

CREATE TABLE outcome (statement text, state text, message text);
CREATE PROCEDURE try(statement text) LANGUAGE plpgsql AS $$
DECLARE state text := '00000'; message text;
BEGIN
    BEGIN
        EXECUTE statement;
        RAISE SQLSTATE 'UNDO1';
    EXCEPTION
        WHEN SQLSTATE 'UNDO1' THEN NULL;
        WHEN OTHERS THEN GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
    END;
    INSERT INTO odd.outcome VALUES (statement, state, message);
END $$;
CREATE VIEW deep AS SELECT repeat('[', 3000) || repeat(']', 3000) AS value;
CREATE VIEW arguments AS
-- Every function that takes a table and a key, with tables that are none and keys of every form.
SELECT format('SELECT keepsake.%s(%s, %s%s)', function, relation, key, rest) AS statement
FROM (VALUES ('soft_delete', ''), ('hold', ', ''why'''), ('plan_delete', '')) AS f (function, rest),
     unnest('{''t'',''n'',''f'',''a'',''two'',''parted'',''parted_0'',''v'',''seq'',''composite'',''t_pkey'',''pg_class'',''keepsake.deletion'',0::regclass,4294967295::regclass,NULL}'::text[]) AS relation,
     (SELECT unnest(ARRAY[$k$1$k$, $k$1::int2$k$, $k$1::int8$k$, $k$1.5$k$, $k$'1'$k$, $k$'x'$k$, $k$'[]'::jsonb$k$, $k$'null'::jsonb$k$, $k$'"1"'::jsonb$k$, $k$'1'::jsonb$k$, $k$'true'::jsonb$k$, $k$'{}'::jsonb$k$, $k$'{"id": {"id": 1}}'::jsonb$k$, $k$'{"id": null}'::jsonb$k$, $k$'{"k": 1e400}'::jsonb$k$, $k$'{"k": 123456789012345678901234567890.5}'::jsonb$k$, $k$'{"a": 1, "b": "x"}'::jsonb$k$, $k$'{"k": [1, null]}'::jsonb$k$, $k$ARRAY[1]$k$, $k$ROW(1)$k$, $k$now()$k$, $k$'NaN'::float8$k$, $k$NULL$k$, $k$NULL::int$k$, $k$''$k$])
      UNION ALL SELECT quote_literal(value) || '::jsonb' FROM deep UNION ALL SELECT format('%L::jsonb', '{"id": ' || value || '}') FROM deep) AS keys (key)
UNION ALL
SELECT format(call, quote_literal(value)) FROM deep, unnest('{"SELECT keepsake.presign(''GET'', ''https://x'', ''b'', ''k'', ''auto'', ''id'', ''secret'', now(), 60, %s::jsonb)","SELECT keepsake.check_upload(%s::jsonb)","SELECT keepsake.check_upload(''{}'', %s::jsonb)"}'::text[]) AS call
UNION ALL
SELECT unnest('{"SELECT keepsake.check_upload(''{\"n\": 1e400}'')","SELECT keepsake.check_upload(''null'', ''{\"a\": 1e400}'')",
    "SELECT keepsake.restore(''00000000-0000-0000-0000-000000000000'')","SELECT * FROM keepsake.restore_conflicts(''ffffffff-ffff-ffff-ffff-ffffffffffff'')","SELECT keepsake.release(-9223372036854775808)",
    "SELECT keepsake.purge_batch(-2147483648)","SELECT keepsake.purge_batch(2147483647, ''infinity'')","SELECT keepsake.purge_batch(1, ''-infinity'')","SELECT keepsake.lease_objects(2147483647, ''-178000000 years'')","SELECT keepsake.lease_objects(-1, ''178000000 years'')",
    "SELECT keepsake.set_deletion_retention(NULL, ''0'')","SELECT keepsake.purge_step(NULL, 1, NULL, true)","SELECT keepsake.purge_step(9999, NULL, NULL, true)","SELECT keepsake.purge_step(9999, 1, NULL, NULL)","SELECT keepsake.purge_step(9999, 1, NULL, true)","SELECT keepsake.manage(0::regclass)","SELECT keepsake.manage(''v'')","SELECT keepsake.unmanage(''seq'')","SELECT keepsake.manage(''t'', ''178000000 years'')","SELECT keepsake.deletion_of_statement(0)","SELECT keepsake.deletion_of_statement(''odd.t''::regclass)","UPDATE odd.t SET deletion_id = keepsake.deletion_of_statement(''odd.t''::regclass)","INSERT INTO odd.t VALUES (99, NULL, keepsake.deletion_of_statement(''odd.t''::regclass))"}'::text[]);
-- Statements that delete in odd ways.
CREATE VIEW statements AS SELECT unnest('{"EXPLAIN DELETE FROM odd.t","EXPLAIN (ANALYZE, TIMING OFF) DELETE FROM odd.t","EXPLAIN (ANALYZE) DELETE FROM odd.parted","DELETE FROM odd.v WHERE id = 3","DELETE FROM odd.t a USING odd.t b WHERE a.id = b.id","DELETE FROM ONLY odd.parted",
    "WITH d AS (DELETE FROM odd.t RETURNING *), e AS (DELETE FROM odd.parted RETURNING id) SELECT count(*) FROM d, e","WITH d AS (DELETE FROM odd.t WHERE id = 1 RETURNING *) DELETE FROM odd.t USING d WHERE t.id = d.id + 1","WITH d AS (DELETE FROM odd.t RETURNING *) INSERT INTO odd.two SELECT id, note || ''!'' FROM d",
    "DELETE FROM odd.t WHERE id = (SELECT max(id) FROM odd.t) RETURNING (SELECT count(*) FROM odd.t)","DELETE FROM odd.t WHERE ctid = ''(0,1)''","DELETE FROM odd.t WHERE tableoid = ''odd.t''::regclass AND xmin IS NOT NULL","DELETE FROM odd.parted WHERE parted IS NOT NULL",
    "DELETE FROM odd.t WHERE false","DELETE FROM odd.t WHERE id IN (SELECT generate_series(1, 5))","MERGE INTO odd.t USING (VALUES (1), (99)) AS s (k) ON id = k WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (k)","MERGE INTO odd.parted USING (VALUES (1), (99)) AS s (k) ON id = k WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN DO NOTHING",
    "CREATE TABLE odd.x AS WITH d AS (DELETE FROM odd.t RETURNING *) SELECT * FROM d","COPY (DELETE FROM odd.t RETURNING id) TO ''/dev/null''","UPDATE odd.t SET deleted_at = now(), deletion_id = NULL","UPDATE odd.t SET deleted_at = ''infinity''","UPDATE odd.parted SET deleted_at = now(), id = id + 100","UPDATE odd.t SET deleted_at = deleted_at",
    "SELECT odd.deletes()","SELECT odd.deletes_in_sql()","DO $x$ DECLARE c CURSOR FOR SELECT * FROM odd.t ORDER BY id FOR UPDATE; r record; BEGIN FOR r IN c LOOP DELETE FROM odd.t WHERE CURRENT OF c; END LOOP; END $x$","DO $x$ DECLARE c CURSOR FOR SELECT * FROM odd.parted FOR UPDATE; r record; BEGIN FOR r IN c LOOP DELETE FROM odd.parted WHERE CURRENT OF c; END LOOP; END $x$",
    "DO $x$ DECLARE r record; BEGIN FOR r IN DELETE FROM odd.parted RETURNING * LOOP EXIT; END LOOP; END $x$","DO $x$ BEGIN FOR i IN 1..9 LOOP DELETE FROM odd.t WHERE id = 30 - i; IF i = 7 THEN ALTER TABLE odd.t ADD COLUMN more int; END IF; END LOOP; END $x$",
    "DO $x$ BEGIN FOR i IN 1..9 LOOP DELETE FROM odd.parted WHERE id = i; IF i = 7 THEN ALTER TABLE odd.parted DROP COLUMN note; END IF; END LOOP; END $x$","DO $x$ BEGIN DELETE FROM odd.two; PERFORM keepsake.restore(id) FROM keepsake.deletion WHERE root_table = ''odd.two''::regclass; PERFORM keepsake.unmanage(''odd.two''); DELETE FROM odd.two; END $x$"}'::text[]) AS statement;
CREATE FUNCTION deletes() RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN DELETE FROM odd.t; GET DIAGNOSTICS n = ROW_COUNT; RETURN n; END $$;
CREATE FUNCTION deletes_in_sql() RETURNS SETOF int LANGUAGE sql AS $$ DELETE FROM odd.t RETURNING id $$;
DO $$
DECLARE s text;
BEGIN
    FOR s IN SELECT statement FROM odd.arguments UNION ALL SELECT statement FROM odd.statements LOOP
        CALL odd.try(s);
    END LOOP;
END $$;
SELECT count(*) > 1000 AS many FROM outcome;
SELECT left(statement, 100) AS statement, left(message, 100) AS message FROM outcome WHERE state LIKE 'XX%' ORDER BY 1 LIMIT 20;
SELECT left(statement, 100) AS statement, state, message FROM outcome WHERE statement IN (SELECT statement FROM statements) AND state NOT IN ('00000', '55000', '0A000', '42601') ORDER BY 1;

-- Cursors that outlive the statement, plans that are kept, and workers.
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT * FROM t ORDER BY id FOR UPDATE;
ROLLBACK;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT * FROM t ORDER BY id;
FETCH 1 FROM c;
DELETE FROM t WHERE id = 30;
FETCH LAST FROM c;
ROLLBACK;
PREPARE d (int) AS DELETE FROM t WHERE id = $1 RETURNING id;
BEGIN;
EXECUTE d (30); EXECUTE d (29); EXECUTE d (28); EXECUTE d (27); EXECUTE d (26); EXECUTE d (25);
ALTER TABLE t ADD COLUMN more int;
EXECUTE d (24);
ROLLBACK;
BEGIN;
SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0;
SELECT count(*) FROM t WHERE keepsake.shows_deleted(deletion_id) OR id > 0;
DELETE FROM t WHERE id IN (SELECT a.id FROM t a JOIN t b USING (id) WHERE a.id = 30);
SELECT count(*) FROM t WHERE deleted_at IS NULL;
ROLLBACK;

-- Strings as they were before SQL's standard, where a release knows them.
CREATE PROCEDURE strings(value text) LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('escape_string_warning', value, false), set_config('standard_conforming_strings', value, false); EXCEPTION WHEN OTHERS THEN NULL; END $$;
CREATE TABLE stringy (id text PRIMARY KEY); CREATE TABLE stringy_apart (id text PRIMARY KEY);
CALL strings('off');
SELECT keepsake.manage('stringy'), keepsake.manage('stringy_apart', keep => 'archive');
CREATE TABLE stringy_child (id int PRIMARY KEY, up text REFERENCES stringy);
INSERT INTO stringy VALUES (E'a\\b''c'), ('d'); INSERT INTO stringy_apart VALUES (E'a\\b''c'), ('d');
DELETE FROM stringy; ALTER TABLE stringy_apart ADD n int; DELETE FROM stringy_apart;
SELECT keepsake.restore(id) IS NOT NULL AS restored FROM keepsake.deletion WHERE root_table IN ('stringy'::regclass, 'stringy_apart'::regclass) ORDER BY id;
SELECT * FROM stringy_apart JOIN stringy USING (id) ORDER BY id;
SELECT count(*) >= 0 AS seen FROM keepsake.doctor();
SELECT keepsake.hold('stringy', E'a\\b''c', 'why') IS NOT NULL AS held;
UPDATE keepsake.hold SET released_at = now() WHERE reason = 'why';
CALL strings('on');

-- What is not given is not taken for done.
SELECT keepsake.declare_reference('t', 'kind', 'id', NULL, 't');
SELECT keepsake.purge_deletion(NULL);

-- Names that Keepsake's queries use for what they know of a row.
CREATE TABLE reserved (id int PRIMARY KEY, keepsake_seq int, keepsake_id int);
SELECT keepsake.manage('reserved');
SELECT keepsake.manage('reserved', keep => 'archive');
ALTER TABLE reserved RENAME keepsake_seq TO seq;
SELECT keepsake.manage('reserved', keep => 'archive');
ALTER TABLE reserved RENAME seq TO keepsake_deletion;
ALTER TABLE reserved ADD keepsake_ctid int;
ALTER TABLE reserved ADD keepsake_count int;

RESET search_path;
DELETE FROM keepsake.deletion WHERE root_table::text LIKE 'odd.%';
DROP SCHEMA odd CASCADE;
RESET client_min_messages;
SELECT pg_postmaster_start_time() = :'started' AS never_restarted;
