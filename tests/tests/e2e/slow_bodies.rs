//! Clients that send their body one byte at a time, or stop in the middle: each is answered in the end, and nobody
//! waits for them. Signed uploads have their own limit, the end of their URL: see `object_urls`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keepsake_tests::api::declaration;
use keepsake_tests::fixtures::PNG;
use keepsake_tests::token::{claims, mint};
use reqwest::Method;
use serde_json::json;
use tokio::task::spawn_blocking;

use crate::world::{Tenant, own_stack};

/// The worker waits for a body for 30 seconds.
const PATIENCE: Duration = Duration::from_secs(45);

const JSON: &str = "application/json";
const FORM: &str = "multipart/form-data; boundary=b";

/// How a client dawdles.
#[derive(Clone, Copy, Debug)]
enum Pace {
    /// A byte a second, for longer than anybody waits.
    ByteASecond,
    /// Half of it, and then nothing.
    StopsHalfWay,
}

/// A body that takes its time.
#[derive(Clone, Debug)]
struct Slow {
    address: String,
    bearer: Option<String>,
    path: String,
    content_type: &'static str,
    /// Without a length it comes in chunks.
    has_length: bool,
    body: String,
    pace: Pace,
}

impl Slow {
    /// Sends it until there is an answer; the answer, and when it came.
    fn send(&self) -> Result<(String, Duration)> {
        let started = Instant::now();
        let mut connection = TcpStream::connect(&self.address)?;
        connection.write_all(self.head().as_bytes())?;
        connection.set_read_timeout(Some(Duration::from_secs(1)))?;
        let (now, later) = match self.pace {
            Pace::ByteASecond => ("", self.body.as_str()),
            Pace::StopsHalfWay => (&self.body[..self.body.len() / 2], ""),
        };
        self.write(&mut connection, now)?;
        let mut rest = later.chars();
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        while started.elapsed() < PATIENCE {
            if let Some(next) = rest.next() {
                // It may have hung up with its answer.
                let _ = self.write(&mut connection, &next.to_string());
            }
            match connection.read(&mut part) {
                Ok(0) => break,
                Ok(count) => answer.extend_from_slice(&part[..count]),
                Err(_) if !answer.is_empty() => break,
                Err(_) => {}
            }
        }
        let took = started.elapsed();
        let answer = String::from_utf8(answer).context("not text")?;
        ensure!(!answer.is_empty(), "{self:?} has no answer after {took:?}");
        Ok((answer, took))
    }

    fn head(&self) -> String {
        let framing = match self.has_length {
            true => format!("content-length: {}", self.body.len()),
            false => "transfer-encoding: chunked".to_owned(),
        };
        let bearer = self.bearer.as_ref().map_or(String::new(), |token| {
            format!("authorization: Bearer {token}\r\n")
        });
        format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: {}\r\n{bearer}{framing}\r\n\r\n",
            self.path, self.address, self.content_type
        )
    }

    fn write(&self, connection: &mut TcpStream, text: &str) -> std::io::Result<()> {
        match (text.is_empty(), self.has_length) {
            (true, _) => Ok(()),
            (false, true) => connection.write_all(text.as_bytes()),
            (false, false) => write!(connection, "{:x}\r\n{text}\r\n", text.len()),
        }
    }
}

#[tokio::test]
async fn who_dawdles_is_answered_and_nobody_waits() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let url: reqwest::Url = stack.worker.url().parse()?;
    let address = format!("127.0.0.1:{}", url.port().context("no port")?);
    let bearer = mint(&claims(&tenant.name, "ada"), &stack.secrets.jwt_key);
    let body = tenant.request(json!([declaration(&PNG)])).to_string();
    let at_once = format!("/v1/post/{}/attachments", tenant.post);
    // Without its end, for which nobody waits as long as for a file: who sends it is not known yet.
    let form =
        format!("--b\r\nContent-Disposition: form-data; name=\"access_token\"\r\n\r\n{bearer}");

    let mut clients = Vec::new();
    for pace in [Pace::ByteASecond, Pace::StopsHalfWay] {
        for has_length in [true, false] {
            let declares = (Some(&bearer), "/v1/uploads", JSON, &body, "408");
            let unknown = (None, "/v1/uploads", JSON, &body, "401");
            let nowhere = (Some(&bearer), "/v1/nowhere/at/all/x", JSON, &body, "404");
            let sends = (None, &*at_once, FORM, &form, "408");
            for (bearer, path, content_type, body, status) in [declares, unknown, nowhere, sends] {
                let slow = Slow {
                    address: address.clone(),
                    bearer: bearer.cloned(),
                    path: path.to_owned(),
                    content_type,
                    has_length,
                    body: body.clone(),
                    pace,
                };
                // Several of each, all at once.
                for _ in 0..4 {
                    let slow = slow.clone();
                    clients.push((status, spawn_blocking(move || slow.send())));
                }
            }
        }
    }

    // Others do not notice.
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let started = Instant::now();
        tenant.api.get("/v1/attachments").await?.expect(200)?;
        slowest = slowest.max(started.elapsed());
        spawn_blocking(|| thread::sleep(Duration::from_millis(250))).await?;
    }
    ensure!(
        slowest < Duration::from_secs(5),
        "another request took {slowest:?}"
    );

    for (status, client) in clients {
        let (answer, took) = client.await??;
        ensure!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        if status == "408" {
            ensure!(answer.contains("\"body_too_slow\""), "{answer}");
            ensure!(took > Duration::from_secs(25), "given up after {took:?}");
        }
    }
    assert_eq!(tenant.upload_sets().await?, 0);
    tenant.upload(&[PNG]).await?;
    Ok(())
}

/// Announced bytes of files, as many as all bodies of this kind have room for.
const ANNOUNCED: [u32; 7] = [
    5 << 20,
    5 << 20,
    5 << 20,
    5 << 20,
    5 << 20,
    5 << 20,
    2 << 20,
];

#[tokio::test]
async fn who_sends_slowly_leaves_room_for_other_tenants() -> Result<()> {
    let stack = own_stack().await?;
    let (slow, other) = (Tenant::new(&stack).await?, Tenant::new(&stack).await?);
    let url: reqwest::Url = stack.worker.url().parse()?;
    let address = format!("127.0.0.1:{}", url.port().context("no port")?);
    let bearer = mint(&claims(&slow.name, "ada"), &stack.secrets.jwt_key);
    let mut connections = Vec::new();
    for bytes in ANNOUNCED {
        let mut connection = TcpStream::connect(&address)?;
        write!(
            connection,
            "POST {}/attachments?name=a.txt HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {bearer}\r\n\
             content-length: {bytes}\r\n\r\nx",
            slow.post_path()
        )?;
        connections.push(connection);
    }
    spawn_blocking(|| thread::sleep(Duration::from_secs(2))).await?;

    let here = format!("{}/attachments?name=note.txt", other.post_path());
    let sent = Some(b"a note".to_vec());
    let stored = other.api.send(Method::POST, &here, &[], sent).await?;
    stored.expect(201)?;

    // The slow tenant has its share.
    let here = format!("{}/attachments?name=more.txt", slow.post_path());
    let sent = Some(vec![b'x'; 2 << 20]);
    let refused = slow.api.send(Method::POST, &here, &[], sent).await?;
    refused.expect_problem(429, "too_many_requests")?;
    drop(connections);
    Ok(())
}
