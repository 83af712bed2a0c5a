//! The things attachments belong to: `/v1/{entity}` and `/v1/{entity}/{id}`.

use super::{
    answers::{Listed, ask, id, json, page, read},
    attachments::{self, deleted},
    extractors::{Params, Reader, Writer},
};
use crate::{
    context::RequestContext,
    db::CallerFunction,
    db::Database,
    http::{
        ApiError,
        query::{Query, check_text, invalid},
    },
};
use axum::{
    extract::{RawQuery, Request, State},
    http::StatusCode,
    response::Response,
};
use keepsake_shared::{EntityId, EntityType, read_from_object};
use serde::Deserialize;
use serde_json::{Value, json};

/// `GET /v1/{entity}?q&limit&cursor`: the things of one kind, a page at a time.
///
/// 1. A caller who may read; else 401 or 403.
/// 2. Read the kind and the query; malformed, or a cursor of another listing → 400.
/// 3. 200 with the live things that the caller may see; no such kind → 404.
#[worker::send]
pub(crate) async fn list(
    State(context): State<RequestContext>,
    Reader(caller): Reader,
    Params(entity_type): Params<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let entity_type: EntityType = id(&entity_type)?;
    let query = Query::parse(query.as_deref(), &["q", "limit", "cursor"])?;
    let listing = json!({ "of": "things", "entity_type": entity_type, "q": query.text("q")? });
    let listed = Listed::OfCaller(&caller, CallerFunction::ListEntities);
    json(
        StatusCode::OK,
        &page(&context, listed, &query, listing).await?,
    )
}

/// `GET /v1/{entity}/{id}`: one thing that is live.
///
/// 1. A caller who may read; else 401 or 403.
/// 2. Read the ids; malformed → 400.
/// 3. Look it up; not there, deleted, or another tenant's → 404.
/// 4. 200.
#[worker::send]
pub(crate) async fn get(
    State(context): State<RequestContext>,
    Reader(caller): Reader,
    Params((entity_type, entity_id)): Params<(String, String)>,
) -> Result<Response, ApiError> {
    let request = entity(&entity_type, &entity_id)?;
    ask(&context, &caller, CallerFunction::GetEntity, request).await
}

/// The body of a rename.
#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, expecting = "a JSON object")]
struct Rename {
    label: String,
}

read_from_object!(Rename);

/// `PATCH /v1/{entity}/{id}`: changes what a thing is called, live or deleted.
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the ids and the body; malformed, or no label → 400.
/// 3. Write its label in the database; nothing there, or not the caller's to change → 404, a rule of
///    the application refuses it → 400, another thing has it → 409.
/// 4. 200 with the thing.
#[worker::send]
pub(crate) async fn rename(
    State(context): State<RequestContext>,
    Writer(caller): Writer,
    Params((entity_type, entity_id)): Params<(String, String)>,
    mut body: Request,
) -> Result<Response, ApiError> {
    let mut request = entity(&entity_type, &entity_id)?;
    let Rename { label } = read(&mut body).await?;
    if label.trim().is_empty() {
        return Err(invalid("label", "must not be blank"));
    }
    request["label"] = check_text("label", &label)?.into();
    ask(&context, &caller, CallerFunction::RenameEntity, request).await
}

/// `GET /v1/{entity}/{id}/attachments?limit&cursor`: what is attached to one thing, a page at a
/// time.
///
/// 1. A caller who may read; else 401 or 403.
/// 2. Read the ids and the query; malformed → 400.
/// 3. 200 with the available attachments, and behind them the URL that the thing itself had before,
///    if the application shows it; no such thing → 404.
#[worker::send]
pub(crate) async fn attachments(
    State(context): State<RequestContext>,
    Reader(caller): Reader,
    Params((entity_type, entity_id)): Params<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let mut listing = entity(&entity_type, &entity_id)?;
    let query = Query::parse(query.as_deref(), &["state", "limit", "cursor"])?;
    listing["state"] = query
        .choice("state", &attachments::STATES_OF_ENTITY)?
        .into();
    attachments::page(&context, &caller, &query, listing).await
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
    State(context): State<RequestContext>,
    Writer(caller): Writer,
    Params((entity_type, entity_id)): Params<(String, String)>,
) -> Result<Response, ApiError> {
    let request = entity(&entity_type, &entity_id)?;
    let answer = context
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
    State(context): State<RequestContext>,
    Writer(caller): Writer,
    Params((entity_type, entity_id)): Params<(String, String)>,
) -> Result<Response, ApiError> {
    let request = entity(&entity_type, &entity_id)?;
    ask(&context, &caller, CallerFunction::RestoreEntity, request).await
}

fn entity(entity_type: &str, entity_id: &str) -> Result<Value, ApiError> {
    let entity_type: EntityType = id(entity_type)?;
    let entity_id: EntityId = id(entity_id)?;
    Ok(json!({ "entity_type": entity_type, "entity_id": entity_id }))
}
