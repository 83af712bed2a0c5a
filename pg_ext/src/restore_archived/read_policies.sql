-- Row-level policies of a table ($1) for a kind of statement ($2, as pg_policy.polcmd) that would bind the caller; with $3
-- as they check a row that is written. It runs with the caller's search_path, so that what pg_get_expr prints reads back
-- the same.
SELECT pg_catalog.row_security_active($1::pg_catalog.oid) AS active,
       pg_catalog.string_agg('(' OPERATOR(pg_catalog.||) p.condition OPERATOR(pg_catalog.||) ')', ' OR ')
           FILTER (WHERE p.polpermissive) AS permissive,
       pg_catalog.string_agg('(' OPERATOR(pg_catalog.||) p.condition OPERATOR(pg_catalog.||) ')', ' AND ')
           FILTER (WHERE NOT p.polpermissive) AS restrictive
FROM (
    SELECT polpermissive,
           CASE WHEN $3 AND polwithcheck IS NOT NULL THEN pg_catalog.pg_get_expr(polwithcheck, polrelid)
                ELSE pg_catalog.pg_get_expr(polqual, polrelid) END AS condition
    FROM pg_catalog.pg_policy
    WHERE polrelid OPERATOR(pg_catalog.=) $1
      AND polcmd::pg_catalog.text OPERATOR(pg_catalog.=) ANY (ARRAY[$2::pg_catalog.text, '*'])
      AND EXISTS (SELECT FROM pg_catalog.unnest(polroles) AS r (role)
                  WHERE r.role OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR pg_catalog.pg_has_role(r.role, 'USAGE'))
) AS p
