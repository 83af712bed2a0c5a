-- soft_delete() of a table with an archive: a DELETE by key, by the rights of the caller, with a reason.
CREATE SCHEMA desk;
SET search_path = desk;
CREATE TABLE post (id int PRIMARY KEY, owner_name name DEFAULT current_user);
CREATE TABLE comment (post_id int REFERENCES post ON DELETE CASCADE, n int, PRIMARY KEY (post_id, n));
CREATE TABLE lock (post_id int REFERENCES post);
SELECT keepsake.manage('post', keep => 'archive', cascade => true);
INSERT INTO post SELECT generate_series(1, 9); INSERT INTO comment SELECT p, n FROM generate_series(1, 9) p, generate_series(1, 2) n; INSERT INTO lock VALUES (9);
CREATE VIEW made AS SELECT d.root_table, d.root_key, d.reason, d.actor, (SELECT string_agg(format('%s %s', t.relation, t.row_count), ', ' ORDER BY t.relation::text) FROM keepsake.deletion_table t WHERE t.deletion_id = d.id) AS rows
    FROM keepsake.deletion d WHERE d.root_table IN ('desk.post'::regclass, 'desk.comment'::regclass) ORDER BY d.id;
SELECT keepsake.soft_delete('post', 1, 'spam') AS d \gset
SELECT root_key, reason FROM keepsake.deletion WHERE id = :'d';
SELECT keepsake.soft_delete('post', '2') IS NOT NULL, keepsake.soft_delete('comment', '{"post_id": 3, "n": 1}'::jsonb, 'one') IS NOT NULL;
SELECT keepsake.soft_delete('post', 1);
SELECT keepsake.soft_delete('post', NULL::int);
SELECT keepsake.soft_delete('post', 'x');
SELECT keepsake.soft_delete('post', 9);
SELECT keepsake.soft_delete('lock', 9);
-- Within a statement that removes other rows, it is a deletion of its own.
CREATE FUNCTION more() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DELETE FROM post WHERE id = 4; PERFORM keepsake.soft_delete('post', 5, 'apart'); DELETE FROM post WHERE id = 6; END $$;
SELECT more();
SELECT * FROM made;
-- As the caller: his privileges, his policies.
CREATE ROLE regress_desk; GRANT USAGE ON SCHEMA desk TO regress_desk; GRANT SELECT ON post TO regress_desk;
SET ROLE regress_desk; SELECT keepsake.soft_delete('post', 7); RESET ROLE;
GRANT DELETE ON post TO regress_desk; ALTER TABLE post ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON post USING (owner_name = current_user); UPDATE post SET owner_name = 'regress_desk' WHERE id = 8;
SET ROLE regress_desk; SELECT keepsake.soft_delete('post', 7); SELECT keepsake.soft_delete('post', 8, 'mine') IS NOT NULL AS done; RESET ROLE;
SELECT * FROM made OFFSET 6;
SET keepsake.capture = off; SELECT keepsake.soft_delete('post', 7); RESET keepsake.capture;
SELECT id FROM post ORDER BY id;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA desk, desk_deleted CASCADE;
DROP ROLE regress_desk;
