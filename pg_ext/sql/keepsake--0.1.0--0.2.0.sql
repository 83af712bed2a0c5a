-- From 0.1.0 to 0.2.0: plain DELETE becomes a soft delete, SET NULL is done at once, partitions, overrides, holds, stored
-- expiry, restores that skip, runs of the purge, shared objects, hidden reads, doctor().
--
-- ON DELETE SET NULL and SET DEFAULT used to wait for the purge. References that point to a row deleted before the update
-- still do, and let go when that row is purged, as they would have.

-- The registry.
ALTER TABLE keepsake.managed_table ADD COLUMN on_delete text NOT NULL DEFAULT 'convert'
    CHECK (on_delete IN ('convert', 'reject', 'allow'));

COMMENT ON TABLE keepsake.managed_table IS
    'Tables given to keepsake.manage(). retention: how long a deleted row can be restored before purge may remove it. on_delete: what a plain DELETE does.';

CREATE TABLE keepsake.reference_override (
    child     regclass NOT NULL,
    reference name NOT NULL,
    on_delete text NOT NULL CHECK (on_delete IN ('cascade', 'restrict', 'set null', 'set default')),
    PRIMARY KEY (child, reference)
);
COMMENT ON TABLE keepsake.reference_override IS
    'Foreign keys for which a soft delete does something else than their ON DELETE says.';

CREATE TABLE keepsake.detached (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deletion_id uuid NOT NULL REFERENCES keepsake.deletion (id) ON DELETE CASCADE,
    relation    regclass NOT NULL,
    reference   name NOT NULL,
    row_keys    text[] NOT NULL,
    old_values  text[] NOT NULL,
    -- What the rows were given; NULL is what SET NULL gives.
    new_values  text[]
);
CREATE INDEX detached_deletion ON keepsake.detached (deletion_id, relation, reference, id);
COMMENT ON TABLE keepsake.detached IS
    'References that a deletion set to NULL or to their default, with what restore() puts back: the n-th of each array is of one row, a JSON object of texts.';

GRANT SELECT ON keepsake.reference_override TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('keepsake.reference_override', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.detached', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.detached_id_seq', '');

-- Legal holds: while one is active, nothing that it covers is purged.
CREATE TABLE keepsake.hold (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- What is held: a row, a deletion, or all deletions of a tenant.
    relation    regclass,
    row_key     jsonb,
    deletion_id uuid,
    tenant      text,
    reason      text NOT NULL,
    actor       text NOT NULL,
    -- The evidence of who: current_user, and session_user, who logged in. actor is what the application says.
    role         name,
    session_role name,
    held_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    released_by text,
    released_role         name,
    released_session_role name,
    released_at timestamptz,
    CHECK (num_nonnulls(row_key, deletion_id, tenant) = 1 AND (relation IS NULL) = (row_key IS NULL))
);
CREATE UNIQUE INDEX hold_of_row ON keepsake.hold (relation, row_key) WHERE released_at IS NULL AND row_key IS NOT NULL;
CREATE UNIQUE INDEX hold_of_deletion ON keepsake.hold (deletion_id) WHERE released_at IS NULL AND deletion_id IS NOT NULL;
CREATE UNIQUE INDEX hold_of_tenant ON keepsake.hold (tenant) WHERE released_at IS NULL AND tenant IS NOT NULL;
COMMENT ON TABLE keepsake.hold IS
    'Legal holds, active until released_at is set; they stay here as a record of who held what, when and why.';
