-- Parts that the store still holds are left to the bucket's rule for incomplete uploads.
DROP FUNCTION attachments_api.settle_multiparts, attachments_api.lease_multiparts, attachments_api.record_part,
    attachments_api.begin_multipart, attachments_api.find_multipart;
DROP TRIGGER forget_multiparts ON attachments.upload_set;
DROP FUNCTION attachments.forget_multiparts;
CREATE OR REPLACE FUNCTION attachments.files_of(upload uuid) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'attachment_id', a.id, 'name', a.file_name, 'media_type', a.media_type, 'size', a.byte_size,
        'sha256', encode(a.sha256, 'hex'), 'object_key', a.object_key, 'state', a.state)
        ORDER BY a.position), '[]')
    FROM attachments.attachment a WHERE a.upload_set_id = upload
$$;
DROP FUNCTION attachments.multipart_of;
DROP TABLE attachments.multipart_part, attachments.multipart;
