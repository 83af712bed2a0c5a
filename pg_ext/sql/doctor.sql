-- What would bite: from the catalog and the registry alone, no row of the application's is read.
CREATE FUNCTION keepsake.doctor()
RETURNS TABLE (severity text, check_name text, object text, finding text, fix text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
WITH managed AS (
    SELECT m.relation, m.on_delete, m.retention, c.relkind FROM keepsake.managed_table m JOIN pg_class c ON c.oid = m.relation),
-- Each managed table and its partitions.
part AS (
    SELECT m.relation AS root, m.on_delete, coalesce(tree.relid::oid, m.relation) AS relation
    FROM managed m LEFT JOIN LATERAL pg_partition_tree(m.relation) AS tree ON m.relkind = 'p'),
own_trigger AS (
    SELECT t.tgrelid, t.tgname::text AS name, t.tgenabled FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE p.pronamespace = 'keepsake'::regnamespace AND NOT t.tgisinternal),
-- Foreign keys into managed tables.
reference AS (
    SELECT con.oid, con.conname, con.conrelid, con.confrelid, con.conkey, con.convalidated,
           coalesce(o.on_delete, CASE con.confdeltype WHEN 'c' THEN 'cascade' WHEN 'n' THEN 'set null' WHEN 'd' THEN 'set default' ELSE 'restrict' END) AS action
    FROM pg_constraint con
    LEFT JOIN keepsake.reference_override o ON o.child = con.conrelid AND o.reference = con.conname
    WHERE con.contype = 'f' AND con.conparentid = 0 AND con.confrelid IN (SELECT relation FROM managed)),
live_unique AS (
    SELECT i.indexrelid, i.indrelid, con.conname,
           EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
                   AND a.attname = 'deleted_at') AS with_mark
    FROM pg_index i LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.contype IN ('u', 'p')
    WHERE i.indrelid IN (SELECT relation FROM managed) AND i.indisunique AND NOT i.indisprimary AND i.indpred IS NULL
      AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = i.indexrelid))

-- Triggers that are gone.
SELECT 'error', 'trigger_missing', part.relation::regclass::text, format('The trigger %s is missing.', wanted.name),
       format('SELECT keepsake.manage(%L);', part.root::text)
FROM part CROSS JOIN LATERAL (
    VALUES (CASE part.on_delete WHEN 'convert' THEN 'keepsake_convert_delete' WHEN 'reject' THEN 'keepsake_refuse_delete'
                                ELSE 'keepsake_allow_delete' END),
           ('keepsake_insert_live'), ('keepsake_protect_state'), ('keepsake_keep_row_key'), ('keepsake_refuse_truncate'),
           ('keepsake_finish_delete'), ('keepsake_finish_update')) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM own_trigger t WHERE t.tgrelid = part.relation AND t.name = wanted.name)
UNION ALL
-- Triggers that do not fire.
SELECT 'error', 'trigger_disabled', t.tgrelid::regclass::text, format('The trigger %s does not fire.', t.name),
       format('ALTER TABLE %s ENABLE TRIGGER %I;', t.tgrelid::regclass, t.name)
FROM own_trigger t WHERE t.tgenabled NOT IN ('O', 'A')
UNION ALL
-- Referring tables that nobody guards.
SELECT DISTINCT 'error', 'guard_missing', r.conrelid::regclass::text,
       format('Rows may come to refer to deleted ones of %s: its guards are missing.', r.confrelid::regclass),
       format('SELECT keepsake.guard_references(%L);', r.conrelid::regclass)
FROM reference r
WHERE NOT EXISTS (SELECT FROM own_trigger t WHERE t.tgrelid = r.conrelid AND t.name = 'keepsake_guard_insert')
   OR NOT EXISTS (SELECT FROM own_trigger t WHERE t.tgrelid = r.conrelid AND t.name = 'keepsake_guard_update')
UNION ALL
-- Event triggers that do not follow DDL.
SELECT 'error', 'event_trigger_disabled', e.evtname, 'DDL is not followed.', format('ALTER EVENT TRIGGER %I ENABLE;', e.evtname)
FROM pg_event_trigger e WHERE e.evtname IN ('keepsake_follow_ddl', 'keepsake_forget_dropped_tables') AND e.evtenabled NOT IN ('O', 'A')
UNION ALL
-- The index that finds the rows of a deletion.
SELECT 'warning', 'deletion_index_missing', m.relation::text, 'There is no valid index over deletion_id: every restore and purge reads the whole table.',
       format('SELECT keepsake.manage(%L);', m.relation)
