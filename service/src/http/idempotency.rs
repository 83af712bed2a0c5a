//! The `Idempotency-Key` header: a request that carries one can be repeated without being done twice
//! (draft-ietf-httpapi-idempotency-key-header). What a key stands for is kept in the database.

use super::problem::ApiError;
use axum::http::HeaderMap;
use keepsake_shared::ErrorCode;
use serde_json::Value;

/// The header's name.
const HEADER: &str = "idempotency-key";

/// Longest key, in characters.
const MAX_CHARS: usize = 255;

/// The key of a request that has one.
///
/// # Errors
/// 400 `invalid_field` for more than one, and for one that is not 1 to [`MAX_CHARS`] visible ASCII
/// characters.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .filter(|key| {
            values.next().is_none()
                && (1..=MAX_CHARS).contains(&key.len())
                && key.bytes().all(|byte| byte.is_ascii_graphic())
        })
        .map(|key| Some(key.to_owned()))
        .ok_or_else(|| {
            ApiError::new(
                ErrorCode::InvalidField,
                format_args!(
                    "Idempotency-Key must be one key of 1 to {MAX_CHARS} visible ASCII characters."
                ),
            )
        })
}

/// The request for the database, with its key.
pub(crate) fn with_key(mut request: Value, key: Option<String>) -> Value {
    if let Some(key) = key {
        request["idempotency_key"] = key.into();
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Option<Option<String>> {
        let name = axum::http::HeaderName::from_static(HEADER);
        let values = values
            .iter()
            .map(|value| (name.clone(), value.parse().unwrap()));
        key(&values.collect()).ok()
    }

    #[test]
    fn takes_one_visible_key_or_none() {
        assert_eq!(read(&[]), Some(None));
        assert_eq!(
            read(&["\"8e03978e\""]),
            Some(Some("\"8e03978e\"".to_owned()))
        );
        let longest = "k".repeat(MAX_CHARS);
        assert_eq!(read(&[&longest]), Some(Some(longest.clone())));
        for refused in [
            &[""] as &[&str],
            &["a b"],
            &["\u{e9}"],
            &["a", "a"],
            &[&format!("{longest}k")],
        ] {
            assert_eq!(read(refused), None, "{refused:?}");
        }
    }
}
