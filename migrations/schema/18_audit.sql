-- The audit: whether bucket and database still agree. The bucket is walked in the order of its keys, a page with each run, over and
-- over. A page is a range of keys: what the bucket has in it and no row names is an orphan, what a row names and the bucket has not
-- is missing.

CREATE TABLE attachments.audit (
    is_only          boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    -- The next page begins after this key.
    after            text NOT NULL DEFAULT '' COLLATE "C",
    -- How many times the bucket was walked, this time included.
    pass             bigint NOT NULL DEFAULT 1,
    pass_finished_at timestamptz,
    grace            interval DEFAULT '7 days' CHECK (grace >= '1 hour')
);
COMMENT ON COLUMN attachments.audit.grace IS
    'How long an orphan must be known before it is deleted. NULL: orphans are only reported.';
INSERT INTO attachments.audit DEFAULT VALUES;

CREATE TABLE attachments.audit_finding (
    object_key text COLLATE "C" PRIMARY KEY,
    kind       text NOT NULL CHECK (kind IN ('orphan', 'missing')),
    first_seen timestamptz NOT NULL DEFAULT now(),
    last_seen  timestamptz NOT NULL DEFAULT now(),
    -- In which pass it was seen last, and in how many.
    pass       bigint NOT NULL,
    times      integer NOT NULL DEFAULT 1
);
COMMENT ON TABLE attachments.audit_finding IS
    'Objects that no row names (orphan), and rows whose object is not in the bucket (missing). The next audit removes findings that are fixed.';

-- Keys of a page that no row names and the outbox does not know: it deletes its own. Rows are there before their objects, and a key is
-- never used again.
CREATE FUNCTION attachments.orphans(keys text[]) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(key), '{}') FROM unnest(keys) AS key
    WHERE NOT EXISTS (SELECT FROM attachments.attachment a WHERE a.object_key = key)
      AND NOT EXISTS (SELECT FROM keepsake.outbox o WHERE o.object_key = key)
$$;

-- Keys that rows name in a range and that are not among those of the bucket, the first 1000. What became available a moment ago may be
-- younger than the page.
CREATE FUNCTION attachments.missing_objects(lower_key text, upper_key text, keys text[]) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(
        SELECT a.object_key FROM attachments.attachment a
        WHERE a.state IN ('available', 'quarantined', 'former') AND a.available_at < now() - interval '1 hour'
          AND a.object_key COLLATE "C" > lower_key AND (upper_key IS NULL OR a.object_key COLLATE "C" <= upper_key)
          AND NOT EXISTS (SELECT FROM unnest(keys) AS there WHERE there = a.object_key)
        ORDER BY a.object_key COLLATE "C" LIMIT 1000)
$$;