SELECT pg_catalog.pg_extension_config_dump('keepsake.hold', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.hold_id_seq', '');

-- When what was deleted at deleted_at expires. 100,000 years and more are for ever: a timestamp ends before.
CREATE FUNCTION keepsake.expiry(deleted_at timestamptz, retention interval) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN retention >= interval '100000 years' THEN timestamptz 'infinity'
                ELSE deleted_at + coalesce(retention, interval '30 days') END
$$;

ALTER TABLE keepsake.deletion ALTER COLUMN root_key DROP NOT NULL;
ALTER TABLE keepsake.deletion ADD COLUMN expires_at timestamptz, ADD COLUMN retention interval, ADD COLUMN put_off_at timestamptz,
    ADD COLUMN role name, ADD COLUMN session_role name, ADD COLUMN settled_role name, ADD COLUMN settled_session_role name;
UPDATE keepsake.deletion d
SET expires_at = keepsake.expiry(d.deleted_at, (SELECT m.retention FROM keepsake.managed_table m WHERE m.relation = d.root_table));
ALTER TABLE keepsake.deletion ALTER COLUMN expires_at SET NOT NULL;
DROP INDEX keepsake.deletion_open;

CREATE INDEX deletion_expiry ON keepsake.deletion (expires_at, id) WHERE state IN ('deleted', 'purging');

CREATE INDEX deletion_put_off ON keepsake.deletion (put_off_at) WHERE put_off_at IS NOT NULL;

-- The bin of a tenant, newest first: ids are made in the order of time.
CREATE INDEX deletion_bin ON keepsake.deletion (tenant, id) WHERE state = 'deleted';

-- Every purge that did something, and how far it is; a run writes its own row alone, in each batch.
CREATE TABLE keepsake.purge_run (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    as_of         timestamptz NOT NULL,
    -- The backend of a CALL keepsake.purge().
    pid           integer,
    -- Who ran it: current_user, and session_user, who logged in.
    role          name,
    session_role  name,
    rows          bigint NOT NULL DEFAULT 0,
    failed        bigint NOT NULL DEFAULT 0,
    batches       bigint NOT NULL DEFAULT 0,
    last_batch_at timestamptz,
    last_deletion uuid,
    finished_at   timestamptz
);
COMMENT ON TABLE keepsake.purge_run IS
    'Purges: how many rows each removed, how many deletions failed, and behind which deletion it went on last.';

CREATE VIEW keepsake.purge_progress AS
SELECT r.id, r.started_at, r.as_of, r.rows, r.failed, r.batches, r.last_batch_at, r.finished_at,
       CASE WHEN r.finished_at IS NOT NULL THEN 'finished'
            WHEN EXISTS (SELECT FROM pg_catalog.pg_stat_get_activity(r.pid) a
                         WHERE a.datid OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d
                                                               WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
                           AND (a.backend_start OPERATOR(pg_catalog.<=) r.started_at) IS NOT FALSE) THEN 'running'
            ELSE 'stopped' END AS state
FROM keepsake.purge_run r
WHERE r.finished_at IS NULL
   OR r.id OPERATOR(pg_catalog.>=) (SELECT pg_catalog.max(l.id) FROM keepsake.purge_run l);
COMMENT ON VIEW keepsake.purge_progress IS
    'Purges that have not finished, running or stopped half way, and the last one.';

-- Functions whose arguments or language changed.

DROP FUNCTION keepsake.manage(regclass, interval);

DROP FUNCTION keepsake.purge_batch(integer, timestamptz);

DROP FUNCTION keepsake.purge_candidates(integer, timestamptz);

DROP FUNCTION keepsake.restore(uuid);

DROP FUNCTION keepsake.lease_objects(integer, interval);

CREATE FUNCTION keepsake.deletion_of_statement(
	"relation" oid
) RETURNS uuid
STRICT VOLATILE PARALLEL UNSAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'deletion_of_statement_wrapper';

CREATE FUNCTION keepsake.finish_purge(
	"run" bigint
) RETURNS VOID
STRICT
LANGUAGE c
AS 'MODULE_PATHNAME', 'finish_purge_wrapper';

CREATE FUNCTION keepsake.hide_deleted(
	"relation" regclass,
	"how" TEXT
) RETURNS VOID
STRICT
LANGUAGE c
AS 'MODULE_PATHNAME', 'hide_deleted_wrapper';

CREATE FUNCTION keepsake.hold(
	"relation" regclass,
	"key" anyelement,
	"reason" TEXT
) RETURNS bigint
LANGUAGE c
AS 'MODULE_PATHNAME', 'hold_wrapper';

CREATE FUNCTION keepsake.hold(
	"deletion" uuid,
	"reason" TEXT
) RETURNS bigint

LANGUAGE c
AS 'MODULE_PATHNAME', 'hold_deletion_wrapper';

CREATE FUNCTION keepsake.hold(
	"relation" regclass,
	"key" TEXT,
	"reason" TEXT
) RETURNS bigint

LANGUAGE c
AS 'MODULE_PATHNAME', 'hold_text_wrapper';

CREATE FUNCTION keepsake.hold_tenant(
	"tenant" TEXT,
	"reason" TEXT
) RETURNS bigint
LANGUAGE c
AS 'MODULE_PATHNAME', 'hold_tenant_wrapper';

CREATE FUNCTION keepsake.lease_objects(
	"max_objects" INT,
	"lease_for" interval
) RETURNS TABLE (
	"lease" uuid,
	"id" bigint,
	"object_key" TEXT
)
STRICT
LANGUAGE c
AS 'MODULE_PATHNAME', 'lease_objects_wrapper';

CREATE FUNCTION keepsake.manage(
	"relation" regclass,
	"retention" interval DEFAULT NULL,
	"on_delete" TEXT DEFAULT NULL
) RETURNS VOID
LANGUAGE c
AS 'MODULE_PATHNAME', 'manage_wrapper';

CREATE FUNCTION keepsake.override_reference(
	"child" regclass,
	"reference" TEXT,
	"on_delete" TEXT
) RETURNS VOID
LANGUAGE c
AS 'MODULE_PATHNAME', 'override_reference_wrapper';

CREATE FUNCTION keepsake.plan_delete(
	"relation" regclass,
	"key" anyelement
) RETURNS TABLE (
	"action" TEXT,
	"table_name" TEXT,
	"reference" TEXT,
	"row_count" bigint
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'plan_delete_wrapper';

CREATE FUNCTION keepsake.plan_delete(
	"relation" regclass,
	"key" TEXT
) RETURNS TABLE (
	"action" TEXT,
	"table_name" TEXT,
	"reference" TEXT,
	"row_count" bigint
)

LANGUAGE c
AS 'MODULE_PATHNAME', 'plan_delete_text_wrapper';

CREATE FUNCTION keepsake.purge_batch(
	"max_rows" INT DEFAULT 1000,
	"as_of" timestamp with time zone DEFAULT NULL,
	"after" uuid DEFAULT NULL
) RETURNS jsonb
LANGUAGE c
AS 'MODULE_PATHNAME', 'purge_batch_wrapper';

CREATE FUNCTION keepsake.purge_candidates(
	"max_rows" INT DEFAULT 1000,
	"as_of" timestamp with time zone DEFAULT NULL,
	"after" uuid DEFAULT NULL
) RETURNS TABLE (
	"table_name" TEXT,
	"key" jsonb,
	"deletion_id" uuid,
	"deleted_at" timestamp with time zone
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'purge_candidates_wrapper';

CREATE FUNCTION keepsake.purge_plan(
	"as_of" timestamp with time zone DEFAULT NULL
) RETURNS TABLE (
	"table_name" TEXT,
	"outcome" TEXT,
	"rows" bigint
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'purge_plan_wrapper';

CREATE FUNCTION keepsake.purge_step(
	"run" bigint,
	"max_rows" INT,
	"after" uuid,
	"again" bool
) RETURNS jsonb
LANGUAGE c
AS 'MODULE_PATHNAME', 'purge_step_wrapper';

CREATE FUNCTION keepsake.release(
	"hold" bigint
) RETURNS bool
LANGUAGE c
AS 'MODULE_PATHNAME', 'release_wrapper';

CREATE FUNCTION keepsake.restore(
	"deletion" uuid,
	"on_conflict" TEXT DEFAULT 'fail'
) RETURNS jsonb
LANGUAGE c
AS 'MODULE_PATHNAME', 'restore_wrapper';

CREATE FUNCTION keepsake.set_deletion_retention(
	"deletion" uuid,
	"retention" interval DEFAULT NULL
) RETURNS VOID
LANGUAGE c
AS 'MODULE_PATHNAME', 'set_deletion_retention_wrapper';

CREATE FUNCTION keepsake.shows_deleted(
	"deletion" uuid
) RETURNS bool
STABLE PARALLEL SAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'shows_deleted_wrapper';

CREATE FUNCTION keepsake.start_purge() RETURNS bigint
STRICT
LANGUAGE c
AS 'MODULE_PATHNAME', 'start_purge_wrapper';

-- Trigger functions.

CREATE FUNCTION keepsake.allow_delete() RETURNS trigger STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'allow_delete_wrapper';
CREATE FUNCTION keepsake.begin_update() RETURNS trigger STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'begin_update_wrapper';
CREATE FUNCTION keepsake.claim_objects() RETURNS trigger STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'claim_objects_wrapper';
CREATE FUNCTION keepsake.convert_delete() RETURNS trigger STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'convert_delete_wrapper';
CREATE FUNCTION keepsake.exchange_object() RETURNS trigger STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'exchange_object_wrapper';
CREATE FUNCTION keepsake.finish_statement() RETURNS trigger STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'finish_statement_wrapper';
CREATE FUNCTION keepsake.keep_key() RETURNS trigger STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'keep_key_wrapper';
CREATE FUNCTION keepsake.refuse_marked() RETURNS trigger STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'refuse_marked_wrapper';
ALTER FUNCTION keepsake.enqueue_objects() STRICT;
ALTER FUNCTION keepsake.guard_insert() STRICT;
ALTER FUNCTION keepsake.guard_update() STRICT;
ALTER FUNCTION keepsake.protect_state() STRICT;
ALTER FUNCTION keepsake.refuse_delete() STRICT;
ALTER FUNCTION keepsake.refuse_new_key() STRICT;
ALTER FUNCTION keepsake.refuse_truncate() STRICT;

CREATE OR REPLACE FUNCTION keepsake.forget_dropped_tables() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    dropped oid[] := ARRAY(
        SELECT objid FROM pg_event_trigger_dropped_objects()
        WHERE classid = 'pg_class'::regclass AND objsubid = 0);
BEGIN
    DELETE FROM keepsake.managed_table WHERE relation::oid = ANY (dropped);
    DELETE FROM keepsake.declared_reference WHERE child::oid = ANY (dropped) OR parent::oid = ANY (dropped);
    DELETE FROM keepsake.reference_override WHERE child::oid = ANY (dropped);
    DELETE FROM keepsake.bound_storage WHERE relation::oid = ANY (dropped);
    DELETE FROM keepsake.hidden_reads WHERE relation::oid = ANY (dropped) OR view::oid = ANY (dropped);
    DELETE FROM keepsake.hold WHERE relation::oid = ANY (dropped);
END
$$;

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

CREATE OR REPLACE FUNCTION keepsake.follow_ddl() RETURNS event_trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    child oid;
BEGIN
    -- A partition concerns the table that it belongs to.
    FOR child IN
        SELECT DISTINCT coalesce(pg_partition_root(c.objid), c.objid) FROM pg_event_trigger_ddl_commands() c
        WHERE c.classid = 'pg_class'::regclass
    LOOP
        CONTINUE WHEN NOT EXISTS (SELECT FROM keepsake.managed_table m JOIN pg_class c ON c.oid = m.relation
                                  WHERE m.relation = child AND c.relkind = 'p')
                  AND NOT EXISTS (
            SELECT FROM pg_constraint con
            WHERE con.contype = 'f' AND con.conrelid = child AND con.conparentid = 0
              AND coalesce(pg_partition_root(con.confrelid), con.confrelid) IN (SELECT relation FROM keepsake.managed_table));
        PERFORM keepsake.guard_references(child);
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
          AND coalesce(pg_partition_root(con.confrelid), con.confrelid) IN (SELECT relation FROM keepsake.managed_table));
END
$$;

CREATE OR REPLACE PROCEDURE keepsake.purge(batch_size integer DEFAULT 1000, max_rows bigint DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    run bigint := keepsake.start_purge();
    report jsonb;
    after uuid;
    total bigint := 0;
    -- Rows gone since the run last began at the head.
    round bigint := 0;
BEGIN
    LOOP
        report := keepsake.purge_step(run,
            least(batch_size, max_rows OPERATOR(pg_catalog.-) total)::integer, after, round OPERATOR(pg_catalog.>) 0);
        round := round OPERATOR(pg_catalog.+) (report OPERATOR(pg_catalog.->>) 'rows')::bigint;
        total := total OPERATOR(pg_catalog.+) (report OPERATOR(pg_catalog.->>) 'rows')::bigint;
        COMMIT;
        IF (report OPERATOR(pg_catalog.->>) 'rows')::bigint OPERATOR(pg_catalog.>) 0 THEN
            RAISE NOTICE 'purged % rows so far', total;
        END IF;
        EXIT WHEN total OPERATOR(pg_catalog.>=) max_rows;
        IF (report OPERATOR(pg_catalog.->>) 'more')::boolean THEN
            after := (report OPERATOR(pg_catalog.->>) 'last')::uuid;
        ELSE
            -- What another worker left, or what was referred to until now.
            EXIT WHEN round OPERATOR(pg_catalog.=) 0;
            after := NULL;
            round := 0;
        END IF;
    END LOOP;
    PERFORM keepsake.finish_purge(run);
END
$$;
COMMENT ON PROCEDURE keepsake.purge IS
    'Purges what has expired, batch_size rows a transaction, until nothing is left or max_rows are gone.';

-- What an operator watches, one line a number, read from the registry alone.
CREATE VIEW keepsake.metrics (metric, labels, value) AS
WITH expired AS MATERIALIZED (
    SELECT t.relation, pg_catalog.sum(t.row_count OPERATOR(pg_catalog.-) t.purged) AS rows, pg_catalog.min(d.expires_at) AS oldest
    FROM keepsake.deletion d
    JOIN keepsake.deletion_table t ON t.deletion_id OPERATOR(pg_catalog.=) d.id
    WHERE d.state IN ('deleted', 'purging') AND d.expires_at OPERATOR(pg_catalog.<=) pg_catalog.now()
      AND t.purged OPERATOR(pg_catalog.<) t.row_count
    GROUP BY t.relation),
queue AS MATERIALIZED (
    SELECT CASE WHEN dead_at IS NOT NULL THEN 'dead'
                WHEN leased_until OPERATOR(pg_catalog.>) pg_catalog.now() THEN 'leased' ELSE 'waiting' END AS state,
           enqueued_at
    FROM keepsake.outbox),
last_run AS (
    SELECT rows, extract(epoch FROM last_batch_at OPERATOR(pg_catalog.-) started_at)::double precision AS seconds
    FROM keepsake.purge_run WHERE rows OPERATOR(pg_catalog.>) 0 AND pid IS NOT NULL ORDER BY id DESC LIMIT 1)
SELECT 'keepsake_expired_rows', pg_catalog.jsonb_build_object('table', relation::text), rows::double precision FROM expired
UNION ALL
SELECT 'keepsake_oldest_expired_seconds', pg_catalog.jsonb_build_object('table', relation::text),
       extract(epoch FROM pg_catalog.now() OPERATOR(pg_catalog.-) oldest)::double precision FROM expired
UNION ALL
SELECT 'keepsake_open_deletions', '{}', pg_catalog.count(*)::double precision
FROM keepsake.deletion WHERE state IN ('deleted', 'purging')
UNION ALL
SELECT 'keepsake_failed_deletions', '{}', pg_catalog.count(*)::double precision
FROM keepsake.deletion WHERE state IN ('deleted', 'purging') AND purge_failed_at IS NOT NULL
UNION ALL
SELECT 'keepsake_put_off_deletions', '{}', pg_catalog.count(*)::double precision
FROM keepsake.deletion WHERE put_off_at IS NOT NULL
UNION ALL
SELECT 'keepsake_holds', pg_catalog.jsonb_build_object('on', k.kind),
       pg_catalog.count(h.id)::double precision
FROM (VALUES ('row'), ('deletion'), ('tenant')) AS k (kind)
LEFT JOIN keepsake.hold h ON h.released_at IS NULL AND k.kind OPERATOR(pg_catalog.=)
    CASE WHEN h.row_key IS NOT NULL THEN 'row' WHEN h.deletion_id IS NOT NULL THEN 'deletion' ELSE 'tenant' END
GROUP BY k.kind
UNION ALL
SELECT 'keepsake_held_deletions', '{}', pg_catalog.count(*)::double precision
FROM keepsake.deletion d
WHERE d.state IN ('deleted', 'purging')
  AND EXISTS (SELECT FROM keepsake.hold h WHERE h.released_at IS NULL AND
      (h.deletion_id OPERATOR(pg_catalog.=) d.id OR h.tenant OPERATOR(pg_catalog.=) d.tenant))
UNION ALL
SELECT 'keepsake_purged_rows_total', '{}', coalesce(pg_catalog.sum(rows), 0)::double precision FROM keepsake.purge_run
UNION ALL
SELECT 'keepsake_purge_failures_total', '{}', coalesce(pg_catalog.sum(failed), 0)::double precision FROM keepsake.purge_run
UNION ALL
SELECT 'keepsake_last_purge_rows_per_second', '{}', rows OPERATOR(pg_catalog./) nullif(seconds, 0) FROM last_run
UNION ALL
SELECT 'keepsake_outbox_objects', pg_catalog.jsonb_build_object('state', s.state), pg_catalog.count(q.state)::double precision
FROM (VALUES ('waiting'), ('leased'), ('dead')) AS s (state)
LEFT JOIN queue q ON q.state OPERATOR(pg_catalog.=) s.state
GROUP BY s.state
UNION ALL
SELECT 'keepsake_outbox_oldest_seconds', '{}',
       coalesce(extract(epoch FROM pg_catalog.now() OPERATOR(pg_catalog.-) pg_catalog.min(enqueued_at))::double precision, 0)
FROM queue WHERE state OPERATOR(pg_catalog.=) 'waiting';
COMMENT ON VIEW keepsake.metrics IS 'Backlog, holds, purges and the outbox, one number a line, as a Prometheus page has them.';

-- Tables whose deleted rows ordinary reads do not see.
CREATE TABLE keepsake.hidden_reads (
    relation    regclass PRIMARY KEY,
    how         text NOT NULL CHECK (how IN ('view', 'policy')),
    view        regclass,
    enabled_rls boolean NOT NULL DEFAULT false,
    CHECK ((how = 'view') = (view IS NOT NULL))
);
COMMENT ON TABLE keepsake.hidden_reads IS
    'Tables given to keepsake.hide_deleted(). enabled_rls: whether their row-level security was switched on for that.';
GRANT SELECT ON keepsake.hidden_reads TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('keepsake.hidden_reads', '');

-- What would bite: from the catalog, its statistics and the registry alone, no row of the application's is read.
CREATE FUNCTION keepsake.doctor()
RETURNS TABLE (severity text, check_name text, object text, finding text, fix text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
WITH managed AS (
    SELECT m.relation, m.on_delete, m.retention, c.relkind FROM keepsake.managed_table m JOIN pg_class c ON c.oid = m.relation),
-- Each managed table and its partitions.
part AS (
    SELECT m.relation AS root, m.on_delete, coalesce(tree.relid::oid, m.relation) AS relation
    FROM managed m LEFT JOIN LATERAL pg_partition_tree(m.relation) AS tree ON m.relkind = 'p'),
own_trigger AS (
    SELECT t.tgrelid, t.tgname::text AS name, t.tgenabled, p.proname AS function FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE p.pronamespace = 'keepsake'::regnamespace AND NOT t.tgisinternal),
-- The columns that mark a row, of each of them.
mark AS (
    SELECT part.relation, part.root, a.attnum, a.attname, a.attnotnull, a.atthasdef
    FROM part JOIN pg_attribute a ON a.attrelid = part.relation AND a.attname IN ('deleted_at', 'deletion_id') AND NOT a.attisdropped),
-- Foreign keys into managed tables.
reference AS (
    SELECT con.oid, con.conname, con.conrelid, con.confrelid, con.conkey, con.convalidated,
           coalesce(o.on_delete, CASE con.confdeltype WHEN 'c' THEN 'cascade' WHEN 'n' THEN 'set null' WHEN 'd' THEN 'set default' ELSE 'restrict' END) AS action
    FROM pg_constraint con
    LEFT JOIN keepsake.reference_override o ON o.child = con.conrelid AND o.reference = con.conname
    WHERE con.contype = 'f' AND con.conparentid = 0 AND con.confrelid IN (SELECT relation FROM managed)),
live_unique AS (
    SELECT i.indexrelid, i.indrelid, con.conname,
           EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
                   AND a.attname = 'deleted_at') AS with_mark
    FROM pg_index i LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.contype IN ('u', 'p')
    WHERE i.indrelid IN (SELECT relation FROM managed) AND i.indisunique AND NOT i.indisprimary AND i.indpred IS NULL
      AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = i.indexrelid)),
-- Tables that refer to managed ones, and their partitions.
referring AS (
    SELECT r.conrelid AS root, r.confrelid, coalesce(tree.relid::oid, r.conrelid) AS relation, c.relkind = 'p' AS partitioned
    FROM reference r JOIN pg_class c ON c.oid = r.conrelid LEFT JOIN LATERAL pg_partition_tree(r.conrelid) AS tree ON c.relkind = 'p')

-- Triggers that are gone.
SELECT 'error', 'trigger_missing', part.relation::regclass::text, format('The trigger %s is missing.', wanted.name),
       format('SELECT keepsake.manage(%L);', part.root::text)
FROM part JOIN pg_class c ON c.oid = part.root CROSS JOIN LATERAL (
    VALUES (CASE part.on_delete WHEN 'convert' THEN 'keepsake_convert_delete' WHEN 'reject' THEN 'keepsake_refuse_delete'
                                ELSE 'keepsake_allow_delete' END),
           ('keepsake_insert_live'), ('keepsake_protect_state'), ('keepsake_keep_row_key'), ('keepsake_refuse_truncate'),
           ('keepsake_finish_delete'), ('keepsake_finish_update'),
           (CASE c.relkind WHEN 'p' THEN 'keepsake_begin_update' END)) AS wanted (name)
WHERE wanted.name IS NOT NULL AND NOT EXISTS (SELECT FROM own_trigger t WHERE t.tgrelid = part.relation AND t.name = wanted.name)
UNION ALL
-- Triggers that do not fire.
SELECT 'error', 'trigger_disabled', t.tgrelid::regclass::text, format('The trigger %s does not fire.', t.name),
       format('ALTER TABLE %s ENABLE TRIGGER %I;', t.tgrelid::regclass, t.name)
FROM own_trigger t WHERE t.tgenabled NOT IN ('O', 'A')
UNION ALL
-- Referring tables that nobody guards.
SELECT DISTINCT 'error', 'guard_missing', r.relation::regclass::text,
       format('Rows may come to refer to deleted ones of %s: its guards are missing.', r.confrelid::regclass),
       format('SELECT keepsake.guard_references(%L);', r.root::regclass)
FROM referring r CROSS JOIN LATERAL (
    VALUES ('keepsake_guard_insert'), ('keepsake_guard_update'), (CASE WHEN r.partitioned THEN 'keepsake_guard_moved' END)) AS wanted (name)
WHERE wanted.name IS NOT NULL AND NOT EXISTS (SELECT FROM own_trigger t WHERE t.tgrelid = r.relation AND t.name = wanted.name)
UNION ALL
-- Event triggers that do not follow DDL.
SELECT 'error', 'event_trigger_disabled', e.evtname, 'DDL is not followed.', format('ALTER EVENT TRIGGER %I ENABLE;', e.evtname)
FROM pg_event_trigger e WHERE e.evtname IN ('keepsake_follow_ddl', 'keepsake_forget_dropped_tables') AND e.evtenabled NOT IN ('O', 'A')
UNION ALL
-- The index that finds the rows of a deletion.
SELECT 'warning', 'deletion_index_missing', m.relation::text, 'There is no valid index over deletion_id: every restore and purge reads the whole table.',
       format('SELECT keepsake.manage(%L);', m.relation)
FROM managed m
WHERE NOT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                  WHERE i.indrelid = m.relation AND a.attname = 'deletion_id' AND i.indisvalid)
UNION ALL
-- State columns that are gone.
SELECT 'error', 'state_column_lost', m.relation::text, format('The column %s %s is gone, or another has its name: rename it back, or restore the table from a backup.', wanted.name, wanted.type::regtype), ''
FROM managed m CROSS JOIN (VALUES ('deleted_at', 'timestamptz'::regtype), ('deletion_id', 'uuid'::regtype)) AS wanted (name, type)
WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = m.relation AND a.attname = wanted.name AND a.atttypid = wanted.type AND a.attgenerated = '' AND NOT a.attisdropped)
UNION ALL
-- State columns that mark new rows, or must.
SELECT 'error', 'state_column_default', m.relation::regclass::text, format('%I has a default: every INSERT is refused, since a new row is live.', m.attname),
       format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT;', m.relation::regclass, m.attname)
FROM mark m WHERE m.atthasdef
UNION ALL
SELECT 'error', 'state_column_not_null', m.relation::regclass::text, format('%I is NOT NULL: no row can be live.', m.attname),
       format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL;', m.relation::regclass, m.attname)
FROM mark m WHERE m.attnotnull AND m.relation = m.root
UNION ALL
-- Rules of the application's own that read the marks.
SELECT 'info', 'check_reads_mark', con.conrelid::regclass::text,
       format('%I reads deleted_at or deletion_id: a deletion or restore that breaks it fails.', con.conname),
       format('ALTER TABLE %s DROP CONSTRAINT %I;', con.conrelid::regclass, con.conname)
FROM pg_constraint con
WHERE con.contype = 'c' AND con.conislocal AND EXISTS (SELECT FROM mark m WHERE m.relation = con.conrelid AND m.attnum = ANY (con.conkey))
UNION ALL
SELECT DISTINCT 'info', 'generated_reads_mark', m.relation::regclass::text,
       format('%I is computed from deleted_at or deletion_id: a deletion or restore with which it cannot be computed fails.', a.attname),
       CASE a.attgenerated WHEN 's' THEN format('ALTER TABLE %s ALTER COLUMN %I DROP EXPRESSION;', m.relation::regclass, a.attname)
            ELSE format('ALTER TABLE %s DROP COLUMN %I;', m.relation::regclass, a.attname) END
FROM mark m
JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = m.relation AND d.refobjsubid = m.attnum AND d.classid = 'pg_attrdef'::regclass
JOIN pg_attrdef ad ON ad.oid = d.objid
JOIN pg_attribute a ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum AND a.attgenerated <> ''
WHERE m.relation = m.root
UNION ALL
-- Owners who cannot see each other's rows.
SELECT 'error', 'reference_unreadable', r.conrelid::regclass::text,
       format('%s cannot be followed: row-level security hides rows of one of it and %s from the owner of the other.', r.conname, r.confrelid::regclass),
       format('ALTER TABLE %s OWNER TO %I;', r.conrelid::regclass, po.rolname)
FROM (SELECT conname::text, conrelid::oid, confrelid::oid FROM reference
      UNION ALL SELECT format('%s.%s=%s', type_column, id_column, type_value), child, parent FROM keepsake.declared_reference) AS r
JOIN pg_class c ON c.oid = r.conrelid JOIN pg_roles co ON co.oid = c.relowner
JOIN pg_class p ON p.oid = r.confrelid JOIN pg_roles po ON po.oid = p.relowner
WHERE p.relrowsecurity AND NOT pg_has_role(c.relowner, p.relowner, 'USAGE') AND NOT co.rolbypassrls
   OR c.relrowsecurity AND NOT pg_has_role(p.relowner, c.relowner, 'USAGE') AND NOT po.rolbypassrls
UNION ALL
-- Space. A deletion writes the row anew, and an entry into every index over all rows: the index on deletion_id keeps it
-- from being done in place.
SELECT 'warning', 'autovacuum_off', part.relation::regclass::text, 'Each deletion, restore and purge leaves a dead row, which nothing clears away.',
       format('ALTER TABLE %s RESET (autovacuum_enabled);', part.relation::regclass)
FROM part JOIN pg_class c ON c.oid = part.relation
WHERE EXISTS (SELECT FROM pg_options_to_table(c.reloptions) AS o WHERE o.option_name = 'autovacuum_enabled' AND NOT o.option_value::boolean)
UNION ALL
SELECT 'info', 'fillfactor_unused', part.relation::regclass::text,
       format('The room that its fillfactor leaves on each page served none of %s updates: deletions and restores cannot be done in place.',
              pg_stat_get_tuples_updated(c.oid)),
       format('ALTER TABLE %s RESET (fillfactor);', part.relation::regclass)
FROM part JOIN pg_class c ON c.oid = part.relation
WHERE EXISTS (SELECT FROM pg_options_to_table(c.reloptions) AS o WHERE o.option_name = 'fillfactor' AND o.option_value::int < 100)
  AND pg_stat_get_tuples_updated(c.oid) >= 1000 AND pg_stat_get_tuples_hot_updated(c.oid) = 0
UNION ALL
SELECT 'info', 'index_holds_deleted', c.oid::regclass::text,
       format('%s has an entry for each deleted row, and most rows are deleted; queries of live rows need none.', i.indexrelid::regclass),
       format('DROP INDEX %s; %s WHERE deleted_at IS NULL;', i.indexrelid::regclass, pg_get_indexdef(i.indexrelid))
FROM managed m JOIN pg_class c ON c.oid = m.relation JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = 'deleted_at' AND s.null_frac < 0.5
JOIN pg_index i ON i.indrelid = c.oid AND i.indisvalid AND NOT i.indisunique AND NOT i.indisexclusion AND i.indpred IS NULL
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
-- What finds referring rows, the rows of a deletion or those that name an object must hold deleted rows, too.
WHERE m.relkind = 'r' AND a.attname NOT IN ('deleted_at', 'deletion_id')
  AND NOT EXISTS (SELECT FROM pg_constraint con WHERE con.contype = 'f' AND con.conrelid = c.oid AND a.attnum = ANY (con.conkey))
  AND NOT EXISTS (SELECT FROM keepsake.declared_reference d WHERE d.child = c.oid AND a.attname IN (d.type_column, d.id_column))
  AND NOT EXISTS (SELECT FROM keepsake.bound_storage b WHERE b.relation = c.oid AND b.key_column = a.attname)
UNION ALL
-- Referring columns without an index.
SELECT 'warning', 'reference_unindexed', r.conrelid::regclass::text,
       format('Nothing finds the rows that refer by %I: every deletion in %s reads the whole table.', r.conname, r.confrelid::regclass),
       format('CREATE INDEX ON %s (%s);', r.conrelid::regclass,
              (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.n) FROM unnest(r.conkey) WITH ORDINALITY AS k (attnum, n)
               JOIN pg_attribute a ON a.attrelid = r.conrelid AND a.attnum = k.attnum))
