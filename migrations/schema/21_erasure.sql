-- Erasure: all that names a tenant, or one person in a tenant, is removed now and not when its retention ends. What a legal hold covers
-- stays, and is told. tests/tests/e2e/erasure.rs walks the catalog: a new column that could name somebody has to be dealt with here.
--
-- Bytes go through the outbox at once, without the grace that purged ones have: until the worker has deleted them, their keys are there.

CREATE TABLE attachments.erasure (
    id           uuid PRIMARY KEY DEFAULT keepsake.uuid_v7(),
    scope        text NOT NULL CHECK (scope IN ('tenant', 'subject')),
    -- Whether the files that a person uploaded stayed, without the name.
    kept_files   boolean NOT NULL,
    reason       text NOT NULL,
    -- Who asked for it, as the application says, and as the database knows it.
    actor        text NOT NULL,
    role         name NOT NULL,
    session_role name NOT NULL,
    erased_at    timestamptz NOT NULL DEFAULT now(),
    -- Rows by table: those that are gone, and those that no longer have the name.
    removed      jsonb NOT NULL,
    renamed      jsonb NOT NULL,
    -- Objects that were handed to the outbox.
    objects      bigint NOT NULL,
    -- What stayed: table, rows, why, and the holds.
    kept         jsonb NOT NULL
);
COMMENT ON TABLE attachments.erasure IS
    'Certificates of erasures: who erased what kind of data when, how many rows of each table, and what stayed and why. They do not say of whom.';

-- What stands where a name was.
CREATE FUNCTION attachments.erased_name() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT '(erased)'
$$;

-- Adds rows of a table to such counts as a certificate has.
CREATE FUNCTION attachments.add_count(counts jsonb, table_name text, rows bigint) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN rows = 0 THEN counts
           ELSE counts || jsonb_build_object(table_name, coalesce((counts ->> table_name)::bigint, 0) + rows) END
$$;

