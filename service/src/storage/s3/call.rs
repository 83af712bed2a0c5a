//! One request to the store: signed, bounded in time, and made again when that is safe.

use super::{S3, S3Settings};
use crate::{
    clock,
    runtime::{self, Content, Fetch, Fetched},
    storage::StorageError,
};
use axum::body::Bytes;
use http_body_util::BodyExt;
use keepsake_shared::{
    Sha256Digest,
    sigv4::{self, AuthorizationRequest, Payload, SigV4Error},
};
use std::{sync::PoisonError, time::Duration};

/// How often a request is made that may be made again.
const TRIES: u32 = 3;
/// The pause before the second try; each further one is three times as long.
const FIRST_PAUSE: Duration = Duration::from_millis(150);
/// Most bytes of an answer that is read as text: several times what a list of 1,000 keys or parts has.
const MAX_TEXT_BYTES: usize = 8 << 20;

/// A request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    /// What S3 calls it, after its name.
    pub(super) operation: &'static str,
    /// The method.
    pub(super) method: &'static str,
    /// The object; the bucket itself when there is none.
    pub(super) key: Option<&'a str>,
    /// Parameters, not yet encoded.
    pub(super) query: &'a [(&'a str, &'a str)],
    /// Headers beside those of the signature.
    pub(super) headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub(super) body: Option<&'a Bytes>,
    /// The body's digest, where it is known.
    pub(super) sha256: Option<Sha256Digest>,
    /// How long one try may take, its answer's body included.
    pub(super) seconds: u32,
    /// Whether it may be made again when nobody knows whether it was done.
    pub(super) repeatable: bool,
}

impl Call<'_> {
    /// A request that reads or deletes: it may be made again.
    pub(super) const fn new(operation: &'static str, method: &'static str) -> Self {
        Self {
            operation,
            method,
            key: None,
            query: &[],
            headers: &[],
            body: None,
            sha256: None,
            seconds: 6,
            repeatable: true,
        }
    }
}

/// What the store answered. Who drops it does not read the rest of it.
#[derive(Debug)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    fetched: Fetched,
}

impl Answer {
    /// A header's value.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.fetched.headers.get(name)?.to_str().ok()
    }

    /// The body.
    pub(super) fn content(self) -> Content {
        self.fetched.content
    }

    /// What of the object a partial answer has.
    pub(super) fn range(&self) -> Option<ContentRange> {
        let range = ContentRange::parse(self.header("content-range")?)?;
        let length = self.header("content-length");
        length
            .is_none_or(|length| length.parse() == Ok(range.end - range.begin))
            .then_some(range)
    }

    /// `length` bytes of the body from `offset`, fewer at its end. What comes behind them is not read.
    pub(super) async fn part(self, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        let mut body = self.content().body;
        let (mut skip, mut part) = (offset, Vec::new());
        while part.len() < length
            && let Some(frame) = body.frame().await
        {
            let frame = frame
                .map_err(|error| StorageError(format!("S3: the answer broke off: {error}")))?;
            let bytes = frame.into_data().unwrap_or_default();
            let begin = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
            skip -= begin as u64;
            part.extend_from_slice(&bytes[begin..]);
        }
        part.truncate(length);
        Ok(part)
    }

    /// The whole body as text.
    pub(super) async fn text(self) -> Result<String, StorageError> {
        String::from_utf8(self.part(0, MAX_TEXT_BYTES).await?)
            .map_err(|_| StorageError("S3: the answer is not text".to_owned()))
    }

    /// Whether the store had trouble that may be over in a moment.
    const fn is_passing(&self) -> bool {
        matches!(self.status, 429 | 500 | 502 | 503 | 504)
    }
}

/// What of an object a partial answer has (RFC 9110 §14.4). It may be less than was asked for (§15.3.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentRange {
    /// Where it begins.
    pub(super) begin: u64,
    /// Where it ends: behind its last byte, and so behind its begin.
    pub(super) end: u64,
    /// How many bytes the object has, where that is told.
    pub(super) size: Option<u64>,
}

