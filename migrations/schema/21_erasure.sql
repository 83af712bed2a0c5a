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
            OR h.relation = 'attachments.attachment'::regclass AND h.row_key ->> 'id' = a.id::text
            OR EXISTS (SELECT FROM attachments.entity_type e
                       WHERE e.name = a.entity_type AND e.relation = h.relation AND h.row_key ->> e.key_column::text = a.entity_id))
        ORDER BY h.id)
$$;

-- Rows -------------------------------------------------------------------------------------------

-- Files of the tenant, or of one who uploaded them, that no hold covers: the live ones (`deleted` false), or those in the bin.
CREATE FUNCTION attachments.erasable_files(tenant text, subject text, deleted boolean) RETURNS SETOF uuid
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.id FROM attachments.attachment a
    WHERE a.tenant_id = tenant AND (subject IS NULL OR a.uploaded_by = subject) AND (a.deletion_id IS NOT NULL) = deleted
      AND attachments.holds_on_file(a) = '{}'
    ORDER BY a.id
$$;

-- Deletes a row and whatever cascades from it. One that something refers to stays, and so does one that is gone by now.
CREATE FUNCTION attachments.delete_for_erasure(relation regclass, key jsonb) RETURNS uuid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN keepsake.soft_delete(relation, key, 'erasure');
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

