//! Upload sets: `/v1/uploads`.

use super::{
    answers::{id, json, own, read},
    attachments::add_content_url,
    extractors::{Params, Reader, Writer},
    parts::{plan, shown_plan},
};
use crate::{
    clock,
    context::RequestContext,
    db::{CallerFunction, Database, DbError},
    http::{ApiError, headers::value as header, idempotency},
    model::{Caller, DeclaredFile},
    runtime::Once,
    upload::{
        self, Completion, FileProblem, FileReport, Inspected, Purpose, RecentSet,
        State as SetState, UploadSet, delete_closed, inspect, look_up, recorded,
    },
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use keepsake_shared::{
    ErrorCode, FieldError, FileTypes, Limits, UploadId,
    upload::{CheckedFile, CheckedUpload, UploadRequest, check_upload},
};
use serde_json::{Value, json};
use std::time::Duration;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// `POST /v1/uploads`: declares 1..N files and answers with a signed PUT for each, or for a large
/// one with the parts it is to be cut into.
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the `Idempotency-Key`, if there is one; malformed → 400. Read the body, bounded; not
///    JSON, unknown or wrong fields → 400, too large → 413, another type → 415.
/// 3. Check every file by the rules and gather all errors → 422, or 413 or 415 when all are of that
///    kind.
/// 4. Write the set and its pending attachments in the database, which may allow other file types than
///    the settings, by tenant and entity type → 415; a name that is taken → 409, over the quota → 403, too many pending files → 429. A key that made a set before answers with that
///    set; used for another request → 422, still at work → 409.
/// 5. Sign one URL per file, each locking length, type, SHA-256 and no-overwrite.
/// 6. 201 with `Location`.
pub(crate) async fn create(
    State(context): State<RequestContext>,
    Writer(caller): Writer,
    mut request: Request,
) -> Result<Response, ApiError> {
    let key = idempotency::key(request.headers())?;
    let wanted: UploadRequest = read(&mut request).await?;
    let checked = check(&context.config.limits, |limits| {
        check_upload(&wanted, limits)
    })?;
    let expires_at = set_expiry(&context, &checked.files);
    let declaration = declaration_on(&context, &checked, expires_at)?;
    let declaration = idempotency::with_key(declaration, key);
    let declared = Declared {
        function: CallerFunction::CreateUpload,
        declaration,
        notes: checked.notes,
    };
    declared.answer(&context, &caller).await
}

/// A set that was checked, to be written and signed.
pub(super) struct Declared {
    /// What writes it.
    pub(super) function: CallerFunction,
    /// What it is asked.
    pub(super) declaration: Value,
    /// What the client should know.
    pub(super) notes: Vec<FieldError>,
}

impl Declared {
    /// Steps 4 to 6 of [`create`].
    pub(super) fn answer<'a>(
        self,
        context: &'a RequestContext,
        caller: &'a Caller,
    ) -> impl Future<Output = Result<Response, ApiError>> + 'a {
        Once::new(async move {
            let set: UploadSet = context
                .database()?
                .read_for_caller(self.function, caller, self.declaration)
                .await
                .map_err(of_types)?;
            let location = [(LOCATION, header(&format!("/v1/uploads/{}", set.id))?)];
            remember(context, caller, &set);
            let mut signed = signed(context, caller, set)?;
            signed["notes"] = json!(self.notes);
            Ok((location, json(StatusCode::CREATED, &signed)?).into_response())
        })
    }
}

