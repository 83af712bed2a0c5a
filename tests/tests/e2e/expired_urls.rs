//! A signed URL that worked does so until its end, and then never again: on the bucket, where the worker looks at the
//! time, and on S3, where the store does.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keepsake_tests::api::text;
use keepsake_tests::fixtures::{PDF, PNG};
use keepsake_tests::requires;
use keepsake_tests::stack::{Stack, StackSettings};
use reqwest::Method;

use crate::world::{Tenant, id, s3_stack, start_stack};

/// Long enough to upload on a busy machine.
const UPLOAD: (&str, &str) = ("UPLOAD_TTL_SECONDS", "6");
const DOWNLOAD: (&str, &str) = ("DOWNLOAD_TTL_SECONDS", "4");
const UNTIL_ALL_HAVE_EXPIRED: Duration = Duration::from_secs(8);

async fn ends(stack: &Stack, status: u16) -> Result<()> {
    let tenant = Tenant::new(stack).await?;
    let attachment = tenant.upload_one(PNG).await?;
    let late = tenant.declare(&[PDF]).await?;
    let upload = text(&late, "/files/0/url")?;
    let download = tenant.api.content_url(id(&attachment)?).await?;
    // Reusable while it lasts.
    for _ in 0..2 {
        tenant.api.get(&download).await?.expect(200)?;
    }
    tokio::time::sleep(UNTIL_ALL_HAVE_EXPIRED).await;

    for range in [None, Some("bytes=0-0"), Some("bytes=99999-")] {
        let headers: Vec<_> = range.iter().map(|range| ("range", *range)).collect();
        let reply = tenant.api.get_with(&download, &headers).await?;
        reply.expect(status).with_context(|| format!("{range:?}"))?;
        ensure!(!reply.body.starts_with(b"\x89PNG"), "it was sent");
    }
    let head = tenant.api.send(Method::HEAD, &download, &[], None).await?;
    ensure!(head.status >= 400, "HEAD {}", head.status);
    let put = tenant.api.put(&late["files"][0], PDF.bytes).await?;
    put.expect(status).context(upload.to_owned())?;
    tenant
        .complete(&late)
        .await?
        .expect_problem(410, "upload_expired")?;

    // Nothing is lost: a new URL is for the asking.
    tenant.api.download(id(&attachment)?).await?;
    Ok(())
}

#[tokio::test]
async fn on_the_bucket() -> Result<()> {
    requires!(SERVED);
    let vars = [UPLOAD, DOWNLOAD].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = StackSettings {
        vars: vars.into(),
        ..StackSettings::default()
    };
    ends(&start_stack(settings).await?, 403).await
}

#[tokio::test]
async fn on_an_s3_store() -> Result<()> {
    requires!(S3);
    let (stack, _store) = s3_stack(&[UPLOAD, DOWNLOAD]).await?;
    ends(&stack, 403).await
}
