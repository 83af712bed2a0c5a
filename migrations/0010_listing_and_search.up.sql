-- Listings: by what they are of, and by the words of their names.

-- Search ----------------------------------------------------------------------------------------
-- Words of three characters at a time, as pg_trgm has them, but by means that every installation has and with the
-- same meaning in every locale: case folded by the shared rules, accents and width taken off, any script.

CREATE FUNCTION attachments.search_words(folded text) RETURNS SETOF text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT word
    FROM regexp_split_to_table(
        regexp_replace(normalize(folded, NFKD), '[\u0300-\u036f]', '', 'g') COLLATE "C",
        -- Whatever is no letter, digit or mark in ASCII, Latin-1 and the blocks of punctuation.
        '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u2000-\u206f\u3000-\u303f]+') AS word
    WHERE word <> ''
$$;

-- The beginning of a word shows by the two spaces before it.
CREATE FUNCTION attachments.search_terms(tenant text, word text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    -- The tenant's mark keeps its terms apart in the index; that a row is the tenant's is asked for besides.
    SELECT array_agg(left(md5(tenant), 6) || substr('  ' || word, place, 3) ORDER BY place)
    FROM generate_series(1, char_length(word)) AS place
$$;

CREATE FUNCTION attachments.name_terms(tenant text, file_name text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(DISTINCT term), '{}')
    FROM attachments.search_words(keepsake.filename_comparison_key(file_name)) AS word,
         unnest(attachments.search_terms(tenant, word)) AS term
$$;

CREATE FUNCTION attachments.shared_terms(terms text[], others text[]) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 10 SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*) FROM unnest(others) AS term WHERE term = ANY (terms)
$$;

