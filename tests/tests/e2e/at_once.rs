//! Files that come with one request: all visible at once, or nothing left.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::api::{Api, Reply, declaration, sha256_base64, sha256_hex, text};
use keepsake_tests::fixtures::{Fixture, JPEG, PDF, PNG, TEXT};
use keepsake_tests::requires;
use keepsake_tests::stack::{Stack, StackSettings};
use keepsake_tests::token;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::agreement::{Place, assert_agreement};
use crate::object_store::Fault;
use crate::world::{
    Tenant, errors, id, names, own_stack, run_schedule, s3_stack, start_stack, tenant,
};

const ORIGIN: &str = "https://app.example.com";
const FORM: &str = "multipart/form-data; boundary=----7MA4YWxkTrZu0gW";

/// The default of `INLINE_MAX_BYTES`.
const MAX_BYTES: usize = 5 << 20;

/// A part of a form.
enum Part<'a> {
    Field(&'a str, &'a str),
    File(&'a str, &'a [u8]),
}

fn file(file: Fixture) -> Part<'static> {
    Part::File(file.name, file.bytes)
}

fn form(parts: &[Part<'_>]) -> Vec<u8> {
    let mut form = Vec::new();
    for part in parts {
        form.extend(b"------7MA4YWxkTrZu0gW\r\nContent-Disposition: form-data; name=\"");
        match part {
            Part::Field(name, value) => {
                form.extend(format!("{name}\"\r\n\r\n{value}").into_bytes());
            }
            Part::File(name, bytes) => {
                form.extend(format!("any[]\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n").into_bytes());
                form.extend(*bytes);
            }
        }
        form.extend(b"\r\n");
    }
    form.extend(b"------7MA4YWxkTrZu0gW--\r\n");
    form
}

async fn send(
    api: &Api,
    post: &str,
    query: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Result<Reply> {
    let path = format!("/v1/post/{post}/attachments{query}");
    api.send(Method::POST, &path, headers, Some(body)).await
}

async fn send_form(tenant: &Tenant<'_>, parts: &[Part<'_>]) -> Result<Reply> {
    send(
        &tenant.api,
        &tenant.post,
        "",
        &[("content-type", FORM)],
        form(parts),
    )
    .await
}

async fn send_file(tenant: &Tenant<'_>, name: &str, bytes: &[u8]) -> Result<Reply> {
    let query = format!("?name={name}");
    send(&tenant.api, &tenant.post, &query, &[], bytes.to_vec()).await
}

async fn expect_nothing_left(tenant: &Tenant<'_>) -> Result<()> {
    ensure!(tenant.upload_sets().await? == 0, "a set is left");
    ensure!(tenant.rows().await? == 0, "rows are left");
    Ok(())
}

#[tokio::test]
async fn one_file_is_the_body() -> Result<()> {
    let tenant = tenant().await?;
    // What curl says of any body.
    let curl = [("content-type", "application/x-www-form-urlencoded")];
    let body = PNG.bytes.to_vec();
    let query = "?name=R%C3%A9sum%C3%A9+1.png";
    let reply = send(&tenant.api, &tenant.post, query, &curl, body).await?;
    let stored = reply.json_if(201)?;
    assert_eq!(stored["state"], "completed");
    let upload = format!("/v1/uploads/{}", id(&stored)?);
    assert_eq!(reply.header("location"), Some(&*upload));
    let attachment = &stored["attachments"][0];
    assert_eq!(attachment["name"], "Résumé 1.png");
    assert_eq!(attachment["media_type"], "image/png");
    assert_eq!(attachment["sha256"], sha256_hex(PNG.bytes));
    ensure!(attachment["content_url"].is_string());
    assert_eq!(tenant.api.download(id(attachment)?).await?.body, PNG.bytes);
    assert_eq!(tenant.visible().await?, ["Résumé 1.png"]);
    let shown = tenant.api.get(&upload).await?.json_if(200)?;
    assert_eq!(shown["state"], "completed");
    Ok(())
}

#[tokio::test]
async fn several_files_are_a_form() -> Result<()> {
    let tenant = tenant().await?;
    let parts = [
        file(TEXT),
        // A file field that was left empty.
        Part::File("", b""),
        Part::File("quoted%22.png", PNG.bytes),
        file(PDF),
    ];
    let stored = send_form(&tenant, &parts).await?.json_if(201)?;
    let listed = stored["attachments"].as_array().context("no list")?;
    let order: Vec<_> = listed.iter().map(|one| one["name"].clone()).collect();
    assert_eq!(order, [TEXT.name, "quoted\".png", PDF.name]);
    for (attachment, sent) in listed.iter().zip([TEXT, PNG, PDF]) {
        let file = tenant.api.download(id(attachment)?).await?;
        assert_eq!(file.body, sent.bytes);
    }
    assert_eq!(names(&tenant.attachments().await?).len(), 3);
    Ok(())
}

#[tokio::test]
async fn what_no_upload_may_hold_is_refused_and_leaves_nothing() -> Result<()> {
    let tenant = tenant().await?;
    let large = b"keepsake\n".repeat(MAX_BYTES / 9 + 1);
    for (name, bytes, status, code) in [
        ("virus.exe", PNG.bytes, 415, "media_type_not_allowed"),
        ("README", TEXT.bytes, 415, "media_type_not_allowed"),
        ("disguised.png", PDF.bytes, 422, "upload_rejected"),
        ("disguised.pdf", PNG.bytes, 422, "upload_rejected"),
        ("..%2Fup.png", PNG.bytes, 422, "invalid_upload"),
        ("nul%00.png", PNG.bytes, 422, "invalid_upload"),
        ("CON.png", PNG.bytes, 422, "invalid_upload"),
        ("", PNG.bytes, 422, "invalid_upload"),
        ("empty.png", b"", 422, "invalid_upload"),
        ("large.txt", &large, 413, "body_too_large"),
    ] {
        send_file(&tenant, name, bytes)
            .await?
            .expect_problem(status, code)
            .with_context(|| name.to_owned())?;
    }
    let problem = send_form(&tenant, &[file(PNG), Part::File("letter.pdf", PNG.bytes)]).await?;
    let problem = problem.expect_problem(422, "upload_rejected")?;
    assert_eq!(errors(&problem), [("/files/1", "media_type_mismatch")]);
    for (parts, status, code) in [
        (vec![], 422, "invalid_upload"),
        (vec![file(PNG), file(PNG)], 422, "invalid_upload"),
        ((0..6).map(|_| file(PNG)).collect(), 422, "invalid_upload"),
        (
            vec![Part::Field("comment", "x"), file(PNG)],
            400,
            "unknown_field",
        ),
        (
            vec![file(PNG), Part::Field("access_token", "x")],
            400,
            "unknown_field",
        ),
        (vec![Part::File("large.txt", &large)], 413, "body_too_large"),
    ] {
        let reply = send_form(&tenant, &parts).await?;
        reply.expect_problem(status, code)?;
    }
    // A form of many small parts.
    let many = (0..200).map(|_| file(TEXT)).collect::<Vec<_>>();
    let reply = send_form(&tenant, &many).await?;
    reply.expect_problem(400, "malformed_form")?;
    expect_nothing_left(&tenant).await
}

#[tokio::test]
async fn what_is_no_request_for_it_is_refused() -> Result<()> {
    let tenant = tenant().await?;
    let (api, post) = (&tenant.api, &*tenant.post);
    let png = || PNG.bytes.to_vec();
    let plain: &[(&str, &str)] = &[];
    for (query, headers, body, status, code) in [
        ("", plain, png(), 400, "invalid_field"),
        ("?file=a.png", plain, png(), 400, "unknown_field"),
        (
            "?name=a.png",
            &[("content-encoding", "gzip")],
            png(),
            415,
            "unsupported_content_type",
        ),
        (
            "?name=a.png",
            &[("content-type", FORM)],
            form(&[file(PNG)]),
            400,
            "invalid_field",
        ),
        ("", &[("content-type", FORM)], png(), 400, "malformed_form"),
        (
            "",
            &[("content-type", FORM)],
            b"------7MA4YWxkTrZu0gW\r\n".to_vec(),
            400,
            "malformed_form",
        ),
        (
            "",
            &[("content-type", "multipart/form-data")],
            form(&[file(PNG)]),
            400,
            "malformed_form",
        ),
        (
            "?name=a.png",
            &[("idempotency-key", "")],
            png(),
            400,
            "invalid_field",
        ),
    ] {
        send(api, post, query, headers, body)
            .await?
            .expect_problem(status, code)
            .with_context(|| format!("{query} {headers:?}"))?;
    }
    for (post, code) in [("987654321", "not_found"), ("a%20b%2Fc", "invalid_id")] {
        let reply = send(api, post, "?name=a.png", &[], png()).await?;
        reply.expect_problem(if code == "not_found" { 404 } else { 400 }, code)?;
    }
    let stranger = Tenant::new(tenant.stack).await?;
    let reply = send(&stranger.api, post, "?name=a.png", &[], png()).await?;
    reply.expect_problem(404, "not_found")?;
    let mut claims = token::claims(&tenant.name, "ada");
    claims["scope"] = json!("attachments:read");
    let reader = token::mint(&claims, &tenant.stack.secrets.jwt_key);
    let reader = api.with_bearer(Some(&reader));
    let reply = send(&reader, post, "?name=a.png", &[], png()).await?;
    reply.expect_problem(403, "insufficient_scope")?;
    let nobody = api.with_bearer(None);
    let reply = send(&nobody, post, "?name=a.png", &[], png()).await?;
    reply.expect_problem(401, "missing_token")?;
    expect_nothing_left(&tenant).await?;

    send_file(&tenant, PNG.name, PNG.bytes).await?.expect(201)?;
    let taken = send_file(&tenant, "LOCKET.png", PNG.bytes).await?;
    taken.expect_problem(409, "name_taken")?;
    assert_eq!(tenant.rows().await?, 1);
    Ok(())
}

#[tokio::test]
async fn the_quota_counts_what_is_stored_at_once() -> Result<()> {
    let tenant = tenant().await?;
    sqlx::query(
        "INSERT INTO attachments.quota (scope, tenant_id, max_files) VALUES ('tenant', $1, 1)",
    )
    .bind(&tenant.name)
    .execute(&mut tenant.database().await?)
    .await?;
    let both = send_form(&tenant, &[file(PNG), file(TEXT)]).await?;
    both.expect_problem(403, "quota_exceeded")?;
    expect_nothing_left(&tenant).await?;
    send_file(&tenant, PNG.name, PNG.bytes).await?.expect(201)?;
    let more = send_file(&tenant, TEXT.name, TEXT.bytes).await?;
    more.expect_problem(403, "quota_exceeded")?;
    let usage = tenant.api.get("/v1/usage").await?.json_if(200)?;
    assert_eq!(usage["tenant"]["files"], 1);
    assert_eq!(usage["user"]["pending"], 0);
    Ok(())
}

#[tokio::test]
async fn the_tenant_may_have_other_file_types() -> Result<()> {
    let tenant = tenant().await?;
    sqlx::query("INSERT INTO attachments.file_type_rule VALUES ($1, NULL, '-png +unknown')")
        .bind(&tenant.name)
        .execute(&mut tenant.database().await?)
        .await?;
    let refused = send_file(&tenant, PNG.name, PNG.bytes).await?;
    refused.expect_problem(415, "media_type_not_allowed")?;
    expect_nothing_left(&tenant).await?;
    send_file(&tenant, "measured.q3", b"\x01\x02")
        .await?
        .expect(201)
}

#[tokio::test]
async fn what_was_changed_on_the_way_is_not_stored() -> Result<()> {
    let tenant = tenant().await?;
    let (png, text) = (sha256_hex(PNG.bytes), sha256_base64(TEXT.bytes));
    let said = |name, digest| [(name, digest)];
    for (digest, status, code) in [
        (&*text, 422, "sha256_mismatch"),
        ("x", 422, "sha256_invalid"),
    ] {
        let header = said("x-amz-checksum-sha256", digest);
        let body = PNG.bytes.to_vec();
        let reply = send(&tenant.api, &tenant.post, "?name=a.png", &header, body).await?;
        let problem = reply.expect_problem(status, "invalid_upload")?;
        assert_eq!(errors(&problem), [("/files/0/sha256", code)]);
    }
    for (digests, status, code) in [
        (&[&*text, &*png] as &[&str], 422, "invalid_upload"),
        (&[&*png], 400, "invalid_field"),
        (&[&*png, &*text, &*text], 400, "invalid_field"),
    ] {
        let fields = digests.iter().map(|digest| Part::Field("sha256", digest));
        let parts: Vec<_> = fields.chain([file(PNG), file(TEXT)]).collect();
        let reply = send_form(&tenant, &parts).await?;
        reply.expect_problem(status, code)?;
    }
    expect_nothing_left(&tenant).await?;
    let parts = [
        file(PNG),
        Part::Field("sha256", &png),
        Part::Field("sha256", &text),
        file(TEXT),
    ];
    send_form(&tenant, &parts).await?.expect(201)?;
    let header = said("x-amz-checksum-sha256", &png);
    let body = PNG.bytes.to_vec();
    send(&tenant.api, &tenant.post, "?name=a.png", &header, body)
        .await?
        .expect(201)
}

#[tokio::test]
async fn a_key_stands_for_the_files_that_came_with_it() -> Result<()> {
    let tenant = tenant().await?;
    let with_key = async |key: &str, files: &[Part<'_>]| {
        let headers = [("content-type", FORM), ("idempotency-key", key)];
        send(&tenant.api, &tenant.post, "", &headers, form(files)).await
    };
    let first = with_key("k", &[file(PNG), file(TEXT)])
        .await?
        .json_if(201)?;
    let again = with_key("k", &[file(PNG), file(TEXT)])
        .await?
        .json_if(201)?;
    assert_eq!(first, again);
    assert_eq!(tenant.rows().await?, 2);
    let other = with_key("k", &[file(PNG), Part::File(TEXT.name, b"other bytes")]).await?;
    other.expect_problem(422, "idempotency_mismatch")?;
    // The same files in another way are another request.
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", "k"),
    ];
    let body = tenant.request(json!([declaration(&PNG), declaration(&TEXT)]));
    let declared = tenant.api.send(
        Method::POST,
        "/v1/uploads",
        &headers,
        Some(body.to_string().into_bytes()),
    );
    declared
        .await?
        .expect_problem(422, "idempotency_mismatch")?;
    Ok(())
}

