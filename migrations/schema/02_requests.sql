-- What every call has in common: the caller's claims, and the form of an answer.
--
-- Those of one expression have it after RETURN: its names are resolved once, here, so that they need no search_path, and PostgreSQL writes the
-- expression into the statements that call them. All others are PL/pgSQL, whose plans a session keeps: an SQL function that cannot be inlined
-- is planned again for each statement that calls it, and a pinned search_path forbids to inline it.

-- The claims stand where PostgREST and Supabase set them, so that policies written for those work here.
CREATE FUNCTION attachments.claim(name text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> name;

COMMENT ON FUNCTION attachments.claim IS 'A claim of the caller''s token, set for the transaction.';

CREATE FUNCTION attachments.tenant() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'tenant';

COMMENT ON FUNCTION attachments.tenant IS 'The caller''s tenant. NULL without claims; then nothing is visible.';

-- Sets the claims of a caller who asks for deleted rows: they are visible to this call, also where a policy of the extension hides
-- them from ordinary reads.
CREATE FUNCTION attachments.begin_recovery(claims jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true), set_config('keepsake.include_deleted', 'on', true);
END
$$;

-- Answers are values: {"ok": …} or {"error": {"code", "detail", …}}. The codes and their HTTP statuses are the table of
-- keepsake-shared.
CREATE FUNCTION attachments.ok(body jsonb) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_build_object('ok', body);

CREATE FUNCTION attachments.fail(code text, detail text, more jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object('error', jsonb_build_object('code', code, 'detail', detail) || more);
END
$$;

-- A page of entries that were fetched with one more than asked: without that one, and where the next page begins.
CREATE FUNCTION attachments.cut_page(entries jsonb, size integer, id_name text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT attachments.ok(jsonb_build_object(
        'items', CASE WHEN jsonb_array_length(entries) > size THEN entries - size ELSE entries END,
        'next_cursor', CASE WHEN jsonb_array_length(entries) > size THEN entries -> (size - 1) ->> id_name END))
$$;

-- Erasures -----------------------------------------------------------------------------------------
-- What changes something of a tenant says so before it locks a row. An erasure of the tenant waits until all of these have ended, and those
-- that come later wait for it: otherwise each could hold a row that the other needs.

CREATE FUNCTION attachments.tenant_lock(tenant text) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN hashtextextended('attachments.erase ' || tenant, 0);
END
$$;

CREATE FUNCTION attachments.enter_tenant(tenant text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(attachments.tenant_lock(tenant));
END
$$;
