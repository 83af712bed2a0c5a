-- manage(…, keep => …) on a table that is managed already: its deleted rows move, with their deletions.
CREATE SCHEMA moving;
SET search_path = moving;
CREATE TABLE author (id int PRIMARY KEY, name text);
CREATE TABLE book (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, author_id int REFERENCES author ON DELETE CASCADE, isbn text, up int REFERENCES book,
    title text, length int GENERATED ALWAYS AS (length(title)) STORED);
CREATE TABLE quote (id int PRIMARY KEY, book_id int REFERENCES book ON DELETE SET NULL, words text);
CREATE TABLE elsewhere (id int PRIMARY KEY, book_id int REFERENCES book);
SELECT keepsake.manage('author', '60 days'), keepsake.manage('book', on_delete => 'convert'), keepsake.manage('quote');
CREATE UNIQUE INDEX book_isbn ON book (lower(isbn)) WHERE deleted_at IS NULL;
SELECT keepsake.hide_deleted('book', 'policy');
CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'a trigger has fired: % of %', TG_OP, TG_TABLE_NAME; END $$;
INSERT INTO author VALUES (1, 'ann'), (2, 'bob');
INSERT INTO book (author_id, isbn, title) VALUES (1, 'a', 'one'), (1, 'b', 'two'), (2, 'c', 'three'), (2, 'd', 'four');
UPDATE book SET up = 1 WHERE id = 2;
INSERT INTO quote VALUES (1, 1, 'x'), (2, 3, 'y'), (3, 4, 'z');
DELETE FROM author WHERE id = 1;
DELETE FROM book WHERE id = 3;
DELETE FROM quote WHERE id = 3;
INSERT INTO book (author_id, isbn, title) VALUES (2, 'C', 'again');
SELECT keepsake.hold(id, 'court') IS NOT NULL AS held FROM keepsake.deletion WHERE root_table = 'author'::regclass;
CREATE TRIGGER no BEFORE DELETE OR INSERT ON book FOR EACH ROW EXECUTE FUNCTION no();
CREATE VIEW deletions AS SELECT d.id, d.root_table, d.root_key, d.deleted_at, d.expires_at, d.state,
    (SELECT string_agg(format('%s: %s', t.relation, t.row_count), ', ' ORDER BY t.relation::text) FROM keepsake.deletion_table t WHERE t.deletion_id = d.id) AS rows
    FROM keepsake.deletion d WHERE d.root_table IN ('author'::regclass, 'book'::regclass, 'quote'::regclass);
CREATE TABLE before AS SELECT * FROM deletions;

