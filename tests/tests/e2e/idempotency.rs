//! Requests that carry an `Idempotency-Key` can be repeated without being done twice.

use anyhow::{Context as _, Result};
use keepsake_tests::api::{Api, Reply, declaration, text};
use keepsake_tests::fixtures::{PNG, TEXT};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::world::{id, run_schedule, tenant, upload_path};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn declare(api: &Api, key: &str, body: &Value) -> Result<Reply> {
    let headers = [JSON, ("idempotency-key", key)];
    let body = body.to_string().into_bytes();
    api.send(Method::POST, "/v1/uploads", &headers, Some(body))
        .await
}

async fn complete(api: &Api, key: &str, upload: &Value) -> Result<Reply> {
    let path = format!("{}/complete", upload_path(upload)?);
    api.send(Method::POST, &path, &[("idempotency-key", key)], None)
        .await
}

#[tokio::test]
async fn the_same_declaration_makes_one_set() -> Result<()> {
    let tenant = tenant().await?;
    let body = tenant.request(json!([declaration(&PNG)]));
    let first = declare(&tenant.api, "k1", &body).await?.json_if(201)?;
    // White space and the order of fields are no part of what is asked for.
    let spaced = format!("  {body}  ").into_bytes();
    let headers = [JSON, ("idempotency-key", "k1")];
    let again = tenant
        .api
        .send(Method::POST, "/v1/uploads", &headers, Some(spaced))
        .await?
        .json_if(201)?;
    assert_eq!(id(&again)?, id(&first)?);
    assert_eq!(tenant.upload_sets().await?, 1);

    // The fresh URL works, and stores no longer than the first would have.
    assert_eq!(again["expires_at"], first["expires_at"]);
    tenant.put(&again["files"][0], PNG).await?;
    tenant.complete(&first).await?.expect(200)?;
    let late = declare(&tenant.api, "k1", &body).await?;
    late.expect_problem(409, "upload_closed")?;
    Ok(())
}

#[tokio::test]
async fn a_key_stands_for_one_request_of_one_user() -> Result<()> {
    let tenant = tenant().await?;
    let body = tenant.request(json!([declaration(&PNG)]));
    let other = tenant.request(json!([declaration(&TEXT)]));
    let mine = declare(&tenant.api, "k1", &body).await?.json_if(201)?;
    declare(&tenant.api, "k1", &other)
        .await?
        .expect_problem(422, "idempotency_mismatch")?;
    // For another operation it is another request too.
    tenant.put(&mine["files"][0], PNG).await?;
    complete(&tenant.api, "k1", &mine)
        .await?
        .expect_problem(422, "idempotency_mismatch")?;

    let bob = tenant.user("bob");
    let theirs = declare(&bob, "k1", &other).await?.json_if(201)?;
    assert_ne!(id(&theirs)?, id(&mine)?);
    let stranger = crate::world::tenant().await?;
    let body = stranger.request(json!([declaration(&TEXT)]));
    declare(&stranger.api, "k1", &body).await?.expect(201)?;
    Ok(())
}

#[tokio::test]
async fn a_refused_request_leaves_its_key_free() -> Result<()> {
    let tenant = tenant().await?;
    let body = tenant.request(json!([declaration(&PNG)]));
    tenant.upload(&[PNG]).await?;
    declare(&tenant.api, "k1", &body)
        .await?
        .expect_problem(409, "name_taken")?;
    tenant.delete_post().await?.expect(204)?;
    tenant.restore_post().await?.expect(200)?;
    let other = tenant.request(json!([declaration(&TEXT)]));
    declare(&tenant.api, "k1", &other).await?.expect(201)?;
    Ok(())
}

#[tokio::test]
async fn ten_at_once_make_one_set() -> Result<()> {
    let tenant = tenant().await?;
    let body = tenant.request(json!([declaration(&PNG)]));
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let (api, body) = (tenant.api.clone(), body.clone());
        tasks.spawn(async move { declare(&api, "k1", &body).await });
    }
    let mut made = Vec::new();
    while let Some(reply) = tasks.join_next().await {
        let reply = reply??;
        match reply.status {
            201 => made.push(id(&reply.json()?)?.to_owned()),
            _ => drop(reply.expect_problem(409, "idempotency_in_flight")?),
        }
    }
    made.dedup();
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(tenant.upload_sets().await?, 1);
    Ok(())
}

#[tokio::test]
async fn ten_completions_at_once_answer_alike() -> Result<()> {
    let tenant = tenant().await?;
    for key in [None, Some("k1")] {
        let file = if key.is_some() { TEXT } else { PNG };
        let upload = tenant.store(&[file]).await?;
        let mut tasks = JoinSet::new();
        for _ in 0..10 {
            let (api, upload) = (tenant.api.clone(), upload.clone());
            tasks.spawn(async move {
                match key {
                    Some(key) => complete(&api, key, &upload).await,
                    None => api.complete(&upload).await,
                }
            });
        }
        let mut answers = Vec::new();
        while let Some(reply) = tasks.join_next().await {
            let reply = reply??;
            if reply.status == 409 && key.is_some() {
                reply.expect_problem(409, "idempotency_in_flight")?;
            } else {
                answers.push(reply.json_if(200)?);
            }
        }
        let first = answers.first().context("none came through")?;
        assert!(answers.iter().all(|answer| answer == first), "{answers:?}");
    }
    assert_eq!(tenant.visible().await?, [PNG.name, TEXT.name]);
    Ok(())
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_day_and_holds_no_url() -> Result<()> {
    let tenant = tenant().await?;
    let body = tenant.request(json!([declaration(&PNG)]));
    let first = declare(&tenant.api, "k1", &body).await?.json_if(201)?;
    let mut database = tenant.database().await?;
    let kept: String =
        sqlx::query_scalar("SELECT i::text FROM attachments.idempotency i WHERE tenant_id = $1")
            .bind(&tenant.name)
            .fetch_one(&mut database)
            .await?;
    let url = text(&first, "/files/0/url")?;
    let token = url.rsplit('/').next().unwrap_or_default();
    assert!(!kept.contains("http") && !kept.contains(token), "{kept}");

    sqlx::query("UPDATE attachments.idempotency SET created_at = created_at - interval '25 hours' WHERE tenant_id = $1")
        .bind(&tenant.name)
        .execute(&mut database)
        .await?;
    let second = declare(&tenant.api, "k1", &body).await?.json_if(201)?;
    assert_ne!(id(&second)?, id(&first)?);

    sqlx::query("UPDATE attachments.idempotency SET created_at = created_at - interval '25 hours' WHERE tenant_id = $1")
        .bind(&tenant.name)
        .execute(&mut database)
        .await?;
    run_schedule(tenant.stack).await?;
    let left = "SELECT count(*) FROM attachments.idempotency WHERE tenant_id = $1";
    assert_eq!(tenant.count(left).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_none_is_refused() -> Result<()> {
    let tenant = tenant().await?;
    let body = tenant.request(json!([declaration(&PNG)]));
    let long = "k".repeat(256);
    for key in ["a b", &long] {
        declare(&tenant.api, key, &body)
            .await?
            .expect_problem(400, "invalid_field")?;
    }
    assert_eq!(tenant.upload_sets().await?, 0);
    Ok(())
}
