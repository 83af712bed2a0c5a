-- Quota: what a tenant and a user may hold, and what they do hold.

-- The row that fits best counts whole: that of the user, of every user of the tenant, of everyone. NULL is no limit. The
-- operator writes this table; nothing else does.
CREATE TABLE attachments.quota (
    scope       text NOT NULL CHECK (scope IN ('tenant', 'user')),
    tenant_id   text,
    subject     text,
    max_bytes   bigint CHECK (max_bytes >= 0),
    max_files   bigint CHECK (max_files >= 0),
    max_pending integer CHECK (max_pending >= 0),
    CONSTRAINT of_whom CHECK (subject IS NULL OR (scope = 'user' AND tenant_id IS NOT NULL)),
    CONSTRAINT pending_of_users CHECK (max_pending IS NULL OR scope = 'user')
);
CREATE UNIQUE INDEX quota_of ON attachments.quota (scope, coalesce(tenant_id, ''), coalesce(subject, ''));
COMMENT ON TABLE attachments.quota IS
    'Largest number of bytes and files of a tenant (scope tenant) or of a user (scope user). tenant_id NULL applies to every tenant, subject NULL to every user.';
COMMENT ON COLUMN attachments.quota.max_pending IS
    'Largest number of files of a user whose upload URLs are still valid, including abandoned ones.';
GRANT SELECT ON attachments.quota TO keepsake_api;
INSERT INTO attachments.quota (scope, max_pending) VALUES ('tenant', NULL), ('user', 1000);

-- What is held: of a tenant as a whole (subject ''), and of each of its users.
CREATE TABLE attachments.usage (
    tenant_id text NOT NULL,
    subject   text NOT NULL,
    bytes     bigint NOT NULL DEFAULT 0,
    files     bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, subject)
);

-- What rows that are gone give back, and when: not before the last URL that could store their bytes has run out. Written
-- without a lock, so that a purge of many tenants waits for none; subtracted by the schedule, by who would be over a quota without, and
-- by who reserves where the schedule has not come to it in time.
CREATE TABLE attachments.usage_release (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL,
    subject   text NOT NULL,
    bytes     bigint NOT NULL,
    files     bigint NOT NULL,
    due_at    timestamptz NOT NULL
);
CREATE INDEX usage_release_due ON attachments.usage_release (tenant_id, due_at);

-- What counts ------------------------------------------------------------------------------------

-- The row of attachments.quota that counts; who '' is the tenant as a whole.
CREATE FUNCTION attachments.quota_of(tenant text, who text) RETURNS attachments.quota
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT q FROM attachments.quota q
        WHERE q.scope = CASE WHEN who = '' THEN 'tenant' ELSE 'user' END
          AND (q.tenant_id IS NULL OR q.tenant_id = tenant) AND (q.subject IS NULL OR q.subject = who)
        ORDER BY q.tenant_id NULLS LAST, q.subject NULLS LAST
        LIMIT 1);
END
$$;

-- Subtracts what is due from a tenant's usage. All who change it hold the tenant's own row, so that none deadlock.
CREATE FUNCTION attachments.settle_usage(tenant text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO attachments.usage (tenant_id, subject) VALUES (tenant, '') ON CONFLICT DO NOTHING;
    PERFORM FROM attachments.usage u WHERE u.tenant_id = tenant AND u.subject = '' FOR UPDATE;
    WITH due AS (
        DELETE FROM attachments.usage_release r WHERE r.tenant_id = tenant AND r.due_at <= now()
        RETURNING r.subject, r.bytes, r.files
    ), summed AS (
        SELECT coalesce(subject, '') AS subject, sum(bytes) AS bytes, sum(files) AS files
        FROM due GROUP BY GROUPING SETS ((subject), ()) HAVING count(*) > 0
    )
    UPDATE attachments.usage u SET bytes = u.bytes - s.bytes, files = u.files - s.files
    FROM summed s WHERE u.tenant_id = tenant AND u.subject = s.subject;
END
$$;

-- Files of a user whose upload URL is still open.
CREATE FUNCTION attachments.pending_files(tenant text, who text) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT (SELECT count(*) FROM attachments.attachment a
                WHERE a.tenant_id = tenant AND a.uploaded_by = who AND a.state IN ('pending', 'uploaded'))
             + (SELECT coalesce(sum(r.files), 0)::bigint FROM attachments.usage_release r
                WHERE r.tenant_id = tenant AND r.subject = who AND r.due_at > now()));
