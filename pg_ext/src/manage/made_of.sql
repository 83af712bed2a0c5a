-- What these objects ($1 the catalogs, $2 the objects) are made of.
SELECT DISTINCT n.classid::oid, n.objid FROM unnest($1::oid[], $2::oid[]) AS c (classid, objid) CROSS JOIN LATERAL (
    SELECT d.refclassid, d.refobjid FROM pg_depend d
    WHERE c.classid <> 'pg_type'::regclass AND d.classid = c.classid AND d.objid = c.objid AND d.refclassid = 'pg_type'::regclass
    UNION ALL SELECT 'pg_type'::regclass, of.oid FROM pg_type t CROSS JOIN LATERAL unnest(ARRAY[t.typelem, t.typbasetype]) AS of (oid)
              WHERE c.classid = 'pg_type'::regclass AND t.oid = c.objid
    UNION ALL SELECT 'pg_type'::regclass, of.oid FROM pg_range r CROSS JOIN LATERAL unnest(ARRAY[r.rngsubtype, r.rngtypid]) AS of (oid)
              WHERE c.classid = 'pg_type'::regclass AND c.objid IN (r.rngtypid, r.rngmultitypid)
    UNION ALL SELECT 'pg_type'::regclass, a.atttypid FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
              WHERE c.classid = 'pg_type'::regclass AND t.oid = c.objid
    UNION ALL SELECT 'pg_constraint'::regclass, con.oid FROM pg_constraint con WHERE c.classid = 'pg_type'::regclass AND con.contypid = c.objid
    UNION ALL SELECT 'pg_cast'::regclass, k.oid FROM pg_cast k WHERE c.classid = 'pg_type'::regclass AND c.objid IN (k.castsource, k.casttarget)
) AS n (classid, objid) WHERE n.objid <> 0
