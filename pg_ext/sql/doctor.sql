-- The statements that give a publication another column list for a table, and leave its filter as it is.
CREATE FUNCTION keepsake.list_columns(publication name, relation oid, columns int2[]) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('ALTER PUBLICATION %1$I DROP TABLE %2$s; ALTER PUBLICATION %1$I ADD TABLE %2$s (%3$s)%4$s;', publication,
                  CASE c.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END || c.oid::regclass,
                  (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                   WHERE a.attrelid = c.oid AND a.attnum = ANY (columns) AND NOT a.attisdropped),
                  (SELECT ' WHERE (' || pg_get_expr(pr.prqual, pr.prrelid) || ')' FROM pg_publication_rel pr JOIN pg_publication p ON p.oid = pr.prpubid
                   WHERE p.pubname = publication AND pr.prrelid = c.oid AND pr.prqual IS NOT NULL))
    FROM pg_class c WHERE c.oid = relation
$$;

-- What would bite: from the catalog, its statistics and the registry alone, no row of the application's is read.
CREATE FUNCTION keepsake.doctor()
RETURNS TABLE (severity text, check_name text, object text, finding text, fix text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
WITH managed AS (
    SELECT m.relation, m.on_delete, m.retention, c.relkind FROM keepsake.kept_in_place m JOIN pg_class c ON c.oid = m.relation),
-- Each managed table and its partitions.
part AS (
    SELECT m.relation AS root, m.on_delete, coalesce(tree.relid, m.relation) AS relation
    FROM managed m LEFT JOIN LATERAL keepsake.partition_tree(m.relation) AS tree ON m.relkind = 'p'),
-- The triggers that there are to be, and those that there are.
wanted AS (SELECT * FROM keepsake.own_triggers()),
own_trigger AS (
    SELECT t.tgrelid, t.tgname::text AS name, t.tgenabled, p.proname AS function,
           -- What it was created as, if it fires for all rows, whatever changes in them, and at once.
           CASE WHEN t.tgqual IS NULL AND t.tgattr::text = '' AND NOT t.tgdeferrable THEN t.tgtype END AS tgtype
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE p.pronamespace = 'keepsake'::regnamespace AND NOT t.tgisinternal),
-- The columns that mark a row, of each of them.
mark AS (
    SELECT part.relation, part.root, a.attnum, a.attname, a.attnotnull, a.atthasdef
    FROM part JOIN pg_attribute a ON a.attrelid = part.relation AND a.attname IN ('deleted_at', 'deletion_id') AND NOT a.attisdropped),
-- Foreign keys into managed tables.
reference AS (
    SELECT con.oid, con.conname, con.conrelid, con.confrelid, con.conkey, con.confdelsetcols, con.convalidated,
           coalesce(o.on_delete, CASE con.confdeltype WHEN 'c' THEN 'cascade' WHEN 'n' THEN 'set null' WHEN 'd' THEN 'set default' ELSE 'restrict' END) AS action
    FROM pg_constraint con
    LEFT JOIN keepsake.reference_override o ON o.child = con.conrelid AND o.reference = con.conname
    WHERE con.contype = 'f' AND con.conparentid = 0 AND con.confrelid IN (SELECT relation FROM managed)
      AND coalesce((to_jsonb(con) ->> 'conenforced')::boolean, true)),
live_unique AS (
    SELECT i.indexrelid, i.indrelid, con.conname,
           EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
                   AND a.attname = 'deleted_at') AS with_mark
    FROM pg_index i LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.contype IN ('u', 'p')
    WHERE i.indrelid IN (SELECT relation FROM managed) AND i.indisunique AND NOT i.indisprimary AND i.indpred IS NULL
      AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = i.indexrelid)),
-- Tables that refer to managed ones, and their partitions.
referring AS (
    SELECT r.child AS root, r.parent, coalesce(tree.relid, r.child) AS relation, c.relkind = 'p' AS partitioned, c.relispartition AS is_partition
    FROM (SELECT conrelid::oid AS child, confrelid::oid AS parent FROM reference
          UNION SELECT d.child::oid, d.parent::oid FROM keepsake.declared_reference d
          WHERE (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = d.child AND a.attname IN (d.type_column, d.id_column) AND NOT a.attisdropped) = 2) AS r
    JOIN pg_class c ON c.oid = r.child LEFT JOIN LATERAL keepsake.partition_tree(r.child) AS tree ON c.relkind = 'p'),
