-- Row-level policies that would bind the caller's DELETE on a table. Unqualified names are not an
-- issue: it runs with the caller's search_path, so that what pg_get_expr prints reads back the same.
SELECT pg_catalog.string_agg('(' OPERATOR(pg_catalog.||) p.qual OPERATOR(pg_catalog.||) ')', ' OR ')
           FILTER (WHERE p.polpermissive) AS permissive,
       pg_catalog.string_agg('(' OPERATOR(pg_catalog.||) p.qual OPERATOR(pg_catalog.||) ')', ' AND ')
           FILTER (WHERE NOT p.polpermissive) AS restrictive
FROM (
    SELECT polpermissive, pg_catalog.pg_get_expr(polqual, polrelid) AS qual
    FROM pg_catalog.pg_policy
    WHERE polrelid OPERATOR(pg_catalog.=) $1
      AND polcmd OPERATOR(pg_catalog.=) ANY ('{d,*}'::pg_catalog."char"[])
      AND EXISTS (SELECT FROM pg_catalog.unnest(polroles) AS r (role)
                  WHERE r.role OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR pg_catalog.pg_has_role(r.role, 'USAGE'))
) AS p
