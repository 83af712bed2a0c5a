//! Attachments: `/v1/attachments`.

use super::{
    answers::{self, Listed, ask, id, json, own, read},
    extractors::{Params, Reader, Writer},
};
use crate::{
    context::RequestContext,
    db::Database,
    db::{self, CallerFunction},
    http::{ApiError, etag, headers::value as header, query::Query},
    model::Caller,
    runtime::Once,
};
use axum::{
    extract::{RawQuery, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{CACHE_CONTROL, ETAG, LOCATION, REFERRER_POLICY},
    },
    response::{IntoResponse, Response},
};
use keepsake_shared::{
    AttachmentId, DeletionId, EntityId, EntityType, ErrorCode, FieldError, FileName, MediaType,
    ObjectKey, Sha256Digest, read_from_object,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Carries the id of the deletion that a DELETE made, for the record.
const DELETION: HeaderName = HeaderName::from_static("keepsake-deletion");

#[derive(Deserialize)]
struct Content {
    object_key: ObjectKey,
    name: FileName,
    media_type: MediaType,
    size: u64,
    /// Whether it is something else as well, by its bytes.
    download_only: bool,
}

#[derive(Deserialize)]
struct Deleted {
    deletion_id: DeletionId,
}

/// What a listing can be asked for.
const FILTERS: [&str; 10] = [
    "q",
    "entity_type",
    "entity_id",
    "state",
    "media_type",
    "uploader",
    "created_after",
    "created_before",
    "limit",
    "cursor",
];

/// The states that a listing can be asked for, the usual one first.
const STATES: [&str; 4] = ["available", "deleted", "scanning", "quarantined"];
/// For one entity also `live`: whatever is not deleted, available or not.
pub(super) const STATES_OF_ENTITY: [&str; 5] =
    ["available", "deleted", "scanning", "quarantined", "live"];

/// `GET /v1/attachments?…`: what the tenant has, a page at a time, newest first.
///
/// 1. A caller who may read; else 401 or 403.
/// 2. Read the query; malformed, or a cursor of another listing → 400.
/// 3. Look the attachments up; those of an entity that does not exist → 404.
/// 4. 200 with the attachments: `available` ones, unless those of another state are asked for.
pub(crate) async fn list(
    State(context): State<RequestContext>,
    Reader(caller): Reader,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref(), &FILTERS)?;
    let entity_type: Option<EntityType> = query.parsed("entity_type")?;
    let entity_id: Option<EntityId> = query.parsed("entity_id")?;
    if entity_type.is_some() != entity_id.is_some() {
        return Err(ApiError::new(
            ErrorCode::InvalidField,
            "entity_type and entity_id must be given together.",
        ));
    }
    let listing = json!({
        // Names are compared in lower case.
        "q": query.text("q")?.map(str::to_lowercase),
        "entity_type": entity_type,
        "entity_id": entity_id,
        "state": query.choice("state", &STATES)?,
        "media_type": query.parsed::<MediaType>("media_type")?,
        "uploader": query.text("uploader")?,
        "created_after": query.moment("created_after")?,
        "created_before": query.moment("created_before")?,
    });
    page(&context, &caller, &query, listing).await
}

/// `GET /v1/attachments/{id}`: one attachment's metadata, with an ETag.
///
/// 1. A caller who may read; else 401 or 403.
/// 2. Read the id; malformed → 400.
/// 3. Look it up; nothing there, or another tenant's → 404.
/// 4. 304 if the caller's `If-None-Match` has its ETag, else 200.
pub(crate) async fn get(
    State(context): State<RequestContext>,
    Reader(caller): Reader,
    Params(attachment): Params<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let request = request(&attachment)?;
    let mut answer = context
        .database()?
        .for_caller(CallerFunction::GetAttachment, &caller, request)
        .await?;
    add_content_url(&context, &mut answer);
    let version = answer["version"].as_u64().unwrap_or_default();
    let digest = Sha256Digest::of(answer.to_string().as_bytes());
    let tag = etag::of_version(version, &digest.to_hex());
    let mut response = if etag::matches(&headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        json(StatusCode::OK, &answer)?
    };
    // It may be kept, but asked about before each use: it can be deleted at any time.
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response.headers_mut().insert(ETAG, header(&tag)?);
    Ok(response)
}

/// `GET` or `HEAD /v1/attachments/{id}/content?inline`: redirects to a short-lived URL of the bytes, for the same method.
///
/// 1. A caller who may read; else 401 or 403.
/// 2. Read the id and the query; malformed → 400.
/// 3. Look it up; not there, not available, or another tenant's → 404.
/// 4. 302 to a signed URL. It is shown in place only if `inline` is asked for, the type is safe
///    to show, and the file was found to be nothing else as well.
pub(crate) async fn content(
    State(context): State<RequestContext>,
    Reader(caller): Reader,
    Params(attachment): Params<String>,
    RawQuery(query): RawQuery,
    method: Method,
) -> Result<Response, ApiError> {
    let request = request(&attachment)?;
    let function = CallerFunction::AttachmentContent;
    redirect(&context, &caller, function, request, query, &method).await
}

