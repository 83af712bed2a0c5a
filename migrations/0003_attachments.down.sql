-- The objects of live and deleted attachments are handed to the outbox, so that none is orphaned.
DROP FUNCTION attachments.register_entity(text, regclass, name);
INSERT INTO keepsake.outbox (object_key, relation, writable_until)
    SELECT object_key, 'attachments.attachment'::regclass, CASE WHEN writable_until > now() THEN writable_until END
    FROM attachments.attachment
    ON CONFLICT (object_key) DO NOTHING;
DROP TABLE attachments.attachment;
DROP FUNCTION attachments.check_state_change();
DROP TABLE attachments.upload_set;
REVOKE ALL ON FUNCTION keepsake.purge_deletion FROM keepsake_api;
