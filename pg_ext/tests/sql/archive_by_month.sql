-- Archives that are divided by month: rows go to the table of their month, are read and restored through the archive, and are purged a month at once.
CREATE SCHEMA monthly;
SET search_path = monthly;
-- Not across the turn of a month.
SELECT pg_sleep(CASE WHEN turn.comes_in < 60 THEN turn.comes_in + 1 ELSE 0 END)
    FROM (SELECT extract(epoch FROM date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month' - now() AT TIME ZONE 'UTC') AS comes_in) AS turn;
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TABLE post (id int PRIMARY KEY, old text, title text, feeling mood);
CREATE TABLE comment (id int PRIMARY KEY, post_id int REFERENCES post ON DELETE CASCADE, other_id int REFERENCES post ON DELETE CASCADE);
SELECT keepsake.archive_by_month('post');
SELECT keepsake.manage('post', '0', keep => 'archive', cascade => true);
SELECT keepsake.archive_by_month('post'), keepsake.archive_by_month('comment');
-- Where a row is: in the archive itself, or in a month table, which is called by its number from this month.
CREATE FUNCTION place(oid) RETURNS text LANGUAGE sql AS $$
SELECT coalesce((SELECT 'month +' || (extract(year FROM age(m.month, date_trunc('month', now() AT TIME ZONE 'UTC'))) * 12 + extract(month FROM age(m.month, date_trunc('month', now() AT TIME ZONE 'UTC'))))
                 FROM keepsake.archive_month m WHERE m.month_table = $1), 'itself')
$$;
CREATE VIEW months AS SELECT m.archive, place(m.month_table), c.relname = (SELECT a.relname FROM pg_class a WHERE a.oid = m.archive) || to_char(m.month, ' YYYY-MM') AS named_so,
        pg_get_userbyid(c.relowner), c.relacl, (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = m.month_table AND a.attnum > 3 AND NOT a.attisdropped AND coalesce(a.attstattarget, -1) <> 0) AS analysed,
        (SELECT count(*) FROM pg_index x WHERE x.indrelid = m.month_table) AS indexes
    FROM keepsake.archive_month m JOIN pg_class c ON c.oid = m.month_table ORDER BY 1, 2;
CREATE VIEW archived AS SELECT place(tableoid), keepsake_seq, id, title FROM monthly_deleted.post ORDER BY keepsake_deletion, keepsake_seq;
CREATE VIEW states AS SELECT d.root_key, d.state, (SELECT string_agg(format('%s %s/%s', t.relation, t.purged, t.row_count), ', ' ORDER BY t.relation::text) FROM keepsake.deletion_table t WHERE t.deletion_id = d.id) AS purged
    FROM keepsake.deletion d WHERE d.root_table IN ('post'::regclass, 'comment'::regclass) ORDER BY d.id;
CREATE FUNCTION last_deletion() RETURNS uuid LANGUAGE sql AS $$ SELECT id FROM keepsake.deletion ORDER BY id DESC LIMIT 1 $$;
SELECT * FROM months;
-- Again, it changes nothing.
SELECT keepsake.archive_by_month('post');
SELECT count(*) FROM months;

-- For the owner of the table alone.
CREATE ROLE keepsake_test_monthly; GRANT USAGE ON SCHEMA monthly TO keepsake_test_monthly; GRANT SELECT ON post TO keepsake_test_monthly;
SET ROLE keepsake_test_monthly; SELECT keepsake.archive_by_month('monthly.post', false); SELECT count(*) FROM monthly_deleted.post;
RESET ROLE;
-- Who may read the archive reads all of it, and no month table.
GRANT SELECT ON monthly_deleted.post TO keepsake_test_monthly;
SET ROLE keepsake_test_monthly; SELECT count(*) FROM monthly_deleted.post;
SELECT format('SELECT count(*) FROM %s', month_table) AS of_month FROM keepsake.archive_month WHERE archive = 'monthly_deleted.post'::regclass ORDER BY month LIMIT 1 \gset
\set VERBOSITY sqlstate
:of_month;
\set VERBOSITY default
RESET ROLE;
REVOKE ALL ON monthly_deleted.post FROM keepsake_test_monthly;

INSERT INTO post SELECT n, 'old', 'post ' || n, 'glad' FROM generate_series(1, 20) n;
INSERT INTO comment SELECT n, (n + 2) / 3, CASE WHEN n = 4 THEN 20 END FROM generate_series(1, 60) n;
DELETE FROM post WHERE id = 1; DELETE FROM post WHERE id IN (2, 3);
SELECT * FROM archived;
SELECT place(tableoid), count(*) FROM monthly_deleted.comment GROUP BY 1;
SELECT (d.deleted).id, (d.deleted).title, (d.deleted).feeling FROM keepsake.deleted_rows(NULL::post) AS d ORDER BY 1;

-- Restored from there, as a whole or by row; nothing else notices.
SELECT keepsake.restore(last_deletion()) -> 'restored' AS restored;
SELECT keepsake.restore_row('post', 1) -> 'restored' AS restored;
SELECT count(*), min(title), max(feeling) FROM post;
SELECT * FROM archived;

-- A row that is passed on to another deletion stays where it is.
DELETE FROM post WHERE id = 2; DELETE FROM post WHERE id = 20;
SELECT jsonb_array_length(keepsake.restore(id) -> 'passed') AS passed FROM keepsake.deletion WHERE root_table = 'post'::regclass AND root_key = '{"id": 2}' AND state = 'deleted';
SELECT place(tableoid), id, keepsake_deletion = last_deletion() AS of_the_last FROM monthly_deleted.comment ORDER BY id;
SELECT keepsake.restore(last_deletion()) -> 'restored' AS restored;
SELECT count(*) FROM comment;

-- The columns follow those of the table. A month table that is made after one was dropped has other numbers.
ALTER TABLE post DROP COLUMN old; ALTER TABLE post ADD COLUMN extra int DEFAULT 7; ALTER TABLE post RENAME title TO headline;
DELETE FROM post WHERE id = 5;
CREATE OR REPLACE VIEW archived AS SELECT place(tableoid), keepsake_seq, id, headline AS title FROM monthly_deleted.post ORDER BY keepsake_deletion, keepsake_seq;
SELECT keepsake.restore(last_deletion()) -> 'restored' AS restored;
SELECT format('DROP TABLE %s', month_table) AS drop_month FROM keepsake.archive_month WHERE archive = 'monthly_deleted.post'::regclass ORDER BY month LIMIT 1 \gset
:drop_month;
DELETE FROM post WHERE id = 6;
SELECT * FROM archived;
SELECT check_name, object FROM keepsake.doctor() WHERE object ~ 'monthly';
SELECT keepsake.archive_by_month('post');
SELECT (SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = m.month_table AND a.attname = 'extra') < (SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = m.archive AND a.attname = 'extra') AS other_numbers
    FROM keepsake.archive_month m WHERE m.archive = 'monthly_deleted.post'::regclass ORDER BY m.month LIMIT 1;
DELETE FROM post WHERE id = 7; DELETE FROM post WHERE id BETWEEN 8 AND 10;
UPDATE post SET headline = NULL, extra = NULL, feeling = 'sad' WHERE id = 11; DELETE FROM post WHERE id = 11;
SELECT * FROM archived;
SELECT keepsake.restore_row('post', n) -> 'restored' AS restored FROM generate_series(6, 8) AS n;
SELECT keepsake.restore_row('post', 11) -> 'restored' AS restored;
SELECT * FROM post WHERE id BETWEEN 5 AND 11 ORDER BY id;
SELECT count(*) FROM comment;

-- A table that is called like a month table has an archive of its own, and takes nothing from others.
SELECT format('%I', c.relname) AS named_alike FROM keepsake.archive_month m JOIN pg_class c ON c.oid = m.month_table WHERE m.archive = 'monthly_deleted.post'::regclass ORDER BY m.month DESC LIMIT 1 \gset
CREATE TABLE :named_alike (id int PRIMARY KEY);
SELECT keepsake.manage(:'named_alike', keep => 'archive');
SELECT count(*) FROM months WHERE archive = 'monthly_deleted.post'::regclass;
DROP TABLE :named_alike;
SELECT format('%s', month_table) AS of_month FROM keepsake.archive_month WHERE archive = 'monthly_deleted.post'::regclass ORDER BY month LIMIT 1 \gset
\set VERBOSITY sqlstate
SELECT keepsake.manage(:'of_month', keep => 'archive');
\set VERBOSITY default

-- The table moves, and its archive with its month tables. A type can be dropped that a month table has a column of.
CREATE SCHEMA monthly_two;
ALTER TABLE post SET SCHEMA monthly_two; ALTER TABLE monthly_two.post RENAME TO entry;
SELECT * FROM months;
ALTER TABLE monthly_two.entry RENAME TO post; ALTER TABLE monthly_two.post SET SCHEMA monthly;
DROP SCHEMA monthly_two, monthly_two_deleted;
SELECT * FROM months;
DROP TYPE mood CASCADE;
SELECT count(*) FROM monthly_deleted.post;
SELECT check_name, object FROM keepsake.doctor() WHERE object ~ 'monthly';

-- A purge empties the month table at once, but not while any of it is held, or has not expired.
SELECT keepsake.hold(id, 'a case') IS NOT NULL AS held FROM keepsake.deletion WHERE root_table = 'post'::regclass AND state = 'deleted';
SELECT keepsake.purge_batch(1, whole_months => true) - 'last' AS report;
SELECT keepsake.release(id) FROM keepsake.hold WHERE reason = 'a case' AND released_at IS NULL;
UPDATE keepsake.deletion SET expires_at = expires_at + interval '1 day' WHERE id = (SELECT min(keepsake_deletion::text)::uuid FROM monthly_deleted.post);
SELECT keepsake.purge_batch(1, whole_months => true) - 'last' AS report;
UPDATE keepsake.deletion SET expires_at = expires_at - interval '1 day' WHERE id = (SELECT min(keepsake_deletion::text)::uuid FROM monthly_deleted.post);
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT keepsake.purge_batch(1, whole_months => true) ->> 'rows' AS rows; ROLLBACK;
SELECT count(*) FROM states WHERE state = 'deleted';
SELECT (SELECT count(*) FROM monthly_deleted.post) AS posts, (SELECT count(*) FROM monthly_deleted.comment) AS comments;
SELECT keepsake.purge_batch(1, whole_months => true) - 'last' AS report;
SELECT (SELECT count(*) FROM monthly_deleted.post) AS posts, (SELECT count(*) FROM monthly_deleted.comment) AS comments, sum(pg_relation_size(month_table)) AS bytes FROM keepsake.archive_month WHERE archive = 'monthly_deleted.post'::regclass;
CALL keepsake.purge();
SELECT (SELECT count(*) FROM monthly_deleted.post) AS posts, (SELECT count(*) FROM monthly_deleted.comment) AS comments, sum(pg_relation_size(month_table)) AS bytes FROM keepsake.archive_month WHERE archive::text ~ '^monthly_deleted';
SELECT * FROM states WHERE state <> 'restored';
SELECT rows, batches > 0 AS batches FROM keepsake.purge_run ORDER BY id DESC LIMIT 1;

-- With a limit, and by the batch, rows are counted one by one, wherever they are.
DELETE FROM post WHERE id BETWEEN 12 AND 14;
SELECT keepsake.purge_batch(1) - 'last';
CALL keepsake.purge(10, 2);
SELECT count(*) FROM monthly_deleted.comment;
CALL keepsake.purge();
SELECT * FROM states OFFSET (SELECT count(*) - 1 FROM states);

-- Rows of the month's deletions that are in the archive itself, and rows of other months' in its table.
DELETE FROM post WHERE id = 15;
SELECT format('UPDATE %1$s SET id = id; WITH moved AS (DELETE FROM %1$s RETURNING *) INSERT INTO monthly_deleted.comment SELECT * FROM moved', month_table) AS to_archive FROM keepsake.archive_month WHERE archive = 'monthly_deleted.comment'::regclass ORDER BY month LIMIT 1 \gset
:to_archive;
SELECT place(tableoid), count(*) FROM monthly_deleted.comment GROUP BY 1;
DELETE FROM post WHERE id = 16;
SELECT place(tableoid), count(*) FROM monthly_deleted.comment GROUP BY 1 ORDER BY 1;
SELECT keepsake.purge_batch(whole_months => true) -> 'tables' AS first;
SELECT keepsake.purge_batch(whole_months => true) AS second;
SELECT place(tableoid), count(*) FROM monthly_deleted.comment GROUP BY 1 ORDER BY 1;
SELECT * FROM states OFFSET (SELECT count(*) - 2 FROM states);
CALL keepsake.purge();
SELECT * FROM states OFFSET (SELECT count(*) - 2 FROM states);
SELECT month_table AS of_next FROM keepsake.archive_month WHERE archive = 'monthly_deleted.post'::regclass ORDER BY month DESC LIMIT 1 \gset
DELETE FROM post WHERE id = 17;
WITH moved AS (DELETE FROM monthly_deleted.post RETURNING *) INSERT INTO :of_next SELECT keepsake_deletion, keepsake_seq, keepsake_layout, id, headline, extra FROM moved;
SELECT place(tableoid), id FROM monthly_deleted.post;
SELECT keepsake.purge_batch() -> 'tables';
SELECT count(*) FROM monthly_deleted.post;

-- A month that is over: its table goes with its rows, or with the next purge, if it has none. New months come with a purge.
DELETE FROM post WHERE id = 18;
UPDATE keepsake.archive_month SET month = month - interval '3 months' WHERE archive::text ~ '^monthly_deleted';
SELECT * FROM months;
CALL keepsake.purge();
SELECT * FROM months;
SELECT count(*) FROM monthly_deleted.post;
SELECT keepsake.archive_by_month('post', false);
SELECT check_name, object FROM keepsake.doctor() WHERE object ~ 'monthly';

-- Subscribers would not know a new table.
SET client_min_messages = error; CREATE PUBLICATION keepsake_monthly FOR TABLE monthly_deleted.comment WITH (publish = 'insert'); RESET client_min_messages;
DELETE FROM post WHERE id = 19; CALL keepsake.purge();
SELECT format('DROP TABLE %s', string_agg(month_table::text, ', ')) AS drop_months FROM keepsake.archive_month WHERE archive::text = 'monthly_deleted.comment' \gset
:drop_months;
SELECT keepsake.archive_by_month('comment');
SELECT * FROM months;
DROP PUBLICATION keepsake_monthly;
SELECT check_name, object, fix FROM keepsake.doctor() WHERE object ~ 'monthly';
SELECT keepsake.archive_by_month('comment');

-- The month tables go with their archive.
CREATE UNLOGGED TABLE note (id int PRIMARY KEY);
SELECT keepsake.manage('note', keep => 'archive'); SELECT keepsake.archive_by_month('note');
SELECT relpersistence, count(*) FROM pg_class WHERE relnamespace = 'monthly_deleted'::regnamespace AND relname ~ '^note' AND relkind = 'r' GROUP BY 1;
INSERT INTO note VALUES (1), (2); DELETE FROM note WHERE id = 1; DROP TABLE note;
SELECT place(tableoid), id FROM monthly_deleted.note;
SELECT keepsake.purge_batch(as_of => now() + interval '1 year') ->> 'rows' AS rows;
DELETE FROM comment WHERE id = 60;
DROP VIEW archived;
SELECT keepsake.manage('post', keep => 'in place', cascade => true);
SELECT id, deleted_at IS NOT NULL AS deleted FROM comment WHERE id = 60;
SELECT * FROM months;
DELETE FROM keepsake.deletion;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA monthly, monthly_deleted CASCADE;
DROP ROLE keepsake_test_monthly;
