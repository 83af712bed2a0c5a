-- A foreign key made after manage() is guarded from then on, and refused while rows beneath deleted
-- ones stand in its table.
CREATE FUNCTION keepsake.follow_ddl() RETURNS event_trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    child oid;
BEGIN
    FOR child IN
        SELECT DISTINCT c.objid FROM pg_event_trigger_ddl_commands() c
        WHERE c.classid = 'pg_class'::regclass AND EXISTS (
            SELECT FROM pg_constraint con
            WHERE con.contype = 'f' AND con.conrelid = c.objid AND con.conparentid = 0
              AND con.confrelid IN (SELECT relation FROM keepsake.managed_table))
    LOOP
        PERFORM keepsake.guard_references(child);
    END LOOP;
END
$$;
CREATE EVENT TRIGGER keepsake_follow_ddl ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE')
    EXECUTE FUNCTION keepsake.follow_ddl();