#[tokio::test]
async fn of_several_at_once_with_one_name_one_is_stored() -> Result<()> {
    let tenant = tenant().await?;
    let mut requests = JoinSet::new();
    for n in 0..8 {
        let (api, post) = (tenant.api.clone(), tenant.post.clone());
        requests.spawn(async move {
            let body = format!("the text of number {n}").into_bytes();
            send(&api, &post, "?name=one.txt", &[], body).await
        });
    }
    let mut stored = 0;
    while let Some(reply) = requests.join_next().await {
        let reply = reply??;
        match reply.status {
            201 => stored += 1,
            _ => drop(reply.expect_problem(409, "name_taken")?),
        }
    }
    assert_eq!(stored, 1);
    assert_eq!(tenant.visible().await?, ["one.txt"]);
    Ok(())
}

#[tokio::test]
async fn with_one_key_all_at_once_get_one_answer() -> Result<()> {
    let tenant = tenant().await?;
    let mut requests = JoinSet::new();
    for _ in 0..6 {
        let (api, post) = (tenant.api.clone(), tenant.post.clone());
        requests.spawn(async move {
            let key = [("idempotency-key", "same")];
            loop {
                let body = PNG.bytes.to_vec();
                let reply = send(&api, &post, "?name=one.png", &key, body).await?;
                if reply.code().as_deref() != Some("idempotency_in_flight") {
                    return reply.json_if(201);
                }
            }
        });
    }
    let mut answers: Vec<Value> = Vec::new();
    while let Some(answer) = requests.join_next().await {
        answers.push(answer??);
    }
    ensure!(
        answers.windows(2).all(|two| two[0] == two[1]),
        "{answers:?}"
    );
    assert_eq!(tenant.rows().await?, 1);
    Ok(())
}

