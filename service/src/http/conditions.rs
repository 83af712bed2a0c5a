//! Conditional requests of stored bytes, RFC 9110 §13.

use super::etag;
use axum::http::{
    HeaderMap, HeaderName,
    header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE},
};

/// By what a client knows an object again. Both are strong: the bytes under a key never change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Validators<'a> {
    /// Its entity tag, quoted.
    pub(crate) etag: &'a str,
    /// When it was stored, as `Last-Modified` says it.
    pub(crate) modified: &'a str,
}

/// What a request's conditions make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is done.
    Met,
    /// 304: the client has it already.
    NotModified,
    /// 412: this is not what the client means.
    Failed,
}

impl Validators<'_> {
    /// Evaluates the conditions of a GET or HEAD in the order of §13.2.2. A date counts only where no tag is given, and one
    /// that cannot be read not at all (§13.1.3, §13.1.4).
    pub(crate) fn judge(self, headers: &HeaderMap) -> Verdict {
        let since = |name: HeaderName| headers.get(name)?.to_str().ok().and_then(second);
        let stored = second(self.modified);
        let is_another = if headers.contains_key(IF_MATCH) {
            !etag::is_among(headers, self.etag)
        } else {
            since(IF_UNMODIFIED_SINCE).is_some_and(|since| stored > Some(since))
        };
        let is_known = if headers.contains_key(IF_NONE_MATCH) {
            etag::matches(headers, self.etag)
        } else {
            since(IF_MODIFIED_SINCE)
                .is_some_and(|since| stored.is_some_and(|stored| stored <= since))
        };
        match (is_another, is_known) {
            (true, _) => Verdict::Failed,
            (false, true) => Verdict::NotModified,
            (false, false) => Verdict::Met,
        }
    }

    /// Whether `If-Range` lets a range stand: absent, or exactly the tag or the date (§13.1.5).
    pub(crate) fn allow_range(self, headers: &HeaderMap) -> bool {
        headers.get(IF_RANGE).is_none_or(|value| {
            let value = value.as_bytes();
            value == self.etag.as_bytes() || value == self.modified.as_bytes()
        })
    }
}

/// A moment in the one form that is sent today (§5.6.7), `Sun, 06 Nov 1994 08:49:37 GMT`, as a number that is larger for a
/// later one.
fn second(text: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let [_, day, month, year, time, "GMT"] = *text.split(' ').collect::<Vec<_>>() else {
        return None;
    };
    if time.len() != 8 {
        return None;
    }
    let is_name = |place: &usize| month.len() == 3 && place.is_multiple_of(3);
    let month = MONTHS.find(month).filter(is_name)? as u64;
    let mut number = digits(year, 4)? * 100 + month;
    for part in core::iter::once(day).chain(time.split(':')) {
        number = number * 100 + digits(part, 2)?;
    }
    Some(number)
}

/// A number of exactly so many digits.
fn digits(text: &str, length: usize) -> Option<u64> {
    let is_number = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "\"a\"";
    const STORED: &str = "Sun, 29 Nov 2026 03:30:00 GMT";
    const BEFORE: &str = "Sat, 31 Oct 2026 23:59:59 GMT";
    const AFTER: &str = "Sun, 29 Nov 2026 03:30:01 GMT";

    fn headers(given: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = given.iter();
        pairs
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn stored() -> Validators<'static> {
        Validators {
            etag: TAG,
            modified: STORED,
        }
    }

    #[test]
    fn judges_every_condition() {
        use Verdict::{Failed, Met, NotModified};
        for (given, want) in [
            (&[][..], Met),
            (&[("if-match", TAG)], Met),
            (&[("if-match", "\"b\", \"a\"")], Met),
            (&[("if-match", "\"b\""), ("if-match", TAG)], Met),
            (&[("if-match", "\"b\""), ("if-match", "\"c\"")], Failed),
            (&[("if-match", "*")], Met),
            (&[("if-match", "\"b\"")], Failed),
            (&[("if-match", "W/\"a\"")], Failed),
            (&[("if-unmodified-since", STORED)], Met),
            (&[("if-unmodified-since", AFTER)], Met),
            (&[("if-unmodified-since", BEFORE)], Failed),
            (&[("if-unmodified-since", "yesterday")], Met),
            (&[("if-match", TAG), ("if-unmodified-since", BEFORE)], Met),
            (&[("if-none-match", TAG)], NotModified),
            (&[("if-none-match", "\"b\"")], Met),
            (
                &[("if-none-match", "\"b\""), ("if-none-match", TAG)],
                NotModified,
            ),
            (&[("if-modified-since", STORED)], NotModified),
            (&[("if-modified-since", AFTER)], NotModified),
            (&[("if-modified-since", BEFORE)], Met),
            (&[("if-modified-since", "")], Met),
            (
                &[("if-none-match", "\"b\""), ("if-modified-since", AFTER)],
                Met,
            ),
            (&[("if-match", "\"b\""), ("if-none-match", TAG)], Failed),
        ] {
            assert_eq!(stored().judge(&headers(given)), want, "{given:?}");
        }
    }

    #[test]
    fn a_range_stands_for_this_very_object() {
        for (value, stands) in [
            (TAG, true),
            (STORED, true),
            (AFTER, false),
            ("W/\"a\"", false),
            ("\"b\"", false),
        ] {
            let headers = headers(&[("if-range", value)]);
            assert_eq!(stored().allow_range(&headers), stands, "{value}");
        }
        assert!(stored().allow_range(&HeaderMap::new()));
    }

    #[test]
    fn reads_dates_in_their_one_form() {
        assert!(second(BEFORE) < second(STORED) && second(STORED) < second(AFTER));
        for text in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 ovD 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 99999 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:+7 GMT",
            "Sun, 06 Nov 1994 00:00:00:00:00:00:00:00:00:00 GMT",
            "Sun, 006 Nov 1994 08:49:37 GMT GMT",
        ] {
            assert_eq!(second(text), None, "{text}");
        }
    }
}
