-- INSERT … ON CONFLICT DO SELECT, which PostgreSQL 19 has: it answers with live rows alone.
SELECT current_setting('server_version_num')::int < 190000 AS older \gset
\if :older
\quit
\endif
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
CREATE SCHEMA select_19;
SET search_path = select_19;
CREATE TABLE t (id int PRIMARY KEY, v int);
SELECT keepsake.manage('t');
INSERT INTO t VALUES (1, 1), (2, 2);
DELETE FROM t WHERE id = 1;
INSERT INTO t VALUES (2, 9) ON CONFLICT (id) DO SELECT RETURNING id, v;
INSERT INTO t VALUES (1, 9) ON CONFLICT (id) DO SELECT RETURNING id, v;
INSERT INTO t VALUES (1, 1) ON CONFLICT (id) DO SELECT FOR UPDATE RETURNING id, v;
INSERT INTO t VALUES (1, 9) ON CONFLICT (id) DO SELECT WHERE false RETURNING id, v;
SELECT id, v, deleted_at IS NULL AS live FROM t ORDER BY id;
SELECT keepsake.hide_deleted('t', 'policy');
INSERT INTO t VALUES (1, 9) ON CONFLICT (id) DO SELECT RETURNING id, v;
SET client_min_messages = warning;
DROP SCHEMA select_19 CASCADE;
