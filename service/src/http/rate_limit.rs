//! How often one caller may ask, where the host counts. The limit itself is the host's.

use super::ApiError;
use crate::{
    log,
    runtime::{Once, Task},
};
use axum::http::{HeaderMap, HeaderValue};
use keepsake_shared::{ErrorCode, ObjectKey};
use serde_json::json;
use std::net::{IpAddr, SocketAddr};

/// Seconds after which a caller may try again: the longest period that a host counts for.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("60");

/// Who calls from where, as the host says; no client can set it there. Every other header of that kind is the client's own.
pub const ADDRESS: &str = "cf-connecting-ip";

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted<'a> {
    /// The requests of somebody whose token is good, under their name: permitted or not.
    Caller(&'a str),
    /// Those of somebody unknown, by the address that these headers tell.
    Address(&'a HeaderMap),
    /// What was signed badly or used otherwise than signed, by the address.
    Misuse(&'a HeaderMap),
    /// What a browser asks before the requests of a page, by the address; apart, for all users behind one address ask
    /// that, and it costs next to nothing.
    Preflight(&'a HeaderMap),
    /// The use of what was signed for one object, or one part of it, and is good for whoever has it.
    Object(&'a ObjectKey, u16),
    /// What a scanner found in one object, signed with its key; apart, so that nobody who reads the object keeps a verdict out.
    Verdict(&'a ObjectKey),
}

impl Counted<'_> {
    fn key(self) -> String {
        match self {
            Self::Caller(name) => format!("c/{name}"),
            Self::Address(headers) => format!("a/{}", network(headers)),
            Self::Misuse(headers) => format!("m/{}", network(headers)),
            Self::Preflight(headers) => format!("p/{}", network(headers)),
            Self::Object(key, part) => format!("o/{part}/{}", key.as_str()),
            Self::Verdict(key) => format!("s/{}", key.as_str()),
        }
    }
}

/// The network that a request comes from: an IPv4 address, or the first 64 bits of an IPv6 address, the rest of which each
/// subscriber may choose as often as they like (RFC 4291 §2.5.4, RFC 6177). Whoever has no address that can be read is
/// counted together.
fn network(headers: &HeaderMap) -> String {
    let address = headers.get(ADDRESS).and_then(|value| value.to_str().ok());
    match address.and_then(read) {
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => address.to_ipv4_mapped().map_or_else(
            || {
                let [a, b, c, d, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::")
            },
            |address| address.to_string(),
        ),
        None => "unknown".to_owned(),
    }
}

/// An address, which some proxies tell with its port.
fn read(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.unwrap_or(text).parse().ok().or_else(with_port)
}

/// A host that counts requests.
pub trait Limiter: Send + Sync {
    /// Whether one more request under this name is allowed.
    ///
    /// # Errors
    /// The counter is out of order.
    fn allows<'a>(&'a self, name: &'a str) -> Task<'a, Result<bool, ()>>;
}

/// Counts requests.
pub(crate) struct RateLimits<'a>(pub(crate) &'a dyn Limiter);

impl RateLimits<'_> {
    /// Counts a request.
    ///
    /// # Errors
    /// 429 when there were too many.
    pub(crate) fn count<'a>(
        &'a self,
        counted: Counted<'a>,
    ) -> impl Future<Output = Result<(), ApiError>> + 'a {
        Once::new(count(self.0, counted))
    }
}

async fn count(limiter: &dyn Limiter, counted: Counted<'_>) -> Result<(), ApiError> {
    match limiter.allows(&counted.key()).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(ApiError::new(
            ErrorCode::TooManyRequests,
            "Too many requests. Wait a minute, then send them more slowly.",
        )
        .with_header("retry-after", RETRY_AFTER)),
        // A counter that is out of order must not stop those who may.
        Err(()) => {
            let cause = "the rate limiter did not answer; the request was not limited";
            log::write(log::Level::Error, "rate_limit", json!({ "cause": cause }));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> String {
        let headers = HeaderMap::from_iter([(
            axum::http::HeaderName::from_static(ADDRESS),
            HeaderValue::from_bytes(address.as_bytes()).unwrap(),
        )]);
        network(&headers)
    }

    #[test]
    fn one_subscriber_is_one_network() {
        for (address, network) in [
            ("192.0.2.1", "192.0.2.1"),
            (" 192.0.2.1 ", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::FFFF:c000:201", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:0DB8:0001:0002::", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
            ("::1", "0:0:0:0::"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("[2001:db8:1:2::1]:443", "2001:db8:1:2::"),
            ("[2001:db8:1:2::1]", "2001:db8:1:2::"),
        ] {
            assert_eq!(from(address), network, "{address}");
        }
    }

    #[test]
    fn what_is_no_address_is_one_network_too() {
        for address in [
            "",
            "unknown",
            "192.0.2.1, 192.0.2.2",
            "192.0.2.256",
            "192.0.2.01",
            "[2001:db8::1",
            "[192.0.2.1",
            "fe80::1%eth0",
            "2001:db8::1::",
            "192.0.2.1:port",
            "192.0.2.1:99999",
            "\u{e9}",
        ] {
            assert_eq!(from(address), "unknown", "{address}");
        }
        assert_eq!(network(&HeaderMap::new()), "unknown");
    }

    #[test]
    fn no_header_of_the_client_moves_it() {
        let mut headers = HeaderMap::new();
        for name in [
            "x-forwarded-for",
            "x-real-ip",
            "forwarded",
            "true-client-ip",
            "cf-connecting-ipv6",
            "cf-pseudo-ipv4",
            "x-client-ip",
        ] {
            headers.insert(name, HeaderValue::from_static("192.0.2.1"));
        }
        assert_eq!(network(&headers), "unknown");
    }

    #[test]
    fn nobody_is_counted_as_somebody_else() {
        let headers = HeaderMap::new();
        let object = ObjectKey::parse("t/acme/post/1/0198f7d0-1111-7aaa-8bbb-000000000002.txt");
        let object = object.unwrap();
        let keys = [
            Counted::Object(&object, 0).key(),
            Counted::Object(&object, 1).key(),
            Counted::Verdict(&object).key(),
            Counted::Caller("unknown").key(),
            Counted::Address(&headers).key(),
            Counted::Misuse(&headers).key(),
            Counted::Preflight(&headers).key(),
        ];
        let different = std::collections::BTreeSet::from(keys.clone());
        assert_eq!(different.len(), keys.len());
    }
}
