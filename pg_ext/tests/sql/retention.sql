-- When a deletion expires is stored with it, and moves with the retention.
CREATE FUNCTION kept(d uuid) RETURNS interval LANGUAGE sql AS
    $$ SELECT justify_hours(expires_at - deleted_at) FROM keepsake.deletion WHERE id = d $$;
BEGIN;
CALL fill();
SELECT keepsake.soft_delete('thread', 1) AS one \gset
SELECT keepsake.soft_delete('thread', 2) AS two \gset
SELECT keepsake.soft_delete('member', id) AS m FROM member LIMIT 1 \gset
SELECT kept(:'one') AS one, kept(:'two') AS two, kept(:'m') AS member;

-- Its own retention stays when that of the table changes; NULL takes it away.
SELECT keepsake.set_deletion_retention(:'two', '90 days');
SELECT keepsake.set_retention('thread', '10 days');
SELECT kept(:'one') AS one, kept(:'two') AS two, kept(:'m') AS member;
SELECT keepsake.purge_batch(100, now() + '11 days') -> 'tables' AS gone;
SELECT keepsake.set_deletion_retention(:'two');
SELECT kept(:'two') AS two;
SELECT keepsake.manage('thread', '20 days');
SELECT kept(:'two') AS two;

-- For ever, not at all, and what is neither.
\set VERBOSITY sqlstate
SAVEPOINT s;
SELECT keepsake.set_deletion_retention(:'two', '200000 years');
SELECT expires_at FROM keepsake.deletion WHERE id = :'two';
SELECT keepsake.set_retention('member', '2147483647 days');
SELECT expires_at FROM keepsake.deletion WHERE id = :'m';
SELECT keepsake.purge_batch(100, 'infinity') -> 'rows' AS at_the_end_of_time;
ROLLBACK TO s;
SELECT keepsake.set_deletion_retention(:'two', '0');
SELECT keepsake.purge_batch() -> 'rows' AS at_once;
ROLLBACK TO s;
SELECT keepsake.set_deletion_retention(:'two', '-1 second');
ROLLBACK TO s;
SELECT keepsake.set_deletion_retention(:'one', '1 day');
ROLLBACK TO s;
SELECT keepsake.set_deletion_retention(gen_random_uuid(), '1 day');
ROLLBACK TO s;
SELECT keepsake.restore(:'two') IS NOT NULL AS restored;
SELECT keepsake.set_deletion_retention(:'two', '1 day');
ROLLBACK;

-- Whoever may restore it may prolong it; sooner is for who may purge it.
BEGIN;
CALL fill();
CREATE ROLE regress_keeper;
GRANT USAGE ON SCHEMA keepsake TO regress_keeper;
GRANT SELECT, DELETE ON thread TO regress_keeper;
SELECT keepsake.soft_delete('thread', 1) AS d \gset
SAVEPOINT s;
SET LOCAL ROLE regress_keeper;
SELECT keepsake.set_deletion_retention(:'d', '40 days');
SELECT keepsake.set_deletion_retention(:'d', '41 days');
SELECT keepsake.set_deletion_retention(:'d', '39 days');
ROLLBACK TO s;
GRANT EXECUTE ON FUNCTION keepsake.purge_deletion TO regress_keeper;
SET LOCAL ROLE regress_keeper;
SELECT keepsake.set_deletion_retention(:'d', '1 day');
RESET ROLE;
SELECT kept(:'d');
REVOKE DELETE ON thread FROM regress_keeper;
SET LOCAL ROLE regress_keeper;
SAVEPOINT t;
SELECT keepsake.set_deletion_retention(:'d', '2 days');
ROLLBACK TO t;
SELECT keepsake.set_retention('thread', '2 days');
ROLLBACK;

-- Rows that another deletion took over expire with it.
BEGIN;
CALL fill();
SELECT keepsake.set_retention('member', '90 days');
SELECT keepsake.soft_delete('post', 10) AS post \gset
SELECT keepsake.soft_delete('member', '00000000-0000-0000-0000-000000000001') IS NOT NULL AS done;
SELECT keepsake.restore(:'post') -> 'passed' -> 0 -> 'rows' AS passed;
SELECT keepsake.purge_batch(100, now() + '89 days') -> 'rows' AS rows;
SELECT keepsake.purge_batch(100, now() + '90 days') -> 'rows' AS rows;
ROLLBACK;
DROP FUNCTION kept;
