-- Exactly what a deletion removed comes back, and nothing else.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('comment', 101) AS by_hand \gset
SELECT keepsake.soft_delete('thread', 1) AS all_of_it \gset
SELECT keepsake.restore(:'all_of_it') - 'deletion_id' AS report;
SELECT * FROM live;
SELECT keepsake.restore(:'all_of_it') - 'deletion_id' AS again;
SELECT keepsake.restore(:'by_hand') - 'deletion_id' AS report;
SELECT * FROM live;
SELECT state, settled_at IS NOT NULL AS settled FROM keepsake.deletion ORDER BY id;
ROLLBACK;

-- A child of two deleted parents passes to the one that stays deleted, and comes back with it.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('post', 10) AS post \gset
SELECT keepsake.soft_delete('member', '00000000-0000-0000-0000-000000000001') AS member \gset
SELECT report -> 'restored' AS restored, report #> '{passed,0,table}' AS passed, report #> '{passed,0,rows}' AS rows,
       report #>> '{passed,0,deletion_id}' = :'member' AS to_the_member
FROM keepsake.restore(:'post') AS report;
SELECT * FROM live;
SELECT r.relation::text, r.row_count FROM keepsake.deletion_table r WHERE deletion_id = :'member' ORDER BY 1;
SELECT keepsake.restore(:'member') -> 'restored' AS restored;
SELECT * FROM live;
ROLLBACK;

-- What hangs on a passed row passes with it.
BEGIN;
CALL fill();
CREATE TABLE note (id int PRIMARY KEY, post_id bigint, member_id uuid,
                   FOREIGN KEY (post_id, member_id) REFERENCES likes ON DELETE CASCADE);
SELECT keepsake.manage('note');
INSERT INTO note VALUES (1, 10, '00000000-0000-0000-0000-000000000001'), (2, 10, '00000000-0000-0000-0000-000000000002');
SELECT keepsake.soft_delete('post', 10) AS post \gset
SELECT keepsake.soft_delete('member', '00000000-0000-0000-0000-000000000001') AS member \gset
SELECT jsonb_path_query_array(report, '$.passed[*].table') AS passed FROM keepsake.restore(:'post') AS report;
SELECT id, deleted_at IS NULL AS live FROM note ORDER BY id;
ROLLBACK;

-- Conflicts: every one is listed, and nothing is written.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('thread', 1) AS thread \gset
INSERT INTO thread VALUES (3, 'three');
SELECT keepsake.restore(:'thread') IS NOT NULL AS restored;
SELECT keepsake.soft_delete('post', 10) AS a \gset
SELECT keepsake.soft_delete('post', 11) AS b \gset
INSERT INTO post VALUES (30, 1, 'A'), (31, 1, 'B');
SELECT * FROM keepsake.restore_conflicts(:'a');
SAVEPOINT before;
\set VERBOSITY sqlstate
SELECT keepsake.restore(:'a');
\set VERBOSITY default
ROLLBACK TO before;
SELECT * FROM live WHERE tbl = 'post';
-- Once the place is free it comes back.
UPDATE post SET slug = 'elsewhere' WHERE id = 30;
SELECT keepsake.restore(:'a') IS NOT NULL AS restored;
SELECT * FROM live WHERE tbl = 'post';
ROLLBACK;

-- Two rows that clash with each other: deleted at different times, then passed to one deletion.
BEGIN;
CALL fill();
CREATE TABLE badge (id int PRIMARY KEY, post_id bigint REFERENCES post ON DELETE CASCADE,
                    member_id uuid REFERENCES member ON DELETE CASCADE, name text);
SELECT keepsake.manage('badge');
CREATE UNIQUE INDEX badge_name ON badge (name) WHERE deleted_at IS NULL;
INSERT INTO badge VALUES (1, 10, '00000000-0000-0000-0000-000000000001', 'n');
SELECT keepsake.soft_delete('post', 10) AS post \gset
INSERT INTO badge VALUES (2, 11, '00000000-0000-0000-0000-000000000001', 'n');
SELECT keepsake.soft_delete('member', '00000000-0000-0000-0000-000000000001') AS member \gset
SELECT jsonb_path_query_array(report, '$.passed[*].table') AS passed FROM keepsake.restore(:'post') AS report;
SELECT kind, key, constraint_name, key_values, holder FROM keepsake.restore_conflicts(:'member');
ROLLBACK;

-- Without a predicate on deleted_at NULLs may be equal, and ranges exclude each other.
BEGIN;
CALL fill();
CREATE TABLE seat (id int PRIMARY KEY, member_id uuid REFERENCES member ON DELETE CASCADE, number int, during int4range);
SELECT keepsake.manage('seat');
CREATE UNIQUE INDEX seat_number ON seat (number) NULLS NOT DISTINCT WHERE deleted_at IS NULL;
ALTER TABLE seat ADD CONSTRAINT seat_during EXCLUDE USING gist (during WITH &&) WHERE (deleted_at IS NULL);
INSERT INTO seat VALUES (1, '00000000-0000-0000-0000-000000000001', NULL, '[1,5)');
SELECT keepsake.soft_delete('member', '00000000-0000-0000-0000-000000000001') AS member \gset
INSERT INTO seat VALUES (2, '00000000-0000-0000-0000-000000000002', NULL, '[4,6)');
SELECT kind, key, constraint_name, key_values, holder FROM keepsake.restore_conflicts(:'member');
ROLLBACK;

-- A parent that another deletion removed: the child is told of it.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('post', 10) AS post \gset
SELECT keepsake.soft_delete('thread', 1) AS thread \gset
SELECT * FROM keepsake.restore_conflicts(:'post');
SELECT keepsake.restore(:'thread') IS NOT NULL AS restored;
SELECT count(*) FROM keepsake.restore_conflicts(:'post');
SELECT keepsake.restore(:'post') IS NOT NULL AS restored;
SELECT * FROM live;
ROLLBACK;

SELECT keepsake.restore('00000000-0000-0000-0000-000000000000');