FROM reference r
WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = r.conrelid AND i.indisvalid AND i.indkey[0] = ANY (r.conkey)
                  AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) ~ 'IS NOT NULL'))
UNION ALL
-- Unique over deleted rows as well.
SELECT CASE WHEN u.with_mark THEN 'warning' ELSE 'info' END,
       CASE WHEN u.with_mark THEN 'unique_with_deleted_at' ELSE 'unique_holds_for_deleted' END, u.indrelid::regclass::text,
       CASE WHEN u.with_mark THEN format('%s does not keep live rows apart, since two NULLs differ, and makes each deletion lock like a change of key.', u.indexrelid::regclass)
            ELSE format('%s holds for deleted rows too: they keep their place until the purge.', u.indexrelid::regclass) END,
       CASE WHEN u.conname IS NOT NULL THEN format('ALTER TABLE %s DROP CONSTRAINT %I;', u.indrelid::regclass, u.conname)
            ELSE format('DROP INDEX %s;', u.indexrelid::regclass) END
       || format(' CREATE UNIQUE INDEX ON %s (%s) WHERE deleted_at IS NULL;', u.indrelid::regclass,
                 (SELECT string_agg(pg_get_indexdef(u.indexrelid, k.n::int, false), ', ' ORDER BY k.n)
                  FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
                  LEFT JOIN LATERAL (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = u.indrelid AND a.attnum = k.attnum) AS col ON true
                  WHERE i.indexrelid = u.indexrelid AND k.n <= i.indnkeyatts AND col.attname IS DISTINCT FROM 'deleted_at'))
