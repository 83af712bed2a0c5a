-- Who: keepsake.actor when the application set it, else the token's subject, else the role. Anybody can set the first
-- two; the roles are the database's own word.
INSERT INTO keepsake.deletion (id, group_id, root_table, root_key, reason, actor, role, session_role, tenant, deleted_at, expires_at)
SELECT $1, $7, $2, $3, $4,
       coalesce(nullif(current_setting('keepsake.actor', true), ''), claims ->> 'sub', $5),
       $5::text::name, $6::text::name,
       claims ->> 'tenant',
       now(),
       keepsake.expiry(now(), (SELECT retention FROM keepsake.managed_table WHERE relation = $2))
FROM (SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb) AS c (claims)
