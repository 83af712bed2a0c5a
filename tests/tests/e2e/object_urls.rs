//! A signed upload URL stores exactly what was declared, once, in time.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration as StdDuration;

use anyhow::{Context, Result, ensure};
use keepsake_shared::{KeyRing, ObjectToken};
use keepsake_tests::api::text;
use keepsake_tests::fixtures::{PDF, PNG, TEXT};
use keepsake_tests::requires;
use reqwest::Method;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use tokio::task::spawn_blocking;

use crate::world::{Tenant, any_object_exists, id, object_exists, own_stack, tenant};

/// The one file of a new upload of `PNG`, and the key it goes to.
async fn declared(tenant: &Tenant<'_>) -> Result<(Value, String)> {
    let upload = tenant.declare(&[PNG]).await?;
    let key = tenant.object_keys().await?.pop().context("no object key")?;
    Ok((upload["files"][0].clone(), key))
}

/// Sends bytes that must be refused with this status and code.
async fn put_refused(
    tenant: &Tenant<'_>,
    file: &Value,
    bytes: &[u8],
    status: u16,
    code: &str,
) -> Result<()> {
    let reply = tenant.api.put(file, bytes).await?;
    reply.expect_problem(status, code)?;
    Ok(())
}

#[tokio::test]
async fn a_second_upload_is_refused_and_the_first_stays() -> Result<()> {
    requires!(SERVED);
    let tenant = tenant().await?;
    let (file, key) = declared(&tenant).await?;
    tenant.put(&file, PNG).await?;
    put_refused(&tenant, &file, PNG.bytes, 412, "object_exists").await?;
    assert!(object_exists(tenant.stack, &key).await?);
    Ok(())
}

#[tokio::test]
async fn other_bytes_of_the_same_length_are_not_stored() -> Result<()> {
    requires!(SERVED);
    let tenant = tenant().await?;
    let (file, key) = declared(&tenant).await?;
    let mut other = PNG.bytes.to_vec();
    other.reverse();
    put_refused(&tenant, &file, &other, 422, "sha256_mismatch").await?;
    assert!(!object_exists(tenant.stack, &key).await?);
    // The right bytes are still welcome.
    tenant.put(&file, PNG).await?;
    Ok(())
}

#[tokio::test]
async fn another_length_is_not_stored() -> Result<()> {
    requires!(SERVED);
    let tenant = tenant().await?;
    let (file, key) = declared(&tenant).await?;
    for bytes in [&PNG.bytes[1..], &[PNG.bytes, b"x"].concat(), b""] {
        put_refused(&tenant, &file, bytes, 422, "length_mismatch").await?;
    }
    assert!(!object_exists(tenant.stack, &key).await?);
    Ok(())
}

#[tokio::test]
async fn headers_that_were_not_signed_are_refused() -> Result<()> {
    requires!(SERVED);
    let tenant = tenant().await?;
    let (file, key) = declared(&tenant).await?;
    for (name, value) in [
        ("content-type", json!("text/html")),
        ("if-none-match", json!("\"x\"")),
        (
            "x-amz-checksum-sha256",
            json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ),
    ] {
        let mut changed = file.clone();
        changed["headers"][name] = value;
        put_refused(&tenant, &changed, PNG.bytes, 422, "header_mismatch").await?;
        let headers = changed["headers"].as_object_mut();
        headers.context("no headers")?.remove(name);
        put_refused(&tenant, &changed, PNG.bytes, 422, "header_mismatch").await?;
    }
    assert!(!object_exists(tenant.stack, &key).await?);
    Ok(())
}

