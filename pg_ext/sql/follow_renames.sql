-- What the registry knows by a column's name follows the column: becomes is its new name, or '' when it was dropped, which no column has. A
-- column that is made later under the old name is another one.
CREATE FUNCTION keepsake.follow_column_of_holds(of_table oid, was text, becomes text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE keepsake.hold SET row_key = (row_key - was) || jsonb_build_object(becomes, row_key -> was)
    WHERE relation = of_table AND released_at IS NULL AND row_key ? was
$$;

CREATE FUNCTION keepsake.follow_column(of_table oid, was text, becomes text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM keepsake.follow_column_of_holds(of_table, was, becomes);
    UPDATE keepsake.deletion SET root_key = (root_key - was) || jsonb_build_object(becomes, root_key -> was)
    WHERE root_table = of_table AND state IN ('deleted', 'purging') AND root_key ? was;
    UPDATE keepsake.detached
    SET columns = array_replace(columns, was::name, becomes::name), changed = array_replace(changed, was::name, becomes::name),
        key_columns = array_replace(key_columns, was::name, becomes::name)
    WHERE relation = of_table AND was = ANY (columns || key_columns);
    UPDATE keepsake.archive_undo
    SET columns = array_replace(columns, was, becomes), key_columns = array_replace(key_columns, was, becomes)
    WHERE relation = of_table AND was = ANY (columns || key_columns);
    -- Of a dropped column doctor() tells.
    IF becomes <> '' THEN
        UPDATE keepsake.declared_reference
        SET type_column = CASE WHEN type_column = was THEN becomes ELSE type_column END,
            id_column = CASE WHEN id_column = was THEN becomes ELSE id_column END
        WHERE child = of_table AND was IN (type_column, id_column);
        UPDATE keepsake.bound_storage
        SET key_column = CASE WHEN key_column = was THEN becomes ELSE key_column END,
            writable_until = CASE WHEN writable_until = was THEN becomes ELSE writable_until END
        WHERE relation = of_table AND was IN (key_column, writable_until);
        -- By its old name until the archive follows, which may have to wait: only what the archive does not know follows here.
        UPDATE keepsake.archive_table t
        SET object_key = CASE WHEN object_key = was THEN becomes ELSE object_key END,
            writable_until = CASE WHEN writable_until = was THEN becomes ELSE writable_until END
        FROM (SELECT NOT EXISTS (SELECT FROM keepsake.archive_table a JOIN keepsake.archive_column c ON c.archive = a.archive
                                 WHERE a.relation = of_table AND c.source_name = was) AS is_new) AS k
        WHERE t.relation = of_table AND k.is_new AND was IN (object_key, writable_until);
    END IF;
END
$$;

-- The same for a foreign key.
CREATE FUNCTION keepsake.follow_constraint(of_table oid, was text, becomes text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE keepsake.reference_override SET reference = becomes WHERE child = of_table AND reference = was;
    UPDATE keepsake.detached SET reference = becomes WHERE relation = of_table AND reference = was;
END
$$;

CREATE FUNCTION keepsake.renamed_value(value text, is_array boolean, was text, becomes text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN is_array THEN array_replace(value::text[], was, becomes)::text WHEN value = was THEN becomes ELSE value END
$$;

-- Arrays of JSON, whose n-th member is such a value.
CREATE FUNCTION keepsake.renamed_values(objects text[], n integer, is_array boolean, was text, becomes text) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN n IS NULL OR objects IS NULL THEN objects ELSE ARRAY(
        SELECT coalesce(jsonb_set(v.object::jsonb, ARRAY[(n - 1)::text],
                                  to_jsonb(keepsake.renamed_value(v.object::jsonb ->> (n - 1), is_array, was, becomes))), v.object::jsonb)::text
        FROM unnest(objects) WITH ORDINALITY AS v (object, place) ORDER BY v.place) END
$$;

-- The same for a value of an enum, in columns of that type, of domains over it and of arrays of it.
CREATE FUNCTION keepsake.follow_enum_value(of_type oid, was text, becomes text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c record;
BEGIN
    FOR c IN
        WITH RECURSIVE known (oid, is_array) AS (
            SELECT of_type, false
            UNION
            SELECT t.oid, known.is_array OR t.typelem = known.oid
            FROM pg_type t JOIN known ON t.typbasetype = known.oid OR t.typelem = known.oid AND t.typcategory = 'A')
        SELECT a.attrelid AS relation, a.attname::text AS name, known.is_array
        FROM pg_attribute a JOIN known ON known.oid = a.atttypid
        WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid IN (
            SELECT relation::oid FROM keepsake.hold WHERE relation IS NOT NULL
            UNION SELECT root_table::oid FROM keepsake.deletion
            UNION SELECT relation::oid FROM keepsake.detached)
    LOOP
        UPDATE keepsake.hold
        SET row_key = jsonb_set(row_key, ARRAY[c.name], to_jsonb(keepsake.renamed_value(row_key ->> c.name, c.is_array, was, becomes)))
        WHERE relation = c.relation AND released_at IS NULL AND row_key ? c.name;
        UPDATE keepsake.deletion
        SET root_key = jsonb_set(root_key, ARRAY[c.name], to_jsonb(keepsake.renamed_value(root_key ->> c.name, c.is_array, was, becomes)))
        WHERE root_table = c.relation AND state IN ('deleted', 'purging') AND root_key ? c.name;
        UPDATE keepsake.detached d
        SET row_keys = keepsake.renamed_values(d.row_keys, array_position(d.key_columns, c.name::name), c.is_array, was, becomes),
            old_values = keepsake.renamed_values(d.old_values, array_position(d.columns, c.name::name), c.is_array, was, becomes),
            new_values = keepsake.renamed_values(d.new_values, array_position(d.columns, c.name::name), c.is_array, was, becomes)
        WHERE d.relation = c.relation AND c.name = ANY (d.columns || d.key_columns);
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION keepsake.follow_column_of_holds(oid, text, text), keepsake.follow_column(oid, text, text), keepsake.follow_constraint(oid, text, text),
    keepsake.follow_enum_value(oid, text, text), keepsake.renamed_value(text, boolean, text, text),
    keepsake.renamed_values(text[], integer, boolean, text, text) FROM PUBLIC;

-- Its function, in Rust, reads from the command which name became which.
CREATE EVENT TRIGGER keepsake_follow_renames ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'ALTER TYPE', 'ALTER VIEW', 'ALTER MATERIALIZED VIEW', 'ALTER FOREIGN TABLE', 'ALTER SCHEMA')
    EXECUTE FUNCTION keepsake.follow_renames();

CREATE EVENT TRIGGER keepsake_attach_partition ON ddl_command_start WHEN TAG IN ('ALTER TABLE')
    EXECUTE FUNCTION keepsake.attach_partition();

CREATE EVENT TRIGGER keepsake_show_detached ON ddl_command_start WHEN TAG IN ('ALTER TABLE')
    EXECUTE FUNCTION keepsake.show_detached();

CREATE EVENT TRIGGER keepsake_make_room ON ddl_command_start WHEN TAG IN ('CREATE POLICY', 'CREATE TRIGGER')
    EXECUTE FUNCTION keepsake.make_room();

CREATE EVENT TRIGGER keepsake_follow_using ON ddl_command_start WHEN TAG IN ('ALTER TABLE')
    EXECUTE FUNCTION keepsake.follow_using();
