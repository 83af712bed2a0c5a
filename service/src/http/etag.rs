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

/// The entity tag of an attachment: the number of its version, and what tells one representation of it from another.
pub(crate) fn of_version(version: u64, representation: &str) -> String {
    format!("\"{version}-{representation}\"")
}

/// The versions that an `If-Match` header names: by an attachment's entity tag, or by the number alone. `None` for `*`, which
/// names every version.
pub(crate) fn versions(header: &HeaderValue) -> Option<Vec<u32>> {
    let text = header.to_str().unwrap_or_default();
    let mut versions = Vec::new();
    for entry in text.split(',').map(str::trim) {
        if entry == "*" {
            return None;
        }
        let tag = entry
            .strip_prefix('"')
            .and_then(|tag| tag.strip_suffix('"'));
        let number = tag.and_then(|tag| tag.split('-').next());
        versions.extend(number.and_then(|number| number.parse::<u32>().ok()));
    }
    Some(versions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions_from_strong_tags() {
        let versions = |text: &'static str| versions(&HeaderValue::from_static(text));
        assert_eq!(versions("\"3\""), Some(vec![3]));
        assert_eq!(versions("\"3-ab\", \"12\""), Some(vec![3, 12]));
        for text in ["W/\"3\"", "3", "\"\"", "\"-3\"", "\"x\"", ""] {
            assert_eq!(versions(text), Some(vec![]), "{text}");
        }
        assert_eq!(versions("*"), None);
        let tag = of_version(7, "ab");
        assert_eq!(
            super::versions(&HeaderValue::from_str(&tag).unwrap()),
            Some(vec![7])
        );
    }

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