/// A stack whose forms may send browsers to [`ORIGIN`].
async fn page_stack() -> Result<Stack> {
    let settings = StackSettings {
        vars: vec![("ALLOWED_ORIGINS".to_owned(), ORIGIN.to_owned())],
        ..StackSettings::default()
    };
    start_stack(settings).await
}

#[tokio::test]
async fn a_page_without_a_script_sends_its_token_and_is_sent_back() -> Result<()> {
    let stack = page_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let mint = |claims: &Value| token::mint(claims, &stack.secrets.jwt_key);
    let claims = token::claims(&tenant.name, "ada");
    let good = mint(&claims);
    let nobody = tenant.api.with_bearer(None);
    let send = async |parts: &[Part<'_>]| {
        let headers = [("content-type", FORM), ("origin", "null")];
        send(&nobody, &tenant.post, "", &headers, form(parts)).await
    };
    let token = || Part::Field("access_token", &good);

    for elsewhere in [
        "https://evil.example.com/",
        "https://app.example.com.evil.example.com/",
        "https://app.example.com@evil.example.com/",
        "https://app.example.com:8443/",
        "https://app.example.com\\@evil.example.com",
        "//app.example.com/",
        "/done",
        "javascript:alert(1)",
        "https://app.example.com/\r\nSet-Cookie: a=b",
        "https://app.example.com/é",
        "HTTPS://app.example.com/",
        "",
    ] {
        let refused = send(&[token(), Part::Field("redirect", elsewhere), file(PNG)]).await?;
        refused
            .expect_problem(400, "invalid_field")
            .with_context(|| elsewhere.to_owned())?;
    }
    let mut other = claims.clone();
    other["scope"] = json!("attachments:read");
    let (reader, forged) = (mint(&other), format!("{good}x"));
    let long = "x".repeat(200_000);
    for (parts, status, code) in [
        (vec![file(PNG)], 401, "missing_token"),
        (vec![file(PNG), token()], 401, "missing_token"),
        (
            vec![Part::File("access_token", good.as_bytes()), file(PNG)],
            401,
            "missing_token",
        ),
        (
            vec![Part::Field("access_token", &forged), file(PNG)],
            401,
            "invalid_token",
        ),
        (
            vec![Part::Field("access_token", ""), file(PNG)],
            401,
            "invalid_token",
        ),
        (
            vec![Part::Field("access_token", &long), file(PNG)],
            401,
            "missing_token",
        ),
        (
            vec![Part::Field("access_token", &reader), file(PNG)],
            403,
            "insufficient_scope",
        ),
        (vec![token(), token(), file(PNG)], 400, "unknown_field"),
    ] {
        send(&parts).await?.expect_problem(status, code)?;
    }
    expect_nothing_left(&tenant).await?;

    let back = format!("{ORIGIN}/posts/7?done#files");
    let reply = send(&[token(), file(PNG), Part::Field("redirect", &back)]).await?;
    reply.expect(303)?;
    assert_eq!(reply.header("location"), Some(&*back));
    ensure!(reply.body.is_empty());
    send(&[token(), file(TEXT)]).await?.json_if(201)?;
    assert_eq!(tenant.visible().await?, [PNG.name, TEXT.name]);
    Ok(())
}

