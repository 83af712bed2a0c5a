-- Tables whose rows a DELETE in $1 takes along or changes, or that inherit from it, by how they are kept now: NULL when not at all.
SELECT d.child, c.oid::regclass::text AS shown, d.why, d.action,
       (SELECT m.keep FROM keepsake.managed_table m WHERE m.relation = d.child) AS keep
FROM (
    SELECT coalesce(pg_partition_root(con.conrelid)::oid, con.conrelid) AS child,
           format('by the foreign key %I', min(con.conname)) AS why,
           -- The worst of what its references do.
           min(CASE con.confdeltype WHEN 'c' THEN '1 cascade' WHEN 'n' THEN '2 set null' WHEN 'd' THEN '3 set default' ELSE '4 restrict' END) AS action
    FROM pg_constraint con
    -- One that is not enforced has no triggers, and so no action.
    WHERE con.contype = 'f' AND (to_jsonb(con) ->> 'conenforced')::boolean IS NOT FALSE
      AND con.confrelid IN (SELECT $1::oid UNION SELECT relid FROM keepsake.partition_tree($1::oid))
    GROUP BY 1
    UNION ALL
    SELECT h.inhrelid, 'by inheritance', '1 cascade' FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent
    WHERE h.inhparent = $1 AND p.relkind = 'r'
) AS d
JOIN pg_class c ON c.oid = d.child
WHERE d.child <> $1
ORDER BY d.action, 2