-- A finding keeps when it was first seen, and in how many passes.
CREATE FUNCTION attachments.note_findings(this_pass bigint, found_kind text, keys text[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO attachments.audit_finding AS f (object_key, kind, pass)
    SELECT key, found_kind, this_pass FROM unnest(keys) AS key
    ON CONFLICT (object_key) DO UPDATE
    SET kind = excluded.kind, pass = excluded.pass, last_seen = now(),
        first_seen = CASE WHEN f.kind = excluded.kind THEN f.first_seen ELSE now() END,
        times = CASE WHEN f.kind = excluded.kind THEN f.times + (f.pass <> excluded.pass)::integer ELSE 1 END
$$;

REVOKE ALL ON FUNCTION attachments.orphans, attachments.missing_objects, attachments.note_findings FROM PUBLIC;

CREATE FUNCTION attachments_api.audit_place(request jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT attachments.ok(jsonb_build_object('after', a.after)) FROM attachments.audit a
$$;

-- Compares a page of the bucket, its keys after `after` in order, with the rows; answers with the orphans that may go now: seen in two
-- passes at least, for the time of grace, with a key of the form ours have.
CREATE FUNCTION attachments_api.audit_objects(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place attachments.audit;
    keys text[] := ARRAY(SELECT jsonb_array_elements_text(request -> 'keys'));
    -- NULL: to the end.
    upto text COLLATE "C" := CASE WHEN (request ->> 'more')::boolean THEN keys[cardinality(keys)] END;
    missing text[];
    orphans text[];
    remove text[];
BEGIN
    SELECT * INTO place FROM attachments.audit FOR UPDATE;
    IF place.after <> request ->> 'after' OR ((request ->> 'more')::boolean AND upto IS NULL) THEN
        -- Another run did this page meanwhile, or the store listed nothing.
        RETURN attachments.ok('{"checked": 0, "orphans": 0, "missing": 0, "remove": []}');
    END IF;
    missing := attachments.missing_objects(place.after, upto, keys);
    IF cardinality(missing) = 1000 THEN
        -- So many that the page ends here.
        upto := missing[1000];
        keys := ARRAY(SELECT key FROM unnest(keys) AS key WHERE key COLLATE "C" <= upto);
    END IF;
    orphans := attachments.orphans(keys);
    PERFORM attachments.note_findings(place.pass, 'orphan', orphans), attachments.note_findings(place.pass, 'missing', missing);
    DELETE FROM attachments.audit_finding f
    WHERE f.object_key > place.after AND (upto IS NULL OR f.object_key <= upto) AND f.pass <> place.pass;
    remove := ARRAY(
        SELECT f.object_key FROM attachments.audit_finding f
        WHERE f.object_key = ANY (orphans) AND f.kind = 'orphan' AND f.times >= 2
          AND f.first_seen <= now() - place.grace AND keepsake.parse_object_key(f.object_key) IS NOT NULL);
    UPDATE attachments.audit a
    SET after = coalesce(upto, ''), pass = a.pass + (upto IS NULL)::integer,
        pass_finished_at = CASE WHEN upto IS NULL THEN now() ELSE a.pass_finished_at END;
    RETURN attachments.ok(jsonb_build_object(
        'checked', cardinality(keys), 'orphans', cardinality(orphans), 'missing', cardinality(missing), 'remove', to_jsonb(remove)));
END
$$;

CREATE FUNCTION attachments_api.list_findings(request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := (request ->> 'limit')::integer;
BEGIN
    RETURN attachments.cut_page((
        SELECT coalesce(jsonb_agg(to_jsonb(page) - 'pass' ORDER BY page.object_key), '[]')
        FROM (SELECT f.* FROM attachments.audit_finding f
              WHERE f.object_key > coalesce(request ->> 'cursor', '')
              ORDER BY f.object_key LIMIT size + 1) AS page), size, 'object_key');
END
$$;

REVOKE ALL ON FUNCTION attachments_api.audit_place, attachments_api.audit_objects, attachments_api.list_findings FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments_api.audit_place, attachments_api.audit_objects, attachments_api.list_findings TO keepsake_worker;

-- After a restore ----------------------------------------------------------------------------------
-- A database that was restored to an earlier moment has rows that had been purged since, and lacks those of uploads made since. The bucket
-- is as it is now.

-- To be called once on a restored database, before a worker runs on it: nothing that came back is purged for a week, no orphan is
-- deleted, and the audit begins anew.
CREATE FUNCTION attachments.after_restore() RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept bigint;
BEGIN
    UPDATE keepsake.deletion d SET expires_at = now() + interval '7 days'
    WHERE d.state IN ('deleted', 'purging') AND d.expires_at < now() + interval '7 days';
    GET DIAGNOSTICS kept = ROW_COUNT;
    UPDATE attachments.audit SET grace = NULL, after = '', pass = pass + 1, pass_finished_at = NULL;
    TRUNCATE attachments.audit_finding;
    RETURN jsonb_build_object('deletions_kept', kept);
END
$$;
COMMENT ON FUNCTION attachments.after_restore IS
    'Call it on a restored database before a worker runs on it: purges nothing for 7 days, deletes no orphan, and starts the audit again.';

-- What the audit found since, once its pass has finished: each file, or former version of an attachment, that came back out of retention with its bytes, each whose bytes are gone,
-- and each object whose row is gone, because it was uploaded later.
CREATE FUNCTION attachments.restore_report()
RETURNS TABLE (outcome text, attachment_id uuid, tenant_id text, file_name text, deletion_id uuid, object_key text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (SELECT a.pass_finished_at IS NULL FROM attachments.audit a) THEN
        RAISE EXCEPTION 'the audit has not walked the whole bucket yet'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Let the schedule run until attachments.audit.pass_finished_at is set.';
    END IF;
    RETURN QUERY
        SELECT 'came back', coalesce(a.version_of, a.id), a.tenant_id, a.file_name, a.deletion_id, a.object_key
        FROM attachments.attachment a JOIN keepsake.deletion d ON d.id = a.deletion_id
        JOIN keepsake.managed_table m ON m.relation = d.root_table
        WHERE a.state IN ('available', 'quarantined', 'former') AND keepsake.expiry(d.deleted_at, coalesce(d.retention, m.retention)) <= now()
          AND NOT EXISTS (SELECT FROM attachments.audit_finding f WHERE f.object_key = a.object_key)
        UNION ALL
        SELECT 'bytes are gone', coalesce(a.version_of, a.id), a.tenant_id, a.file_name, a.deletion_id, a.object_key
        FROM attachments.audit_finding f JOIN attachments.attachment a ON a.object_key = f.object_key WHERE f.kind = 'missing'
        UNION ALL
        SELECT 'row is gone', (k.key ->> 'attachment_id')::uuid, k.key ->> 'tenant', NULL, NULL, f.object_key::text
        FROM attachments.audit_finding f, LATERAL keepsake.parse_object_key(f.object_key) AS k (key) WHERE f.kind = 'orphan'
        ORDER BY 1, 3, 6;
END
$$;
COMMENT ON FUNCTION attachments.restore_report IS
    'What a restore to an earlier moment brought back, and what is gone, by the audit that after_restore() started.';

REVOKE ALL ON FUNCTION attachments.after_restore, attachments.restore_report FROM PUBLIC;
