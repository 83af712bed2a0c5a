CREATE OR REPLACE FUNCTION attachments_api.restore_deletion(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one keepsake.deletion;
BEGIN
    PERFORM attachments.begin_recovery(claims);
    one := attachments.find_deletion((request ->> 'deletion_id')::uuid);
    RETURN coalesce(
        CASE WHEN one.root_table = 'attachments.attachment'::regclass
             THEN attachments.refuse_file_change((one.root_key ->> 'id')::uuid) END,
        attachments.restore_deletion(claims, request));
END
$$;

DROP FUNCTION attachments.refuse_restore(keepsake.deletion);
