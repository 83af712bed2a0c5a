-- What doctor() finds of archives: from the catalog and the registry alone.
CREATE FUNCTION keepsake.archive_findings()
RETURNS TABLE (severity text, check_name text, object text, finding text, fix text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
WITH archived AS (
    SELECT m.relation, m.on_truncate, c.relkind, c.relrowsecurity, c.relpersistence, a.archive
    FROM keepsake.managed_table m JOIN pg_class c ON c.oid = m.relation LEFT JOIN keepsake.archive_table a ON a.relation = m.relation
    WHERE m.keep = 'archive'),
-- The archives themselves, also of tables that were dropped.
archive AS (
    SELECT a.archive, a.relation, a.source_schema, a.source_name, a.object_key, c.relowner, c.relacl, c.relrowsecurity, c.relpersistence, c.relnamespace
    FROM keepsake.archive_table a JOIN pg_class c ON c.oid = a.archive),
-- What has rows: they, and their month tables.
heap AS (
    SELECT a.archive, a.relation, a.object_key, a.relowner, a.relacl, a.relpersistence, a.relnamespace, false AS is_of_month FROM archive a
    UNION ALL
    SELECT c.oid, a.relation, a.object_key, c.relowner, c.relacl, c.relpersistence, c.relnamespace, true
    FROM archive a JOIN pg_inherits h ON h.inhparent = a.archive JOIN pg_class c ON c.oid = h.inhrelid)

-- Rows that are deleted for good.
SELECT 'error', 'table_unregistered', t.tgrelid::regclass::text, 'The table has the triggers of a table with an archive but is not managed, so its rows are deleted for good. A dump of the schema alone leaves it so.',
       format('SELECT keepsake.manage(%L, keep => ''archive'');', t.tgrelid::regclass)
FROM pg_trigger t
WHERE t.tgfoid = 'keepsake.archive_row()'::regprocedure AND t.tgparentid = 0 AND NOT EXISTS (SELECT FROM keepsake.managed_table m WHERE m.relation = t.tgrelid)
UNION ALL
SELECT 'error', 'trigger_missing', t.relation::regclass::text, format('The trigger %s is missing.', t.name),
       format('SELECT keepsake.manage(%L);', t.root::regclass)
FROM keepsake.missing_archive_triggers() AS t WHERE t.carried_by NOT LIKE 'referring%'
UNION ALL
SELECT 'error', 'archive_missing', m.relation::text, 'The table has no archive, so its rows are deleted for good.', format('SELECT keepsake.manage(%L);', m.relation)
FROM archived m WHERE m.archive IS NULL
UNION ALL
SELECT 'error', 'capture_off', coalesce(r.rolname, d.datname, 'all')::text,
       'The setting keepsake.capture is off, so rows are deleted for good.',
       CASE WHEN r.oid IS NULL THEN format('ALTER DATABASE %I RESET keepsake.capture;', d.datname)
            WHEN d.oid IS NULL THEN format('ALTER ROLE %I RESET keepsake.capture;', r.rolname)
            ELSE format('ALTER ROLE %I IN DATABASE %I RESET keepsake.capture;', r.rolname, d.datname) END
FROM pg_db_role_setting s
LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole
CROSS JOIN LATERAL unnest(s.setconfig) AS setting
WHERE (s.setdatabase = 0 OR d.datname = current_database())
  AND setting ~* E'^keepsake\\.capture=' AND setting !~* '=(on|t|tr|tru|true|y|ye|yes|1)$'
UNION ALL
-- What a row names and does not hold.
SELECT 'warning', 'large_objects_unlinked', m.relation::regclass::text,
       format('The trigger %I unlinks the large objects of a row that is deleted, so that a restored row names one that is gone. Without it, vacuumlo removes those that no row names, live or archived.', t.tgname),
       format('DROP TRIGGER %I ON %s;', t.tgname, m.relation::regclass)
FROM archived m JOIN pg_trigger t ON t.tgrelid = m.relation JOIN pg_proc p ON p.oid = t.tgfoid
WHERE p.proname = 'lo_manage' AND t.tgtype & 8 = 8 AND t.tgenabled <> 'D'
UNION ALL
-- Rows that a DELETE elsewhere takes along or changes, and nobody keeps.
SELECT 'error', 'child_unmanaged', h.child::regclass::text,
       CASE WHEN h.keep = 'in place' THEN format('It refers to %s, which has an archive, but keeps its own deleted rows in place.', h.parent::regclass)
            ELSE format('A DELETE in %s %s rows of this table for good, because it is not managed.', h.parent::regclass, CASE h.action WHEN 'CASCADE' THEN 'removes' ELSE 'changes' END) END,
       CASE WHEN h.keep = 'in place' THEN format('SELECT keepsake.unmanage(%L); ', h.child::regclass) ELSE '' END
       || format('SELECT keepsake.manage(%L, keep => ''archive'', cascade => true);', h.child::regclass)
FROM (SELECT DISTINCT ON (h.child) h.* FROM keepsake.hanging_on_archived(ARRAY(SELECT oid FROM pg_class WHERE relkind IN ('r', 'p'))) AS h
      ORDER BY h.child, h.parent, h.action) AS h
UNION ALL
-- Managed schemas.
SELECT 'warning', 'table_unmanaged', u.relation::regclass::text,
       coalesce((SELECT format('The schema is managed, but this table is not: %s refers to it and keeps its deleted rows in place.', min(con.conrelid::regclass::text))
                 FROM pg_constraint con JOIN keepsake.managed_table m ON m.relation = con.conrelid AND m.keep = 'in place'
                 WHERE con.contype = 'f' AND con.confrelid = u.relation HAVING count(*) > 0),
                'The schema is managed, but this table is not: it had another owner, or was locked, or its event trigger was disabled.'),
       format('SELECT keepsake.manage(%L, %L, keep => ''archive'', on_truncate => %L, cascade => true);', u.relation::regclass, u.retention, u.on_truncate)
FROM keepsake.unmanaged_in_schema u
UNION ALL
SELECT 'info', 'table_without_key', c.oid::regclass::text, 'The schema is managed, but this table is not: it has no primary key.',
       format('SELECT keepsake.manage(%L, keep => ''archive'', cascade => true);', c.oid::regclass)
FROM keepsake.whole_schema s JOIN pg_namespace n ON n.nspname = s.schema JOIN pg_class c ON c.relnamespace = n.oid
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
  AND NOT EXISTS (SELECT FROM keepsake.managed_table m WHERE m.relation = c.oid)
  AND NOT EXISTS (SELECT FROM keepsake.whole_schema e WHERE c.oid = ANY (e.exceptions))
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
UNION ALL
-- Who may do what with archives.
SELECT 'error', 'archive_owner', a.archive::text, format('The archive belongs to %I: whoever owns it can change it, and code of its owner''s would run with his rights.', pg_get_userbyid(a.relowner)),
       format('ALTER TABLE %s OWNER TO keepsake_archive;', a.archive)
FROM heap a WHERE pg_get_userbyid(a.relowner) <> 'keepsake_archive'
UNION ALL
SELECT DISTINCT 'error', 'archive_owner', n.nspname::text,
       format('The schema of archives has another owner, %I, as after a restore into a cluster that had no role keepsake_archive.', pg_get_userbyid(n.nspowner)),
       format('ALTER SCHEMA %I OWNER TO keepsake_archive;', n.nspname)
FROM archive a JOIN pg_namespace n ON n.oid = a.relnamespace WHERE pg_get_userbyid(n.nspowner) <> 'keepsake_archive'
UNION ALL
SELECT 'warning', 'archive_granted', a.archive::text,
       format('%s may %s in the archive, which only Keepsake writes.', CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END, string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type)),
       format('REVOKE %s ON %s FROM %s CASCADE;', string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type), a.archive, CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END)
