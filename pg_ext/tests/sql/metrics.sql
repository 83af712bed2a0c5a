-- The numbers an operator watches.
DELETE FROM keepsake.purge_run;
BEGIN;
CALL fill();
SELECT keepsake.set_retention('post', '0');
SET LOCAL request.jwt.claims = '{"tenant": "acme"}';
SELECT keepsake.soft_delete('post', 10) IS NOT NULL AS done;
SELECT keepsake.soft_delete('post', 11) AS d \gset
RESET request.jwt.claims;
SELECT keepsake.soft_delete('thread', 2) IS NOT NULL AS done;
SELECT keepsake.hold('member', '00000000-0000-0000-0000-000000000001', 'case') IS NOT NULL AS held;
SELECT keepsake.hold_tenant('acme', 'case') AS h \gset
INSERT INTO keepsake.outbox (object_key, relation, dead_at) VALUES ('a', 'post', NULL), ('b', 'post', now());
SELECT * FROM keepsake.metrics WHERE metric <> 'keepsake_open_deletions' ORDER BY metric, labels;
SELECT keepsake.release(:h);
SELECT keepsake.purge_batch() -> 'rows' AS rows;
SELECT * FROM keepsake.metrics WHERE metric LIKE '%purge%' OR metric LIKE '%expired%' ORDER BY metric, labels;
ROLLBACK;
