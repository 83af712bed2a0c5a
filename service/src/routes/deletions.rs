//! The bin: `/v1/deletions`.

use super::{
    answers::{Listed, ask, id, json, page, read},
    extractors::{Params, Reader, Writer},
};
use crate::{
    context::RequestContext,
    db::CallerFunction,
    http::{ApiError, body::choice, query::Query},
};
use axum::{
    extract::{RawQuery, Request, State},
    http::StatusCode,
    response::Response,
};
use keepsake_shared::{DeletionId, read_from_object};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// `GET /v1/deletions?limit&cursor`: what was deleted and can be restored, newest first.
///
/// 1. A caller who may read; else 401 or 403.
/// 2. Read the query; malformed, or a cursor of another listing → 400.
/// 3. 200 with the deletions whose roots the caller may see.
pub(crate) async fn list(
    State(context): State<RequestContext>,
    Reader(caller): Reader,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref(), &["limit", "cursor"])?;
    let listed = Listed::OfCaller(&caller, CallerFunction::ListDeletions);
    let listing = json!({ "of": "deletions" });
    json(
        StatusCode::OK,
        &page(&context, listed, &query, listing).await?,
    )
}

/// Which deletions are searched for conflicts: those in which that is quick, or this one, however large it is.
const SEARCHED: [&str; 2] = ["quick", "all"];

/// `GET /v1/deletions/{id}?conflicts`: what one deletion took with it, and what a restore would meet.
///
/// 1. A caller who may read; else 401 or 403.
/// 2. Read the id and the query; malformed → 400.
/// 3. Look it up; not there, or another tenant's → 404, purged → 410.
/// 4. 200.
pub(crate) async fn get(
    State(context): State<RequestContext>,
    Reader(caller): Reader,
    Params(deletion): Params<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref(), &["conflicts"])?;
    let mut request = request(&deletion)?;
    request["conflicts"] = json!(query.choice("conflicts", &SEARCHED)?);
    ask(&context, &caller, CallerFunction::GetDeletion, request).await
}

/// What becomes of rows that cannot come back.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OnConflict {
    #[default]
    Fail,
    Skip,
}

/// The body of a restore.
#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, expecting = "a JSON object")]
struct Restore {
    #[serde(default, deserialize_with = "choice")]
    on_conflict: OnConflict,
}

read_from_object!(Restore);

/// `POST /v1/deletions/{id}/restore`: brings back what one deletion removed.
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the id and the body; malformed → 400.
/// 3. Undo it in the database; not there, or another tenant's → 404, something took a place → 409
///    with every conflict, unless those are to be skipped, purged → 410.
/// 4. 200 with what was restored; nothing for a deletion that was restored before.
pub(crate) async fn restore(
    State(context): State<RequestContext>,
    Writer(caller): Writer,
    Params(deletion): Params<String>,
    mut body: Request,
) -> Result<Response, ApiError> {
    let mut request = request(&deletion)?;
    let Restore { on_conflict } = read(&mut body).await?;
    request["on_conflict"] = json!(on_conflict);
    ask(&context, &caller, CallerFunction::RestoreDeletion, request).await
}

fn request(deletion: &str) -> Result<Value, ApiError> {
    let deletion: DeletionId = id(deletion)?;
    Ok(json!({ "deletion_id": deletion }))
}
