-- Chains, diamonds and self-references go down together, grouped by the deletion's id.
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('comment', 101, 'off topic') AS by_hand \gset
SELECT * FROM live;
SELECT keepsake.soft_delete('thread', 1) AS all_of_it \gset
SELECT * FROM live;

-- The rows of the earlier deletion are still its own, although both happened in one transaction.
SELECT r.relation, r.row_count FROM keepsake.deletion_table r WHERE deletion_id = :'by_hand' ORDER BY 1;
SELECT r.relation::text, r.row_count FROM keepsake.deletion_table r WHERE deletion_id = :'all_of_it' ORDER BY 1;
SELECT count(*) AS rows, count(DISTINCT deleted_at) AS times FROM comment WHERE deletion_id IS NOT NULL;

-- Who, why, what.
SELECT root_table, root_key, actor = current_user AS by_me, reason, state FROM keepsake.deletion ORDER BY id;

-- A second call changes nothing and answers with the deletion that removed the row.
SELECT keepsake.soft_delete('thread', 1) = :'all_of_it' AS same, keepsake.soft_delete('post', 10) = :'all_of_it' AS same_root;
SELECT count(*) AS deletions FROM keepsake.deletion;

-- Keys as text, as another integer type, as jsonb.
SELECT keepsake.soft_delete('thread', '2') IS NOT NULL AS text_key;
SELECT keepsake.soft_delete('member', '00000000-0000-0000-0000-000000000002'::uuid) IS NOT NULL AS uuid_key;
SELECT keepsake.soft_delete('member', '{"id": "00000000-0000-0000-0000-000000000001"}'::jsonb) IS NOT NULL AS json_key;
SELECT * FROM live;
ROLLBACK;

BEGIN;
CALL fill();
-- A child of two parents goes with the first that goes.
SELECT keepsake.soft_delete('member', '00000000-0000-0000-0000-000000000001') IS NOT NULL AS done;
SELECT * FROM live;
-- A row of a composite key.
SELECT keepsake.soft_delete('likes', '{"post_id": 11, "member_id": "00000000-0000-0000-0000-000000000002"}'::jsonb) IS NOT NULL AS done;
SELECT * FROM live WHERE tbl = 'likes';
ROLLBACK;

-- The actor: what the application says, else the subject of the claims.
BEGIN;
CALL fill();
SET LOCAL request.jwt.claims = '{"sub": "ada", "tenant": "acme"}';
SELECT keepsake.soft_delete('comment', 100) IS NOT NULL AS done;
SET LOCAL keepsake.actor = 'nightly job';
SELECT keepsake.soft_delete('comment', 200) IS NOT NULL AS done;
SELECT actor, tenant FROM keepsake.deletion ORDER BY id;
ROLLBACK;

-- What cannot be.
SELECT keepsake.soft_delete('thread', 99);
SELECT keepsake.soft_delete('thread', 'x');
SELECT keepsake.soft_delete('likes', 1);
SELECT keepsake.soft_delete('pg_class', 1);
