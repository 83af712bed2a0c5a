-- What manage(keep => 'archive') takes on, makes and refuses, and how unmanage() takes it back.
CREATE SCHEMA shelf;
SET search_path = shelf;
CREATE TABLE book (id int PRIMARY KEY, title text COLLATE "C", isbn varchar(13) NOT NULL, pages int GENERATED ALWAYS AS (length(title)) STORED, cover bytea);
ALTER TABLE book ALTER cover SET STORAGE EXTERNAL;
CREATE DOMAIN short AS varchar(20) CHECK (VALUE <> 'no');
CREATE TABLE page (book_id int REFERENCES book ON DELETE CASCADE, number int, body short, keepsake_layout int, PRIMARY KEY (book_id, number));
CREATE TABLE note (id int, book_id int REFERENCES book ON DELETE SET NULL);
CREATE TABLE loan (id int PRIMARY KEY, book_id int REFERENCES book);

-- Whose rows would go or change with those of the book must be managed as well.
SELECT keepsake.manage('book', keep => 'archive');
SELECT keepsake.manage('book', keep => 'somewhere');
SELECT keepsake.manage('book', keep => 'archive', on_truncate => 'maybe');
SELECT keepsake.manage('book', keep => 'archive', on_delete => 'reject');
SELECT keepsake.manage('book', on_truncate => 'allow');
SELECT keepsake.manage('book', '7 days', keep => 'archive', cascade => true);
SELECT relation, retention, keep, on_truncate, after_triggers FROM keepsake.managed_table WHERE keep = 'archive' ORDER BY relation::text;

-- A managed table has its triggers and nothing else; one that merely refers to it has nothing.
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgrelid::regclass::text IN ('book', 'page', 'note', 'loan') AND NOT tgisinternal ORDER BY 1, 2;
SELECT attrelid::regclass, attname FROM pg_attribute WHERE attrelid IN ('book'::regclass, 'loan'::regclass) AND attnum > 0 ORDER BY attrelid, attnum;

-- The archive: the columns as they are stored, no promise about them, and nothing that ANALYZE would compute.
SELECT attrelid::regclass AS archive, attname, format_type(atttypid, atttypmod) AS type, attnotnull, coalesce(attstattarget, -1) AS target, attstorage, attcollation::regcollation
FROM pg_attribute WHERE attrelid IN (SELECT archive FROM keepsake.archive_table) AND attnum > 0 ORDER BY 1, attnum;
SELECT archive, relation, source_schema, source_name, object_key FROM keepsake.archive_table ORDER BY 1;
SELECT archive, layout, source_attnum, source_name, archive_name, type, typmod, "collation", missing, generated FROM keepsake.archive_column ORDER BY 1, 2, 3;
SELECT c.oid::regclass, c.relkind, c.relowner::regrole, array_to_string(c.relacl, ' ') ~ 'postgres=r\*/keepsake_archive$' AS shown_to_owner FROM pg_class c WHERE c.oid IN (SELECT archive FROM keepsake.archive_table) ORDER BY 1;
SELECT rolsuper, rolcanlogin, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = 'keepsake_archive';

-- A second call changes what is given, and mends what is missing.
DROP TRIGGER keepsake_archive_row ON book;
SELECT keepsake.manage('book', on_truncate => 'allow', after_triggers => 'skip');
SELECT relation, retention, on_truncate, after_triggers FROM keepsake.managed_table WHERE relation = 'book'::regclass;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'book'::regclass AND NOT tgisinternal ORDER BY 1;

