//! What an operator looks at and mends, of all tenants together. The tests count everything there is, so each has a
//! stack of its own.

use anyhow::Result;
use keepsake_tests::api::{Api, text};
use keepsake_tests::fixtures::{PNG, TEXT};
use keepsake_tests::token::{mint, unix_now};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Tenant, deletion_id, items, own_stack, run_schedule, tenant};

/// A client with these scopes, and no tenant.
fn with_scope(tenant: &Tenant<'_>, scope: &str) -> Api {
    let claims = json!({ "sub": "olga", "scope": scope, "exp": unix_now() + 60 });
    let token = mint(&claims, &tenant.stack.secrets.jwt_key);
    tenant.api.with_bearer(Some(&token))
}

async fn run(tenant: &Tenant<'_>, sql: &'static str) -> Result<()> {
    sqlx::raw_sql(sql)
        .execute(&mut tenant.database().await?)
        .await?;
    Ok(())
}

#[tokio::test]
async fn nobody_else_looks_or_acts() -> Result<()> {
    let tenant = tenant().await?;
    let watcher = with_scope(&tenant, "metrics");
    let body = json!({ "kind": "tenant", "id": tenant.name, "reason": "x" }).to_string();
    let json = [("content-type", "application/json")];
    for (method, path) in [
        (Method::GET, "history"),
        (Method::GET, "purge-plan"),
        (Method::GET, "outbox"),
        (Method::GET, "holds"),
        (Method::GET, "findings"),
        (Method::GET, "events"),
        (Method::GET, "erasures"),
        (Method::POST, "erasures"),
        (Method::POST, "events/1/retry"),
        (Method::POST, "holds"),
        (Method::POST, "holds/1/release"),
        (Method::POST, "outbox/1/retry"),
    ] {
        let path = format!("/v1/operator/{path}");
        for api in [&tenant.api, &watcher] {
            let sent = (method == Method::POST).then(|| body.clone().into_bytes());
            let reply = api.send(method.clone(), &path, &json, sent).await?;
            reply.expect_problem(403, "insufficient_scope")?;
        }
    }
    // An operator reads the numbers, too.
    let operator = with_scope(&tenant, "operator");
    operator.get("/metrics").await?.expect(200)?;
    operator
        .get("/v1/runs?outcome=failed")
        .await?
        .json_if(200)?;
    let nameless = json!({ "scope": "operator", "exp": unix_now() + 60 });
    let nameless = mint(&nameless, &tenant.stack.secrets.jwt_key);
    let nameless = tenant.api.with_bearer(Some(&nameless));
    let reply = nameless.get("/v1/operator/holds").await?;
    reply.expect_problem(401, "invalid_token")?;
    Ok(())
}

