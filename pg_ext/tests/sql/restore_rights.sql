-- What a restore tells, and whom it obeys.
CREATE ROLE regress_reader;
GRANT USAGE ON SCHEMA keepsake TO regress_reader;
CREATE TABLE folder (id int PRIMARY KEY, owner text);
CREATE TABLE file (id int PRIMARY KEY, folder int REFERENCES folder ON DELETE CASCADE, owner text, name text);
SELECT keepsake.manage('folder'), keepsake.manage('file');
CREATE UNIQUE INDEX file_name ON file (name) WHERE deleted_at IS NULL;
ALTER TABLE folder ENABLE ROW LEVEL SECURITY;
ALTER TABLE file ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON folder USING (owner = current_user);
CREATE POLICY own ON file USING (owner = current_user);
GRANT SELECT, UPDATE, DELETE ON folder TO regress_reader;
INSERT INTO folder VALUES (1, 'regress_reader'), (2, 'someone'), (3, 'regress_reader');
INSERT INTO file VALUES (1, 1, 'someone', 'secret'), (2, 1, 'regress_reader', 'mine'), (3, 1, 'regress_reader', 'ours');
SET ROLE regress_reader;
SELECT keepsake.soft_delete('folder', 1) AS d \gset
RESET ROLE;
INSERT INTO file VALUES (11, 3, 'regress_reader', 'secret'), (12, 2, 'someone', 'mine'), (13, 3, 'regress_reader', 'ours');

-- Who may not read the cascaded table learns that there are conflicts, and on what; no key, no value.
SET ROLE regress_reader;
SELECT * FROM keepsake.restore_conflicts(:'d');
SELECT keepsake.restore(:'d');
RESET ROLE;
-- A column of it is not enough to be shown rows.
GRANT SELECT (id) ON file TO regress_reader;
SET ROLE regress_reader;
SELECT * FROM keepsake.restore_conflicts(:'d');
RESET ROLE;
-- With the privilege the policies decide, for the row and for the holder.
GRANT SELECT ON file TO regress_reader;
SET ROLE regress_reader;
SELECT * FROM keepsake.restore_conflicts(:'d') ORDER BY key;
SELECT keepsake.restore(:'d', 'skip') - 'deletion_id' AS report;
-- What was left behind is restored by who sees and may delete each of its rows: 42501, P0002, then the answer.
\set VERBOSITY sqlstate
SELECT keepsake.restore(:'d', 'skip');
\set VERBOSITY default
RESET ROLE;
GRANT DELETE ON file TO regress_reader;
SET ROLE regress_reader;
\set VERBOSITY sqlstate
SELECT keepsake.restore(:'d', 'skip');
\set VERBOSITY default
RESET ROLE;
UPDATE file SET owner = 'regress_reader' WHERE id = 1;
SET ROLE regress_reader;
SELECT keepsake.restore(:'d', 'skip') -> 'skipped' AS skipped;
RESET ROLE;

-- A deletion with several roots is for who sees and may delete every one of them.
INSERT INTO folder VALUES (21, 'regress_reader'), (22, 'regress_reader');
SELECT keepsake.soft_delete('folder', 21) AS e, keepsake.soft_delete('folder', 22) AS f \gset
SET session_replication_role = replica;
UPDATE folder SET deletion_id = :'e' WHERE id = 22;
RESET session_replication_role;
UPDATE keepsake.deletion SET root_key = NULL WHERE id = :'e';
UPDATE keepsake.deletion_table SET row_count = 2 WHERE deletion_id = :'e';
DELETE FROM keepsake.deletion WHERE id = :'f';
UPDATE folder SET owner = 'someone' WHERE id = 22;
SET ROLE regress_reader;
\set VERBOSITY sqlstate
SELECT keepsake.restore(:'e') - 'deletion_id' AS report;
SELECT * FROM keepsake.restore_conflicts(:'e');
\set VERBOSITY default
RESET ROLE;
CREATE POLICY see ON folder FOR SELECT USING (true);
SET ROLE regress_reader;
\set VERBOSITY sqlstate
SELECT keepsake.restore(:'e') - 'deletion_id' AS report;
\set VERBOSITY default
RESET ROLE;
UPDATE folder SET owner = 'regress_reader' WHERE id = 22;
SET ROLE regress_reader;
SELECT keepsake.restore(:'e') - 'deletion_id' AS report;
SELECT keepsake.restore(:'e') - 'deletion_id' AS again;
RESET ROLE;
-- Without roots of its own there is none: nothing is to be had of a deletion that holds nothing.
INSERT INTO keepsake.deletion (id, group_id, root_table, actor, deleted_at, expires_at) VALUES ('00000000-0000-0000-0000-00000000000a', '00000000-0000-0000-0000-00000000000a', 'folder', 'x', now(), 'infinity');
INSERT INTO keepsake.deletion_table (deletion_id, relation, row_count) VALUES ('00000000-0000-0000-0000-00000000000a', 'folder', 1);
SELECT keepsake.restore('00000000-0000-0000-0000-00000000000a');
REVOKE DELETE ON folder FROM regress_reader;
SET ROLE regress_reader;
\set VERBOSITY sqlstate
SELECT keepsake.restore(:'e') - 'deletion_id' AS report;
\set VERBOSITY default
SELECT keepsake.restore('00000000-0000-0000-0000-00000000000a');
RESET ROLE;