FROM heap a CROSS JOIN LATERAL aclexplode(a.relacl) AS x
-- Who may read an archive reads its month tables through it.
WHERE x.grantee <> a.relowner AND (x.privilege_type <> 'SELECT' OR a.is_of_month)
GROUP BY a.archive, x.grantee
UNION ALL
SELECT 'error', 'archive_open', a.archive::text, format('%s has row-level security, and its archive has not: whoever may read the archive sees every row.', a.relation),
       format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY; SELECT keepsake.follow_archive(%L);', a.archive, a.relation)
FROM archive a JOIN pg_class c ON c.oid = a.relation WHERE c.relrowsecurity AND NOT a.relrowsecurity
UNION ALL
SELECT 'warning', 'archive_closed', a.archive::text, format('%s has row-level security, and no policy of its archive lets its owner read that.', a.relation),
       format('SELECT keepsake.follow_archive(%L);', a.relation)
FROM archive a JOIN pg_class c ON c.oid = a.relation
WHERE c.relrowsecurity AND a.relrowsecurity AND NOT EXISTS (
    SELECT FROM pg_policy p WHERE p.polrelid = a.archive AND p.polname = 'keepsake_source_owner' AND p.polroles = ARRAY[c.relowner])
UNION ALL
-- What somebody else has put on archives: it would run, or fail, when rows are deleted.
SELECT 'error', 'archive_trigger', a.archive::text, format('The trigger %I is on the archive. Rows that are archived do not fire it.', t.tgname), format('DROP TRIGGER %I ON %s;', t.tgname, a.archive)
FROM heap a JOIN pg_trigger t ON t.tgrelid = a.archive WHERE NOT t.tgisinternal
UNION ALL
SELECT 'error', 'archive_index', a.archive::text, format('The index %I is on the archive, so its code runs with each DELETE of the table.', i.relname), format('DROP INDEX %I.%I;', n.nspname, i.relname)
FROM heap a JOIN pg_index x ON x.indrelid = a.archive JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace JOIN pg_am am ON am.oid = i.relam
WHERE NOT (am.amname = 'brin' AND x.indkey::text = '1' AND x.indexprs IS NULL AND x.indpred IS NULL)
  -- That over the key, for declared references, and that over the keys of objects: PostgreSQL's own code.
  AND NOT (am.amname = 'btree' AND x.indnatts = 1 AND NOT x.indisunique AND x.indexprs IS NULL AND x.indpred IS NULL
           AND (a.relation IS NULL OR a.object_key IS NOT NULL OR EXISTS (SELECT FROM keepsake.declared_reference d WHERE d.parent = a.relation))
           AND EXISTS (SELECT FROM pg_opclass oc JOIN pg_type t ON t.oid = oc.opcintype
                       WHERE oc.oid = x.indclass[0] AND oc.opcnamespace = 'pg_catalog'::regnamespace AND t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype <> 'p'))
  AND NOT EXISTS (SELECT FROM pg_constraint con WHERE con.conindid = x.indexrelid)
