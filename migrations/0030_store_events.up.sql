-- Completion by what the store tells of itself: whose open upload an object belongs to. The worker then
-- completes it as the one who declared it.
CREATE FUNCTION attachments_api.find_open_upload(request jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT attachments.ok(coalesce((
        SELECT jsonb_build_object('upload_id', s.id, 'tenant', s.tenant_id, 'subject', s.created_by)
        FROM attachments.attachment a JOIN attachments.upload_set s ON s.id = a.upload_set_id
        WHERE a.object_key = request ->> 'object_key' AND a.state = 'pending' AND s.state = 'pending'), 'null'))
$$;
REVOKE ALL ON FUNCTION attachments_api.find_open_upload FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments_api.find_open_upload TO keepsake_worker;