FROM live_unique u
UNION ALL
-- Parents that would take managed rows along for good.
SELECT 'error', 'parent_unmanaged', con.confrelid::regclass::text,
       format('A DELETE here cascades to %s, where it is refused.', con.conrelid::regclass), format('SELECT keepsake.manage(%L);', con.confrelid::regclass)
FROM pg_constraint con
WHERE con.contype = 'f' AND con.conparentid = 0 AND con.confdeltype = 'c' AND con.conrelid IN (SELECT relation FROM managed)
  AND con.confrelid NOT IN (SELECT relation FROM managed)
UNION ALL
-- Children that restrict although their key cascades.
SELECT 'warning', 'child_unmanaged', r.conrelid::regclass::text,
       format('Its rows keep those of %s that they refer to from being deleted: it is not managed.', r.confrelid::regclass),
       format('SELECT keepsake.manage(%L);', r.conrelid::regclass)
FROM reference r WHERE r.action = 'cascade' AND r.conrelid NOT IN (SELECT relation FROM managed)
UNION ALL
-- SET NULL that cannot be done, or not undone.
SELECT 'error', 'set_null_not_null', r.conrelid::regclass::text,
       format('%I sets NULL a column that is NOT NULL: what it refers to cannot be deleted.', r.conname),
       format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL;', r.conrelid::regclass, a.attname)
