-- Every table with a primary key is managed as soon as it is there; its archive has none.
CREATE SCHEMA keepsake_test;

CREATE FUNCTION keepsake_test.manage_all() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE
    made regclass;
BEGIN
    FOR made IN
        SELECT c.oid FROM pg_event_trigger_ddl_commands() AS d JOIN pg_class AS c ON c.oid = d.objid
        WHERE d.classid = 'pg_class'::regclass AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
          AND NOT EXISTS (SELECT FROM keepsake.managed_table AS m WHERE m.relation = c.oid)
          AND EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.contype = 'p')
    LOOP
        PERFORM keepsake.manage(made, '30 days', keep => 'archive', on_truncate => 'archive');
    END LOOP;
END $$;

-- Before Keepsake's own, by name.
CREATE EVENT TRIGGER a_manage_all ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'ALTER TABLE')
    EXECUTE FUNCTION keepsake_test.manage_all();