-- Managed tables that a publication names, with the columns that it lists and filters by, and those that tell a subscriber which row is meant.
published AS (
    SELECT p.pubname, c.oid AS relation, c.relkind, pr.prattrs::int2[] AS listed, pr.prqual,
           ARRAY(SELECT DISTINCT (found.number)[1]::int2 FROM regexp_matches(pr.prqual::text, E':varattno (\\d+) ', 'g') AS found (number)) AS filtered,
           CASE c.relreplident WHEN 'f' THEN ARRAY(SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
                ELSE ARRAY(SELECT unnest(i.indkey::int2[]) FROM pg_index i WHERE i.indrelid = c.oid
                           AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END) END AS identity,
           ARRAY(SELECT m.attnum FROM mark m WHERE m.relation = c.oid) AS marks
    FROM pg_publication p JOIN pg_publication_rel pr ON pr.prpubid = p.oid JOIN pg_class c ON c.oid = pr.prrelid
    WHERE p.pubupdate AND c.oid IN (SELECT relation FROM part)),
-- Tables that are bound to the bucket, by a column that can name objects.
bound AS (
    SELECT b.relation, b.key_column, b.writable_until FROM keepsake.bound_storage b
    JOIN pg_attribute a ON a.attrelid = b.relation AND a.attname = b.key_column AND a.atttypid = 'text'::regtype AND NOT a.attisdropped)

-- Triggers that are gone.
SELECT 'error', 'trigger_missing', part.relation::regclass::text, format('The trigger %s is missing.', wanted.name),
       format('SELECT keepsake.manage(%L);', part.root::text)
FROM part JOIN pg_class c ON c.oid = part.root
JOIN wanted ON wanted.carried_by IN ('managed', part.on_delete) OR wanted.carried_by = 'managed partitioned' AND c.relkind = 'p'
WHERE NOT EXISTS (SELECT FROM own_trigger t WHERE t.tgrelid = part.relation AND t.name = wanted.name AND t.function = wanted.function)
UNION ALL
SELECT 'error', 'trigger_missing', part.relation::regclass::text, format('The trigger %s is missing.', wanted.name),
       format('SELECT keepsake.bind_storage(%L, %L%s);', bound.relation, bound.key_column, ', ' || quote_literal(bound.writable_until))
FROM bound JOIN part ON part.root = bound.relation JOIN wanted ON wanted.carried_by IN ('bound', 'bound in place')
WHERE NOT EXISTS (SELECT FROM own_trigger t WHERE t.tgrelid = part.relation AND t.name = wanted.name AND t.function = wanted.function)
UNION ALL
-- A dump that was loaded into a database of another encoding, or a database without one.
SELECT CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'info' ELSE 'error' END, 'database_encoding', current_database()::text,
       format('The encoding of the database is %s. Rows with keys that are not %s cannot be restored. Load the tables into a database with ENCODING ''UTF8''.',
              getdatabaseencoding(), CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'valid UTF-8' ELSE 'ASCII' END), ''
WHERE getdatabaseencoding() <> 'UTF8' AND EXISTS (SELECT FROM keepsake.managed_table)
UNION ALL
-- Deferred keys that are checked too early.
SELECT DISTINCT 'error', 'trigger_missing', con.confrelid::regclass::text,
       format('The trigger %s is missing: the deferred foreign key %I of %s is checked at the end of the statement.', wanted.name, con.conname, con.conrelid::regclass),
       format('SELECT keepsake.guard_references(%L);', con.conrelid::regclass)
FROM pg_constraint con JOIN wanted ON wanted.carried_by = 'deferring'
WHERE con.contype = 'f' AND con.conparentid = 0 AND con.condeferrable AND con.condeferred AND con.confdeltype = 'a' AND con.confrelid IN (SELECT relation FROM managed)
  AND NOT EXISTS (SELECT FROM own_trigger t WHERE t.tgrelid = con.confrelid AND t.name = wanted.name AND t.function = wanted.function)
UNION ALL
-- Columns that Keepsake's queries could not tell from what they know of a row.
SELECT 'error', 'column_reserved', a.attrelid::regclass::text, format('The column %I has a name that Keepsake uses for what it knows of a row, so deleted rows cannot be restored.', a.attname),
       format('ALTER TABLE %s RENAME %I TO %I;', a.attrelid::regclass, a.attname, 'own_' || a.attname)
FROM keepsake.managed_table m JOIN pg_attribute a ON a.attrelid = m.relation AND a.attnum > 0 AND NOT a.attisdropped
WHERE keepsake.is_reserved_column(a.attname)
UNION ALL
-- Triggers that do not fire.
SELECT 'error', 'trigger_disabled', t.tgrelid::regclass::text, format('The trigger %s is disabled.', t.name),
       format('ALTER TABLE %s ENABLE TRIGGER %I;', t.tgrelid::regclass, t.name)
FROM own_trigger t WHERE t.tgenabled NOT IN ('O', 'A')
UNION ALL
-- Referring tables that nobody guards.
SELECT DISTINCT 'error', 'guard_missing', r.relation::regclass::text,
       format('Guard triggers are missing: rows can refer to deleted rows of %s.%s', r.parent::regclass,
              CASE WHEN r.is_partition THEN ' Create the foreign key on the partitioned table, and drop that of the partition.' END),
       CASE WHEN r.is_partition THEN '' ELSE format('SELECT keepsake.guard_references(%L);', r.root::regclass) END
FROM referring r JOIN wanted ON wanted.carried_by = 'referring' OR wanted.carried_by = 'referring partitioned' AND r.partitioned
WHERE NOT EXISTS (SELECT FROM own_trigger t WHERE t.tgrelid = r.relation AND t.name = wanted.name AND t.function = wanted.function AND t.tgtype = wanted.tgtype)
UNION ALL
-- Triggers of the application's on DELETE, which a soft delete does not fire.
SELECT 'info', 'delete_trigger_silent', t.tgrelid::regclass::text,
       format('The trigger %I does not fire for a soft delete, which is an UPDATE of deleted_at; only a purge fires it.', t.tgname),
       ''
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN managed m ON m.relation = t.tgrelid
WHERE t.tgtype & 8 = 8 AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND p.pronamespace <> 'keepsake'::regnamespace AND m.on_delete = 'convert'
UNION ALL
-- Event triggers that do not follow DDL.
SELECT 'error', 'event_trigger_disabled', e.evtname, 'The event trigger is disabled, so Keepsake does not notice schema changes.', format('ALTER EVENT TRIGGER %I ENABLE;', e.evtname)
FROM pg_event_trigger e WHERE e.evtname IN ('keepsake_attach_partition', 'keepsake_show_detached', 'keepsake_make_room', 'keepsake_follow_ddl', 'keepsake_follow_renames', 'keepsake_follow_using', 'keepsake_forget_dropped_tables', 'keepsake_follow_archives', 'keepsake_follow_rewrite', 'keepsake_follow_drops', 'keepsake_follow_publications') AND e.evtenabled NOT IN ('O', 'A')
UNION ALL
-- The index that finds the rows of a deletion.
SELECT 'warning', 'deletion_index_missing', m.relation::text, 'There is no valid index on deletion_id, so every restore and purge reads the whole table.',
       format('SELECT keepsake.manage(%L);', m.relation)
FROM managed m
WHERE NOT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                  WHERE i.indrelid = m.relation AND a.attname = 'deletion_id' AND i.indisvalid)
UNION ALL
-- State columns that are gone.
SELECT 'error', 'state_column_lost', m.relation::text, format('The column %s %s is missing, or another column has its name. Rename it back, or restore the table from a backup.', wanted.name, wanted.type::regtype), ''
FROM managed m CROSS JOIN (VALUES ('deleted_at', 'timestamptz'::regtype), ('deletion_id', 'uuid'::regtype)) AS wanted (name, type)
WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = m.relation AND a.attname = wanted.name AND a.atttypid = wanted.type AND a.attgenerated = '' AND NOT a.attisdropped)
UNION ALL
-- A key that is gone, by which rows are known.
SELECT 'error', 'key_missing', m.relation::text, 'The table no longer has a primary key, so rows deleted from now on cannot be identified.', ''
FROM managed m WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = m.relation AND i.indisprimary)
UNION ALL
-- Tables with the columns and the index, and without the rest: a dump of the schema alone, or a tool that copies it, leaves them behind. Rows
-- that were copied out of a managed table are an ordinary table's, and what is in the schema of an extension is for its tool.
SELECT 'error', 'table_unregistered', c.oid::regclass::text,
       'The table has the columns deleted_at and deletion_id but is not managed: its rows are removed permanently, and deleted_at is an ordinary column.',
       format('SELECT keepsake.manage(%L, adopt => ''deleted_at IS NOT NULL'');', c.oid::regclass)
