-- Deleted rows go to an archive: the tables get triggers and nothing else. A slug is free again when its post is deleted.
SELECT keepsake.manage('public.thread', keep => 'archive', cascade => true);
CREATE UNIQUE INDEX post_live_slug ON public.post (thread_id, slug);

SELECT attachments.register_entity('thread', 'public.thread', 'tenant', label_column => 'title');
SELECT attachments.register_entity('post', 'public.post', 'tenant', label_column => 'slug');

-- Nobody restores this database to an earlier moment: the bytes of purged files need not wait.
UPDATE attachments.object_grace SET grace = '0';
