-- What once came out wrong.

-- A row that refers to itself, or a ring of rows: it is purged.
BEGIN;
CREATE TABLE emp (id int PRIMARY KEY, boss int REFERENCES emp ON DELETE CASCADE);
SELECT keepsake.manage('emp', '0');
INSERT INTO emp VALUES (1, 1);
SELECT keepsake.soft_delete('emp', 1) AS d \gset
SELECT keepsake.purge_deletion(:'d') -> 'rows' AS purged;
ROLLBACK;

-- y refers by RESTRICT to x, which passes to another deletion: y must not become
-- live above a deleted x.
BEGIN;
CREATE TABLE a (id int PRIMARY KEY);
CREATE TABLE b (id int PRIMARY KEY);
CREATE TABLE x (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE, b int REFERENCES b ON DELETE CASCADE);
CREATE TABLE y (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE, x int REFERENCES x ON DELETE RESTRICT);
SELECT keepsake.manage('a'), keepsake.manage('b'), keepsake.manage('x'), keepsake.manage('y');
INSERT INTO a VALUES (1);
INSERT INTO b VALUES (1);
INSERT INTO x VALUES (1, 1, 1);
INSERT INTO y VALUES (1, 1, 1);
SELECT keepsake.soft_delete('a', 1) AS a \gset
SELECT keepsake.soft_delete('b', 1) IS NOT NULL AS done;
SELECT count(*) AS conflicts FROM keepsake.restore_conflicts(:'a');
SELECT keepsake.restore(:'a') -> 'restored' AS restored;
SELECT count(*) AS leaked FROM y JOIN x ON x.id = y.x WHERE y.deleted_at IS NULL AND x.deleted_at IS NOT NULL;
ROLLBACK;

-- The same from the root around a ring: row 1 refers to row 2, which b holds.
BEGIN;
CREATE TABLE b (id int PRIMARY KEY);
CREATE TABLE n (id int PRIMARY KEY, up int REFERENCES n ON DELETE CASCADE, b int REFERENCES b ON DELETE CASCADE);
SELECT keepsake.manage('b'), keepsake.manage('n');
INSERT INTO b VALUES (1);
INSERT INTO n VALUES (1, NULL, NULL), (2, 1, 1);
UPDATE n SET up = 2 WHERE id = 1;
SELECT keepsake.soft_delete('n', 1) AS n \gset
SELECT keepsake.soft_delete('b', 1) IS NOT NULL AS done;
SELECT count(*) AS conflicts FROM keepsake.restore_conflicts(:'n');
SELECT keepsake.restore(:'n') -> 'restored' AS restored;
SELECT count(*) AS leaked FROM n c JOIN n p ON p.id = c.up WHERE c.deleted_at IS NULL AND p.deleted_at IS NOT NULL;
ROLLBACK;

-- Two tables that cascade into each other: each can be managed first.
BEGIN;
CREATE TABLE l (id int PRIMARY KEY, r int);
CREATE TABLE r (id int PRIMARY KEY, l int REFERENCES l ON DELETE CASCADE);
ALTER TABLE l ADD FOREIGN KEY (r) REFERENCES r ON DELETE CASCADE;
SAVEPOINT s;
SELECT keepsake.manage('l');
ROLLBACK TO s;
SELECT keepsake.manage('r');
ROLLBACK;

-- A deleted row is pointed by a declared reference at a row that is not there: it must not be restored.
BEGIN;
CREATE TABLE p (id int PRIMARY KEY);
CREATE TABLE c (id int PRIMARY KEY, kind text, p int);
SELECT keepsake.manage('p'), keepsake.manage('c'), keepsake.declare_reference('c', 'kind', 'p', 'p', 'p');
INSERT INTO p VALUES (1);
INSERT INTO c VALUES (1, 'p', 1);
SELECT keepsake.soft_delete('c', 1) AS d \gset
UPDATE c SET p = 2;
SELECT keepsake.restore(:'d') -> 'restored' AS restored;
ROLLBACK;

