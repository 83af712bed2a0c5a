-- Restore from an archive: what comes back, and how.
\pset format unaligned
\pset tuples_only on
CREATE SCHEMA kept;
SET search_path = kept, public;
SET client_min_messages = warning;
CREATE FUNCTION last(of regclass) RETURNS uuid LANGUAGE sql AS
    $$ SELECT id FROM keepsake.deletion WHERE root_table = of AND state = 'deleted' ORDER BY id DESC LIMIT 1 $$;

\echo == Byte for byte: identity, generated columns, domains, arrays, numerics, large values, a self-reference.
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE book (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sequel_to int REFERENCES book ON DELETE CASCADE,
    title text NOT NULL DEFAULT 'untitled',
    length int GENERATED ALWAYS AS (length(title)) STORED,
    pages positive,
    price numeric,
    tags text[],
    mood mood,
    body text,
    made timestamptz DEFAULT clock_timestamp());
CREATE UNIQUE INDEX ON book (lower(title)) WHERE pages > 1;
SELECT keepsake.manage('book', keep => 'archive');
INSERT INTO book (sequel_to, title, pages, price, tags, mood, body) VALUES
    (NULL, 'One', 1, 1.50, '{a,NULL,"b,c"}', 'sad', (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 2000) n)),
    (1, 'Two', 2, 'NaN', '{}', 'happy', NULL),
    (2, 'Three', NULL, 1e-20, NULL, NULL, '');
CREATE TABLE book_before AS TABLE book;
DELETE FROM book WHERE id = 1;
SELECT count(*) FROM book;
SELECT keepsake.restore(last('book')) - 'deletion_id';
(TABLE book EXCEPT TABLE book_before) UNION ALL (TABLE book_before EXCEPT TABLE book);
SELECT pg_column_size(b.body) = pg_column_size(f.body) AS stored_alike FROM book b JOIN book_before f USING (id) WHERE id = 1;
SELECT count(*) AS still_archived FROM kept_deleted.book;
SELECT state, settled_at IS NOT NULL FROM keepsake.deletion WHERE root_table = 'book'::regclass;
INSERT INTO book DEFAULT VALUES RETURNING id;

\echo == A second restore changes nothing.
DELETE FROM book WHERE id = 4;
SELECT last('book') AS d \gset
SELECT keepsake.restore(:'d') - 'deletion_id';
SELECT keepsake.restore(:'d') - 'deletion_id';
SELECT keepsake.restore(NULL) IS NULL;

\echo == Rows that refer to each other, no key deferrable.
CREATE TABLE hen (id int PRIMARY KEY, egg int NOT NULL);
CREATE TABLE egg (id int PRIMARY KEY, hen int NOT NULL REFERENCES hen ON DELETE CASCADE);
WITH h AS (INSERT INTO hen VALUES (1, 1)) INSERT INTO egg VALUES (1, 1);
ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg ON DELETE CASCADE;
SELECT keepsake.manage('hen', keep => 'archive', cascade => true);
DELETE FROM egg;
SELECT keepsake.restore(last('egg')) - 'deletion_id';
TABLE hen; TABLE egg;
DROP TABLE hen, egg;

\echo == Partitions: each row finds its own, also one that has columns in another order.
CREATE TABLE reading (at date, site int, value int, PRIMARY KEY (at, site)) PARTITION BY RANGE (at);
CREATE TABLE reading_1 PARTITION OF reading FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE reading_2 (value int, gone int, site int NOT NULL, at date NOT NULL, PRIMARY KEY (at, site));
ALTER TABLE reading_2 DROP COLUMN gone;
ALTER TABLE reading ATTACH PARTITION reading_2 FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
SELECT keepsake.manage('reading', keep => 'archive');
INSERT INTO reading SELECT '2020-12-25'::date + n, 1, n FROM generate_series(1, 12) n;
DELETE FROM reading WHERE value > 3;
SELECT keepsake.restore(last('reading')) - 'deletion_id';
SELECT tableoid::regclass, count(*), sum(value) FROM reading GROUP BY 1 ORDER BY 1;
DELETE FROM reading WHERE value > 3;
DROP TABLE reading_2;
SELECT * FROM keepsake.restore_conflicts(last('reading')) ORDER BY key LIMIT 2;
SELECT keepsake.restore(last('reading'), 'skip') -> 'restored';
SELECT tableoid::regclass, count(*), sum(value) FROM reading GROUP BY 1 ORDER BY 1;