FROM pg_class c
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace <> 'keepsake'::regnamespace AND c.oid NOT IN (SELECT relation FROM keepsake.managed_table)
  AND 2 = (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped
           AND (a.attname, a.atttypid) IN (('deleted_at', 'timestamptz'::regtype), ('deletion_id', 'uuid'::regtype)))
  AND c.relpersistence <> 't' AND EXISTS (
      SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
      WHERE i.indrelid = c.oid AND a.attname = 'deletion_id' AND i.indpred IS NOT NULL)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_namespace'::regclass AND d.objid = c.relnamespace
                                            AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e')
UNION ALL
-- Tables that join two others.
SELECT 'info', 'join_table_key', m.relation::text,
       'A deleted link keeps its primary key. INSERT … ON CONFLICT DO NOTHING of the same link restores it; a plain INSERT fails until the purge.', ''
FROM managed m JOIN pg_index i ON i.indrelid = m.relation AND i.indisprimary AND i.indnkeyatts > 1
WHERE NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) AS k (attnum) WHERE NOT EXISTS (
    SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.conrelid = m.relation AND k.attnum = ANY (f.conkey)))
UNION ALL
-- State columns that mark new rows, or must.
SELECT 'error', 'state_column_default', m.relation::regclass::text, format('%I has a default, so every INSERT fails: a new row must be live.', m.attname),
       format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT;', m.relation::regclass, m.attname)
FROM mark m WHERE m.atthasdef
UNION ALL
SELECT 'error', 'state_column_not_null', m.relation::regclass::text, format('%I is NOT NULL, so no row can be live.', m.attname),
       format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL;', m.relation::regclass, m.attname)
FROM mark m WHERE m.attnotnull AND m.relation = m.root
UNION ALL
-- Rules of the application's own that read the marks.
SELECT 'info', 'check_reads_mark', con.conrelid::regclass::text,
       format('The constraint %I reads deleted_at or deletion_id. A deletion or restore that violates it fails.', con.conname),
       format('ALTER TABLE %s DROP CONSTRAINT %I;', con.conrelid::regclass, con.conname)
