-- Who may restore what was archived, and as whom code runs that others wrote.
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
CREATE ROLE kept_owner;
CREATE ROLE kept_ann;
CREATE ROLE kept_bob;
CREATE SCHEMA kept AUTHORIZATION kept_owner;
GRANT USAGE ON SCHEMA kept TO PUBLIC;
SET search_path = kept, public;
CREATE FUNCTION last(of regclass) RETURNS uuid LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT id FROM keepsake.deletion WHERE root_table = of AND state = 'deleted' ORDER BY id DESC LIMIT 1 $$;
SET ROLE kept_owner;
CREATE TABLE team (id int PRIMARY KEY, member name);
CREATE TABLE note (id int PRIMARY KEY, team_id int NOT NULL REFERENCES team ON DELETE CASCADE, owner name, slug text UNIQUE);
RESET ROLE;
SELECT keepsake.manage('team', keep => 'archive', cascade => true);
SET ROLE kept_owner;
INSERT INTO team VALUES (1, 'kept_ann'), (2, 'kept_bob');
INSERT INTO note VALUES (1, 1, 'kept_ann', 'a'), (2, 1, 'kept_ann', 'b'), (3, 2, 'kept_bob', 'c');
GRANT SELECT, DELETE ON note, team TO kept_ann, kept_bob;

\echo == Privileges: DELETE and INSERT on the table of the root.
SET ROLE kept_ann;
DELETE FROM note WHERE id = 1;
SELECT keepsake.restore(last('note'));
SELECT keepsake.restore_row('note', 1);
SET ROLE kept_owner;
GRANT INSERT ON note, team TO kept_ann, kept_bob;
SET ROLE kept_ann;
SELECT keepsake.restore(last('note')) -> 'restored';
SELECT count(*) FROM kept_deleted.note;

\echo == Policies: of the rows that are back. One of them asks the parent, which is not there before.
SET ROLE kept_owner;
ALTER TABLE note ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON note FOR ALL USING (EXISTS (SELECT FROM team WHERE team.id = team_id AND member = current_user));
ALTER TABLE team ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON team USING (member = current_user);
SET ROLE kept_ann;
DELETE FROM note WHERE id = 1;
SET ROLE kept_bob;
SELECT keepsake.restore('00000000-0000-0000-0000-000000000000');
\set VERBOSITY sqlstate
SELECT keepsake.restore(last('note'));
SELECT keepsake.restore_row('note', 1);
SELECT keepsake.restore(last('note'), 'skip');
\set VERBOSITY default
SET ROLE kept_ann;
SELECT keepsake.restore(last('note')) -> 'restored';
DELETE FROM team WHERE id = 1;
SET ROLE kept_bob;
\set VERBOSITY sqlstate
SELECT keepsake.restore(last('team'));
SET ROLE kept_ann;
SELECT keepsake.restore_row('note', 1);
SELECT keepsake.restore_row('note', 1, 'parents') -> 'restored';
\set VERBOSITY default
SELECT keepsake.restore(last('team')) -> 'restored';
SELECT id FROM team; SELECT id FROM note ORDER BY 1;

\echo == A conflict tells a stranger nothing, and who may see the rows what he may.
DELETE FROM note WHERE id = 2;
SET ROLE kept_bob;
INSERT INTO note VALUES (9, 2, 'kept_bob', 'b');
\set VERBOSITY sqlstate
SELECT keepsake.restore(last('note'));
\set VERBOSITY default
SET ROLE kept_ann;
SELECT keepsake.restore(last('note'));
SELECT * FROM keepsake.restore_conflicts(last('note'));
SET ROLE kept_bob;
DELETE FROM note WHERE id = 9;
SET ROLE kept_ann;
SELECT keepsake.restore_row('note', 2) -> 'restored';

\echo == WITH CHECK holds for what comes back.
SET ROLE kept_owner;
CREATE POLICY few ON note AS RESTRICTIVE FOR INSERT WITH CHECK (id <> 2);
SET ROLE kept_ann;
DELETE FROM note WHERE id = 2;
\set VERBOSITY sqlstate
SELECT keepsake.restore_row('note', 2);
\set VERBOSITY default
SET ROLE kept_owner;
DROP POLICY few ON note;
SET ROLE kept_ann;
SELECT keepsake.restore_row('note', 2) -> 'restored';

