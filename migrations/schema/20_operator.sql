-- What an operator asks for and does, of all tenants together: the dry run of a purge, the outbox, and legal holds. These cross tenants,
-- so they run with the rights of who migrates.

-- The dry run ------------------------------------------------------------------------------------

CREATE FUNCTION attachments_api.get_purge_plan(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moment timestamptz := coalesce((request ->> 'at')::timestamptz, now());
BEGIN
    RETURN attachments.ok(jsonb_build_object(
        'as_of', moment,
        'due', (SELECT count(*) FROM keepsake.deletion d WHERE d.state IN ('deleted', 'purging') AND d.expires_at <= moment),
        'next_expiry', (SELECT min(d.expires_at) FROM keepsake.deletion d
                        WHERE d.state IN ('deleted', 'purging') AND d.expires_at > moment AND d.expires_at < 'infinity'),
        'lines', (SELECT coalesce(jsonb_agg(jsonb_build_object('table', p.table_name, 'outcome', p.outcome, 'rows', p.rows)
                                            ORDER BY p.table_name, p.outcome), '[]')
                  FROM keepsake.purge_plan(moment) AS p)));
END
$$;

-- The outbox -------------------------------------------------------------------------------------

CREATE FUNCTION attachments_api.list_outbox(request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := (request ->> 'limit')::integer;
    after bigint := coalesce((request ->> 'cursor')::bigint, 0);
    entries jsonb;
BEGIN
    -- The condition is written out, so that the dead are found by their own index.
    EXECUTE format(
        'SELECT coalesce(jsonb_agg(jsonb_build_object(
             ''id'', o.id, ''object_key'', o.object_key, ''attempts'', o.attempts, ''enqueued_at'', o.enqueued_at,
             ''next_attempt_at'', o.next_attempt_at, ''last_error'', o.last_error, ''dead_at'', o.dead_at,
             ''state'', CASE WHEN o.dead_at IS NOT NULL THEN ''dead'' WHEN o.leased_until > now() THEN ''leased'' ELSE ''waiting'' END)
             ORDER BY o.id), ''[]'')
         FROM (SELECT * FROM keepsake.outbox WHERE dead_at %s AND id > $1 ORDER BY id LIMIT $2) AS o',
        CASE WHEN request ->> 'state' = 'dead' THEN 'IS NOT NULL' ELSE 'IS NULL' END)
    INTO entries USING after, size + 1;
    RETURN attachments.cut_page(entries, size, 'id');
END
$$;

CREATE FUNCTION attachments_api.retry_object(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM keepsake.outbox o WHERE o.id = (request ->> 'id')::bigint) THEN
        RETURN attachments.fail('not_found', 'There is no such object in the outbox. It may have been deleted in the meantime.');
    END IF;
    PERFORM keepsake.retry_objects(ARRAY[(request ->> 'id')::bigint]);
    RETURN attachments.ok('{}');
END
$$;

-- Legal holds ------------------------------------------------------------------------------------

-- Why holds were released. The extension keeps who and when.
CREATE TABLE attachments.hold_release (
    hold_id bigint PRIMARY KEY,
    reason  text NOT NULL
);

CREATE FUNCTION attachments.describe_hold(h keepsake.hold) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type := attachments.entity_of(h.relation::text);
    is_file boolean := coalesce(h.relation = to_regclass('attachments.attachment'), false);
    target text := coalesce(h.deletion_id::text, h.tenant, h.row_key ->> known.key_column::text, h.row_key ->> 'id', h.row_key::text);
    label text;
