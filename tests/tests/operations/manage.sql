SELECT keepsake.manage('thread', '1 day'), keepsake.manage('post'), keepsake.manage('comment'), keepsake.manage('file');
SELECT keepsake.declare_reference('file', 'entity_type', 'entity_id', 'post', 'post');
SELECT keepsake.bind_storage('file', 'object_key');
CREATE UNIQUE INDEX post_slug ON post (thread_id, lower(slug)) WHERE deleted_at IS NULL;
