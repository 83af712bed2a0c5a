//! An HTML form without a script stores exactly what was declared.

use anyhow::{Context, Result, ensure};
use keepsake_tests::api::{Reply, text};
use keepsake_tests::fixtures::PNG;
use keepsake_tests::requires;
use reqwest::Method;
use serde_json::Value;

use crate::object_store::ObjectStore;
use crate::world::{Tenant, id, shared_s3_stack, tenant};

type Fields = Vec<(String, String)>;

struct Form {
    tenant: Tenant<'static>,
    store: &'static ObjectStore,
    upload: Value,
    key: String,
    url: String,
    fields: Fields,
}

impl Form {
    async fn new() -> Result<Self> {
        let (stack, store) = shared_s3_stack().await?;
        let tenant = Tenant::new(stack).await?;
        let upload = tenant.declare(&[PNG]).await?;
        let form = &upload["files"][0]["form"];
        let fields = form["fields"].as_object().context("no fields")?;
        let fields = fields
            .iter()
            .map(|(name, value)| Ok((name.clone(), value.as_str().context("no text")?.to_owned())))
            .collect::<Result<Fields>>()?;
        Ok(Self {
            key: tenant.object_keys().await?.pop().context("no key")?,
            url: text(form, "/url")?.to_owned(),
            tenant,
            store,
            upload,
            fields,
        })
    }

    async fn send(&self, fields: &[(String, String)], file: &[u8]) -> Result<Reply> {
        const BOUNDARY: &str = "a-boundary-that-no-field-has";
        let mut body = Vec::new();
        for (name, value) in fields {
            body.extend_from_slice(
                format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                    .as_bytes(),
            );
        }
        body.extend_from_slice(
            format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"x\"\r\ncontent-type: application/octet-stream\r\n\r\n")
                .as_bytes(),
        );
        body.extend_from_slice(file);
        body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        let headers = [("content-type", kind.as_str())];
        self.tenant
            .api
            .send(Method::POST, &self.url, &headers, Some(body))
            .await
    }

    async fn refused(&self, what: &str, fields: &[(String, String)], file: &[u8]) -> Result<()> {
        let reply = self.send(fields, file).await?;
        ensure!(
            matches!(reply.status, 400 | 403 | 413 | 501),
            "{what}: {reply:?}"
        );
        ensure!(!self.store.holds(&self.key), "{what} was stored");
        Ok(())
    }
}

#[tokio::test]
async fn an_honest_form_is_stored_and_completes() -> Result<()> {
    requires!(S3);
    let form = Form::new().await?;
    let reply = form.send(&form.fields, PNG.bytes).await?;
    reply.expect(204)?;
    let done = form.tenant.complete(&form.upload).await?.json_if(200)?;
    let download = form
        .tenant
        .api
        .download(id(&done["attachments"][0])?)
        .await?;
    assert_eq!(download.body, PNG.bytes);
    assert_eq!(download.header("content-type"), Some(PNG.media_type));
    Ok(())
}

#[tokio::test]
async fn each_field_is_refused_changed_and_dropped() -> Result<()> {
    requires!(S3);
    let form = Form::new().await?;
    for index in 0..form.fields.len() {
        let (name, value) = &form.fields[index];
        let mut changed = form.fields.clone();
        changed[index].1 = format!("{value}x");
        form.refused(&format!("another {name}"), &changed, PNG.bytes)
            .await?;
        let mut dropped = form.fields.clone();
        dropped.remove(index);
        form.refused(&format!("no {name}"), &dropped, PNG.bytes)
            .await?;
    }
    for (name, value) in [
        ("acl", "public-read"),
        ("content-encoding", "gzip"),
        ("x-amz-meta-note", "x"),
        ("success_action_redirect", "https://example.com/"),
    ] {
        let mut added = form.fields.clone();
        added.push((name.to_owned(), value.to_owned()));
        form.refused(&format!("also {name}"), &added, PNG.bytes)
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn other_bytes_are_refused() -> Result<()> {
    requires!(S3);
    let form = Form::new().await?;
    let mut other = PNG.bytes.to_vec();
    other.reverse();
    let longer = [PNG.bytes, b"x"].concat();
    for (what, bytes) in [
        ("other bytes", other.as_slice()),
        ("longer", &longer),
        ("shorter", &PNG.bytes[1..]),
        ("nothing", b""),
    ] {
        form.refused(what, &form.fields, bytes).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_worker_itself_takes_no_forms() -> Result<()> {
    requires!(S3);
    let tenant = tenant().await?;
    let upload = tenant.declare(&[PNG]).await?;
    assert!(upload["files"][0]["form"].is_null());
    Ok(())
}