UNION ALL
SELECT DISTINCT 'error', 'archive_index_missing', a.archive::text, 'The archive has no index over the keys of the objects that its rows name, so no object can be leased for deletion.',
       format('CREATE INDEX ON %s (%I);', a.archive, at.attname)
FROM archive a JOIN keepsake.archive_column k ON k.archive = a.archive AND k.source_name = a.object_key
JOIN pg_attribute at ON at.attrelid = k.archive AND at.attname = k.archive_name AND at.atttypid IN ('text'::regtype, 'varchar'::regtype) AND NOT at.attisdropped
WHERE NOT EXISTS (SELECT FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am am ON am.oid = i.relam
                  WHERE x.indrelid = k.archive AND x.indkey[0] = at.attnum AND am.amname = 'btree' AND x.indisvalid AND x.indpred IS NULL)
UNION ALL
SELECT 'error', 'archive_constraint', a.archive::text, format('The constraint %I is on the archive. Archived rows are not held to it.', con.conname), format('ALTER TABLE %s DROP CONSTRAINT %I;', a.archive, con.conname)
FROM heap a JOIN pg_constraint con ON con.conrelid = a.archive WHERE con.contype <> 'n'
UNION ALL
SELECT 'warning', 'archive_policy', a.archive::text, format('The policy %I is on the archive, which only the table''s owner may read.', p.polname), format('DROP POLICY %I ON %s;', p.polname, a.archive)
FROM heap a JOIN pg_policy p ON p.polrelid = a.archive WHERE p.polname NOT LIKE E'keepsake\\_%'
UNION ALL
SELECT 'error', 'archive_statistics', a.archive::text, format('ANALYZE collects statistics of the column %I, and runs code of its type''s owner for that.', at.attname),
       format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS 0;', a.archive, at.attname)
