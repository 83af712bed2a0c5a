-- Keys that are equal though their bytes differ; only where PostgreSQL is built with ICU.
SELECT count(*) < 10 AS without_icu FROM pg_collation WHERE collprovider = 'i' \gset
\if :without_icu
\quit
\endif
SET client_min_messages = warning;
CREATE SCHEMA collations;
SET search_path = collations;
CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE DOMAIN code AS text COLLATE any_case CHECK (value <> '');
CREATE TABLE country (code code PRIMARY KEY);
CREATE TABLE city (id int PRIMARY KEY, country text COLLATE any_case REFERENCES country ON DELETE CASCADE,
                   twin text COLLATE any_case REFERENCES country ON DELETE SET NULL, name text COLLATE any_case);
CREATE INDEX ON city (country);
SELECT keepsake.manage('country'), keepsake.manage('city');
CREATE UNIQUE INDEX city_name ON city (name) WHERE deleted_at IS NULL;
INSERT INTO country VALUES ('De'), ('Fr');
INSERT INTO city VALUES (1, 'DE', 'fR', 'Berlin'), (2, 'de', NULL, 'Bonn');
BEGIN;
DELETE FROM country WHERE code = 'dE' RETURNING code;
SELECT id, country, deleted_at IS NULL AS live FROM city ORDER BY id;
SAVEPOINT s;
INSERT INTO city VALUES (3, 'DE', NULL, 'Kiel');
ROLLBACK TO s;
INSERT INTO city VALUES (4, 'FR', NULL, 'BERLIN');
SELECT kind, key, constraint_name, key_values, holder
FROM keepsake.deletion d, keepsake.restore_conflicts(d.id) WHERE d.deleted_at = now();
SELECT keepsake.soft_delete('city', 4) IS NOT NULL AS done;
SELECT keepsake.restore(id) - 'deletion_id' AS restored FROM keepsake.deletion WHERE root_table = 'country'::regclass AND deleted_at = now();
DELETE FROM country WHERE code = 'FR';
SELECT id, country, twin FROM city ORDER BY id;
SELECT keepsake.restore(id) - 'deletion_id' AS restored FROM keepsake.deletion
WHERE root_key = '{"code": "Fr"}' AND deleted_at = now();
SELECT id, country, twin FROM city ORDER BY id;
ROLLBACK;
-- Whether a parent is deleted is asked by the collation of its column, also where an index of another one came first.
CREATE TABLE colour (name text COLLATE any_case NOT NULL);
CREATE UNIQUE INDEX by_bytes ON colour (name COLLATE "C");
ALTER TABLE colour ADD PRIMARY KEY (name);
CREATE TABLE car (id int PRIMARY KEY, colour text COLLATE any_case REFERENCES colour);
SELECT keepsake.manage('colour'), keepsake.manage('car');
INSERT INTO colour VALUES ('Red'), ('Blue');
DELETE FROM colour WHERE name = 'red';
\set VERBOSITY sqlstate
INSERT INTO car VALUES (1, 'RED');
INSERT INTO car VALUES (2, 'BLUE');
\set VERBOSITY default
SELECT id, colour FROM car;
DELETE FROM keepsake.deletion WHERE root_table = 'colour'::regclass;
DROP SCHEMA collations CASCADE;
RESET search_path;

-- Equal is what the index says: its collation and operator class; columns it only includes do not count, nor rows
-- that its other conditions leave out, nor an index that is not valid.
BEGIN;
CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE account (id int PRIMARY KEY, email text COLLATE loose, code text, note text, active boolean NOT NULL DEFAULT true);
SELECT keepsake.manage('account');
CREATE UNIQUE INDEX account_email ON account (email) INCLUDE (note) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX account_code ON account (code text_pattern_ops) WHERE deleted_at IS NULL AND active;
INSERT INTO account VALUES (1, 'Ada', 'x', 'one'), (2, 'bob', 'y', 'two');
SELECT keepsake.soft_delete('account', 1) AS a \gset
SELECT keepsake.soft_delete('account', 2) AS b \gset
INSERT INTO account VALUES (3, 'aDA', 'X', 'three', true), (4, 'carl', 'y', 'four', false);
SELECT constraint_name, key_values, holder FROM keepsake.restore_conflicts(:'a');
SELECT constraint_name, key_values, holder FROM keepsake.restore_conflicts(:'b');
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'account_email'::regclass;
SELECT count(*) AS of_an_invalid_index FROM keepsake.restore_conflicts(:'a');
ROLLBACK;

