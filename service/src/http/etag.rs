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

/// Whether an `If-Match` header names `tag`, by strong comparison: one that says it is weak names nothing.
pub(crate) fn is_among(header: &HeaderValue, tag: &str) -> bool {
    let text = header.to_str().unwrap_or_default();
    text.split(',')
        .map(str::trim)
        .any(|entry| entry == "*" || entry == tag)
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
}