/// The head of a request for this post, up to the lines that say how its body comes.
fn head(tenant: &Tenant<'_>) -> String {
    let claims = token::claims(&tenant.name, "ada");
    let bearer = token::mint(&claims, &tenant.stack.secrets.jwt_key);
    let post = &tenant.post;
    format!(
        "POST /v1/post/{post}/attachments?name=raw.txt HTTP/1.1\r\nhost: worker\r\nauthorization: Bearer {bearer}\r\nconnection: close\r\n"
    )
}

fn connect(stack: &Stack) -> Result<TcpStream> {
    let client = TcpStream::connect(stack.worker.url().trim_start_matches("http://"))?;
    client.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(client)
}

/// Resets connections: that their client merely says no more would not end a request.
fn break_off(clients: Vec<TcpStream>) -> Result<()> {
    for client in clients {
        client.set_nonblocking(true)?;
        tokio::net::TcpStream::from_std(client)?.set_zero_linger()?;
    }
    Ok(())
}

#[tokio::test]
async fn a_body_of_unknown_length_is_counted() -> Result<()> {
    let tenant = tenant().await?;
    for (bytes, status) in [(MAX_BYTES, "201"), (MAX_BYTES + 1, "413")] {
        let mut client = connect(tenant.stack)?;
        let begin = format!("{}transfer-encoding: chunked\r\n\r\n", head(&tenant));
        let body = vec![b'x'; bytes];
        let answer = tokio::task::spawn_blocking(move || -> Result<String> {
            client.write_all(begin.as_bytes())?;
            for chunk in body.chunks(64 << 10) {
                write!(client, "{:x}\r\n", chunk.len())?;
                client.write_all(chunk)?;
                client.write_all(b"\r\n")?;
            }
            client.write_all(b"0\r\n\r\n")?;
            let mut answer = Vec::new();
            client.read_to_end(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        });
        let answer = answer.await??;
        ensure!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{bytes}: {answer}"
        );
    }
    assert_eq!(tenant.rows().await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_client_that_breaks_off_leaves_nothing_and_takes_no_room() -> Result<()> {
    // Others would have no room meanwhile.
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let begin = format!("{}content-length: {MAX_BYTES}\r\n\r\n", head(&tenant));
    let large = vec![b'x'; MAX_BYTES];
    // As many as there is room for.
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = connect(&stack)?;
        client.write_all(begin.as_bytes())?;
        client.write_all(&large[..MAX_BYTES / 2])?;
        clients.push(client);
    }
    let refused = send_file(&tenant, "large.txt", &large).await?;
    refused.expect_problem(429, "too_many_requests")?;
    break_off(clients)?;
    // As large as they: a small one would fit beside them.
    send_file(&tenant, "large.txt", &large).await?.expect(201)?;
    assert_eq!(tenant.rows().await?, 1);
    Ok(())
}

#[tokio::test]
async fn what_the_store_does_not_take_is_removed() -> Result<()> {
    requires!(S3);
    let (stack, store) = s3_stack(&[]).await?;
    {
        let tenant = Tenant::new(&stack).await?;
        // It takes one of two, whose answer nobody gets.
        store.trap("PUT", "", Fault::Refused(403), 1);
        let failed = send_form(&tenant, &[file(PNG), file(TEXT)]).await?;
        failed.expect_problem(503, "storage_unavailable")?;
        ensure!(tenant.visible().await?.is_empty());
        // Trouble that passes is not noticed.
        store.trap("PUT", "", Fault::DoneButRefused(503), 1);
        store.trap("PUT", "", Fault::ReplyLost, 1);
        send_form(&tenant, &[file(PNG), file(TEXT)])
            .await?
            .expect(201)?;
        assert_eq!(tenant.visible().await?, [PNG.name, TEXT.name]);
        let listed = tenant.attachments().await?;
        for attachment in &listed {
            tenant.api.download(id(attachment)?).await?;
        }
        // With a key the next try goes on with the same set.
        store.trap("PUT", "", Fault::Refused(403), 1);
        let key = [("idempotency-key", "k")];
        let again = async || {
            let body = JPEG.bytes.to_vec();
            send(&tenant.api, &tenant.post, "?name=k.jpg", &key, body).await
        };
        again().await?.expect_problem(503, "storage_unavailable")?;
        let sets = tenant.upload_sets().await?;
        again().await?.expect(201)?;
        assert_eq!(tenant.upload_sets().await?, sets);
        assert_eq!(tenant.visible().await?.len(), 3);
    }
    assert_agreement(&stack, Place::Store(&store)).await
}

#[tokio::test]
async fn a_worker_that_dies_in_between_leaves_nothing() -> Result<()> {
    requires!(S3);
    let (mut stack, store) = s3_stack(&[]).await?;
    let (api, post, name) = {
        let tenant = Tenant::new(&stack).await?;
        (tenant.api, tenant.post, tenant.name)
    };
    let request = |key: &'static str| {
        let (api, post) = (api.clone(), post.clone());
        async move {
            let headers = [("content-type", FORM), ("idempotency-key", key)];
            let body = form(&[file(PNG), file(TEXT)]);
            send(&api, &post, "", &headers, body).await
        }
    };
    // Stored, and not known to be.
    store.trap("PUT", "", Fault::DoneButSlow(Duration::from_secs(60)), 2);
    let sent = tokio::spawn(request("k1"));
    store.sprung().await?;
    stack.worker.kill();
    ensure!(sent.await?.is_err(), "it was answered before");
    stack.worker.restart().await?;
    ensure!(api.list(("post", &post)).await?.is_empty(), "it is visible");
    let mut database = stack.postgres.connect().await?;
    let sql = "SELECT object_key FROM attachments.attachment WHERE tenant_id = $1";
    let keys: Vec<String> = sqlx::query_scalar(sql)
        .bind(&name)
        .fetch_all(&mut database)
        .await?;
    ensure!(
        keys.iter().any(|key| store.holds(key)),
        "nothing was stored before it died"
    );
    // Near its end nobody completes it, though all is there; after it, all goes.
    let age = "UPDATE attachments.upload_set SET expires_at = now() + $2::interval WHERE tenant_id = $1 AND state = 'pending'";
    for left in ["1 minute", "-2 minutes"] {
        sqlx::query(age)
            .bind(&name)
            .bind(left)
            .execute(&mut database)
            .await?;
        run_schedule(&stack).await?;
        ensure!(api.list(("post", &post)).await?.is_empty(), "it is visible");
    }
    ensure!(
        !keys.iter().any(|key| store.holds(key)),
        "an object is left"
    );
    // The key stands for nothing yet.
    let stored = request("k1").await?.json_if(201)?;
    ensure!(text(&stored, "/state")? == "completed");
    assert_eq!(api.list(("post", &post)).await?.len(), 2);
    assert_agreement(&stack, Place::Store(&store)).await
}