FROM pg_constraint con
WHERE con.contype = 'c' AND con.conislocal AND EXISTS (SELECT FROM mark m WHERE m.relation = con.conrelid AND m.attnum = ANY (con.conkey))
UNION ALL
SELECT DISTINCT 'info', 'generated_reads_mark', m.relation::regclass::text,
       format('The column %I is computed from deleted_at or deletion_id. A deletion or restore fails if the expression fails.', a.attname),
       CASE a.attgenerated WHEN 's' THEN format('ALTER TABLE %s ALTER COLUMN %I DROP EXPRESSION;', m.relation::regclass, a.attname)
            ELSE format('ALTER TABLE %s DROP COLUMN %I;', m.relation::regclass, a.attname) END
FROM mark m
JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = m.relation AND d.refobjsubid = m.attnum AND d.classid = 'pg_attrdef'::regclass
JOIN pg_attrdef ad ON ad.oid = d.objid
JOIN pg_attribute a ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum AND a.attgenerated <> ''
WHERE m.relation = m.root
UNION ALL
-- Owners who cannot see each other's rows.
SELECT 'error', 'reference_unreadable', r.conrelid::regclass::text,
       format('The reference %s cannot be followed: this table and %s have different owners, and row-level security hides rows of one from the owner of the other.', r.conname, r.confrelid::regclass),
       format('ALTER TABLE %s OWNER TO %I;', r.conrelid::regclass, po.rolname)
FROM (SELECT conname::text, conrelid::oid, confrelid::oid FROM reference
      UNION ALL SELECT format('%s.%s=%s', type_column, id_column, type_value), child, parent FROM keepsake.declared_reference) AS r
JOIN pg_class c ON c.oid = r.conrelid JOIN pg_roles co ON co.oid = c.relowner
JOIN pg_class p ON p.oid = r.confrelid JOIN pg_roles po ON po.oid = p.relowner
WHERE p.relrowsecurity AND NOT pg_has_role(c.relowner, p.relowner, 'USAGE') AND NOT co.rolbypassrls
   OR c.relrowsecurity AND NOT pg_has_role(p.relowner, c.relowner, 'USAGE') AND NOT po.rolbypassrls
UNION ALL
-- Space. A deletion writes the row anew, and an entry into every index over all rows: the index on deletion_id keeps it
-- from being done in place.
SELECT 'warning', 'autovacuum_off', part.relation::regclass::text, 'Each deletion, restore and purge leaves a dead row, and autovacuum, which would remove it, is off.',
       format('ALTER TABLE %s RESET (autovacuum_enabled);', part.relation::regclass)
FROM part JOIN pg_class c ON c.oid = part.relation
WHERE EXISTS (SELECT FROM pg_options_to_table(c.reloptions) AS o WHERE o.option_name = 'autovacuum_enabled' AND NOT o.option_value::boolean)
UNION ALL
SELECT 'info', 'fillfactor_unused', part.relation::regclass::text,
       format('None of %s updates used the free space that the fillfactor reserves: deletions and restores cannot be heap-only updates.',
              pg_stat_get_tuples_updated(c.oid)),
       format('ALTER TABLE %s RESET (fillfactor);', part.relation::regclass)
FROM part JOIN pg_class c ON c.oid = part.relation
WHERE EXISTS (SELECT FROM pg_options_to_table(c.reloptions) AS o WHERE o.option_name = 'fillfactor' AND o.option_value::int < 100)
  AND pg_stat_get_tuples_updated(c.oid) >= 1000 AND pg_stat_get_tuples_hot_updated(c.oid) = 0
UNION ALL
SELECT 'info', 'index_holds_deleted', c.oid::regclass::text,
       format('Most rows are deleted, and %s has an entry for each of them. Queries of live rows do not need these entries.', i.indexrelid::regclass),
       format('DROP INDEX %s; %s WHERE deleted_at IS NULL;', i.indexrelid::regclass, pg_get_indexdef(i.indexrelid))
FROM managed m JOIN pg_class c ON c.oid = m.relation JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = 'deleted_at' AND s.null_frac < 0.5
JOIN pg_index i ON i.indrelid = c.oid AND i.indisvalid AND NOT i.indisunique AND NOT i.indisexclusion AND i.indpred IS NULL
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
-- What finds referring rows, the rows of a deletion or those that name an object must hold deleted rows, too.
WHERE m.relkind = 'r' AND a.attname NOT IN ('deleted_at', 'deletion_id')
  AND NOT EXISTS (SELECT FROM pg_constraint con WHERE con.contype = 'f' AND con.conrelid = c.oid AND a.attnum = ANY (con.conkey))
  AND NOT EXISTS (SELECT FROM keepsake.declared_reference d WHERE d.child = c.oid AND a.attname IN (d.type_column, d.id_column))
  AND NOT EXISTS (SELECT FROM keepsake.bound_storage b WHERE b.relation = c.oid AND b.key_column = a.attname)