\echo == Triggers: none before, all after, when every row is there; and what they can read.
CREATE TABLE owner (id int PRIMARY KEY);
CREATE TABLE pet (id int PRIMARY KEY, owner_id int NOT NULL REFERENCES owner ON DELETE CASCADE);
CREATE TABLE seen (n int GENERATED ALWAYS AS IDENTITY, what text, pets bigint);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen (what, pets) VALUES (
        concat_ws(' ', TG_WHEN, TG_OP, TG_LEVEL, TG_TABLE_NAME, CASE current_setting('keepsake.restoring') WHEN '' THEN 'new' ELSE 'restored' END),
        (SELECT count(*) FROM pet));
    RETURN NEW;
END $$;
CREATE TRIGGER b BEFORE INSERT ON owner FOR EACH ROW EXECUTE FUNCTION see();
CREATE TRIGGER a AFTER INSERT ON owner FOR EACH ROW EXECUTE FUNCTION see();
CREATE FUNCTION see_all() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen (what, pets) SELECT 'statement ' || TG_TABLE_NAME, count(*) FROM new_rows;
    RETURN NULL;
END $$;
CREATE TRIGGER s AFTER INSERT ON pet REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION see_all();
SELECT keepsake.manage('owner', keep => 'archive', cascade => true);
INSERT INTO owner VALUES (1);
INSERT INTO pet VALUES (1, 1), (2, 1);
DELETE FROM owner;
SELECT keepsake.restore(last('owner')) -> 'restored';
SELECT what, pets FROM seen ORDER BY n;
SELECT current_setting('keepsake.restoring') = '' AS over;
SET keepsake.restoring = 'x';
TRUNCATE seen;
UPDATE keepsake.managed_table SET after_triggers = 'skip' WHERE relation IN ('owner'::regclass, 'pet'::regclass);
DELETE FROM owner;
SELECT keepsake.restore(last('owner')) -> 'restored';
SELECT count(*) FROM seen;
-- Those that always fire do, as that by which a tool follows the table.
CREATE TRIGGER always AFTER INSERT ON owner FOR EACH ROW EXECUTE FUNCTION see();
CREATE TRIGGER always AFTER INSERT ON pet REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION see_all();
ALTER TABLE owner ENABLE ALWAYS TRIGGER always;
ALTER TABLE pet ENABLE ALWAYS TRIGGER always;
DELETE FROM owner;
SELECT keepsake.restore(last('owner')) -> 'restored';
SELECT what, pets FROM seen ORDER BY n;
INSERT INTO pet VALUES (3, 4);

\echo == An AFTER trigger that makes a child which the archive has as well.
CREATE TABLE account (id int PRIMARY KEY);
CREATE TABLE profile (account_id int PRIMARY KEY REFERENCES account ON DELETE CASCADE);
CREATE FUNCTION make_profile() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO profile VALUES (NEW.id); RETURN NULL; END $$;
CREATE TRIGGER make AFTER INSERT ON account FOR EACH ROW EXECUTE FUNCTION make_profile();
SELECT keepsake.manage('account', keep => 'archive', cascade => true);
INSERT INTO account VALUES (1);
DELETE FROM account;
SELECT keepsake.restore(last('account'));
CREATE OR REPLACE FUNCTION make_profile() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('keepsake.restoring') = '' THEN INSERT INTO profile VALUES (NEW.id); END IF;
    RETURN NULL;
END $$;
SELECT keepsake.restore(last('account')) -> 'restored';

