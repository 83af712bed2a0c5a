-- Who: keepsake.actor when the application set it, else the token's subject, else the role.
INSERT INTO keepsake.deletion (id, root_table, root_key, reason, actor, tenant, deleted_at, expires_at)
SELECT $1, $2, $3, $4,
       coalesce(nullif(current_setting('keepsake.actor', true), ''), claims ->> 'sub', $5),
       claims ->> 'tenant',
       now(),
       keepsake.expiry(now(), (SELECT retention FROM keepsake.managed_table WHERE relation = $2))
FROM (SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb) AS c (claims)
