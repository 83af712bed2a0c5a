//! The entities that attachments belong to: `/v1/{entity}` and `/v1/{entity}/{id}`.

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

/// `GET /v1/{entity}?q&limit&cursor`: the live entities of one type, a page at a time.
///
/// 1. A caller who may read; else 401 or 403.
/// 2. Read the type and the query; malformed, or a cursor of another listing → 400.
/// 3. 200 with the entities that the caller may see; no such type → 404.
pub(crate) async fn list(
    State(context): State<RequestContext>,
    Reader(caller): Reader,
    Params(entity_type): Params<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let entity_type: EntityType = id(&entity_type)?;
    let query = Query::parse(query.as_deref(), &["q", "limit", "cursor"])?;
    let listing = json!({ "of": "entities", "entity_type": entity_type, "q": query.text("q")? });
    let listed = Listed::OfCaller(&caller, CallerFunction::ListEntities);
    json(
        StatusCode::OK,
        &page(&context, listed, &query, listing).await?,
    )
}

/// `GET /v1/{entity}/{id}`: one live entity.
///
/// 1. A caller who may read; else 401 or 403.
/// 2. Read the ids; malformed → 400.
/// 3. Look it up; not there, deleted, or another tenant's → 404.
/// 4. 200.
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

/// `PATCH /v1/{entity}/{id}`: renames an entity, live or deleted.
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the ids and the body; malformed, or no label → 400.
/// 3. Write its label in the database; nothing there, or not the caller's to change → 404, the
///    application does not allow it → 400, another entity has it → 409.
/// 4. 200 with the entity.
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

/// `GET /v1/{entity}/{id}/attachments?limit&cursor`: an entity's attachments, a page at a time.
///
/// 1. A caller who may read; else 401 or 403.
/// 2. Read the ids and the query; malformed → 400.
/// 3. 200 with the available attachments, and after them the URL that the entity had before, if the
///    application shows it; no such entity → 404.
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

/// `DELETE /v1/{entity}/{id}`: deletes an entity and everything that belongs to it, so that it can be
/// restored.
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the ids; malformed → 400.
/// 3. Soft-delete it in the database; nothing there → 404, another row still refers to it → 409.
/// 4. 204 with the deletion's id in `keepsake-deletion`; the same again for an entity already
///    deleted.
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

/// `POST /v1/{entity}/{id}/restore`: restores an entity and everything that was deleted with it.
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the ids; malformed → 400.
/// 3. Undo its deletion in the database; nothing there → 404, something took its place → 409 with
///    every conflict, purged → 410.
/// 4. 200 with what was restored; nothing for an entity that is not deleted.
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
