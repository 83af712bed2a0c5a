//! Which types may be uploaded: by the worker's settings, and by the rules that the database holds for a
//! tenant and an entity type. What is declared beside the name only helps.

use anyhow::{Context as _, Result};
use keepsake_tests::api::{declaration, text};
use keepsake_tests::fixtures::{Fixture, PDF, PNG, TEXT};
use keepsake_tests::stack::StackSettings;
use serde_json::{Value, json};

use crate::world::{Tenant, errors, id, start_stack, tenant};

/// An archive without entries (APPNOTE.TXT 4.3.16).
const ZIP: Fixture = Fixture {
    name: "a.zip",
    media_type: "application/x-zip-compressed",
    bytes: b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
};

const UNKNOWN: Fixture = Fixture {
    name: "measured.q3",
    media_type: "",
    bytes: b"\x01\x02\x03<html><script>alert(1)</script>",
};

const WITHOUT_EXTENSION: Fixture = Fixture {
    name: "README",
    ..UNKNOWN
};

async fn rule(tenant: &Tenant<'_>, entity_type: Option<&str>, file_types: &str) -> Result<()> {
    sqlx::query("INSERT INTO attachments.file_type_rule VALUES ($1, $2, $3)")
        .bind(&tenant.name)
        .bind(entity_type)
        .bind(file_types)
        .execute(&mut tenant.database().await?)
        .await?;
    Ok(())
}

async fn refused(tenant: &Tenant<'_>, files: &[Fixture]) -> Result<Value> {
    let files: Vec<Value> = files.iter().map(declaration).collect();
    let request = tenant.request(json!(files));
    let reply = tenant.api.post("/v1/uploads", &request).await?;
    let problem = reply.expect_problem(415, "media_type_not_allowed")?;
    assert_eq!(tenant.upload_sets().await?, 0);
    Ok(problem)
}

async fn is_saved_only(tenant: &Tenant<'_>, attachment: &Value, media_type: &str) -> Result<()> {
    let path = format!("/v1/attachments/{}/content?inline=true", id(attachment)?);
    let redirect = tenant.api.get(&path).await?;
    let url = redirect.header("location").context("no Location")?;
    let reply = tenant.api.get(url).await?;
    reply.expect(200)?;
    assert_eq!(reply.header("content-type"), Some(media_type));
    let disposition = reply.header("content-disposition").unwrap_or_default();
    assert!(disposition.starts_with("attachment"), "{disposition}");
    Ok(())
}

#[tokio::test]
async fn the_database_narrows_and_extends_them() -> Result<()> {
    let tenant = tenant().await?;
    let problem = refused(&tenant, &[PNG, ZIP]).await?;
    assert_eq!(
        errors(&problem),
        [("/files/1/name", "media_type_not_allowed")]
    );

    let limits = async |query: &str| {
        let limits = tenant
            .api
            .get(&format!("/v1/limits{query}"))
            .await?
            .json_if(200)?;
        Ok::<_, anyhow::Error>(text(&limits, "/file_types")?.to_owned())
    };
    assert_eq!(limits("?entity_type=post").await?, "");
    rule(&tenant, None, "none +zip +unknown").await?;
    assert_eq!(limits("").await?, "none +zip +unknown");
    assert_eq!(limits("?entity_type=post").await?, "none +zip +unknown");
    let nobody = tenant.api.with_bearer(None).get("/v1/limits").await?;
    assert_eq!(
        nobody.json_if(200)?["file_types"],
        "",
        "it tells anybody of the tenant's"
    );
    let reply = tenant.api.get("/v1/limits?entity_type=No!").await?;
    reply.expect_problem(400, "invalid_field")?;
    let problem = refused(&tenant, &[PNG, ZIP, PDF]).await?;
    assert_eq!(
        errors(&problem),
        [
            ("/files/0/name", "media_type_not_allowed"),
            ("/files/2/name", "media_type_not_allowed")
        ]
    );
    let saved = tenant.upload(&[ZIP, UNKNOWN, WITHOUT_EXTENSION]).await?;
    is_saved_only(&tenant, &saved[0], "application/zip").await?;
    is_saved_only(&tenant, &saved[1], "application/octet-stream").await?;
    is_saved_only(&tenant, &saved[2], "application/octet-stream").await?;

    // Of the tenant and the entity type counts before that of the tenant.
    rule(&tenant, Some("post"), "").await?;
    tenant.upload_one(TEXT).await?;
    let files = json!([declaration(&ZIP)]);
    let reply = tenant
        .api
        .post("/v1/uploads", &tenant.request(files))
        .await?;
    reply.expect_problem(415, "media_type_not_allowed")?;
    Ok(())
}

#[tokio::test]
async fn a_rule_has_to_be_a_choice_of_types() -> Result<()> {
    let tenant = tenant().await?;
    assert!(rule(&tenant, None, "+zipp").await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_declared_type_that_the_name_contradicts_is_told() -> Result<()> {
    let tenant = tenant().await?;
    let mut file = declaration(&TEXT);
    file["media_type"] = json!("text/html");
    let request = tenant.request(json!([declaration(&PNG), file]));
    let reply = tenant.api.post("/v1/uploads", &request).await?;
    let upload = reply.json_if(201)?;
    assert_eq!(text(&upload, "/notes/0/pointer")?, "/files/1/media_type");
    assert_eq!(text(&upload, "/notes/0/code")?, "media_type_mismatch");
    for (name, declared) in [
        ("a.mov", "video/mp4"),
        ("a.heic", "image/heic-sequence"),
        ("a.csv", "text/comma-separated-values"),
        ("a.png", "application/octet-stream"),
    ] {
        let mut file = declaration(&PNG);
        (file["name"], file["media_type"]) = (json!(name), json!(declared));
        let request = tenant.request(json!([file]));
        let upload = tenant
            .api
            .post("/v1/uploads", &request)
            .await?
            .json_if(201)?;
        assert_eq!(upload["notes"], json!([]), "{name} as {declared}");
    }
    Ok(())
}

#[tokio::test]
async fn the_worker_is_set_to_others_and_to_numbering() -> Result<()> {
    let vars = [("FILE_TYPES", "+zip -pdf"), ("DUPLICATE_NAMES", "number")];
    let settings = StackSettings {
        vars: vars.map(|(name, value)| (name.into(), value.into())).into(),
        ..StackSettings::default()
    };
    let stack = start_stack(settings).await?;
    let tenant = Tenant::new(&stack).await?;
    refused(&tenant, &[PDF]).await?;
    let limits = tenant.api.get("/v1/limits").await?.json_if(200)?;
    assert_eq!(text(&limits, "/file_types")?, "-pdf +zip");
    assert_eq!(limits["number_duplicates"], json!(true));
    let image = Fixture {
        name: "image.png",
        ..PNG
    };
    let saved = tenant.upload(&[image, ZIP, image]).await?;
    let names: Vec<&str> = saved
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert_eq!(names, ["image.png", "a.zip", "image (2).png"]);
    Ok(())
}