\echo == What the same transaction removed beneath the rows before comes back with them, nothing else of it.
CREATE TABLE a (id int PRIMARY KEY);
CREATE TABLE b (id int PRIMARY KEY);
CREATE TABLE c (id int PRIMARY KEY, a_id int REFERENCES a ON DELETE CASCADE, b_id int REFERENCES b ON DELETE CASCADE);
CREATE TABLE d (id int PRIMARY KEY, c_id int NOT NULL REFERENCES c ON DELETE CASCADE);
SELECT keepsake.manage('a', keep => 'archive', cascade => true), keepsake.manage('b', keep => 'archive', cascade => true);
INSERT INTO a VALUES (1), (2);
INSERT INTO b VALUES (1), (2);
INSERT INTO c VALUES (1, 1, 1), (2, 1, 2), (3, 2, 2);
INSERT INTO d VALUES (1, 1), (2, 2), (3, 3), (4, 1);
DELETE FROM d WHERE id = 4;
BEGIN;
DELETE FROM d WHERE c_id IN (1, 3);
DELETE FROM c WHERE a_id = 1;
DELETE FROM a WHERE id = 1;
COMMIT;
SELECT keepsake.restore(last('a')) - 'deletion_id';
SELECT id, c_id FROM d ORDER BY 1;
SELECT root_table, state, relation, row_count FROM keepsake.deletion JOIN keepsake.deletion_table ON deletion_id = id
WHERE relation = 'd'::regclass ORDER BY id;
SELECT keepsake.restore(last('d')) -> 'restored';
SELECT keepsake.restore(last('d')) -> 'restored';
SELECT id, c_id FROM d ORDER BY 1;

\echo == A row whose other parent is deleted passes to that deletion, with what hangs on it.
DELETE FROM a WHERE id = 1;
DELETE FROM b WHERE id = 1;
SELECT last('a') AS a, last('b') AS b \gset
SELECT * FROM keepsake.restore_conflicts(:'a');
SELECT report -> 'restored', report #> '{passed,0,rows}', report #> '{passed,1,rows}', report #>> '{passed,0,deletion_id}' = :'b'
FROM keepsake.restore(:'a') AS report;
SELECT relation, row_count FROM keepsake.deletion_table WHERE deletion_id = :'b' ORDER BY 1;
SELECT state FROM keepsake.deletion WHERE id = :'a';
SELECT keepsake.restore(:'b') - 'deletion_id';
SELECT * FROM c ORDER BY 1;
SELECT * FROM d ORDER BY 1;
SELECT state FROM keepsake.deletion WHERE id = :'b';

\echo == Who asks for a row whose parent is deleted is told; or takes the parent along.
DELETE FROM c WHERE id = 1;
DELETE FROM a WHERE id = 1;
SELECT last('c') AS c, last('a') AS a \gset
SELECT kind, table_name, key, constraint_name, key_values, holder FROM keepsake.restore_conflicts(:'c');
SELECT (keepsake.restore(:'c', 'skip') #- '{conflicts,0,deletion_id}'::text[]) - 'deletion_id';
SELECT keepsake.restore(:'c', 'parents') - 'deletion_id';
SELECT relation, row_count FROM keepsake.deletion_table WHERE deletion_id = :'a' ORDER BY 1;
SELECT keepsake.restore(:'a') -> 'restored';

\echo == A parent that is nowhere.
DELETE FROM c WHERE id = 1;
SELECT last('c') AS c \gset
SET session_replication_role = replica;
DELETE FROM a WHERE id = 1;
RESET session_replication_role;
SELECT kind, table_name, key, constraint_name, key_values, holder FROM keepsake.restore_conflicts(:'c');
SELECT keepsake.restore(:'c', 'parents');
INSERT INTO a VALUES (1);
SELECT keepsake.restore(:'c') -> 'restored';

\echo == Of several versions of one key the last one comes back.
BEGIN;
DELETE FROM d WHERE id = 1;
INSERT INTO d VALUES (1, 2);
DELETE FROM d WHERE id = 1;
INSERT INTO d VALUES (1, 1);
DELETE FROM c WHERE id = 1;
COMMIT;
SELECT keepsake.restore_group(last('c')) - 'deletion_id';
SELECT * FROM d WHERE id = 1;
SELECT count(*) FROM kept_deleted.d;

\echo == One row, and what hung on it.
DELETE FROM a;
\set VERBOSITY terse
SELECT keepsake.restore_row('c', 3);
\set VERBOSITY default
SELECT keepsake.restore_row('a', 2) - 'deletion_id';
SELECT keepsake.restore_row('c', '1', on_conflict => 'parents') - 'deletion_id';
SELECT keepsake.restore_row('c', 1);
SELECT keepsake.restore_row('book_before', 1);
SELECT relation, row_count FROM keepsake.deletion_table WHERE deletion_id = last('a') ORDER BY 1;
SELECT keepsake.restore(last('a')) -> 'restored';
SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM c), (SELECT count(*) FROM d);

