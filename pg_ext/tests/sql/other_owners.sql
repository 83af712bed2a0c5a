-- A deletion comes to tables of owners whom who deletes has never named: one needs no more than to refer to its rows. What these owners wrote does
-- not run as who deletes and restores: neither policies, which are about who asks, nor triggers of archived rows.
SET client_min_messages = warning;
CREATE ROLE regress_ann;
CREATE ROLE regress_eve;
CREATE SCHEMA app;
CREATE SCHEMA eve AUTHORIZATION regress_eve;
GRANT USAGE ON SCHEMA keepsake, app, eve TO PUBLIC;
CREATE TABLE app.entry (id int PRIMARY KEY, body text);
CREATE TABLE app.kept (id int PRIMARY KEY);
SELECT keepsake.manage('app.entry'), keepsake.manage('app.kept', keep => 'archive');
INSERT INTO app.entry SELECT n, 'entry' FROM generate_series(1, 9) AS n;
INSERT INTO app.kept SELECT generate_series(1, 9);
GRANT SELECT, INSERT, UPDATE, DELETE ON app.entry, app.kept TO regress_ann;
GRANT SELECT, REFERENCES ON app.entry, app.kept TO regress_eve;
CREATE FUNCTION app.last(of regclass) RETURNS uuid LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT id FROM keepsake.deletion WHERE root_table = of AND state = 'deleted' ORDER BY id DESC LIMIT 1 $$;
-- Her code.
SET ROLE regress_eve;
CREATE TABLE eve.seen (what text, who name);
GRANT INSERT ON eve.seen TO PUBLIC;
CREATE FUNCTION eve.strike(what text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO eve.seen VALUES (what, current_user);
    IF current_user NOT IN ('regress_eve', 'keepsake_archive') THEN RAISE WARNING '% runs as %', what, current_user; END IF;
    RETURN true;
END $$;
CREATE FUNCTION eve.sure(what text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT eve.strike(what) $$;
CREATE FUNCTION eve.one(what text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM eve.strike(what); RETURN 1; END $$;
CREATE FUNCTION eve.trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM eve.strike('trigger'); RETURN NULL; END $$;

-- In place. Rows that restrict a deletion are not named to who may not read them.
CREATE TABLE eve.restricts (id int PRIMARY KEY, entry int REFERENCES app.entry);
CREATE TABLE eve.hangs (id int PRIMARY KEY, entry int REFERENCES app.entry ON DELETE CASCADE, slug text);
SELECT keepsake.manage('eve.hangs');
CREATE UNIQUE INDEX ON eve.hangs (slug) WHERE deleted_at IS NULL;
INSERT INTO eve.restricts VALUES (1, 1);
INSERT INTO eve.hangs VALUES (1, 2, 'one'), (2, 3, 'two');
GRANT ALL ON eve.restricts, eve.hangs TO regress_ann;
ALTER TABLE eve.restricts ENABLE ROW LEVEL SECURITY;
ALTER TABLE eve.hangs ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON eve.restricts USING (eve.strike('policy') AND eve.sure('constant'));
CREATE POLICY p ON eve.hangs USING (eve.strike('policy') AND eve.sure('constant'));
SET ROLE regress_ann;
DELETE FROM app.entry WHERE id = 1;
SELECT keepsake.soft_delete('app.entry', 1);
SELECT * FROM keepsake.plan_delete('app.entry', 2);
DELETE FROM app.entry WHERE id IN (2, 3);
RESET ROLE;
INSERT INTO eve.hangs VALUES (9, 9, 'one');
SET ROLE regress_ann;
SELECT * FROM keepsake.restore_conflicts(app.last('app.entry'));
SELECT keepsake.restore(app.last('app.entry'));
SELECT keepsake.restore(app.last('app.entry'), 'skip') #- '{deletion_id}';
-- What is left of it is hers alone.
\set VERBOSITY sqlstate
SELECT keepsake.restore(app.last('app.entry'));
SELECT * FROM keepsake.restore_conflicts(app.last('app.entry'));
SELECT keepsake.hold(app.last('app.entry'), 'mine');
\set VERBOSITY default
-- A parent of hers.
SET ROLE regress_eve;
CREATE TABLE eve.above (id int PRIMARY KEY);
SELECT keepsake.manage('eve.above');
INSERT INTO eve.above VALUES (1);
ALTER TABLE eve.hangs ADD above int REFERENCES eve.above ON DELETE CASCADE;
INSERT INTO eve.hangs (id, entry, slug, above) VALUES (4, 4, 'four', 1);
GRANT ALL ON eve.above TO regress_ann;
ALTER TABLE eve.above ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON eve.above USING (eve.strike('policy') AND eve.sure('constant'));
SET ROLE regress_ann;
DELETE FROM app.entry WHERE id = 4;
RESET ROLE;
DELETE FROM eve.above;
SET ROLE regress_ann;
SELECT keepsake.restore(app.last('app.entry'), 'parents') -> 'restored' AS restored;

-- Of the application's own tables the caller's policies are judged as ever.
RESET ROLE;
CREATE TABLE app.note (id int PRIMARY KEY, entry int REFERENCES app.entry, who name);
INSERT INTO app.note VALUES (1, 5, 'regress_ann'), (2, 5, 'regress_eve');
ALTER TABLE app.note ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON app.note USING (who = current_user);
GRANT SELECT ON app.note TO regress_ann;
SET ROLE regress_ann;
DELETE FROM app.entry WHERE id = 5;

-- And so are those of tables that its tables refer to.
RESET ROLE;
CREATE ROLE regress_lib;
CREATE SCHEMA lib;
GRANT USAGE ON SCHEMA lib TO PUBLIC;
CREATE TABLE lib.topic (id int PRIMARY KEY, who name);
CREATE TABLE app.link (id int PRIMARY KEY, topic int REFERENCES lib.topic ON DELETE CASCADE);
SELECT keepsake.manage('lib.topic'), keepsake.manage('app.link');
INSERT INTO lib.topic VALUES (1, 'regress_ann'), (2, 'regress_lib');
INSERT INTO app.link VALUES (1, 1), (2, 2);
ALTER TABLE lib.topic OWNER TO regress_lib;
ALTER TABLE lib.topic ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON lib.topic USING (who = current_user);
GRANT SELECT, DELETE ON lib.topic, app.link TO regress_ann, regress_lib;
SET ROLE regress_ann;
DELETE FROM app.link WHERE id = 1;
SET ROLE regress_lib;
DELETE FROM lib.topic;
SET ROLE regress_ann;
SELECT kind, key, holder FROM keepsake.restore_conflicts(app.last('app.link')) ORDER BY key::text;

-- In archives. What comes back with a row of another's is checked, and fires, as its own owner.
SET ROLE regress_eve;
CREATE TABLE eve.archived (id int PRIMARY KEY, kept int, slug text UNIQUE, n int CHECK (eve.strike('check')));
SELECT keepsake.manage('eve.archived', keep => 'archive');
ALTER TABLE eve.archived ADD FOREIGN KEY (kept) REFERENCES app.kept ON DELETE CASCADE;
CREATE TRIGGER looks AFTER INSERT ON eve.archived FOR EACH ROW EXECUTE FUNCTION eve.trap();
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON eve.archived DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION eve.trap();
INSERT INTO eve.archived VALUES (1, 1, 'one'), (2, 2, 'two');
ALTER TABLE eve.archived ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON eve.archived USING (eve.strike('policy') AND eve.sure('constant'));
GRANT ALL ON eve.archived TO regress_ann;
TRUNCATE eve.seen;
SET ROLE regress_ann;
DELETE FROM app.kept WHERE id = 1;
BEGIN;
SELECT keepsake.restore(app.last('app.kept')) -> 'restored' AS restored;
RESET ROLE;
SELECT DISTINCT what, who FROM eve.seen ORDER BY 1, 2;
COMMIT;
SET ROLE regress_ann;
DELETE FROM app.kept WHERE id = 1;
SELECT keepsake.restore_row('app.kept', 1) -> 'restored' AS restored;
-- She has named that table herself when she deleted, but not when she restores.
SET client_min_messages = error;
BEGIN;
DELETE FROM eve.archived WHERE id = 2;
DELETE FROM app.kept WHERE id = 2;
COMMIT;
SET client_min_messages = warning;
\set VERBOSITY sqlstate
SELECT keepsake.restore_group(app.last('app.kept')) -> 'restored' AS restored;
SELECT keepsake.restore(app.last('app.kept')) -> 'restored' AS restored;
\set VERBOSITY default
DELETE FROM app.kept WHERE id = 1;
SET ROLE regress_eve;
INSERT INTO eve.archived VALUES (9, 9, 'one');
SET ROLE regress_ann;
SELECT * FROM keepsake.restore_conflicts(app.last('app.kept'));
SELECT keepsake.restore(app.last('app.kept'), 'skip') #- '{deletion_id}';
\set VERBOSITY sqlstate
SELECT keepsake.restore(app.last('app.kept'));
\set VERBOSITY default

-- What is constant in indexes and statistics, PostgreSQL evaluates while it plans a statement on the table, and so as whom a statement of another
-- owner's runs as. That is done as the owner or, of statistics, with nobody's rights.
RESET ROLE;
TRUNCATE eve.seen;
CREATE TABLE app.due (id int PRIMARY KEY);
SELECT keepsake.manage('app.due', '0');
INSERT INTO app.due VALUES (1), (2), (3);
GRANT SELECT, DELETE ON app.due TO regress_ann;
GRANT SELECT, REFERENCES ON app.due TO regress_eve;
SET ROLE regress_eve;
CREATE TABLE eve.planned (id int PRIMARY KEY, due int REFERENCES app.due ON DELETE CASCADE, n int);
SELECT keepsake.manage('eve.planned', '0');
CREATE INDEX ON eve.planned ((n + eve.one('index')));
CREATE INDEX ON eve.planned (n) WHERE eve.sure('predicate');
CREATE STATISTICS eve.planned_s ON (n + eve.one('statistics')), due FROM eve.planned;
INSERT INTO eve.planned VALUES (1, 1), (2, 2);
SET ROLE regress_ann;
DELETE FROM app.due WHERE id < 3;
\connect
SET client_min_messages = warning;
SELECT * FROM keepsake.purge_plan() WHERE table_name ~ '^(app|eve)\.' ORDER BY 1, 2;
\connect
SET client_min_messages = warning;
SET ROLE regress_ann;
SELECT keepsake.restore(app.last('app.due')) -> 'restored' AS restored;
\connect
SET client_min_messages = warning;
SET ROLE regress_ann;
DELETE FROM app.due WHERE id = 1;
\connect
SET client_min_messages = warning;
SELECT keepsake.purge_batch(100) ->> 'failed' AS failed;
SELECT DISTINCT what, who FROM eve.seen ORDER BY 1, 2;

-- AFTER triggers that an action of a foreign key fires.
TRUNCATE eve.seen;
CREATE TABLE app.shelf (id int PRIMARY KEY);
CREATE TABLE app.book (id int PRIMARY KEY, shelf int UNIQUE REFERENCES app.shelf ON DELETE SET NULL);
SELECT keepsake.manage('app.shelf'), keepsake.manage('app.book');
INSERT INTO app.shelf VALUES (1);
INSERT INTO app.book VALUES (1, 1);
GRANT SELECT, DELETE ON app.shelf TO regress_ann;
GRANT SELECT, REFERENCES ON app.book TO regress_eve;
SET ROLE regress_eve;
DROP TRIGGER looks ON eve.archived;
DROP TRIGGER later ON eve.archived;
CREATE TRIGGER goes AFTER DELETE ON eve.archived FOR EACH ROW EXECUTE FUNCTION eve.trap();
CREATE TRIGGER all_go AFTER DELETE ON eve.archived FOR EACH STATEMENT EXECUTE FUNCTION eve.trap();
CREATE CONSTRAINT TRIGGER goes_late AFTER DELETE ON eve.archived DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION eve.trap();
CREATE TABLE eve.parted (id int PRIMARY KEY, kept int) PARTITION BY LIST (id);
CREATE TABLE eve.part PARTITION OF eve.parted DEFAULT;
SELECT keepsake.manage('eve.parted', keep => 'archive');
ALTER TABLE eve.parted ADD FOREIGN KEY (kept) REFERENCES app.kept ON DELETE CASCADE;
CREATE TRIGGER goes AFTER DELETE ON eve.parted FOR EACH ROW EXECUTE FUNCTION eve.trap();
CREATE TABLE eve.page (id int PRIMARY KEY, shelf int REFERENCES app.book (shelf) ON UPDATE CASCADE);
CREATE TRIGGER moves AFTER UPDATE ON eve.page FOR EACH ROW EXECUTE FUNCTION eve.trap();
INSERT INTO eve.archived VALUES (6, 6, 'six');
INSERT INTO eve.parted VALUES (1, 5);
INSERT INTO eve.page VALUES (1, 1);
SET ROLE regress_ann;
SELECT keepsake.soft_delete('app.kept', 9) IS NOT NULL AS done;
SELECT keepsake.soft_delete('app.kept', 5) IS NOT NULL AS done;
SELECT keepsake.soft_delete('app.shelf', 1) IS NOT NULL AS done;
RESET ROLE;
SELECT keepsake.soft_delete('app.kept', 6) IS NOT NULL AS done;
SELECT what, who FROM eve.seen ORDER BY 1, 2;

-- Whom the caller names, and who may act as he does, is another matter.
SET client_min_messages = error;
TRUNCATE eve.seen;
SET ROLE regress_ann;
SELECT keepsake.soft_delete('eve.above', 1) IS NOT NULL AS done;
RESET ROLE;
SELECT DISTINCT what, who FROM eve.seen;
TRUNCATE eve.seen;
GRANT regress_ann TO regress_eve;
SET ROLE regress_ann;
DELETE FROM app.entry WHERE id = 1;
RESET ROLE;

DROP SCHEMA app, eve, lib CASCADE;
DROP SCHEMA IF EXISTS app_deleted, eve_deleted CASCADE;
DELETE FROM keepsake.deletion WHERE root_table::oid NOT IN (SELECT oid FROM pg_class);
DROP OWNED BY regress_ann, regress_eve, regress_lib;
DROP ROLE regress_ann, regress_eve, regress_lib;
RESET client_min_messages;
