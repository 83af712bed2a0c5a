-- A restore of few rows reads few, however many there are, also where the table has no statistics: a new one, or one from a dump.
CREATE SCHEMA many;
SET search_path = many;
CREATE TABLE in_place (id int PRIMARY KEY, tenant text, slug text, state text) WITH (autovacuum_enabled = off);
SELECT keepsake.manage('in_place', keep => 'in place');
-- Of two conditions, and of a column of which many rows have one value, PostgreSQL knows nothing.
CREATE UNIQUE INDEX ON in_place (tenant, slug) WHERE deleted_at IS NULL AND state = 'open';
CREATE INDEX ON in_place (tenant) WHERE state = 'open';
CREATE TABLE parent (id int PRIMARY KEY) WITH (autovacuum_enabled = off);
CREATE TABLE apart (id int PRIMARY KEY, parent_id int REFERENCES parent ON DELETE CASCADE, tenant text, slug text, UNIQUE (tenant, slug))
    WITH (autovacuum_enabled = off);
CREATE INDEX ON apart (parent_id);
SELECT keepsake.manage('parent', keep => 'archive', cascade => true);

-- The plans are made while the tables are nearly empty, and kept.
INSERT INTO in_place VALUES (1, 'acme', 'first', 'open');
INSERT INTO parent VALUES (1), (2);
INSERT INTO apart VALUES (1, 1, 'acme', 'first');
DELETE FROM in_place WHERE id = 1;
DELETE FROM apart WHERE id = 1;
SELECT keepsake.restore(deletion_id) IS NOT NULL AS restored FROM in_place WHERE id = 1;
SELECT keepsake.restore_row('apart', '1') IS NOT NULL AS restored;

INSERT INTO in_place SELECT n, 'acme', 'slug ' || n, 'open' FROM generate_series(2, 3000) AS n;
INSERT INTO parent SELECT n FROM generate_series(3, 3000) AS n;
INSERT INTO apart SELECT n, n, 'acme', 'slug ' || n FROM generate_series(2, 3000) AS n;

-- How many rows of the tables the session has read; what it has not told the statistics yet counts.
CREATE FUNCTION rows_read() RETURNS bigint LANGUAGE sql AS $$
    SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_xact_user_tables
    WHERE schemaname IN ('many', 'many_deleted')
$$;

DELETE FROM in_place WHERE id = 7;
BEGIN;
SELECT rows_read() AS before \gset
SELECT keepsake.restore(deletion_id) IS NOT NULL AS restored FROM in_place WHERE id = 7;
SELECT CASE WHEN rows_read() - :before < 100 THEN 'few' ELSE rows_read() - :before || ' rows read' END AS read;
COMMIT;

DELETE FROM apart WHERE id = 7;
BEGIN;
SELECT rows_read() AS before \gset
SELECT keepsake.restore_row('apart', '7') IS NOT NULL AS restored;
SELECT CASE WHEN rows_read() - :before < 100 THEN 'few' ELSE rows_read() - :before || ' rows read' END AS read;
COMMIT;

DELETE FROM parent WHERE id = 8;
BEGIN;
SELECT rows_read() AS before \gset
SELECT keepsake.restore_row('parent', '8') IS NOT NULL AS restored;
SELECT CASE WHEN rows_read() - :before < 100 THEN 'few' ELSE rows_read() - :before || ' rows read' END AS read;
COMMIT;

-- With statistics, a cascade starts from the row that goes, and a restore from the one that comes back.
CREATE TABLE top (id int PRIMARY KEY);
CREATE TABLE middle (id int PRIMARY KEY, top_id int NOT NULL REFERENCES top ON DELETE CASCADE);
CREATE TABLE leaf (id int PRIMARY KEY, middle_id int NOT NULL REFERENCES middle ON DELETE CASCADE);
CREATE INDEX ON middle (top_id);
CREATE INDEX ON leaf (middle_id);
SELECT keepsake.manage(t, keep => 'in place') FROM unnest(ARRAY['top', 'middle', 'leaf']::regclass[]) AS t;
INSERT INTO top SELECT n FROM generate_series(1, 500) AS n;
INSERT INTO middle SELECT n, 1 + n % 500 FROM generate_series(1, 5000) AS n;
INSERT INTO leaf SELECT n, n FROM generate_series(1, 5000) AS n;
DELETE FROM top WHERE id <= 20;
VACUUM ANALYZE top, middle, leaf;
DELETE FROM top WHERE id = 30;
BEGIN;
SELECT rows_read() AS before \gset
DELETE FROM top WHERE id = 40;
SELECT CASE WHEN rows_read() - :before < 200 THEN 'few' ELSE rows_read() - :before || ' rows read' END AS read;
COMMIT;
DELETE FROM leaf WHERE id = 100;
BEGIN;
SELECT rows_read() AS before \gset
SELECT keepsake.restore(deletion_id) IS NOT NULL AS restored FROM leaf WHERE id = 100;
SELECT CASE WHEN rows_read() - :before < 200 THEN 'few' ELSE rows_read() - :before || ' rows read' END AS read;
COMMIT;

-- The first temporary table of a session has PostgreSQL plan anew. The tables are small then, and grow. The schema of temporary tables is there
-- already, as it is where sessions come and go.
CREATE TEMP TABLE scratch (id int);
\c -
CREATE TEMP TABLE scratch (id int);
\c -
SET search_path = many;
SET client_min_messages = warning;
CREATE TABLE folder (id int PRIMARY KEY) WITH (autovacuum_enabled = off);
CREATE TABLE page (id int PRIMARY KEY, folder_id int NOT NULL REFERENCES folder ON DELETE CASCADE) WITH (autovacuum_enabled = off);
CREATE INDEX ON page (folder_id);
SELECT keepsake.manage(t, keep => 'in place') FROM unnest(ARRAY['folder', 'page']::regclass[]) AS t;
INSERT INTO folder SELECT n FROM generate_series(1, 50) AS n;
INSERT INTO page SELECT n, n FROM generate_series(1, 50) AS n;
VACUUM ANALYZE folder, page;
DELETE FROM folder WHERE id = 2;
CREATE TEMP TABLE scratch (id int);
DELETE FROM folder WHERE id = 3;
INSERT INTO folder SELECT n FROM generate_series(51, 3000) AS n;
INSERT INTO page SELECT n, n FROM generate_series(51, 3000) AS n;
BEGIN;
SELECT rows_read() AS before \gset
DELETE FROM folder WHERE id = 5;
SELECT CASE WHEN rows_read() - :before < 100 THEN 'few' ELSE rows_read() - :before || ' rows read' END AS read;
COMMIT;

-- A conflict is found all the same.
DELETE FROM in_place WHERE id = 9;
INSERT INTO in_place VALUES (9001, 'acme', 'slug 9', 'open');
SELECT c.kind, c.key, c.holder FROM in_place AS i, keepsake.restore_conflicts(i.deletion_id) AS c WHERE i.id = 9;

RESET search_path;
DROP SCHEMA many CASCADE;