FROM reference r JOIN pg_attribute a ON a.attrelid = r.conrelid AND a.attnum = ANY (r.conkey) AND a.attnotnull
WHERE r.action = 'set null'
UNION ALL
SELECT 'warning', 'set_null_without_key', r.conrelid::regclass::text,
       format('%I restricts: without a primary key a restore could not find the rows again.', r.conname), ''
FROM reference r
WHERE r.action IN ('set null', 'set default') AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = r.conrelid AND i.indisprimary)
UNION ALL
-- Keys that were never checked.
SELECT 'warning', 'reference_not_valid', r.conrelid::regclass::text, format('%I was never checked for old rows.', r.conname),
       format('ALTER TABLE %s VALIDATE CONSTRAINT %I;', r.conrelid::regclass, r.conname)
FROM reference r WHERE NOT r.convalidated
UNION ALL
-- Policies that refuse the UPDATE which marks a row.
SELECT 'warning', 'policy_hides_deleted', p.polrelid::regclass::text,
       format('The policy %I makes an UPDATE of deleted_at fail.', p.polname),
       format('DROP POLICY %I ON %s; SELECT keepsake.hide_deleted(%L, ''policy'');', p.polname, p.polrelid::regclass, p.polrelid::regclass)
FROM pg_policy p
WHERE p.polrelid IN (SELECT relation FROM managed) AND p.polcmd IN ('r', '*') AND p.polname NOT LIKE 'keepsake\_%'
  AND pg_get_expr(p.polqual, p.polrelid) ~ 'deleted_at IS NULL'
