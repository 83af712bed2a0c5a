CREATE OR REPLACE VIEW attachments.metrics (metric, labels, value) AS
WITH files AS MATERIALIZED (
    SELECT CASE WHEN a.deleted_at IS NOT NULL THEN 'deleted' ELSE a.state END AS state,
           pg_catalog.count(*) AS files, pg_catalog.sum(a.byte_size) AS bytes
    FROM attachments.attachment a
    GROUP BY 1),
uploads AS MATERIALIZED (
    SELECT pg_catalog.count(*) AS pending,
           pg_catalog.count(*) FILTER (WHERE s.expires_at < pg_catalog.now()) AS overdue
    FROM attachments.upload_set s
    WHERE s.state = 'pending'),
states (state) AS (
    VALUES ('pending'), ('uploaded'), ('available'), ('rejected'), ('quarantined'), ('deleted'))
SELECT 'keepsake_attachments', pg_catalog.jsonb_build_object('state', s.state), coalesce(f.files, 0)::double precision
FROM states s LEFT JOIN files f ON f.state = s.state
UNION ALL
SELECT 'keepsake_attachment_bytes', pg_catalog.jsonb_build_object('state', s.state), coalesce(f.bytes, 0)::double precision
FROM states s LEFT JOIN files f ON f.state = s.state
UNION ALL
SELECT 'keepsake_uploads_pending', '{}', pending::double precision FROM uploads
UNION ALL
SELECT 'keepsake_uploads_overdue', '{}', overdue::double precision FROM uploads;

CREATE OR REPLACE FUNCTION attachments.label_sql(entity attachments.entity_type) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((
        SELECT format('t.%I::text', a.attname) FROM pg_attribute a
        WHERE a.attrelid = entity.relation AND a.attname = entity.label_column AND NOT a.attisdropped), 'NULL::text')
$$;

CREATE OR REPLACE FUNCTION attachments.show_label(entity text, label_column name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
BEGIN
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = entity;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no entity type %', entity
            USING ERRCODE = 'undefined_object', HINT = 'Register it with attachments.register_entity() first.';
    ELSIF label_column IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = known.relation AND a.attname = label_column AND a.attnum > 0 AND NOT a.attisdropped) THEN
        RAISE EXCEPTION '% has no column %', known.relation, label_column
            USING ERRCODE = 'undefined_column', HINT = 'Name the column that says what people call a thing, or NULL for none.';
    END IF;
    UPDATE attachments.entity_type e SET label_column = show_label.label_column WHERE e.name = entity;
    IF label_column IS NOT NULL THEN
        EXECUTE format('GRANT UPDATE (%I) ON %s TO keepsake_api', label_column, known.relation);
    END IF;
END
$$;
