-- For each table $1 an index by which to find rows by its column $2, over all rows: one that compares text, since it is
-- searched past SQL.
SELECT r.relid,
       (SELECT min(i.indexrelid::oid::bigint)::oid FROM pg_index i
        JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am am ON am.oid = ic.relam
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = r.relid AND i.indisvalid AND i.indisready AND i.indpred IS NULL
          AND am.amname = 'btree' AND a.attname = r.key_column
          AND a.atttypid IN ('text'::regtype, 'varchar'::regtype) AND EXISTS (
              SELECT FROM pg_opclass oc WHERE oc.oid = i.indclass[0] AND oc.opcintype = 'text'::regtype
                AND oc.opcnamespace = 'pg_catalog'::regnamespace)),
       r.relid::regclass::text
FROM unnest($1, $2) WITH ORDINALITY AS r (relid, key_column, n)
ORDER BY r.n
