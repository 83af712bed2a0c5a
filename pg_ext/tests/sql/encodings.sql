-- Tables are managed in databases in UTF-8 alone: in others, rows with other letters than ASCII could not be restored.
\set home :DBNAME
\pset tuples_only on
\set VERBOSITY terse
CREATE DATABASE regress_keepsake_latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;
\c regress_keepsake_latin
CREATE EXTENSION keepsake;
CREATE TABLE t (id text PRIMARY KEY);
\set VERBOSITY default
SELECT keepsake.manage('t');
\set VERBOSITY terse
SELECT keepsake.manage('t', keep => 'archive');
SELECT keepsake.manage_schema('public');
SELECT count(*) FROM keepsake.managed_table;
SELECT count(*) FROM keepsake.whole_schema;
SELECT check_name FROM keepsake.doctor() WHERE severity = 'error';
-- Loaded from elsewhere.
INSERT INTO keepsake.managed_table (relation, retention) VALUES ('t', '30 days');
SELECT finding FROM keepsake.doctor() WHERE check_name = 'database_encoding';
\c :home
CREATE DATABASE regress_keepsake_ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;
\c regress_keepsake_ascii
CREATE EXTENSION keepsake;
CREATE TABLE t (id text PRIMARY KEY);
SELECT keepsake.manage('t');
SELECT keepsake.manage('t', keep => 'archive');
SELECT keepsake.manage_schema('public');
\c :home
DROP DATABASE regress_keepsake_latin;
DROP DATABASE regress_keepsake_ascii;