END
$$;

-- Seconds until the first of those URLs has run out, at least 1.
CREATE FUNCTION attachments.next_room(tenant text, who text) RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT greatest(1, ceil(extract(epoch FROM min(open_until) - now())))::integer
    FROM (SELECT a.writable_until FROM attachments.attachment a
          WHERE a.tenant_id = tenant AND a.uploaded_by = who AND a.state IN ('pending', 'uploaded')
          UNION ALL
          SELECT r.due_at FROM attachments.usage_release r
          WHERE r.tenant_id = tenant AND r.subject = who AND r.due_at > now()) AS open (open_until)
$$;

-- Reserving and giving back ------------------------------------------------------------------------

-- Whether more is held than may be.
CREATE FUNCTION attachments.is_over(held attachments.usage, quota attachments.quota) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce(held.bytes > quota.max_bytes, false) OR coalesce(held.files > quota.max_files, false);
END
$$;

-- Refuses by KS002, where what has been given back is not enough: its DETAIL is the answer. The tenant's own row is locked.
CREATE FUNCTION attachments.refuse_over_quota(held attachments.usage, quota attachments.quota, bytes bigint, files bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM attachments.settle_usage(held.tenant_id);
    SELECT u.* INTO held FROM attachments.usage u WHERE u.tenant_id = held.tenant_id AND u.subject = held.subject;
    -- What is held has been raised by what is wanted already.
    IF attachments.is_over(held, quota) THEN
        RAISE EXCEPTION USING ERRCODE = 'KS002', MESSAGE = 'quota exceeded',
            DETAIL = attachments.fail('quota_exceeded',
                format('The quota of %s is exceeded. Files count until they are purged, aborted uploads until their URL expires.',
                       CASE WHEN held.subject = '' THEN 'the tenant' ELSE 'the user' END),
                jsonb_build_object('quota', jsonb_build_object(
                    'scope', quota.scope, 'max_bytes', quota.max_bytes, 'max_files', quota.max_files,
                    'used_bytes', held.bytes - bytes, 'used_files', held.files - files,
                    'wanted_bytes', bytes, 'wanted_files', files)));
    END IF;
END
$$;

-- Refuses by KS002: its DETAIL is the answer.
CREATE FUNCTION attachments.refuse_too_many_pending(quota attachments.quota, tenant text, who text, files bigint) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pending bigint;
BEGIN
    -- The new rows are among them.
    pending := attachments.pending_files(tenant, who) - files;
    IF pending + files > quota.max_pending THEN
        RAISE EXCEPTION USING ERRCODE = 'KS002', MESSAGE = 'too many pending',
            DETAIL = attachments.fail('too_many_pending',
                format('%s files have not been uploaded yet; at most %s may be pending. Complete those uploads, or wait until they expire.',
                       pending, quota.max_pending),
                jsonb_build_object('retry_after', attachments.next_room(tenant, who), 'quota', jsonb_build_object(
                    'scope', 'user', 'max_pending', quota.max_pending, 'pending', pending, 'wanted_files', files)));
    END IF;
END
$$;

-- AFTER INSERT: whatever makes an attachment, its bytes are reserved, or it is not made.
CREATE FUNCTION attachments.reserve_usage() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wanted record;
    held attachments.usage;
    quota attachments.quota;
BEGIN
    FOR wanted IN
        SELECT a.tenant_id, a.uploaded_by, sum(a.byte_size)::bigint AS bytes, count(*) AS files,
               count(*) FILTER (WHERE a.state IN ('pending', 'uploaded')) AS pending
        FROM added a GROUP BY 1, 2 ORDER BY 1, 2
    LOOP
        -- The schedule passes over a tenant whose row is locked whenever it looks: then what is due does not grow for longer than this.
        IF EXISTS (SELECT FROM attachments.usage_release r
                   WHERE r.tenant_id = wanted.tenant_id AND r.due_at <= now() - interval '10 minutes') THEN
            PERFORM attachments.settle_usage(wanted.tenant_id);
        END IF;
        -- The tenant's own row first, as everybody who changes usage.
        FOR held IN
            INSERT INTO attachments.usage AS u (tenant_id, subject, bytes, files)
            VALUES (wanted.tenant_id, '', wanted.bytes, wanted.files),
                   (wanted.tenant_id, wanted.uploaded_by, wanted.bytes, wanted.files)
            ON CONFLICT (tenant_id, subject) DO UPDATE
            SET bytes = u.bytes + excluded.bytes, files = u.files + excluded.files
            RETURNING u.*
        LOOP
            quota := attachments.quota_of(held.tenant_id, held.subject);
            IF attachments.is_over(held, quota) THEN
                PERFORM attachments.refuse_over_quota(held, quota, wanted.bytes, wanted.files);
            END IF;
        END LOOP;
        -- The last was the user's.
        IF wanted.pending > 0 AND quota.max_pending IS NOT NULL THEN
            PERFORM attachments.refuse_too_many_pending(quota, wanted.tenant_id, wanted.uploaded_by, wanted.pending);
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;

-- AFTER DELETE, which is the purge and nothing else: given back once no URL can store the bytes any more.
CREATE FUNCTION attachments.release_usage() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO attachments.usage_release (tenant_id, subject, bytes, files, due_at)
    SELECT g.tenant_id, g.uploaded_by, sum(g.byte_size), count(*), greatest(g.writable_until, now())
    FROM gone g GROUP BY g.tenant_id, g.uploaded_by, 5;
    RETURN NULL;
END
$$;

CREATE TRIGGER reserve_usage AFTER INSERT ON attachments.attachment
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION attachments.reserve_usage();
CREATE TRIGGER release_usage AFTER DELETE ON attachments.attachment
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION attachments.release_usage();

-- Showing ----------------------------------------------------------------------------------------

CREATE FUNCTION attachments.describe_usage(tenant text, who text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'bytes', coalesce(u.bytes, 0) - coalesce(d.bytes, 0), 'files', coalesce(u.files, 0) - coalesce(d.files, 0),
        'max_bytes', (q.quota).max_bytes, 'max_files', (q.quota).max_files)
    FROM (SELECT attachments.quota_of(tenant, who) AS quota) AS q
    LEFT JOIN attachments.usage u ON u.tenant_id = tenant AND u.subject = who
    LEFT JOIN LATERAL (
        SELECT sum(r.bytes) AS bytes, sum(r.files) AS files FROM attachments.usage_release r
        WHERE r.tenant_id = tenant AND (who = '' OR r.subject = who) AND r.due_at <= now()) AS d ON true
$$;

CREATE FUNCTION attachments_api.get_usage(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant text;
    who text;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    tenant := attachments.tenant();
    who := attachments.claim('sub');
    RETURN attachments.ok(jsonb_build_object(
        'tenant', attachments.describe_usage(tenant, ''),
        'user', attachments.describe_usage(tenant, who) || jsonb_build_object(
            'pending', attachments.pending_files(tenant, who),
            'max_pending', (attachments.quota_of(tenant, who)).max_pending)));
END
$$;

SELECT attachments.publish(ARRAY['get_usage']);

REVOKE ALL ON FUNCTION
    attachments.quota_of, attachments.settle_usage, attachments.pending_files, attachments.next_room, attachments.is_over, attachments.refuse_over_quota,
    attachments.refuse_too_many_pending, attachments.reserve_usage, attachments.release_usage, attachments.describe_usage
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments.quota_of, attachments.pending_files, attachments.describe_usage TO keepsake_api;