#[tokio::test]
async fn runs_leave_samples_that_thin_out_with_time() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let operator = with_scope(&tenant, "operator");
    let attachments = tenant.upload(&[PNG, TEXT]).await?;
    tenant
        .delete_attachment(&attachments[0])
        .await?
        .expect(204)?;
    run_schedule(&stack).await?;
    run_schedule(&stack).await?;
    let history = operator.get("/v1/operator/history").await?.json_if(200)?;
    let [sample] = items(&history) else {
        anyhow::bail!("two runs at once are sampled once: {history}");
    };
    assert_eq!(
        (&sample["files"]["available"], &sample["files"]["deleted"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(sample["bytes"]["available"], TEXT.bytes.len());
    assert_eq!(sample["open_deletions"], 1);

    run(
        &tenant,
        "INSERT INTO attachments.sample
         SELECT old.taken_at, s.files, s.bytes, 0, 0, 0, 0, 0, 0, 0
         FROM attachments.sample s, generate_series(now() - interval '3 years', now() - interval '5 minutes', '17 hours') AS old (taken_at);
         INSERT INTO attachments.sample
         SELECT old.taken_at, s.files, s.bytes, 0, 0, 0, 0, 0, 0, 0
         FROM (SELECT * FROM attachments.sample ORDER BY taken_at DESC LIMIT 1) AS s,
              generate_series(now() - interval '4 days', now() - interval '6 minutes', '5 minutes') AS old (taken_at)
         ON CONFLICT DO NOTHING;
         DELETE FROM attachments.sample WHERE taken_at > now() - interval '5 minutes'",
    )
    .await?;
    run_schedule(&stack).await?;
    let mut database = tenant.database().await?;
    let (all, too_old): (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE taken_at < now() - interval '2 years') FROM attachments.sample",
    )
    .fetch_one(&mut database)
    .await?;
    assert_eq!(too_old, 0);
    assert!((1200..1500).contains(&all), "{all} samples are left");
    let years = "/v1/operator/history?from=2020-01-01T00:00:00Z";
    let years = operator.get(years).await?.json_if(200)?;
    assert!(
        (50..=500).contains(&items(&years).len()),
        "{}",
        items(&years).len()
    );
    let reply = operator
        .get("/v1/operator/history?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z")
        .await?;
    reply.expect_problem(400, "invalid_field")?;
    Ok(())
}

#[tokio::test]
async fn a_hold_keeps_what_the_plan_would_take() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let operator = with_scope(&tenant, "operator");
    tenant.upload(&[PNG]).await?;
    let deleted = tenant.delete_post().await?;
    let deletion = deletion_id(&deleted)?;
    let plan = async || operator.get("/v1/operator/purge-plan").await?.json_if(200);
    let outcomes = |plan: &Value| -> Vec<String> {
        let lines = plan["lines"].as_array().into_iter().flatten();
        lines
            .filter_map(|line| Some(line["outcome"].as_str()?.to_owned()))
            .collect()
    };
    let now = plan().await?;
    assert_eq!(
        (&now["due"], outcomes(&now)),
        (&json!(0), vec!["not_expired".to_owned(); 2])
    );
    assert!(now["next_expiry"].is_string());
    let later = operator
        .get("/v1/operator/purge-plan?at=2100-01-01T00:00:00Z")
        .await?
        .json_if(200)?;
    assert_eq!(
        (&later["due"], outcomes(&later)),
        (&json!(1), vec!["purge".to_owned(); 2])
    );

    tenant.let_retention_run_out().await?;
    let place = json!({ "kind": "entity", "entity_type": "post", "id": tenant.post, "reason": "a lawsuit" });
    let hold = operator
        .post("/v1/operator/holds", &place)
        .await?
        .json_if(200)?;
    assert_eq!(
        (&hold["kind"], &hold["label"], &hold["actor"]),
        (&json!("entity"), &json!("a-post"), &json!("olga"))
    );
    let again = operator
        .post("/v1/operator/holds", &place)
        .await?
        .json_if(200)?;
    assert_eq!(again, hold);
    assert_eq!(outcomes(&plan().await?), ["held", "held"]);
    run_schedule(&stack).await?;
    let bin = tenant.api.get("/v1/deletions").await?.json_if(200)?;
    assert_eq!(items(&bin)[0]["held"], true);

    let of_deletion = json!({ "kind": "deletion", "id": deletion, "reason": "the same lawsuit" });
    let second = operator
        .post("/v1/operator/holds", &of_deletion)
        .await?
        .json_if(200)?;
    let page = operator
        .get("/v1/operator/holds?limit=1")
        .await?
        .json_if(200)?;
    assert_eq!(items(&page), std::slice::from_ref(&second));
    let cursor = text(&page, "/next_cursor")?;
    let page = operator
        .get(&format!("/v1/operator/holds?limit=1&cursor={cursor}"))
        .await?
        .json_if(200)?;
    assert_eq!(items(&page), std::slice::from_ref(&hold));
    let other = operator
        .get(&format!("/v1/operator/outbox?limit=1&cursor={cursor}"))
        .await?;
    other.expect_problem(400, "invalid_field")?;
    for hold in [&hold, &second] {
        let path = format!("/v1/operator/holds/{}/release", hold["id"]);
        let why = json!({ "reason": "settled" });
        let released = operator.post(&path, &why).await?.json_if(200)?;
        assert_eq!(
            (&released["released_by"], &released["release_reason"]),
            (&json!("olga"), &json!("settled"))
        );
        let again = operator
            .post(&path, &json!({ "reason": "twice" }))
            .await?
            .json_if(200)?;
        assert_eq!(again, released);
    }
    let released = operator
        .get("/v1/operator/holds?state=released")
        .await?
        .json_if(200)?;
    assert_eq!(items(&released).len(), 2);
    run_schedule(&stack).await?;
    assert_eq!(tenant.rows().await?, 0, "nothing holds it any more");
    let gone = operator.post("/v1/operator/holds", &of_deletion).await?;
    gone.expect_problem(410, "purged")?;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_held_is_told() -> Result<()> {
    let tenant = tenant().await?;
    let operator = with_scope(&tenant, "operator");
    let missing = "01890000-0000-7000-8000-000000000000";
    for (body, status, code) in [
        (
            json!({ "kind": "entity", "entity_type": "post", "id": "0", "reason": "x" }),
            404,
            "not_found",
        ),
        (
            json!({ "kind": "entity", "entity_type": "post", "id": "y", "reason": "x" }),
            404,
            "not_found",
        ),
        (
            json!({ "kind": "entity", "entity_type": "nothing", "id": "1", "reason": "x" }),
            404,
            "not_found",
        ),
        (
            json!({ "kind": "attachment", "id": missing, "reason": "x" }),
            404,
            "not_found",
        ),
        (
            json!({ "kind": "deletion", "id": missing, "reason": "x" }),
            404,
            "not_found",
        ),
        (
            json!({ "kind": "deletion", "id": "1", "reason": "x" }),
            404,
            "not_found",
        ),
        (
            json!({ "kind": "entity", "id": "1", "reason": "x" }),
            400,
            "invalid_field",
        ),
        (
            json!({ "kind": "tenant", "entity_type": "post", "id": "1", "reason": "x" }),
            400,
            "invalid_field",
        ),
        (
            json!({ "kind": "tenant", "id": "1", "reason": "" }),
            400,
            "invalid_field",
        ),
        (
            json!({ "kind": "all", "id": "1", "reason": "x" }),
            400,
            "invalid_field",
        ),
        (
            json!({ "kind": "tenant", "id": "1", "reason": "x", "force": true }),
            400,
            "unknown_field",
        ),
    ] {
        let reply = operator.post("/v1/operator/holds", &body).await?;
        reply.expect_problem(status, code)?;
    }
    let why = json!({ "reason": "x" });
    for (id, status, code) in [
        ("999999", 404, "not_found"),
        ("0", 400, "invalid_id"),
        ("x", 400, "invalid_id"),
    ] {
        let reply = operator
            .post(&format!("/v1/operator/holds/{id}/release"), &why)
            .await?;
        reply.expect_problem(status, code)?;
        let reply = operator
            .post_empty(&format!("/v1/operator/outbox/{id}/retry"))
            .await?;
        reply.expect_problem(status, code)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_dead_letter_is_tried_again() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let operator = with_scope(&tenant, "operator");
    run(
        &tenant,
        "INSERT INTO keepsake.outbox (object_key, relation, attempts, last_error, dead_at, next_attempt_at)
         SELECT 't/acme/post/1/0198f7d0-1111-7aaa-8bbb-00000000000' || n || '.png', 'attachments.attachment', 12,
                'the store said 503', now(), now() + interval '1 hour' FROM generate_series(1, 3) AS n;
         INSERT INTO attachments.audit_finding (object_key, kind, pass) VALUES ('a', 'orphan', 1), ('b', 'missing', 1)",
    )
    .await?;
    let first = operator
        .get("/v1/operator/outbox?state=dead&limit=2")
        .await?
        .json_if(200)?;
    let cursor = text(&first, "/next_cursor")?;
    let rest = operator
        .get(&format!(
            "/v1/operator/outbox?state=dead&limit=2&cursor={cursor}"
        ))
        .await?
        .json_if(200)?;
    assert_eq!((items(&first).len(), items(&rest).len()), (2, 1));
    let dead = &items(&first)[0];
    assert_eq!(
        (&dead["state"], &dead["last_error"]),
        (&json!("dead"), &json!("the store said 503"))
    );

    let path = format!("/v1/operator/outbox/{}/retry", dead["id"]);
    operator.post_empty(&path).await?.expect(204)?;
    operator.post_empty(&path).await?.expect(204)?;
    let waiting = operator.get("/v1/operator/outbox").await?.json_if(200)?;
    assert_eq!(items(&waiting)[0]["id"], dead["id"]);
    run_schedule(&stack).await?;
    let waiting = operator
        .get("/v1/operator/outbox?state=waiting")
        .await?
        .json_if(200)?;
    assert_eq!(
        items(&waiting),
        &[] as &[Value],
        "what is not in the bucket is deleted"
    );
    operator
        .post_empty(&path)
        .await?
        .expect_problem(404, "not_found")?;

    run(&tenant, "INSERT INTO attachments.audit_finding (object_key, kind, pass) VALUES ('a', 'orphan', 1), ('b', 'missing', 1) ON CONFLICT DO NOTHING").await?;
    let findings = operator
        .get("/v1/operator/findings?limit=1")
        .await?
        .json_if(200)?;
    assert_eq!(items(&findings)[0]["kind"], "orphan");
    let cursor = text(&findings, "/next_cursor")?;
    let findings = operator
        .get(&format!("/v1/operator/findings?limit=1&cursor={cursor}"))
        .await?
        .json_if(200)?;
    assert_eq!(items(&findings)[0]["object_key"], "b");
    Ok(())
}