UNION ALL
-- Hidden reads that show again.
SELECT 'warning', 'hiding_lost', h.relation::text, 'Deleted rows are no longer hidden by policy.', format('SELECT keepsake.hide_deleted(%L, ''policy'');', h.relation)
FROM keepsake.hidden_reads h JOIN pg_class c ON c.oid = h.relation
WHERE h.how = 'policy' AND (NOT c.relrowsecurity OR NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = h.relation AND p.polname = 'keepsake_hide_deleted'))
UNION ALL
SELECT 'warning', 'view_outdated', h.view::text, format('It does not show %s as the table is now.', h.relation), format('SELECT keepsake.hide_deleted(%L, ''view'');', h.relation)
FROM keepsake.hidden_reads h JOIN pg_class v ON v.oid = h.view
CROSS JOIN LATERAL (
    SELECT array_agg(ROW (a.attname, a.atttypid, a.atttypmod, a.attcollation)::text ORDER BY a.attname) FILTER (WHERE a.attrelid = h.view) AS shown,
           array_agg(ROW (a.attname, a.atttypid, a.atttypmod, a.attcollation)::text ORDER BY a.attname)
               FILTER (WHERE a.attrelid = h.relation AND a.attname NOT IN ('deleted_at', 'deletion_id')) AS wanted
    FROM pg_attribute a WHERE a.attrelid IN (h.view, h.relation) AND a.attnum > 0 AND NOT a.attisdropped) AS columns
