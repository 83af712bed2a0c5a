//! What one upload may hold: `/v1/limits`.

use super::{answers::json, extractors::Anybody};
use crate::{
    context::RequestContext,
    db::{CallerFunction, Database},
    http::{ApiError, query::Query},
};
use axum::{
    extract::{RawQuery, State},
    http::{
        HeaderValue, StatusCode,
        header::{AUTHORIZATION, CACHE_CONTROL, VARY},
    },
    response::{IntoResponse, Response},
};
use keepsake_shared::EntityType;
use serde_json::json;

/// `GET /v1/limits?entity_type=`: the settings by which the rules judge an upload, so that a page can ask the same
/// rules before it sends anything. A caller who may read learns which types the caller's tenant may attach, and how many versions are
/// kept; anybody else, what the worker is set to.
///
/// 1. Read the query; malformed → 400.
/// 2. For a caller, ask the database.
/// 3. 200, which may be kept for a minute.
pub(crate) async fn get(
    State(context): State<RequestContext>,
    Anybody(caller): Anybody,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref(), &["entity_type"])?;
    let entity_type: Option<EntityType> = query.parsed("entity_type")?;
    let config = &context.config;
    let mut limits = json!({
        "max_files": config.limits.max_files,
        "max_file_bytes": config.limits.max_file_bytes,
        "max_set_bytes": config.limits.max_set_bytes,
        "inline_max_bytes": config.inline_max_bytes,
        "file_types": config.limits.file_types,
        "number_duplicates": config.limits.number_duplicates,
        "max_image_pixels": config.max_image_pixels,
        "multipart_threshold_bytes": config.multipart_threshold,
    });
    if let Some(caller) = &caller {
        let request = json!({ "entity_type": entity_type, "file_types": limits["file_types"] });
        let function = CallerFunction::GetLimits;
        let mut answer = context
            .database()?
            .for_caller(function, caller, request)
            .await?;
        limits["file_types"] = answer["file_types"].take();
        limits["max_versions"] = answer["max_versions"].take();
    }
    let kept = match caller {
        Some(_) => "private, max-age=60",
        None => "public, max-age=60",
    };
    let headers = [
        (CACHE_CONTROL, HeaderValue::from_static(kept)),
        (VARY, AUTHORIZATION.into()),
    ];
    Ok((headers, json(StatusCode::OK, &limits)?).into_response())
}
