//! What the service needs of any runtime, by tokio, reqwest and ring.

use axum::body::Body;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http_body_util::BodyExt;
use keepsake_service::runtime::{
    Content, Fetch, Fetched, Hasher, KeyKind, Level, Runtime, Signed, Task, UnusableKey,
    install as install_runtime,
};
use md5::Md5;
use reqwest::{Client, redirect::Policy};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use sha2::{Digest, Sha256};
use std::{
    future::ready,
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Installs it for the service, and ring for every connection with TLS.
pub(crate) fn install() {
    // Of several the first stays, and all are the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    install_runtime(&Tokio);
}

#[derive(Debug)]
struct Tokio;

/// Kept, because it keeps connections.
static CLIENT: OnceLock<Option<Client>> = OnceLock::new();

impl Runtime for Tokio {
    fn now(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_millis().try_into().unwrap_or(u64::MAX))
    }

    fn sleep(&self, time: Duration) -> Task<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    fn log(&self, level: Level, line: &str) {
        let level = match level {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        let time = OffsetDateTime::now_utc()
            .format(&Rfc3339)
            .unwrap_or_default();
        // A line is a JSON object with one member or more.
        let members = line.strip_prefix('{').unwrap_or("}");
        // `println!` panics when nobody reads any more.
        let line = format!("{{\"time\":\"{time}\",\"level\":\"{level}\",{members}\n");
        let _ = std::io::Write::write_all(&mut std::io::stdout().lock(), line.as_bytes());
    }

    fn fetch<'a>(&self, request: Fetch<'a>) -> Task<'a, Result<Fetched, String>> {
        Box::pin(fetch(request))
    }

    fn sha256(&self) -> Box<dyn Hasher> {
        Box::new(Sha256Hasher(Sha256::new()))
    }

    fn md5<'a>(&self, text: &'a str) -> Task<'a, Result<Vec<u8>, String>> {
        Box::pin(ready(Ok(Md5::digest(text).to_vec())))
    }

    fn verify<'a>(&self, signed: Signed<'a>) -> Task<'a, Result<bool, UnusableKey>> {
        Box::pin(ready(verify(&signed).ok_or(UnusableKey)))
    }
}

fn client() -> Option<&'static Client> {
    let build = || {
        let client = Client::builder().redirect(Policy::none());
        client.build().ok()
    };
    CLIENT.get_or_init(build).as_ref()
}

async fn fetch(request: Fetch<'_>) -> Result<Fetched, String> {
    let client = client().ok_or("no HTTP client can be made")?;
    let method = request.method.parse().map_err(|_| "no HTTP method")?;
    let mut outgoing = client.request(method, request.url).timeout(request.time);
    for (name, value) in request.headers {
        outgoing = outgoing.header(*name, *value);
    }
    if let Some(body) = request.body {
        outgoing = outgoing.body(body.to_owned());
    }
    // Its URL may be signed, so that it stays out of the log.
    let answer = outgoing.send().await.map_err(cause)?;
    Ok(Fetched {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        content: Content {
            body: Body::new(reqwest::Body::from(answer)),
            ..Content::default()
        },
    })
}

fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn add(&mut self, content: Content) -> Task<'_, Result<(), String>> {
        Box::pin(async move {
            let mut body = content.body;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| format!("the object broke off: {error}"))?;
                self.0.update(frame.into_data().unwrap_or_default());
            }
            Ok(())
        })
    }

    fn finish(self: Box<Self>) -> Task<'static, Result<[u8; 32], String>> {
        Box::pin(ready(Ok(self.0.finalize().into())))
    }
}

/// Whether the signature is the key's; `None` for a key without its numbers.
fn verify(signed: &Signed<'_>) -> Option<bool> {
    let number = |wanted| {
        let (_, text) = signed.numbers.iter().find(|(name, _)| *name == wanted)?;
        URL_SAFE_NO_PAD.decode(text).ok()
    };
    let Signed {
        text, signature, ..
    } = signed;
    let verdict = match signed.kind {
        KeyKind::Rsa => {
            let (n, e) = (number("n")?, number("e")?);
            RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, text, signature)
        }
        KeyKind::P256 => {
            // Uncompressed (SEC 1, 2.3.3).
            let point = [vec![4], number("x")?, number("y")?].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(text, signature)
        }
        KeyKind::Ed25519 => UnparsedPublicKey::new(&ED25519, number("x")?).verify(text, signature),
    };
    Some(verdict.is_ok())
}
