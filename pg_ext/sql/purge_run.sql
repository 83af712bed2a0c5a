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
    'Purge runs: rows removed, deletions that failed, and the last deletion processed.';

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
    'The purge runs that have not finished, running or stopped, and the last run.';