UNION ALL
-- Referring columns without an index.
SELECT 'warning', 'reference_unindexed', r.conrelid::regclass::text,
       format('No index supports the foreign key %I, so every deletion in %s reads the whole table.', r.conname, r.confrelid::regclass),
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
       CASE WHEN u.with_mark THEN format('%s does not make live rows unique, because NULLs are distinct, and each deletion locks its row as a key update does. Replace it by one without deleted_at, WHERE deleted_at IS NULL.', u.indexrelid::regclass)
            ELSE format('%s applies to deleted rows too: a deleted row blocks its values until it is purged.', u.indexrelid::regclass) END,
       CASE WHEN u.with_mark THEN '' ELSE format('SELECT * FROM keepsake.live_unique(%L);', u.indrelid::regclass) END
FROM live_unique u
UNION ALL
-- Parents that would take managed rows along for good.
SELECT 'error', 'parent_unmanaged', con.confrelid::regclass::text,
       format('A DELETE in this table cascades to %s, where it fails.', con.conrelid::regclass), format('SELECT keepsake.manage(%L);', con.confrelid::regclass)
FROM pg_constraint con
WHERE con.contype = 'f' AND con.conparentid = 0 AND con.confdeltype = 'c' AND con.conrelid IN (SELECT relation FROM managed)
  AND con.confrelid NOT IN (SELECT relation FROM managed)
UNION ALL
-- Children that restrict although their key cascades.
SELECT 'warning', 'child_unmanaged', r.conrelid::regclass::text,
       format('This table is not managed, so its rows prevent the deletion of the rows of %s that they refer to.', r.confrelid::regclass),
       format('SELECT keepsake.manage(%L);', r.conrelid::regclass)
FROM reference r WHERE r.action = 'cascade' AND r.conrelid NOT IN (SELECT relation FROM managed)
UNION ALL
-- SET NULL that cannot be done, or not undone.
SELECT 'error', 'set_null_not_null', r.conrelid::regclass::text,
       format('The foreign key %I sets NULL in a column that is NOT NULL, so referenced rows cannot be deleted.', r.conname),
       format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL;', r.conrelid::regclass, a.attname)
FROM reference r JOIN pg_attribute a ON a.attrelid = r.conrelid AND a.attnum = ANY (coalesce(r.confdelsetcols, r.conkey)) AND a.attnotnull
WHERE r.action = 'set null'
UNION ALL
SELECT 'warning', 'set_null_without_key', r.conrelid::regclass::text,
       format('The foreign key %I acts as RESTRICT: this table has no primary key, so a restore could not find its rows again.', r.conname), ''
FROM reference r
WHERE r.action IN ('set null', 'set default') AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = r.conrelid AND i.indisprimary)
UNION ALL
-- Keys that were never checked.
SELECT 'warning', 'reference_not_valid', r.conrelid::regclass::text, format('The foreign key %I was never validated.', r.conname),
       format('ALTER TABLE %s VALIDATE CONSTRAINT %I;', r.conrelid::regclass, r.conname)
FROM reference r WHERE NOT r.convalidated
UNION ALL
-- Policies that refuse the UPDATE which marks a row.
SELECT 'warning', 'policy_hides_deleted', p.polrelid::regclass::text,
       format('The policy %I makes every UPDATE of deleted_at fail. Remove deleted_at from its condition, keep the rest, and hide deleted rows with keepsake.hide_deleted().', p.polname),
       ''
FROM pg_policy p
WHERE p.polrelid IN (SELECT relation FROM managed) AND p.polcmd IN ('r', '*') AND p.polname NOT LIKE E'keepsake\\_%'
  AND pg_get_expr(p.polqual, p.polrelid) ~ 'deleted_at IS NULL'
UNION ALL
-- Hidden reads that show again.
SELECT 'warning', 'hiding_lost', c.oid::regclass::text, 'Deleted rows are no longer hidden by policy.', format('SELECT keepsake.hide_deleted(%L, ''policy'');', h.relation)
FROM keepsake.hidden_reads h LEFT JOIN LATERAL keepsake.partition_tree(h.relation) AS tree ON true
JOIN pg_class c ON c.oid = coalesce(tree.relid, h.relation)
CROSS JOIN LATERAL (SELECT array_agg(p.polname::text) AS names FROM pg_policy p WHERE p.polrelid = c.oid) AS policy
WHERE h.how = 'policy' AND (
    NOT c.relrowsecurity
    OR NOT c.relforcerowsecurity AND (h.enabled_rls AND c.oid = h.relation OR 'keepsake_show_all' = ANY (policy.names))
    OR (policy.names @> '{keepsake_hide_deleted,keepsake_keep_deleted}') IS NOT TRUE)
