-- A partition that was detached keeps its foreign keys, but not the row triggers. The command does not name it: what its
-- guards raise, and who has locked it, must not stop the command. doctor() reports a table without guards.
CREATE FUNCTION keepsake.guard_former_partition(child oid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
BEGIN
    PERFORM keepsake.guard_references(child);
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'cannot guard the references of %: %', child::regclass, SQLERRM;
END
$$;

-- Whether a command on a table concerns the triggers of the whole table: not if the table was a partition before, with those that it has. Whoever changes
-- one keeps its lock, so he must not wait for the whole, whose own commands wait for its partitions: several workers load a dump so.
CREATE FUNCTION keepsake.concerns_whole(changed oid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT NOT c.relispartition
       OR EXISTS (SELECT FROM (SELECT relid::oid FROM pg_partition_ancestors(c.oid) UNION SELECT relid FROM keepsake.partition_tree(c.oid)) AS part
                  JOIN pg_inherits i ON i.inhrelid = part.relid
                  WHERE keepsake.is_of_this_transaction(i.xmin))
FROM pg_class c WHERE c.oid = changed
$$;

-- A foreign key or partition made after manage() is guarded from then on; a key is refused while rows
-- beneath deleted ones stand in its table. With the rights of the extension's owner: whoever may create a table needs none in
-- the schema keepsake.
CREATE FUNCTION keepsake.follow_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET max_parallel_workers_per_gather = 0 AS $$
DECLARE
    child oid;
    reserved name;
BEGIN
    SELECT a.attname INTO reserved FROM pg_event_trigger_ddl_commands() c JOIN keepsake.managed_table m ON m.relation = c.objid
    JOIN pg_attribute a ON a.attrelid = m.relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attname LIKE E'keepsake\\_%'
    WHERE c.classid = 'pg_class'::regclass AND keepsake.is_reserved_column(a.attname) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'reserved_name', MESSAGE = format('no managed table can have a column %I', reserved),
            DETAIL = 'Keepsake uses the name for what it knows of a row.', HINT = 'Give the column another name.';
    END IF;
    -- A new partition concerns the table that it belongs to.
    FOR child IN
        SELECT coalesce(pg_partition_root(c.objid), c.objid) FROM pg_event_trigger_ddl_commands() c
        WHERE c.classid = 'pg_class'::regclass
          AND (keepsake.concerns_whole(c.objid)
               OR current_setting('is_superuser') = 'off'
                  AND EXISTS (SELECT FROM pg_trigger t
                              WHERE t.tgrelid = c.objid AND t.tgname IN ('keepsake_guard_insert', 'keepsake_guard_update', 'keepsake_guard_moved')
                                AND t.tgenabled NOT IN ('O', 'A')))
        -- But for new foreign keys of its own, which are refused: no row of theirs, nor what makes their table a partition, is older than the
        -- transaction. Those that stand already are not what the command is about; a DELETE of what they refer to is refused.
        UNION
        SELECT con.conrelid FROM pg_event_trigger_ddl_commands() c
        CROSS JOIN LATERAL keepsake.partition_tree(coalesce(pg_partition_root(c.objid), c.objid)) AS part
        JOIN pg_constraint con ON con.conrelid = part.relid AND con.contype = 'f' AND con.conparentid = 0
        WHERE c.classid = 'pg_class'::regclass AND part.level > 0
          AND (keepsake.is_of_this_transaction(con.xmin)
               OR EXISTS (SELECT FROM pg_partition_ancestors(con.conrelid) AS whole JOIN pg_inherits i ON i.inhrelid = whole.relid
                          WHERE keepsake.is_of_this_transaction(i.xmin)))
    LOOP
        -- A table without its triggers is being loaded from a dump, which brings them.
        CONTINUE WHEN NOT EXISTS (SELECT FROM keepsake.kept_in_place m JOIN pg_class c ON c.oid = m.relation
                                  JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgfoid = 'keepsake.protect_state()'::regprocedure
                                  WHERE m.relation = child AND c.relkind = 'p')
                  AND NOT EXISTS (
            SELECT FROM pg_constraint con
            WHERE con.contype = 'f' AND con.conrelid = child AND con.conparentid = 0
              AND coalesce(pg_partition_root(con.confrelid), con.confrelid) IN (SELECT relation FROM keepsake.kept_in_place))
                  -- Declared references alone: no foreign key tells whether all triggers were disabled, as a superuser loads a dump, so
                  -- he may. The owner may not.
                  AND NOT (current_setting('is_superuser') = 'off'
                           AND child IN (SELECT d.child FROM keepsake.declared_reference d)
                           AND EXISTS (SELECT FROM pg_trigger t
                                       WHERE (t.tgrelid = child OR t.tgrelid IN (SELECT relid FROM keepsake.partition_tree(child)))
                                         AND t.tgname IN ('keepsake_guard_insert', 'keepsake_guard_update', 'keepsake_guard_moved')
                                         AND t.tgenabled NOT IN ('O', 'A')));
        PERFORM keepsake.guard_references(child);
        IF EXISTS (SELECT FROM keepsake.hidden_reads h WHERE h.relation = child AND h.how = 'policy')
           AND EXISTS (SELECT FROM keepsake.partition_tree(child) AS part JOIN pg_inherits i ON i.inhrelid = part.relid
                       WHERE keepsake.is_of_this_transaction(i.xmin)) THEN
            PERFORM keepsake.hide_in_partitions(child);
        END IF;
    END LOOP;
    -- Of who owns what the command names.
    PERFORM keepsake.guard_former_partition(t.tgrelid)
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE t.tgname = 'keepsake_guard_insert' AND t.tgfoid = 'keepsake.guard_insert()'::regprocedure AND NOT c.relispartition
      AND c.relowner IN (SELECT named.relowner FROM pg_event_trigger_ddl_commands() e JOIN pg_class named ON named.oid = e.objid
                         WHERE e.classid = 'pg_class'::regclass)
      AND NOT EXISTS (SELECT FROM pg_trigger u WHERE u.tgrelid = t.tgrelid AND u.tgname = 'keepsake_guard_update')
      AND EXISTS (
        SELECT FROM pg_constraint con
        WHERE con.contype = 'f' AND con.conrelid = t.tgrelid AND con.conparentid = 0
          AND coalesce(pg_partition_root(con.confrelid), con.confrelid) IN (SELECT relation FROM keepsake.kept_in_place));
END
$$;
REVOKE ALL ON FUNCTION keepsake.follow_ddl(), keepsake.hide_in_partitions(regclass), keepsake.guard_former_partition(oid) FROM PUBLIC;
CREATE EVENT TRIGGER keepsake_follow_ddl ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE SCHEMA')
    EXECUTE FUNCTION keepsake.follow_ddl();