-- What cannot be archived.
CREATE TEMP TABLE passing (id int PRIMARY KEY);
SELECT keepsake.manage('passing', keep => 'archive');
SELECT keepsake.manage('shelf_deleted.book', keep => 'archive');
SELECT keepsake.manage('pg_class', keep => 'archive');
CREATE VIEW seen AS SELECT * FROM book;
SELECT keepsake.manage('seen', keep => 'archive');
CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (10);
SELECT keepsake.manage('part', keep => 'archive');
CREATE FOREIGN DATA WRAPPER archive_nothing;
CREATE SERVER archive_elsewhere FOREIGN DATA WRAPPER archive_nothing;
CREATE FOREIGN TABLE afar (id int) SERVER archive_elsewhere;
SELECT keepsake.manage('afar', keep => 'archive');
CREATE TABLE parted_afar (id int) PARTITION BY RANGE (id);
CREATE FOREIGN TABLE part_afar PARTITION OF parted_afar FOR VALUES FROM (0) TO (10) SERVER archive_elsewhere;
SELECT keepsake.manage('parted_afar', keep => 'archive');
CREATE TABLE elder (id int); CREATE TABLE younger (more int) INHERITS (elder);
SELECT keepsake.manage('elder', keep => 'archive');

-- The two modes do not mix along a foreign key.
SELECT keepsake.manage('loan');
CREATE TABLE author (id int PRIMARY KEY);
CREATE TABLE prize (id int PRIMARY KEY, author_id int REFERENCES author);
SELECT keepsake.manage('author'), keepsake.manage('prize');
SELECT keepsake.manage('author', keep => 'archive');
CREATE TABLE editor (id int PRIMARY KEY);
ALTER TABLE prize ADD editor_id int REFERENCES editor;
SELECT keepsake.manage('editor', keep => 'archive', cascade => true);

-- Names that need care: long ones, and those of a schema that somebody else has.
CREATE SCHEMA "Lager ""1""_deleted"; CREATE SCHEMA "Lager ""1""";
CREATE TABLE "Lager ""1"""."Ä; DROP TABLE x" ("a'b" int PRIMARY KEY, "Ü" text);
SELECT keepsake.manage('"Lager ""1"""."Ä; DROP TABLE x"', keep => 'archive');
INSERT INTO "Lager ""1"""."Ä; DROP TABLE x" VALUES (1, 'x'); DELETE FROM "Lager ""1"""."Ä; DROP TABLE x";
SELECT "a'b", "Ü" FROM "Lager ""1""_deleted_2"."Ä; DROP TABLE x";
SELECT root_table, root_key FROM keepsake.deletion WHERE root_table = '"Lager ""1"""."Ä; DROP TABLE x"'::regclass;
CREATE SCHEMA a234567890123456789012345678901234567890123456789012345678901_3;
CREATE TABLE a234567890123456789012345678901234567890123456789012345678901_3.b234567890123456789012345678901234567890123456789012345678901_3 (id int);
SELECT keepsake.manage('a234567890123456789012345678901234567890123456789012345678901_3.b234567890123456789012345678901234567890123456789012345678901_3', keep => 'archive');
SELECT archive FROM keepsake.archive_table WHERE source_schema = 'a234567890123456789012345678901234567890123456789012345678901_3';

-- Unlogged as the source is; closed where the source has row-level security.
CREATE UNLOGGED TABLE quick (id int PRIMARY KEY);
CREATE ROLE regress_shelf; GRANT ALL ON SCHEMA shelf TO regress_shelf;
CREATE TABLE secret (id int PRIMARY KEY, of_whom text); ALTER TABLE secret ENABLE ROW LEVEL SECURITY; ALTER TABLE secret OWNER TO regress_shelf;
SELECT keepsake.manage('quick', keep => 'archive'), keepsake.manage('secret', keep => 'archive');
SELECT c.oid::regclass, c.relpersistence, c.relrowsecurity, has_table_privilege('regress_shelf', c.oid, 'SELECT') AS shown, has_table_privilege('regress_shelf', c.oid, 'DELETE') AS given FROM pg_class c WHERE c.oid IN ('shelf_deleted.quick'::regclass, 'shelf_deleted.secret'::regclass) ORDER BY 1;
INSERT INTO secret VALUES (1, 'a'); DELETE FROM secret;
CREATE ROLE regress_shelf_reader; GRANT USAGE ON SCHEMA shelf_deleted TO regress_shelf_reader; GRANT SELECT ON shelf_deleted.secret TO regress_shelf_reader;
SET ROLE regress_shelf; SELECT id, of_whom FROM shelf_deleted.secret;
DELETE FROM shelf_deleted.secret;
SET ROLE regress_shelf_reader; SELECT id, of_whom FROM shelf_deleted.secret; RESET ROLE;

