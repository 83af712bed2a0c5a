//! Headers that more than one place reads or writes.

use super::ApiError;
use axum::http::{HeaderMap, HeaderValue, header::CONTENT_LENGTH};

/// The body's length as the client declared it.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A value that the worker made itself.
///
/// # Errors
/// 500 for one that no header can hold.
pub(crate) fn value(text: &str) -> Result<HeaderValue, ApiError> {
    HeaderValue::from_str(text).map_err(ApiError::internal)
}