/// `POST /v1/uploads/{id}/complete`: makes the whole set visible, if every file is what was
/// declared.
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the id and the `Idempotency-Key`, if there is one; malformed → 400.
/// 3. Look the set up; nothing there, another tenant's, or another's on an entity that the caller may
///    not change → 404. One that is closed already goes to
///    step 6. One that this process declared is known already: should it not be whole, it is looked up
///    after all.
/// 4. Join the parts of files that were uploaded in parts and are whole. Look at every object:
///    length, SHA-256, first bytes, pixels; read those whole of which the store does not tell the
///    SHA-256. A wrong one → the set is rejected, its rows and objects are removed, 422 with the
///    problems of every file.
/// 5. Otherwise a missing one → 409, with each that is missing, and nothing changes; or 410 when its
///    URL works no longer. A whole set as well, 15 seconds after its end.
/// 6. Make all files available in one transaction; 200. Again for a set already completed; a
///    rejected one → 422 as the first time, an aborted one → 409, an expired one → 410, a name that
///    was taken meanwhile → 409. A key used for another request → 422, still at work → 409.
pub(crate) async fn complete(
    State(context): State<RequestContext>,
    Writer(caller): Writer,
    Params(upload): Params<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let upload: UploadId = id(&upload)?;
    let key = idempotency::key(&headers)?;
    let completion = Completion {
        database: &context.database()?,
        storage: &context.storage()?,
        caller: &caller,
        upload,
        max_pixels: context.config.max_image_pixels,
        key: key.as_deref(),
    };
    let mut answer = completion.finish_recent().await?;
    let attachments = answer.get_mut("attachments").and_then(Value::as_array_mut);
    for attachment in attachments.into_iter().flatten() {
        add_content_url(&context, attachment);
    }
    json(StatusCode::OK, &answer)
}

/// Checks a declaration. If only file types are wrong by the settings, the database decides, which may allow more.
pub(super) fn check<T>(
    limits: &Limits,
    by: impl Fn(&Limits) -> Result<T, Vec<FieldError>>,
) -> Result<T, ApiError> {
    let checked = by(limits).or_else(|errors| {
        let is_type = |code| code == ErrorCode::MediaTypeNotAllowed;
        if !errors.iter().all(|error| is_type(error.code)) {
            return Err(errors);
        }
        by(&Limits {
            file_types: FileTypes::every(),
            ..*limits
        })
    });
    checked.map_err(ApiError::of_errors)
}

/// Reports a file type that the database refused as the rules here report it.
pub(super) fn of_types(error: DbError) -> ApiError {
    match error {
        DbError::Refused(refusal) if refusal.code == ErrorCode::MediaTypeNotAllowed => {
            ApiError::of_errors(refusal.errors)
        }
        other => other.into(),
    }
}

/// Keeps the set for its completion, unless a file is uploaded in parts.
fn remember(context: &RequestContext, caller: &Caller, set: &UploadSet) {
    if set.files.iter().all(|file| plan(context, file).is_none()) {
        let recent = RecentSet {
            files: set.files.clone(),
            expires_at: set.expires_at,
        };
        upload::remember(&caller.tenant, set.id, recent);
    }
}

/// `GET /v1/uploads/{id}`: where a set stands, and why. A browser cannot read what a store
/// answered; this can be read.
///
/// 1. A caller who may read; else 401 or 403.
/// 2. Read the id; malformed → 400.
/// 3. Look the set up; nothing there, or another tenant's → 404.
/// 4. While it waits for files, look at every object.
/// 5. 200 with what was seen of each file and what is wrong with it.
pub(crate) async fn get(
    State(context): State<RequestContext>,
    Reader(caller): Reader,
    Params(upload): Params<String>,
) -> Result<Response, ApiError> {
    let set = look_up(&context.database()?, &caller, id(&upload)?, Purpose::Show).await?;
    let files: Vec<Value> = if set.state == SetState::Pending {
        let inspected = inspect(
            &context.storage()?,
            &set.files,
            context.config.max_image_pixels,
        )
        .await?;
        inspected.iter().map(status).collect()
    } else {
        set.files
            .iter()
            .map(|file| closed(file, &set.report))
            .collect()
    };
    let answer = json!({
        "id": set.id,
        "state": set.state,
        "expires_at": rfc3339(set.expires_at)?,
        "files": files,
    });
    json(StatusCode::OK, &answer)
}