impl ContentRange {
    fn parse(text: &str) -> Option<Self> {
        let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (begin, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        let size = match size {
            "*" => None,
            size => Some(size.parse().ok()?),
        };
        let end = last.checked_add(1)?;
        (begin < end).then_some(Self { begin, end, size })
    }
}

impl S3 {
    /// Makes a request: again, after a pause, while the store has passing trouble or does not answer
    /// in time, if it may be made again.
    ///
    /// # Errors
    /// No answer, or none but passing trouble.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Answer, StorageError> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            match self.call_once(call).await {
                Ok(answer) if !answer.is_passing() => return Ok(answer),
                Ok(answer) if !call.repeatable => return Err(trouble(call, &answer)),
                Err(error) if !call.repeatable => return Err(error),
                Ok(_) | Err(_) => {}
            }
            clock::sleep(pause).await;
            pause *= 3;
        }
        let answer = self.call_once(call).await?;
        if answer.is_passing() {
            Err(trouble(call, &answer))
        } else {
            Ok(answer)
        }
    }

    async fn call_once(&self, call: &Call<'_>) -> Result<Answer, StorageError> {
        let (url, signature) = signed(&self.0, call).map_err(|error| {
            StorageError(format!("S3 {} cannot be signed: {error}", call.method))
        })?;
        let mut headers: Vec<(&str, &str)> = call.headers.to_vec();
        for (name, value) in signature.headers() {
            headers.push((name, value));
        }
        // Of bytes that are compressed on the way some servers tell no length. Not signed: proxies change it.
        headers.push(("accept-encoding", "identity"));
        let request = Fetch {
            operation: call.operation,
            method: call.method,
            url: &url,
            headers: &headers,
            body: call.body,
            time: Duration::from_secs(call.seconds.into()),
        };
        let fetched = runtime::current().fetch(request).await;
        let fetched = fetched
            .map_err(|error| StorageError(format!("S3 {}: no answer: {error}", call.method)))?;
        Ok(Answer {
            status: fetched.status,
            fetched,
        })
    }
}

/// The URL and the headers of the signature.
fn signed(
    settings: &S3Settings,
    call: &Call<'_>,
) -> Result<(String, sigv4::SignedRequest), SigV4Error> {
    let target = match call.key {
        Some(key) => settings.bucket.object(key)?,
        None => settings.bucket.itself(),
    };
    let body = call.body.map_or(&[][..], |body| body);
    let digest = call.sha256.unwrap_or_else(|| Sha256Digest::of(body));
    let request = AuthorizationRequest {
        request: sigv4::Request {
            method: call.method,
            target,
            query: call.query,
            headers: call.headers,
            payload: Payload::Sha256(digest),
        },
        send_content_sha256: true,
    };
    let mut keys = settings.keys.lock().unwrap_or_else(PoisonError::into_inner);
    let signed = sigv4::authorization(&request, &settings.signer, &mut keys, clock::now())?;
    let endpoint = settings.bucket.endpoint();
    let (path, query) = (
        signed.canonical_request.path(),
        signed.canonical_request.query(),
    );
    let separator = if query.is_empty() { "" } else { "?" };
    let url = format!(
        "{}{}{path}{separator}{query}",
        endpoint.scheme(),
        endpoint.host()
    );
    Ok((url, signed))
}

/// An answer that is not the one hoped for, told by its status alone: some stores repeat the request
/// in the body of an error.
pub(super) fn trouble(call: &Call<'_>, answer: &Answer) -> StorageError {
    StorageError(format!("S3 {} answered {}", call.method, answer.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_partial_answer_has() {
        let range = |begin, end, size| Some(ContentRange { begin, end, size });
        for (text, want) in [
            ("bytes 0-0/1", range(0, 1, Some(1))),
            ("bytes 5-15/100", range(5, 16, Some(100))),
            ("bytes 5-15/*", range(5, 16, None)),
            ("bytes 5-4/100", None),
            ("bytes */100", None),
            ("bytes 5-15", None),
            ("bytes 5-18446744073709551615/*", None),
            ("chunks 5-15/100", None),
            ("bytes 5-15/x", None),
            ("", None),
        ] {
            assert_eq!(ContentRange::parse(text), want, "{text}");
        }
    }
}
