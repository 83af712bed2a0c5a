//! Entity tags in conditional requests, RFC 9110 §13.1.

use axum::http::{
    HeaderMap, HeaderName,
    header::{IF_MATCH, IF_NONE_MATCH},
};

/// The entries of a header that is a list. Several lines of it are one list (RFC 9110 §5.3).
fn entries(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',').map(str::trim))
}

/// Whether `If-None-Match` names `tag`, by weak comparison: `W/` is left out of account, `*` names every tag.
#[must_use]
pub fn matches(headers: &HeaderMap, tag: &str) -> bool {
    entries(headers, IF_NONE_MATCH)
        .any(|entry| entry == "*" || entry.strip_prefix("W/").unwrap_or(entry) == tag)
}

/// Whether `If-Match` names `tag`, by strong comparison: one that says it is weak names nothing.
pub(crate) fn is_among(headers: &HeaderMap, tag: &str) -> bool {
    entries(headers, IF_MATCH).any(|entry| entry == "*" || entry == tag)
}

/// The entity tag of an attachment: the number of its version, and what tells one representation of it from another.
pub(crate) fn of_version(version: u64, representation: &str) -> String {
    format!("\"{version}-{representation}\"")
}

/// The versions that `If-Match` names: by an attachment's entity tag, or by the number alone. `None` where it is not sent, and for `*`,
/// which names every version.
pub(crate) fn versions(headers: &HeaderMap) -> Option<Vec<u32>> {
    if !headers.contains_key(IF_MATCH) {
        return None;
    }
    let mut versions = Vec::new();
    for entry in entries(headers, IF_MATCH) {
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
    use axum::http::HeaderValue;

    fn headers(name: HeaderName, lines: &[&'static str]) -> HeaderMap {
        let lines = lines.iter();
        lines
            .map(|line| (name.clone(), HeaderValue::from_static(line)))
            .collect()
    }

    #[test]
    fn reads_versions_from_strong_tags() {
        let versions = |lines: &[&'static str]| versions(&headers(IF_MATCH, lines));
        assert_eq!(versions(&[]), None);
        assert_eq!(versions(&["\"3\""]), Some(vec![3]));
        assert_eq!(versions(&["\"3-ab\", \"12\""]), Some(vec![3, 12]));
        assert_eq!(versions(&["\"3-ab\"", "\"12\""]), Some(vec![3, 12]));
        for text in ["W/\"3\"", "3", "\"\"", "\"-3\"", "\"x\"", ""] {
            assert_eq!(versions(&[text]), Some(vec![]), "{text}");
        }
        assert_eq!(versions(&["*"]), None);
        let tag = of_version(7, "ab");
        let tag = HeaderValue::from_str(&tag).unwrap();
        let named = HeaderMap::from_iter([(IF_MATCH, tag)]);
        assert_eq!(super::versions(&named), Some(vec![7]));
    }

    #[test]
    fn compares_weakly_for_none_match() {
        let matches = |lines: &[&'static str]| matches(&headers(IF_NONE_MATCH, lines), "\"a\"");
        for text in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*", " \"a\" "] {
            assert!(matches(&[text]), "{text}");
        }
        for text in ["\"b\"", "a", "", "W/\"b\""] {
            assert!(!matches(&[text]), "{text}");
        }
        assert!(matches(&["\"b\"", "W/\"a\""]));
        assert!(!matches(&["\"b\"", "\"c\""]));
        assert!(!matches(&[]));
    }
}
