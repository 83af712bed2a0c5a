//! What a tenant and a user may hold: reserved when it is declared, given back when no URL can store
//! it any more.

use anyhow::{Result, ensure};
use keepsake_tests::fixtures::{Fixture, PNG, TEXT};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::world::{Tenant, id, run_schedule, tenant, upload_path};

const PNG_BYTES: i64 = PNG.bytes.len() as i64;

/// Sets the limits of the tenant (`subject` empty) or of one of its users.
async fn limit(
    tenant: &Tenant<'_>,
    subject: &str,
    bytes: Option<i64>,
    files: Option<i64>,
    pending: Option<i32>,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO attachments.quota (scope, tenant_id, subject, max_bytes, max_files, max_pending)
         VALUES (CASE $2 WHEN '' THEN 'tenant' ELSE 'user' END, $1, nullif($2, ''), $3, $4, $5)",
    )
    .bind(&tenant.name)
    .bind(subject)
    .bind(bytes)
    .bind(files)
    .bind(pending)
    .execute(&mut tenant.database().await?)
    .await?;
    Ok(())
}

async fn usage(tenant: &Tenant<'_>) -> Result<Value> {
    tenant.api.get("/v1/usage").await?.json_if(200)
}

/// Bytes and files, of the tenant and of the user.
async fn held(tenant: &Tenant<'_>) -> Result<[i64; 4]> {
    let usage = usage(tenant).await?;
    Ok([
        "/tenant/bytes",
        "/tenant/files",
        "/user/bytes",
        "/user/files",
    ]
    .map(|member| usage.pointer(member).and_then(Value::as_i64).unwrap_or(-1)))
}

