//! Query strings: every parameter known, at most once, and of the right form.

use super::problem::{ApiError, excerpt};
use keepsake_shared::{ErrorCode, FieldError};
use std::str::FromStr;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// Entries of a page when `limit` is not given.
const DEFAULT_LIMIT: u32 = 50;
/// Most entries of a page.
const MAX_LIMIT: u32 = 200;
/// Longest text to look for.
const MAX_TEXT_CHARS: usize = 255;

/// The parameters of one request.
#[derive(Debug)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads a query string that may hold the parameters of `known`.
    ///
    /// # Errors
    /// 400 `unknown_field` for another parameter, `invalid_field` for one given twice.
    pub(crate) fn parse(text: Option<&str>, known: &[&str]) -> Result<Self, ApiError> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let detail = match known {
                    [] => "This path has no query parameters.".to_owned(),
                    names => format!(
                        "This path has only these query parameters: {}.",
                        names.join(", ")
                    ),
                };
                return Err(refused(ErrorCode::UnknownField, &name, &detail));
            }
            if pairs.iter().any(|(seen, _)| *seen == name) {
                return Err(invalid(&name, "is given more than once"));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self { pairs })
    }

    /// A parameter as it stands, for who has rules of its own for it.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A yes-or-no parameter; `false` when absent, `true` when only named.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(_) => Err(invalid(name, "must be true or false")),
        }
    }

    /// One of `choices`; the first when absent.
    pub(crate) fn choice<'a>(&self, name: &str, choices: &[&'a str]) -> Result<&'a str, ApiError> {
        let default = choices.first().copied().unwrap_or_default();
        self.get(name).map_or(Ok(default), |value| {
            choices
                .iter()
                .copied()
                .find(|choice| *choice == value)
                .ok_or_else(|| invalid(name, &format!("must be one of: {}", choices.join(", "))))
        })
    }

    /// Entries of a page, from `limit`: 1 to [`MAX_LIMIT`].
    pub(crate) fn limit(&self) -> Result<u32, ApiError> {
        self.get("limit").map_or(Ok(DEFAULT_LIMIT), |value| {
            u32::from_str(value)
                .ok()
                .filter(|limit| (1..=MAX_LIMIT).contains(limit))
                .ok_or_else(|| {
                    invalid(
                        "limit",
                        &format!("must be a whole number from 1 to {MAX_LIMIT}"),
                    )
                })
        })
    }

    /// A text of 1 to [`MAX_TEXT_CHARS`] characters, none of them a control character.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        self.get(name)
            .map(|text| check_text(name, text))
            .transpose()
    }

    /// A value of a type that reads itself.
    pub(crate) fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError>
    where
        T::Err: std::fmt::Display,
    {
        self.get(name)
            .map(|value| {
                value
                    .parse()
                    .map_err(|error: T::Err| invalid(name, &format!("is invalid: {error}")))
            })
            .transpose()
    }

    /// A moment as RFC 3339 writes it, in UTC: PostgreSQL knows neither a year 0 nor every offset.
    pub(crate) fn moment(&self, name: &str) -> Result<Option<String>, ApiError> {
        let in_utc = |text: &str| {
            OffsetDateTime::parse(text, &Rfc3339)
                .ok()?
                .checked_to_offset(UtcOffset::UTC)
                .filter(|moment| moment.year() > 0)?
                .format(&Rfc3339)
                .ok()
        };
        self.get(name)
            .map(|text| {
                in_utc(text).ok_or_else(|| {
                    invalid(
                        name,
                        "must be a time such as 2026-01-31T12:00:00Z (RFC 3339)",
                    )
                })
            })
            .transpose()
    }
}

/// A cursor that is not one of this listing.
pub(crate) fn foreign_cursor() -> ApiError {
    invalid(
        "cursor",
        "must be the next_cursor of the previous page of the same listing",
    )
}

/// A text of 1 to [`MAX_TEXT_CHARS`] characters, none of them a control character.
///
/// # Errors
/// 400 `invalid_field` with the name of the field.
pub(crate) fn check_text<'a>(name: &str, text: &'a str) -> Result<&'a str, ApiError> {
    let chars = text.chars().count();
    if (1..=MAX_TEXT_CHARS).contains(&chars) && !text.chars().any(char::is_control) {
        return Ok(text);
    }
    Err(invalid(
        name,
        &format!("must be 1 to {MAX_TEXT_CHARS} characters, without control characters"),
    ))
}

/// A field with a wrong value.
pub(crate) fn invalid(name: &str, problem: &str) -> ApiError {
    refused(
        ErrorCode::InvalidField,
        name,
        &format!("The field {name} {problem}."),
    )
}

fn refused(code: ErrorCode, name: &str, detail: &str) -> ApiError {
    let (pointer, detail) = (format!("/{}", excerpt(name)), excerpt(detail));
    ApiError::new(code, &detail).with_errors(vec![FieldError::new(pointer, code, detail)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Query, ApiError> {
        Query::parse(Some(text), &["limit", "cursor", "state", "deep"])
    }

    #[test]
    fn has_defaults() {
        let query = Query::parse(None, &[]).unwrap();
        assert_eq!(query.limit().unwrap(), DEFAULT_LIMIT);
        assert_eq!(query.text("cursor").unwrap(), None);
        assert_eq!(
            query.choice("state", &["available", "deleted"]).unwrap(),
            "available"
        );
        assert!(!query.flag("deep").unwrap());
    }

    #[test]
    fn reads_what_is_given() {
        let query = parse("limit=200&cursor=a+b&state=deleted&deep=true").unwrap();
        assert_eq!(query.limit().unwrap(), MAX_LIMIT);
        assert_eq!(query.text("cursor").unwrap(), Some("a b"));
        assert_eq!(
            query.choice("state", &["available", "deleted"]).unwrap(),
            "deleted"
        );
        assert!(query.flag("deep").unwrap());
    }

    #[test]
    fn a_flag_needs_no_value() {
        for text in ["deep", "deep=", "deep=1"] {
            assert!(parse(text).unwrap().flag("deep").unwrap(), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in ["x=1", "limit=1&limit=2", "Limit=1", "=", "%00=1"] {
            assert!(parse(text).is_err(), "{text}");
        }
        for limit in ["0", "201", "-1", "1.5", "x", "", "99999999999"] {
            assert!(
                parse(&format!("limit={limit}")).unwrap().limit().is_err(),
                "{limit}"
            );
        }
        for text in ["", "%00", "a%0Ab", &"x".repeat(MAX_TEXT_CHARS + 1)] {
            let query = parse(&format!("cursor={text}")).unwrap();
            assert!(query.text("cursor").is_err(), "{text}");
        }
        let query = parse("cursor=2026-01-31T01:00:00.5-23:00").unwrap();
        assert_eq!(
            query.moment("cursor").unwrap().as_deref(),
            Some("2026-02-01T00:00:00.5Z")
        );
        for moment in [
            "",
            "now",
            "2026-01-31",
            "2026-02-30T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00%2B01:00",
            "9999-12-31T23:59:59-01:00",
        ] {
            let query = parse(&format!("cursor={moment}")).unwrap();
            assert!(query.moment("cursor").is_err(), "{moment}");
        }
        assert!(
            parse("state=pending")
                .unwrap()
                .choice("state", &["available"])
                .is_err()
        );
        assert!(parse("deep=yes").unwrap().flag("deep").is_err());
    }
}
