CREATE OR REPLACE FUNCTION attachments_api.list_attachments(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := coalesce((request ->> 'limit')::integer, 50);
    after uuid := (request ->> 'cursor')::uuid;
    deleted boolean := request ->> 'state' = 'deleted';
    entity attachments.found_entity;
    items jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    IF request ? 'entity_type' THEN
        entity := attachments.find_entity(request ->> 'entity_type', request ->> 'entity_id');
        IF entity.is_there IS NOT TRUE OR entity.deletion_id IS NOT NULL THEN
            RETURN attachments.fail('not_found', format('There is no %s %s.', request ->> 'entity_type', request ->> 'entity_id'));
        END IF;
    END IF;
    -- Newest first: ids are made in the order of time. One more than asked says whether there are more.
    SELECT coalesce(jsonb_agg(attachments.describe(page) ORDER BY page.id DESC), '[]') INTO items
    FROM (SELECT a.* FROM attachments.attachment a
          WHERE a.tenant_id = attachments.tenant() AND a.state = 'available'
            AND (a.deleted_at IS NOT NULL) = deleted
            AND (after IS NULL OR a.id < after)
            AND CASE WHEN request ? 'entity_type'
                THEN a.entity_type = request ->> 'entity_type' AND a.entity_id = request ->> 'entity_id'
                ELSE (attachments.find_entity(a.entity_type, a.entity_id)).is_there END
          ORDER BY a.id DESC LIMIT size + 1) AS page;
    RETURN attachments.ok(jsonb_build_object(
        'items', CASE WHEN jsonb_array_length(items) > size THEN items - size ELSE items END,
        'next_cursor', CASE WHEN jsonb_array_length(items) > size THEN items -> (size - 1) -> 'id' END));
END
$$;

DROP FUNCTION attachments.find_named(jsonb);
DROP FUNCTION attachments.listing_conditions(jsonb);
DROP FUNCTION attachments.describe_listed(attachments.attachment);
DROP FUNCTION attachments.expiry_of(uuid);
DROP FUNCTION attachments.first_id_at(timestamptz);
DROP FUNCTION attachments.legacy_item(text, jsonb, text);
DROP FUNCTION attachments.show_legacy_url(text, name);
ALTER TABLE attachments.entity_type DROP COLUMN legacy_url_column;
DROP INDEX attachments.attachment_of_type;
DROP INDEX attachments.attachment_of_uploader;
DROP INDEX attachments.attachment_deleted;
DROP INDEX attachments.attachment_live;
ALTER TABLE attachments.attachment DROP COLUMN search;
DROP FUNCTION attachments.word_condition(text, text);
DROP FUNCTION attachments.shared_terms(text[], text[]);
DROP FUNCTION attachments.name_terms(text, text);
DROP FUNCTION attachments.search_terms(text, text);
DROP FUNCTION attachments.search_words(text);