-- What would leave a deletion, or a foreign key, with rows of both kinds.
SELECT keepsake.manage('author', keep => 'archive');
SELECT keepsake.manage('book', keep => 'archive');
SELECT keepsake.manage('book', keep => 'archive', cascade => true);
SELECT keepsake.manage('author', keep => 'archive', adopt => 'true');
CREATE INDEX odd ON book (deleted_at);
SELECT keepsake.manage('author', keep => 'archive', cascade => true);
DROP INDEX odd;
-- Whole: the tables get triggers and nothing else.
SELECT keepsake.manage('author', keep => 'archive', cascade => true);
SELECT relation, retention, keep FROM keepsake.managed_table WHERE relation IN ('author'::regclass, 'book'::regclass, 'quote'::regclass) ORDER BY 1;
SELECT attrelid::regclass, attname FROM pg_attribute WHERE attrelid IN ('author'::regclass, 'book'::regclass, 'quote'::regclass) AND attnum > 0 AND NOT attisdropped ORDER BY 1, attnum;
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgrelid IN ('author'::regclass, 'book'::regclass, 'quote'::regclass, 'elsewhere'::regclass) AND NOT tgisinternal ORDER BY 1, 2;
SELECT indexrelid::regclass, indisunique, pg_get_expr(indpred, indrelid) FROM pg_index WHERE indrelid = 'book'::regclass ORDER BY 1;
SELECT relrowsecurity, count(p.oid) FROM pg_class LEFT JOIN pg_policy p ON p.polrelid = pg_class.oid WHERE pg_class.oid = 'book'::regclass GROUP BY 1;
SELECT * FROM author ORDER BY 1; SELECT * FROM book ORDER BY 1; SELECT * FROM quote ORDER BY 1;
SELECT 'author' AS of, count(*), count(DISTINCT keepsake_deletion) FROM moving_deleted.author UNION ALL SELECT 'book', count(*), count(DISTINCT keepsake_deletion) FROM moving_deleted.book
UNION ALL SELECT 'quote', count(*), count(DISTINCT keepsake_deletion) FROM moving_deleted.quote ORDER BY 1;
-- The deletions are what they were.
SELECT count(*) FROM deletions JOIN before USING (id, root_table, root_key, deleted_at, expires_at, state, rows);
SELECT check_name, object FROM keepsake.doctor() WHERE object LIKE 'moving.%' AND severity = 'error';
-- They purge and hold as before, and come back from there.
BEGIN;
SET session_replication_role = replica;
SELECT keepsake.restore(id) -> 'restored' AS restored FROM before WHERE root_table = 'author'::regclass;
SELECT * FROM author ORDER BY 1; SELECT * FROM book ORDER BY 1; SELECT * FROM quote ORDER BY 1;
ROLLBACK;
\set VERBOSITY terse
SELECT keepsake.purge_deletion(id) FROM before WHERE root_table = 'author'::regclass;
\set VERBOSITY default

-- And back.
SELECT keepsake.manage('book', keep => 'in place');
SELECT keepsake.manage('author', keep => 'in place');
SELECT keepsake.manage('author', keep => 'in place', cascade => true, on_truncate => 'allow');
\set VERBOSITY terse
SELECT keepsake.manage('author', keep => 'in place', cascade => true);
\set VERBOSITY default
-- The unique key holds for all rows now.
UPDATE book SET isbn = 'e' WHERE isbn = 'C';
SELECT keepsake.manage('author', keep => 'in place', cascade => true);
SELECT relation, retention, keep FROM keepsake.managed_table WHERE relation IN ('author'::regclass, 'book'::regclass, 'quote'::regclass) ORDER BY 1;
SELECT to_regclass('moving_deleted.book'), (SELECT count(*) FROM keepsake.archive_table WHERE source_schema = 'moving') AS archives;
SELECT 'author' AS of, id, deletion_id IS NULL AS live FROM author UNION ALL SELECT 'book', id, deletion_id IS NULL FROM book UNION ALL SELECT 'quote', id, deletion_id IS NULL FROM quote ORDER BY 1, 2;
SELECT count(*) FROM deletions JOIN before USING (id, root_table, root_key, deleted_at, expires_at, state, rows);
SELECT check_name, object FROM keepsake.doctor() WHERE object LIKE 'moving.%' AND severity = 'error';
DROP TRIGGER no ON book;
SELECT keepsake.restore(id) -> 'restored' AS restored FROM before ORDER BY root_table::text, root_key::text;
SELECT * FROM author ORDER BY 1; SELECT id, author_id, isbn, up, title, length, deleted_at IS NULL AS live FROM book ORDER BY 1; SELECT id, book_id, words, deleted_at IS NULL AS live FROM quote ORDER BY 1;

-- What has no room in place: a key that was used again, a parent that is gone.
CREATE TABLE single (id int PRIMARY KEY, v text);
SELECT keepsake.manage('single', keep => 'archive');
INSERT INTO single VALUES (1, 'old');
DELETE FROM single;
INSERT INTO single VALUES (1, 'new');
SELECT keepsake.manage('single', keep => 'in place');
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent);
SELECT keepsake.manage('child', keep => 'archive');
INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 1);
DELETE FROM child; DELETE FROM parent;
SELECT keepsake.manage('child', keep => 'in place');
INSERT INTO parent VALUES (1);
SELECT keepsake.manage('child', keep => 'in place');
SELECT id, deletion_id IS NULL AS live FROM child;