-- What a name must have of one word that is searched for: a word that begins with it; of six letters or more, a word
-- that comes near enough for one typing error. A number is never nearly right.
CREATE FUNCTION attachments.word_condition(tenant text, word text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN n < 6 OR word ~ '[0-9]' THEN format('a.search @> %L::text[]', terms)
           -- With at most three missing, one of any four is there: that much the index finds.
           ELSE format('a.search && %L::text[] AND a.search && %L::text[] AND attachments.shared_terms(a.search, %L::text[]) >= %s',
                       terms[:4], terms[n - 3:], terms, n - 3)
           END
    FROM (SELECT t AS terms, cardinality(t) AS n FROM attachments.search_terms(tenant, word) AS t) AS of_word
$$;

ALTER TABLE attachments.attachment ADD COLUMN search text[] NOT NULL
    GENERATED ALWAYS AS (attachments.name_terms(tenant_id, file_name)) STORED;
CREATE INDEX attachment_search ON attachments.attachment USING gin (search) WHERE state = 'available';

CREATE INDEX attachment_live ON attachments.attachment (tenant_id, id) WHERE state = 'available' AND deleted_at IS NULL;
CREATE INDEX attachment_deleted ON attachments.attachment (tenant_id, id) WHERE state = 'available' AND deleted_at IS NOT NULL;
CREATE INDEX attachment_of_uploader ON attachments.attachment (tenant_id, uploaded_by, id) WHERE state = 'available';
CREATE INDEX attachment_of_type ON attachments.attachment (tenant_id, media_type, id) WHERE state = 'available';

-- A URL that the application kept before it had attachments --------------------------------------

ALTER TABLE attachments.entity_type ADD COLUMN legacy_url_column name;

CREATE FUNCTION attachments.show_legacy_url(entity text, url_column name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    relation regclass := (SELECT e.relation FROM attachments.entity_type e WHERE e.name = entity);
BEGIN
    IF relation IS NULL THEN
        RAISE EXCEPTION 'there is no entity type %', entity
            USING ERRCODE = 'undefined_object', HINT = 'Register it with attachments.register_entity() first.';
    ELSIF url_column IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = url_column AND a.attnum > 0 AND NOT a.attisdropped) THEN
        RAISE EXCEPTION '% has no column %', relation, url_column
            USING ERRCODE = 'undefined_column', HINT = 'Name the column that holds the URL, or NULL for none.';
    END IF;
    UPDATE attachments.entity_type e SET legacy_url_column = url_column WHERE e.name = entity;
END
$$;
COMMENT ON FUNCTION attachments.show_legacy_url IS
    'Lists the http(s) URL that a column of an entity holds behind its attachments, to be read only; NULL stops it.';
REVOKE ALL ON FUNCTION attachments.show_legacy_url FROM PUBLIC;

-- The item for a listing, or NULL. Only what a browser may safely follow is a URL here.
CREATE FUNCTION attachments.legacy_item(entity_type text, entity_key jsonb, entity_id text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    url text;
BEGIN
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = entity_type AND e.legacy_url_column IS NOT NULL;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT t.%I::text FROM %s AS t WHERE t.%I = $1::%s',
                   known.legacy_url_column, known.relation, known.key_column, known.key_type)
    INTO url USING entity_key ->> known.key_column::text;
    IF url IS NULL OR url !~* '^https?://[^[:space:][:cntrl:]]+$' THEN
        RETURN NULL;
    END IF;
    RETURN jsonb_build_object(
        'id', NULL, 'legacy', true, 'entity_type', entity_type, 'entity_id', entity_id, 'state', 'available',
        'name', coalesce(substring(url FROM '^[^?#]*/([^/?#]+)(?:[?#]|$)'), url), 'content_url', url);
END
$$;

-- The listing -----------------------------------------------------------------------------------

-- The smallest id that can have been made at a time. Ids are made a moment after `now()`, never before.
CREATE FUNCTION attachments.first_id_at(moment timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT rpad(lpad(to_hex(greatest(0, extract(epoch FROM moment) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;

-- When the purge may take what a deletion removed. Of rows that the caller sees already.
CREATE FUNCTION attachments.expiry_of(deletion uuid) RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.expires_at FROM keepsake.deletion d WHERE d.id = deletion
$$;
REVOKE ALL ON FUNCTION attachments.expiry_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments.expiry_of TO keepsake_api;

-- As a listing shows it: a deleted one with the time it has left.
CREATE FUNCTION attachments.describe_listed(a attachments.attachment) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT attachments.describe(a) || CASE WHEN a.deletion_id IS NULL THEN '{}' ELSE (
        SELECT jsonb_build_object(
            'purge_after', expiry,
            'days_left', greatest(0, ceil(extract(epoch FROM expiry - now()) / 86400))::integer)
        FROM attachments.expiry_of(a.deletion_id) AS expiry) END
$$;

-- What a listing asks of its rows: constants, and `$1`, the request. Only what is asked for stands there, so that each
-- listing gets the plan and the index that suit it.
CREATE FUNCTION attachments.listing_conditions(request jsonb) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY[
        'a.tenant_id = attachments.tenant()', 'a.state = ''available''',
        CASE WHEN request ->> 'state' = 'deleted' THEN 'a.deleted_at IS NOT NULL' ELSE 'a.deleted_at IS NULL' END]
    || ARRAY(
        SELECT condition FROM (VALUES
            ('cursor', 'a.id < ($1 ->> ''cursor'')::uuid'),
            ('entity_type', 'a.entity_type = $1 ->> ''entity_type'' AND a.entity_id = $1 ->> ''entity_id'''),
            ('uploader', 'a.uploaded_by = $1 ->> ''uploader'''),
            ('media_type', 'a.media_type = $1 ->> ''media_type'''),
            ('created_after', 'a.created_at >= ($1 ->> ''created_after'')::timestamptz
                AND a.id >= attachments.first_id_at(($1 ->> ''created_after'')::timestamptz - interval ''1 hour'')'),
            ('created_before', 'a.created_at < ($1 ->> ''created_before'')::timestamptz
                AND a.id < attachments.first_id_at(($1 ->> ''created_before'')::timestamptz + interval ''1 hour'')')
        ) AS asked (name, condition) WHERE request ->> name IS NOT NULL)
$$;

-- The newest attachments of the tenant whose names have the words of `q`, of those that the listing asks for: at most
-- 1000, in that order. Whether the caller may see them is not asked here. Under row-level security no index over words
-- could be used, as its operators are not leakproof; hence with the rights of who migrates, and the tenant asked for.
CREATE FUNCTION attachments.find_named(request jsonb) RETURNS uuid[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    words text[] := ARRAY(SELECT attachments.word_condition(attachments.tenant(), word)
                          FROM attachments.search_words(request ->> 'q') AS word);
    found uuid[];
BEGIN
    -- What holds no word at all finds nothing.
    IF words <> '{}' THEN
        EXECUTE format('SELECT ARRAY(SELECT a.id FROM attachments.attachment a WHERE %s ORDER BY a.id DESC LIMIT 1000)',
                       array_to_string(attachments.listing_conditions(request) || words, ' AND '))
        INTO found USING request;
    END IF;
    RETURN coalesce(found, '{}');
END
$$;
REVOKE ALL ON FUNCTION attachments.find_named FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments.find_named TO keepsake_api;

CREATE OR REPLACE FUNCTION attachments_api.list_attachments(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := coalesce((request ->> 'limit')::integer, 50);
    entity attachments.found_entity;
    conditions text[] := attachments.listing_conditions(request);
    named uuid[];
    items jsonb;
    next_cursor jsonb;
    legacy jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    IF request ->> 'entity_type' IS NOT NULL THEN
        entity := attachments.find_entity(request ->> 'entity_type', request ->> 'entity_id');
        -- Of an entity that is deleted itself the bin can still be seen.
        IF entity.is_there IS NOT TRUE OR (entity.deletion_id IS NOT NULL AND request ->> 'state' IS DISTINCT FROM 'deleted') THEN
            RETURN attachments.fail('not_found', format('There is no %s %s.', request ->> 'entity_type', request ->> 'entity_id'));
        END IF;
    END IF;
    IF request ->> 'q' IS NOT NULL THEN
        named := attachments.find_named(request);
        conditions := conditions || 'a.id = ANY ($2)'::text;
    END IF;
    IF request ->> 'entity_type' IS NULL THEN
        -- The policies of the entity's table, for what is left.
        conditions := conditions || '(attachments.find_entity(a.entity_type, a.entity_id)).is_there'::text;
    END IF;
    -- Newest first: ids are made in the order of time. One more than asked says whether there are more.
    EXECUTE format(
        'SELECT coalesce(jsonb_agg(attachments.describe_listed(page) ORDER BY page.id DESC), ''[]'')
         FROM (SELECT a.* FROM attachments.attachment a WHERE %s ORDER BY a.id DESC LIMIT %s) AS page',
        array_to_string(conditions, ' AND '), size + 1)
    INTO items USING request, named;
    IF jsonb_array_length(items) > size THEN
        items := items - size;
        next_cursor := items -> (size - 1) -> 'id';
    ELSIF cardinality(named) = 1000 THEN
        -- Some were not the caller's to see; behind them there may be more.
        next_cursor := to_jsonb(named[1000]);
    ELSIF request ->> 'entity_type' IS NOT NULL AND NOT request ?| ARRAY['q', 'uploader', 'media_type', 'created_after', 'created_before']
          AND request ->> 'state' IS DISTINCT FROM 'deleted' THEN
        -- Older than all of them, so behind the last.
        legacy := attachments.legacy_item(request ->> 'entity_type', entity.key, request ->> 'entity_id');
        items := items || CASE WHEN legacy IS NULL THEN '[]'::jsonb ELSE jsonb_build_array(legacy) END;
    END IF;
    RETURN attachments.ok(jsonb_build_object('items', items, 'next_cursor', next_cursor));
END
$$;
