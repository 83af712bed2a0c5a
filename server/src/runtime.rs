//! What the service needs of any runtime, by tokio, hyper and ring.

use crate::{
    tls,
    traces::{Kind, Span},
};
use axum::{
    body::{Body, Bytes, HttpBody},
    http::Request,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use keepsake_service::runtime::{
    Content, Fetch, Fetched, Hasher, KeyKind, Level, Runtime, Signed, Task, UnusableKey,
    install as install_runtime,
};
use md5::Md5;
use opentelemetry::KeyValue;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use sha2::{Digest, Sha256};
use std::{
    error::Error,
    future::ready,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

/// Installs it for the service, and ring for every connection with TLS.
pub(crate) fn install() {
    // Of several the first stays, and all are the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    install_runtime(&Tokio);
}

#[derive(Debug)]
struct Tokio;

/// What makes HTTP requests.
pub(crate) type Client = Pool<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Kept, because it keeps connections.
static CLIENT: OnceLock<Result<Client, String>> = OnceLock::new();

impl Runtime for Tokio {
    fn counts_requests(&self) -> bool {
        false
    }

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

    fn sha256_of<'a>(&self, bytes: &'a [u8]) -> Task<'a, Result<[u8; 32], String>> {
        Box::pin(ready(Ok(Sha256::digest(bytes).into())))
    }

    fn md5<'a>(&self, text: &'a str) -> Task<'a, Result<Vec<u8>, String>> {
        Box::pin(ready(Ok(Md5::digest(text).to_vec())))
    }

    fn verify<'a>(&self, signed: Signed<'a>) -> Task<'a, Result<bool, UnusableKey>> {
        Box::pin(ready(verify(&signed).ok_or(UnusableKey)))
    }
}

/// What makes HTTP requests.
///
/// # Errors
/// There is none.
pub(crate) fn client() -> Result<&'static Client, String> {
    CLIENT
        .get_or_init(new_client)
        .as_ref()
        .map_err(Clone::clone)
}

fn new_client() -> Result<Client, String> {
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls::config()?)
        .https_or_http()
        .enable_http1()
        .build();
    Ok(Pool::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(connector))
}

async fn fetch(request: Fetch<'_>) -> Result<Fetched, String> {
    let body = request.body.cloned().unwrap_or_default();
    let mut outgoing = Request::builder().method(request.method).uri(request.url);
    for (name, value) in request.headers {
        outgoing = outgoing.header(*name, *value);
    }
    let outgoing = outgoing
        .body(Full::new(body))
        .map_err(|error| cause(&error))?;
    let deadline = Instant::now() + request.time;
    let client = client()?;
    let span = span(request.operation, &outgoing);
    let answer = match timeout_at(deadline, client.request(outgoing)).await {
        Err(_) => {
            span.fail("timeout");
            return Err(LATE.to_owned());
        }
        Ok(Err(error)) => {
            span.fail("no_answer");
            return Err(cause(&error));
        }
        Ok(Ok(answer)) => answer,
    };
    let status = answer.status();
    span.add("http.response.status_code", i64::from(status.as_u16()));
    if status.is_client_error() || status.is_server_error() {
        span.fail(status.as_str().to_owned());
    }
    let (head, body) = answer.into_parts();
    Ok(Fetched {
        status: head.status.as_u16(),
        headers: head.headers,
        content: Content {
            body: Body::new(Timed {
                body,
                end: Box::pin(sleep_until(deadline)),
            }),
            ..Content::default()
        },
    })
}

/// The span of a request, up to the beginning of its answer. It tells whom is asked for what, and not the URL, which may be
/// signed.
fn span(operation: &'static str, request: &Request<Full<Bytes>>) -> Span {
    Span::begin(Kind::Client, || {
        let method = request.method().as_str().to_owned();
        let uri = request.uri();
        let usual = if uri.scheme_str() == Some("http") {
            80
        } else {
            443
        };
        let host = uri.host().unwrap_or_default().to_owned();
        let port = i64::from(uri.port_u16().unwrap_or(usual));
        let attributes = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("server.address", host),
            KeyValue::new("server.port", port),
        ];
        (operation.into(), attributes)
    })
}

const LATE: &str = "it took too long";

/// A body that must have come by some time.
struct Timed {
    body: Incoming,
    end: Pin<Box<Sleep>>,
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(LATE.into())));
        }
        Pin::new(&mut self.body)
            .poll_frame(context)
            .map_err(Into::into)
    }
}

/// What an error and those behind it say. None has the URL, which may be signed.
pub(crate) fn cause(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
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
            let (n, e) = (significant(number("n")?), significant(number("e")?));
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

/// A number without the zeros that some issuers put before it, which RFC 7518 §6.3.1 forbids and ring refuses.
fn significant(mut bytes: Vec<u8>) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A modulus with a zero before it, and a signature of `header.claims` by its key.
    const N: &str = "AMEctLp_et8ZTR55TBRVL0t7fU44FHJKODk6axJkubTJ_9x3lexCS50RFS8zycJ9ZBK0rip1MLZgkNRp0NFy7IXfYNkYNJpE5dRqq6V2G4h8MlYnRTqwAnEwfaY58Rr7NtoZrqJT7DUOke7RwAUz_Dh4rn5HtANbc_BLw3VreWX2CgChyhKpQDw4By8uY476yywKVMev02xgLEX3fZi-9inEXoZQ9ByODsPfquy84u7spP7a7JhiClHQ4YROHeXhHPfgHm6n0757fBnzDb9_9khk_M8eKq5VIOX7UMnMCKXtJKB9gynOrNJrJBxvJk-RAT781bphAD2zIonf7MDR-zs";
    const SIGNATURE: &str = "k7vHigF9HhhNhayOnlHi7Mf72nuP2hiLG1GChWbmE4bW25wOiIhewIvsKhGDPtZ81qTpEdce8lL4TvyHq0jLdcyZuQ5nNfKro-cJTPijnjiJ-B70Xpnff8p_BdZb52vLMUxpkqPifjIXlD_2Lu6JRKgm9rR7Fy_CDezQ01bSz3xHWq-RjKNZl53w99k-FyE4fCSXaLUbmZc1C3HjgjkjnMm0wLnwJiYE12pbV31HxCRC6bAJ2lRLMVwWqxrwjsYpHD7487yITONuY1-ToSTNnt_X0mjutxd-owOwiB5NZihH-zOYwd1Wgo9mzr3C7nvTo-c4N5KXBr3ETvHGhC4dMQ";

    #[test]
    fn zeros_before_a_number_change_nothing() {
        let signature = URL_SAFE_NO_PAD.decode(SIGNATURE).unwrap();
        let holds = |e: &str, text| {
            let numbers = [("n", N.to_owned()), ("e", e.to_owned())];
            let kind = KeyKind::Rsa;
            verify(&Signed {
                kind,
                numbers: &numbers,
                text,
                signature: &signature,
            })
        };
        for e in ["AQAB", "AAEAAQ"] {
            assert_eq!(holds(e, b"header.claims"), Some(true), "{e}");
            assert_eq!(holds(e, b"header.others"), Some(false), "{e}");
        }
    }
}