BEGIN
    IF is_file THEN
        label := (SELECT a.file_name FROM attachments.attachment a WHERE a.id = target::uuid);
    ELSIF known.name IS NOT NULL THEN
        EXECUTE format('SELECT %s FROM %s AS t WHERE t.%I = $1::%s',
                       attachments.label_sql(known), known.relation, known.key_column, known.key_type)
        INTO label USING target;
        IF label IS NULL AND attachments.kept_apart(known.relation) THEN
            EXECUTE format('SELECT %s FROM %s ORDER BY t.deletion_id DESC LIMIT 1',
                           attachments.label_sql(known), attachments.deleted_sql(known, NULL, '$1'))
            INTO label USING target;
        END IF;
    ELSIF h.relation IS NOT NULL THEN
        target := h.row_key::text;
        label := h.relation::text;
    END IF;
    RETURN jsonb_build_object(
        'id', h.id,
        'kind', CASE WHEN h.deletion_id IS NOT NULL THEN 'deletion' WHEN h.tenant IS NOT NULL THEN 'tenant'
                     WHEN is_file THEN 'attachment' WHEN known.name IS NOT NULL THEN 'entity' ELSE 'row' END,
        'entity_type', known.name, 'target', target, 'label', label,
        'reason', h.reason, 'actor', h.actor, 'held_at', h.held_at, 'released_at', h.released_at, 'released_by', h.released_by,
        'release_reason', (SELECT r.reason FROM attachments.hold_release r WHERE r.hold_id = h.id));
END
$$;

REVOKE ALL ON FUNCTION attachments.describe_hold FROM PUBLIC;

CREATE FUNCTION attachments_api.list_holds(request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := (request ->> 'limit')::integer;
BEGIN
    RETURN attachments.cut_page((
        SELECT coalesce(jsonb_agg(attachments.describe_hold(page) ORDER BY page.id DESC), '[]')
        FROM (SELECT h.* FROM keepsake.hold h
              WHERE (h.released_at IS NOT NULL) = (request ->> 'state' = 'released')
                AND h.id < coalesce((request ->> 'cursor')::bigint, 9223372036854775807)
              ORDER BY h.id DESC LIMIT size + 1) AS page), size, 'id');
END
$$;

CREATE FUNCTION attachments_api.place_hold(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    target text := request ->> 'id';
    why text := request ->> 'reason';
    relation regclass;
    made bigint;
BEGIN
    PERFORM set_config('keepsake.actor', request ->> 'actor', true);
    CASE request ->> 'kind'
        WHEN 'deletion' THEN
            IF EXISTS (SELECT FROM keepsake.deletion d WHERE d.id = target::uuid AND d.state IN ('purging', 'purged')) THEN
                RETURN attachments.fail('purged', 'It was purged, so there is nothing left to hold.');
            END IF;
            made := keepsake.hold(target::uuid, why);
        WHEN 'tenant' THEN made := keepsake.hold_tenant(target, why);
        WHEN 'attachment' THEN made := keepsake.hold('attachments.attachment'::regclass, target::uuid::text, why);
        ELSE
            relation := (SELECT e.relation FROM attachments.entity_type e WHERE e.name = request ->> 'entity_type');
            IF relation IS NULL THEN
                RETURN attachments.fail('not_found', format('There is no entity type %s.', request ->> 'entity_type'));
            END IF;
            made := keepsake.hold(relation, target, why);
    END CASE;
    RETURN attachments.ok((SELECT attachments.describe_hold(h) FROM keepsake.hold h WHERE h.id = made));
EXCEPTION
    WHEN no_data_found OR data_exception THEN
        RETURN attachments.fail('not_found', format('There is no such %s to hold.', request ->> 'kind'));
    WHEN object_not_in_prerequisite_state THEN
        RETURN attachments.fail('purged', 'It was purged, so there is nothing left to hold.');
END
$$;

CREATE FUNCTION attachments_api.release_hold(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    hold bigint := (request ->> 'id')::bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM keepsake.hold h WHERE h.id = hold) THEN
        RETURN attachments.fail('not_found', 'There is no such hold.');
    END IF;
    PERFORM set_config('keepsake.actor', request ->> 'actor', true);
    IF keepsake.release(hold) THEN
        INSERT INTO attachments.hold_release VALUES (hold, request ->> 'reason') ON CONFLICT DO NOTHING;
    END IF;
    RETURN attachments.ok((SELECT attachments.describe_hold(h) FROM keepsake.hold h WHERE h.id = hold));
END
$$;

REVOKE ALL ON FUNCTION
    attachments_api.get_purge_plan, attachments_api.list_outbox, attachments_api.retry_object,
    attachments_api.list_holds, attachments_api.place_hold, attachments_api.release_hold
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    attachments_api.get_purge_plan, attachments_api.list_outbox, attachments_api.retry_object,
    attachments_api.list_holds, attachments_api.place_hold, attachments_api.release_hold
TO keepsake_worker;