WHERE columns.shown IS DISTINCT FROM columns.wanted
   OR NOT EXISTS (SELECT FROM pg_options_to_table(v.reloptions) AS o WHERE o.option_name = 'security_invoker' AND o.option_value::boolean)
UNION ALL
-- A DELETE that reports no rows.
SELECT 'warning', 'library_not_preloaded', current_database()::text,
       'The first DELETE of a session reports no rows: the library is not loaded when it begins. Mind what the setting names already.',
       format('ALTER DATABASE %I SET session_preload_libraries = ''keepsake'';', current_database())
WHERE EXISTS (SELECT FROM managed WHERE on_delete = 'convert')
  AND concat_ws(',', current_setting('session_preload_libraries'), current_setting('shared_preload_libraries'), (
          SELECT string_agg(setting, ',') FROM pg_db_role_setting s, unnest(s.setconfig) AS setting
          WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
            AND setting ~ '^session_preload_libraries=')) !~ '\ykeepsake\y'
UNION ALL
-- Publications that lose deletions or purges.
SELECT 'warning', 'publication_incomplete', p.pubname::text, format('It publishes %s, but not every UPDATE (deletions, restores) and DELETE (purges).', t.relation::text),
       format('ALTER PUBLICATION %I SET (publish = ''insert, update, delete, truncate'');', p.pubname)
FROM pg_publication p
JOIN LATERAL (SELECT m.relation FROM managed m JOIN pg_class c ON c.oid = m.relation JOIN pg_namespace n ON n.oid = c.relnamespace
              JOIN pg_publication_tables pt ON pt.pubname = p.pubname AND pt.schemaname = n.nspname AND pt.tablename = c.relname
              ORDER BY m.relation LIMIT 1) AS t ON true
WHERE NOT (p.pubupdate AND p.pubdelete)
UNION ALL
-- Names that only the registry knows.
SELECT 'error', 'declared_reference_lost', d.child::text, format('The columns %I and %I of the declared reference "%s" are gone.', d.type_column, d.id_column, d.type_value),
       format('DELETE FROM keepsake.declared_reference WHERE child = %L::regclass AND type_value = %L;', d.child, d.type_value)
FROM keepsake.declared_reference d
WHERE (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = d.child AND a.attname IN (d.type_column, d.id_column) AND NOT a.attisdropped) < 2
UNION ALL
SELECT 'error', 'bound_column_lost', b.relation::text, format('The column %I, which names its objects, is gone.', b.key_column), ''
FROM keepsake.bound_storage b
WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = b.relation AND a.attname = b.key_column AND NOT a.attisdropped)
UNION ALL
SELECT 'warning', 'override_lost', o.child::text, format('There is no foreign key %I any more, for which an action is set.', o.reference),
       format('DELETE FROM keepsake.reference_override WHERE child = %L::regclass AND reference = %L;', o.child, o.reference)
FROM keepsake.reference_override o
WHERE NOT EXISTS (SELECT FROM pg_constraint con WHERE con.contype = 'f' AND con.conrelid = o.child AND con.conname = o.reference)
UNION ALL
-- What a detached partition leaves behind: its triggers do nothing there.
SELECT 'warning', 'partition_detached', t.tgrelid::regclass::text,
       'It is no partition any more: nothing restores or purges its deleted rows unless it is attached again. Without its triggers it is a table like any other, and its marks are plain values.',
       string_agg(format('DROP TRIGGER %I ON %s;', t.name, t.tgrelid::regclass), ' ' ORDER BY t.name)
