-- The batch loop lives in a procedure because only a procedure can commit between batches.
-- It carries no SET clause (a procedure with one may not commit), so every name is qualified.
CREATE PROCEDURE keepsake.purge(batch_size integer DEFAULT 1000, max_rows bigint DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    as_of timestamptz := pg_catalog.now();
    report jsonb;
    total bigint := 0;
BEGIN
    LOOP
        report := keepsake.purge_batch(least(batch_size, max_rows OPERATOR(pg_catalog.-) total)::integer, as_of);
        total := total OPERATOR(pg_catalog.+) (report OPERATOR(pg_catalog.->>) 'rows')::bigint;
        COMMIT;
        RAISE NOTICE 'purged % rows so far', total;
        EXIT WHEN NOT (report OPERATOR(pg_catalog.->>) 'more')::boolean
               OR total OPERATOR(pg_catalog.>=) max_rows;
    END LOOP;
END
$$;
COMMENT ON PROCEDURE keepsake.purge IS
    'Purges what has expired, batch_size rows a transaction, until nothing is left or max_rows are gone.';
