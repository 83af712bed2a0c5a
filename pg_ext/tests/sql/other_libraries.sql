-- Beside another library that watches statements, loaded before Keepsake's or after it, counts and rows stay right.
-- Where the server comes without it there is nothing to see: other_libraries_1.out.
SELECT count(*) = 0 AS absent FROM pg_config c, pg_ls_dir(c.setting) AS file WHERE c.name = 'PKGLIBDIR' AND file = 'auto_explain.so' \gset
\if :absent
\quit
\endif
SET client_min_messages = warning;
SELECT current_database() AS here \gset
CREATE SCHEMA beside;
SET search_path = beside;
CREATE TABLE author (id int PRIMARY KEY, name text);
CREATE TABLE book (id int PRIMARY KEY, author_id int REFERENCES author ON DELETE CASCADE);
SELECT keepsake.manage('author'), keepsake.manage('book');
INSERT INTO author VALUES (1, 'ada'), (2, 'bob'), (3, 'cyd');
INSERT INTO book SELECT n, (n + 1) / 2 FROM generate_series(1, 6) n;
DELETE FROM keepsake.deletion;
ALTER DATABASE :"here" SET session_preload_libraries = auto_explain, keepsake;
\c
SET search_path = beside;
SET client_min_messages = warning;
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_analyze = on;
SET auto_explain.log_nested_statements = on;
DELETE FROM author WHERE id = 1 RETURNING name;
\echo :ROW_COUNT
WITH gone AS (DELETE FROM author WHERE id = 2 RETURNING id) SELECT * FROM gone;
SELECT string_agg(id::text, ' ' ORDER BY id) AS books FROM book WHERE deleted_at IS NULL;
SELECT count(keepsake.restore(id)) AS restored FROM keepsake.deletion WHERE state = 'deleted';
ALTER DATABASE :"here" SET session_preload_libraries = keepsake, auto_explain;
\c
SET search_path = beside;
SET client_min_messages = warning;
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_analyze = on;
SET auto_explain.log_nested_statements = on;
DELETE FROM author WHERE id = 1 RETURNING name;
\echo :ROW_COUNT
WITH gone AS (DELETE FROM author WHERE id = 2 RETURNING id) SELECT * FROM gone;
SELECT string_agg(id::text, ' ' ORDER BY id) AS books FROM book WHERE deleted_at IS NULL;
SELECT count(keepsake.restore(id)) AS restored FROM keepsake.deletion WHERE state = 'deleted';
ALTER DATABASE :"here" RESET session_preload_libraries;
DROP SCHEMA beside CASCADE;
DELETE FROM keepsake.deletion;
