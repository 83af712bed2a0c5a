-- The extension stays: other tables of the database may be managed by it.
DROP SCHEMA attachments_api;
DROP FUNCTION attachments.publish(text[]);
DROP FUNCTION attachments.fail(text, text, jsonb);
DROP FUNCTION attachments.ok(jsonb);
DROP FUNCTION attachments.tenant();
DROP FUNCTION attachments.claim(text);
DROP SCHEMA attachments;

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['keepsake_worker', 'keepsake_api'] LOOP
        BEGIN
            EXECUTE pg_catalog.format('DROP OWNED BY %I', role);
            EXECUTE pg_catalog.format('DROP ROLE %I', role);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            RAISE NOTICE 'role % is still used by another database and stays', role;
        END;
    END LOOP;
END
$$;
