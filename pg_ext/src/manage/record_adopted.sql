-- Enters adopted deletions. They can be restored as long from now as those that are made now.
INSERT INTO keepsake.deletion AS d (id, group_id, root_table, root_key, actor, tenant, deleted_at, retention, expires_at)
SELECT n.id, n.id, m.relation, CASE WHEN count(n.key) = 1 THEN min(n.key)::jsonb END,
       coalesce(min(n.actor), 'unknown'), min(n.tenant), min(n.at::timestamptz),
       now() - min(n.at::timestamptz) + m.retention, keepsake.expiry(now(), m.retention)
FROM unnest($2, $3, $4, $5, $6) AS n (id, key, actor, tenant, at), keepsake.managed_table AS m
WHERE m.relation = $1
GROUP BY n.id, m.relation, m.retention
ON CONFLICT (id) DO UPDATE
    SET root_key = CASE WHEN d.root_table = excluded.root_table THEN NULL ELSE d.root_key END