CREATE FUNCTION attachments.erase_files(tenant text, subject text, counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM attachments.delete_for_erasure('attachments.attachment', jsonb_build_object('id', live.id))
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

-- Deletions in an archive that hold entities of the tenant and of nobody else.
CREATE FUNCTION attachments.archived_deletions(known attachments.entity_type, tenant text) RETURNS uuid[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    deletions uuid[] := '{}';
BEGIN
    IF attachments.kept_apart(known.relation) THEN
        EXECUTE format(
            'SELECT coalesce(array_agg(own.deletion_id), ''{}'') FROM (
                 SELECT t.deletion_id FROM %s GROUP BY t.deletion_id HAVING bool_and(t.%I::text IS NOT DISTINCT FROM $1)) AS own',
            attachments.deleted_sql(known, NULL), known.tenant_column)
        INTO deletions USING tenant;
    END IF;
    RETURN deletions;
END
$$;

-- Entities of the tenant, with what cascades from them, and its deletions. Files are gone before them.
CREATE FUNCTION attachments.erase_entities(tenant text, counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    before jsonb;
    deletion uuid;
BEGIN
    FOR known IN SELECT e.* FROM attachments.entity_type e ORDER BY e.name LOOP
        PERFORM attachments.delete_for_erasure(known.relation, key)
        FROM unnest(attachments.erasable_entities(known, tenant, false)) AS key;
    END LOOP;
    -- What refers to a row goes before it, whatever the order of the deletions.
    LOOP
        before := counts;
        FOR deletion IN
            SELECT d.id FROM keepsake.deletion d WHERE d.tenant = erase_entities.tenant AND d.state IN ('deleted', 'purging')
            UNION
            SELECT unnest(attachments.archived_deletions(e, erase_entities.tenant)) FROM attachments.entity_type e
        LOOP
            counts := attachments.purge_for_erasure(deletion, counts);
        END LOOP;
        FOR known IN SELECT e.* FROM attachments.entity_type e WHERE NOT attachments.kept_apart(e.relation) ORDER BY e.name LOOP
            counts := attachments.purge_rows(known.relation, attachments.erasable_entities(known, tenant, true), counts);
        END LOOP;
        EXIT WHEN counts = before;
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

-- What else names a tenant. Its last events are delivered, and gone then. Its holds are those that were found before its rows went; those in force stay, with what they are on, and so
-- does what the tenant holds as long as it holds anything.
CREATE FUNCTION attachments.erase_tenant_names(tenant text, holds bigint[], counts jsonb) RETURNS jsonb
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
    WHERE d.id = u.deletion_id AND d.tenant = erase_tenant_names.tenant AND d.state IN ('purged', 'restored');
    GET DIAGNOSTICS gone = ROW_COUNT;
    counts := attachments.add_count(counts, 'keepsake.archive_undo', gone);
    FOR line IN SELECT * FROM (VALUES
        ('keepsake.deletion', 't.tenant = $1 AND t.state IN (''purged'', ''restored'')'),
        ('attachments.idempotency', 't.tenant_id = $1'),
        ('attachments.event', 't.tenant_id = $1 AND t.dead_at IS NOT NULL'),
        ('attachments.quota', 't.tenant_id = $1'),
        ('attachments.file_type_rule', 't.tenant_id = $1'),
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

-- What else names a person in a tenant; the rows that have the name no longer. A file that is held keeps the name of who uploaded it,
-- and what is needed to count it.
CREATE FUNCTION attachments.rename_subject(tenant text, subject text, holds bigint[], kept_files boolean) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counts jsonb := '{}';
    held text := format('t.id = ANY (%L::bigint[])', holds);
BEGIN
    IF kept_files THEN
        counts := attachments.rename_rows('attachments.attachment', 'uploaded_by', 't.tenant_id = $1', tenant, subject, counts);
        UPDATE attachments.upload_set s SET files = NULL, report = NULL
        WHERE s.tenant_id = rename_subject.tenant AND s.created_by = subject AND s.state <> 'completed';
        counts := attachments.rename_rows('attachments.upload_set', 'created_by', 't.tenant_id = $1', tenant, subject, counts);
    END IF;
    IF NOT EXISTS (SELECT FROM attachments.attachment a WHERE a.tenant_id = rename_subject.tenant AND a.uploaded_by = subject) THEN
        PERFORM attachments.erase_usage(tenant, subject);
    END IF;
    -- The reason is what that person wrote.
    UPDATE keepsake.deletion d SET reason = NULL WHERE d.tenant = rename_subject.tenant AND d.actor = subject;
    counts := attachments.rename_rows('keepsake.deletion', 'actor', 't.tenant = $1', tenant, subject, counts);
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

-- Entities that stayed: held, or in a deletion that is, or that another tenant has rows in; or a row refers to them.
CREATE FUNCTION attachments.kept_entities(tenant text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    live bigint;
    deleted bigint;
    holds jsonb;
    kept jsonb := '[]';
BEGIN
    FOR known IN SELECT e.* FROM attachments.entity_type e ORDER BY e.name LOOP
        EXECUTE format('SELECT count(*) FROM %s AS t WHERE t.%I::text = $1%s', known.relation, known.tenant_column,
                       CASE WHEN NOT attachments.kept_apart(known.relation) THEN ' AND t.deletion_id IS NULL' END)
        INTO live USING tenant;
        EXECUTE format('SELECT count(*) FROM %s WHERE t.%I::text = $1', attachments.deleted_sql(known, NULL), known.tenant_column)
        INTO deleted USING tenant;
        SELECT coalesce(jsonb_agg(h.id ORDER BY h.id), '[]') INTO holds
        FROM attachments.holds_of(tenant) AS h WHERE h.released_at IS NULL;
        IF live + deleted > 0 THEN
            kept := kept || jsonb_build_object('table', known.relation::text, 'rows', live + deleted,
                'why', CASE holds WHEN '[]' THEN 'referenced' ELSE 'held' END, 'holds', holds);
        END IF;
    END LOOP;
    RETURN kept;
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

-- Refuses what a hold on the whole tenant forbids.
CREATE FUNCTION attachments.refuse_held_tenant(tenant text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held_by bigint := (SELECT h.id FROM keepsake.hold h WHERE h.tenant = refuse_held_tenant.tenant AND h.released_at IS NULL);
BEGIN
    IF held_by IS NOT NULL THEN
        RAISE EXCEPTION 'cannot erase data of a tenant that is held'
            USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = held_by::text,
                  HINT = 'Release the hold with this number when the law allows it, then repeat the erasure.';
    END IF;
END
$$;

-- Erases a tenant, or what one person (`subject`) did there: the files that they uploaded, or, with keep_files, only the name. One
-- transaction; uploads to the tenant wait for it. Repeating it removes what came since, and what was held then.
CREATE FUNCTION attachments.erase(tenant text, subject text DEFAULT NULL, reason text DEFAULT '', keep_files boolean DEFAULT false)
RETURNS attachments.erasure
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    done attachments.erasure;
    asked_by text := coalesce(nullif(current_setting('keepsake.actor', true), ''), session_user);
    claims text := coalesce(current_setting('request.jwt.claims', true), '');
    shows_deleted text := coalesce(current_setting('keepsake.include_deleted', true), '');
    holds bigint[];
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
    PERFORM pg_advisory_xact_lock(attachments.tenant_lock(tenant));
    PERFORM attachments.refuse_held_tenant(tenant);
    holds := ARRAY(SELECT h.id FROM attachments.holds_of(tenant) AS h);
    IF NOT keep_files THEN
        removed := attachments.erase_files(tenant, subject, removed);
    END IF;
    IF subject IS NULL THEN
        removed := attachments.erase_entities(tenant, removed);
        kept := attachments.kept_files(tenant, NULL) || attachments.kept_entities(tenant);
        removed := attachments.erase_tenant_names(tenant, holds, removed);
    ELSE
        kept := CASE WHEN keep_files THEN '[]' ELSE attachments.kept_files(tenant, subject) END;
        removed := attachments.erase_uploads(tenant, subject, removed);
        removed := attachments.erase_rows('attachments.idempotency', 't.tenant_id = $1 AND t.subject = $2', tenant, subject, removed);
        removed := attachments.erase_rows('attachments.quota', 't.tenant_id = $1 AND t.subject = $2', tenant, subject, removed);
        PERFORM attachments.settle_usage(tenant);
        renamed := attachments.rename_subject(tenant, subject, holds, keep_files);
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
    attachments.erased_name, attachments.add_count, attachments.add_report, attachments.holds_of, attachments.holds_on_file,
    attachments.erasable_files, attachments.delete_for_erasure, attachments.purge_for_erasure, attachments.purge_rows, attachments.erase_files,
    attachments.erasable_entities, attachments.archived_deletions, attachments.erase_entities, attachments.erase_uploads,
    attachments.erase_rows, attachments.rename_rows, attachments.erase_tenant_names, attachments.erase_usage, attachments.rename_subject,
    attachments.kept_files, attachments.kept_entities, attachments.hurry_objects, attachments.refuse_held_tenant, attachments.erase
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
EXCEPTION WHEN object_not_in_prerequisite_state THEN
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
