//! What the service needs of the runtime below it, whichever request it works for: the time, timers, a log, HTTP requests,
//! digests and public-key signatures. A host (`edge/`, `server/`) implements [`Runtime`] and installs it when it starts.
//!
//! Calls nothing.

use axum::{
    body::{Body, Bytes},
    http::{Extensions, HeaderMap},
};
use std::{
    fmt::Debug,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll},
    time::Duration,
};

/// Work under way. A host whose futures cannot leave their thread wraps them where it implements a trait, and nowhere else.
pub type Task<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Work for which several places wait, compiled once. The compiler would rather repeat it in each of them, which makes the
/// worker larger by kilobytes.
pub(crate) struct Once<F>(Pin<Box<F>>);

impl<F: Future> Once<F> {
    pub(crate) fn new(work: F) -> Self {
        Self(Box::pin(work))
    }
}

impl<F: Future> Future for Once<F> {
    type Output = F::Output;

    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.0.as_mut().poll(context)
    }
}

/// The outcomes of all, which are under way at once. Those of `futures-util` are made for more than six, and larger.
pub(crate) async fn all<T: Unpin>(mut tasks: Vec<Task<'_, T>>) -> Vec<T> {
    let mut outcomes: Vec<Option<T>> = tasks.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (task, outcome) in tasks.iter_mut().zip(&mut outcomes) {
            if outcome.is_none()
                && let Poll::Ready(done) = task.as_mut().poll(context)
            {
                *outcome = Some(done);
            }
        }
        if outcomes.iter().all(Option::is_some) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    outcomes.into_iter().flatten().collect()
}

/// What lies below.
pub trait Runtime: Debug + Sync {
    /// Milliseconds since 1970.
    fn now(&self) -> u64;

    /// Whether what runs here may make few requests only: in a worker, 50 on the smallest plan.
    fn counts_requests(&self) -> bool;

    /// Is done after so long.
    fn sleep(&self, time: Duration) -> Task<'static, ()>;

    /// Writes a line to the log.
    fn log(&self, level: Level, line: &str);

    /// Makes an HTTP request.
    ///
    /// # Errors
    /// No answer came, for a reason that may be logged.
    fn fetch<'a>(&self, request: Fetch<'a>) -> Task<'a, Result<Fetched, String>>;

    /// Begins a SHA-256.
    fn sha256(&self) -> Box<dyn Hasher>;

    /// The SHA-256 of what is in memory.
    ///
    /// # Errors
    /// The runtime's.
    fn sha256_of<'a>(&self, bytes: &'a [u8]) -> Task<'a, Result<[u8; 32], String>>;

    /// The MD5 of a text, as `Content-MD5` wants it for the deletion of many objects, and for nothing that has to be safe
    /// from an attacker.
    ///
    /// # Errors
    /// The runtime has no MD5.
    fn md5<'a>(&self, text: &'a str) -> Task<'a, Result<Vec<u8>, String>>;

    /// Whether a signature is the key's.
    ///
    /// # Errors
    /// No key can be made of these numbers: a point that is not on the curve, say.
    fn verify<'a>(&self, signed: Signed<'a>) -> Task<'a, Result<bool, UnusableKey>>;
}

/// How loud a line of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// As expected.
    Info,
    /// Works, and should not stay so.
    Warning,
    /// Needs someone's eye.
    Error,
}

/// An HTTP request. Redirects are not followed.
#[derive(Debug, Clone, Copy)]
pub struct Fetch<'a> {
    /// What it does, in a few fixed words, for whom requests are traced. The URL may be signed, and is not shown.
    pub operation: &'static str,
    /// The method.
    pub method: &'a str,
    /// The URL.
    pub url: &'a str,
    /// The headers.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: Option<&'a Bytes>,
    /// How long it may take, the answer's body included.
    pub time: Duration,
}

/// An answer.
#[derive(Debug)]
pub struct Fetched {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body. Dropping it breaks the answer off.
    pub content: Content,
}

/// Bytes on their way in or out.
#[derive(Debug, Default)]
pub struct Content {
    /// The bytes, to be read here.
    pub body: Body,
    /// The same, as a host's own stream that it moves by itself, if it has any.
    pub native: Extensions,
}

