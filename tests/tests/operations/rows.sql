INSERT INTO thread SELECT n, 'thread ' || n FROM generate_series(1, 6) n;
INSERT INTO post SELECT 10 * t + n, t, 'post ' || n FROM generate_series(1, 6) t, generate_series(1, 2) n;
INSERT INTO comment SELECT 100 * p.id + n, p.id FROM post p, generate_series(1, 2) n WHERE p.id < 100;
UPDATE comment SET reply_to = id - 1 WHERE id % 100 = 2;
INSERT INTO file SELECT id, 'post', id, 'o/' || id FROM post WHERE id < 100;
INSERT INTO pin VALUES (1, 6);
-- Thread 1 is deleted, a comment in it before that on its own; thread 2 is back; thread 3 is purged and its objects
-- wait; of thread 4 a part is purged; post 51 is deleted in a live thread.
SELECT keepsake.soft_delete('comment', 1102, 'spam');
SELECT keepsake.soft_delete('thread', 1, 'old');
SELECT keepsake.restore(keepsake.soft_delete('thread', 2));
SELECT keepsake.purge_deletion(keepsake.soft_delete('thread', 3));
SELECT keepsake.soft_delete('thread', 4);
UPDATE keepsake.deletion SET deleted_at = deleted_at - interval '3 days', expires_at = expires_at - interval '3 days'
WHERE root_table = 'thread'::regclass AND root_key = '{"id": 4}';
SELECT keepsake.purge_batch(3);
SELECT keepsake.soft_delete('post', 51);