/// Steps 2 to 4 of [`content`], of what a function of the database finds.
pub(super) fn redirect<'a>(
    context: &'a RequestContext,
    caller: &'a Caller,
    function: CallerFunction,
    request: Value,
    query: Option<String>,
    method: &'a Method,
) -> impl Future<Output = Result<Response, ApiError>> + 'a {
    Once::new(async move {
        let inline = Query::parse(query.as_deref(), &["inline"])?.flag("inline")?;
        let answer = context
            .database()?
            .for_caller(function, caller, request)
            .await?;
        let content: Content = db::read(answer)?;
        let url = context.signer().download(
            method.as_str(),
            own(caller, content.object_key)?,
            content.name,
            content.media_type,
            content.size,
            inline && !content.download_only,
        )?;
        let headers = [
            (LOCATION, header(&url)?),
            // The URL is a credential: it is not passed on to where the file's own links lead.
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ];
        Ok((StatusCode::FOUND, headers).into_response())
    })
}

/// The body of a rename.
#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, expecting = "a JSON object")]
struct Rename {
    name: String,
}

read_from_object!(Rename);

/// `PATCH /v1/attachments/{id}`: renames one attachment, live or deleted.
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the id and the body; malformed → 400, a name that no file may have → 422.
/// 3. Rename it in the database; nothing there, or another tenant's → 404, another extension → 422,
///    another file of that name beside it → 409.
/// 4. 200 with the attachment.
pub(crate) async fn rename(
    State(context): State<RequestContext>,
    Writer(caller): Writer,
    Params(attachment): Params<String>,
    mut body: Request,
) -> Result<Response, ApiError> {
    let mut request = request(&attachment)?;
    let Rename { name } = read(&mut body).await?;
    let name = FileName::parse(&name).map_err(|error| {
        let (code, why) = (ErrorCode::FileNameInvalid, error.to_string());
        ApiError::new(code, format_args!("The name is not allowed: {why}."))
            .with_errors(vec![FieldError::new("/name", code, why)])
    })?;
    request["name"] = json!(name);
    let mut answer = context
        .database()?
        .for_caller(CallerFunction::RenameAttachment, &caller, request)
        .await?;
    add_content_url(&context, &mut answer);
    json(StatusCode::OK, &answer)
}

/// `DELETE /v1/attachments/{id}`: deletes one attachment so that it can be restored.
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the id; malformed → 400.
/// 3. Soft-delete it in the database; nothing there, or another tenant's → 404.
/// 4. 204 with the deletion's id in `keepsake-deletion`; the same again for one already deleted.
pub(crate) async fn delete(
    State(context): State<RequestContext>,
    Writer(caller): Writer,
    Params(attachment): Params<String>,
) -> Result<Response, ApiError> {
    let request = request(&attachment)?;
    let answer = context
        .database()?
        .for_caller(CallerFunction::DeleteAttachment, &caller, request)
        .await?;
    deleted(answer)
}

/// `POST /v1/attachments/{id}/restore`: brings back one attachment.
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the id; malformed → 400.
/// 3. Undo its deletion in the database; nothing there → 404, something took its place → 409 with
///    every conflict, purged → 410.
/// 4. 200 with what was restored; nothing for one that is not deleted.
pub(crate) async fn restore(
    State(context): State<RequestContext>,
    Writer(caller): Writer,
    Params(attachment): Params<String>,
) -> Result<Response, ApiError> {
    let request = request(&attachment)?;
    ask(
        &context,
        &caller,
        CallerFunction::RestoreAttachment,
        request,
    )
    .await
}

pub(super) fn request(attachment: &str) -> Result<Value, ApiError> {
    let attachment: AttachmentId = id(attachment)?;
    Ok(json!({ "attachment_id": attachment }))
}

/// One page of attachments.
pub(super) async fn page(
    context: &RequestContext,
    caller: &Caller,
    query: &Query,
    listing: Value,
) -> Result<Response, ApiError> {
    let listed = Listed::OfCaller(caller, CallerFunction::ListAttachments);
    let mut answer = answers::page(context, listed, query, listing).await?;
    let items = answer.get_mut("items").and_then(Value::as_array_mut);
    for attachment in items.into_iter().flatten() {
        add_content_url(context, attachment);
    }
    json(StatusCode::OK, &answer)
}

/// The answer to a DELETE.
pub(super) fn deleted(answer: Value) -> Result<Response, ApiError> {
    let Deleted { deletion_id } = db::read(answer)?;
    let headers = [(DELETION, header(&deletion_id.to_string())?)];
    Ok((StatusCode::NO_CONTENT, headers).into_response())
}

/// The database knows no host names: where an attachment's bytes are asked for is added here.
pub(super) fn add_content_url(context: &RequestContext, attachment: &mut Value) {
    if let Some(id) = attachment.get("id").and_then(Value::as_str) {
        attachment["content_url"] =
            format!("{}/v1/attachments/{id}/content", context.origin).into();
    }
}