/// The SHA-256 of several contents, one after the other.
pub trait Hasher: Send {
    /// Reads a content to its end.
    ///
    /// # Errors
    /// It broke off.
    fn add(&mut self, content: Content) -> Task<'_, Result<(), String>>;

    /// The digest of all that was added.
    ///
    /// # Errors
    /// The runtime's.
    fn finish(self: Box<Self>) -> Task<'static, Result<[u8; 32], String>>;
}

/// A kind of public key, which fixes the algorithm of its signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA, for RS256: RSASSA-PKCS1-v1_5 with SHA-256.
    Rsa,
    /// A point on P-256, for ES256.
    P256,
    /// A point of Ed25519, for `EdDSA`.
    Ed25519,
}

/// What is said to be signed.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The kind of the key.
    pub kind: KeyKind,
    /// The key's members of a JWK (RFC 7518 §6, RFC 8037) beside those that its kind fixes: names, and values in base64url.
    pub numbers: &'a [(&'static str, String)],
    /// The text.
    pub text: &'a [u8],
    /// The signature, in the form of a JWS (RFC 7518 §3).
    pub signature: &'a [u8],
}

/// A key that the runtime cannot use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnusableKey;

static INSTALLED: OnceLock<&'static dyn Runtime> = OnceLock::new();

/// Installs the runtime. Of several the first stays.
pub fn install(runtime: &'static dyn Runtime) {
    let _ = INSTALLED.set(runtime);
}

/// The runtime.
pub(crate) fn current() -> &'static dyn Runtime {
    INSTALLED.get().copied().unwrap_or(&Missing)
}

/// Before one is installed, and in unit tests: time stands still, and nothing can be reached.
#[derive(Debug)]
struct Missing;

impl Runtime for Missing {
    fn counts_requests(&self) -> bool {
        true
    }

    /// A fixed moment, 2026-09-01T00:00:00Z.
    #[cfg(test)]
    fn now(&self) -> u64 {
        1_788_220_800_000
    }

    /// So late that every token and URL has expired.
    #[cfg(not(test))]
    fn now(&self) -> u64 {
        253_402_300_799_000
    }

    fn sleep(&self, _: Duration) -> Task<'static, ()> {
        Box::pin(std::future::pending())
    }

    #[cfg(test)]
    fn log(&self, level: Level, line: &str) {
        println!("{level:?} {line}");
    }

    #[cfg(not(test))]
    fn log(&self, _: Level, _: &str) {}

    fn fetch<'a>(&self, _: Fetch<'a>) -> Task<'a, Result<Fetched, String>> {
        Box::pin(std::future::ready(missing()))
    }

    fn sha256(&self) -> Box<dyn Hasher> {
        Box::new(Self)
    }

    fn sha256_of<'a>(&self, bytes: &'a [u8]) -> Task<'a, Result<[u8; 32], String>> {
        let digest = *keepsake_shared::Sha256Digest::of(bytes).as_bytes();
        Box::pin(std::future::ready(Ok(digest)))
    }

    fn md5<'a>(&self, _: &'a str) -> Task<'a, Result<Vec<u8>, String>> {
        Box::pin(std::future::ready(missing()))
    }

    fn verify<'a>(&self, _: Signed<'a>) -> Task<'a, Result<bool, UnusableKey>> {
        Box::pin(std::future::ready(Err(UnusableKey)))
    }
}

impl Hasher for Missing {
    fn add(&mut self, _: Content) -> Task<'_, Result<(), String>> {
        Box::pin(std::future::ready(missing()))
    }

    fn finish(self: Box<Self>) -> Task<'static, Result<[u8; 32], String>> {
        Box::pin(std::future::ready(missing()))
    }
}

fn missing<T>() -> Result<T, String> {
    Err("no runtime is installed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn waits_for_all() {
        let ready = |n: u8| -> Task<'static, u8> { Box::pin(std::future::ready(n)) };
        assert_eq!(
            all(vec![ready(1), ready(2)]).now_or_never(),
            Some(vec![1, 2])
        );
        let never: Task<'static, u8> = Box::pin(std::future::pending());
        assert_eq!(all(vec![ready(1), never]).now_or_never(), None);
        assert_eq!(
            all(Vec::<Task<'static, u8>>::new()).now_or_never(),
            Some(vec![])
        );
    }
}
