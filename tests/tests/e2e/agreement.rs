//! What has to be true in the end, whatever went wrong on the way: asked of the database itself and of the bytes,
//! not of the worker that was troubled.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use keepsake_shared::Sha256Digest;
use keepsake_tests::stack::Stack;
use sqlx::PgConnection;

use crate::object_store::ObjectStore;
use crate::world::{object, run_schedule};

/// Where a stack has its objects.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// In the bucket of its binding.
    Bucket,
    /// In a store that speaks S3.
    Store(&'a ObjectStore),
}

/// Lets whatever waits for its time be due, and runs the schedule as often as it may need; then there is
///
/// 1. no upload of which some files are visible and others are not,
/// 2. no row without its bytes, deleted ones that may come back included, and none with others,
/// 3. no object that no row names, and nothing left that is to be deleted.
///
/// Of the whole stack, so no other test may be at work on it.
pub async fn assert_agreement(stack: &Stack, place: Place<'_>) -> Result<()> {
    let mut database = stack.postgres.connect().await?;
    for _ in 0..2 {
        let_everything_be_due(&mut database).await?;
        run_schedule(stack).await?;
    }
    assert_no_half_set(&mut database).await?;
    assert_bytes(&mut database, stack, place).await?;
    assert_nothing_waits(&mut database).await?;
    assert_audit_finds_nothing(&mut database, stack).await?;
    if let Place::Store(store) = place {
        assert_no_other_file(&mut database, store).await?;
        assert_no_loose_part(&mut database, store).await?;
    }
    Ok(())
}

async fn let_everything_be_due(database: &mut PgConnection) -> Result<()> {
    let sql = "
        UPDATE keepsake.outbox SET next_attempt_at = now(), lease = NULL, leased_until = NULL,
               writable_until = least(writable_until, now() - interval '1 hour');
        UPDATE attachments.multipart SET next_attempt_at = now();
        UPDATE attachments.upload_set SET expires_at = least(expires_at, now() - interval '1 hour') WHERE state <> 'pending';";
    sqlx::raw_sql(sql).execute(database).await?;
    Ok(())
}

async fn count(database: &mut PgConnection, sql: &'static str) -> Result<i64> {
    Ok(sqlx::query_scalar(sql).fetch_one(database).await?)
}

async fn assert_no_half_set(database: &mut PgConnection) -> Result<()> {
    let halves = "
        SELECT count(*) FROM attachments.upload_set s JOIN attachments.attachment a ON a.upload_set_id = s.id
        WHERE (a.state IN ('available', 'former')) <> (s.state = 'completed')";
    ensure!(count(database, halves).await? == 0, "half a set is visible");
    Ok(())
}

/// Every object that a file's row names has just its bytes.
async fn assert_bytes(database: &mut PgConnection, stack: &Stack, place: Place<'_>) -> Result<()> {
    let sql = "SELECT object_key, sha256 FROM attachments.attachment WHERE state IN ('available', 'former')";
    let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(sql).fetch_all(database).await?;
    for (key, sha256) in rows {
        let bytes = match place {
            Place::Bucket => object(stack, &key).await?,
            Place::Store(store) => std::fs::read(store.path(&key)).ok(),
        };
        let bytes = bytes.with_context(|| format!("a row without bytes: {key}"))?;
        ensure!(
            Sha256Digest::of(&bytes).to_hex() == keepsake_tests::secrets::hex(&sha256),
            "a row with other bytes: {key}"
        );
    }
    Ok(())
}

async fn assert_nothing_waits(database: &mut PgConnection) -> Result<()> {
    for (what, sql) in [
        ("objects", "SELECT count(*) FROM keepsake.outbox"),
        (
            "rows",
            "SELECT count(*) FROM attachments.attachment WHERE state = 'rejected' AND deleted_at IS NULL",
        ),
    ] {
        let left = count(database, sql).await?;
        ensure!(left == 0, "{left} {what} are still to be deleted");
    }
    Ok(())
}

/// The audit, from the first key to the last, with rows old enough to be missed.
async fn assert_audit_finds_nothing(database: &mut PgConnection, stack: &Stack) -> Result<()> {
    let begin = "
        UPDATE attachments.attachment SET available_at = available_at - interval '2 hours' WHERE state IN ('available', 'former');
        UPDATE attachments.audit SET after = '';";
    sqlx::raw_sql(begin).execute(&mut *database).await?;
    let pass = "SELECT pass FROM attachments.audit";
    let before = count(database, pass).await?;
    run_schedule(stack).await?;
    ensure!(
        count(database, pass).await? == before + 1,
        "the audit did not come to its end"
    );
    let found: Vec<(String, String)> =
        sqlx::query_as("SELECT kind, object_key FROM attachments.audit_finding")
            .fetch_all(database)
            .await?;
    ensure!(found.is_empty(), "the audit found {found:?}");
    Ok(())
}

/// No file lies in the store's folder that no row names.
async fn assert_no_other_file(database: &mut PgConnection, store: &ObjectStore) -> Result<()> {
    let named: Vec<String> = sqlx::query_scalar("SELECT object_key FROM attachments.attachment")
        .fetch_all(database)
        .await?;
    let named: BTreeSet<String> = named.into_iter().collect();
    let orphans: Vec<String> = store
        .keys()?
        .into_iter()
        .filter(|key| !named.contains(key))
        .collect();
    ensure!(orphans.is_empty(), "objects that no row names: {orphans:?}");
    Ok(())
}

/// The store keeps no part of an upload that was closed. Its rows may stay: this store has another word for an upload that
/// it knows no longer than S3 has, so that giving one up a second time fails.
async fn assert_no_loose_part(database: &mut PgConnection, store: &ObjectStore) -> Result<()> {
    let sql = "SELECT m.storage_id FROM attachments.multipart m JOIN attachments.upload_set s ON s.id = m.upload_set_id
               WHERE s.state <> 'pending'";
    let closed: Vec<String> = sqlx::query_scalar(sql).fetch_all(database).await?;
    for upload in closed {
        ensure!(store.loose_parts(&upload)? == 0, "parts of {upload} stayed");
    }
    Ok(())
}