/// `DELETE /v1/uploads/{id}`: aborts a set.
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the id; malformed → 400.
/// 3. Close the set and drop its rows; nothing there, another tenant's, or another's on an entity that
///    the caller may not change → 404, completed → 409.
/// 4. Drain the outbox in the background, so that what was uploaded goes soon.
/// 5. 204; the same again for a set aborted before.
pub(crate) async fn abort(
    State(context): State<RequestContext>,
    Writer(caller): Writer,
    Params(upload): Params<String>,
) -> Result<Response, ApiError> {
    let upload: UploadId = id(&upload)?;
    let database = context.database()?;
    database
        .for_caller(
            CallerFunction::AbortUpload,
            &caller,
            json!({ "upload_id": upload }),
        )
        .await?;
    let storage = context.storage()?;
    context.after_answer(async move { Once::new(delete_closed(&database, &storage)).await });
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// When a set that is declared now expires: sets with a file in parts have longer.
pub(super) fn set_expiry(context: &RequestContext, files: &[CheckedFile]) -> OffsetDateTime {
    let in_parts = |size| context.config.parts_of(size).is_some();
    let lifetime = if files.iter().any(|file| in_parts(file.size)) {
        context.config.multipart_ttl
    } else {
        context.config.upload_ttl
    };
    clock::now() + Duration::from_secs(lifetime)
}

/// What a declaration of files on an entity says to the database.
pub(super) fn declaration_on(
    context: &RequestContext,
    checked: &CheckedUpload,
    expires_at: OffsetDateTime,
) -> Result<Value, ApiError> {
    let mut declaration = declaration(context, &checked.files, expires_at)?;
    declaration["entity_type"] = json!(checked.entity_type);
    declaration["entity_id"] = json!(checked.entity_id);
    Ok(declaration)
}

/// What every declaration says to the database.
pub(super) fn declaration(
    context: &RequestContext,
    files: &[CheckedFile],
    expires_at: OffsetDateTime,
) -> Result<Value, ApiError> {
    let files: Vec<Value> = files
        .iter()
        .map(|file| {
            json!({
                "name": file.name,
                "media_type": file.media_type,
                "size": file.size,
                "sha256": file.sha256.to_hex(),
            })
        })
        .collect();
    Ok(json!({
        "expires_at": rfc3339(expires_at)?,
        "file_types": context.config.limits.file_types,
        "files": files,
    }))
}

/// A set that a key made before keeps its time: what its URLs may store is counted until then.
fn signed(context: &RequestContext, caller: &Caller, set: UploadSet) -> Result<Value, ApiError> {
    let url_expires_at = set.expires_at.min(context.signer().upload_expiry());
    let url_expires = rfc3339(url_expires_at)?;
    let kind = context.config.store.capabilities().parts.checksum;
    let files = set
        .files
        .into_iter()
        .map(|file| {
            let key = own(caller, file.object_key.clone())?;
            if let Some(plan) = plan(context, &file) {
                return Ok(json!({
                    "attachment_id": file.attachment_id,
                    "name": file.name,
                    "multipart": shown_plan(&plan, kind),
                }));
            }
            let put = context.signer().upload(key, &file, url_expires_at)?;
            let form = context.signer().form(&file, url_expires_at)?;
            Ok(json!({
                "attachment_id": file.attachment_id,
                "name": file.name,
                "method": "PUT",
                "url": put.url,
                "headers": put.headers,
                "form": form,
                "expires_at": url_expires,
            }))
        })
        .collect::<Result<Vec<Value>, ApiError>>()?;
    Ok(json!({ "id": set.id, "expires_at": rfc3339(set.expires_at)?, "files": files }))
}

/// A file that is waited for, with what was seen of it.
fn status(one: &Inspected<'_>) -> Value {
    let seen = one.seen.as_ref().map(|seen| {
        json!({
            "size": seen.size,
            "sha256": seen.sha256.map(|digest| digest.to_hex()),
        })
    });
    described(one.file, seen.into(), &one.problem_list())
}

/// A file of a closed set, with what is on record about it.
fn closed(file: &DeclaredFile, report: &[FileReport]) -> Value {
    described(file, Value::Null, recorded(file, report))
}

fn described(file: &DeclaredFile, seen: Value, problems: &[FileProblem]) -> Value {
    json!({
        "attachment_id": file.attachment_id,
        "name": file.name,
        "size": file.size,
        "media_type": file.media_type,
        "state": file.state,
        "seen": seen,
        "problems": problems,
    })
}

fn rfc3339(time: OffsetDateTime) -> Result<String, ApiError> {
    time.format(&Rfc3339).map_err(ApiError::internal)
}
