-- Also manages the tables: from here on their rows are deleted softly, and can be restored.
SELECT attachments.register_entity('thread', 'public.thread', 'tenant', label_column => 'title');
SELECT attachments.register_entity('post', 'public.post', 'tenant', label_column => 'slug');

-- Unique among what is there: the slug of a deleted post can be used again.
CREATE UNIQUE INDEX post_live_slug ON public.post (thread_id, slug) WHERE deleted_at IS NULL;

-- Nobody restores this database to an earlier moment: the bytes of purged files need not wait.
UPDATE attachments.object_grace SET grace = '0';
