-- What a write to table $1 concerns: the table, its expressions and the types of its columns.
WITH part AS (SELECT $1 AS oid UNION SELECT relid::oid FROM pg_partition_tree($1))
SELECT s.classid::oid, s.objid FROM (
    SELECT 'pg_class'::regclass, p.oid FROM part p
    UNION ALL SELECT 'pg_class'::regclass, x.indexrelid FROM pg_index x JOIN part p ON p.oid = x.indrelid
    UNION ALL SELECT 'pg_constraint'::regclass, con.oid FROM pg_constraint con JOIN part p ON p.oid = con.conrelid WHERE con.contype = 'c'
    UNION ALL SELECT 'pg_attrdef'::regclass, d.oid FROM pg_attrdef d JOIN part p ON p.oid = d.adrelid
              JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum AND a.attgenerated <> ''
    UNION ALL SELECT 'pg_policy'::regclass, pol.oid FROM pg_policy pol JOIN part p ON p.oid = pol.polrelid
              JOIN pg_class c ON c.oid = p.oid AND c.relforcerowsecurity
    UNION ALL SELECT 'pg_type'::regclass, a.atttypid FROM pg_attribute a JOIN part p ON p.oid = a.attrelid WHERE a.attnum > 0 AND NOT a.attisdropped
) AS s (classid, objid)
