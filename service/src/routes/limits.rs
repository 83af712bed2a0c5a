//! What one upload may hold: `/v1/limits`.

use super::answers::json;
use crate::{
    context::RequestContext,
    http::{ApiError, query::Query},
};
use axum::{
    extract::{RawQuery, State},
    http::{HeaderValue, StatusCode, header::CACHE_CONTROL},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// `GET /v1/limits`: the settings by which the rules judge an upload, so that a page can ask the same
/// rules before it sends anything.
///
/// 1. Any query → 400.
/// 2. 200, which may be kept for a minute: it changes with a deployment only.
pub(crate) async fn get(
    State(context): State<RequestContext>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    Query::parse(query.as_deref(), &[])?;
    let config = &context.config;
    let limits = json!({
        "max_files": config.limits.max_files,
        "max_file_bytes": config.limits.max_file_bytes,
        "max_set_bytes": config.limits.max_set_bytes,
        "file_types": config.limits.file_types,
        "number_duplicates": config.limits.number_duplicates,
        "max_image_pixels": config.max_image_pixels,
        "multipart_threshold_bytes": config.multipart_threshold,
    });
    let kept = [(
        CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=60"),
    )];
    Ok((kept, json(StatusCode::OK, &limits)?).into_response())
}