-- Keys of every kind, and a foreign key of another type than the key it points to.
BEGIN;
CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE DOMAIN code AS text CHECK (VALUE <> '');
CREATE TYPE grade AS ENUM ('low', 'high');
CREATE TABLE by_loose (id text COLLATE loose PRIMARY KEY);
CREATE TABLE by_code (id code PRIMARY KEY);
CREATE TABLE by_grade (id grade PRIMARY KEY);
CREATE TABLE by_int (id int PRIMARY KEY);
CREATE TABLE by_small (id smallint PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY, l text COLLATE loose REFERENCES by_loose ON DELETE CASCADE,
                    c code REFERENCES by_code ON DELETE CASCADE, g grade REFERENCES by_grade ON DELETE CASCADE,
                    i bigint REFERENCES by_int ON DELETE CASCADE, s int REFERENCES by_small ON DELETE CASCADE);
SELECT keepsake.manage('by_loose'), keepsake.manage('by_code'), keepsake.manage('by_grade'), keepsake.manage('by_int'),
       keepsake.manage('by_small'), keepsake.manage('child');
INSERT INTO by_loose VALUES ('Ada');
INSERT INTO by_code VALUES ('x''y');
INSERT INTO by_grade VALUES ('high');
INSERT INTO by_int VALUES (1);
INSERT INTO by_small VALUES (1);
INSERT INTO child VALUES (1, 'aDA', NULL, NULL, NULL, NULL), (2, NULL, 'x''y', NULL, NULL, NULL),
    (3, NULL, NULL, 'high', NULL, NULL), (4, NULL, NULL, NULL, 1, NULL), (5, NULL, NULL, NULL, NULL, 1);
SELECT keepsake.soft_delete('by_loose', 'ADA') AS l, keepsake.soft_delete('by_code', 'x''y') AS c,
       keepsake.soft_delete('by_grade', 'high') AS g, keepsake.soft_delete('by_int', 1) AS i, keepsake.soft_delete('by_small', 1) AS s \gset
SELECT count(*) AS live FROM child WHERE deleted_at IS NULL;
SAVEPOINT t;
INSERT INTO child VALUES (6, 'ada');
ROLLBACK TO t;
INSERT INTO child VALUES (6, NULL, NULL, NULL, 1);
ROLLBACK TO t;
SELECT keepsake.restore(id) -> 'passed' AS passed FROM unnest(ARRAY[:'l', :'c', :'g', :'i', :'s']::uuid[]) AS id;
SELECT count(*) AS live FROM child WHERE deleted_at IS NULL;
ROLLBACK;

-- A held row keeps its key; keys are compared in their own type.
BEGIN;
CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE tag (name text COLLATE caseless PRIMARY KEY);
INSERT INTO tag VALUES ('Red'), ('Blue');
SELECT keepsake.manage('tag', '0');
SELECT keepsake.hold('tag', 'RED', 'case 10') AS h \gset
SELECT row_key FROM keepsake.hold;
SAVEPOINT s;
UPDATE tag SET name = 'Green' WHERE name = 'red';
ROLLBACK TO s;
UPDATE tag SET name = 'Green' WHERE name = 'blue';
SELECT count(keepsake.soft_delete('tag', name)) FROM tag;
SELECT keepsake.purge_batch() -> 'rows' AS gone;
SELECT name FROM tag;
ROLLBACK;

-- Which table a declared reference means is compared by the column's collation, also where several tables may be meant.
BEGIN;
CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE story (id int PRIMARY KEY);
CREATE TABLE sheet (id int PRIMARY KEY);
CREATE TABLE comment_on (id int PRIMARY KEY, on_type text COLLATE loose, on_id int);
SELECT keepsake.manage('story'), keepsake.manage('sheet'), keepsake.manage('comment_on');
SELECT keepsake.declare_reference('comment_on', 'on_type', 'on_id', 'story', 'story'),
       keepsake.declare_reference('comment_on', 'on_type', 'on_id', 'sheet', 'sheet');
INSERT INTO story VALUES (1), (2);
INSERT INTO sheet VALUES (1);
INSERT INTO comment_on VALUES (1, 'STORY', 1), (2, 'Sheet', 1), (3, 'Story', 2), (4, 'elsewhere', 7), (5, NULL, 7);
SELECT keepsake.soft_delete('story', 2) IS NOT NULL AS deleted;
SELECT id FROM comment_on WHERE deleted_at IS NOT NULL;
SAVEPOINT s;
INSERT INTO comment_on VALUES (6, 'Sheet', 1), (7, 'STORY', 2);
ROLLBACK TO s;
-- A statement of one row is no other.
INSERT INTO comment_on VALUES (7, 'STORY', 2);
ROLLBACK TO s;
INSERT INTO comment_on VALUES (6, 'SHEET', 1);
INSERT INTO comment_on VALUES (8, 'Sheet', 1), (7, 'SHEET', 9);
ROLLBACK;