FROM managed m
WHERE NOT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                  WHERE i.indrelid = m.relation AND a.attname = 'deletion_id' AND i.indisvalid)
UNION ALL
-- State columns that are gone.
SELECT 'error', 'state_column_lost', m.relation::text, format('The column %s %s is gone: rename it back, or restore the table from a backup.', wanted.name, wanted.type::regtype), ''
FROM managed m CROSS JOIN (VALUES ('deleted_at', 'timestamptz'::regtype), ('deletion_id', 'uuid'::regtype)) AS wanted (name, type)
WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = m.relation AND a.attname = wanted.name AND a.atttypid = wanted.type AND NOT a.attisdropped)
UNION ALL
-- Referring columns without an index.
SELECT 'warning', 'reference_unindexed', r.conrelid::regclass::text,
       format('Nothing finds the rows that refer by %I: every deletion in %s reads the whole table.', r.conname, r.confrelid::regclass),
       format('CREATE INDEX ON %s (%s);', r.conrelid::regclass,
              (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.n) FROM unnest(r.conkey) WITH ORDINALITY AS k (attnum, n)
               JOIN pg_attribute a ON a.attrelid = r.conrelid AND a.attnum = k.attnum))
FROM reference r
WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = r.conrelid AND i.indisvalid AND i.indkey[0] = ANY (r.conkey)
                  AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) ~ 'IS NOT NULL'))
UNION ALL
-- Unique over deleted rows as well.
SELECT CASE WHEN u.with_mark THEN 'warning' ELSE 'info' END,
       CASE WHEN u.with_mark THEN 'unique_with_deleted_at' ELSE 'unique_holds_for_deleted' END, u.indrelid::regclass::text,
       CASE WHEN u.with_mark THEN format('%s does not keep live rows apart, since two NULLs differ, and makes each deletion lock like a change of key.', u.indexrelid::regclass)
            ELSE format('%s holds for deleted rows too: they keep their place until the purge.', u.indexrelid::regclass) END,
       CASE WHEN u.conname IS NOT NULL THEN format('ALTER TABLE %s DROP CONSTRAINT %I;', u.indrelid::regclass, u.conname)
            ELSE format('DROP INDEX %s;', u.indexrelid::regclass) END
       || format(' CREATE UNIQUE INDEX ON %s (%s) WHERE deleted_at IS NULL;', u.indrelid::regclass,
                 (SELECT string_agg(pg_get_indexdef(u.indexrelid, k.n::int, false), ', ' ORDER BY k.n)
                  FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
                  LEFT JOIN LATERAL (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = u.indrelid AND a.attnum = k.attnum) AS col ON true
                  WHERE i.indexrelid = u.indexrelid AND k.n <= i.indnkeyatts AND col.attname IS DISTINCT FROM 'deleted_at'))
FROM live_unique u
UNION ALL
-- Parents that would take managed rows along for good.
SELECT 'error', 'parent_unmanaged', con.confrelid::regclass::text,
       format('A DELETE here cascades to %s, where it is refused.', con.conrelid::regclass), format('SELECT keepsake.manage(%L);', con.confrelid::regclass)
FROM pg_constraint con
WHERE con.contype = 'f' AND con.conparentid = 0 AND con.confdeltype = 'c' AND con.conrelid IN (SELECT relation FROM managed)
  AND con.confrelid NOT IN (SELECT relation FROM managed)
UNION ALL
-- Children that restrict although their key cascades.
SELECT 'warning', 'child_unmanaged', r.conrelid::regclass::text,
       format('Its rows keep those of %s that they refer to from being deleted: it is not managed.', r.confrelid::regclass),
       format('SELECT keepsake.manage(%L);', r.conrelid::regclass)
FROM reference r WHERE r.action = 'cascade' AND r.conrelid NOT IN (SELECT relation FROM managed)
UNION ALL
-- SET NULL that cannot be done, or not undone.
SELECT 'error', 'set_null_not_null', r.conrelid::regclass::text,
       format('%I sets NULL a column that is NOT NULL: what it refers to cannot be deleted.', r.conname),
       format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL;', r.conrelid::regclass, a.attname)
FROM reference r JOIN pg_attribute a ON a.attrelid = r.conrelid AND a.attnum = ANY (r.conkey) AND a.attnotnull
WHERE r.action = 'set null'
UNION ALL
SELECT 'warning', 'set_null_without_key', r.conrelid::regclass::text,
       format('%I restricts: without a primary key a restore could not find the rows again.', r.conname), ''
FROM reference r
WHERE r.action IN ('set null', 'set default') AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = r.conrelid AND i.indisprimary)
UNION ALL
-- Keys that were never checked.
SELECT 'warning', 'reference_not_valid', r.conrelid::regclass::text, format('%I was never checked for old rows.', r.conname),
       format('ALTER TABLE %s VALIDATE CONSTRAINT %I;', r.conrelid::regclass, r.conname)
FROM reference r WHERE NOT r.convalidated
UNION ALL
-- Policies that refuse the UPDATE which marks a row.
SELECT 'warning', 'policy_hides_deleted', p.polrelid::regclass::text,
       format('The policy %I makes an UPDATE of deleted_at fail.', p.polname),
       format('DROP POLICY %I ON %s; SELECT keepsake.hide_deleted(%L, ''policy'');', p.polname, p.polrelid::regclass, p.polrelid::regclass)
