//! What the tenant and the caller hold: `/v1/usage`.

use super::{answers::json, extractors::Reader};
use crate::{context::RequestContext, db::CallerFunction, db::Database, http::ApiError};
use axum::{extract::State, http::StatusCode, response::Response};
use serde_json::Value;

/// `GET /v1/usage`: bytes and files of the tenant and of the caller, beside what they may hold.
///
/// 1. A caller who may read; else 401 or 403.
/// 2. 200.
pub(crate) async fn get(
    State(context): State<RequestContext>,
    Reader(caller): Reader,
) -> Result<Response, ApiError> {
    let answer = context
        .database()?
        .for_caller(CallerFunction::GetUsage, &caller, Value::Null)
        .await?;
    json(StatusCode::OK, &answer)
}
