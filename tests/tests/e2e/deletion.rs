//! Deleting and restoring: cascades, repetition, conflicts.

use anyhow::Result;
use keepsake_tests::api::text;
use keepsake_tests::fixtures::{PDF, PNG, TEXT};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{attachment_path, deletion_id, expect_nothing, id, tenant};

#[tokio::test]
async fn deleting_twice_is_one_deletion() -> Result<()> {
    let tenant = tenant().await?;
    let attachment = tenant.upload_one(PNG).await?;
    for path in [attachment_path(&attachment)?, tenant.post_path()] {
        let first = tenant.api.delete(&path).await?;
        first.expect(204)?;
        let second = tenant.api.delete(&path).await?;
        second.expect(204)?;
        assert_eq!(deletion_id(&first)?, deletion_id(&second)?, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn restoring_what_is_there_changes_nothing() -> Result<()> {
    let tenant = tenant().await?;
    let attachment = tenant.upload_one(PNG).await?;
    for path in [attachment_path(&attachment)?, tenant.post_path()] {
        let answer = tenant.api.restore(&path).await?.json_if(200)?;
        assert_eq!(answer["restored"], json!([]), "{path}");
    }
    assert_eq!(tenant.visible().await?, [PNG.name]);
    Ok(())
}

#[tokio::test]
async fn one_attachment_goes_and_comes_back_alone() -> Result<()> {
    let tenant = tenant().await?;
    let attachments = tenant.upload(&[PNG, TEXT]).await?;
    let path = attachment_path(&attachments[0])?;
    tenant.api.delete(&path).await?.expect(204)?;
    assert_eq!(tenant.visible().await?, [TEXT.name]);
    let answer = tenant.api.restore(&path).await?.json_if(200)?;
    assert_eq!(
        answer["restored"],
        json!([{ "table": "attachments.attachment", "rows": 1 }])
    );
    assert_eq!(
        tenant.api.download(id(&attachments[0])?).await?.body,
        PNG.bytes
    );
    Ok(())
}

#[tokio::test]
async fn a_thread_takes_its_posts_and_their_files_and_gives_them_back() -> Result<()> {
    let tenant = tenant().await?;
    tenant.upload(&[PNG]).await?;
    tenant
        .api
        .upload(("thread", &tenant.thread), &[PDF])
        .await?;
    let thread = format!("/v1/thread/{}", tenant.thread);

    tenant.api.delete(&thread).await?.expect(204)?;
    let list = format!("{}/attachments", tenant.post_path());
    expect_nothing(&tenant.api, &[(Method::GET, &list)]).await?;
    assert_eq!(
        tenant.api.get("/v1/attachments").await?.json_if(200)?["items"],
        json!([])
    );

    // What went with its parent comes back with it, and says so when asked alone.
    let alone = tenant.restore_post().await?;
    let problem = alone.expect_problem(409, "restore_conflict")?;
    assert_eq!(text(&problem, "/conflicts/0/kind")?, "parent_deleted");

    let answer = tenant.api.restore(&thread).await?.json_if(200)?;
    let mut restored = rows(&answer["restored"]);
    restored.sort();
    let expected = [("attachments.attachment", 2), ("post", 1), ("thread", 1)];
    assert_eq!(
        restored,
        expected.map(|(table, rows)| (table.to_owned(), rows))
    );
    assert_eq!(tenant.visible().await?, [PNG.name]);
    Ok(())
}

fn rows(tables: &Value) -> Vec<(String, i64)> {
    let tables = tables.as_array().map(Vec::as_slice).unwrap_or_default();
    tables
        .iter()
        .map(|entry| {
            let table = entry["table"].as_str().unwrap_or_default();
            (
                table.trim_start_matches("public.").to_owned(),
                entry["rows"].as_i64().unwrap_or_default(),
            )
        })
        .collect()
}

#[tokio::test]
async fn what_was_deleted_before_stays_deleted() -> Result<()> {
    let tenant = tenant().await?;
    let attachments = tenant.upload(&[PNG, TEXT]).await?;
    tenant
        .delete_attachment(&attachments[0])
        .await?
        .expect(204)?;
    tenant.delete_post().await?.expect(204)?;
    tenant.restore_post().await?.json_if(200)?;
    assert_eq!(tenant.visible().await?, [TEXT.name]);
    Ok(())
}

#[tokio::test]
async fn a_name_taken_meanwhile_is_a_conflict_that_is_named() -> Result<()> {
    let tenant = tenant().await?;
    let old = tenant.upload_one(PNG).await?;
    let path = attachment_path(&old)?;
    tenant.api.delete(&path).await?.expect(204)?;
    let new = tenant.upload_one(PNG).await?;

    let reply = tenant.api.restore(&path).await?;
    let problem = reply.expect_problem(409, "restore_conflict")?;
    assert_eq!(text(&problem, "/conflicts/0/kind")?, "unique");
    assert_eq!(
        text(&problem, "/conflicts/0/constraint")?,
        "attachment_live_name"
    );
    assert_eq!(text(&problem, "/conflicts/0/key/id")?, id(&old)?);
    assert_eq!(text(&problem, "/conflicts/0/holder/id")?, id(&new)?);
    expect_nothing(&tenant.api, &[(Method::GET, &path)]).await?;

    // Once the place is free it works.
    tenant.delete_attachment(&new).await?.expect(204)?;
    tenant.api.restore(&path).await?.json_if(200)?;
    Ok(())
}

#[tokio::test]
async fn an_entity_whose_place_is_taken_is_a_conflict_too() -> Result<()> {
    let tenant = tenant().await?;
    tenant.upload(&[PNG]).await?;
    tenant.delete_post().await?.expect(204)?;
    let mut database = tenant.database().await?;
    let thread: i64 = tenant.thread.parse()?;
    sqlx::query(
        "INSERT INTO public.post (tenant, thread_id, slug, body) VALUES ($1, $2, 'a-post', 'new')",
    )
    .bind(&tenant.name)
    .bind(thread)
    .execute(&mut database)
    .await?;

    let reply = tenant.restore_post().await?;
    let problem = reply.expect_problem(409, "restore_conflict")?;
    assert_eq!(text(&problem, "/conflicts/0/constraint")?, "post_live_slug");
    let list = format!("{}/attachments", tenant.post_path());
    expect_nothing(&tenant.api, &[(Method::GET, &list)]).await?;
    Ok(())
}

#[tokio::test]
async fn a_post_deleted_during_an_upload_keeps_the_upload_out() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.store(&[PNG]).await?;
    tenant.delete_post().await?.expect(204)?;
    let refused = tenant.complete(&upload).await?;
    refused.expect_problem(409, "upload_closed")?;

    tenant.restore_post().await?.json_if(200)?;
    tenant.complete(&upload).await?.json_if(200)?;
    assert_eq!(tenant.visible().await?, [PNG.name]);
    Ok(())
}

#[tokio::test]
async fn a_plain_sql_delete_can_be_undone() -> Result<()> {
    let tenant = tenant().await?;
    tenant.upload(&[PNG]).await?;
    let mut database = tenant.database().await?;
    sqlx::query("SELECT set_config('request.jwt.claims', json_build_object('tenant', $1::text)::text, false)")
        .bind(&tenant.name)
        .execute(&mut database)
        .await?;
    let deleted = sqlx::query("DELETE FROM public.post WHERE tenant = $1")
        .bind(&tenant.name)
        .execute(&mut database)
        .await?;
    assert_eq!(deleted.rows_affected(), 1);
    let gone = "SELECT count(*) FROM attachments.attachment WHERE tenant_id = $1 AND deleted_at IS NOT NULL";
    assert_eq!(tenant.count(gone).await?, 1);

    tenant.restore_post().await?.json_if(200)?;
    assert_eq!(tenant.visible().await?, [PNG.name]);
    Ok(())
}
