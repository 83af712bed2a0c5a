-- Keys that are equal though their bytes differ; only where PostgreSQL is built with ICU.
SELECT NOT EXISTS (SELECT FROM pg_collation WHERE collprovider = 'i') AS without_icu \gset
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
DELETE FROM city WHERE id = 4;
SELECT keepsake.restore(id) - 'deletion_id' AS restored FROM keepsake.deletion WHERE root_table = 'country'::regclass AND deleted_at = now();
DELETE FROM country WHERE code = 'FR';
SELECT id, country, twin FROM city ORDER BY id;
SELECT keepsake.restore(id) - 'deletion_id' AS restored FROM keepsake.deletion
WHERE root_key = '{"code": "Fr"}' AND deleted_at = now();
SELECT id, country, twin FROM city ORDER BY id;
ROLLBACK;
DROP SCHEMA collations CASCADE;