UNION ALL
SELECT 'warning', 'view_outdated', h.view::text, format('The view does not match the columns of %s.', h.relation), format('SELECT keepsake.hide_deleted(%L, ''view'');', h.relation)
FROM keepsake.hidden_reads h JOIN pg_class v ON v.oid = h.view
CROSS JOIN LATERAL (
    SELECT array_agg(ROW (a.attname, a.atttypid, a.atttypmod, a.attcollation)::text ORDER BY a.attname) FILTER (WHERE a.attrelid = h.view) AS shown,
           array_agg(ROW (a.attname, a.atttypid, a.atttypmod, a.attcollation)::text ORDER BY a.attname)
               FILTER (WHERE a.attrelid = h.relation AND a.attname NOT IN ('deleted_at', 'deletion_id')) AS wanted
    FROM pg_attribute a WHERE a.attrelid IN (h.view, h.relation) AND a.attnum > 0 AND NOT a.attisdropped) AS columns
WHERE columns.shown IS DISTINCT FROM columns.wanted
   OR NOT EXISTS (SELECT FROM pg_options_to_table(v.reloptions) AS o WHERE o.option_name = 'security_invoker' AND o.option_value::boolean)
UNION ALL
-- A DELETE that reports no rows.
SELECT 'warning', 'library_not_preloaded', current_database()::text,
       'The first DELETE of a session reports 0 rows, because the library is not loaded when the session starts. Keep the libraries that the setting names already.',
       format('ALTER DATABASE %I SET session_preload_libraries = ''keepsake'';', current_database())
WHERE EXISTS (SELECT FROM managed WHERE on_delete = 'convert')
  -- Nobody else may read these settings.
  AND CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE') THEN concat_ws(',', current_setting('session_preload_libraries'), current_setting('shared_preload_libraries'), (
          SELECT string_agg(setting, ',') FROM pg_db_role_setting s, unnest(s.setconfig) AS setting
          WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
            AND setting ~ '^session_preload_libraries=')) !~ E'\\ykeepsake\\y' END
UNION ALL
-- Publications that lose deletions or purges.
SELECT 'warning', 'publication_incomplete', p.pubname::text, format('The publication includes %s, but does not publish UPDATE (deletions, restores) and DELETE (purges).', t.relation::text),
       format('ALTER PUBLICATION %I SET (publish = ''insert, update, delete, truncate'');', p.pubname)
FROM pg_publication p
JOIN LATERAL (SELECT m.relation FROM managed m JOIN pg_class c ON c.oid = m.relation JOIN pg_namespace n ON n.oid = c.relnamespace
              JOIN pg_publication_tables pt ON pt.pubname = p.pubname AND pt.schemaname = n.nspname AND pt.tablename = c.relname
              ORDER BY m.relation LIMIT 1) AS t ON true
WHERE NOT (p.pubupdate AND p.pubdelete)
UNION ALL
-- Publications of deletions without what belongs to them.
SELECT 'warning', 'publication_incomplete', p.pubname::text,
       format('The publication includes keepsake.deletion, and none includes %s: a subscriber that takes over has no holds, or does not restore what SET NULL replaced.', p.lacking),
       format('ALTER PUBLICATION %I ADD TABLE %s;', p.pubname, p.lacking)
FROM (SELECT pt.pubname, (
          SELECT string_agg('keepsake.' || t.name, ', ' ORDER BY t.name) FROM unnest('{archive_undo,detached,hold}'::name[]) AS t (name)
          WHERE NOT EXISTS (SELECT FROM pg_publication_tables other WHERE other.schemaname = 'keepsake' AND other.tablename = t.name)) AS lacking
      FROM pg_publication_tables pt WHERE pt.schemaname = 'keepsake' AND pt.tablename = 'deletion') AS p
WHERE p.lacking <> ''
UNION ALL
-- Publications that refuse deletions, or do not tell of them.
SELECT 'error', 'publication_refuses_updates', p.pubname::text,
       format('Every deletion in %s fails, as every other UPDATE does, because %s.', p.relation::regclass,
              CASE WHEN p.identity <@ p.listed IS FALSE THEN 'the publication''s column list lacks columns of the replica identity'
                   ELSE 'the publication filters rows by columns that are not of the replica identity' END),
       CASE WHEN p.identity <@ p.listed IS FALSE THEN keepsake.list_columns(p.pubname, p.relation, p.listed || p.identity || p.marks)
            ELSE format('ALTER TABLE %s REPLICA IDENTITY FULL;', p.relation::regclass) END
FROM published p WHERE p.identity <@ p.listed IS FALSE OR NOT p.filtered <@ p.identity
UNION ALL
SELECT 'warning', 'publication_hides_deletions', p.pubname::text,
       format('The publication''s column list for %s lacks deleted_at or deletion_id: subscribers see deleted rows as live.', p.relation::regclass),
       keepsake.list_columns(p.pubname, p.relation, p.listed || p.marks)
FROM published p WHERE p.identity <@ p.listed AND p.marks <@ p.listed IS FALSE
UNION ALL
SELECT 'info', 'publication_filters_deleted', p.pubname::text,
       format('The publication filters rows of %s by deleted_at or deletion_id: subscribers remove a deleted row, and get a restored one anew.', p.relation::regclass), ''
