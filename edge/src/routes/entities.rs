//! The things attachments belong to: `/v1/{entity}/{id}`.

use super::{
    Params,
    attachments::{deleted, page},
    id, json,
};
use crate::{
    app::App,
    auth::{Reader, Writer},
    db::{CallerFunction, Database},
    problem::ApiError,
    query::Query,
};
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use keepsake_shared::{EntityId, EntityType};
use serde_json::{Value, json};

/// `GET /v1/{entity}/{id}/attachments?limit&cursor`: what is attached to one thing, a page at a
/// time.
///
/// 1. A caller who may read; else 401 or 403.
/// 2. Read the ids and the query; malformed → 400.
/// 3. 200 with the available attachments, and behind them the URL that the thing itself had before,
///    if the application shows it; no such thing → 404.
#[worker::send]
pub(crate) async fn list(
    State(app): State<App>,
    Reader(caller): Reader,
    Params((entity_type, entity_id)): Params<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let mut listing = entity(&entity_type, &entity_id)?;
    let query = Query::parse(query.as_deref(), &["limit", "cursor"])?;
    listing["state"] = "available".into();
    page(&app, &caller, &query, listing).await
}

/// `DELETE /v1/{entity}/{id}`: deletes a thing with everything that hangs on it, so that it can be
/// restored.
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the ids; malformed → 400.
/// 3. Soft-delete it in the database; nothing there → 404, something in use forbids it → 409.
/// 4. 204 with the deletion's id in `keepsake-deletion`; the same again for a thing already
///    deleted.
#[worker::send]
pub(crate) async fn delete(
    State(app): State<App>,
    Writer(caller): Writer,
    Params((entity_type, entity_id)): Params<(String, String)>,
) -> Result<Response, ApiError> {
    let request = entity(&entity_type, &entity_id)?;
    let answer = app
        .database()?
        .for_caller(CallerFunction::DeleteEntity, &caller, request)
        .await?;
    deleted(answer)
}

/// `POST /v1/{entity}/{id}/restore`: brings back a thing and all that went with it.
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the ids; malformed → 400.
/// 3. Undo its deletion in the database; nothing there → 404, something took its place → 409 with
///    every conflict, purged → 410.
/// 4. 200 with what was restored; nothing for a thing that is not deleted.
#[worker::send]
pub(crate) async fn restore(
    State(app): State<App>,
    Writer(caller): Writer,
    Params((entity_type, entity_id)): Params<(String, String)>,
) -> Result<Response, ApiError> {
    let request = entity(&entity_type, &entity_id)?;
    let answer = app
        .database()?
        .for_caller(CallerFunction::RestoreEntity, &caller, request)
        .await?;
    json(StatusCode::OK, &answer)
}

fn entity(entity_type: &str, entity_id: &str) -> Result<Value, ApiError> {
    let entity_type: EntityType = id(entity_type)?;
    let entity_id: EntityId = id(entity_id)?;
    Ok(json!({ "entity_type": entity_type, "entity_id": entity_id }))
}
