//! Listings and their pages.

use anyhow::Result;
use keepsake_tests::fixtures::{CSV, DOCX, PDF, PNG, TEXT};
use serde_json::Value;

use crate::world::{id, names, tenant};

#[tokio::test]
async fn pages_hold_everything_once() -> Result<()> {
    let tenant = tenant().await?;
    tenant
        .api
        .upload(tenant.entity(), &[PNG, PDF, TEXT])
        .await?;
    tenant.api.upload(tenant.entity(), &[CSV, DOCX]).await?;
    let whole = tenant.api.list(tenant.entity()).await?;

    for base in [
        format!("{}/attachments?limit=2", tenant.post_path()),
        "/v1/attachments?limit=2".to_owned(),
    ] {
        let mut seen: Vec<Value> = Vec::new();
        let mut path = base.clone();
        for _ in 0..3 {
            let page = tenant.api.get(&path).await?.json_if(200)?;
            seen.extend(page["items"].as_array().cloned().unwrap_or_default());
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
    let attachments = tenant.api.upload(tenant.entity(), &[PNG, TEXT]).await?;
    tenant
        .api
        .delete(&format!("/v1/attachments/{}", id(&attachments[0])?))
        .await?
        .expect(204)?;

    let live = tenant.api.get("/v1/attachments").await?.json_if(200)?;
    assert_eq!(
        names(
            live["items"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default()
        ),
        [TEXT.name]
    );
    let bin = tenant
        .api
        .get("/v1/attachments?state=deleted")
        .await?
        .json_if(200)?;
    let bin = bin["items"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    assert_eq!(names(bin), [PNG.name]);
    assert!(bin[0]["deleted_at"].is_string());
    Ok(())
}

#[tokio::test]
async fn what_is_not_complete_is_in_no_list() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant
        .api
        .declare(tenant.entity(), &[PNG])
        .await?
        .json_if(201)?;
    tenant
        .api
        .put(&upload["files"][0], PNG.bytes)
        .await?
        .expect(201)?;
    for path in ["/v1/attachments", "/v1/attachments?state=deleted"] {
        let page = tenant.api.get(path).await?.json_if(200)?;
        assert_eq!(page["items"], Value::Array(Vec::new()), "{path}");
    }
    let pending = upload["files"][0]["attachment_id"]
        .as_str()
        .unwrap_or_default();
    tenant
        .api
        .get(&format!("/v1/attachments/{pending}"))
        .await?
        .expect_problem(404, "not_found")?;
    tenant
        .api
        .get(&format!("/v1/attachments/{pending}/content"))
        .await?
        .expect_problem(404, "not_found")?;
    tenant
        .api
        .delete(&format!("/v1/attachments/{pending}"))
        .await?
        .expect_problem(404, "not_found")?;
    Ok(())
}