#[tokio::test]
async fn an_altered_url_is_refused() -> Result<()> {
    requires!(SERVED);
    let tenant = tenant().await?;
    let (file, key) = declared(&tenant).await?;
    let url = text(&file, "/url")?;
    let (stem, last) = url.split_at(url.len() - 1);
    let flipped = if last == "A" { "B" } else { "A" };
    let altered = [
        format!("{stem}{flipped}"),
        stem.to_owned(),
        format!("{url}A"),
        format!("{}/v1/objects/x", tenant.stack.worker.url()),
        format!(
            "{}/v1/objects/{}",
            tenant.stack.worker.url(),
            "x".repeat(5000)
        ),
    ];
    for url in altered {
        let mut changed = file.clone();
        changed["url"] = json!(url);
        put_refused(&tenant, &changed, PNG.bytes, 403, "url_invalid").await?;
    }
    assert!(!object_exists(tenant.stack, &key).await?);
    Ok(())
}

#[tokio::test]
async fn an_expired_url_is_refused_both_ways() -> Result<()> {
    requires!(SERVED);
    let tenant = tenant().await?;
    let attachment = tenant.upload_one(TEXT).await?;
    let download = tenant.api.content_url(id(&attachment)?).await?;
    tenant
        .api
        .get(&expired(&tenant, &download)?)
        .await?
        .expect_problem(403, "url_expired")?;

    let (mut file, key) = declared(&tenant).await?;
    file["url"] = json!(expired(&tenant, text(&file, "/url")?)?);
    put_refused(&tenant, &file, PNG.bytes, 403, "url_expired").await?;
    assert!(!object_exists(tenant.stack, &key).await?);
    Ok(())
}

/// The same permission, but its time is over.
fn expired(tenant: &Tenant<'_>, url: &str) -> Result<String> {
    ending(
        tenant,
        url,
        OffsetDateTime::now_utc() - Duration::seconds(2),
    )
}

/// The same permission until another time, signed with the worker's own key.
fn ending(tenant: &Tenant<'_>, url: &str, end: OffsetDateTime) -> Result<String> {
    let keys: KeyRing = tenant.stack.secrets.url_key_ring().parse()?;
    let (prefix, token) = url.rsplit_once('/').context("not an object URL")?;
    let mut token = ObjectToken::verify(token, &keys, OffsetDateTime::now_utc())?;
    match &mut token {
        ObjectToken::Upload { expires_at, .. }
        | ObjectToken::Part { expires_at, .. }
        | ObjectToken::Download { expires_at, .. } => {
            *expires_at = end;
        }
    }
    Ok(format!("{prefix}/{}", token.sign(&keys)))
}

#[tokio::test]
async fn a_url_serves_only_what_it_was_made_for() -> Result<()> {
    requires!(SERVED);
    let tenant = tenant().await?;
    let (file, _) = declared(&tenant).await?;
    tenant.put(&file, PNG).await?;
    let upload_url = text(&file, "/url")?;
    tenant
        .api
        .get(upload_url)
        .await?
        .expect_problem(403, "url_invalid")?;

    let attachment = tenant.upload_one(PDF).await?;
    let download = tenant.api.content_url(id(&attachment)?).await?;
    let mut as_upload = file.clone();
    as_upload["url"] = json!(download);
    put_refused(&tenant, &as_upload, PNG.bytes, 403, "url_invalid").await?;
    Ok(())
}

/// Sends the head and the first half of an upload of `PNG`, and leaves it at that.
fn begin_put(file: &Value) -> Result<TcpStream> {
    let url: reqwest::Url = text(file, "/url")?.parse()?;
    let address = format!("127.0.0.1:{}", url.port().context("no port")?);
    let mut head = format!(
        "PUT {} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n",
        url.path(),
        PNG.bytes.len()
    );
    for (name, value) in file["headers"].as_object().context("no headers")? {
        head.push_str(&format!(
            "{name}: {}\r\n",
            value.as_str().unwrap_or_default()
        ));
    }
    let mut connection = TcpStream::connect(&address)?;
    connection.write_all(head.as_bytes())?;
    connection.write_all(b"\r\n")?;
    connection.write_all(&PNG.bytes[..PNG.bytes.len() / 2])?;
    Ok(connection)
}

