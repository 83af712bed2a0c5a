//! A database that is restored to an earlier moment finds the bytes of what was purged since, and tells what it does not find.

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::api::Api;
use keepsake_tests::fixtures::{CSV, JPEG, PDF, PNG, TEXT};
use keepsake_tests::requires;
use keepsake_tests::token;
use sqlx::{Connection as _, Executor as _};

use crate::world::{Tenant, attachment_path, run_schedule, s3_stack};

async fn run(tenant: &Tenant<'_>, sql: &'static str) -> Result<()> {
    tenant.database().await?.execute(sql).await?;
    Ok(())
}

#[tokio::test]
async fn it_finds_the_bytes_of_what_was_purged_since() -> Result<()> {
    requires!(S3);
    let (stack, store) = s3_stack(&[]).await?;
    let tenant = Tenant::new(&stack).await?;
    let uploaded = tenant.upload(&[PNG, JPEG, TEXT]).await?;
    let keys = tenant.object_keys().await?;
    let backup = stack.folder().join("backup");
    tenant.delete_attachment(&uploaded[0]).await?.expect(204)?;
    run(
        &tenant,
        "UPDATE keepsake.deletion SET deleted_at = deleted_at - interval '31 days', expires_at = expires_at - interval '31 days'",
    )
    .await?;
    stack.postgres.base_backup(&backup)?;
    run(
        &tenant,
        "SELECT pg_create_restore_point('before_the_purge')",
    )
    .await?;

    // Purged with the grace of the default: the schedule leaves the bytes alone.
    run(
        &tenant,
        "UPDATE attachments.object_grace SET grace = '7 days'",
    )
    .await?;
    run_schedule(&stack).await?;
    run_schedule(&stack).await?;
    assert_eq!(tenant.rows().await?, 2);
    ensure!(store.holds(&keys[0]), "the bytes went with the row");
    let waiting = tenant
        .count("SELECT count(*) FROM keepsake.outbox WHERE next_attempt_at > now() + interval '6 days' AND object_key LIKE 't/' || $1 || '/%'")
        .await?;
    assert_eq!(waiting, 1);
    let oldest =
        "SELECT value = 0 FROM keepsake.metrics WHERE metric = 'keepsake_outbox_oldest_seconds'";
    let is_calm: bool = sqlx::query_scalar(oldest)
        .fetch_one(&mut tenant.database().await?)
        .await?;
    ensure!(is_calm, "what is kept on purpose raises an alarm");
    // Purged without it, and uploaded since.
    run(&tenant, "UPDATE attachments.object_grace SET grace = '0'").await?;
    tenant.delete_attachment(&uploaded[1]).await?.expect(204)?;
    tenant.let_retention_run_out().await?;
    run_schedule(&stack).await?;
    ensure!(!store.holds(&keys[1]));
    tenant.upload(&[PDF]).await?;
    run(&tenant, "SELECT pg_switch_wal()").await?;

    let restored = stack
        .postgres
        .restored_to("before_the_purge", &backup)
        .await?;
    let mut database = restored.connect().await?;
    database
        .execute("SELECT attachments.after_restore()")
        .await?;
    let early = sqlx::query("SELECT * FROM attachments.restore_report()")
        .execute(&mut database)
        .await;
    let early = early
        .err()
        .context("it reports before the audit has finished")?;
    ensure!(
        early
            .to_string()
            .contains("has not walked the whole bucket"),
        "{early}"
    );
    // Not so young that the bucket's listing may be older.
    database
        .execute("UPDATE attachments.attachment SET available_at = now() - interval '2 hours' WHERE state = 'available'")
        .await?;
    let vars = store.settings();
    let vars: Vec<(&str, &str)> = vars
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let worker = stack.worker_on(&restored, "restored", &vars).await?;
    let schedule = Api::new(&worker.url(), None)?;
    schedule
        .get("/__scheduled?cron=*/5+*+*+*+*")
        .await?
        .expect(200)?;

    let report: Vec<(String, Option<String>)> =
        sqlx::query_as("SELECT outcome, file_name FROM attachments.restore_report()")
            .fetch_all(&mut database)
            .await?;
    let line = |outcome: &str, name: Option<&str>| (outcome.to_owned(), name.map(str::to_owned));
    assert_eq!(
        report,
        [
            line("bytes are gone", Some(JPEG.name)),
            line("came back", Some(PNG.name)),
            line("row is gone", None)
        ]
    );

    // The run purged nothing of what came back: it can be restored, and read.
    let bearer = token::mint(&token::claims(&tenant.name, "ada"), &stack.secrets.jwt_key);
    let api = Api::new(&worker.url(), Some(bearer))?;
    let path = attachment_path(&uploaded[0])?;
    api.restore(&path).await?.expect(200)?;
    let content = api.get(&format!("{path}/content")).await?;
    let location = content
        .header("location")
        .context("no redirect")?
        .to_owned();
    let bytes = api.get(&location).await?;
    ensure!(
        bytes.status == 200 && bytes.body == PNG.bytes,
        "{}",
        bytes.status
    );
    database.close().await?;
    Ok(())
}

#[tokio::test]
async fn what_is_erased_or_was_never_visible_waits_for_nothing() -> Result<()> {
    requires!(S3);
    let (stack, store) = s3_stack(&[]).await?;
    let tenant = Tenant::new(&stack).await?;
    run(
        &tenant,
        "UPDATE attachments.object_grace SET grace = '7 days'",
    )
    .await?;
    let rejected = tenant.store(&[CSV]).await?;
    let keys = tenant.object_keys().await?;
    let path = format!(
        "/v1/uploads/{}",
        rejected["id"].as_str().unwrap_or_default()
    );
    tenant.api.delete(&path).await?.expect(204)?;
    run_schedule(&stack).await?;
    ensure!(!store.holds(&keys[0]), "an aborted upload's bytes stayed");

    let uploaded = tenant.upload(&[PNG, TEXT]).await?;
    let keys = tenant.object_keys().await?;
    tenant.delete_attachment(&uploaded[0]).await?.expect(204)?;
    tenant.let_retention_run_out().await?;
    run_schedule(&stack).await?;
    ensure!(store.holds(&keys[0]));
    let erase = sqlx::query("SELECT attachments.erase($1)").bind(&tenant.name);
    erase.execute(&mut tenant.database().await?).await?;
    run(&tenant, "UPDATE keepsake.outbox SET writable_until = now()").await?;
    run_schedule(&stack).await?;
    ensure!(
        !keys.iter().any(|key| store.holds(key)),
        "erased bytes are still there"
    );
    Ok(())
}