-- A trigger that changes the key as the row is deleted: the deletion still knows its root.
BEGIN;
CREATE TABLE account (id int PRIMARY KEY);
SELECT keepsake.manage('account');
CREATE FUNCTION rekey() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := -OLD.id; RETURN NEW; END $$;
CREATE TRIGGER rekey BEFORE UPDATE ON account FOR EACH ROW WHEN (NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION rekey();
INSERT INTO account VALUES (1);
SELECT keepsake.soft_delete('account', 1) AS d \gset
SELECT keepsake.restore(:'d') -> 'restored' AS restored;
ROLLBACK;

-- SET NULL on a column that is NOT NULL: the deletion is refused, not the purge.
BEGIN;
CREATE TABLE p (id int PRIMARY KEY);
CREATE TABLE q (id int PRIMARY KEY, p int NOT NULL REFERENCES p ON DELETE SET NULL);
SELECT keepsake.manage('p', '0'), keepsake.manage('q', '0');
INSERT INTO p VALUES (1);
INSERT INTO q VALUES (1, 1);
SELECT keepsake.soft_delete('p', 1) IS NOT NULL AS done;
SELECT keepsake.purge_batch() -> 'failed' AS failed;
ROLLBACK;

-- A DELETE that the policy lets through, of a row that others refer to by a declared reference: it is refused,
-- as by a foreign key, while any such row is there. A row that refers to itself goes.
BEGIN;
CREATE TABLE p (id int PRIMARY KEY, kind text, up int);
CREATE TABLE c (id int PRIMARY KEY, kind text, p text);
SELECT keepsake.manage('p', on_delete => 'allow'), keepsake.manage('c'),
       keepsake.declare_reference('c', 'kind', 'p', 'p', 'p'), keepsake.declare_reference('p', 'kind', 'up', 'p', 'p');
INSERT INTO p VALUES (1, NULL, NULL), (2, NULL, NULL), (3, 'p', 3), (4, 'p', 1);
INSERT INTO c VALUES (1, 'p', '1'), (2, 'p', '2'), (3, 'other', '3');
SAVEPOINT s;
DELETE FROM p WHERE id = 1;
ROLLBACK TO s;
SELECT keepsake.soft_delete('c', 2) IS NOT NULL AS done;
DELETE FROM p WHERE id = 2;
ROLLBACK TO s;
DELETE FROM p WHERE id IN (3, 4);
UPDATE c SET p = NULL;
DELETE FROM p RETURNING id;
ROLLBACK;

-- Two keys over one column, of which one sets NULL; and the same twice, to one parent, which can be deleted all
-- the same. What a restore would put back refers by the other key to a row that is gone for good, managed or
-- not: it stays NULL, and the restore is not refused.
BEGIN;
CREATE TABLE p (a int PRIMARY KEY);
CREATE TABLE q (a int PRIMARY KEY);
CREATE TABLE u (a int PRIMARY KEY);
CREATE TABLE c (id int PRIMARY KEY, a int REFERENCES p ON DELETE SET NULL REFERENCES q ON DELETE CASCADE,
                b int REFERENCES p ON DELETE SET NULL REFERENCES u);
SELECT keepsake.manage('p'), keepsake.manage('q', '0'), keepsake.manage('c');
INSERT INTO p VALUES (1);
INSERT INTO q VALUES (1);
INSERT INTO u VALUES (1);
INSERT INTO c VALUES (1, 1, 1);
SELECT keepsake.soft_delete('p', 1) AS p \gset
SELECT keepsake.soft_delete('c', 1) AS c \gset
SELECT keepsake.soft_delete('q', 1) AS q \gset
DELETE FROM u;
SELECT keepsake.purge_deletion(:'q') -> 'rows' AS purged;
SELECT keepsake.restore(:'p') -> 'restored' AS restored;
SELECT keepsake.restore(:'c') -> 'restored' AS restored;
SELECT id, a, b FROM c;
ROLLBACK;

-- A deletion is put off while a row of another refers to one of its own. Once that one is purged by itself, the
-- next batch takes up what it has freed.
BEGIN;
CREATE TABLE n (id int PRIMARY KEY, up int REFERENCES n ON DELETE CASCADE);
SELECT keepsake.manage('n', '0');
INSERT INTO n VALUES (1, NULL), (2, 1);
SELECT keepsake.soft_delete('n', 2) AS below \gset
SELECT keepsake.soft_delete('n', 1) AS above \gset
SELECT keepsake.purge_deletion(:'above') -> 'tables' AS tables;
SELECT keepsake.purge_deletion(:'below') -> 'rows' AS purged;
SELECT keepsake.purge_batch() -> 'rows' AS purged;
ROLLBACK;
