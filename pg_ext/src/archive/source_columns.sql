-- The columns of a table as an archive keeps them: of a domain what it is over.
SELECT a.attnum, a.attname::text AS name, base.type, base.typmod,
       a.attcollation AS "collation", a.attgenerated <> '' AS generated,
       EXISTS (SELECT FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
               WHERE i.indrelid = a.attrelid AND i.indisprimary AND k.attnum = a.attnum AND k.n <= i.indnkeyatts) AS in_key,
       format_type(base.type, base.typmod) AS type_sql,
       CASE WHEN a.attcollation <> 0 AND a.attcollation IS DISTINCT FROM t.typcollation
            THEN (SELECT format(' COLLATE %I.%I', cn.nspname, l.collname) FROM pg_collation l JOIN pg_namespace cn ON cn.oid = l.collnamespace
                  WHERE l.oid = a.attcollation) ELSE '' END AS collation_sql,
       CASE WHEN a.attstorage <> t.typstorage
            THEN CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END AS storage,
       CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END AS compression,
       -- Of a partitioned table its partitions have it.
       (SELECT (m.attmissingval::text::text[])[1] FROM pg_attribute m
        WHERE m.atthasmissing AND m.attname = a.attname
          AND m.attrelid = ANY (ARRAY(SELECT $1::oid UNION SELECT relid FROM keepsake.partition_tree($1::oid)))
        ORDER BY m.attrelid LIMIT 1) AS missing
FROM pg_attribute a
CROSS JOIN LATERAL (
    WITH RECURSIVE over (type, typmod, kind, next, next_typmod) AS (
        SELECT t.oid, a.atttypmod, t.typtype, t.typbasetype, t.typtypmod FROM pg_type t WHERE t.oid = a.atttypid
        UNION ALL
        SELECT t.oid, over.next_typmod, t.typtype, t.typbasetype, t.typtypmod FROM over JOIN pg_type t ON t.oid = over.next WHERE over.kind = 'd')
    SELECT type, typmod FROM over WHERE kind <> 'd'
) base
JOIN pg_type t ON t.oid = base.type
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
