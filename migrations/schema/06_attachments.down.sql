-- The objects of live and deleted attachments are handed to the outbox, so that none is orphaned. Parts that the store still
-- holds are left to the bucket's rule for incomplete uploads. Indexes that register_entity made on the application's tables
-- stay, as their columns do.
INSERT INTO keepsake.outbox (object_key, relation, writable_until)
    SELECT object_key, 'attachments.attachment'::regclass, CASE WHEN writable_until > now() THEN writable_until END
    FROM attachments.attachment
    ON CONFLICT (object_key) DO NOTHING;