FROM published p WHERE p.filtered && p.marks AND p.filtered <@ p.identity
UNION ALL
-- In binary, the registry names tables by what is their OID elsewhere.
SELECT 'error', 'subscription_binary', s.subname::text,
       'The subscription gets tables of the registry in binary, in which the publisher names tables by its own OIDs: the deletions that came so cannot be restored here. Afterwards, copy these tables again.',
       format('ALTER SUBSCRIPTION %I SET (binary = false);', s.subname)
FROM pg_subscription s
WHERE s.subbinary AND EXISTS (SELECT FROM pg_subscription_rel r JOIN pg_class c ON c.oid = r.srrelid
                              WHERE r.srsubid = s.oid AND c.relnamespace = 'keepsake'::regnamespace)
UNION ALL
-- Names that only the registry knows.
SELECT 'error', 'declared_reference_lost', d.child::text, format('The columns %I and %I of the declared reference "%s" no longer exist.', d.type_column, d.id_column, d.type_value),
       format('DELETE FROM keepsake.declared_reference WHERE child = %L::regclass AND type_value = %L;', d.child, d.type_value)
FROM keepsake.declared_reference d
WHERE (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = d.child AND a.attname IN (d.type_column, d.id_column) AND NOT a.attisdropped) < 2
UNION ALL
SELECT 'error', 'bound_column_lost', b.relation::text, format('The column %I, which names the objects, %s.', b.key_column,
       CASE WHEN a.attname IS NULL THEN 'no longer exists' ELSE 'no longer has the type text, so no object that its rows named is deleted from the bucket' END), ''
FROM keepsake.bound_storage b LEFT JOIN pg_attribute a ON a.attrelid = b.relation AND a.attname = b.key_column AND NOT a.attisdropped
WHERE a.atttypid IS DISTINCT FROM 'text'::regtype
UNION ALL
SELECT 'warning', 'override_lost', o.child::text, format('An action is set for the foreign key %I, which no longer exists.', o.reference),
       format('DELETE FROM keepsake.reference_override WHERE child = %L::regclass AND reference = %L;', o.child, o.reference)
FROM keepsake.reference_override o
WHERE NOT EXISTS (SELECT FROM pg_constraint con WHERE con.contype = 'f' AND con.conrelid = o.child AND con.conname = o.reference)
UNION ALL
-- Rows that the registry cannot find again.
SELECT 'error', 'hold_key_lost', h.relation::text,
       format('Hold %s (%s) no longer says which row it is on: its key was dropped or changed its type. It holds every deleted row of the table.', h.id, h.reason),
       format('SELECT keepsake.hold(%L, key, %L); SELECT keepsake.release(%s);', h.relation, h.reason, h.id)
FROM keepsake.lost_holds() AS lost (id) JOIN keepsake.hold h USING (id)
UNION ALL
SELECT 'error', 'set_null_lost', d.relation::text,
       format('What reference %I set NULL or to its default can no longer be put back by a restore, in this many rows: %s. The reference, or a column of it or of the table''s key, was dropped.',
              d.reference, sum(cardinality(d.row_keys))), ''
FROM keepsake.detached d JOIN keepsake.deletion open ON open.id = d.deletion_id AND open.state = 'deleted'
JOIN pg_class c ON c.oid = d.relation
WHERE NOT EXISTS (
        SELECT FROM pg_constraint con
        WHERE con.contype = 'f' AND con.conrelid = d.relation AND con.confrelid IN (SELECT relation FROM managed)
          AND d.columns = (SELECT array_agg(a.attname ORDER BY k.n) FROM unnest(con.conkey) WITH ORDINALITY AS k (attnum, n)
                           JOIN pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = k.attnum))
   OR cardinality(d.key_columns) <> (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = d.relation AND a.attname = ANY (d.key_columns) AND NOT a.attisdropped)
GROUP BY d.relation, d.reference
UNION ALL
-- What a detached partition leaves behind: its triggers do nothing there.
SELECT 'warning', 'partition_detached', t.tgrelid::regclass::text,
       'This table was detached from its partitioned table. Its deleted rows cannot be restored or purged unless it is attached again. Without the triggers it is an ordinary table, and deleted_at and deletion_id are ordinary columns.',
       string_agg(format('DROP TRIGGER %I ON %s;', t.name, t.tgrelid::regclass), ' ' ORDER BY t.name)
FROM own_trigger t
LEFT JOIN wanted ON wanted.name = t.name
WHERE (wanted.carried_by ~ '^referring') IS NOT TRUE AND t.tgrelid NOT IN (SELECT relation FROM part)
  AND EXISTS (SELECT FROM own_trigger f JOIN wanted USING (name, function) WHERE f.tgrelid = t.tgrelid AND wanted.carried_by = 'managed')
GROUP BY t.tgrelid
UNION ALL
-- Deletions whose rows are gone with their tables or partitions.
SELECT 'warning', 'deletion_lost', d.root_table::text,
       format('Open deletions whose tables were dropped or are no longer managed: %s.', count(*)),
       format('UPDATE keepsake.deletion d SET state = ''purged'', settled_at = now() WHERE d.state IN (''deleted'', ''purging'') AND d.root_table = %L::regclass AND EXISTS (SELECT FROM keepsake.deletion_table t WHERE t.deletion_id = d.id) AND NOT EXISTS (SELECT FROM keepsake.deletion_table t JOIN keepsake.managed_table m USING (relation) WHERE t.deletion_id = d.id AND t.purged < t.row_count) AND NOT EXISTS (SELECT FROM keepsake.deletion_table t JOIN keepsake.archive_table a ON t.relation::oid IN (a.relation::oid, a.former) WHERE t.deletion_id = d.id AND t.purged < t.row_count);', d.root_table)
