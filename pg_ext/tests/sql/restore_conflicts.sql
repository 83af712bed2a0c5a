-- Every kind of index and constraint that a row coming back can break, judged as it would be live.
-- Every conflict of `deletion`, then whether restore agrees: it fails with as many, or succeeds with none.
CREATE FUNCTION conflicts(deletion uuid) RETURNS TABLE (kind text, tbl text, key jsonb, name text, key_values jsonb, holder jsonb)
LANGUAGE sql AS $$ SELECT * FROM keepsake.restore_conflicts(deletion) ORDER BY 1, 2, 4, 3::text, 6::text $$;
CREATE FUNCTION try_restore(deletion uuid, on_conflict text DEFAULT 'fail') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    RETURN (keepsake.restore(deletion, on_conflict) - 'deletion_id')::text;
EXCEPTION WHEN integrity_constraint_violation OR unique_violation OR exclusion_violation OR foreign_key_violation THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ' ' || SQLERRM;
END $$;

-- The parents and one child for each kind of constraint: what was deleted with parent 1 meets what is live under parent 2.
BEGIN;
CREATE TYPE hue AS ENUM ('red', 'blue');
CREATE DOMAIN code AS text CHECK (VALUE <> '');
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (
    id int PRIMARY KEY, parent_id int REFERENCES parent ON DELETE CASCADE, kind text DEFAULT 'k',
    partial text, lowered text, a int, b int, pattern text, covered int, note text,
    during int4range, room int, shade hue, code code,
    place text);
SELECT keepsake.manage('parent'), keepsake.manage('child');
ALTER TABLE child
    ADD slug text,
    ADD live_slug text GENERATED ALWAYS AS (CASE WHEN deleted_at IS NULL THEN upper(slug) END) STORED,
    ADD slot text;
CREATE UNIQUE INDEX i_partial ON child (partial) WHERE deleted_at IS NULL AND kind = 'k';
CREATE UNIQUE INDEX i_lowered ON child (lower(lowered)) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX i_several ON child (a, b DESC) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX i_pattern ON child (pattern COLLATE "C" text_pattern_ops) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX i_covered ON child (covered) INCLUDE (note) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX i_enum ON child (shade) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX i_domain ON child (code) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX i_generated ON child (live_slug);
CREATE UNIQUE INDEX i_expression ON child ((CASE WHEN deletion_id IS NULL THEN place END));
CREATE UNIQUE INDEX i_with_mark ON child (slot, deleted_at) NULLS NOT DISTINCT WHERE slot IS NOT NULL;
ALTER TABLE child
    ADD CONSTRAINT e_during EXCLUDE USING gist (during WITH &&) WHERE (deleted_at IS NULL AND room = 1),
    ADD CONSTRAINT e_room EXCLUDE USING btree (room WITH =) WHERE (deleted_at IS NULL AND room > 1) DEFERRABLE INITIALLY DEFERRED;
INSERT INTO parent VALUES (1), (2);
INSERT INTO child (id, parent_id, partial) VALUES (1, 1, 'p');
INSERT INTO child (id, parent_id, lowered) VALUES (2, 1, 'Low');
INSERT INTO child (id, parent_id, a, b) VALUES (3, 1, 1, 2);
INSERT INTO child (id, parent_id, pattern) VALUES (5, 1, 'pat');
INSERT INTO child (id, parent_id, covered, note) VALUES (6, 1, 7, 'a');
INSERT INTO child (id, parent_id, shade) VALUES (7, 1, 'red');
INSERT INTO child (id, parent_id, code) VALUES (8, 1, 'c');
INSERT INTO child (id, parent_id, slug) VALUES (9, 1, 'gen');
INSERT INTO child (id, parent_id, place) VALUES (10, 1, 'here');
INSERT INTO child (id, parent_id, slot) VALUES (11, 1, 's');
INSERT INTO child (id, parent_id, during, room) VALUES (12, 1, '[1,5)', 1);
INSERT INTO child (id, parent_id, room) VALUES (13, 1, 9);
INSERT INTO child (id, parent_id, partial, kind) VALUES (14, 1, 'p', 'other');
SELECT keepsake.soft_delete('parent', 1) AS d \gset
SAVEPOINT deleted;
SELECT try_restore(:'d');
ROLLBACK TO deleted;
INSERT INTO child (id, parent_id, partial, lowered, a, b, pattern, covered, note, during, room, shade, code, place, slug, slot)
VALUES (100, 2, 'p', 'LOW', 1, 2, 'pat', 7, 'b', '[4,9)', 1, 'red', 'c', 'here', 'GEN', 's');
INSERT INTO child (id, parent_id, room) VALUES (101, 2, 9);
SELECT * FROM conflicts(:'d');
SELECT try_restore(:'d');
SELECT count(*) FROM child WHERE parent_id = 1 AND deleted_at IS NULL;
-- Once each stands elsewhere all come back.
UPDATE child SET kind = 'other', lowered = 'x', a = 2, pattern = 'x', covered = 8, during = '[5,9)', shade = 'blue',
                 code = 'x', place = 'x', slug = 'x', slot = 'x' WHERE id = 100;
UPDATE child SET room = 10 WHERE id = 101;
SELECT * FROM conflicts(:'d');
SELECT try_restore(:'d');
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK;

-- An index that guards nothing, or that holds for deleted rows as well, is not asked.
BEGIN;
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent ON DELETE CASCADE, n int, m int);
SELECT keepsake.manage('parent'), keepsake.manage('child');
INSERT INTO parent VALUES (1), (2);
INSERT INTO child VALUES (1, 1, 5, 5);
CREATE UNIQUE INDEX broken ON child (n) WHERE deleted_at IS NULL;
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass;
CREATE UNIQUE INDEX of_all ON child (m);
SELECT keepsake.soft_delete('parent', 1) AS d \gset
INSERT INTO child VALUES (2, 2, 6, 6);
SELECT * FROM conflicts(:'d');
SELECT try_restore(:'d');
ROLLBACK;

