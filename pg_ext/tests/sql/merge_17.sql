-- MERGE with what PostgreSQL has from 17 on: through views, and with RETURNING.
SELECT current_setting('server_version_num')::int < 170000 AS older \gset
\if :older
\quit
\endif
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
CREATE SCHEMA merge_17;
SET search_path = merge_17;
CREATE TABLE t (id int PRIMARY KEY, v int);
SELECT keepsake.manage('t');
INSERT INTO t SELECT n, n FROM generate_series(1, 6) n;

\echo == A view WITH CHECK OPTION looks at rows that are left, not at those that are deleted.
CREATE VIEW live AS SELECT id, v FROM t WHERE deleted_at IS NULL WITH CHECK OPTION;
MERGE INTO live l USING (VALUES (1)) AS s (id) ON l.id = s.id WHEN MATCHED THEN DELETE;
MERGE INTO live l USING (VALUES (2), (3)) AS s (id) ON l.id = s.id WHEN MATCHED AND l.id = 2 THEN DELETE WHEN MATCHED THEN UPDATE SET v = 30;
SELECT id, v FROM live ORDER BY id;
CREATE VIEW small AS SELECT id, v FROM t WHERE v < 10 WITH CHECK OPTION;
\set VERBOSITY sqlstate
MERGE INTO small l USING (VALUES (4)) AS s (id) ON l.id = s.id WHEN MATCHED AND l.id = 5 THEN DELETE WHEN MATCHED THEN UPDATE SET v = 40;
\set VERBOSITY default
SELECT count(DISTINCT deletion_id), count(*) FROM t WHERE deleted_at IS NOT NULL;

\echo == An update of a row that was deleted before is no deletion.
MERGE INTO t USING (VALUES (1)) AS s (id) ON t.id = s.id WHEN MATCHED AND t.id > 1 THEN DELETE WHEN MATCHED THEN UPDATE SET v = 11
    RETURNING merge_action(), t.id, t.v;
MERGE INTO t USING (VALUES (4)) AS s (id) ON t.id = s.id WHEN MATCHED AND t.id = 5 THEN DELETE WHEN MATCHED THEN UPDATE SET v = 41
    RETURNING merge_action(), t.id, t.v;
MERGE INTO t USING (VALUES (5)) AS s (id) ON t.id = s.id WHEN MATCHED THEN DELETE RETURNING merge_action(), t.id, t.v, t.deleted_at;
SELECT id, v, deleted_at IS NULL AS live FROM t ORDER BY id;
\echo == Where no deleted row is met, one statement returns what it deletes and what it updates.
SELECT keepsake.hide_deleted('t', 'policy');
MERGE INTO t USING (VALUES (1), (4), (6)) AS s (id) ON t.id = s.id WHEN MATCHED AND t.id = 6 THEN DELETE WHEN MATCHED THEN UPDATE SET v = 42
    WHEN NOT MATCHED THEN DO NOTHING RETURNING merge_action(), t.id, t.v;

RESET search_path;
DELETE FROM keepsake.deletion WHERE root_table::text LIKE 'merge_17.%';
DROP SCHEMA merge_17 CASCADE;
RESET client_min_messages;
