//! What became of the scheduled work: `/v1/runs`.

use super::{answers::json, extractors::Watcher};
use crate::{
    context::RequestContext,
    db::Database,
    db::SystemFunction,
    http::{ApiError, query::Query},
};
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use serde_json::json;

/// `GET /v1/runs?outcome&limit`: the latest steps of the schedule, newest first, and how the audit stands.
///
/// 1. A caller with the scope `metrics`; else 401 or 403.
/// 2. Read the query; malformed → 400.
/// 3. 200.
pub(crate) async fn list(
    State(context): State<RequestContext>,
    _: Watcher,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref(), &["outcome", "limit"])?;
    let request = json!({
        "outcome": query.choice("outcome", &["any", "failed"])?,
        "limit": query.limit()?,
    });
    let answer = context
        .database()?
        .for_system(SystemFunction::ListRuns, request)
        .await?;
    json(StatusCode::OK, &answer)
}
