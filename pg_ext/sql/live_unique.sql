-- Turns what is unique among all rows into what is unique among live rows.
CREATE FUNCTION keepsake.live_unique(relation regclass)
RETURNS TABLE (name text, outcome text, why text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    i record;
    kept_tablespace text := current_setting('default_tablespace');
    definition text;
BEGIN
    IF NOT EXISTS (SELECT FROM keepsake.kept_in_place m WHERE m.relation = live_unique.relation) THEN
        RAISE EXCEPTION 'table % is not managed by Keepsake', relation
            USING ERRCODE = '55000', HINT = format('Run: SELECT keepsake.manage(%L);', relation);
    END IF;
    FOR i IN
        SELECT x.indexrelid, x.indisreplident, x.indisclustered, c.relname, c.reltablespace, x.indpred IS NOT NULL AS is_partial,
               con.oid AS constraint, con.condeferrable AS deferrable, con.condeferred AS deferred,
               coalesce((to_jsonb(con) ->> 'conperiod')::boolean, false) AS period,
               coalesce((to_jsonb(x) ->> 'indnullsnotdistinct')::boolean, false) AS nulls_equal,
               obj_description(coalesce(con.oid, x.indexrelid), CASE WHEN con.oid IS NULL THEN 'pg_class' ELSE 'pg_constraint' END) AS comment,
               n.nspname, am.amname, t.spcname,
               EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = x.indrelid AND a.attnum = ANY (x.indkey::int2[])
                       AND a.attname IN ('deleted_at', 'deletion_id')) AS has_mark,
               EXISTS (SELECT FROM keepsake.bound_storage b JOIN pg_attribute a ON a.attrelid = b.relation AND a.attname = b.key_column
                       WHERE b.relation = live_unique.relation AND a.attnum = x.indkey[0]) AS names_object,
               (SELECT min(f.conrelid::regclass::text) FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = x.indexrelid) AS referred_by,
               parts.elements, parts.included
        FROM pg_index x
        JOIN pg_class c ON c.oid = x.indexrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_am am ON am.oid = c.relam
        LEFT JOIN pg_tablespace t ON t.oid = c.reltablespace
        LEFT JOIN pg_constraint con ON con.conindid = x.indexrelid AND con.contype = 'u'
        -- As an exclusion constraint has them.
        CROSS JOIN LATERAL (
            SELECT string_agg(format('%s%s %I.%I WITH OPERATOR(%I.%s)', pg_get_indexdef(x.indexrelid, k.n::int, false),
                                     CASE WHEN k.collation_oid <> 0 THEN format(' COLLATE %I.%I', coln.nspname, col.collname) END,
                                     opcn.nspname, opc.opcname, opn.nspname, op.oprname), ', ' ORDER BY k.n) FILTER (WHERE k.n <= x.indnkeyatts) AS elements,
                   string_agg(pg_get_indexdef(x.indexrelid, k.n::int, false), ', ' ORDER BY k.n) FILTER (WHERE k.n > x.indnkeyatts) AS included
            FROM unnest(x.indkey::int2[], x.indclass::oid[], x.indcollation::oid[]) WITH ORDINALITY AS k (attnum, opclass, collation_oid, n)
            LEFT JOIN pg_opclass opc ON opc.oid = k.opclass
            LEFT JOIN pg_namespace opcn ON opcn.oid = opc.opcnamespace
            LEFT JOIN pg_amop amop ON amop.amopfamily = opc.opcfamily AND amop.amoplefttype = opc.opcintype AND amop.amoprighttype = opc.opcintype
                AND amop.amopstrategy = CASE WHEN opc.opcmethod = 403 THEN 3 WHEN k.n = x.indnkeyatts THEN 3 ELSE 18 END
            LEFT JOIN pg_operator op ON op.oid = amop.amopopr
            LEFT JOIN pg_namespace opn ON opn.oid = op.oprnamespace
            LEFT JOIN pg_collation col ON col.oid = k.collation_oid
            LEFT JOIN pg_namespace coln ON coln.oid = col.collnamespace) AS parts
        WHERE x.indrelid = live_unique.relation AND x.indisunique AND NOT x.indisprimary AND x.indisvalid
          AND NOT coalesce(pg_get_expr(x.indpred, x.indrelid) ~ E'\\ydeleted_at IS NULL\\y', false)
          AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = x.indexrelid)
        ORDER BY c.relname
    LOOP
        name := i.relname;
        outcome := 'left';
        why := CASE WHEN i.referred_by IS NOT NULL THEN format('A foreign key of %s refers to it, which no partial index can serve.', i.referred_by)
                    WHEN i.has_mark THEN 'It has deleted_at in its key, where two NULLs differ: make one without it, WHERE deleted_at IS NULL.'
                    WHEN i.names_object THEN 'It finds the rows that name an object of the bucket, deleted ones among them.'
                    WHEN i.indisreplident THEN 'It is the replica identity of the table, which no partial index can be.'
                    WHEN (i.deferrable OR i.period) AND i.nulls_equal THEN 'No exclusion constraint, which a deferrable one would have to be, has NULLS NOT DISTINCT.' END;
        IF why IS NULL THEN
            PERFORM set_config('default_tablespace', coalesce(i.spcname, ''), true);
            IF i.deferrable OR i.period THEN
                definition := format('ALTER TABLE %s ADD CONSTRAINT %I EXCLUDE USING %s (%s)%s WHERE (deleted_at IS NULL)%s', relation, i.relname,
                    i.amname, i.elements, CASE WHEN i.included IS NOT NULL THEN format(' INCLUDE (%s)', i.included) END,
                    CASE WHEN i.deferrable THEN ' DEFERRABLE' || CASE WHEN i.deferred THEN ' INITIALLY DEFERRED' ELSE '' END END);
            ELSE
                definition := pg_get_indexdef(i.indexrelid) || CASE WHEN i.is_partial THEN ' AND ' ELSE ' WHERE ' END || '(deleted_at IS NULL)';
            END IF;
            IF i.constraint IS NOT NULL THEN
                EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', relation, i.relname);
            ELSE
                EXECUTE format('DROP INDEX %I.%I', i.nspname, i.relname);
            END IF;
            EXECUTE definition;
            IF i.comment IS NOT NULL THEN
                EXECUTE CASE WHEN i.deferrable OR i.period THEN format('COMMENT ON CONSTRAINT %I ON %s IS %L', i.relname, relation, i.comment)
                             ELSE format('COMMENT ON INDEX %I.%I IS %L', i.nspname, i.relname, i.comment) END;
            END IF;
            IF i.indisclustered THEN
                EXECUTE format('ALTER TABLE %s CLUSTER ON %I', relation, i.relname);
            END IF;
            PERFORM set_config('default_tablespace', kept_tablespace, true);
            outcome := 'live';
            why := CASE WHEN i.deferrable OR i.period THEN 'It is an exclusion constraint now, to which ON CONFLICT (columns) finds no way.'
                        WHEN i.constraint IS NOT NULL THEN 'It is an index now, and no constraint: ON CONFLICT names its columns.' END;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION keepsake.live_unique IS
    'Makes the unique constraints and indexes of a managed table hold for live rows only, and says of each what became of it. For the table''s owner; it locks the table while the indexes are built.';
