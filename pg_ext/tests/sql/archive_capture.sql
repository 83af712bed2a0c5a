-- Every way in which a row can go is captured once, in the version that went; nothing else is.
CREATE SCHEMA box;
SET search_path = box;
CREATE TABLE post (id int PRIMARY KEY, title text, rank numeric);
CREATE TABLE comment (id int PRIMARY KEY, post_id int REFERENCES post ON DELETE CASCADE, parent_id int REFERENCES comment ON DELETE CASCADE, body text);
SELECT keepsake.manage('post', keep => 'archive', on_truncate => 'archive', cascade => true);
-- What each deletion has, oldest first.
CREATE VIEW made AS
    SELECT row_number() OVER (ORDER BY d.id) AS n, d.root_table, d.root_key, d.group_id = d.id AS first,
           (SELECT string_agg(format('%s %s', t.relation, t.row_count), ', ' ORDER BY t.relation::text) FROM keepsake.deletion_table t WHERE t.deletion_id = d.id) AS rows,
           (SELECT string_agg(format('%s:%s', p.keepsake_seq, p.id), ' ' ORDER BY p.keepsake_seq) FROM box_deleted.post p WHERE p.keepsake_deletion = d.id) AS post,
           (SELECT string_agg(format('%s:%s', c.keepsake_seq, c.id), ' ' ORDER BY c.keepsake_seq) FROM box_deleted.comment c WHERE c.keepsake_deletion = d.id) AS comment
    FROM keepsake.deletion d WHERE d.root_table IN ('box.post'::regclass, 'box.comment'::regclass);
CREATE PROCEDURE refill() LANGUAGE plpgsql AS $$
BEGIN
    -- The registry forgets, as if nothing had been deleted before.
    DELETE FROM keepsake.deletion WHERE root_table IN ('box.post'::regclass, 'box.comment'::regclass);
    DELETE FROM box_deleted.post; DELETE FROM box_deleted.comment;
    INSERT INTO box.post SELECT n, 'title ' || n, n FROM generate_series(1, 4) n ON CONFLICT (id) DO UPDATE SET title = excluded.title;
    INSERT INTO box.comment SELECT n, (n + 1) / 2, CASE WHEN n = 8 THEN 7 END, 'body ' || n FROM generate_series(1, 8) n ON CONFLICT (id) DO NOTHING;
END $$;

-- By DELETE: of one row, of several, of none, with RETURNING and USING; the parents' generation first.
CALL refill();
DELETE FROM post WHERE id = 1;
DELETE FROM post WHERE id = 99;
DELETE FROM post p USING comment c WHERE c.post_id = p.id AND c.id = 3 RETURNING p.id;
DELETE FROM comment WHERE id = 7;
DELETE FROM post;
SELECT * FROM made;

-- A prepared statement, a CTE, a cursor's row, MERGE, a view, a rule, a function.
CALL refill();
PREPARE gone AS DELETE FROM post WHERE id = $1; EXECUTE gone (1); DEALLOCATE gone;
WITH gone AS (DELETE FROM post WHERE id = 2 RETURNING id) DELETE FROM comment WHERE id IN (SELECT 7 FROM gone);
BEGIN; DECLARE c CURSOR FOR SELECT * FROM post WHERE id = 3 FOR UPDATE; FETCH c; DELETE FROM post WHERE CURRENT OF c; COMMIT;
SELECT * FROM made;
CALL refill();
MERGE INTO post USING (VALUES (1), (2)) AS v (id) ON post.id = v.id WHEN MATCHED AND v.id = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET title = 'merged';
CREATE VIEW titles AS SELECT id, title FROM post; DELETE FROM titles WHERE id = 2;
CREATE RULE also AS ON UPDATE TO comment WHERE NEW.body = 'bye' DO INSTEAD DELETE FROM comment WHERE id = OLD.id; UPDATE comment SET body = 'bye' WHERE id = 5; DROP RULE also ON comment;
CREATE FUNCTION clear() RETURNS int LANGUAGE plpgsql AS $$ BEGIN DELETE FROM comment WHERE id = 6; DELETE FROM post WHERE id = 3; DELETE FROM post WHERE id = 4; RETURN 1; END $$;
SELECT clear();
SELECT * FROM made;

-- Each statement of a DO block or procedure is its own; those of one transaction are a group.
CALL refill();
DO $$ BEGIN DELETE FROM post WHERE id = 1; PERFORM FROM clear(); END $$;
CREATE PROCEDURE two() LANGUAGE plpgsql AS $$ BEGIN DELETE FROM comment WHERE id = 3; COMMIT; DELETE FROM comment WHERE id = 4; ROLLBACK; DELETE FROM post WHERE id = 2; END $$;
CALL two();
SELECT * FROM made;