-- Adds what a purge reports.
CREATE FUNCTION attachments.add_report(counts jsonb, report jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    line jsonb;
BEGIN
    FOR line IN SELECT * FROM jsonb_array_elements(report -> 'tables') LOOP
        counts := attachments.add_count(counts, line ->> 'table', (line ->> 'rows')::bigint);
    END LOOP;
    RETURN counts;
END
$$;

-- Tables of the application -----------------------------------------------------------------------
-- What follows reads them as whoever erases, mostly a superuser. Their owners are not trusted with that: a value of a type of their own is
-- read by their code.

-- A column that is read by no code but PostgreSQL's.
CREATE FUNCTION attachments.check_column(of_relation regclass, column_name name, wanted regtype DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    type regtype := (SELECT a.atttypid FROM pg_attribute a
                     WHERE a.attrelid = of_relation AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped);
BEGIN
    IF type IS NULL OR type <> coalesce(wanted, type) OR NOT EXISTS (
        SELECT FROM pg_type t
        WHERE t.oid = type AND t.typtype = 'b' AND t.typelem = 0 AND t.typnamespace = 'pg_catalog'::regnamespace) THEN
        RAISE EXCEPTION 'cannot erase rows of table %: the type of its column % is %', of_relation, column_name, coalesce(type::text, 'unknown')
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = 'Values of a type that is not PostgreSQL''s are read by the code of its owner, who would get the rights of whoever erases.',
                  HINT = format('Give the column the type %s.', coalesce(wanted::text, 'text, uuid or bigint'));
    END IF;
END
$$;

-- Locks the tables of entities, so that nobody changes them until the transaction ends, and refuses those that cannot be read safely.
CREATE FUNCTION attachments.check_entity_tables() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'cannot erase in a transaction that is %', current_setting('transaction_isolation')
            USING ERRCODE = 'feature_not_supported', DETAIL = 'It would not see what has been committed since it began.',
                  HINT = 'Erase in a transaction with the isolation level READ COMMITTED.';
    END IF;
    FOR known IN SELECT e.* FROM attachments.entity_type e ORDER BY e.name LOOP
        IF EXISTS (SELECT FROM pg_class c WHERE c.oid = known.relation) THEN
            EXECUTE format('LOCK TABLE %s IN ACCESS SHARE MODE', known.relation);
        END IF;
        IF NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = known.relation AND c.relkind IN ('r', 'p'))
           OR NOT EXISTS (SELECT FROM keepsake.managed_table m WHERE m.relation = known.relation) THEN
            RAISE EXCEPTION 'cannot erase entities of type %: % is no managed table any more', known.name, known.relation
                USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Manage the table again with keepsake.manage(), or remove the entity type.';
        END IF;
        PERFORM attachments.check_column(known.relation, known.tenant_column),
                attachments.check_column(known.relation, known.key_column, known.key_type);
        IF NOT attachments.kept_apart(known.relation) THEN
            PERFORM attachments.check_column(known.relation, 'deletion_id', 'uuid');
        END IF;
    END LOOP;
END
$$;

-- Holds ------------------------------------------------------------------------------------------
-- All of this runs under the claims of the tenant alone, so that an entity is found only there.

-- The holds, released or not, on the tenant, its deletions, and rows of its own.
CREATE FUNCTION attachments.holds_of(tenant text) RETURNS SETOF keepsake.hold
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.* FROM keepsake.hold h
    WHERE h.tenant = holds_of.tenant
       OR h.deletion_id IN (SELECT d.id FROM keepsake.deletion d WHERE d.tenant = holds_of.tenant)
       OR h.relation = 'attachments.attachment'::regclass AND EXISTS (
           SELECT FROM attachments.attachment a WHERE a.id::text = h.row_key ->> 'id' AND a.tenant_id = holds_of.tenant)
       OR EXISTS (
           SELECT FROM attachments.entity_type e
           WHERE e.relation = h.relation AND (attachments.find_entity(e.name, h.row_key ->> e.key_column::text)).is_there)
$$;

-- The holds in force that keep a file: on it, its entity, its deletion, or another row of that.
CREATE FUNCTION attachments.holds_on_file(a attachments.attachment) RETURNS bigint[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(
        SELECT h.id FROM keepsake.hold h
        WHERE h.released_at IS NULL AND (
            h.tenant = a.tenant_id
            OR h.deletion_id = a.deletion_id
            OR h.relation = 'attachments.attachment'::regclass AND h.row_key ->> 'id' IN (a.id::text, a.version_of::text)
            OR EXISTS (SELECT FROM attachments.entity_type e
                       WHERE e.name = a.entity_type AND e.relation = h.relation AND h.row_key ->> e.key_column::text = a.entity_id))
        ORDER BY h.id)
$$;

-- Rows -------------------------------------------------------------------------------------------

-- Files of the tenant, or of one who uploaded them, that no hold covers: the live ones (`deleted` false), or those in the bin. An attachment goes
-- with all its versions.
CREATE FUNCTION attachments.erasable_files(tenant text, subject text, deleted boolean) RETURNS SETOF uuid
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.id FROM attachments.attachment a
    WHERE a.tenant_id = tenant AND (a.deletion_id IS NOT NULL) = deleted
      AND (subject IS NULL OR a.uploaded_by = subject OR EXISTS (
          SELECT FROM attachments.attachment current WHERE current.id = a.version_of AND current.uploaded_by = subject))
      AND attachments.holds_on_file(a) = '{}'
    ORDER BY a.id
$$;

-- Whether what is left of a deletion is the tenant's alone: then it can be purged whole. Of tables that are neither registered nor that of
-- the attachments, nobody knows whose a row is: they belong to the rows from which they went; where they are themselves what was deleted,
-- to the tenant of the deletion, if it has one.
CREATE FUNCTION attachments.is_all_of(deletion uuid, tenant text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    has_others boolean;
BEGIN
    IF NOT EXISTS (
        SELECT FROM keepsake.deletion d WHERE d.id = deletion AND (d.tenant = is_all_of.tenant OR d.tenant IS NULL AND (
            d.root_table = 'attachments.attachment'::regclass
            OR EXISTS (SELECT FROM attachments.entity_type e WHERE e.relation = d.root_table)))) THEN
        RETURN false;
    ELSIF EXISTS (SELECT FROM attachments.attachment a WHERE a.deletion_id = deletion AND a.tenant_id <> is_all_of.tenant) THEN
        RETURN false;
    END IF;
    FOR known IN
        SELECT e.* FROM attachments.entity_type e
        WHERE EXISTS (SELECT FROM attachments.tables_of_deletion(deletion) AS t (relation)
                      WHERE e.relation IN (t.relation, pg_partition_root(t.relation)))
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE t.%I::text IS DISTINCT FROM $2)',
                       attachments.deleted_sql(known, '$1'), known.tenant_column)
        INTO has_others USING deletion, tenant;
        IF has_others THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
END
$$;

-- Deletes a row and whatever cascades from it. One that something refers to stays, as does one from which rows of another tenant would
-- go, and one that is gone by now.
CREATE FUNCTION attachments.delete_for_erasure(relation regclass, key jsonb, tenant text) RETURNS uuid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    made uuid;
BEGIN
    made := keepsake.soft_delete(relation, key, 'erasure');
    IF NOT attachments.is_all_of(made, tenant) THEN
        RAISE integrity_constraint_violation;
    END IF;
    RETURN made;
EXCEPTION WHEN integrity_constraint_violation OR no_data_found THEN
    RETURN NULL;
END
$$;

-- Purges a deletion, if nothing holds it, and adds what went with it.
CREATE FUNCTION attachments.purge_for_erasure(deletion uuid, counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN attachments.add_report(counts, keepsake.purge_deletion(deletion));
EXCEPTION WHEN object_not_in_prerequisite_state OR no_data_found OR integrity_constraint_violation THEN
    RETURN counts;
END
$$;

-- Purges rows that a table keeps in place by their keys, a thousand at a time; other rows of their deletions can still be restored.
CREATE FUNCTION attachments.purge_rows(relation regclass, keys jsonb[], counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    FOR place IN 1 .. cardinality(keys) BY 1000 LOOP
        counts := attachments.add_report(counts, keepsake.purge_rows(relation, to_jsonb(keys[place : place + 999])));
    END LOOP;
    RETURN counts;
END
$$;

-- Makes a former version current, whatever name it had: where another file has that by now, it gets a number.
CREATE FUNCTION attachments.make_current_again(attachment uuid, other attachments.attachment) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    number integer := 1;
BEGIN
    LOOP
        BEGIN
            PERFORM attachments.exchange_contents(attachment, other.id, other.version);
            RETURN;
        EXCEPTION WHEN unique_violation THEN
            IF number = 1000 THEN
                RAISE;
            END IF;
            number := number + 1;
        END;
        -- Of at most 255 bytes, with its extension.
        UPDATE attachments.attachment a
        SET file_name = keepsake.sanitize_filename(format('%s (%s).%s',
            left(regexp_replace(other.file_name, '\.[^.]*$', ''), 50), number, keepsake.parse_object_key(a.object_key) ->> 'extension'))
        WHERE a.id = other.id;
    END LOOP;
END
$$;

-- Where what a person uploaded is the current version of a live attachment, the newest that somebody else uploaded becomes current: that
-- person's versions then go, and nobody else's.
CREATE FUNCTION attachments.keep_versions_of_others(tenant text, subject text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    file record;
BEGIN
    FOR file IN
        SELECT a.id, other.version AS other
        FROM attachments.attachment a, LATERAL (
            SELECT v FROM attachments.attachment v
            WHERE v.version_of = a.id AND v.state = 'former' AND v.deletion_id IS NULL AND v.uploaded_by <> subject
              AND v.scan_verdict IS DISTINCT FROM 'infected' AND NOT attachments.is_version_held(v)
            ORDER BY v.version DESC LIMIT 1) AS other (version)
        WHERE a.tenant_id = keep_versions_of_others.tenant AND a.uploaded_by = subject AND a.state = 'available' AND a.deletion_id IS NULL
          AND attachments.holds_on_file(a) = '{}'
    LOOP
        PERFORM attachments.make_current_again(file.id, file.other);
    END LOOP;
END
$$;

CREATE FUNCTION attachments.erase_files(tenant text, subject text, counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM attachments.keep_versions_of_others(tenant, subject);
    PERFORM attachments.delete_for_erasure('attachments.attachment', jsonb_build_object('id', live.id), tenant)
    FROM attachments.erasable_files(tenant, subject, false) AS live (id);
    RETURN attachments.purge_rows('attachments.attachment', ARRAY(
        SELECT jsonb_build_object('id', file.id) FROM attachments.erasable_files(tenant, subject, true) AS file (id)), counts);
END
$$;

-- The keys of a tenant's entities of one type that no hold covers: the live ones, or those that are kept deleted in their table.
CREATE FUNCTION attachments.erasable_entities(known attachments.entity_type, tenant text, deleted boolean) RETURNS jsonb[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    apart boolean := attachments.kept_apart(known.relation);
    keys jsonb[];
BEGIN
    IF apart AND deleted THEN
        RETURN '{}';
    END IF;
    EXECUTE format(
        'SELECT ARRAY(SELECT jsonb_build_object(%1$L, t.%1$I) FROM %2$s AS t
                      WHERE t.%3$I::text = $1 AND %4$s AND NOT EXISTS (
                          SELECT FROM keepsake.hold h
                          WHERE h.released_at IS NULL AND h.relation = $2 AND h.row_key ->> %1$L = t.%1$I::text)
                      ORDER BY t.%1$I DESC)',
        known.key_column, known.relation, known.tenant_column,
        CASE WHEN apart THEN 'true' WHEN deleted THEN 't.deletion_id IS NOT NULL' ELSE 't.deletion_id IS NULL' END)
    INTO keys USING tenant, known.relation;
    RETURN keys;
END
$$;

-- Deletions that hold something of the tenant's, or that are its own.
CREATE FUNCTION attachments.deletions_of(tenant text) RETURNS uuid[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    of_entities uuid[];
    found uuid[] := ARRAY(
        SELECT d.id FROM keepsake.deletion d WHERE d.tenant = deletions_of.tenant AND d.state IN ('deleted', 'purging')
        UNION ALL
        SELECT a.deletion_id FROM attachments.attachment a WHERE a.tenant_id = deletions_of.tenant AND a.deletion_id IS NOT NULL);
BEGIN
    FOR known IN SELECT e.* FROM attachments.entity_type e ORDER BY e.name LOOP
        EXECUTE format('SELECT ARRAY(SELECT t.deletion_id FROM %s WHERE t.%I::text = $1)',
                       attachments.deleted_sql(known, NULL), known.tenant_column)
        INTO of_entities USING tenant;
        found := found || of_entities;
    END LOOP;
    RETURN ARRAY(SELECT DISTINCT f.id FROM unnest(found) AS f (id) ORDER BY f.id);
END
$$;

-- Soft-deletes what is live of the tenant's; how many rows.
CREATE FUNCTION attachments.delete_entities(tenant text) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    deleted bigint := 0;
BEGIN
    FOR known IN SELECT e.* FROM attachments.entity_type e ORDER BY e.name LOOP
        deleted := deleted + (
            SELECT count(attachments.delete_for_erasure(known.relation, live.key, tenant))
            FROM unnest(attachments.erasable_entities(known, tenant, false)) AS live (key));
    END LOOP;
    RETURN deleted;
END
$$;

-- Purges deletions that are all the tenant's whole, and out of others its rows that are kept in their tables.
CREATE FUNCTION attachments.purge_entities(tenant text, counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    deletion uuid;
BEGIN
    FOREACH deletion IN ARRAY attachments.deletions_of(tenant) LOOP
        IF attachments.is_all_of(deletion, tenant) THEN
            counts := attachments.purge_for_erasure(deletion, counts);
        END IF;
    END LOOP;
    FOR known IN SELECT e.* FROM attachments.entity_type e WHERE NOT attachments.kept_apart(e.relation) ORDER BY e.name LOOP
        counts := attachments.purge_rows(known.relation, attachments.erasable_entities(known, tenant, true), counts);
    END LOOP;
    RETURN counts;
END
$$;

-- Files and entities of the tenant, with what cascades from them, and its deletions. What refers to a row goes before it: each pass may free
-- rows for the next. A trigger of the application's that writes rows again comes to an end as well.
CREATE FUNCTION attachments.erase_entities(tenant text, counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at_most constant integer := 1000;
    before jsonb;
    deleted bigint;
BEGIN
    FOR pass IN 1 .. at_most LOOP
        before := counts;
        counts := attachments.erase_files(tenant, NULL, counts);
        deleted := attachments.delete_entities(tenant);
        counts := attachments.purge_entities(tenant, counts);
        EXIT WHEN deleted = 0 AND counts = before;
    END LOOP;
    RETURN counts;
END
$$;

-- Names ------------------------------------------------------------------------------------------

-- Upload sets of a tenant, or of one who declared them, of which no file is left. One whose parts the store still holds stays until they
-- are given up, and names nobody.
CREATE FUNCTION attachments.erase_uploads(of_tenant text, subject text, counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone bigint;
BEGIN
    DELETE FROM attachments.upload_set s
    WHERE s.tenant_id = of_tenant AND (subject IS NULL OR s.created_by = subject)
      AND NOT EXISTS (SELECT FROM attachments.attachment a WHERE a.upload_set_id = s.id)
      AND NOT EXISTS (SELECT FROM attachments.multipart m WHERE m.upload_set_id = s.id);
    GET DIAGNOSTICS gone = ROW_COUNT;
    WITH nameless AS (
        UPDATE attachments.upload_set s
        SET tenant_id = '', created_by = attachments.erased_name(), files = NULL, report = NULL,
            state = CASE s.state WHEN 'pending' THEN 'aborted' ELSE s.state END, settled_at = coalesce(s.settled_at, now())
        WHERE s.tenant_id = of_tenant AND (subject IS NULL OR s.created_by = subject)
          AND NOT EXISTS (SELECT FROM attachments.attachment a WHERE a.upload_set_id = s.id)
        RETURNING s.id)
    UPDATE attachments.multipart m SET tenant_id = '' FROM nameless n WHERE m.upload_set_id = n.id;
    RETURN attachments.add_count(counts, 'attachments.upload_set', gone);
END
$$;

-- Rows of one table; `condition` is SQL over `$1`, the tenant, and `$2`, the subject.
CREATE FUNCTION attachments.erase_rows(table_name text, condition text, tenant text, subject text, counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone bigint;
BEGIN
    EXECUTE format('DELETE FROM %s AS t WHERE %s', table_name::regclass, condition) USING tenant, subject;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN attachments.add_count(counts, table_name, gone);
END
$$;

-- The same for one column that names the subject.
CREATE FUNCTION attachments.rename_rows(table_name text, column_name name, condition text, tenant text, subject text, counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed bigint;
BEGIN
    EXECUTE format('UPDATE %s AS t SET %2$I = attachments.erased_name() WHERE t.%2$I = $2 AND %3$s', table_name::regclass, column_name, condition)
    USING tenant, subject;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN attachments.add_count(counts, table_name, changed);
END
$$;

-- What else names a tenant. Its last events are delivered, and gone then. Its holds, and the deletions that were all its own, are those that
-- were found before its rows went; holds in force stay, with what they are on, and so does what the tenant holds as long as it holds anything.
CREATE FUNCTION attachments.erase_tenant_names(tenant text, holds bigint[], deletions uuid[], counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    released bigint[] := ARRAY(SELECT h.id FROM keepsake.hold h WHERE h.id = ANY (holds) AND h.released_at IS NOT NULL);
    gone bigint;
    line record;
BEGIN
    counts := attachments.erase_uploads(tenant, NULL, counts);
    DELETE FROM attachments.hold_release r WHERE r.hold_id = ANY (released);
    DELETE FROM keepsake.hold h WHERE h.id = ANY (released);
    counts := attachments.add_count(counts, 'keepsake.hold', coalesce(cardinality(released), 0));
    DELETE FROM keepsake.archive_undo u USING keepsake.deletion d
    WHERE d.id = u.deletion_id AND (d.tenant = erase_tenant_names.tenant OR d.id = ANY (deletions)) AND d.state IN ('purged', 'restored');
    GET DIAGNOSTICS gone = ROW_COUNT;
    counts := attachments.add_count(counts, 'keepsake.archive_undo', gone);
    -- Those that were made without claims.
    DELETE FROM keepsake.deletion d WHERE d.id = ANY (deletions) AND d.tenant IS NULL AND d.state IN ('purged', 'restored');
    GET DIAGNOSTICS gone = ROW_COUNT;
    counts := attachments.add_count(counts, 'keepsake.deletion', gone);
    FOR line IN SELECT * FROM (VALUES
        ('keepsake.deletion', 't.tenant = $1 AND t.state IN (''purged'', ''restored'')'),
        ('attachments.idempotency', 't.tenant_id = $1'),
        ('attachments.event', 't.tenant_id = $1 AND t.dead_at IS NOT NULL'),
        ('attachments.quota', 't.tenant_id = $1'),
        ('attachments.file_type_rule', 't.tenant_id = $1'),
        ('attachments.version_limit', 't.tenant_id = $1'),
        ('attachments.scan_policy', 't.tenant_id = $1'),
        ('attachments.audit_finding', 'keepsake.parse_object_key(t.object_key) ->> ''tenant'' = $1'),
        ('attachments.usage_release', 't.tenant_id = $1 AND NOT EXISTS (SELECT FROM attachments.attachment a WHERE a.tenant_id = $1)'),
        ('attachments.usage', 't.tenant_id = $1 AND NOT EXISTS (SELECT FROM attachments.attachment a WHERE a.tenant_id = $1)')
    ) AS l (table_name, condition) LOOP
        counts := attachments.erase_rows(line.table_name, line.condition, tenant, NULL, counts);
    END LOOP;
    RETURN counts;
END
$$;

-- What a person holds counts for nobody by name from here on.
CREATE FUNCTION attachments.erase_usage(of_tenant text, who text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE attachments.usage_release r SET subject = attachments.erased_name() WHERE r.tenant_id = of_tenant AND r.subject = who;
    INSERT INTO attachments.usage AS u (tenant_id, subject, bytes, files)
    SELECT s.tenant_id, attachments.erased_name(), s.bytes, s.files FROM attachments.usage s WHERE s.tenant_id = of_tenant AND s.subject = who
    ON CONFLICT (tenant_id, subject) DO UPDATE SET bytes = u.bytes + excluded.bytes, files = u.files + excluded.files;
    DELETE FROM attachments.usage u WHERE u.tenant_id = of_tenant AND u.subject = who;
END
$$;

-- Deletions of a person that are held: evidence, which stays as it is.
CREATE FUNCTION attachments.held_deletions_of(of_tenant text, who text) RETURNS uuid[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(SELECT DISTINCT h.id FROM unnest(attachments.held_deletions(ARRAY(
        SELECT d.id FROM keepsake.deletion d
        WHERE d.tenant = of_tenant AND d.actor = who AND d.state IN ('deleted', 'purging')))) AS h (id) WHERE h.id IS NOT NULL)
$$;

-- Takes the name off the files that a person uploaded, but for those that are held, and off their sets.
CREATE FUNCTION attachments.rename_files(tenant text, subject text, counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Of a set whose file still has the name, nothing is changed.
    without_held constant text :=
        't.tenant_id = $1 AND NOT EXISTS (SELECT FROM attachments.attachment a WHERE a.upload_set_id = t.id AND a.uploaded_by = $2)';
BEGIN
    counts := attachments.rename_rows('attachments.attachment', 'uploaded_by',
        't.tenant_id = $1 AND attachments.holds_on_file(t) = ''{}''
         AND (t.deletion_id = ANY (attachments.held_deletions(ARRAY[t.deletion_id]))) IS NOT TRUE', tenant, subject, counts);
    EXECUTE 'UPDATE attachments.upload_set AS t SET files = NULL, report = NULL
             WHERE t.created_by = $2 AND t.state <> ''completed'' AND ' || without_held
    USING tenant, subject;
    RETURN attachments.rename_rows('attachments.upload_set', 'created_by', without_held, tenant, subject, counts);
END
$$;

-- What else names a person in a tenant; the rows that have the name no longer. A file that is held keeps the name of who uploaded it,
-- and what is needed to count it; a deletion that is held the name of who made it, and why.
CREATE FUNCTION attachments.rename_subject(tenant text, subject text, holds bigint[], kept_files boolean) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counts jsonb := '{}';
    held text := format('t.id = ANY (%L::bigint[])', holds);
    held_deletions uuid[] := attachments.held_deletions_of(tenant, subject);
BEGIN
    IF kept_files THEN
        counts := attachments.rename_files(tenant, subject, counts);
    END IF;
    IF NOT EXISTS (SELECT FROM attachments.attachment a WHERE a.tenant_id = rename_subject.tenant AND a.uploaded_by = subject) THEN
        PERFORM attachments.erase_usage(tenant, subject);
    END IF;
    -- The reason is what that person wrote.
    UPDATE keepsake.deletion d SET reason = NULL
    WHERE d.tenant = rename_subject.tenant AND d.actor = subject AND d.id <> ALL (held_deletions);
    counts := attachments.rename_rows('keepsake.deletion', 'actor',
        format('t.tenant = $1 AND t.id <> ALL (%L::uuid[])', held_deletions), tenant, subject, counts);
    counts := attachments.rename_rows('keepsake.hold', 'actor', held, tenant, subject, counts);
    RETURN attachments.rename_rows('keepsake.hold', 'released_by', held, tenant, subject, counts);
END
$$;

-- The erasure ------------------------------------------------------------------------------------

-- Files that stayed, by what keeps them.
CREATE FUNCTION attachments.kept_files(tenant text, subject text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH kept AS (
        SELECT attachments.holds_on_file(a) AS holds, a.deletion_id = ANY (attachments.held_deletions(ARRAY[a.deletion_id])) AS in_held
        FROM attachments.attachment a WHERE a.tenant_id = tenant AND (subject IS NULL OR a.uploaded_by = subject)),
    told AS (
        SELECT CASE WHEN holds <> '{}' OR in_held THEN 'held' ELSE 'referenced' END AS why, holds FROM kept)
    SELECT coalesce(jsonb_agg(jsonb_build_object('table', 'attachments.attachment', 'rows', rows, 'why', why, 'holds', holds) ORDER BY why), '[]')
    FROM (SELECT t.why, count(DISTINCT t.n) AS rows, coalesce(jsonb_agg(DISTINCT h.id) FILTER (WHERE h.id IS NOT NULL), '[]') AS holds
          FROM (SELECT row_number() OVER () AS n, * FROM told) AS t LEFT JOIN LATERAL unnest(t.holds) AS h (id) ON true
          GROUP BY t.why) AS by_reason
$$;

-- Deletions of a person that stayed as they were, because they are held.
CREATE FUNCTION attachments.kept_deletions(tenant text, subject text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE held WHEN '{}' THEN '[]'::jsonb ELSE jsonb_build_array(jsonb_build_object(
        'table', 'keepsake.deletion', 'rows', cardinality(held), 'why', 'held', 'holds', (
            SELECT coalesce(jsonb_agg(h.id ORDER BY h.id), '[]') FROM keepsake.hold h
            WHERE h.released_at IS NULL AND h.deletion_id = ANY (held)))) END
    FROM attachments.held_deletions_of(tenant, subject) AS held
$$;

-- Entities of one type that stayed, live ones (deletion NULL) and by deletion.
CREATE FUNCTION attachments.left_entities(known attachments.entity_type, tenant text) RETURNS TABLE (deletion_id uuid, rows bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT NULL::uuid, count(*) FROM %s AS t WHERE t.%I::text = $1%s HAVING count(*) > 0
         UNION ALL
         SELECT t.deletion_id, count(*) FROM %s WHERE t.%2$I::text = $1 GROUP BY 1',
        known.relation, known.tenant_column, CASE WHEN NOT attachments.kept_apart(known.relation) THEN ' AND t.deletion_id IS NULL' END,
        attachments.deleted_sql(known, NULL))
    USING tenant;
END
$$;

-- Entities that stayed, and why: in a deletion that another tenant has rows in; or held, or in a deletion that is; or a row refers to them.
CREATE FUNCTION attachments.kept_entities(tenant text) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    holds jsonb := (SELECT coalesce(jsonb_agg(h.id ORDER BY h.id), '[]') FROM attachments.holds_of(tenant) AS h WHERE h.released_at IS NULL);
BEGIN
    RETURN (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'table', w.relation, 'rows', w.rows, 'why', w.why, 'holds', CASE w.why WHEN 'held' THEN holds ELSE '[]' END)
            ORDER BY w.name, w.why), '[]')
        FROM (
            SELECT e.name, e.relation::text AS relation, sum(l.rows)::bigint AS rows,
                   CASE WHEN l.deletion_id IS NOT NULL AND NOT attachments.is_all_of(l.deletion_id, tenant) THEN 'shared'
                        WHEN holds <> '[]' THEN 'held' ELSE 'referenced' END AS why
            FROM attachments.entity_type e, attachments.left_entities(e, tenant) AS l
            GROUP BY 1, 2, 4) AS w);
END
$$;

-- Lets the bytes of what the tenant had purged earlier go at once as well. Whose file an object was nobody knows any more: what a person had
-- purged goes when its grace is over.
CREATE FUNCTION attachments.hurry_objects(tenant text, subject text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE keepsake.outbox o SET next_attempt_at = now()
    WHERE subject IS NULL AND o.attempts = 0 AND o.next_attempt_at > now()
      AND keepsake.parse_object_key(o.object_key) ->> 'tenant' = tenant
$$;

-- Refuses by KS004 what a hold on the whole tenant forbids: its DETAIL is the hold.
CREATE FUNCTION attachments.refuse_held_tenant(tenant text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held_by bigint := (SELECT h.id FROM keepsake.hold h WHERE h.tenant = refuse_held_tenant.tenant AND h.released_at IS NULL);
BEGIN
    IF held_by IS NOT NULL THEN
        RAISE EXCEPTION 'cannot erase data of a tenant that is held'
            USING ERRCODE = 'KS004', DETAIL = held_by::text,
                  HINT = 'Release the hold with this number when the law allows it, then repeat the erasure.';
    END IF;
END
$$;

-- Erases a tenant, or what one person (`subject`) did there: the files that they uploaded, or, with keep_files, only the name. One
-- transaction; whoever changes something of the tenant waits for it. Repeating it removes what came since, and what was held then.
CREATE FUNCTION attachments.erase(tenant text, subject text DEFAULT NULL, reason text DEFAULT '', keep_files boolean DEFAULT false)
RETURNS attachments.erasure
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    done attachments.erasure;
    asked_by text := coalesce(nullif(current_setting('keepsake.actor', true), ''), session_user);
    claims text := coalesce(current_setting('request.jwt.claims', true), '');
    shows_deleted text := coalesce(current_setting('keepsake.include_deleted', true), '');
    holds bigint[];
    deletions uuid[];
    removed jsonb := '{}';
    renamed jsonb := '{}';
    kept jsonb;
BEGIN
    IF coalesce(tenant, '') = '' OR subject = '' THEN
        RAISE EXCEPTION 'whom to erase is not given' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Pass a tenant, and for one person also the subject of their tokens.';
    ELSIF keep_files AND subject IS NULL THEN
        RAISE EXCEPTION 'files of a tenant cannot be kept without their tenant' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'keep_files is for the erasure of one person.';
    END IF;
    PERFORM attachments.begin_recovery(jsonb_build_object('tenant', tenant)), set_config('attachments.erasing', 'on', true);
    -- The tables are locked before anything else, so that their owners can change nothing while they are read.
    PERFORM attachments.check_entity_tables();
    PERFORM pg_advisory_xact_lock(attachments.tenant_lock(tenant));
    PERFORM attachments.refuse_held_tenant(tenant);
    holds := ARRAY(SELECT h.id FROM attachments.holds_of(tenant) AS h);
    IF subject IS NULL THEN
        deletions := ARRAY(SELECT d.id FROM unnest(attachments.deletions_of(tenant)) AS d (id) WHERE attachments.is_all_of(d.id, tenant));
        removed := attachments.erase_entities(tenant, removed);
        kept := attachments.kept_files(tenant, NULL) || attachments.kept_entities(tenant);
        removed := attachments.erase_tenant_names(tenant, holds, deletions, removed);
    ELSE
        IF NOT keep_files THEN
            removed := attachments.erase_files(tenant, subject, removed);
        END IF;
        removed := attachments.erase_uploads(tenant, subject, removed);
        removed := attachments.erase_rows('attachments.idempotency', 't.tenant_id = $1 AND t.subject = $2', tenant, subject, removed);
        removed := attachments.erase_rows('attachments.quota', 't.tenant_id = $1 AND t.subject = $2', tenant, subject, removed);
        PERFORM attachments.settle_usage(tenant);
        renamed := attachments.rename_subject(tenant, subject, holds, keep_files);
        -- With keep_files, those that have the name still are held.
        kept := attachments.kept_files(tenant, subject) || attachments.kept_deletions(tenant, subject);
    END IF;
    INSERT INTO attachments.erasure AS e (scope, kept_files, reason, actor, role, session_role, removed, renamed, objects, kept)
    VALUES (CASE WHEN subject IS NULL THEN 'tenant' ELSE 'subject' END, keep_files, reason, asked_by, current_user, session_user,
            removed, renamed, coalesce((removed ->> 'attachments.attachment')::bigint, 0), kept)
    RETURNING e.* INTO done;
    PERFORM attachments.hurry_objects(tenant, subject), set_config('attachments.erasing', '', true);
    PERFORM set_config('request.jwt.claims', claims, true), set_config('keepsake.include_deleted', shows_deleted, true);
    RETURN done;
END
$$;

COMMENT ON FUNCTION attachments.erase IS
    'Erases everything of a tenant, or everything that one person in it uploaded (with keep_files only the name), whatever its retention, except what is held. Returns the certificate.';

REVOKE ALL ON FUNCTION
    attachments.erased_name, attachments.add_count, attachments.add_report, attachments.check_column, attachments.check_entity_tables,
    attachments.holds_of, attachments.holds_on_file, attachments.erasable_files, attachments.is_all_of, attachments.delete_for_erasure,
    attachments.purge_for_erasure, attachments.purge_rows, attachments.make_current_again, attachments.keep_versions_of_others, attachments.erase_files, attachments.erasable_entities, attachments.deletions_of,
    attachments.delete_entities, attachments.purge_entities, attachments.erase_entities, attachments.erase_uploads,
    attachments.erase_rows, attachments.rename_rows, attachments.erase_tenant_names, attachments.erase_usage, attachments.held_deletions_of,
    attachments.rename_files, attachments.rename_subject, attachments.kept_files, attachments.kept_deletions, attachments.left_entities,
    attachments.kept_entities, attachments.hurry_objects, attachments.refuse_held_tenant, attachments.erase
FROM PUBLIC;

-- Over HTTP, for an operator -------------------------------------------------------------------------

CREATE FUNCTION attachments.describe_erasure(e attachments.erasure) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT to_jsonb(e) - 'role' - 'session_role'
$$;

CREATE FUNCTION attachments_api.erase(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    holds text;
BEGIN
    PERFORM set_config('keepsake.actor', request ->> 'actor', true);
    RETURN attachments.ok(attachments.describe_erasure(attachments.erase(
        request ->> 'tenant', request ->> 'subject', request ->> 'reason', (request ->> 'keep_files')::boolean)));
EXCEPTION WHEN SQLSTATE 'KS004' THEN
    GET STACKED DIAGNOSTICS holds = PG_EXCEPTION_DETAIL;
    RETURN attachments.fail('held', format('Hold %s is on the whole tenant. Release it first; nothing was changed.', holds));
END
$$;

-- Newest first.
CREATE FUNCTION attachments_api.list_erasures(request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := (request ->> 'limit')::integer;
BEGIN
    RETURN attachments.cut_page((
        SELECT coalesce(jsonb_agg(attachments.describe_erasure(page) ORDER BY page.id DESC), '[]')
        FROM (SELECT e.* FROM attachments.erasure e
              WHERE e.id < coalesce((request ->> 'cursor')::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
              ORDER BY e.id DESC LIMIT size + 1) AS page), size, 'id');
END
$$;

REVOKE ALL ON FUNCTION attachments.describe_erasure, attachments_api.erase, attachments_api.list_erasures FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments_api.erase, attachments_api.list_erasures TO keepsake_worker;
