//! When a tenant is given back what its removed files held.

use anyhow::Result;
use keepsake_tests::migrate;
use keepsake_tests::postgres::Postgres;
use keepsake_tests::stack::throwaway_folder;
use serde_json::Value;
use sqlx::{Executor as _, PgConnection};

/// What tenants are to be given back, and since when, in minutes.
async fn release(database: &mut PgConnection, due: &[(&str, i32)]) -> Result<()> {
    for (tenant, minutes) in due {
        sqlx::query(
            "INSERT INTO attachments.usage_release (tenant_id, subject, bytes, files, due_at)
             VALUES ($1, 'ada', 5, 1, now() - make_interval(mins => $2))",
        )
        .bind(tenant)
        .bind(minutes)
        .execute(&mut *database)
        .await?;
    }
    Ok(())
}

/// The tenants that are yet to be given back something.
async fn waiting(database: &mut PgConnection) -> Result<Vec<String>> {
    let tenants = "SELECT tenant_id FROM attachments.usage_release ORDER BY tenant_id";
    Ok(sqlx::query_scalar(tenants).fetch_all(database).await?)
}

/// Declares a file of one byte in the tenant acme.
async fn upload(database: &mut PgConnection) -> Result<()> {
    let declared: Value = sqlx::query_scalar(
        r#"SELECT attachments_api.create_upload('{"tenant": "acme", "sub": "ada"}', jsonb_build_object(
               'entity_type', 'post', 'entity_id', '1', 'expires_at', now() + interval '1 hour',
               'files', jsonb_build_array(jsonb_build_object(
                   'name', 'a.png', 'media_type', 'image/png', 'size', 1, 'sha256', repeat('0', 64)))))"#,
    )
    .fetch_one(database)
    .await?;
    anyhow::ensure!(declared.pointer("/ok/id").is_some(), "{declared}");
    Ok(())
}

#[tokio::test]
async fn no_tenant_waits_for_ever_for_what_is_due() -> Result<()> {
    let (folder, leash) = throwaway_folder()?;
    let postgres = Postgres::start(&folder, "secret", &leash).await?;
    let mut database = postgres.connect().await?;
    migrate::up(&mut database).await?;

    // The schedule begins with who has waited longest, whatever the name.
    release(&mut database, &[("a", 2), ("b", 3), ("c", 1), ("b", 0)]).await?;
    for left in [vec!["a", "c"], vec!["c"], vec![]] {
        database
            .execute("SELECT attachments_api.tidy('{\"limit\": 1}')")
            .await?;
        assert_eq!(waiting(&mut database).await?, left);
    }

    // Whom it passes over each time, since somebody is always uploading, is given back what is due by who uploads.
    database
        .execute(
            "CREATE TABLE post (id bigint PRIMARY KEY, tenant text NOT NULL);
             SELECT attachments.register_entity('post', 'post', 'tenant');
             INSERT INTO post VALUES (1, 'acme')",
        )
        .await?;
    upload(&mut database).await?;
    upload(&mut database).await?;
    release(&mut database, &[("acme", 1)]).await?;
    upload(&mut database).await?;
    assert_eq!(
        waiting(&mut database).await?,
        ["acme"],
        "that is the schedule's"
    );
    release(&mut database, &[("acme", 11)]).await?;
    upload(&mut database).await?;
    assert_eq!(waiting(&mut database).await?, [""; 0]);
    let held: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT subject, bytes, files FROM attachments.usage WHERE tenant_id = 'acme' ORDER BY 1",
    )
    .fetch_all(&mut database)
    .await?;
    let held = held
        .iter()
        .map(|(subject, bytes, files)| (subject.as_str(), *bytes, *files));
    // Four files of a byte, without two of five.
    assert_eq!(held.collect::<Vec<_>>(), [("", -6, 2), ("ada", -6, 2)]);
    Ok(())
}
