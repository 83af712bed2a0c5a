-- Events: what happened to attachments, for who wants to be told. Each is written in the transaction in which it happened, and delivered by
-- the worker's schedule: at least once, and of one attachment in the order in which it happened.
--
--     happened            delivered
--    ──────────▶ waiting ───────────▶ gone
--                  ▲  │ 14 attempts failed
--      retried by  │  ▼
--     an operator  dead               lets later events of its attachment pass; removed after 30 days
--
-- Tenants take turns: one that has many events to tell delays no other.

CREATE TABLE attachments.event (
    seq             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- What a receiver knows it by, however often it arrives.
    id              uuid NOT NULL DEFAULT keepsake.uuid_v7() UNIQUE,
    type            text NOT NULL CHECK (type IN (
                        'attachment.available', 'attachment.rejected', 'attachment.quarantined',
                        'attachment.replaced', 'attachment.deleted', 'attachment.restored', 'attachment.purged')),
    tenant_id       text NOT NULL,
    attachment_id   uuid NOT NULL,
    entity_type     text NOT NULL,
    entity_id       text NOT NULL,
    deletion_id     uuid,
    happened_at     timestamptz NOT NULL DEFAULT now(),
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    lease           uuid,
    leased_until    timestamptz,
    last_error      text,
    dead_at         timestamptz
);
CREATE INDEX event_order ON attachments.event (attachment_id, seq) WHERE dead_at IS NULL;
CREATE INDEX event_due ON attachments.event (tenant_id, next_attempt_at, seq) WHERE dead_at IS NULL;
CREATE INDEX event_dead ON attachments.event (seq) WHERE dead_at IS NOT NULL;
CREATE INDEX event_dead_since ON attachments.event (dead_at) WHERE dead_at IS NOT NULL;
CREATE INDEX event_age ON attachments.event (happened_at) WHERE dead_at IS NULL;
COMMENT ON TABLE attachments.event IS
    'What happened to attachments and has not been delivered yet. Written while a worker that delivers events runs, and for 7 days after.';