-- The binding to the bucket goes along.
CREATE TABLE bound (id int PRIMARY KEY, key text NOT NULL UNIQUE);
SELECT keepsake.manage('bound'), keepsake.bind_storage('bound', 'key');
SELECT keepsake.manage('bound', keep => 'archive');

-- Partitions, values in place of SET NULL that were defaults, and a table of another owner's: only he may.
CREATE TABLE parts (id int, area text, note text, PRIMARY KEY (id, area)) PARTITION BY LIST (area);
CREATE TABLE parts_n PARTITION OF parts FOR VALUES IN ('n');
CREATE TABLE parts_s PARTITION OF parts FOR VALUES IN ('s');
SELECT keepsake.manage('parts');
INSERT INTO parts SELECT i, CASE WHEN i % 2 = 0 THEN 'n' ELSE 's' END, repeat('x', 5000) FROM generate_series(1, 10) AS i;
DELETE FROM parts WHERE id <= 6;
CREATE ROLE moving_other;
GRANT USAGE ON SCHEMA moving TO moving_other;
SET ROLE moving_other;
SELECT keepsake.manage('parts', keep => 'archive');
RESET ROLE;
SELECT keepsake.manage('parts', keep => 'archive');
SELECT count(*), sum(length(note)) FROM moving_deleted.parts;
SELECT keepsake.manage('parts', keep => 'in place');
SELECT count(*) FILTER (WHERE deletion_id IS NULL) AS live, count(*) FILTER (WHERE deletion_id IS NOT NULL) AS deleted, sum(length(note)) FROM parts;
SELECT keepsake.manage('parts', keep => 'archive');
SELECT keepsake.restore(id) -> 'restored' AS restored FROM keepsake.deletion WHERE root_table = 'parts'::regclass;
SELECT count(*), count(DISTINCT id) FROM parts;
DROP OWNED BY moving_other; DROP ROLE moving_other;

