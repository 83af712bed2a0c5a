-- RETURNING of old and new rows, which PostgreSQL 18 has: after a DELETE there is no new one.
SELECT current_setting('server_version_num')::int < 180000 AS older \gset
\if :older
\quit
\endif
\pset format unaligned
\pset tuples_only on
\pset null ~
SET client_min_messages = warning;
CREATE SCHEMA returning_18;
SET search_path = returning_18;
CREATE TABLE t (id int PRIMARY KEY, v int);
SELECT keepsake.manage('t');
INSERT INTO t SELECT n, n FROM generate_series(1, 6) n;
DELETE FROM t WHERE id = 1 RETURNING old.id, new.id, old IS NULL, new IS NULL, id;
\echo == Through a view, whose columns may be expressions.
CREATE VIEW shown AS SELECT id, v, v + 1 AS next, 'x' AS fixed FROM t WHERE deleted_at IS NULL;
DELETE FROM shown WHERE id = 2 RETURNING old, new, old.next, new.next, old.fixed, new.fixed, shown;
MERGE INTO shown USING (VALUES (3), (4)) AS s (id) ON shown.id = s.id WHEN MATCHED AND shown.id = 3 THEN DELETE WHEN MATCHED THEN UPDATE SET v = 40
    RETURNING merge_action(), old, new, old.fixed, new.fixed;
DELETE FROM shown WHERE id = 5 RETURNING WITH (OLD AS o, NEW AS n) coalesce(n.fixed, 'none'), (SELECT o.next), (SELECT n.next);

RESET search_path;
DELETE FROM keepsake.deletion WHERE root_table::text LIKE 'returning_18.%';
DROP SCHEMA returning_18 CASCADE;
RESET client_min_messages;
