-- When what was deleted at deleted_at expires. 100,000 years and more are for ever: a timestamp ends before.
CREATE FUNCTION keepsake.expiry(deleted_at timestamptz, retention interval) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN retention >= interval '100000 years' THEN timestamptz 'infinity'
                ELSE deleted_at + coalesce(retention, interval '30 days') END
$$;
