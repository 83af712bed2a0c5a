//! Listings and their pages.

use anyhow::Result;
use keepsake_shared::FileName;
use keepsake_tests::api::{declaration, text};
use keepsake_tests::fixtures::{CSV, DOCX, PDF, PNG, TEXT};
use reqwest::Method;
use serde_json::{Value, json};

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

#[tokio::test]
async fn the_worker_spells_names_as_the_extension_does() -> Result<()> {
    let tenant = tenant().await?;
    let names = [
        "e\u{301}t\u{e9}.png",
        "\u{1112}\u{1161}\u{11ab}.png",
        "\u{212b}\u{2126}.png",
        "\u{958}\u{9dc}\u{fb2a}.png",
        "a\u{307}\u{323}q\u{323}\u{307}.png",
        "\u{1d15e}\u{2f800}\u{f900}.png",
        "\u{ac00}\u{11a8}\u{1100}\u{ac00}.png",
    ];
    for name in names {
        let mut file = declaration(&PNG);
        file["name"] = json!(name);
        let request = tenant.request(json!([file]));
        let upload = tenant
            .api
            .post("/v1/uploads", &request)
            .await?
            .json_if(201)?;
        let natively = FileName::parse(name)?;
        assert_eq!(upload["files"][0]["name"], natively.as_str(), "{name:?}");
    }
    Ok(())
}
