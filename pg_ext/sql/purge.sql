-- The batch loop lives in a procedure because only a procedure can commit between batches.
-- It carries no SET clause (a procedure with one may not commit), so every name is qualified.
CREATE PROCEDURE keepsake.purge(batch_size integer DEFAULT 10000, max_rows bigint DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    run bigint := keepsake.start_purge();
    report pg_catalog.jsonb;
    after pg_catalog.uuid;
    total bigint := 0;
    -- Rows gone since the run last began at the head.
    round bigint := 0;
BEGIN
    LOOP
        report := keepsake.purge_step(run,
            least(batch_size, max_rows OPERATOR(pg_catalog.-) total)::integer, after, round OPERATOR(pg_catalog.>) 0,
            -- However many rows a month has.
            max_rows IS NULL);
        round := round OPERATOR(pg_catalog.+) (report OPERATOR(pg_catalog.->>) 'rows')::bigint;
        total := total OPERATOR(pg_catalog.+) (report OPERATOR(pg_catalog.->>) 'rows')::bigint;
        COMMIT;
        IF (report OPERATOR(pg_catalog.->>) 'rows')::bigint OPERATOR(pg_catalog.>) 0 THEN
            RAISE NOTICE 'purged % rows so far', total;
        END IF;
        EXIT WHEN total OPERATOR(pg_catalog.>=) max_rows;
        IF (report OPERATOR(pg_catalog.->>) 'more')::boolean THEN
            after := (report OPERATOR(pg_catalog.->>) 'last')::pg_catalog.uuid;
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
    'Purges expired deletions, batch_size rows in each transaction, until none is left or max_rows rows are removed. Without max_rows, month tables of archives are emptied as a whole.';
