-- Tables are managed in databases in UTF-8 or without an encoding: in others, rows with other letters than ASCII could not be restored.
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
CREATE TABLE t (id text PRIMARY KEY, "stück" int);
CREATE TABLE child (id text PRIMARY KEY, "für" text REFERENCES t ON DELETE CASCADE);
CREATE TABLE u (id text PRIMARY KEY);
SELECT keepsake.manage('t', keep => 'archive', cascade => true);
SELECT keepsake.manage('u', keep => 'in place');
INSERT INTO t VALUES ('ä', 1), ('b', 2);
INSERT INTO child VALUES ('ß', 'ä');
INSERT INTO u VALUES ('ü');
DELETE FROM t;
DELETE FROM u;
SELECT count(*) FROM child;
SELECT keepsake.restore(id) IS NOT NULL FROM keepsake.deletion;
SELECT t.*, child.* FROM t LEFT JOIN child ON "für" = t.id ORDER BY 1;
SELECT id FROM u WHERE deleted_at IS NULL;
SELECT severity, finding FROM keepsake.doctor() WHERE check_name = 'database_encoding';
\c :home
DROP DATABASE regress_keepsake_latin;
DROP DATABASE regress_keepsake_ascii;
