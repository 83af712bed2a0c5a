DROP FUNCTION attachments_api.find_open_upload(jsonb);
