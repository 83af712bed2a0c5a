//! What is refused when it is declared: all errors at once, and nothing written.

use anyhow::Result;
use keepsake_tests::api::declaration;
use keepsake_tests::fixtures::{JPEG, PDF, PNG, TEXT};
use serde_json::{Value, json};

use crate::world::{Tenant, errors, tenant};

/// A good declaration with one member changed.
fn with(member: &str, value: Value) -> Value {
    let mut file = declaration(&PNG);
    file[member] = value;
    file
}

async fn refused(tenant: &Tenant<'_>, files: Value, status: u16, code: &str) -> Result<Value> {
    let request = tenant.request(files);
    let problem = tenant
        .api
        .post("/v1/uploads", &request)
        .await?
        .expect_problem(status, code)?;
    assert_eq!(
        tenant.upload_sets().await?,
        0,
        "a refused declaration left a set"
    );
    assert_eq!(tenant.rows().await?, 0, "a refused declaration left rows");
    Ok(problem)
}

#[tokio::test]
async fn a_file_over_the_limit() -> Result<()> {
    let tenant = tenant().await?;
    let problem = refused(
        &tenant,
        json!([with("size", json!(10 * 1024 * 1024 + 1))]),
        413,
        "file_too_large",
    )
    .await?;
    assert_eq!(errors(&problem), [("/files/0/size", "file_too_large")]);
    Ok(())
}

#[tokio::test]
async fn files_over_the_limit_together() -> Result<()> {
    let tenant = tenant().await?;
    let each = 9 * 1024 * 1024;
    let files: Vec<Value> = (0..3)
        .map(|index| {
            let mut file = with("size", json!(each));
            file["name"] = json!(format!("{index}.png"));
            file
        })
        .collect();
    refused(&tenant, json!(files), 413, "set_too_large").await?;
    Ok(())
}

#[tokio::test]
async fn a_kind_of_file_that_is_not_allowed() -> Result<()> {
    let tenant = tenant().await?;
    for name in [
        "virus.exe",
        "page.html",
        "script.svg",
        "archive.tar.gz",
        "README",
    ] {
        let mut file = with("name", json!(name));
        file["media_type"] = Value::Null;
        refused(&tenant, json!([file]), 415, "media_type_not_allowed").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_declared_type_that_the_name_contradicts() -> Result<()> {
    let tenant = tenant().await?;
    let problem = refused(
        &tenant,
        json!([with("media_type", json!("text/html"))]),
        422,
        "invalid_upload",
    )
    .await?;
    assert_eq!(
        errors(&problem),
        [("/files/0/media_type", "media_type_mismatch")]
    );
    Ok(())
}

#[tokio::test]
async fn too_many_files_and_none() -> Result<()> {
    let tenant = tenant().await?;
    let files: Vec<Value> = (0..6)
        .map(|index| with("name", json!(format!("{index}.png"))))
        .collect();
    let problem = refused(&tenant, json!(files), 422, "invalid_upload").await?;
    assert_eq!(errors(&problem), [("/files", "too_many_files")]);
    let problem = refused(&tenant, json!([]), 422, "invalid_upload").await?;
    assert_eq!(errors(&problem), [("/files", "no_files")]);
    Ok(())
}

#[tokio::test]
async fn the_same_name_twice_however_it_is_written() -> Result<()> {
    let tenant = tenant().await?;
    // é as one character, and as e with an accent; and another case.
    let files = json!([
        with("name", json!("Caf\u{e9}.png")),
        with("name", json!("cafe\u{301}.PNG"))
    ]);
    let problem = refused(&tenant, files, 422, "invalid_upload").await?;
    assert!(
        errors(&problem).contains(&("/files/1/name", "duplicate_name")),
        "{problem}"
    );
    Ok(())
}

#[tokio::test]
async fn names_that_are_traps() -> Result<()> {
    let tenant = tenant().await?;
    let traps = [
        "",
        ".",
        "..",
        "../up.png",
        "..\\up.png",
        "/etc/passwd.png",
        "C:\\temp\\x.png",
        "nul\0byte.png",
        "line\nbreak.png",
        "gpj.\u{202e}exe.png",
        "zero\u{200b}width.png",
        "CON.png",
        "trailing.png ",
        "trailing.png.",
    ];
    for name in traps {
        let problem = refused(
            &tenant,
            json!([with("name", json!(name))]),
            422,
            "invalid_upload",
        )
        .await?;
        assert!(
            errors(&problem).contains(&("/files/0/name", "file_name_invalid")),
            "{name:?} was refused otherwise: {problem}"
        );
    }
    let long = format!("{}.png", "x".repeat(300));
    refused(
        &tenant,
        json!([with("name", json!(long))]),
        422,
        "invalid_upload",
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn an_empty_file_and_a_false_digest() -> Result<()> {
    let tenant = tenant().await?;
    let mut file = with("size", json!(0));
    file["sha256"] = json!("abc");
    let problem = refused(&tenant, json!([file]), 422, "invalid_upload").await?;
    let mut found = errors(&problem);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("/files/0/sha256", "sha256_invalid"),
            ("/files/0/size", "file_empty")
        ]
    );
    Ok(())
}

#[tokio::test]
async fn a_size_that_no_file_has() -> Result<()> {
    let tenant = tenant().await?;
    let problem = refused(
        &tenant,
        json!([with("size", json!(-1))]),
        422,
        "invalid_upload",
    )
    .await?;
    assert_eq!(errors(&problem), [("/files/0/size", "invalid_field")]);
    refused(
        &tenant,
        json!([with("size", json!(i64::MAX))]),
        413,
        "set_too_large",
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn every_error_of_every_file_is_told_at_once() -> Result<()> {
    let tenant = tenant().await?;
    let mut second = declaration(&PDF);
    second["name"] = json!("../letter.pdf");
    let mut third = declaration(&JPEG);
    third["size"] = json!(0);
    let problem = refused(
        &tenant,
        json!([declaration(&TEXT), second, third]),
        422,
        "invalid_upload",
    )
    .await?;
    let mut found = errors(&problem);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("/files/1/name", "file_name_invalid"),
            ("/files/2/size", "file_empty")
        ]
    );
    Ok(())
}

#[tokio::test]
async fn an_entity_that_is_not_there() -> Result<()> {
    let tenant = tenant().await?;
    for (entity_type, entity_id) in [
        ("post", "999999999"),
        ("post", "007"),
        ("post", "x"),
        ("invoice", "1"),
    ] {
        let reply = tenant.api.declare((entity_type, entity_id), &[PNG]).await?;
        reply.expect_problem(404, "not_found")?;
    }
    assert_eq!(tenant.upload_sets().await?, 0);
    Ok(())
}

#[tokio::test]
async fn an_entity_that_was_deleted() -> Result<()> {
    let tenant = tenant().await?;
    tenant.delete_post().await?.expect(204)?;
    tenant
        .api
        .declare(tenant.entity(), &[PNG])
        .await?
        .expect_problem(404, "not_found")?;
    Ok(())
}
