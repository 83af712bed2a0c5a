-- The extension stays: other tables of the database may be managed by it, and everybody may use its schema, as it gives it. Temporary tables stay a right that is granted by name:
-- whether PUBLIC had it is not known any more.
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['keepsake_worker', 'keepsake_api'] LOOP
        -- What it was granted in this database.
        EXECUTE pg_catalog.format('DROP OWNED BY %I', role);
        BEGIN
            EXECUTE pg_catalog.format('DROP ROLE %I', role);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            RAISE NOTICE 'role % is still used by another database and is kept', role;
        END;
    END LOOP;
END
$$;
GRANT USAGE ON SCHEMA keepsake TO PUBLIC;