FROM own_trigger t
WHERE t.name NOT LIKE 'keepsake\_guard\_%' AND t.tgrelid NOT IN (SELECT relation FROM part)
  AND EXISTS (SELECT FROM own_trigger f WHERE f.tgrelid = t.tgrelid AND f.function = 'finish_statement')
GROUP BY t.tgrelid
UNION ALL
-- Deletions whose rows are gone with their tables or partitions.
SELECT 'warning', 'deletion_lost', d.root_table::text,
       format('Open deletions that are of no table any more: %s. It was dropped, or taken back.', count(*)),
       format('UPDATE keepsake.deletion d SET state = ''purged'', settled_at = now() WHERE d.state IN (''deleted'', ''purging'') AND d.root_table = %L::regclass AND EXISTS (SELECT FROM keepsake.deletion_table t WHERE t.deletion_id = d.id) AND NOT EXISTS (SELECT FROM keepsake.deletion_table t JOIN keepsake.managed_table m USING (relation) WHERE t.deletion_id = d.id AND t.purged < t.row_count);', d.root_table)
FROM keepsake.deletion d
WHERE d.state IN ('deleted', 'purging') AND EXISTS (SELECT FROM keepsake.deletion_table t WHERE t.deletion_id = d.id)
  AND NOT EXISTS (SELECT FROM keepsake.deletion_table t JOIN managed m ON m.relation = t.relation WHERE t.deletion_id = d.id AND t.purged < t.row_count)
GROUP BY d.root_table
UNION ALL
SELECT 'info', 'purge_put_off', array_to_string(put_off.tables, ', '),
       format('Deletions that expired more than a day ago, of which rows have to stay: %s. purge_plan() says of each what holds it or refers to it; those without rows, which went with a partition, can be settled.', count(*)),
       format('UPDATE keepsake.deletion d SET state = ''purged'', settled_at = now() WHERE d.state IN (''deleted'', ''purging'') AND d.put_off_at IS NOT NULL AND d.expires_at < now() - interval ''1 day'' AND ARRAY[%s]::regclass[] = (SELECT array_agg(t.relation ORDER BY t.relation) FROM keepsake.deletion_table t JOIN keepsake.managed_table m USING (relation) WHERE t.deletion_id = d.id AND t.purged < t.row_count) AND NOT EXISTS (%s);',
              (SELECT string_agg(quote_literal(name), ', ') FROM unnest(put_off.tables) AS name),
              (SELECT string_agg(format('SELECT FROM %s t WHERE t.deletion_id = d.id', name), ' UNION ALL ') FROM unnest(put_off.tables) AS name))
FROM (SELECT array_agg(t.relation::text ORDER BY t.relation) AS tables
      FROM keepsake.deletion d
      JOIN keepsake.deletion_table t ON t.deletion_id = d.id AND t.purged < t.row_count
      JOIN managed m ON m.relation = t.relation
      WHERE d.state IN ('deleted', 'purging') AND d.expires_at < now() - interval '1 day' AND d.put_off_at IS NOT NULL
      GROUP BY d.id) AS put_off
GROUP BY put_off.tables
UNION ALL
-- Holds that may have been forgotten.
SELECT 'info', 'hold_old', coalesce(h.relation::text || ' ' || h.row_key::text, 'deletion ' || h.deletion_id, 'tenant ' || h.tenant),
       format('Held since %s by %s (%s). Must it still be?', to_char(h.held_at, 'YYYY-MM-DD'), h.actor, h.reason), format('SELECT keepsake.release(%s);', h.id)
FROM keepsake.hold h WHERE h.released_at IS NULL AND h.held_at < now() - interval '1 year'
UNION ALL
-- Work that does not get done.
SELECT 'warning', 'objects_given_up', 'keepsake.outbox', format('Objects that could not be deleted from the bucket, as last_error says: %s.', count(*)), 'SELECT keepsake.retry_dead_objects();'
FROM keepsake.outbox WHERE dead_at IS NOT NULL HAVING count(*) > 0
UNION ALL
SELECT 'warning', 'purge_fails', d.root_table::text, format('Deletions that cannot be purged: %s. One says: %s', count(*), min(d.purge_error)), ''
FROM keepsake.deletion d WHERE d.purge_error IS NOT NULL AND d.state IN ('deleted', 'purging') GROUP BY d.root_table
UNION ALL
SELECT 'warning', 'purge_behind', 'keepsake.deletion', format('Deletions that expired more than a day ago: %s. Is the purge on a schedule?', count(*)), 'CALL keepsake.purge();'
FROM keepsake.deletion d
WHERE d.state IN ('deleted', 'purging') AND d.expires_at < now() - interval '1 day' AND d.purge_error IS NULL AND d.put_off_at IS NULL HAVING count(*) > 0
UNION ALL
SELECT 'info', 'no_retention', m.relation::text, 'What is deleted here can be purged at once.', format('SELECT keepsake.set_retention(%L, ''30 days'');', m.relation)
FROM managed m WHERE m.retention = interval '0'
ORDER BY 1, 2, 3, 4
$$;
COMMENT ON FUNCTION keepsake.doctor IS
    'What would bite, each with the SQL that mends it, or an empty fix where none can.';

CREATE INDEX outbox_dead ON keepsake.outbox (id) WHERE dead_at IS NOT NULL;

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
    'Puts these objects back at the head of the queue if they failed, dead or not. Returns how many.';

-- Whoever may DELETE a row may soft-delete and restore it, whoever owns a table may manage it;
-- the functions check that themselves.
-- What crosses tenants, skips retention or names objects of the bucket is for whom it is granted to.
REVOKE ALL ON FUNCTION
    keepsake.bind_storage, keepsake.doctor, keepsake.hold_tenant, keepsake.release,
    keepsake.purge_candidates, keepsake.purge_batch, keepsake.purge_deletion, keepsake.purge_plan,
    keepsake.start_purge, keepsake.purge_step, keepsake.finish_purge,
    keepsake.lease_objects, keepsake.ack_objects, keepsake.nack_objects, keepsake.retry_dead_objects,
    keepsake.retry_objects
FROM PUBLIC;
REVOKE ALL ON PROCEDURE keepsake.purge FROM PUBLIC;

-- The triggers and indexes of the application's tables, as this version makes them.
SELECT keepsake.manage(relation) FROM keepsake.managed_table;
SELECT keepsake.bind_storage(relation, key_column::text, writable_until::text) FROM keepsake.bound_storage;
