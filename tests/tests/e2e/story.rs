//! The story that everything is for, from the first byte to the last.

use anyhow::Result;
use keepsake_tests::api::{sha256_hex, text};
use keepsake_tests::fixtures::{CSV, DOCX, Fixture, PDF, PNG, TEXT};
use keepsake_tests::requires;
use keepsake_tests::stack::{Stack, StackSettings};
use reqwest::Method;
use serde_json::Value;

use crate::object_store::ObjectStore;
use crate::world::{
    Tenant, any_object_exists, attachment_path, deletion_id, expect_nothing, id, own_stack,
    run_schedule, s3_stack, start_stack,
};

const FILES: [Fixture; 5] = [PNG, PDF, TEXT, CSV, DOCX];

#[tokio::test]
async fn files_go_with_their_post_come_back_the_same_and_are_purged_in_the_end() -> Result<()> {
    tell(&own_stack().await?, None).await
}

#[tokio::test]
async fn the_same_with_the_files_in_an_s3_store() -> Result<()> {
    requires!(S3);
    let (stack, store) = s3_stack(&[]).await?;
    tell(&stack, Some(&store)).await
}

#[tokio::test]
async fn the_same_behind_a_pool_of_connections() -> Result<()> {
    let settings = StackSettings {
        pool: Some(2),
        ..StackSettings::default()
    };
    tell(&start_stack(settings).await?, None).await
}

async fn tell(stack: &Stack, s3: Option<&ObjectStore>) -> Result<()> {
    let any_left = async |keys: &[String]| match s3 {
        Some(store) => Ok(keys.iter().any(|key| store.holds(key))),
        None => any_object_exists(stack, keys).await,
    };
    let tenant = Tenant::new(stack).await?;

    let attachments = tenant.upload(&FILES).await?;
    assert_described(&attachments, &tenant)?;
    assert_same_bytes(&attachments, &tenant).await?;
    let keys = tenant.object_keys().await?;

    // The post goes, and its files with it.
    let deleted = tenant.delete_post().await?;
    deleted.expect(204)?;
    let first_deletion = deletion_id(&deleted)?.to_owned();
    assert_hidden(&attachments, &tenant).await?;

    // The post comes back, and its files are the same to the last byte.
    let restored = tenant.restore_post().await?.json_if(200)?;
    assert_eq!(text(&restored, "/deletion_id")?, first_deletion);
    assert_eq!(tenant.attachments().await?.len(), FILES.len());
    assert_same_bytes(&attachments, &tenant).await?;

    // It goes again. While it can be restored, the schedule leaves everything alone.
    tenant.delete_post().await?.expect(204)?;
    run_schedule(stack).await?;
    assert_eq!(tenant.rows().await?, 5);
    assert!(
        any_left(&keys).await?,
        "bytes went while their rows could be restored"
    );

    // Retention runs out: rows first, then bytes, and no way back.
    tenant.let_retention_run_out().await?;
    run_schedule(stack).await?;
    assert_eq!(tenant.rows().await?, 0);
    assert!(!any_left(&keys).await?, "bytes outlived their rows");
    let too_late = tenant.restore_post().await?;
    too_late.expect_problem(410, "purged")?;
    Ok(())
}

fn assert_described(attachments: &[Value], tenant: &Tenant<'_>) -> Result<()> {
    assert_eq!(attachments.len(), FILES.len());
    for (attachment, file) in attachments.iter().zip(&FILES) {
        assert_eq!(text(attachment, "/name")?, file.name);
        assert_eq!(text(attachment, "/media_type")?, file.media_type);
        assert_eq!(text(attachment, "/sha256")?, sha256_hex(file.bytes));
        assert_eq!(attachment["size"], file.bytes.len());
        assert_eq!(text(attachment, "/state")?, "available");
        assert_eq!(text(attachment, "/entity_type")?, "post");
        assert_eq!(text(attachment, "/entity_id")?, tenant.post);
        assert_eq!(text(attachment, "/uploaded_by")?, "ada");
        assert!(attachment["deleted_at"].is_null());
    }
    Ok(())
}

async fn assert_same_bytes(attachments: &[Value], tenant: &Tenant<'_>) -> Result<()> {
    let mut expected: Vec<&str> = FILES.iter().map(|file| file.name).collect();
    expected.sort_unstable();
    assert_eq!(tenant.visible().await?, expected);
    for (attachment, file) in attachments.iter().zip(&FILES) {
        let reply = tenant.api.download(id(attachment)?).await?;
        assert_eq!(reply.body, file.bytes, "{} came back changed", file.name);
        assert_eq!(reply.header("content-type"), Some(file.media_type));
    }
    Ok(())
}

async fn assert_hidden(attachments: &[Value], tenant: &Tenant<'_>) -> Result<()> {
    let list = format!("{}/attachments", tenant.post_path());
    expect_nothing(&tenant.api, &[(Method::GET, &list)]).await?;
    for attachment in attachments {
        let path = attachment_path(attachment)?;
        let content = format!("{path}/content");
        expect_nothing(
            &tenant.api,
            &[(Method::GET, &path), (Method::GET, &content)],
        )
        .await?;
    }
    Ok(())
}
