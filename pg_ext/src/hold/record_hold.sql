-- Who: as for a deletion. A target that is held already keeps its hold.
INSERT INTO keepsake.hold (relation, row_key, deletion_id, tenant, reason, actor, role, session_role)
SELECT $1, $2, $3, $4, $5, coalesce(nullif(current_setting('keepsake.actor', true), ''), claims ->> 'sub', $6), $6::text::name, $7::text::name
FROM (SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb) AS c (claims)
ON CONFLICT DO NOTHING
RETURNING id