FROM heap a JOIN pg_attribute at ON at.attrelid = a.archive AND at.attnum > 3 AND NOT at.attisdropped
WHERE coalesce(at.attstattarget, -1) <> 0
UNION ALL
SELECT 'error', 'archive_statistics', a.archive::text, format('ANALYZE collects the statistics %I, and runs code of others for that.', s.stxname), format('DROP STATISTICS %s.%I;', s.stxnamespace::regnamespace, s.stxname)
FROM heap a JOIN pg_statistic_ext s ON s.stxrelid = a.archive
UNION ALL
SELECT 'warning', 'archive_unlogged', a.archive::text, format('%s is logged and its archive is not: a crash empties the archive.', a.relation), format('ALTER TABLE %s SET LOGGED;', a.archive)
FROM heap a JOIN pg_class c ON c.oid = a.relation WHERE c.relpersistence = 'p' AND a.relpersistence = 'u'
UNION ALL
SELECT 'warning', 'archive_holds_type', a.archive::text, 'DROP TYPE and DROP COLLATION are refused because of columns of the archive.', format('SELECT keepsake.release_types(%L::regclass);', a.archive)
FROM heap a
WHERE EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = a.archive AND d.objsubid > 0 AND d.deptype = 'n'
              AND d.refclassid IN ('pg_type'::regclass, 'pg_collation'::regclass))
UNION ALL
-- Layouts.
SELECT 'error', 'archive_layout_lost', a.archive::text, 'keepsake.archive_column has no columns for the archive, so its rows cannot be restored. Restore keepsake.archive_column from a backup.', ''
FROM archive a WHERE NOT EXISTS (SELECT FROM keepsake.archive_column k WHERE k.archive = a.archive)
  -- Its columns may have been dropped with their types.
  AND EXISTS (SELECT FROM pg_attribute at WHERE at.attrelid = a.archive AND at.attnum > 3 AND NOT at.attisdropped)
UNION ALL
SELECT 'warning', 'archive_column_lost', a.archive::text,
       format('A column in which the archive kept values of %s is gone. Rows are restored without them.', string_agg(DISTINCT quote_ident(k.source_name), ', ')),
       format('DELETE FROM keepsake.archive_column k WHERE k.archive = %L::regclass AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = k.archive AND a.attname = k.archive_name AND NOT a.attisdropped);', a.archive)
FROM archive a JOIN keepsake.archive_column k ON k.archive = a.archive
WHERE NOT EXISTS (SELECT FROM pg_attribute at WHERE at.attrelid = k.archive AND at.attname = k.archive_name AND NOT at.attisdropped)
GROUP BY a.archive
UNION ALL
SELECT 'warning', 'archive_behind', a.archive::text, format('The archive does not have the columns that %s has now. The next DELETE adds them, but no longer knows what a new column was given in rows that were there.', a.relation),
       format('SELECT keepsake.manage(%L);', a.relation)
FROM archive a
WHERE a.relation IS NOT NULL AND EXISTS (SELECT FROM keepsake.archive_column k WHERE k.archive = a.archive) AND EXISTS (
    SELECT FROM (SELECT at.attnum, at.attname, at.atttypid, at.atttypmod, ty.typtype FROM pg_attribute at JOIN pg_type ty ON ty.oid = at.atttypid
                 WHERE at.attrelid = a.relation AND at.attnum > 0 AND NOT at.attisdropped) AS s
    FULL JOIN (SELECT k.* FROM keepsake.archive_column k
               WHERE k.archive = a.archive AND k.layout = (SELECT max(l.layout) FROM keepsake.archive_column l WHERE l.archive = a.archive)) AS k
        ON k.source_attnum = s.attnum
    -- Of a domain the archive has what it is over.
    WHERE s.attnum IS NULL OR k.source_attnum IS NULL OR s.attname <> k.source_name
       OR s.typtype <> 'd' AND (s.atttypid, s.atttypmod) <> (k.type::oid, k.typmod))
UNION ALL
SELECT 'warning', 'archive_unregistered', c.oid::regclass::text,
       'The registry does not know this archive, so its rows cannot be restored. A dump without the data of the extension leaves it, or a restore that has not ended.', ''
FROM pg_class c
WHERE c.relkind = 'r' AND c.relowner = (SELECT r.oid FROM pg_roles r WHERE r.rolname = 'keepsake_archive')
  AND NOT EXISTS (SELECT FROM archive a WHERE a.archive = c.oid) AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid)
