//! Listings and their pages.

use anyhow::Result;
use keepsake_tests::api::text;
use keepsake_tests::fixtures::{CSV, DOCX, PDF, PNG, TEXT};
use reqwest::Method;
use serde_json::Value;

use crate::world::{expect_nothing, items, names, tenant};

#[tokio::test]
async fn pages_hold_everything_once() -> Result<()> {
    let tenant = tenant().await?;
    tenant.upload(&[PNG, PDF, TEXT]).await?;
    tenant.upload(&[CSV, DOCX]).await?;
    let whole = tenant.attachments().await?;

    for base in [
        format!("{}/attachments?limit=2", tenant.post_path()),
        "/v1/attachments?limit=2".to_owned(),
    ] {
        let mut seen: Vec<Value> = Vec::new();
        let mut path = base.clone();
        for _ in 0..3 {
            let page = tenant.api.get(&path).await?.json_if(200)?;
            seen.extend_from_slice(items(&page));
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("{base}&cursor={cursor}"),
                None => break,
            }
        }
        assert_eq!(seen, whole, "{base}");
    }
    Ok(())
}

#[tokio::test]
async fn the_bin_shows_what_was_deleted() -> Result<()> {
    let tenant = tenant().await?;
    let attachments = tenant.upload(&[PNG, TEXT]).await?;
    tenant
        .delete_attachment(&attachments[0])
        .await?
        .expect(204)?;

    let live = tenant.api.get("/v1/attachments").await?.json_if(200)?;
    assert_eq!(names(items(&live)), [TEXT.name]);
    let bin = tenant
        .api
        .get("/v1/attachments?state=deleted")
        .await?
        .json_if(200)?;
    let bin = items(&bin);
    assert_eq!(names(bin), [PNG.name]);
    assert!(bin[0]["deleted_at"].is_string());
    Ok(())
}

#[tokio::test]
async fn what_is_not_complete_is_in_no_list() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.store(&[PNG]).await?;
    for path in ["/v1/attachments", "/v1/attachments?state=deleted"] {
        let page = tenant.api.get(path).await?.json_if(200)?;
        assert_eq!(page["items"], Value::Array(Vec::new()), "{path}");
    }
    let pending = text(&upload, "/files/0/attachment_id")?;
    let path = format!("/v1/attachments/{pending}");
    let content = format!("{path}/content");
    expect_nothing(
        &tenant.api,
        &[
            (Method::GET, &path),
            (Method::GET, &content),
            (Method::DELETE, &path),
        ],
    )
    .await
}
