DROP FUNCTION
    attachments_api.take_sample(jsonb), attachments_api.get_history(jsonb), attachments_api.get_purge_plan(jsonb),
    attachments_api.list_outbox(jsonb), attachments_api.retry_object(jsonb), attachments_api.list_holds(jsonb),
    attachments_api.place_hold(jsonb), attachments_api.release_hold(jsonb), attachments_api.list_findings(jsonb);

CREATE OR REPLACE FUNCTION attachments_api.list_runs(request jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT attachments.ok(jsonb_build_object(
        'items', (
            SELECT coalesce(jsonb_agg(to_jsonb(r) - 'id' ORDER BY r.id DESC), '[]')
            FROM (SELECT * FROM attachments.run ORDER BY id DESC LIMIT (request ->> 'limit')::integer) AS r),
        'audit', (
            SELECT jsonb_build_object(
                'pass', a.pass, 'pass_finished_at', a.pass_finished_at,
                'orphans', count(*) FILTER (WHERE f.kind = 'orphan'), 'missing', count(*) FILTER (WHERE f.kind = 'missing'))
            FROM attachments.audit a LEFT JOIN attachments.audit_finding f ON true GROUP BY a.is_only)))
$$;
DROP INDEX attachments.run_failed;
DROP FUNCTION attachments.describe_hold(keepsake.hold), attachments.cut_page(jsonb, integer, text), attachments.thin_samples();
DROP TABLE attachments.hold_release;
DROP TABLE attachments.sample;
