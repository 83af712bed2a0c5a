//! Query strings: every parameter known, at most once, and of the right form.

use crate::problem::ApiError;
use keepsake_shared::{AttachmentId, ErrorCode, FieldError};
use std::str::FromStr;

/// Entries of a page when `limit` is not given.
const DEFAULT_LIMIT: u32 = 50;
/// Most entries of a page.
const MAX_LIMIT: u32 = 200;

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
        for (name, value) in
            worker::url::form_urlencoded::parse(text.unwrap_or_default().as_bytes())
        {
            if !known.contains(&name.as_ref()) {
                let detail = match known {
                    [] => "This path takes no query parameters.".to_owned(),
                    names => format!(
                        "This path knows these query parameters alone: {}.",
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

    fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A yes-or-no parameter; `false` when absent.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
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

    /// An attachment's id, which has to be given.
    pub(crate) fn id(&self, name: &str) -> Result<AttachmentId, ApiError> {
        self.get(name)
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| invalid(name, "must be the id of an attachment"))
    }

    /// Where the page begins, from `cursor`: the `next_cursor` of the page before.
    pub(crate) fn cursor(&self) -> Result<Option<AttachmentId>, ApiError> {
        self.get("cursor")
            .map(|value| {
                value
                    .parse()
                    .map_err(|_| invalid("cursor", "must be the next_cursor of the page before"))
            })
            .transpose()
    }
}

fn invalid(name: &str, problem: &str) -> ApiError {
    refused(
        ErrorCode::InvalidField,
        name,
        &format!("The query parameter {name} {problem}."),
    )
}

fn refused(code: ErrorCode, name: &str, detail: &str) -> ApiError {
    ApiError::new(code, detail).with_errors(vec![FieldError::new(format!("/{name}"), code, detail)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0198f7d0-1111-7aaa-8bbb-000000000001";

    fn parse(text: &str) -> Result<Query, ApiError> {
        Query::parse(Some(text), &["limit", "cursor", "state", "deep"])
    }

    #[test]
    fn has_defaults() {
        let query = Query::parse(None, &[]).unwrap();
        assert_eq!(query.limit().unwrap(), DEFAULT_LIMIT);
        assert_eq!(query.cursor().unwrap(), None);
        assert_eq!(
            query.choice("state", &["available", "deleted"]).unwrap(),
            "available"
        );
        assert!(!query.flag("deep").unwrap());
    }

    #[test]
    fn reads_what_is_given() {
        let query = parse(&format!("limit=200&cursor={ID}&state=deleted&deep=true")).unwrap();
        assert_eq!(query.limit().unwrap(), MAX_LIMIT);
        assert_eq!(query.cursor().unwrap().unwrap().to_string(), ID);
        assert_eq!(
            query.choice("state", &["available", "deleted"]).unwrap(),
            "deleted"
        );
        assert!(query.flag("deep").unwrap());
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
        for cursor in ["", "x", "0198f7d011117aaa8bbb000000000001"] {
            assert!(
                parse(&format!("cursor={cursor}"))
                    .unwrap()
                    .cursor()
                    .is_err(),
                "{cursor}"
            );
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