UNION ALL
SELECT 'warning', 'archive_month_missing', a.archive::text,
       'The archive is divided by month and has no table for this month, so rows that are deleted now are purged one by one. A purge makes the table of the next month.',
       format('SELECT keepsake.archive_by_month(%L);', a.relation)
FROM keepsake.archive_table a
WHERE a.by_month AND a.relation IS NOT NULL AND NOT EXISTS (
    SELECT FROM keepsake.archive_month m WHERE m.archive = a.archive AND m.month = date_trunc('month', now() AT TIME ZONE 'UTC'))
  AND NOT keepsake.is_published(a.archive)
UNION ALL
SELECT 'info', 'archive_of_dropped', a.archive::text,
       format('The table %I.%I was dropped. Its archive stays until its retention is over; then it can be dropped.', a.source_schema, a.source_name), ''
FROM archive a WHERE a.relation IS NULL
UNION ALL
-- What copies archives.
SELECT 'warning', 'publication_of_archives', p.pubname::text,
       'The publication includes archives, so subscribers get deleted rows. '
       || CASE WHEN p.puballtables THEN 'Make it anew for the schemas or tables that are to be published.' ELSE 'Subscribers need them only to restore there.' END,
       CASE WHEN p.puballtables THEN ''
            ELSE coalesce((SELECT string_agg(format('ALTER PUBLICATION %I DROP TABLES IN SCHEMA %I;', p.pubname, n.nspname), ' ' ORDER BY n.nspname)
                           FROM pg_publication_namespace pn JOIN pg_namespace n ON n.oid = pn.pnnspid
                           WHERE pn.pnpubid = p.oid AND n.oid IN (SELECT relnamespace FROM archive)), '')
                 || coalesce((SELECT string_agg(format('ALTER PUBLICATION %I DROP TABLE %s;', p.pubname, pr.prrelid::regclass), ' ' ORDER BY pr.prrelid::regclass::text)
                              FROM pg_publication_rel pr WHERE pr.prpubid = p.oid AND pr.prrelid IN (SELECT archive::oid FROM heap)), '') END
FROM pg_publication p
WHERE p.puballtables AND EXISTS (SELECT FROM archive)
   OR EXISTS (SELECT FROM pg_publication_rel pr WHERE pr.prpubid = p.oid AND pr.prrelid IN (SELECT archive::oid FROM heap))
   OR EXISTS (SELECT FROM pg_publication_namespace pn WHERE pn.pnpubid = p.oid AND pn.pnnspid IN (SELECT relnamespace FROM archive))
UNION ALL
SELECT 'error', 'archive_without_identity', a.archive::text, format('The publication %I includes the archive, which has no replica identity, so restores and purges fail.', min(p.pubname)),
       format('ALTER TABLE %s REPLICA IDENTITY FULL;', a.archive)
FROM heap a JOIN pg_class c ON c.oid = a.archive AND c.relreplident IN ('d', 'n')
JOIN pg_publication p ON (p.pubdelete OR p.pubupdate) AND (
    p.puballtables OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = a.archive)
    OR EXISTS (SELECT FROM pg_publication_namespace n WHERE n.pnpubid = p.oid AND n.pnnspid = a.relnamespace))
GROUP BY a.archive
UNION ALL
SELECT 'warning', 'library_not_preloaded', current_database()::text,
       'The library is not loaded when a session starts. The first DELETE of a session loads it and is slower. Keep the libraries that the setting names already.',
       format('ALTER DATABASE %I SET session_preload_libraries = ''keepsake'';', current_database())
WHERE EXISTS (SELECT FROM archived) AND NOT EXISTS (SELECT FROM keepsake.kept_in_place WHERE on_delete = 'convert')
  AND concat_ws(',', current_setting('session_preload_libraries'), current_setting('shared_preload_libraries'), (
          SELECT string_agg(setting, ',') FROM pg_db_role_setting s, unnest(s.setconfig) AS setting
          WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
            AND setting ~ '^session_preload_libraries=')) !~ E'\\ykeepsake\\y'
UNION ALL
SELECT 'info', 'no_retention', m.relation::text, 'The retention is 0, so deleted rows can be purged at once.', format('SELECT keepsake.manage(%L, ''30 days'');', m.relation)
FROM archived a JOIN keepsake.managed_table m USING (relation) WHERE m.retention = interval '0'
$$;
