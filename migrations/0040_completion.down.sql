DROP FUNCTION attachments_api.lease_open_upload(jsonb);
ALTER TABLE attachments.upload_set DROP COLUMN next_look_at;