\echo == What the owner of the table wrote runs as who calls; of a superuser as the owner, and leaves nothing.
RESET ROLE;
CREATE TABLE seen (n int GENERATED ALWAYS AS IDENTITY, what text, who name, restricted boolean);
GRANT ALL ON seen TO PUBLIC;
SET ROLE kept_owner;
CREATE FUNCTION see(what text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO kept.seen (what, who) VALUES (what, current_user);
    RETURN true;
END $$;
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM kept.see('trigger'), set_config('application_name', 'taken', false);
    RETURN NULL;
END $$;
ALTER TABLE note ADD CONSTRAINT looks CHECK (see('check'));
CREATE TRIGGER looks AFTER INSERT ON note FOR EACH ROW EXECUTE FUNCTION see();
SET ROLE kept_ann;
DELETE FROM note WHERE id = 2;
TRUNCATE seen;
RESET ROLE;
TRUNCATE seen;
SET ROLE kept_ann;
SELECT keepsake.restore_row('note', 2) -> 'restored';
SELECT what, who FROM seen ORDER BY n;
DELETE FROM note WHERE id = 2;
RESET ROLE;
TRUNCATE seen;
SET application_name = 'before';
SELECT keepsake.restore_row('note', 2) -> 'restored';
SELECT what, who FROM seen ORDER BY n;
SHOW application_name;

\echo == A trigger that would be deferred to the commit fires at once where another than the owner calls.
SET ROLE kept_owner;
DROP TRIGGER looks ON note;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON note DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION see();
SET ROLE kept_ann;
DELETE FROM note WHERE id = 2;
RESET ROLE;
TRUNCATE seen;
BEGIN;
SELECT keepsake.restore_row('note', 2) -> 'restored';
SELECT what, who FROM seen ORDER BY n;
COMMIT;
SELECT count(*) FROM seen;

\echo == Archives of tables with other owners: code of each runs as its own.
CREATE TABLE kept.attached (id int PRIMARY KEY, note_id int);
ALTER TABLE attached OWNER TO kept_bob;
GRANT REFERENCES ON note TO kept_bob;
SELECT keepsake.manage('attached', keep => 'archive');
ALTER TABLE attached ADD FOREIGN KEY (note_id) REFERENCES note ON DELETE CASCADE;
CREATE TRIGGER looks AFTER INSERT ON attached FOR EACH ROW EXECUTE FUNCTION see();
INSERT INTO attached VALUES (1, 2);
DELETE FROM note WHERE id = 2;
TRUNCATE seen;
SELECT keepsake.restore_row('note', 2) -> 'restored';
SELECT what, who FROM seen ORDER BY n;

\echo == What the owner wrote for the columns of a row is computed as him, whoever reads; policies are judged as who reads.
SET ROLE kept_owner;
CREATE FUNCTION traced(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF current_user <> 'kept_owner' THEN
        RAISE WARNING 'computed as %', current_user;
    END IF;
    RETURN $1;
END $$;
CREATE DOMAIN word AS text CHECK (kept.traced(VALUE) <> '');
CREATE TABLE secret (id int PRIMARY KEY, owner text, word word, owner_l text GENERATED ALWAYS AS (lower(owner)) STORED,
                     shout text GENERATED ALWAYS AS (upper(traced(owner))) STORED);
SELECT keepsake.manage('secret', keep => 'archive');
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON secret USING (owner_l = current_user AND word = shout);
GRANT SELECT, INSERT, UPDATE, DELETE ON secret TO kept_ann, kept_bob;
INSERT INTO secret VALUES (1, 'Kept_Ann', 'KEPT_ANN'), (2, 'Kept_Bob', 'KEPT_BOB'), (3, 'kept_bob', 'KEPT_BOB'), (4, 'kept_bob', 'other');
DELETE FROM secret WHERE id <> 3;
RESET ROLE;
CREATE SCHEMA kept_bobs AUTHORIZATION kept_bob;
SELECT d.deleted, d.actor IS NULL FROM keepsake.deleted_rows(NULL::secret) AS d ORDER BY 1;
SELECT (d.row).id, d.deletion_id IS NULL FROM keepsake.with_deleted(NULL::secret) AS d ORDER BY 1;
SET ROLE kept_bob;
SELECT d.deleted FROM keepsake.deleted_rows(NULL::secret) AS d ORDER BY 1;
SELECT d.deleted FROM keepsake.deleted_rows(NULL::secret, key => '{"id": 1}') AS d;
SELECT (d.row).id, d.deletion_id IS NULL FROM keepsake.with_deleted(NULL::secret) AS d ORDER BY 1;
CREATE FUNCTION kept_bobs.lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'kept_bob' $$;
CREATE FUNCTION kept_bobs.upper(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'KEPT_ANN' $$;
SET search_path = kept_bobs, pg_catalog, kept, public;
SELECT d.deleted FROM keepsake.deleted_rows(NULL::secret) AS d ORDER BY 1;
\set VERBOSITY sqlstate
SELECT keepsake.restore_row('secret', 1);
\set VERBOSITY default
SET search_path = kept, public;
RESET ROLE;
DROP SCHEMA kept_bobs CASCADE;

\echo == Nobody reads an archive by himself but the owner of the table.
SET ROLE kept_ann;
SELECT count(*) FROM kept_deleted.note;
DELETE FROM kept_deleted.note;
SET ROLE kept_owner;
SELECT count(*) FROM kept_deleted.note;
DELETE FROM kept_deleted.note;
RESET ROLE;
DROP SCHEMA kept CASCADE;
DROP SCHEMA kept_deleted CASCADE;
DELETE FROM keepsake.deletion WHERE root_table::oid NOT IN (SELECT oid FROM pg_class);
DROP ROLE kept_owner, kept_ann, kept_bob;
RESET search_path;
