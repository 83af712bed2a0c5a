-- Whoever may DELETE a row may soft-delete and restore it, whoever owns a table may manage it; the functions check that
-- themselves.
-- What crosses tenants, skips retention or names objects of the bucket is for whom it is granted to.
REVOKE ALL ON FUNCTION
    keepsake.bind_storage, keepsake.doctor, keepsake.hold_tenant, keepsake.release,
    keepsake.purge_candidates, keepsake.purge_batch, keepsake.purge_deletion, keepsake.purge_rows, keepsake.purge_plan,
    keepsake.start_purge, keepsake.purge_step, keepsake.finish_purge,
    keepsake.lease_objects, keepsake.ack_objects, keepsake.nack_objects, keepsake.retry_dead_objects,
    keepsake.retry_objects
FROM PUBLIC;
REVOKE ALL ON PROCEDURE keepsake.purge FROM PUBLIC;
