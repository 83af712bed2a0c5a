-- keepsake.manage_schema(): every table of a schema, those that come later, and what is skipped.
SET client_min_messages = warning;
CREATE ROLE regress_store; CREATE ROLE regress_store_guest;
CREATE SCHEMA store AUTHORIZATION regress_store; CREATE SCHEMA aside AUTHORIZATION regress_store;
GRANT ALL ON SCHEMA store TO regress_store_guest;
RESET client_min_messages;
\set SHOW_CONTEXT never
CREATE VIEW managed AS SELECT m.relation, m.retention, m.on_truncate, a.archive FROM keepsake.managed_table m LEFT JOIN keepsake.archive_table a USING (relation)
    WHERE m.keep = 'archive' ORDER BY m.relation::text COLLATE "C";
GRANT SELECT ON managed TO PUBLIC;
SET ROLE regress_store;
SET search_path = store;
CREATE TABLE customer (id int PRIMARY KEY, best_order int);
CREATE TABLE purchase (id int PRIMARY KEY, customer_id int REFERENCES customer ON DELETE CASCADE);
ALTER TABLE customer ADD FOREIGN KEY (best_order) REFERENCES purchase ON DELETE SET NULL;
CREATE TABLE tag (purchase_id int REFERENCES purchase ON DELETE CASCADE, word text);
CREATE TABLE scrap (word text);
CREATE TABLE visit (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE kept (id int PRIMARY KEY, n int);
CREATE TABLE keeper (id int PRIMARY KEY);
SELECT keepsake.manage('kept');
ALTER TABLE kept ADD FOREIGN KEY (n) REFERENCES keeper ON DELETE CASCADE;
SET ROLE regress_store_guest; CREATE TABLE foreigner (id int PRIMARY KEY);

-- Who may.
SELECT keepsake.manage_schema('store');
SET ROLE regress_store;
SELECT keepsake.manage_schema('store', keep => 'in place');
SELECT keepsake.manage_schema('store', retention => '-1 day');
SELECT keepsake.manage_schema('store', on_truncate => 'restart');
SELECT keepsake.manage_schema('store', retention => '7 days', on_truncate => 'archive');
SELECT * FROM public.managed;

-- What comes later.
CREATE TABLE plain (id int PRIMARY KEY);
CREATE TABLE copied AS SELECT 1 AS id;
SELECT 1 AS id INTO chosen;
ALTER TABLE copied ADD PRIMARY KEY (id); ALTER TABLE chosen ADD PRIMARY KEY (id);
CREATE TABLE aside.moved (id int PRIMARY KEY); ALTER TABLE aside.moved SET SCHEMA store;
CREATE TABLE remark (plain_id int REFERENCES plain ON DELETE CASCADE);
CREATE TABLE aside.far (plain_id int REFERENCES plain ON DELETE SET NULL);
CREATE TABLE trip (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE trip_1 PARTITION OF trip FOR VALUES FROM (0) TO (10);
-- A table of its own that becomes a partition, and one that is a partition no longer.
CREATE TABLE trip_2 (id int PRIMARY KEY); INSERT INTO trip_2 VALUES (10);
ALTER TABLE trip ATTACH PARTITION trip_2 FOR VALUES FROM (10) TO (20);
ALTER TABLE trip DETACH PARTITION trip_1;
SELECT relation, retention, on_truncate, archive FROM public.managed;
INSERT INTO trip_1 VALUES (1);
DELETE FROM trip; DELETE FROM trip_1; DELETE FROM copied;
SELECT tableoid::regclass, id FROM store_deleted.trip UNION ALL SELECT tableoid::regclass, id FROM store_deleted.trip_1 UNION ALL SELECT tableoid::regclass, id FROM store_deleted.copied ORDER BY 1, 2;
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgrelid::regclass::text LIKE 'trip%' AND NOT tgisinternal OR tgrelid::regclass::text = 'trip_2' ORDER BY 1, 2;
TRUNCATE plain CASCADE;
-- What goes away in any order, and comes back under the same name.
DROP TABLE customer, purchase CASCADE; DROP TABLE plain CASCADE;
CREATE TABLE plain (id int PRIMARY KEY);
-- A schema with tables, of which one would lose rows.
RESET ROLE;
CREATE SCHEMA later CREATE TABLE late (id int PRIMARY KEY, plain_id int REFERENCES store.plain ON DELETE CASCADE);
-- Tables of others who come later; they need no right in keepsake's schema.
SET ROLE regress_store_guest; CREATE TABLE store.of_guest (id int PRIMARY KEY); INSERT INTO store.of_guest VALUES (1); DELETE FROM store.of_guest; SELECT id FROM store_deleted.of_guest;
SET ROLE regress_store;
SELECT count(*) FROM store_deleted.of_guest;
-- Taken out, and taken on again.
SELECT keepsake.unmanage('moved');
ALTER TABLE moved ADD note text;
SELECT relation, archive FROM public.managed;
SELECT keepsake.manage('moved', keep => 'archive');
SELECT exceptions FROM keepsake.whole_schema;
-- What does not work is skipped: this table could not be archived, as one kept in place would hang on it.
CREATE TABLE late_keeper (id int PRIMARY KEY);
SELECT keepsake.unmanage('late_keeper');
ALTER TABLE kept ADD late int REFERENCES late_keeper;
RESET ROLE;
UPDATE keepsake.whole_schema SET exceptions = '{}';
SET ROLE regress_store;
ALTER TABLE late_keeper ADD x int;
SELECT relation::regclass FROM keepsake.unmanaged_in_schema ORDER BY relation::regclass::text;
-- A table of somebody else's is not managed because the one that it refers to is.
CREATE TABLE stock (id int UNIQUE); CREATE TABLE own_shelf (id int PRIMARY KEY, stock_id int REFERENCES stock (id) ON DELETE CASCADE);
SELECT keepsake.unmanage('own_shelf'); CREATE TABLE aside.shelf (id int PRIMARY KEY, stock_id int REFERENCES stock (id) ON DELETE CASCADE);
GRANT REFERENCES ON stock TO regress_store_guest; GRANT ALL ON SCHEMA aside TO regress_store_guest;
SET ROLE regress_store_guest;
CREATE TABLE aside.victim (id int PRIMARY KEY, stock_id int REFERENCES store.stock (id) ON DELETE CASCADE);
SET ROLE regress_store;
ALTER TABLE stock ADD PRIMARY KEY (id);
SELECT relation FROM public.managed WHERE relation::text ~ 'stock|shelf|victim';
RESET ROLE; DROP TABLE aside.victim; SET ROLE regress_store;
ALTER TABLE stock ADD x int;
SELECT relation FROM public.managed WHERE relation::text ~ 'stock|shelf|victim';
-- It ends.
SELECT keepsake.unmanage_schema('store');
CREATE TABLE after_all (id int PRIMARY KEY);
SELECT to_regclass('store_deleted.after_all'), (SELECT count(*) FROM keepsake.whole_schema);
RESET ROLE; RESET search_path;
-- A schema is the same under another name.
CREATE SCHEMA was; SELECT keepsake.manage_schema('was'); ALTER SCHEMA was RENAME TO is_now;
CREATE TABLE is_now.late (id int PRIMARY KEY);
SELECT relation, archive FROM managed WHERE relation::text ~ 'is_now';
DROP SCHEMA is_now CASCADE; DROP SCHEMA is_now_deleted, was_deleted CASCADE;
SELECT keepsake.manage_schema('pg_catalog');
SELECT keepsake.manage_schema('store_deleted');
SELECT keepsake.manage_schema('aside');
-- A role can be dropped when its tables are gone or another's, though it could read their archives; one that still has a table cannot.
CREATE ROLE regress_store_leaver; CREATE ROLE regress_store_reader; CREATE SCHEMA left_by; GRANT ALL ON SCHEMA left_by TO regress_store_leaver; SELECT keepsake.manage_schema('left_by');
SET ROLE regress_store_leaver;
CREATE TABLE left_by.gone (id int PRIMARY KEY); CREATE TABLE left_by.given (id int PRIMARY KEY); CREATE TABLE left_by.still (id int PRIMARY KEY);
ALTER TABLE left_by.gone ENABLE ROW LEVEL SECURITY; ALTER TABLE left_by.still ENABLE ROW LEVEL SECURITY;
INSERT INTO left_by.gone VALUES (1); DELETE FROM left_by.gone; GRANT SELECT ON left_by_deleted.gone TO regress_store_reader;
DROP TABLE left_by.gone;
RESET ROLE;
REVOKE USAGE ON SCHEMA left_by_deleted FROM PUBLIC; ALTER TABLE left_by.given OWNER TO regress_store; REVOKE ALL ON SCHEMA left_by FROM regress_store_leaver;
DROP ROLE regress_store_leaver;
SELECT has_table_privilege('regress_store_leaver', 'left_by_deleted.still', 'SELECT'), (SELECT count(*) FROM pg_policy WHERE polname = 'keepsake_source_owner' AND polrelid = 'left_by_deleted.still'::regclass);
BEGIN READ ONLY; DROP ROLE regress_store_leaver; ROLLBACK;
\set VERBOSITY terse
SET ROLE regress_store_guest; DROP ROLE regress_store_leaver; RESET ROLE;
\set VERBOSITY default
DROP TABLE left_by.still;
DROP ROLE regress_store_leaver, regress_store_reader;
SELECT count(*) FROM left_by_deleted.gone;
SELECT grantee::regrole, privilege_type FROM pg_namespace, aclexplode(nspacl) WHERE nspname = 'left_by_deleted' AND grantee::regrole::text <> 'keepsake_archive' ORDER BY 1;
SET client_min_messages = warning;
DROP SCHEMA left_by, left_by_deleted CASCADE;
DROP SCHEMA store, aside, later CASCADE;
SELECT count(*) FROM keepsake.whole_schema;
SELECT archive FROM keepsake.archive_table ORDER BY archive::text;
DROP SCHEMA store_deleted, later_deleted, aside_deleted CASCADE;
SELECT count(*) FROM keepsake.archive_table;
DROP VIEW managed;
DROP ROLE regress_store, regress_store_guest;