-- What is rolled back was not deleted: savepoints, exception blocks, failing statements, two-phase commit.
CALL refill();
BEGIN; DELETE FROM post WHERE id = 1; SAVEPOINT a; DELETE FROM post WHERE id = 2; ROLLBACK TO a; DELETE FROM post WHERE id = 3; RELEASE a; SAVEPOINT b; DELETE FROM post WHERE id = 2; RELEASE b; COMMIT;
SELECT * FROM made;
CALL refill();
BEGIN; SAVEPOINT a; DELETE FROM post WHERE id = 1; ROLLBACK TO a; DELETE FROM post WHERE id = 1; COMMIT;
CREATE FUNCTION tries() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM comment WHERE id = 3;
    BEGIN DELETE FROM comment WHERE id = 4; BEGIN DELETE FROM post WHERE id = 2; EXCEPTION WHEN OTHERS THEN NULL; END; RAISE 'no'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN DELETE FROM comment WHERE id = 5; BEGIN DELETE FROM comment WHERE id = 6; RAISE 'no'; EXCEPTION WHEN OTHERS THEN NULL; END; EXCEPTION WHEN OTHERS THEN NULL; END;
    DELETE FROM comment WHERE id = 7;
END $$;
SELECT tries();
DELETE FROM post WHERE 1 / (id - 4) < 9;
SELECT * FROM made;
SELECT count(*) FROM post;

-- The same key removed twice by one statement: both versions are kept, in the order of their removal.
CALL refill();
CREATE FUNCTION twice() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DELETE FROM comment WHERE id = 1; INSERT INTO comment VALUES (1, 1, NULL, 'again'); DELETE FROM comment WHERE id = 1; END $$;
SELECT twice();
SELECT keepsake_seq, id, body FROM box_deleted.comment ORDER BY 1;

-- A BEFORE trigger that keeps the row, one that changes it, one that removes more; no trigger of replicas.
CALL refill();
CREATE FUNCTION before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.id = 1 THEN RETURN NULL; END IF;
    IF OLD.id = 2 THEN DELETE FROM comment WHERE id = 8; END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER before BEFORE DELETE ON post FOR EACH ROW EXECUTE FUNCTION before();
DELETE FROM post WHERE id < 3;
SELECT * FROM made;
DROP TRIGGER before ON post;
CALL refill();
SET session_replication_role = replica; DELETE FROM post WHERE id = 1; RESET session_replication_role;
SET keepsake.capture = off; DELETE FROM post WHERE id = 2; RESET keepsake.capture;
SELECT * FROM made;
CREATE ROLE regress_box; SET ROLE regress_box; SET keepsake.capture = off; RESET ROLE;

-- TRUNCATE as the table has it.
CALL refill();
TRUNCATE post, comment;
SELECT * FROM made;
SELECT keepsake.manage('comment', on_truncate => 'reject');
TRUNCATE post CASCADE;
SELECT keepsake.manage('comment', on_truncate => 'allow');
CALL refill();
TRUNCATE post CASCADE;
SELECT * FROM made;

-- More rows than are collected at once, and values that are stored outside of their rows.
CALL refill();
INSERT INTO post SELECT n, (SELECT string_agg(md5((n * i)::text), '') FROM generate_series(1, CASE WHEN n % 500 = 0 THEN 400 ELSE 1 END) i) FROM generate_series(100, 3099) n;
CREATE TABLE before_it AS SELECT * FROM post;
DELETE FROM post;
SELECT count(*), count(DISTINCT keepsake_seq), count(DISTINCT keepsake_deletion) FROM box_deleted.post;
SELECT count(*) FROM (SELECT id, title, rank FROM before_it EXCEPT SELECT id, title, rank FROM box_deleted.post) AS lost;
SELECT count(*) FROM box_deleted.post p JOIN before_it b USING (id) WHERE length(b.title) > 10000 AND p.title = b.title;
-- The table that held them may be gone before the rows are written.
CREATE FUNCTION erase() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DELETE FROM comment; DELETE FROM post; DROP TABLE comment; ALTER TABLE post ALTER rank TYPE text; END $$;
CALL refill();
UPDATE post SET title = (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 400) i) WHERE id = 1;
DROP VIEW made, titles;
SELECT erase();
SELECT length(title), rank_old, rank FROM box_deleted.post ORDER BY id;

