-- Manages every table as soon as it is there, in every schema, also tables without a primary key, which manage_schema() leaves out.
CREATE EXTENSION keepsake;
CREATE SCHEMA everything;
GRANT USAGE ON SCHEMA everything TO PUBLIC;
CREATE FUNCTION everything.manage() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    each record;
BEGIN
    FOR each IN
        SELECT DISTINCT c.oid FROM pg_event_trigger_ddl_commands() e JOIN pg_class c ON c.oid = e.objid AND e.classid = 'pg_class'::regclass
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
          AND n.nspname !~ '^(keepsake|pg_|everything)' AND pg_get_userbyid(n.nspowner) <> 'keepsake_archive'
    LOOP
        BEGIN
            PERFORM keepsake.manage(each.oid::regclass, keep => 'archive', on_truncate => 'archive', cascade => true);
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
END
$$;
CREATE EVENT TRIGGER everything ON ddl_command_end WHEN TAG IN ('CREATE SCHEMA', 'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO') EXECUTE FUNCTION everything.manage();
SELECT keepsake.manage_schema('public', keep => 'archive', on_truncate => 'archive');
