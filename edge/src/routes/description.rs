//! `GET /openapi.json`.

use crate::{app::App, problem::ApiError, query::Query, wire::RawBody};
use axum::{
    body::Body,
    extract::{RawQuery, State},
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};

/// `GET /openapi.json`: what this interface promises, in OpenAPI 3.1.
///
/// 1. Any query → 400.
/// 2. 200, which may be kept for a minute: it changes with a deployment only. It is one of the files
///    that are deployed beside the worker.
#[worker::send]
pub(crate) async fn get(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    Query::parse(query.as_deref(), &[])?;
    let file = app.asset("/openapi.json").await?;
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (
            CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=60"),
        ),
    ];
    let mut answer = (headers, Body::empty()).into_response();
    answer.extensions_mut().insert(RawBody::new(file));
    Ok(answer)
}
