//! The id that ties a response, its problem document and its log line together.

use axum::http::{HeaderMap, HeaderName};
use uuid::Uuid;

/// Carries the id both ways.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id taken over from a caller.
const MAX_BYTES: usize = 64;

/// The caller's own id, if it is a plain short word (so that a chain of services can share one),
/// else a new one.
pub(crate) fn of(headers: &HeaderMap) -> String {
    headers
        .get(HEADER)
        .and_then(|value| value.to_str().ok())
        .filter(|text| is_plain(text))
        .map_or_else(|| Uuid::new_v4().to_string(), ToOwned::to_owned)
}

fn is_plain(text: &str) -> bool {
    (1..=MAX_BYTES).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_over_only_plain_ids() {
        let of = |text: &str| of(&HeaderMap::from_iter([(HEADER, text.parse().unwrap())]));
        assert_eq!(of("7f-A_b.1"), "7f-A_b.1");
        for hostile in ["", "a b", "a\"b", "{}", &"x".repeat(65)] {
            assert_ne!(of(hostile), hostile);
            assert!(is_plain(&of(hostile)));
        }
    }
}