-- Only the owner manages; nobody gives up deleted rows who may not purge them.
SET ROLE regress_shelf_reader; SELECT keepsake.manage('shelf.secret', keep => 'archive'); RESET ROLE;
SET ROLE regress_shelf;
SELECT keepsake.unmanage('shelf.secret');
SELECT keepsake.unmanage('shelf.secret', drop_archive => true);
RESET ROLE;
SELECT keepsake.hold(id, 'a case') IS NOT NULL AS held FROM keepsake.deletion WHERE root_table = 'secret'::regclass;
SELECT keepsake.unmanage('secret', drop_archive => true);
SELECT keepsake.release(h.id) FROM keepsake.hold h WHERE h.released_at IS NULL AND h.reason = 'a case';
SELECT keepsake.unmanage('secret', drop_archive => true);
SELECT state, settled_at IS NOT NULL AS settled FROM keepsake.deletion WHERE root_table = 'secret'::regclass;
SELECT keepsake.unmanage('book'), keepsake.unmanage('note'), keepsake.unmanage('page');
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgrelid::regclass::text IN ('book', 'page', 'note', 'loan') AND NOT tgisinternal;
SELECT to_regclass('shelf_deleted.book'), (SELECT count(*) FROM keepsake.archive_column WHERE archive::oid NOT IN (SELECT oid FROM pg_class));

-- Nobody may do more with an archive because of what the extension's owner grants by default.
ALTER DEFAULT PRIVILEGES GRANT SELECT, UPDATE, DELETE ON TABLES TO regress_shelf_reader;
CREATE TABLE granted (id int PRIMARY KEY);
SELECT keepsake.manage('granted', keep => 'archive'), keepsake.archive_by_month('granted');
ALTER DEFAULT PRIVILEGES REVOKE SELECT, UPDATE, DELETE ON TABLES FROM regress_shelf_reader;
SELECT count(*) AS tables, bool_or(has_table_privilege('regress_shelf_reader', c.oid, 'SELECT') OR has_table_privilege('regress_shelf_reader', c.oid, 'UPDATE')) AS granted,
       count(*) FILTER (WHERE c.relrowsecurity) AS closed
FROM pg_class c WHERE c.relnamespace::regnamespace::text LIKE '%_deleted' AND c.relkind = 'r' AND c.relname ~ '^granted';
SELECT keepsake.unmanage('granted'); DROP TABLE granted;

-- An archive stands where the database has its tables: nobody needs a right to the tablespace that he has set.
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE regress_place LOCATION '';
CREATE TABLE placed (id int PRIMARY KEY, key text);
SET default_tablespace = regress_place;
SELECT keepsake.manage('placed', keep => 'archive'), keepsake.archive_by_month('placed');
RESET default_tablespace;
SELECT count(*) FROM pg_class WHERE reltablespace = (SELECT oid FROM pg_tablespace WHERE spcname = 'regress_place');
SELECT keepsake.unmanage('placed'); DROP TABLE placed; DROP TABLESPACE regress_place;

RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA shelf, "Lager ""1""", "Lager ""1""_deleted", a234567890123456789012345678901234567890123456789012345678901_3 CASCADE;
SELECT archive, relation, source_schema, source_name FROM keepsake.archive_table WHERE relation IS NULL ORDER BY 1;
DROP SCHEMA shelf_deleted, "Lager ""1""_deleted_2", a234567890123456789012345678901234567890123456789012345_deleted CASCADE;
SELECT count(*) FROM keepsake.archive_table;
DROP FOREIGN DATA WRAPPER archive_nothing CASCADE;
DROP ROLE regress_shelf, regress_shelf_reader;