\echo == A table without a primary key hangs on others.
CREATE TABLE log (a_id int, what text);
SELECT keepsake.manage('log', keep => 'archive');
ALTER TABLE log ADD FOREIGN KEY (a_id) REFERENCES a ON DELETE CASCADE;
SELECT keepsake.manage('a', keep => 'archive', cascade => true);
INSERT INTO log VALUES (1, 'x'), (1, 'x'), (2, 'y');
DELETE FROM a WHERE id = 1;
SELECT keepsake.restore(last('a')) -> 'restored';
SELECT what, count(*) FROM log GROUP BY 1 ORDER BY 1;

\echo == Keys of computed columns.
CREATE TABLE halved (a int, b int GENERATED ALWAYS AS (a / 2) STORED, PRIMARY KEY (a, b));
CREATE TABLE doubled (x int PRIMARY KEY, y int GENERATED ALWAYS AS (x * 2) STORED UNIQUE);
CREATE TABLE by_double (id int PRIMARY KEY, y int REFERENCES doubled (y) ON DELETE CASCADE);
CREATE TABLE doubling (id int PRIMARY KEY, x int GENERATED ALWAYS AS (id * 2) STORED REFERENCES doubled ON DELETE CASCADE);
SELECT keepsake.manage('halved', keep => 'archive'), keepsake.manage('doubled', keep => 'archive', cascade => true);
INSERT INTO halved VALUES (2), (3); INSERT INTO doubled VALUES (2), (4); INSERT INTO by_double VALUES (1, 4), (2, 8); INSERT INTO doubling VALUES (1), (2);
DELETE FROM halved WHERE a = 2;
SELECT keepsake.restore(last('halved')) -> 'restored';
DELETE FROM halved;
SELECT keepsake.restore_row('halved', '{"a": 3, "b": 1}'::jsonb) -> 'restored';
SELECT keepsake.restore(last('halved')) -> 'restored';
DELETE FROM by_double WHERE id = 1; DELETE FROM doubling WHERE id = 1;
DELETE FROM doubled;
SELECT kind, table_name, constraint_name FROM keepsake.restore_conflicts(last('by_double')) UNION ALL SELECT kind, table_name, constraint_name FROM keepsake.restore_conflicts(last('doubling')) ORDER BY 2;
SELECT keepsake.restore_row('by_double', 1, on_conflict => 'parents') -> 'restored';
SELECT keepsake.restore(last('doubling')) -> 'restored', keepsake.restore(last('doubled')) -> 'restored';
SELECT * FROM halved ORDER BY a; SELECT * FROM doubled ORDER BY x; SELECT * FROM by_double ORDER BY id; SELECT * FROM doubling ORDER BY id;

DROP SCHEMA kept CASCADE;
DROP SCHEMA kept_deleted CASCADE;
DELETE FROM keepsake.deletion WHERE root_table::oid NOT IN (SELECT oid FROM pg_class);
RESET search_path;