-- A table whose name is that of an alias, columns that need quoting, an index in another schema's terms.
BEGIN;
CREATE SCHEMA "odd Schema";
CREATE FUNCTION "odd Schema"."norm It"(text) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT btrim($1) $$;
CREATE TABLE "odd Schema".r ("the Id" int PRIMARY KEY, "user" text, l text);
SELECT keepsake.manage('"odd Schema".r');
CREATE UNIQUE INDEX "odd Index" ON "odd Schema".r ("odd Schema"."norm It"("user"), l) WHERE deleted_at IS NULL;
INSERT INTO "odd Schema".r VALUES (1, ' x ', 'l');
SELECT keepsake.soft_delete('"odd Schema".r', 1) AS d \gset
INSERT INTO "odd Schema".r VALUES (2, 'x', 'l');
SELECT * FROM conflicts(:'d');
SELECT try_restore(:'d');
ROLLBACK;

-- A CHECK is the application's own rule, and its error is left as it is.
BEGIN;
CREATE TABLE item (id int PRIMARY KEY, n int);
SELECT keepsake.manage('item');
INSERT INTO item VALUES (1, 1);
SELECT keepsake.soft_delete('item', 1) AS d \gset
ALTER TABLE item ADD CONSTRAINT small CHECK (deleted_at IS NOT NULL OR n < 1);
SELECT * FROM conflicts(:'d');
SELECT try_restore(:'d');
-- A block that catches it takes back all that the block did, the restore's subtransaction and its own.
INSERT INTO item VALUES (2, 0);
DO $$
BEGIN
    UPDATE item SET n = -1 WHERE id = 2;
    PERFORM keepsake.restore(id) FROM keepsake.deletion WHERE state = 'deleted';
EXCEPTION WHEN check_violation THEN
    RAISE NOTICE 'undone';
END $$;
SELECT id, n, deleted_at IS NULL AS live FROM item ORDER BY id;
ROLLBACK;

-- Parents: deleted by another deletion behind a restricting reference, held with its own, or not there at all.
BEGIN;
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent);
CREATE TABLE remark (id int PRIMARY KEY, on_type text, on_id int);
SELECT keepsake.manage('parent'), keepsake.manage('child'), keepsake.manage('remark');
SELECT keepsake.declare_reference('remark', 'on_type', 'on_id', 'parent', 'parent');
INSERT INTO parent VALUES (1), (2);
INSERT INTO child VALUES (1, 1), (2, 2);
INSERT INTO remark VALUES (1, 'parent', 1), (2, 'other', 77);
SELECT keepsake.soft_delete('child', 1) AS c1, keepsake.soft_delete('child', 2) AS c2 \gset
SELECT keepsake.soft_delete('remark', 1) AS r1, keepsake.soft_delete('remark', 2) AS r2 \gset
SELECT keepsake.soft_delete('parent', 1) AS p1 \gset
SELECT * FROM conflicts(:'c1');
SELECT * FROM conflicts(:'r1');
SELECT * FROM conflicts(:'r2');
SET session_replication_role = replica;
DELETE FROM parent WHERE id = 2;
UPDATE remark SET on_id = 99 WHERE id = 1;
RESET session_replication_role;
SELECT * FROM conflicts(:'c2');
SELECT try_restore(:'c2');
SELECT * FROM conflicts(:'r1');
SELECT try_restore(:'r1');
SELECT try_restore(:'r2');
SELECT keepsake.restore(:'p1') ->> 'restored';
SELECT try_restore(:'c1');
ROLLBACK;

-- A row that passes to another deletion takes nothing live with it: what restricts it is told.
BEGIN;
CREATE TABLE a (id int PRIMARY KEY);
CREATE TABLE b (id int PRIMARY KEY);
CREATE TABLE h (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE, b int REFERENCES b ON DELETE CASCADE);
CREATE TABLE c (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE, h int REFERENCES h);
SELECT keepsake.manage('a'), keepsake.manage('b'), keepsake.manage('h'), keepsake.manage('c');
INSERT INTO a VALUES (1);
INSERT INTO b VALUES (1);
INSERT INTO h VALUES (1, 1, 1);
INSERT INTO c VALUES (1, 1, 1), (2, 1, NULL);
SELECT keepsake.soft_delete('a', 1) AS d \gset
SELECT keepsake.soft_delete('b', 1) AS e \gset
SELECT * FROM conflicts(:'d');
SELECT try_restore(:'d');
ROLLBACK;

-- What PostgreSQL alone sees, an index over whole rows here, is told with the names of its error.
BEGIN;
CREATE TABLE item (id int PRIMARY KEY, n int);
SELECT keepsake.manage('item');
CREATE FUNCTION whole(item) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT ($1).n::text WHERE ($1).deleted_at IS NULL $$;
CREATE UNIQUE INDEX item_whole ON item (whole(item));
INSERT INTO item VALUES (1, 1);
SELECT keepsake.soft_delete('item', 1) AS d \gset
INSERT INTO item VALUES (2, 1);
SELECT * FROM conflicts(:'d');
\set VERBOSITY terse
SAVEPOINT s;
SELECT keepsake.restore(:'d');
ROLLBACK TO s;
\set VERBOSITY default
SELECT keepsake.restore(:'d');
ROLLBACK TO s;
ROLLBACK;
DROP FUNCTION conflicts, try_restore;
