//! `GET /openapi.json`.

use crate::{problem::ApiError, query::Query};
use axum::{
    extract::RawQuery,
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};

const OPENAPI: &str = include_str!("../../../docs/openapi.json");

/// `GET /openapi.json`: what this interface promises, in OpenAPI 3.1.
///
/// 1. Any query → 400.
/// 2. 200, which may be kept for a minute: it changes with a deployment only.
pub(crate) async fn get(RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    Query::parse(query.as_deref(), &[])?;
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (
            CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=60"),
        ),
    ];
    Ok((headers, OPENAPI).into_response())
}
