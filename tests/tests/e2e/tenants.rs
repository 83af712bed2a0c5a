//! One tenant cannot read, change or even notice what is another's.

use anyhow::Result;
use keepsake_tests::api::Reply;
use keepsake_tests::fixtures::{PNG, TEXT};
use reqwest::Method;
use serde_json::Value;

use crate::world::{expect_nothing, id, tenant};

/// What an answer says, without what differs from request to request.
fn said(reply: &Reply) -> Result<(u16, Value)> {
    let mut problem = reply.json()?;
    for member in ["request_id", "instance"] {
        problem
            .as_object_mut()
            .map(|problem| problem.remove(member));
    }
    Ok((reply.status, problem))
}

#[tokio::test]
async fn a_foreign_id_answers_as_a_missing_one() -> Result<()> {
    let owner = tenant().await?;
    let stranger = tenant().await?;
    let attachment = owner.upload_one(PNG).await?;
    let upload = owner.declare(&[TEXT]).await?;
    let (foreign_attachment, foreign_upload) = (id(&attachment)?, id(&upload)?);
    let missing = "01890000-0000-7000-8000-000000000000";

    for id in [foreign_attachment, missing] {
        let path = format!("/v1/attachments/{id}");
        let (content, restore) = (format!("{path}/content"), format!("{path}/restore"));
        expect_nothing(
            &stranger.api,
            &[
                (Method::GET, &path),
                (Method::GET, &content),
                (Method::DELETE, &path),
                (Method::POST, &restore),
            ],
        )
        .await?;
    }
    for id in [foreign_upload, missing] {
        let path = format!("/v1/uploads/{id}");
        let complete = format!("{path}/complete");
        expect_nothing(
            &stranger.api,
            &[
                (Method::GET, &path),
                (Method::DELETE, &path),
                (Method::POST, &complete),
            ],
        )
        .await?;
    }
    let foreign = stranger.delete_attachment(&attachment).await?;
    let nothing = stranger
        .api
        .delete(&format!("/v1/attachments/{missing}"))
        .await?;
    assert_eq!(
        said(&foreign)?,
        said(&nothing)?,
        "a foreign id can be told from a missing one"
    );

    assert_eq!(owner.visible().await?, [PNG.name]);
    owner.put(&upload["files"][0], TEXT).await?;
    owner.complete(&upload).await?.json_if(200)?;
    Ok(())
}

#[tokio::test]
async fn a_foreign_entity_answers_as_a_missing_one() -> Result<()> {
    let owner = tenant().await?;
    let stranger = tenant().await?;
    owner.upload(&[PNG]).await?;
    let path = owner.post_path();

    stranger
        .api
        .declare(owner.entity(), &[PNG])
        .await?
        .expect_problem(404, "not_found")?;
    let (listing, restore) = (format!("{path}/attachments"), format!("{path}/restore"));
    expect_nothing(
        &stranger.api,
        &[
            (Method::GET, &listing),
            (Method::DELETE, &path),
            (Method::POST, &restore),
        ],
    )
    .await?;
    assert_eq!(owner.visible().await?, [PNG.name]);

    // Deleted and purged, it still answers a stranger as if it had never been.
    owner.delete_post().await?.expect(204)?;
    expect_nothing(&stranger.api, &[(Method::POST, &restore)]).await?;
    Ok(())
}

#[tokio::test]
async fn no_list_shows_what_is_anothers() -> Result<()> {
    let owner = tenant().await?;
    let stranger = tenant().await?;
    let attachments = owner.upload(&[PNG, TEXT]).await?;
    owner
        .delete_attachment(&attachments[0])
        .await?
        .expect(204)?;
    for state in ["available", "deleted"] {
        let page = stranger
            .api
            .get(&format!("/v1/attachments?state={state}"))
            .await?
            .json_if(200)?;
        assert_eq!(page["items"], Value::Array(Vec::new()), "{state}");
    }
    // A bare id is no cursor.
    let path = format!("/v1/attachments?cursor={}", id(&attachments[1])?);
    stranger
        .api
        .get(&path)
        .await?
        .expect_problem(400, "invalid_field")?;
    Ok(())
}

#[tokio::test]
async fn the_same_names_do_not_collide_across_tenants() -> Result<()> {
    let one = tenant().await?;
    let other = tenant().await?;
    one.upload(&[PNG]).await?;
    other.upload(&[PNG]).await?;
    assert_eq!(one.rows().await?, 1);
    assert_eq!(other.rows().await?, 1);
    Ok(())
}

#[tokio::test]
async fn the_worker_touches_no_table() -> Result<()> {
    use sqlx::Connection as _;
    let tenant = tenant().await?;
    let stack = tenant.stack;
    let url = stack.postgres.url(
        "keepsake_worker",
        &stack.secrets.worker_password,
        "keepsake",
    );
    let mut worker = sqlx::PgConnection::connect(&url).await?;
    for table in [
        "attachments.attachment",
        "attachments.upload_set",
        "attachments.entity_type",
        "keepsake.deletion",
        "keepsake.outbox",
        "public.post",
    ] {
        let sql = sqlx::AssertSqlSafe(format!("SELECT FROM {table} LIMIT 1"));
        let refused = sqlx::query(sql).execute(&mut worker).await;
        let code = refused
            .err()
            .and_then(|error| error.into_database_error())
            .and_then(|error| error.code().map(|code| code.into_owned()));
        assert_eq!(
            code.as_deref(),
            Some("42501"),
            "the worker may read {table}"
        );
    }
    Ok(())
}
