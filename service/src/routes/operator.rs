//! The operator's view, of all tenants together: `/v1/operator`.

use super::{
    answers::{Listed, json, page, read},
    extractors::{Operator, Params},
};
use crate::{
    context::RequestContext,
    db::Database,
    db::SystemFunction,
    http::{
        ApiError,
        body::choice,
        query::{Query, check_text, invalid},
    },
};
use axum::{
    extract::{MatchedPath, RawQuery, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use keepsake_shared::{EntityType, ErrorCode, read_from_object};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// `GET /v1/operator/{view}?…`: what an operator looks at, one handler for all of it.
///
/// 1. A caller with the scope `operator`; else 401 or 403.
/// 2. Read the query; malformed, or a cursor of another listing → 400.
/// 3. 200.
pub(crate) async fn look(
    State(context): State<RequestContext>,
    _: Operator,
    path: MatchedPath,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = query.as_deref();
    let answer = match path.as_str().rsplit('/').next() {
        Some("history") => {
            at_times(&context, SystemFunction::GetHistory, query, &["from", "to"]).await
        }
        Some("purge-plan") => {
            at_times(&context, SystemFunction::GetPurgePlan, query, &["at"]).await
        }
        Some("outbox") => {
            let states = &["waiting", "dead"];
            list(&context, SystemFunction::ListOutbox, query, states).await
        }
        Some("holds") => {
            let states = &["active", "released"];
            list(&context, SystemFunction::ListHolds, query, states).await
        }
        Some("events") => {
            let states = &["waiting", "dead"];
            list(&context, SystemFunction::ListEvents, query, states).await
        }
        Some("erasures") => list(&context, SystemFunction::ListErasures, query, &[]).await,
        _ => list(&context, SystemFunction::ListFindings, query, &[]).await,
    };
    json(StatusCode::OK, &answer?)
}

/// What depends on moments.
async fn at_times(
    context: &RequestContext,
    function: SystemFunction,
    query: Option<&str>,
    names: &[&str],
) -> Result<Value, ApiError> {
    let query = Query::parse(query, names)?;
    let mut request = json!({});
    for name in names {
        request[*name] = query.moment(name)?.into();
    }
    Ok(context.database()?.for_system(function, request).await?)
}

/// One page of what there is, in one of `states`; the first, when not asked for.
async fn list(
    context: &RequestContext,
    function: SystemFunction,
    query: Option<&str>,
    states: &[&str],
) -> Result<Value, ApiError> {
    let known: &[&str] = match states {
        [] => &["limit", "cursor"],
        _ => &["state", "limit", "cursor"],
    };
    let query = Query::parse(query, known)?;
    let state = query.choice("state", states)?;
    let listing = json!({ "of": format!("{function:?}"), "state": state });
    page(context, Listed::OfAll(function), &query, listing).await
}

/// `POST /v1/operator/outbox/{id}/retry`: tries again to delete an object that failed; `/v1/operator/events/{id}/retry`: to deliver
/// an event.
///
/// 1. A caller with the scope `operator`; else 401 or 403.
/// 2. Read the id; malformed → 400.
/// 3. Put it back at the head of the queue; not there → 404.
/// 4. 204.
pub(crate) async fn retry(
    State(context): State<RequestContext>,
    _: Operator,
    path: MatchedPath,
    Params(entry): Params<String>,
) -> Result<Response, ApiError> {
    let request = json!({ "id": number(&entry)? });
    let function = if path.as_str().starts_with("/v1/operator/events/") {
        SystemFunction::RetryEvent
    } else {
        SystemFunction::RetryObject
    };
    context.database()?.for_system(function, request).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What a hold can cover.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Held {
    Entity,
    Attachment,
    Deletion,
    Tenant,
}

/// The body of a hold.
#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, expecting = "a JSON object")]
struct Hold {
    #[serde(deserialize_with = "choice")]
    kind: Held,
    entity_type: Option<EntityType>,
    id: String,
    reason: String,
}

read_from_object!(Hold);

/// `POST /v1/operator/holds`: holds an entity, an attachment, a deletion or a tenant.
///
/// 1. A caller with the scope `operator`; else 401 or 403.
/// 2. Read the body; malformed, or an entity type without an entity → 400.
/// 3. Hold it; not there → 404, purged → 410.
/// 4. 200 with the hold; the one that there was, if it was held before.
pub(crate) async fn hold(
    State(context): State<RequestContext>,
    Operator(actor): Operator,
    mut body: Request,
) -> Result<Response, ApiError> {
    let hold: Hold = read(&mut body).await?;
    if (hold.kind == Held::Entity) != hold.entity_type.is_some() {
        return Err(invalid(
            "entity_type",
            "is required for an entity, and not allowed otherwise",
        ));
    }
    let request = json!({
        "kind": hold.kind,
        "entity_type": hold.entity_type,
        "id": check_text("id", &hold.id)?,
        "reason": check_text("reason", &hold.reason)?,
        "actor": actor,
    });
    tell(&context, SystemFunction::PlaceHold, request).await
}

/// The body of a release.
#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, expecting = "a JSON object")]
struct Release {
    reason: String,
}

read_from_object!(Release);

/// `POST /v1/operator/holds/{id}/release`: ends a hold.
///
/// 1. A caller with the scope `operator`; else 401 or 403.
/// 2. Read the id and the body; malformed → 400.
/// 3. Release it; not there → 404.
/// 4. 200 with the hold; as it was, if it was released before.
pub(crate) async fn release(
    State(context): State<RequestContext>,
    Operator(actor): Operator,
    Params(hold): Params<String>,
    mut body: Request,
) -> Result<Response, ApiError> {
    let id = number(&hold)?;
    let Release { reason } = read(&mut body).await?;
    let reason = check_text("reason", &reason)?;
    let request = json!({ "id": id, "reason": reason, "actor": actor });
    tell(&context, SystemFunction::ReleaseHold, request).await
}

/// The body of an erasure.
#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, expecting = "a JSON object")]
struct Erasure {
    tenant: String,
    subject: Option<String>,
    #[serde(default)]
    keep_files: bool,
    reason: String,
}

read_from_object!(Erasure);

/// `POST /v1/operator/erasures`: erases a tenant, or one person in it.
///
/// 1. A caller with the scope `operator`; else 401 or 403.
/// 2. Read the body; malformed, or files to be kept of a whole tenant → 400.
/// 3. Erase what no hold covers; the tenant itself is held → 409.
/// 4. 200 with the certificate.
pub(crate) async fn erase(
    State(context): State<RequestContext>,
    Operator(actor): Operator,
    mut body: Request,
) -> Result<Response, ApiError> {
    let erasure: Erasure = read(&mut body).await?;
    if erasure.keep_files && erasure.subject.is_none() {
        return Err(invalid(
            "keep_files",
            "is only for one person: give a subject",
        ));
    }
    let subject = erasure.subject.as_deref();
    let request = json!({
        "tenant": check_text("tenant", &erasure.tenant)?,
        "subject": subject.map(|subject| check_text("subject", subject)).transpose()?,
        "keep_files": erasure.keep_files,
        "reason": check_text("reason", &erasure.reason)?,
        "actor": actor,
    });
    tell(&context, SystemFunction::Erase, request).await
}

async fn tell(
    context: &RequestContext,
    function: SystemFunction,
    request: Value,
) -> Result<Response, ApiError> {
    let answer = context.database()?.for_system(function, request).await?;
    json(StatusCode::OK, &answer)
}

/// The number in a path that names a row.
fn number(text: &str) -> Result<i64, ApiError> {
    text.parse().ok().filter(|id| *id > 0).ok_or_else(|| {
        ApiError::new(
            ErrorCode::InvalidId,
            "The path is invalid: the id must be a positive whole number.",
        )
    })
}