#[tokio::test]
async fn a_body_that_breaks_off_stores_nothing() -> Result<()> {
    requires!(SERVED);
    let tenant = tenant().await?;
    let (file, key) = declared(&tenant).await?;
    let mut connection = begin_put(&file)?;
    connection.set_read_timeout(Some(StdDuration::from_secs(2)))?;
    // Whatever it answers to half a body, or nothing: what counts is what is stored.
    let _ = connection.read(&mut [0; 256]);
    drop(connection);

    assert!(
        !any_object_exists(tenant.stack, &[key]).await?,
        "half a file was stored"
    );
    tenant.put(&file, PNG).await?;
    Ok(())
}

/// The server waits a minute for more of a file.
const PATIENCE: StdDuration = StdDuration::from_secs(90);

#[tokio::test]
async fn a_body_that_stops_is_no_error_of_the_server() -> Result<()> {
    requires!(FOLDER);
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let (file, key) = declared(&tenant).await?;
    let stalled = begin_put(&file)?;
    let half = begin_put(&file)?;
    half.shutdown(Shutdown::Write)?;
    for (mut connection, status, code) in [
        (half, "HTTP/1.1 422 ", "length_mismatch"),
        (stalled, "HTTP/1.1 408 ", "body_too_slow"),
    ] {
        let answer = spawn_blocking(move || -> Result<String> {
            connection.set_read_timeout(Some(PATIENCE))?;
            let mut answer = String::new();
            while !answer.contains("\"request_id\"") {
                let mut part = [0; 4096];
                let count = connection.read(&mut part)?;
                ensure!(count > 0, "no answer but {answer}");
                answer.push_str(&String::from_utf8_lossy(&part[..count]));
            }
            Ok(answer)
        });
        let answer = answer.await??;
        ensure!(answer.starts_with(status), "{answer}");
        ensure!(answer.contains(&format!("\"{code}\"")), "{answer}");
    }
    assert!(!object_exists(&stack, &key).await?);
    let log = std::fs::read_to_string(stack.folder().join("worker.log"))?;
    assert!(!log.contains("\"level\":\"error\""), "{log}");
    tenant.put(&file, PNG).await
}

#[tokio::test]
async fn a_body_that_dawdles_past_the_end_of_its_url_stores_nothing() -> Result<()> {
    requires!(SERVED);
    let tenant = tenant().await?;
    let (mut file, key) = declared(&tenant).await?;
    let soon = OffsetDateTime::now_utc() + Duration::seconds(2);
    file["url"] = json!(ending(&tenant, text(&file, "/url")?, soon)?);

    let mut connection = begin_put(&file)?;
    connection.set_read_timeout(Some(StdDuration::from_secs(45)))?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while !String::from_utf8_lossy(&answer).contains("url_expired") {
        let count = connection.read(&mut part)?;
        ensure!(
            count > 0,
            "no answer but {}",
            String::from_utf8_lossy(&answer)
        );
        answer.extend_from_slice(&part[..count]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 403 "));
    assert!(OffsetDateTime::now_utc() > soon, "refused too early");

    // The rest comes too late, if the connection takes it at all.
    connection.set_read_timeout(Some(StdDuration::from_secs(2)))?;
    let _ = connection.write_all(&PNG.bytes[PNG.bytes.len() / 2..]);
    let _ = connection.read(&mut part);
    assert!(!any_object_exists(tenant.stack, &[key]).await?);
    Ok(())
}

#[tokio::test]
async fn only_put_stores_and_only_get_reads() -> Result<()> {
    requires!(SERVED);
    let tenant = tenant().await?;
    let (file, key) = declared(&tenant).await?;
    let url = text(&file, "/url")?;
    for method in [Method::POST, Method::PATCH, Method::DELETE] {
        let reply = tenant
            .api
            .send(method, url, &[], Some(PNG.bytes.to_vec()))
            .await?;
        reply.expect_problem(405, "method_not_allowed")?;
    }
    assert!(!object_exists(tenant.stack, &key).await?);
    Ok(())
}