/// Lets every upload URL of the tenant run out, and what hangs on it.
async fn let_urls_run_out(tenant: &Tenant<'_>) -> Result<()> {
    let mut database = tenant.database().await?;
    for sql in [
        "UPDATE attachments.usage_release SET due_at = now() WHERE tenant_id = $1",
        "UPDATE attachments.attachment SET writable_until = now() - interval '10 minutes' WHERE tenant_id = $1",
        "UPDATE attachments.upload_set SET expires_at = now() - interval '2 minutes' WHERE tenant_id = $1",
    ] {
        sqlx::query(sql)
            .bind(&tenant.name)
            .execute(&mut database)
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn usage_is_what_was_declared_and_not_purged() -> Result<()> {
    let tenant = tenant().await?;
    assert_eq!(held(&tenant).await?, [0, 0, 0, 0]);

    let upload = tenant.store(&[PNG]).await?;
    let one = [PNG_BYTES, 1, PNG_BYTES, 1];
    assert_eq!(held(&tenant).await?, one);
    assert_eq!(usage(&tenant).await?["user"]["pending"], 1);

    let done = tenant.complete(&upload).await?.json_if(200)?;
    assert_eq!(held(&tenant).await?, one, "completing is no second use");
    assert_eq!(usage(&tenant).await?["user"]["pending"], 0);

    tenant
        .delete_attachment(&done["attachments"][0])
        .await?
        .expect(204)?;
    assert_eq!(held(&tenant).await?, one, "what can come back still counts");

    tenant.let_retention_run_out().await?;
    let_urls_run_out(&tenant).await?;
    run_schedule(tenant.stack).await?;
    assert_eq!(held(&tenant).await?, [0, 0, 0, 0]);
    Ok(())
}

#[tokio::test]
async fn a_given_up_upload_counts_until_its_urls_have_run_out() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.declare(&[PNG]).await?;
    tenant
        .api
        .delete(&upload_path(&upload)?)
        .await?
        .expect(204)?;
    assert_eq!(held(&tenant).await?, [PNG_BYTES, 1, PNG_BYTES, 1]);
    assert_eq!(
        usage(&tenant).await?["user"]["pending"],
        1,
        "its URL still works"
    );

    let_urls_run_out(&tenant).await?;
    assert_eq!(held(&tenant).await?, [0, 0, 0, 0]);
    // What is taken off before is not taken off again.
    run_schedule(tenant.stack).await?;
    tenant.declare(&[PNG]).await?;
    assert_eq!(held(&tenant).await?, [PNG_BYTES, 1, PNG_BYTES, 1]);
    Ok(())
}

#[tokio::test]
async fn expired_and_rejected_uploads_give_back_what_they_held() -> Result<()> {
    let tenant = tenant().await?;
    tenant.declare(&[PNG]).await?;
    let_urls_run_out(&tenant).await?;
    run_schedule(tenant.stack).await?;
    assert_eq!(held(&tenant).await?, [0, 0, 0, 0]);

    // Text that says it is a picture is found out when the set is completed.
    let liar = Fixture {
        bytes: TEXT.bytes,
        ..PNG
    };
    let upload = tenant.store(&[liar]).await?;
    tenant
        .complete(&upload)
        .await?
        .expect_problem(422, "upload_rejected")?;
    assert_eq!(held(&tenant).await?[1], 1, "its URL still works");
    let_urls_run_out(&tenant).await?;
    assert_eq!(held(&tenant).await?, [0, 0, 0, 0]);
    Ok(())
}

#[tokio::test]
async fn what_is_over_the_quota_is_refused_with_its_numbers() -> Result<()> {
    let tenant = tenant().await?;
    limit(&tenant, "", Some(PNG_BYTES + 1), None, None).await?;
    tenant.declare(&[PNG]).await?;
    let reply = tenant.api.declare(tenant.entity(), &[TEXT]).await?;
    let problem = reply.expect_problem(403, "quota_exceeded")?;
    assert_eq!(
        problem["quota"],
        json!({
            "scope": "tenant",
            "max_bytes": PNG_BYTES + 1, "max_files": null,
            "used_bytes": PNG_BYTES, "used_files": 1,
            "wanted_bytes": TEXT.bytes.len(), "wanted_files": 1,
        })
    );
    assert_eq!((tenant.rows().await?, tenant.upload_sets().await?), (1, 1));
    assert_eq!(held(&tenant).await?, [PNG_BYTES, 1, PNG_BYTES, 1]);
    Ok(())
}

#[tokio::test]
async fn a_users_own_quota_is_no_one_elses() -> Result<()> {
    let tenant = tenant().await?;
    limit(&tenant, "ada", None, Some(1), None).await?;
    tenant.declare(&[PNG]).await?;
    let refused = tenant.api.declare(tenant.entity(), &[TEXT]).await?;
    let problem = refused.expect_problem(403, "quota_exceeded")?;
    assert_eq!(problem["quota"]["scope"], "user");

    let bob = tenant.user("bob");
    bob.declare(tenant.entity(), &[TEXT]).await?.expect(201)?;
    let theirs = bob.get("/v1/usage").await?.json_if(200)?;
    assert_eq!(
        (&theirs["user"]["files"], &theirs["tenant"]["files"]),
        (&json!(1), &json!(2))
    );

    let stranger = crate::world::tenant().await?;
    assert_eq!(held(&stranger).await?, [0, 0, 0, 0]);
    Ok(())
}

#[tokio::test]
async fn open_uploads_are_capped() -> Result<()> {
    let tenant = tenant().await?;
    limit(&tenant, "ada", None, None, Some(2)).await?;
    let first = tenant.store(&[PNG]).await?;
    let second = tenant.declare(&[TEXT]).await?;
    let reply = tenant.api.declare(tenant.entity(), &[TEXT]).await?;
    let problem = reply.expect_problem(429, "too_many_pending")?;
    assert_eq!(problem["quota"]["pending"], 2);
    let wait: u64 = reply.header("retry-after").unwrap_or_default().parse()?;
    assert!((1..=900).contains(&wait), "{wait}");

    // A given-up one still counts; a completed one does not.
    tenant
        .api
        .delete(&upload_path(&second)?)
        .await?
        .expect(204)?;
    let again = tenant.api.declare(tenant.entity(), &[TEXT]).await?;
    again.expect_problem(429, "too_many_pending")?;
    tenant.complete(&first).await?.expect(200)?;
    tenant.declare(&[TEXT]).await?;
    Ok(())
}

#[tokio::test]
async fn no_race_gets_past_a_quota() -> Result<()> {
    let tenant = tenant().await?;
    limit(&tenant, "", None, Some(3), None).await?;
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let (api, post) = (tenant.api.clone(), tenant.post.clone());
        tasks.spawn(async move { api.declare(("post", &post), &[PNG]).await });
    }
    let mut made = Vec::new();
    while let Some(reply) = tasks.join_next().await {
        let reply = reply??;
        match reply.status {
            201 => made.push(id(&reply.json()?)?.to_owned()),
            _ => drop(reply.expect_problem(403, "quota_exceeded")?),
        }
    }
    assert_eq!(made.len(), 3);
    assert_eq!(tenant.rows().await?, 3);
    assert_eq!(held(&tenant).await?[1], 3);
    Ok(())
}

