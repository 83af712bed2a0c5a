-- Conflicts of a restore, explained for a person.

-- The table of a conflict's holder: that of the row itself, or of its deleted parent.
CREATE FUNCTION attachments.holder_table(conflict jsonb, item jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN conflict ? 'holder_table' THEN conflict ->> 'holder_table'
           WHEN conflict ->> 'kind' <> 'parent_deleted' THEN conflict ->> 'table'
           WHEN item ->> 'kind' = 'attachment' THEN (
               SELECT e.relation::text FROM attachments.entity_type e WHERE e.name = item ->> 'entity_type')
           ELSE (SELECT min(c.confrelid::regclass::text) FROM pg_constraint c
                 WHERE c.contype = 'f' AND c.conrelid::regclass::text = conflict ->> 'table' AND c.conname = conflict ->> 'constraint') END
$$;

CREATE FUNCTION attachments.conflict_in_words(conflict jsonb, item jsonb, holder jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT upper(left(said, 1)) || substr(said, 2)
    FROM (SELECT format(CASE conflict ->> 'kind'
            WHEN 'parent_deleted' THEN '%s cannot come back, because %s is deleted. Restore that first.'
            WHEN 'parent_missing' THEN '%s cannot come back, because what it belongs to is gone for good. Skip it.'
            WHEN 'not_null' THEN '%s cannot come back, because a column without a value needs one now. Skip it.'
            WHEN 'check' THEN '%s cannot come back, because a rule of its table refuses it now. Skip it.'
            WHEN 'no_partition' THEN '%s cannot come back, because no partition of its table takes it now. Skip it.'
            WHEN 'no_conversion' THEN '%s cannot come back, because a value of it does not fit its column any more. Skip it.'
            ELSE '%s cannot come back, because %s has its place now. Rename one of the two and try again, or skip it.' END,
        coalesce(attachments.in_words(item), format('a row of %s', conflict ->> 'table')),
        coalesce(attachments.in_words(holder), 'something you may not see')) AS said) AS sentence
$$;

-- Conflicts with the items that they are about. The keys of rows that the caller may not see are left out: the application's tables
-- may have no policies.
CREATE FUNCTION attachments.explain_conflicts(conflicts jsonb) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(c - 'deletion_id' || jsonb_build_object(
        'item', item, 'holder_item', holder, 'holder_table', holder_table,
        'holder', CASE WHEN holder IS NOT NULL THEN c -> 'holder' END,
        'detail', attachments.conflict_in_words(c, item, holder)) ORDER BY n), '[]')
    FROM jsonb_array_elements(conflicts) WITH ORDINALITY AS l (c, n),
         LATERAL attachments.show_row(c ->> 'table', c -> 'key') AS item,
         LATERAL attachments.holder_table(c, item) AS holder_table,
         LATERAL attachments.show_row(holder_table, c -> 'holder') AS holder
$$;
