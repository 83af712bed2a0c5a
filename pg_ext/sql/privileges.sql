-- Whoever may DELETE a row may soft-delete and restore it, whoever owns a table may manage it;
-- the functions check that themselves.
-- What crosses tenants or skips retention is for whom it is granted to.
REVOKE ALL ON FUNCTION
    keepsake.purge_candidates, keepsake.purge_batch, keepsake.purge_deletion,
    keepsake.lease_objects, keepsake.ack_objects, keepsake.nack_objects, keepsake.retry_dead_objects
FROM PUBLIC;
REVOKE ALL ON PROCEDURE keepsake.purge FROM PUBLIC;
