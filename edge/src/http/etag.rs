//! Entity tags in conditional requests, RFC 9110 §13.1.

use axum::http::HeaderValue;

/// Whether an `If-None-Match` header names `tag`, by weak comparison: `W/` is left out of account,
/// `*` names every tag.
pub(crate) fn matches(header: Option<&HeaderValue>, tag: &str) -> bool {
    header
        .and_then(|value| value.to_str().ok())
        .is_some_and(|text| {
            text.split(',')
                .map(str::trim)
                .any(|entry| entry == "*" || entry.strip_prefix("W/").unwrap_or(entry) == tag)
        })
}

/// Whether an `If-Range` header lets a range stand: absent, or naming exactly `tag`. A date, which
/// this store does not send, does not.
pub(crate) fn allows_range(header: Option<&HeaderValue>, tag: &str) -> bool {
    header.is_none_or(|value| value.as_bytes() == tag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_weakly_for_none_match() {
        let matches = |text: &'static str| matches(Some(&HeaderValue::from_static(text)), "\"a\"");
        for text in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*", " \"a\" "] {
            assert!(matches(text), "{text}");
        }
        for text in ["\"b\"", "a", "", "W/\"b\""] {
            assert!(!matches(text), "{text}");
        }
        assert!(!super::matches(None, "\"a\""));
    }

    #[test]
    fn compares_strongly_for_ranges() {
        let allows =
            |text: &'static str| allows_range(Some(&HeaderValue::from_static(text)), "\"a\"");
        assert!(allows("\"a\"") && allows_range(None, "\"a\""));
        assert!(!allows("W/\"a\"") && !allows("\"b\"") && !allows("Tue, 01 Sep 2026 00:00:00 GMT"));
    }
}