FROM pg_policy p
WHERE p.polrelid IN (SELECT relation FROM managed) AND p.polcmd IN ('r', '*') AND p.polname NOT LIKE 'keepsake\_%'
  AND pg_get_expr(p.polqual, p.polrelid) ~ 'deleted_at IS NULL'
UNION ALL
-- Hidden reads that show again.
SELECT 'warning', 'hiding_lost', h.relation::text, 'Deleted rows are no longer hidden by policy.', format('SELECT keepsake.hide_deleted(%L, ''policy'');', h.relation)
FROM keepsake.hidden_reads h JOIN pg_class c ON c.oid = h.relation
WHERE h.how = 'policy' AND (NOT c.relrowsecurity OR NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = h.relation AND p.polname = 'keepsake_hide_deleted'))
UNION ALL
-- A DELETE that reports no rows.
SELECT 'warning', 'library_not_preloaded', current_database()::text,
       'The first DELETE of a session reports no rows: the library is not loaded when it begins. Mind what the setting names already.',
       format('ALTER DATABASE %I SET session_preload_libraries = ''keepsake'';', current_database())
WHERE EXISTS (SELECT FROM managed WHERE on_delete = 'convert')
  AND concat_ws(',', current_setting('session_preload_libraries'), current_setting('shared_preload_libraries'), (
          SELECT string_agg(setting, ',') FROM pg_db_role_setting s, unnest(s.setconfig) AS setting
          WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
            AND setting ~ '^session_preload_libraries=')) !~ '\ykeepsake\y'
UNION ALL
-- Publications that lose deletions or purges.
SELECT 'warning', 'publication_incomplete', p.pubname::text, format('It publishes %s, but not every UPDATE (deletions, restores) and DELETE (purges).', t.relation::text),
       format('ALTER PUBLICATION %I SET (publish = ''insert, update, delete, truncate'');', p.pubname)
FROM pg_publication p
JOIN LATERAL (SELECT m.relation FROM managed m JOIN pg_class c ON c.oid = m.relation JOIN pg_namespace n ON n.oid = c.relnamespace
              JOIN pg_publication_tables pt ON pt.pubname = p.pubname AND pt.schemaname = n.nspname AND pt.tablename = c.relname
              ORDER BY m.relation LIMIT 1) AS t ON true
WHERE NOT (p.pubupdate AND p.pubdelete)
UNION ALL
-- Names that only the registry knows.
SELECT 'error', 'declared_reference_lost', d.child::text, format('The columns %I and %I of the declared reference "%s" are gone.', d.type_column, d.id_column, d.type_value),
       format('DELETE FROM keepsake.declared_reference WHERE child = %L::regclass AND type_value = %L;', d.child, d.type_value)
FROM keepsake.declared_reference d
WHERE (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = d.child AND a.attname IN (d.type_column, d.id_column) AND NOT a.attisdropped) < 2
UNION ALL
SELECT 'error', 'bound_column_lost', b.relation::text, format('The column %I, which names its objects, is gone.', b.key_column), ''
FROM keepsake.bound_storage b
WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = b.relation AND a.attname = b.key_column AND NOT a.attisdropped)
UNION ALL
SELECT 'warning', 'override_lost', o.child::text, format('There is no foreign key %I any more, for which an action is set.', o.reference),
       format('DELETE FROM keepsake.reference_override WHERE child = %L::regclass AND reference = %L;', o.child, o.reference)
FROM keepsake.reference_override o
WHERE NOT EXISTS (SELECT FROM pg_constraint con WHERE con.contype = 'f' AND con.conrelid = o.child AND con.conname = o.reference)
UNION ALL
-- Work that does not get done.
SELECT 'warning', 'objects_given_up', 'keepsake.outbox', format('Objects that could not be deleted from the bucket, as last_error says: %s.', count(*)), 'SELECT keepsake.retry_dead_objects();'
FROM keepsake.outbox WHERE dead_at IS NOT NULL HAVING count(*) > 0
UNION ALL
SELECT 'warning', 'purge_fails', d.root_table::text, format('Deletions that cannot be purged: %s. One says: %s', count(*), min(d.purge_error)), ''
FROM keepsake.deletion d WHERE d.purge_error IS NOT NULL AND d.state IN ('deleted', 'purging') GROUP BY d.root_table
UNION ALL
SELECT 'warning', 'purge_behind', 'keepsake.deletion', format('Deletions that expired more than a day ago: %s. Is the purge on a schedule?', count(*)), 'CALL keepsake.purge();'
FROM keepsake.deletion d
WHERE d.state IN ('deleted', 'purging') AND d.expires_at < now() - interval '1 day' AND d.purge_error IS NULL AND d.put_off_at IS NULL HAVING count(*) > 0
UNION ALL
SELECT 'info', 'no_retention', m.relation::text, 'What is deleted here can be purged at once.', format('SELECT keepsake.set_retention(%L, ''30 days'');', m.relation)
FROM managed m WHERE m.retention = interval '0'
ORDER BY 1, 2, 3, 4
$$;
COMMENT ON FUNCTION keepsake.doctor IS
    'What would bite, each with the SQL that mends it, or an empty fix where none can.';
