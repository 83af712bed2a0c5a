//! `GET /healthz`.

use super::json;
use crate::{
    app::App,
    db::{Call, Database},
    problem::ApiError,
    query::Query,
};
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use serde_json::json;

/// `GET /healthz`: is the worker there, and with `?deep=1` the database too?
///
/// 1. Read the query; an unknown parameter → 400.
/// 2. With `deep`, ask the database; no answer → 503.
/// 3. 200.
#[worker::send]
pub(crate) async fn check(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref(), &["deep"])?;
    if !query.flag("deep")? {
        return json(StatusCode::OK, &json!({ "status": "ok" }));
    }
    app.database()?.call(Call::Ping).await?;
    json(StatusCode::OK, &json!({ "status": "ok", "database": "ok" }))
}