/// Three users of one tenant declare, give up and complete at once, a few times over.
#[tokio::test]
async fn races_of_all_kinds_leave_the_usage_true() -> Result<()> {
    let tenant = tenant().await?;
    const MOST: i64 = 6;
    limit(&tenant, "", Some(MOST * PNG_BYTES), None, None).await?;
    limit(&tenant, "bob", None, Some(2), Some(1)).await?;
    let mut tasks = JoinSet::new();
    for (turn, user) in ["ada", "bob", "carl"]
        .into_iter()
        .cycle()
        .take(24)
        .enumerate()
    {
        let (api, post) = (tenant.user(user), tenant.post.clone());
        let name: &'static str = format!("{turn}.png").leak();
        let file = Fixture { name, ..PNG };
        tasks.spawn(async move {
            let declared = api.declare(("post", &post), &[file]).await?;
            if declared.status != 201 {
                let code = declared.code().unwrap_or_default();
                ensure!(
                    matches!(code.as_str(), "quota_exceeded" | "too_many_pending"),
                    "{code}"
                );
                return Ok(0);
            }
            let upload = declared.json()?;
            match turn % 3 {
                // All at once, so that they race with each other and with the next.
                0 => {
                    let path = upload_path(&upload)?;
                    let (one, two) = tokio::join!(api.delete(&path), api.delete(&path));
                    one?.expect(204)?;
                    two?.expect(204)?;
                }
                1 => {
                    api.put(&upload["files"][0], file.bytes)
                        .await?
                        .expect_stored()?;
                    let (one, two) = tokio::join!(api.complete(&upload), api.complete(&upload));
                    one?.expect(200)?;
                    two?.expect(200)?;
                }
                _ => {
                    api.put(&upload["files"][0], file.bytes)
                        .await?
                        .expect_stored()?;
                    let path = upload_path(&upload)?;
                    let (one, two) = tokio::join!(api.complete(&upload), api.delete(&path));
                    for reply in [one?, two?] {
                        ensure!(
                            matches!(reply.status, 200 | 204 | 404 | 409 | 410 | 422),
                            "{reply:?}"
                        );
                    }
                }
            }
            Ok(1)
        });
    }
    let mut declared = 0;
    while let Some(one) = tasks.join_next().await {
        declared += one??;
    }
    assert!((1..=MOST).contains(&declared), "{declared} were let in");
    let [bytes, files, ..] = held(&tenant).await?;
    assert_eq!(
        (bytes, files),
        (declared * PNG_BYTES, declared),
        "given-up ones count, too"
    );

    let_urls_run_out(&tenant).await?;
    run_schedule(tenant.stack).await?;
    let [bytes, files, ..] = held(&tenant).await?;
    let rows = tenant.rows().await?;
    assert_eq!((bytes, files), (rows * PNG_BYTES, rows));
    let of_users = "SELECT coalesce(sum(files), 0)::bigint FROM attachments.usage WHERE tenant_id = $1 AND subject <> ''";
    assert_eq!(tenant.count(of_users).await?, rows);
    Ok(())
}

#[tokio::test]
async fn the_workers_role_reads_no_quota_and_writes_no_usage() -> Result<()> {
    let tenant = tenant().await?;
    let mut database = tenant.database().await?;
    let allowed: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM unnest(ARRAY['quota', 'usage', 'usage_release', 'idempotency']) AS t (name),
                unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS right_to (verb)
         WHERE has_table_privilege('keepsake_worker', 'attachments.' || t.name, verb)",
    )
    .fetch_one(&mut database)
    .await?;
    assert_eq!(allowed, 0);
    Ok(())
}
