-- Objects whose rows are gone, waiting for their bytes to be deleted from the bucket.
-- A worker leases some, deletes them in the store, and acknowledges each or reports why it failed.
-- Delivery is at least once: a lease that runs out is handed to the next worker.

CREATE TABLE keepsake.outbox (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    object_key      text NOT NULL UNIQUE,
    relation        regclass NOT NULL,
    enqueued_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    writable_until  timestamptz,
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    lease           uuid,
    leased_until    timestamptz,
    last_error      text,
    dead_at         timestamptz
);
CREATE INDEX outbox_due ON keepsake.outbox (next_attempt_at) WHERE dead_at IS NULL;
CREATE INDEX outbox_dead ON keepsake.outbox (id) WHERE dead_at IS NOT NULL;
COMMENT ON COLUMN keepsake.outbox.writable_until IS
    'Until this time a signed upload URL can still store the object, so the object is deleted once more afterwards.';
COMMENT ON COLUMN keepsake.outbox.dead_at IS
    'Set after 12 failed attempts. keepsake.retry_dead_objects() retries.';
SELECT pg_catalog.pg_extension_config_dump('keepsake.outbox', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.outbox_id_seq', '');

CREATE FUNCTION keepsake.ack_objects(lease uuid, ids bigint[]) RETURNS bigint
LANGUAGE sql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
    WITH mine AS MATERIALIZED (
        SELECT o.id, o.writable_until > now() AS writable
        FROM keepsake.outbox o
        WHERE o.lease = ack_objects.lease AND o.id = ANY (ids)
        FOR UPDATE),
    again AS (
        UPDATE keepsake.outbox o
        SET lease = NULL, leased_until = NULL, last_error = NULL,
            next_attempt_at = o.writable_until + interval '1 minute'
        FROM mine WHERE o.id = mine.id AND mine.writable
        RETURNING 1),
    done AS (
        DELETE FROM keepsake.outbox o
        USING mine WHERE o.id = mine.id AND mine.writable IS NOT TRUE
        RETURNING 1)
    SELECT (SELECT count(*) FROM again) + (SELECT count(*) FROM done)
$$;
COMMENT ON FUNCTION keepsake.ack_objects IS
    'Acknowledges that these leased objects are deleted from the store. Returns how many were still leased under this lease.';

CREATE FUNCTION keepsake.nack_objects(lease uuid, ids bigint[], error text) RETURNS bigint
LANGUAGE sql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
    WITH mine AS (
        UPDATE keepsake.outbox o
        SET lease = NULL, leased_until = NULL,
            attempts = o.attempts + 1,
            last_error = left(error, 500),
            next_attempt_at = now() + least(interval '10 seconds' * (2 ^ o.attempts), interval '1 hour'),
            dead_at = CASE WHEN o.attempts + 1 >= 12 THEN now() END
        WHERE o.lease = nack_objects.lease AND o.id = ANY (ids)
        RETURNING 1)
    SELECT count(*) FROM mine
$$;
COMMENT ON FUNCTION keepsake.nack_objects IS
    'Reports that deleting these leased objects failed. They are retried after 10 s, doubling up to 1 h, and dead after 12 attempts.';

CREATE FUNCTION keepsake.retry_dead_objects() RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    WITH retried AS (
        UPDATE keepsake.outbox SET dead_at = NULL, attempts = 0, next_attempt_at = now()
        WHERE dead_at IS NOT NULL
        RETURNING 1)
    SELECT count(*) FROM retried
$$;
COMMENT ON FUNCTION keepsake.retry_dead_objects IS 'Puts every dead object back into the queue.';

CREATE FUNCTION keepsake.retry_objects(ids bigint[]) RETURNS bigint
LANGUAGE sql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
    WITH retried AS (
        UPDATE keepsake.outbox o SET dead_at = NULL, attempts = 0, next_attempt_at = now()
        WHERE o.id = ANY (ids) AND (o.leased_until > now()) IS NOT TRUE
          AND (o.dead_at IS NOT NULL OR o.last_error IS NOT NULL)
        RETURNING 1)
    SELECT count(*) FROM retried
$$;
COMMENT ON FUNCTION keepsake.retry_objects IS
    'Retries these objects next if they failed, dead or not. Returns how many.';