-- Rows move without triggers and foreign keys: no code of the owner's may run meanwhile.
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE FUNCTION fine(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE DOMAIN code AS text;
CREATE TYPE pair AS (a int, b code);
CREATE TABLE here (id int, v text, p pair[], PRIMARY KEY (id)) PARTITION BY LIST (id);
CREATE TABLE here_part PARTITION OF here DEFAULT;
CREATE TABLE there (LIKE here INCLUDING ALL) PARTITION BY LIST (id);
CREATE TABLE there_part PARTITION OF there DEFAULT;
SELECT keepsake.manage('here'), keepsake.manage('there', keep => 'archive');
INSERT INTO here VALUES (1, 'x', ARRAY[(1, 'y')::pair]); INSERT INTO there SELECT id, v, p FROM here;
DELETE FROM here; DELETE FROM there;
CREATE PROCEDURE refused_with(change text) LANGUAGE plpgsql AS $$
DECLARE told text;
BEGIN
    FOR i IN 1..2 LOOP
        BEGIN
            EXECUTE replace(change, '@', (ARRAY['here', 'there'])[i]);
            PERFORM keepsake.manage((ARRAY['here', 'there'])[i]::regclass, keep => (ARRAY['archive', 'in place'])[i]);
            RAISE 'it moved';
        EXCEPTION WHEN feature_not_supported OR raise_exception THEN
            GET STACKED DIAGNOSTICS told = PG_EXCEPTION_DETAIL;
            RAISE NOTICE '%', coalesce(nullif(told, ''), SQLERRM);
        END;
    END LOOP;
END $$;
SET client_min_messages = notice;
\set VERBOSITY terse
CALL refused_with('CREATE TRIGGER always AFTER INSERT OR DELETE ON @_part FOR EACH ROW EXECUTE FUNCTION see(); ALTER TABLE @_part ENABLE ALWAYS TRIGGER always');
CALL refused_with('CREATE TRIGGER replica AFTER INSERT OR DELETE ON @_part FOR EACH ROW EXECUTE FUNCTION see(); ALTER TABLE @_part ENABLE REPLICA TRIGGER replica');
CALL refused_with('CREATE RULE always AS ON UPDATE TO @ DO ALSO NOTHING; ALTER TABLE @ ENABLE ALWAYS RULE always');
CALL refused_with('ALTER TABLE @ ADD CONSTRAINT checked CHECK (fine(v))');
CALL refused_with('ALTER TABLE @ ADD CONSTRAINT checked CHECK (query_to_xml(v, true, true, '''') IS NULL) NOT VALID');
CALL refused_with('ALTER TABLE @ ADD made boolean GENERATED ALWAYS AS (fine(v)) STORED');
CALL refused_with('CREATE INDEX indexed ON @ (fine(v))');
CALL refused_with('CREATE INDEX indexed ON @_part (id) WHERE fine(v)');
CALL refused_with('ALTER TABLE @ ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY p ON @ USING (fine(v))');
CALL refused_with('ALTER DOMAIN code ADD CONSTRAINT checked CHECK (fine(VALUE)) NOT VALID');
CALL refused_with('CREATE OPERATOR === (FUNCTION = texteq, LEFTARG = text, RIGHTARG = text); ALTER TABLE @ ADD CONSTRAINT checked CHECK (v === v)');
CALL refused_with('CREATE FUNCTION txt(pair) RETURNS text LANGUAGE sql AS ''SELECT $1.a::text''; CREATE CAST (pair AS text) WITH FUNCTION txt(pair)');
CALL refused_with('CREATE FUNCTION nothing(float8, float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS ''SELECT 0.0::float8''; CREATE TYPE span AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = nothing); ALTER TABLE @ ADD s span');
\set VERBOSITY default
-- A trigger as triggers are, and what is PostgreSQL's own, are in nobody's way.
CREATE TRIGGER usual AFTER INSERT OR DELETE ON here FOR EACH ROW EXECUTE FUNCTION no();
ALTER TABLE here ADD CHECK (length(v) > 0);
CREATE INDEX ON here (lower(v));
CREATE TYPE plain_span AS RANGE (SUBTYPE = int4);
ALTER TABLE here ADD s plain_span;
SELECT keepsake.manage('here', keep => 'archive');
ALTER TABLE here ENABLE ALWAYS TRIGGER usual;
SELECT keepsake.manage('here', keep => 'in place');
ALTER TABLE here ENABLE TRIGGER usual;
SELECT keepsake.manage('here', keep => 'in place');

-- A transaction that keeps its snapshot would miss what was written before the lock.
CREATE TABLE fresh (id int PRIMARY KEY);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT keepsake.manage('fresh');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT keepsake.unmanage('fresh');
SELECT keepsake.manage('fresh', keep => 'archive');
SELECT keepsake.unmanage('fresh', drop_archive => true);
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT keepsake.manage('here', keep => 'archive');
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT keepsake.manage('there', keep => 'in place');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT keepsake.unmanage('there', drop_archive => true);
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT keepsake.manage('fresh', adopt => 'false');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT keepsake.manage('fresh', keep => 'archive', adopt => 'false');
ROLLBACK;

-- What a deletion has replaced in a table that stays would be forgotten.
CREATE TABLE shelf (id int PRIMARY KEY);
CREATE TABLE item (id int PRIMARY KEY, shelf_id int REFERENCES shelf ON DELETE SET NULL);
SELECT keepsake.manage('item', keep => 'archive'), keepsake.manage('shelf', keep => 'archive');
INSERT INTO shelf VALUES (1); INSERT INTO item VALUES (1, 1);
DELETE FROM shelf;
SELECT keepsake.manage('shelf', keep => 'in place');
SELECT keepsake.manage('shelf', keep => 'in place', cascade => true);
SELECT keepsake.restore(deletion_id) -> 'restored' AS restored FROM shelf;
SELECT id, shelf_id FROM item;