-- Partitions: by the root, by name, with other column numbers; a row that moves is not removed.
CREATE TABLE event (id int, at int, what text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (10);
CREATE TABLE event_2 (what text, gone int, at int NOT NULL, id int NOT NULL); ALTER TABLE event_2 DROP gone; ALTER TABLE event ATTACH PARTITION event_2 FOR VALUES FROM (10) TO (20);
SELECT keepsake.manage('event', keep => 'archive', on_truncate => 'archive');
INSERT INTO event SELECT n, n, 'e' || n FROM generate_series(1, 19) n;
DELETE FROM event WHERE id IN (1, 11); DELETE FROM event_2 WHERE id = 12;
UPDATE event SET at = at + 10 WHERE id = 2; UPDATE event SET at = 3 WHERE id = 13;
MERGE INTO event USING (VALUES (4)) AS v (id) ON event.id = v.id WHEN MATCHED THEN UPDATE SET at = 14;
CREATE TABLE event_3 PARTITION OF event FOR VALUES FROM (20) TO (30); INSERT INTO event VALUES (21, 21, 'e21'); DELETE FROM event WHERE id = 21;
SELECT id, at, what FROM box_deleted.event ORDER BY keepsake_deletion, keepsake_seq;
SELECT relation, row_count FROM keepsake.deletion_table WHERE relation = 'event'::regclass ORDER BY deletion_id;
ALTER TABLE event DETACH PARTITION event_2; DELETE FROM event_2 WHERE id = 14;
TRUNCATE event;
SELECT count(*) FROM box_deleted.event;

-- Inheritance: each table has an archive of its own.
CREATE TABLE elder (id int PRIMARY KEY, name text); CREATE TABLE younger (toy text) INHERITS (elder);
SELECT keepsake.manage('elder', keep => 'archive', cascade => true);
INSERT INTO elder VALUES (1, 'a'); INSERT INTO younger VALUES (2, 'b', 'ball');
DELETE FROM elder;
SELECT id, name FROM box_deleted.elder; SELECT id, name, toy FROM box_deleted.younger;

-- Every removal is by whom the statement was run, whatever runs within it; claims that cannot be read fail nothing.
CREATE TABLE owned (id int PRIMARY KEY, of_id int REFERENCES owned ON DELETE CASCADE);
SELECT keepsake.manage('owned', keep => 'archive'); INSERT INTO owned VALUES (1, NULL), (2, NULL), (3, NULL), (4, 3);
GRANT USAGE ON SCHEMA box TO regress_box; GRANT SELECT, DELETE ON owned TO regress_box;
SET ROLE regress_box; DELETE FROM owned WHERE id = 1; SET keepsake.actor = 'ann'; SET request.jwt.claims = '{"sub": "bob", "tenant": "acme"}'; DELETE FROM owned WHERE id = 2;
RESET keepsake.actor; SET request.jwt.claims = '{"sub": '; DELETE FROM owned WHERE id = 3; RESET ROLE; RESET request.jwt.claims;
SELECT root_key, actor, role, session_role, tenant FROM keepsake.deletion WHERE root_table = 'owned'::regclass ORDER BY id;

-- Keys of other types.
CREATE TABLE keyed (a numeric, b date, c text, d bool, e float8, f timestamptz, g uuid, PRIMARY KEY (a, b, c, d, e, f, g)); SELECT keepsake.manage('keyed', keep => 'archive');
INSERT INTO keyed VALUES (1.50, '2020-01-02', E'x"\\y', true, 'NaN', '2020-01-02 03:04:05.6+07', '00000000-0000-0000-0000-000000000001'); DELETE FROM keyed;
CREATE TABLE keyless (a int); SELECT keepsake.manage('keyless', keep => 'archive'); INSERT INTO keyless VALUES (1); DELETE FROM keyless;
SELECT root_table, root_key FROM keepsake.deletion WHERE root_table IN ('keyed'::regclass, 'keyless'::regclass) ORDER BY id;

-- The trigger on a table that nobody manages does nothing.
CREATE TABLE plain (id int); CREATE TRIGGER planted AFTER DELETE ON plain FOR EACH ROW EXECUTE FUNCTION keepsake.archive_row(); INSERT INTO plain VALUES (1); DELETE FROM plain;
CREATE TRIGGER planted_too BEFORE TRUNCATE ON plain FOR EACH STATEMENT EXECUTE FUNCTION keepsake.archive_truncate(); TRUNCATE plain;

-- What is removed in the statement that gives up its archive, or its table, is kept nowhere.
CREATE TABLE given_up (id int PRIMARY KEY); SELECT keepsake.manage('given_up', keep => 'archive'); INSERT INTO given_up VALUES (1), (2), (3);
CREATE FUNCTION give_up() RETURNS void LANGUAGE plpgsql AS $$BEGIN DELETE FROM given_up WHERE id = 1; PERFORM keepsake.unmanage('given_up', drop_archive => true); END$$;
SELECT give_up();
SELECT keepsake.manage('given_up', keep => 'archive');
DO $$BEGIN DELETE FROM given_up WHERE id = 2; DROP TABLE box_deleted.given_up; END$$;
SELECT * FROM given_up;
DELETE FROM given_up;
SELECT keepsake.manage('given_up', keep => 'archive');
DO $$BEGIN DELETE FROM given_up; DROP TABLE given_up; END$$;

RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA box CASCADE;
DROP SCHEMA box_deleted CASCADE;
SELECT count(*) FROM keepsake.archive_table WHERE source_schema = 'box';
DROP ROLE regress_box;