-- Keys are found again under any settings for output.
CREATE TABLE exact (f float8, i interval, d date, r daterange, b bytea, t timestamptz, PRIMARY KEY (f, i, d, r, b, t));
SELECT keepsake.manage('exact');
SET extra_float_digits = -15;
SET IntervalStyle = 'sql_standard';
SET DateStyle = 'SQL, DMY';
SET bytea_output = 'escape';
SET TimeZone = 'Asia/Kathmandu';
INSERT INTO exact VALUES (0.1::float8 + 0.2::float8, '-1 day 02:03:04', '02/03/2024', '[02/03/2024,05/06/2024)', '\x00ff27', '2024-03-02 01:00+00');
SELECT keepsake.soft_delete('exact', (SELECT to_jsonb(e) - 'f' || jsonb_build_object('f', 0.30000000000000004) FROM exact e)) AS d \gset
SELECT root_key FROM keepsake.deletion WHERE id = :'d';
SET DateStyle = 'German, MDY';
SET IntervalStyle = 'iso_8601';
SELECT keepsake.restore(:'d') - 'deletion_id' AS report;
RESET extra_float_digits;
RESET IntervalStyle;
SET DateStyle = 'Postgres, MDY';
SET bytea_output = 'hex';
SET TimeZone = 'PST8PDT';
SELECT keepsake.soft_delete('exact', (SELECT jsonb_build_object('f', f, 'i', i, 'd', d, 'r', r, 'b', b, 't', t) FROM exact)) AS d \gset
SET IntervalStyle = 'sql_standard';
SET extra_float_digits = 0;
SELECT keepsake.restore(:'d') - 'deletion_id' AS report;
SHOW DateStyle;
SHOW extra_float_digits;
RESET ALL;
SET DateStyle = 'Postgres, MDY';

-- A deletion whose root's table is gone, or is managed no longer, answers as a missing one.
CREATE TABLE gone (id int PRIMARY KEY);
SELECT keepsake.manage('gone');
INSERT INTO gone VALUES (1);
SELECT keepsake.soft_delete('gone', 1) AS d \gset
DROP TABLE gone;
\set VERBOSITY sqlstate
SELECT keepsake.restore(:'d');
SELECT * FROM keepsake.restore_conflicts(:'d');
SELECT keepsake.purge_deletion(:'d');
\set VERBOSITY default
SELECT keepsake.soft_delete('exact', (SELECT jsonb_build_object('f', f, 'i', i, 'd', d, 'r', r, 'b', b, 't', t) FROM exact)) AS d \gset
SELECT keepsake.restore(:'d') IS NOT NULL AS restored;
SELECT keepsake.unmanage('exact');
\set VERBOSITY sqlstate
SELECT keepsake.restore(:'d');
\set VERBOSITY default

DROP TABLE exact, file, folder;
DELETE FROM keepsake.deletion;
REVOKE USAGE ON SCHEMA keepsake FROM regress_reader;
DROP ROLE regress_reader;