-- Events are kept for a worker that delivers them: its schedule says so, and nothing is written where none does.
CREATE TABLE attachments.event_recording (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    until   timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO attachments.event_recording DEFAULT VALUES;

-- Writing ----------------------------------------------------------------------------------------

-- AFTER UPDATE. What never became visible is neither deleted nor restored for anybody outside.
CREATE FUNCTION attachments.record_changes() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (SELECT r.until <= now() FROM attachments.event_recording r) THEN
        RETURN NULL;
    END IF;
    INSERT INTO attachments.event (type, tenant_id, attachment_id, entity_type, entity_id, deletion_id)
    SELECT 'attachment.' || changed.what, changed.tenant_id, changed.id, changed.entity_type, changed.entity_id, changed.of_deletion
    FROM (SELECT a.*, coalesce(a.deletion_id, b.deletion_id) AS of_deletion,
                 CASE WHEN a.state <> b.state AND a.state IN ('available', 'rejected', 'quarantined') THEN a.state
                      WHEN a.state NOT IN ('available', 'quarantined') THEN NULL
                      WHEN a.version <> b.version THEN 'replaced'
                      WHEN b.deleted_at IS NULL AND a.deleted_at IS NOT NULL THEN 'deleted'
                      WHEN b.deleted_at IS NOT NULL AND a.deleted_at IS NULL THEN 'restored' END AS what
          FROM after_it a JOIN before_it b ON b.id = a.id) AS changed
    WHERE changed.what IS NOT NULL;
    RETURN NULL;
END
$$;

-- AFTER DELETE, which is the purge.
CREATE FUNCTION attachments.record_purges() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (SELECT r.until <= now() FROM attachments.event_recording r) THEN
        RETURN NULL;
    END IF;
    INSERT INTO attachments.event (type, tenant_id, attachment_id, entity_type, entity_id, deletion_id)
    SELECT 'attachment.purged', g.tenant_id, g.id, g.entity_type, g.entity_id, g.deletion_id
    FROM gone g WHERE g.state IN ('available', 'quarantined');
    RETURN NULL;
END
$$;

CREATE TRIGGER record_changes AFTER UPDATE ON attachments.attachment
    REFERENCING OLD TABLE AS before_it NEW TABLE AS after_it FOR EACH STATEMENT EXECUTE FUNCTION attachments.record_changes();
CREATE TRIGGER record_purges AFTER DELETE ON attachments.attachment
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION attachments.record_purges();

-- Delivering -------------------------------------------------------------------------------------

-- What is sent, letter for letter the same at each attempt. It names nobody: who may know more asks the API.
CREATE FUNCTION attachments.event_body(e attachments.event) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'type', e.type, 'timestamp', to_char(e.happened_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'data', jsonb_build_object(
            'tenant', e.tenant_id, 'attachment_id', e.attachment_id, 'entity_type', e.entity_type, 'entity_id', e.entity_id,
            'deletion_id', e.deletion_id))::text
$$;

-- Tenants of which events wait; each is found by one step in the index, however many it has.
CREATE FUNCTION attachments.tenants_to_tell() RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE tenant (id) AS (
        (SELECT e.tenant_id FROM attachments.event e WHERE e.dead_at IS NULL ORDER BY e.tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT e.tenant_id FROM attachments.event e WHERE e.dead_at IS NULL AND e.tenant_id > t.id ORDER BY e.tenant_id LIMIT 1)
        FROM tenant t WHERE t.id IS NOT NULL)
    SELECT t.id FROM tenant t WHERE t.id IS NOT NULL
$$;

-- Due events, of each attachment the first that is not delivered: the next waits for it. Tenants take turns: each has its first one told
-- before another has its second; whose turn comes first is by chance.
CREATE FUNCTION attachments_api.lease_events(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := (request ->> 'limit')::integer;
    this_lease uuid := keepsake.uuid_v7();
    leased jsonb;
BEGIN
    UPDATE attachments.event_recording r SET until = now() + interval '7 days' WHERE r.until < now() + interval '6 days';
    WITH chosen AS MATERIALIZED (
        SELECT first.seq
        FROM attachments.tenants_to_tell() AS tenant (id), LATERAL (
            SELECT e.seq, row_number() OVER (ORDER BY e.next_attempt_at, e.seq) AS turn
            FROM attachments.event e
            WHERE e.tenant_id = tenant.id AND e.dead_at IS NULL AND e.next_attempt_at <= now()
              AND (e.leased_until IS NULL OR e.leased_until <= now())
              AND NOT EXISTS (
                  SELECT FROM attachments.event earlier
                  WHERE earlier.attachment_id = e.attachment_id AND earlier.seq < e.seq AND earlier.dead_at IS NULL)
            ORDER BY e.next_attempt_at, e.seq
            LIMIT size) AS first
        ORDER BY first.turn, random()
        LIMIT size
    ), due AS (
        -- Another run may have taken them meanwhile.
        SELECT e.seq FROM attachments.event e
        WHERE e.seq IN (SELECT c.seq FROM chosen c)
          AND e.dead_at IS NULL AND e.next_attempt_at <= now() AND (e.leased_until IS NULL OR e.leased_until <= now())
        FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE attachments.event e
        SET lease = this_lease, leased_until = now() + make_interval(secs => (request ->> 'lease_seconds')::double precision)
        FROM due WHERE e.seq = due.seq
        RETURNING e.seq, jsonb_build_object('id', e.id, 'body', attachments.event_body(e)) AS event
    )
    SELECT jsonb_agg(t.event ORDER BY t.seq) INTO leased FROM taken t;
    RETURN attachments.ok(jsonb_build_object('lease', this_lease, 'events', coalesce(leased, '[]')));
END
$$;

-- A receiver that was down for half a day misses nothing: 14 attempts take 17 hours.
CREATE FUNCTION attachments_api.settle_events(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM attachments.event e
    WHERE e.lease = (request ->> 'lease')::uuid AND e.id = ANY (ARRAY(SELECT jsonb_array_elements_text(request -> 'delivered')::uuid));
    UPDATE attachments.event e
    SET lease = NULL, leased_until = NULL, attempts = e.attempts + 1, last_error = left(f ->> 'error', 500),
        next_attempt_at = now() + least(interval '10 seconds' * (2 ^ e.attempts), interval '6 hours'),
        dead_at = CASE WHEN e.attempts + 1 >= 14 THEN now() END
    FROM jsonb_array_elements(request -> 'failed') AS f
    WHERE e.lease = (request ->> 'lease')::uuid AND e.id = (f ->> 'id')::uuid;
    RETURN attachments.ok('{}');
END
$$;

-- Removes events that have been dead for 30 days and, where no worker delivers any more, those that are 30 days old; how many. While one
-- does, an event is removed only after it has been tried.
CREATE FUNCTION attachments.forget_events(at_most integer) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    dead bigint;
    untold bigint := 0;
BEGIN
    DELETE FROM attachments.event WHERE seq = ANY (ARRAY(
        SELECT e.seq FROM attachments.event e WHERE e.dead_at < now() - interval '30 days' ORDER BY e.dead_at LIMIT at_most));
    GET DIAGNOSTICS dead = ROW_COUNT;
    IF (SELECT r.until <= now() FROM attachments.event_recording r) THEN
        DELETE FROM attachments.event WHERE seq = ANY (ARRAY(
            SELECT e.seq FROM attachments.event e
            WHERE e.dead_at IS NULL AND e.happened_at < now() - interval '30 days' ORDER BY e.happened_at LIMIT at_most));
        GET DIAGNOSTICS untold = ROW_COUNT;
    END IF;
    RETURN dead + untold;
END
$$;

-- For an operator --------------------------------------------------------------------------------

CREATE FUNCTION attachments_api.list_events(request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := (request ->> 'limit')::integer;
    entries jsonb;
BEGIN
    -- The condition is written out, so that the dead are found by their own index.
    EXECUTE format(
        'SELECT coalesce(jsonb_agg(jsonb_build_object(
             ''id'', e.seq, ''event_id'', e.id, ''type'', e.type, ''attachment_id'', e.attachment_id, ''happened_at'', e.happened_at,
             ''attempts'', e.attempts, ''next_attempt_at'', e.next_attempt_at, ''last_error'', e.last_error, ''dead_at'', e.dead_at)
             ORDER BY e.seq), ''[]'')
         FROM (SELECT * FROM attachments.event WHERE dead_at %s AND seq > $1 ORDER BY seq LIMIT $2) AS e',
        CASE WHEN request ->> 'state' = 'dead' THEN 'IS NOT NULL' ELSE 'IS NULL' END)
    INTO entries USING coalesce((request ->> 'cursor')::bigint, 0), size + 1;
    RETURN attachments.cut_page(entries, size, 'id');
END
$$;

CREATE FUNCTION attachments_api.retry_event(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM attachments.event e WHERE e.seq = (request ->> 'id')::bigint) THEN
        RETURN attachments.fail('not_found', 'There is no such event. It may have been delivered in the meantime.');
    END IF;
    UPDATE attachments.event e SET dead_at = NULL, attempts = 0, next_attempt_at = now()
    WHERE e.seq = (request ->> 'id')::bigint AND (e.leased_until > now()) IS NOT TRUE;
    RETURN attachments.ok('{}');
END
$$;

REVOKE ALL ON FUNCTION
    attachments.record_changes, attachments.record_purges, attachments.event_body, attachments.tenants_to_tell, attachments.forget_events
FROM PUBLIC;
REVOKE ALL ON FUNCTION
    attachments_api.lease_events, attachments_api.settle_events, attachments_api.list_events, attachments_api.retry_event
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    attachments_api.lease_events, attachments_api.settle_events, attachments_api.list_events, attachments_api.retry_event
TO keepsake_worker;
