DROP FUNCTION attachments_api.settle_objects(jsonb);
DROP FUNCTION attachments_api.lease_objects(jsonb);
DROP FUNCTION attachments_api.purge(jsonb);
DROP FUNCTION attachments_api.sweep_uploads(jsonb);
DROP FUNCTION attachments_api.ping();
