-- What becomes of archives when the schema changes. A change of the schema never fails because a table is archived: where
-- Keepsake cannot follow at once it warns, and the next DELETE or doctor() finds what is left to do. What USING makes of values nothing would find: the command fails
-- then (keepsake.follow_renames).

CREATE TABLE keepsake.whole_schema (
    -- A name, because pg_upgrade takes no regnamespace; it follows ALTER SCHEMA.
    schema      name PRIMARY KEY,
    -- Given to each table that is managed from now on; NULL leaves the default.
    retention   interval,
    on_truncate text,
    managed_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
    -- Tables that unmanage() has taken out. Here, because several workers load a dump's tables in any order.
    exceptions  regclass[] NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE keepsake.whole_schema IS
    'Schemas of which every table with a primary key is managed with keep => ''archive'', also those created later.';

GRANT SELECT ON keepsake.whole_schema TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('keepsake.whole_schema', '');

-- The tables of managed schemas that should be managed and are not.
CREATE VIEW keepsake.unmanaged_in_schema AS
    SELECT c.oid AS relation, n.oid AS schema, s.retention, s.on_truncate
    FROM keepsake.whole_schema s JOIN pg_catalog.pg_namespace n ON n.nspname = s.schema JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND NOT c.relispartition
      AND EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
      AND NOT EXISTS (SELECT FROM keepsake.managed_table m WHERE m.relation = c.oid)
      AND NOT EXISTS (SELECT FROM keepsake.whole_schema e WHERE c.oid = ANY (e.exceptions))
      -- A table of an extension's is that extension's business.
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e');
COMMENT ON VIEW keepsake.unmanaged_in_schema IS 'Tables with a primary key in managed schemas that are not managed themselves.';
GRANT SELECT ON keepsake.unmanaged_in_schema TO PUBLIC;

-- Whether the tables that would be managed along with a table have its owner: without a word from theirs, those of others are not.
CREATE FUNCTION keepsake.goes_with_its_own(of_table oid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
WITH RECURSIVE along (oid) AS (
    SELECT of_table
    UNION
    SELECT d.child FROM along CROSS JOIN LATERAL (
        SELECT coalesce(pg_partition_root(con.conrelid)::oid, con.conrelid) AS child FROM pg_constraint con
        WHERE con.contype = 'f' AND con.confdeltype IN ('c', 'n', 'd') AND (to_jsonb(con) ->> 'conenforced')::boolean IS NOT FALSE
          AND con.confrelid IN (SELECT along.oid UNION ALL SELECT part.relid FROM keepsake.partition_tree(along.oid) AS part)
        UNION ALL
        SELECT h.inhrelid FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent WHERE h.inhparent = along.oid AND p.relkind = 'r') AS d
    WHERE NOT EXISTS (SELECT FROM keepsake.managed_table m WHERE m.relation = d.child)
)
SELECT count(DISTINCT c.relowner) = 1 FROM along JOIN pg_class c ON c.oid = along.oid
$$;

-- Manages a table with the rights of whoever calls; says why where it cannot.
CREATE FUNCTION keepsake.try_to_manage(relation regclass, retention interval, on_truncate text, take_along boolean DEFAULT true) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    why text;
    fix text;
BEGIN
    PERFORM keepsake.manage(relation, retention, keep => 'archive', on_truncate => on_truncate, cascade => take_along);
    RETURN true;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL, fix = PG_EXCEPTION_HINT;
    RAISE NOTICE '%', SQLERRM
        USING DETAIL = coalesce(nullif(why, ''), 'The table is skipped.'), HINT = coalesce(nullif(fix, ''), 'keepsake.doctor() reports it until it is managed.');
    RETURN false;
END
$$;

-- Manages every table with a primary key in the schema, and each that is created there, moved there or given a primary key
-- later. Tables that cannot be managed are skipped with a NOTICE. For the owner of the schema; of the tables that
-- are there already, those that the caller owns are managed.
CREATE FUNCTION keepsake.manage_schema(schema regnamespace, keep text DEFAULT 'archive', retention interval DEFAULT NULL, on_truncate text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    each record;
BEGIN
    PERFORM keepsake.register_schema(schema::oid, keep, retention, on_truncate);
    FOR each IN SELECT u.relation, u.retention, u.on_truncate FROM keepsake.unmanaged_in_schema u
                WHERE u.schema = manage_schema.schema ORDER BY u.relation
    LOOP
        -- It may have come along with one before.
        CONTINUE WHEN NOT EXISTS (SELECT FROM keepsake.unmanaged_in_schema u WHERE u.relation = each.relation);
        PERFORM keepsake.try_to_manage(each.relation, each.retention, each.on_truncate);
    END LOOP;
END
$$;
COMMENT ON FUNCTION keepsake.manage_schema IS
    'Manages every table with a primary key in a schema with keep => ''archive'', also those that are created there later.';

-- The schema's tables stay managed; those created from now on are not managed.
CREATE FUNCTION keepsake.unmanage_schema(schema regnamespace) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
SELECT keepsake.forget_schema(schema::oid)
$$;
COMMENT ON FUNCTION keepsake.unmanage_schema IS
    'Stops managing what is created in a schema. Its tables stay managed until unmanage() is called for each.';

-- Lets an archive follow its table. What stands in the way there must not stop the command.
CREATE FUNCTION keepsake.try_to_follow(source regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM keepsake.follow_archive(source);
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'the archive of table % does not follow it yet: %', source, SQLERRM
        USING HINT = 'The next DELETE that archives rows of the table tries again.';
END
$$;

-- Gives new partitions the triggers of statements that their table has. What stands in the way there must not stop the command.
CREATE FUNCTION keepsake.try_to_equip(whole regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM keepsake.equip_partitions(whole);
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'a partition of table % has not all triggers yet: %', whole, SQLERRM
        USING HINT = format('SELECT keepsake.manage(%L).', whole);
END
$$;

-- The tables that hang on an archived one by one of these: by a foreign key that removes or changes their rows, or by
-- inheritance.
CREATE FUNCTION keepsake.hanging_on_archived(named oid[])
RETURNS TABLE (child oid, parent oid, reference text, action text, keep text, is_new boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT d.child, d.parent, d.reference, d.action, m.keep, d.is_new
FROM (
    SELECT coalesce(pg_partition_root(con.conrelid)::oid, con.conrelid) AS child,
           coalesce(pg_partition_root(con.confrelid)::oid, con.confrelid) AS parent,
           con.conname::text AS reference,
           CASE con.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' WHEN 'd' THEN 'SET DEFAULT' END AS action,
           keepsake.is_of_this_transaction(con.xmin) AS is_new
    FROM pg_constraint con
    WHERE con.contype = 'f' AND con.conparentid = 0
      AND con.conrelid = ANY (ARRAY(SELECT unnest(named) UNION SELECT part.relid FROM unnest(named) AS n (relation), keepsake.partition_tree(n.relation) AS part))
      AND (to_jsonb(con) ->> 'conenforced')::boolean IS NOT FALSE
    UNION ALL
    SELECT h.inhrelid, h.inhparent, NULL, 'CASCADE', keepsake.is_of_this_transaction(h.xmin)
    FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent WHERE p.relkind = 'r' AND h.inhrelid = ANY (named)) AS d
JOIN keepsake.managed_table a ON a.relation = d.parent AND a.keep = 'archive'
LEFT JOIN keepsake.managed_table m ON m.relation = d.child
WHERE d.child = ANY (named) AND d.child <> d.parent
  AND (m.keep = 'in place' OR m.keep IS NULL AND d.action IS NOT NULL)
ORDER BY d.child, d.parent, d.reference
$$;

-- The triggers that archived tables and their partitions lack: these tables, or all.
CREATE FUNCTION keepsake.missing_archive_triggers(roots oid[] DEFAULT NULL) RETURNS TABLE (root oid, relation oid, name text, carried_by text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT part.root, part.relation, wanted.name, wanted.carried_by
FROM (SELECT m.relation::oid AS root, m.on_truncate, coalesce(tree.relid, m.relation) AS relation, c.relkind = 'p' AS is_partitioned,
             EXISTS (SELECT FROM keepsake.declared_reference d
                     WHERE d.child = m.relation
                       AND (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = d.child AND a.attname IN (d.type_column, d.id_column) AND NOT a.attisdropped) = 2) AS refers,
             EXISTS (SELECT FROM keepsake.declared_reference d WHERE d.parent = m.relation) AS is_referred,
             EXISTS (SELECT FROM keepsake.bound_storage b JOIN pg_attribute a ON a.attrelid = b.relation AND a.attname = b.key_column AND NOT a.attisdropped
                     WHERE b.relation = m.relation) AS is_bound
      FROM keepsake.managed_table m JOIN pg_class c ON c.oid = m.relation LEFT JOIN LATERAL keepsake.partition_tree(m.relation) AS tree ON c.relkind = 'p'
      WHERE m.keep = 'archive' AND (roots IS NULL OR m.relation = ANY (roots))) AS part
JOIN keepsake.own_triggers() AS wanted
    ON wanted.carried_by = 'archived' OR wanted.carried_by = 'archived watched' AND part.on_truncate <> 'allow'
    OR wanted.carried_by = 'archived referred' AND part.is_referred
    OR wanted.carried_by IN ('bound', 'bound archived') AND part.is_bound
    OR part.refers AND (wanted.carried_by = 'referring' OR wanted.carried_by = 'referring partitioned' AND part.is_partitioned)
WHERE NOT EXISTS (SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid AND p.pronamespace = 'keepsake'::regnamespace
                  WHERE t.tgrelid = part.relation AND t.tgname = wanted.name)
$$;

-- What a command has made of archived tables and of managed schemas. With the rights of the extension's owner: whoever
-- changes a table needs none in the schema keepsake, and nothing that he wrote runs here.
CREATE FUNCTION keepsake.follow_archives() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET max_parallel_workers_per_gather = 0 SET lock_timeout = '1s' AS $$
DECLARE
    named oid[];
    each record;
BEGIN
    IF NOT EXISTS (SELECT FROM keepsake.archive_table) AND NOT EXISTS (SELECT FROM keepsake.whole_schema) THEN
        RETURN;
    END IF;
    IF tg_tag = 'ALTER SCHEMA' THEN
        named := ARRAY(SELECT c.oid FROM pg_event_trigger_ddl_commands() e JOIN pg_class c ON c.relnamespace = e.objid
                       WHERE e.classid = 'pg_namespace'::regclass);
    ELSE
        -- A partition concerns the table that it belongs to. Archives are Keepsake's own business.
        named := ARRAY(SELECT DISTINCT coalesce(pg_partition_root(e.objid)::oid, e.objid) FROM pg_event_trigger_ddl_commands() e
                       JOIN pg_class c ON c.oid = e.objid JOIN pg_namespace n ON n.oid = c.relnamespace
                       WHERE e.classid = 'pg_class'::regclass AND c.relpersistence <> 't' AND pg_get_userbyid(n.nspowner) <> 'keepsake_archive');
    END IF;
    IF named = '{}' THEN
        RETURN;
    END IF;
    -- The data of a dump was loaded past the triggers.
    IF 'keepsake.archive_table'::regclass::oid = ANY (named) OR 'keepsake.archive_column'::regclass::oid = ANY (named) THEN
        PERFORM keepsake.number_anew(a.archive), keepsake.release_types(a.archive) FROM keepsake.archive_table a;
    END IF;
    -- What was managed before it became a partition is managed with the whole. Its archive waits for it to be detached again.
    DELETE FROM keepsake.managed_table m USING pg_class c, keepsake.managed_table r
    WHERE c.oid = m.relation AND c.relispartition AND m.keep = 'archive'
      AND r.relation = pg_partition_root(m.relation) AND r.keep = 'archive' AND r.relation = ANY (named);
    -- What a command does to a table it does to those that inherit from it, without naming them.
    FOR each IN
        WITH RECURSIVE heir (oid) AS (SELECT unnest(named) UNION SELECT i.inhrelid FROM heir JOIN pg_inherits i ON i.inhparent = heir.oid)
        SELECT a.relation FROM keepsake.archive_table a WHERE a.relation IN (SELECT heir.oid FROM heir) ORDER BY a.relation
    LOOP
        PERFORM keepsake.try_to_follow(each.relation);
    END LOOP;
    -- Partitions that came without the triggers of statements. Only they are locked for that, unless they bring tables along whose rows a DELETE would remove or change.
    FOR each IN
        SELECT t.root, bool_and(t.carried_by IN ('archived watched', 'archived referred')
                                AND NOT EXISTS (SELECT FROM pg_constraint con WHERE con.contype = 'f' AND con.confrelid = t.relation AND con.conparentid = 0)) AS alone
        FROM keepsake.missing_archive_triggers(named) t
        WHERE t.relation <> t.root
          -- A table without its own is being loaded from a dump, which brings them.
          AND EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = t.root AND g.tgfoid = 'keepsake.archive_row()'::regprocedure)
          AND keepsake.concerns_whole(t.relation)
        GROUP BY t.root ORDER BY t.root
    LOOP
        IF each.alone THEN
            PERFORM keepsake.try_to_equip(each.root);
        ELSE
            PERFORM keepsake.try_to_manage(each.root, NULL, NULL, keepsake.goes_with_its_own(each.root));
        END IF;
    END LOOP;
    -- The command does not name a partition that it detached. Of who owns what it names: whatever stands in another's tables must not stop it.
    IF tg_tag = 'ALTER TABLE' AND EXISTS (SELECT FROM pg_class c WHERE c.oid = ANY (named) AND c.relkind = 'p') THEN
        named := named || ARRAY(
            SELECT c.oid FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid AND NOT c.relispartition
            WHERE t.tgname = 'keepsake_archive_truncate' AND t.tgfoid = 'keepsake.archive_truncate()'::regprocedure
              AND c.relowner IN (SELECT n.relowner FROM pg_class n WHERE n.oid = ANY (named))
              AND NOT EXISTS (SELECT FROM keepsake.managed_table m WHERE m.relation = c.oid));
    END IF;
    FOR each IN
        SELECT u.relation, u.retention, u.on_truncate FROM keepsake.unmanaged_in_schema u
        WHERE u.relation = ANY (named) ORDER BY u.relation
    LOOP
        CONTINUE WHEN NOT EXISTS (SELECT FROM keepsake.unmanaged_in_schema u WHERE u.relation = each.relation)
            -- A dump is being loaded, whose registry comes later, perhaps in parts: all is asked with one snapshot.
            OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = each.relation AND t.tgfoid = 'keepsake.archive_row()'::regprocedure) OR EXISTS (
            SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_namespace an ON an.nspname = n.nspname || '_deleted' AND pg_get_userbyid(an.nspowner) = 'keepsake_archive'
            JOIN pg_class ac ON ac.relnamespace = an.oid AND ac.relname = c.relname
            WHERE c.oid = each.relation
              AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = ac.oid)
              AND NOT EXISTS (SELECT FROM keepsake.archive_table a WHERE a.archive = ac.oid AND EXISTS (SELECT FROM keepsake.managed_table)));
        PERFORM keepsake.try_to_manage(each.relation, each.retention, each.on_truncate, keepsake.goes_with_its_own(each.relation));
    END LOOP;
    FOR each IN
        SELECT h.child, h.parent, h.reference, h.action, h.keep, s.schema IS NOT NULL AS taken_along, s.retention, s.on_truncate
        FROM keepsake.hanging_on_archived(named) h
        LEFT JOIN LATERAL (
            SELECT s.schema, s.retention, s.on_truncate FROM keepsake.whole_schema s
            JOIN pg_namespace n ON n.nspname = s.schema JOIN pg_class c ON c.relnamespace = n.oid
            WHERE c.oid IN (h.child, h.parent) ORDER BY c.oid = h.child DESC LIMIT 1) AS s ON true
        -- What has been so before is doctor()'s to tell; so it is of a partition that was just detached, which has the keys of its table.
        WHERE h.is_new AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = h.child AND t.tgfoid = 'keepsake.archive_truncate()'::regprocedure)
    LOOP
        IF each.keep IS NULL AND each.taken_along THEN
            PERFORM keepsake.try_to_manage(each.child, each.retention, each.on_truncate, keepsake.goes_with_its_own(each.child))
            WHERE NOT EXISTS (SELECT FROM keepsake.managed_table m WHERE m.relation = each.child);
        ELSIF each.keep = 'in place' THEN
            RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
                MESSAGE = format('table %s cannot refer to table %s', each.child::regclass, each.parent::regclass),
                DETAIL = format('%s keeps its deleted rows in place, and they would refer to rows of %s that a DELETE has removed.', each.child::regclass, each.parent::regclass),
                HINT = format('Keep both in an archive: SELECT keepsake.unmanage(%L), then SELECT keepsake.manage(%L, keep => ''archive'').', each.child::regclass, each.child::regclass);
        ELSIF each.reference IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
                MESSAGE = format('table %s cannot inherit from table %s', each.child::regclass, each.parent::regclass),
                DETAIL = format('A DELETE in %s would remove rows of it, and nothing could bring them back.', each.parent::regclass),
                HINT = format('Manage it before it inherits: SELECT keepsake.manage(%L, keep => ''archive'').', each.child::regclass);
        ELSE
            RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
                MESSAGE = format('foreign key %I of table %s cannot have ON DELETE %s', each.reference, each.child::regclass, each.action),
                DETAIL = format('A DELETE in %s would %s rows of %s, which is not managed, and nothing could bring that back.', each.parent::regclass,
                                CASE each.action WHEN 'CASCADE' THEN 'remove' ELSE 'change' END, each.child::regclass),
                HINT = format('Manage the table before it gets the foreign key: SELECT keepsake.manage(%L, keep => ''archive''). keepsake.manage_schema() does so for every table of a schema.', each.child::regclass);
        END IF;
    END LOOP;
END
$$;
CREATE EVENT TRIGGER keepsake_follow_archives ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA', 'ALTER SCHEMA')
    EXECUTE FUNCTION keepsake.follow_archives();

-- What a new column was given in the rows that were there is forgotten when the table is rewritten: it is noted before.
CREATE FUNCTION keepsake.follow_rewrite() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET max_parallel_workers_per_gather = 0 SET lock_timeout = '1s' AS $$
DECLARE
    rewritten oid := pg_event_trigger_table_rewrite_oid();
    source oid;
BEGIN
    -- That of a partition waits until this is a table of its own again.
    FOR source IN SELECT a.relation FROM keepsake.archive_table a WHERE a.relation IN (rewritten, pg_partition_root(rewritten)) ORDER BY 1 LOOP
        PERFORM keepsake.try_to_follow(source);
    END LOOP;
END
$$;
CREATE EVENT TRIGGER keepsake_follow_rewrite ON table_rewrite EXECUTE FUNCTION keepsake.follow_rewrite();

-- What was dropped: columns, also along with their types.
CREATE FUNCTION keepsake.follow_drops() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET max_parallel_workers_per_gather = 0 SET lock_timeout = '1s' AS $$
DECLARE
    each record;
BEGIN
    DELETE FROM keepsake.whole_schema s USING pg_event_trigger_dropped_objects() o
    WHERE o.classid = 'pg_namespace'::regclass AND o.object_name = s.schema;
    UPDATE keepsake.whole_schema s SET exceptions = array_remove(s.exceptions, o.objid::regclass) FROM pg_event_trigger_dropped_objects() o
    WHERE o.classid = 'pg_class'::regclass AND o.objsubid = 0 AND o.objid = ANY (s.exceptions);
    DELETE FROM keepsake.archive_column k USING pg_event_trigger_dropped_objects() o
    WHERE o.classid = 'pg_class'::regclass AND o.objid = k.archive AND o.address_names[array_length(o.address_names, 1)] = k.archive_name AND o.objsubid > 0;
    FOR each IN
        SELECT DISTINCT a.relation FROM pg_event_trigger_dropped_objects() o
        JOIN keepsake.archive_table a ON a.relation IN (o.objid, pg_partition_root(o.objid))
        WHERE o.classid = 'pg_class'::regclass AND o.objsubid > 0
    LOOP
        PERFORM keepsake.try_to_follow(each.relation);
    END LOOP;
END
$$;
CREATE EVENT TRIGGER keepsake_follow_drops ON sql_drop EXECUTE FUNCTION keepsake.follow_drops();

-- What numbers of a table's columns are of: those of another table, or of another cluster, mean nothing.
CREATE FUNCTION keepsake.numbering(of_table oid) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT format('%s.%s', c.system_identifier, of_table) FROM pg_control_system() AS c WHERE of_table IS NOT NULL
$$;

-- A dump numbers columns anew where some had been dropped; their names stay. A column that is not found by its name either gets a
-- number that none has.
CREATE FUNCTION keepsake.number_anew(of_archive oid) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
UPDATE keepsake.archive_column k
SET numbered = now.numbering,
    source_attnum = coalesce((SELECT s.attnum FROM pg_attribute s WHERE s.attrelid = now.relation AND s.attname = k.source_name AND NOT s.attisdropped), -1)
FROM (SELECT a.archive, a.relation, keepsake.numbering(a.relation) AS numbering FROM keepsake.archive_table a
      WHERE a.archive = of_archive AND a.relation IS NOT NULL OFFSET 0) AS now
WHERE k.archive = now.archive AND k.numbered <> now.numbering
$$;

-- Without a primary key, rows of a published table cannot be removed: archives that are published are known by all their
-- columns, so that restores and purges go on. doctor() tells what else that means.
CREATE FUNCTION keepsake.identify_published(of_archive oid DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    each record;
BEGIN
    FOR each IN
        SELECT a.archive FROM (SELECT t.archive FROM keepsake.archive_table t UNION ALL SELECT h.inhrelid FROM keepsake.archive_table t JOIN pg_inherits h ON h.inhparent = t.archive) AS a
        JOIN pg_class c ON c.oid = a.archive
        WHERE c.relreplident = 'd' AND (of_archive IS NULL OR c.oid = of_archive) AND EXISTS (
            SELECT FROM pg_publication p WHERE (p.pubdelete OR p.pubupdate) AND (
                p.puballtables OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid)
                OR EXISTS (SELECT FROM pg_publication_namespace n WHERE n.pnpubid = p.oid AND n.pnnspid = c.relnamespace)))
        ORDER BY a.archive
    LOOP
        BEGIN
            EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', each.archive);
        EXCEPTION WHEN lock_not_available THEN
            RAISE WARNING 'archive % is published and has no replica identity yet, because it is locked', each.archive
                USING HINT = 'SELECT * FROM keepsake.doctor() names it, with the statement that gives it one.';
            -- Whoever reads an archive of his own locks it: he keeps no other one waiting, and all of his no longer than one.
            SET LOCAL lock_timeout = '10ms';
        END;
    END LOOP;
END
$$;

-- Whether subscribers may get rows of a table. A month table of a published archive would stop them: they have no such table.
CREATE FUNCTION keepsake.is_published(relation oid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT EXISTS (SELECT FROM pg_publication WHERE puballtables)
    OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prrelid = relation)
    OR EXISTS (SELECT FROM pg_publication_namespace n JOIN pg_class c ON c.relnamespace = n.pnnspid WHERE c.oid = relation)
$$;

CREATE FUNCTION keepsake.follow_publications() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET max_parallel_workers_per_gather = 0 AS $$
BEGIN
    PERFORM keepsake.identify_published();
END
$$;
CREATE EVENT TRIGGER keepsake_follow_publications ON ddl_command_end WHEN TAG IN ('CREATE PUBLICATION', 'ALTER PUBLICATION')
    EXECUTE FUNCTION keepsake.follow_publications();

-- Refuses a trigger of somebody else's that calls such a function.
CREATE FUNCTION keepsake.refuse_other_call(function text, serves text, called_on oid, serves_on text, called text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF called_on <> ('keepsake.' || serves_on)::regclass OR serves NOT LIKE regexp_replace(called, '^(BEFORE|AFTER)(INSERT|DELETE)(ROW|STATEMENT)$', E'\\1 \\2 %') THEN
        RAISE EXCEPTION USING ERRCODE = 'trigger_protocol_violated', MESSAGE = format('%s() must be called as a trigger: %s', function, serves),
            DETAIL = format('It was called on %s.', called_on::regclass), HINT = 'Drop the trigger that calls it.';
    END IF;
END
$$;

-- Called for each row that a dump brings; the engine's own change nothing here.
CREATE FUNCTION keepsake.number_column() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    source oid;
BEGIN
    PERFORM keepsake.refuse_other_call('keepsake.number_column', 'BEFORE INSERT ON keepsake.archive_column FOR EACH ROW', tg_relid, 'archive_column', tg_when || tg_op || tg_level);
    SELECT a.relation INTO source FROM keepsake.archive_table a WHERE a.archive = NEW.archive;
    IF NOT FOUND THEN
        -- pg_restore --jobs may be loading the archives at this moment: either they are there then, or they come later and find this.
        LOCK TABLE keepsake.archive_table IN SHARE MODE;
        SELECT a.relation INTO source FROM keepsake.archive_table a WHERE a.archive = NEW.archive;
    END IF;
    IF NEW.numbered <> keepsake.numbering(source) THEN
        NEW.numbered := keepsake.numbering(source);
        NEW.source_attnum := coalesce((SELECT s.attnum FROM pg_attribute s WHERE s.attrelid = source AND s.attname = NEW.source_name AND NOT s.attisdropped), -1);
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER number_column BEFORE INSERT ON keepsake.archive_column FOR EACH ROW EXECUTE FUNCTION keepsake.number_column();

CREATE FUNCTION keepsake.number_columns() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM keepsake.refuse_other_call('keepsake.number_columns', 'AFTER INSERT ON keepsake.archive_table FOR EACH ROW', tg_relid, 'archive_table', tg_when || tg_op || tg_level);
    PERFORM keepsake.number_anew(NEW.archive), keepsake.release_types(NEW.archive), keepsake.identify_published(NEW.archive);
    RETURN NULL;
END
$$;
CREATE TRIGGER number_columns AFTER INSERT ON keepsake.archive_table FOR EACH ROW EXECUTE FUNCTION keepsake.number_columns();

CREATE FUNCTION keepsake.release_month() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM keepsake.refuse_other_call('keepsake.release_month', 'AFTER INSERT ON keepsake.archive_month FOR EACH ROW', tg_relid, 'archive_month', tg_when || tg_op || tg_level);
    PERFORM keepsake.release_types(NEW.month_table), keepsake.identify_published(NEW.month_table);
    RETURN NULL;
END
$$;
CREATE TRIGGER release_month AFTER INSERT ON keepsake.archive_month FOR EACH ROW EXECUTE FUNCTION keepsake.release_month();

-- An archive holds on to no type and no collation: when they are dropped, what it has of them goes along, as a column
-- that is dropped.
CREATE FUNCTION keepsake.release_types(archive oid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Only a superuser may; for anyone else the types stay needed, as those of any table.
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        UPDATE pg_depend SET deptype = 'a'
        WHERE classid = 'pg_class'::regclass AND objsubid > 0
          AND objid IN (SELECT release_types.archive UNION ALL SELECT h.inhrelid FROM pg_inherits h WHERE h.inhparent = release_types.archive)
          AND refclassid IN ('pg_type'::regclass, 'pg_collation'::regclass) AND deptype = 'n';
    END IF;
END
$$;

REVOKE ALL ON FUNCTION keepsake.identify_published, keepsake.follow_publications, keepsake.try_to_manage, keepsake.refuse_other_call, keepsake.try_to_follow, keepsake.try_to_equip, keepsake.equip_partitions, keepsake.follow_archives,
    keepsake.follow_rewrite, keepsake.follow_drops, keepsake.number_anew, keepsake.number_column, keepsake.number_columns, keepsake.release_month, keepsake.release_types, keepsake.follow_archive, keepsake.drop_empty_archive FROM PUBLIC;
GRANT EXECUTE ON FUNCTION keepsake.try_to_manage TO PUBLIC;
