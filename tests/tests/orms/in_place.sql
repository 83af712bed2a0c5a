-- Each table with a primary key is kept in place as soon as it has one, and its deleted rows are hidden. Unique keys stay as they are: a foreign
-- key that comes later may refer to them.
CREATE SCHEMA orms;
CREATE FUNCTION orms.keep_in_place() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE
    made regclass;
BEGIN
    IF current_setting('orms.managing', true) = 'on' THEN
        RETURN;
    END IF;
    PERFORM set_config('orms.managing', 'on', true);
    FOR made IN
        SELECT DISTINCT c.oid FROM pg_event_trigger_ddl_commands() AS d JOIN pg_class AS c ON c.oid = d.objid AND c.relkind IN ('r', 'p')
        WHERE d.classid = 'pg_class'::regclass AND c.relpersistence = 'p' AND d.schema_name IN ('public', 'test_schema', 'test_schema_2')
          AND EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.contype = 'p')
          AND NOT EXISTS (SELECT FROM keepsake.managed_table AS m WHERE m.relation = c.oid)
    LOOP
        PERFORM keepsake.manage(made, '30 days', keep => 'in place');
        PERFORM keepsake.hide_deleted(made, 'policy');
    END LOOP;
    PERFORM set_config('orms.managing', 'off', true);
END $$;
CREATE EVENT TRIGGER keep_in_place ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE')
    EXECUTE FUNCTION orms.keep_in_place();
