//! Versions of an attachment: `/v1/attachments/{id}/versions`.

use super::{
    answers::{self, Listed, json, read},
    attachments::{add_content_url, redirect, request},
    extractors::{Params, Reader, Writer},
    uploads::{Declared, check, declaration, set_expiry},
};
use crate::{
    context::RequestContext,
    db::{CallerFunction, Database},
    http::{ApiError, etag, idempotency, query::Query},
};
use axum::{
    extract::{RawQuery, Request, State},
    http::{HeaderMap, Method, StatusCode},
    response::Response,
};
use keepsake_shared::{
    ErrorCode,
    upload::{VersionRequest, check_version},
};
use serde_json::{Value, json};

/// `POST /v1/attachments/{id}/versions`: declares a new version, and answers as for an upload. Until that is complete, readers get
/// the version that is current now.
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the id, the `Idempotency-Key` and the body; malformed → as for an upload.
/// 3. Check the file by the rules → 422, or 413 or 415.
/// 4. Write the set and its pending version in the database: an attachment that is not there, or another tenant's → 404, one that is
///    shut → 403 or 409, another version than `If-Match` names → 412, and what an upload is refused for.
/// 5. Sign its URL, and 201 with `Location`.
pub(crate) async fn create(
    State(context): State<RequestContext>,
    Writer(caller): Writer,
    Params(attachment): Params<String>,
    mut body: Request,
) -> Result<Response, ApiError> {
    let named = conditional(request(&attachment)?, body.headers());
    let key = idempotency::key(body.headers())?;
    let wanted: VersionRequest = read(&mut body).await?;
    let checked = check(&context.config.limits, |limits| {
        check_version(&wanted, limits)
    })?;
    let expires_at = set_expiry(&context, &checked.files);
    let mut declaration = declaration(&context, &checked.files, expires_at)?;
    for name in ["attachment_id", "if_version"] {
        if let Some(value) = named.get(name) {
            declaration[name] = value.clone();
        }
    }
    let declared = Declared {
        function: CallerFunction::CreateVersion,
        declaration: idempotency::with_key(declaration, key),
        notes: checked.notes,
    };
    declared.answer(&context, &caller).await
}

/// `GET /v1/attachments/{id}/versions`: the history, a page at a time, newest first.
///
/// 1. A caller who may read; else 401 or 403.
/// 2. Read the id and the query; malformed → 400.
/// 3. Look it up; nothing there, or another tenant's → 404, shut → 403 or 409.
/// 4. 200 with the versions.
pub(crate) async fn list(
    State(context): State<RequestContext>,
    Reader(caller): Reader,
    Params(attachment): Params<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let request = request(&attachment)?;
    let query = Query::parse(query.as_deref(), &["limit", "cursor"])?;
    let of = request["attachment_id"].clone();
    let of = of.as_str().unwrap_or_default();
    let listed = Listed::OfCaller(&caller, CallerFunction::ListVersions);
    let mut answer = answers::page(&context, listed, &query, request).await?;
    let items = answer.get_mut("items").and_then(Value::as_array_mut);
    for version in items.into_iter().flatten() {
        version["content_url"] = format!(
            "{}/v1/attachments/{of}/versions/{}/content",
            context.origin, version["version"]
        )
        .into();
    }
    json(StatusCode::OK, &answer)
}

/// `GET` or `HEAD /v1/attachments/{id}/versions/{version}/content?inline`: as the content of the attachment, of any version.
pub(crate) async fn content(
    State(context): State<RequestContext>,
    Reader(caller): Reader,
    Params((attachment, version)): Params<(String, String)>,
    RawQuery(query): RawQuery,
    method: Method,
) -> Result<Response, ApiError> {
    let request = of_version(&attachment, &version)?;
    let function = CallerFunction::VersionContent;
    redirect(&context, &caller, function, request, query, &method).await
}

/// `POST /v1/attachments/{id}/versions/{version}/restore`: makes a former version current again, under a new number.
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the id and the number; malformed → 400.
/// 3. Exchange it with the current version in the database: nothing there, or another tenant's → 404, infected → 403, another version
///    current than `If-Match` names → 412, another file of its name beside the attachment → 409.
/// 4. 200 with the attachment; the same again for the version that was restored last.
pub(crate) async fn restore(
    State(context): State<RequestContext>,
    Writer(caller): Writer,
    Params((attachment, version)): Params<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let request = conditional(of_version(&attachment, &version)?, &headers);
    let mut answer = context
        .database()?
        .for_caller(CallerFunction::RestoreVersion, &caller, request)
        .await?;
    add_content_url(&context, &mut answer);
    json(StatusCode::OK, &answer)
}

/// Adds which versions the caller means by `If-Match`, if it is sent.
fn conditional(mut request: Value, headers: &HeaderMap) -> Value {
    if let Some(versions) = etag::versions(headers) {
        request["if_version"] = json!(versions);
    }
    request
}

fn of_version(attachment: &str, version: &str) -> Result<Value, ApiError> {
    let mut request = request(attachment)?;
    let number: Option<i32> = version.parse().ok();
    let number = number
        .filter(|number| number.to_string() == version && *number > 0)
        .ok_or_else(|| {
            ApiError::new(
                ErrorCode::InvalidId,
                "The path is invalid: a version is a number from 1 on.",
            )
        })?;
    request["version"] = number.into();
    Ok(request)
}