FROM keepsake.deletion d
WHERE d.state IN ('deleted', 'purging') AND EXISTS (SELECT FROM keepsake.deletion_table t WHERE t.deletion_id = d.id)
  AND NOT EXISTS (SELECT FROM keepsake.deletion_table t JOIN keepsake.managed_table m ON m.relation = t.relation WHERE t.deletion_id = d.id AND t.purged < t.row_count)
  -- An archive outlives its table.
  AND NOT EXISTS (SELECT FROM keepsake.deletion_table t JOIN keepsake.archive_table a ON t.relation::oid IN (a.relation::oid, a.former) WHERE t.deletion_id = d.id AND t.purged < t.row_count)
GROUP BY d.root_table
UNION ALL
SELECT 'info', 'purge_put_off', array_to_string(put_off.tables, ', '),
       format('Deletions that expired more than a day ago but have rows that cannot be purged yet: %s. purge_plan() shows what holds or refers to them. The fix marks those without rows, which went with a partition, as purged.', count(*)),
       format('UPDATE keepsake.deletion d SET state = ''purged'', settled_at = now() WHERE d.state IN (''deleted'', ''purging'') AND d.put_off_at IS NOT NULL AND d.expires_at < now() - interval ''1 day'' AND ARRAY[%s]::regclass[] = (SELECT array_agg(t.relation ORDER BY t.relation) FROM keepsake.deletion_table t JOIN keepsake.managed_table m USING (relation) WHERE t.deletion_id = d.id AND t.purged < t.row_count) AND NOT EXISTS (%s);',
              (SELECT string_agg(quote_literal(name), ', ') FROM unnest(put_off.tables) AS name),
              (SELECT string_agg(format('SELECT FROM %s t WHERE t.deletion_id = d.id', name), ' UNION ALL ') FROM unnest(put_off.tables) AS name))
FROM (SELECT array_agg(t.relation::text ORDER BY t.relation) AS tables
      FROM keepsake.deletion d
      JOIN keepsake.deletion_table t ON t.deletion_id = d.id AND t.purged < t.row_count
      JOIN managed m ON m.relation = t.relation
      WHERE d.state IN ('deleted', 'purging') AND d.expires_at < now() - interval '1 day' AND d.put_off_at IS NOT NULL
      GROUP BY d.id) AS put_off
GROUP BY put_off.tables
UNION ALL
-- Holds that may have been forgotten.
SELECT 'info', 'hold_old', coalesce(h.relation::text || ' ' || h.row_key::text, 'deletion ' || h.deletion_id, 'tenant ' || h.tenant),
       format('On hold since %s by %s (%s). Release the hold if it is no longer needed.', to_char(h.held_at, 'YYYY-MM-DD'), h.actor, h.reason), format('SELECT keepsake.release(%s);', h.id)
FROM keepsake.hold h WHERE h.released_at IS NULL AND h.held_at < now() - interval '1 year'
UNION ALL
-- Work that does not get done.
SELECT 'warning', 'objects_given_up', 'keepsake.outbox', format('Objects that could not be deleted from the bucket after all attempts: %s. last_error shows why.', count(*)), 'SELECT keepsake.retry_dead_objects();'
FROM keepsake.outbox WHERE dead_at IS NOT NULL HAVING count(*) > 0
UNION ALL
SELECT 'warning', 'purge_fails', d.root_table::text, format('Deletions whose purge fails: %s. One of the errors: %s', count(*), min(d.purge_error)), ''
FROM keepsake.deletion d WHERE d.purge_error IS NOT NULL AND d.state IN ('deleted', 'purging') GROUP BY d.root_table
UNION ALL
SELECT 'warning', 'purge_behind', 'keepsake.deletion', format('Deletions that expired more than a day ago and are not purged: %s. Check that the purge runs on a schedule.', count(*)), 'CALL keepsake.purge();'
FROM keepsake.deletion d
WHERE d.state IN ('deleted', 'purging') AND d.expires_at < now() - interval '1 day' AND d.purge_error IS NULL AND d.put_off_at IS NULL HAVING count(*) > 0
UNION ALL
SELECT 'info', 'no_retention', m.relation::text, 'The retention is 0, so deleted rows can be purged at once.', format('SELECT keepsake.set_retention(%L, ''30 days'');', m.relation)
FROM managed m WHERE m.retention = interval '0'
UNION ALL
SELECT * FROM keepsake.archive_findings()
ORDER BY 1, 2, 3, 4
$$;
COMMENT ON FUNCTION keepsake.doctor IS
    'Reports problems, each with the SQL that fixes it. The fix is empty where no statement can fix the problem.';
