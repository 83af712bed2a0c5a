//! Upload sets: `/v1/uploads`.

use super::{
    Params,
    attachments::add_content_url,
    expect, header, id, json, own,
    parts::{plan, shown_plan},
};
use crate::{
    app::App,
    auth::{Caller, Reader, Writer},
    body, clock,
    config::Config,
    db::{CallerFunction, Database, DbError},
    declared::{self, DeclaredSet},
    idempotency,
    inspection::{
        DeclaredFile, FileProblem, FileReport, Inspected, Verdict, download_only, field_errors,
        inspect, prove, recorded, report, verdict,
    },
    log::{self, Level},
    multipart, outbox,
    problem::ApiError,
    storage::{Signer, Storage, StorageError},
    wire::RawBody,
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use keepsake_shared::{
    AttachmentId, ErrorCode, FileTypes, Limits, UploadId,
    upload::{CheckedUpload, UploadRequest, check_upload},
};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::time::Duration;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// An upload set, as the database has it.
#[derive(Deserialize)]
struct UploadSet {
    id: UploadId,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    files: Vec<DeclaredFile>,
    #[serde(default)]
    state: String,
    /// Why it was rejected.
    #[serde(default, deserialize_with = "null_as_empty")]
    report: Vec<FileReport>,
}

fn null_as_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<FileReport>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The state in which a set waits for its files.
const PENDING: &str = "pending";

/// Seconds after its end in which a set that is whole may still be completed. An upload that is under way then
/// may have its object taken away again half a minute after the end, by this clock; the database looks at its own.
const COMPLETE_GRACE: Duration = Duration::from_secs(15);

/// Batches of the outbox that a request drains at most. One is enough unless much is waiting.
const BATCHES_AT_ONCE: u32 = 2;

/// `POST /v1/uploads`: declares 1..N files and answers with a signed PUT for each, or for a large
/// one with the parts it is to be cut into.
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the `Idempotency-Key`, if there is one; malformed → 400. Read the body, bounded; not
///    JSON, unknown or wrong fields → 400, too large → 413, another type → 415.
/// 3. Check every file by the rules and gather all errors → 422, or 413 or 415 when all are of that
///    kind.
/// 4. Write the set and its pending attachments in the database, which may allow other types of file
///    than the settings do, by tenant and entity type → 415; a name that is taken → 409, over
///    the quota → 403, too many pending files → 429. A key that made a set before answers with that
///    set; used for another request → 422, still at work → 409.
/// 5. Sign one URL per file, each locking length, type, SHA-256 and no-overwrite.
/// 6. 201 with `Location`.
#[worker::send]
pub(crate) async fn create(
    State(app): State<App>,
    Writer(caller): Writer,
    mut request: Request,
) -> Result<Response, ApiError> {
    let key = idempotency::key(request.headers())?;
    let body = RawBody::of(&mut request);
    let open = || body.map_or_else(worker::Body::empty, RawBody::into_body);
    let wanted: UploadRequest = body::read_json(request.headers(), open).await?;
    let limits = &app.config.limits;
    let checked = check(&wanted, limits)?;
    let expires_at = set_expiry(&app, &checked);
    let declaration = declaration(&checked, limits.file_types, expires_at)?;
    let answer = app
        .database()?
        .for_caller(
            CallerFunction::CreateUpload,
            &caller,
            idempotency::with_key(declaration, key),
        )
        .await
        .map_err(of_types)?;
    let set: UploadSet = expect(answer)?;
    let location = [(LOCATION, header(&format!("/v1/uploads/{}", set.id))?)];
    remember(&app, &caller, &set);
    let mut signed = signed(&app, &caller, set)?;
    signed["notes"] = json!(checked.notes);
    Ok((location, json(StatusCode::CREATED, &signed)?).into_response())
}

/// `POST /v1/uploads/{id}/complete`: makes the whole set visible, if every file is what was
/// declared.
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the id and the `Idempotency-Key`, if there is one; malformed → 400.
/// 3. Look the set up; nothing there, or another tenant's → 404. One that is closed already goes to
///    step 6. One that this isolate declared is known already: should it not be whole, it is looked up
///    after all.
/// 4. Join the parts of files that were uploaded in parts and are whole. Look at every object:
///    length, SHA-256, first bytes, pixels; read those whole of which the store does not tell the
///    SHA-256. A wrong one → the set is rejected, its rows and objects are removed, 422 with the
///    problems of every file.
/// 5. Otherwise a missing one → 409, with each that is missing, and nothing changes; or 410 when its
///    URL works no longer. A whole set as well, [`COMPLETE_GRACE`] after its end.
/// 6. Make all files available in one transaction; 200. Again for a set already completed; a
///    rejected one → 422 as the first time, an aborted one → 409, an expired one → 410, a name that
///    was taken meanwhile → 409. A key used for another request → 422, still at work → 409.
#[worker::send]
pub(crate) async fn complete(
    State(app): State<App>,
    Writer(caller): Writer,
    Params(upload): Params<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let upload: UploadId = id(&upload)?;
    let key = idempotency::key(&headers)?;
    let (database, storage) = (app.database()?, app.storage()?);
    let config = &app.config;
    let at_once =
        finish_declared(config, &database, &storage, &caller, upload, key.clone()).await?;
    let mut answer = match at_once {
        Some(answer) => answer,
        None => finish(config, &database, &storage, &caller, upload, key).await?,
    };
    let attachments = answer.get_mut("attachments").and_then(Value::as_array_mut);
    for attachment in attachments.into_iter().flatten() {
        add_content_url(&app, attachment);
    }
    json(StatusCode::OK, &answer)
}

/// Checks a declaration. Where nothing but types of file are wrong with it by the settings, they are left
/// to the database, which may allow more.
fn check(wanted: &UploadRequest, limits: &Limits) -> Result<CheckedUpload, ApiError> {
    let checked = check_upload(wanted, limits).or_else(|errors| {
        let is_type = |code| code == ErrorCode::MediaTypeNotAllowed;
        if !errors.iter().all(|error| is_type(error.code)) {
            return Err(errors);
        }
        let every = Limits {
            file_types: FileTypes::every(),
            ..*limits
        };
        check_upload(wanted, &every)
    });
    checked.map_err(ApiError::of_errors)
}

/// Says of a refused type in the database what the rules say of it here.
fn of_types(error: DbError) -> ApiError {
    match error {
        DbError::Refused(refusal) if refusal.code == ErrorCode::MediaTypeNotAllowed => {
            ApiError::of_errors(refusal.errors)
        }
        other => other.into(),
    }
}

/// Keeps what [`finish_declared`] needs, unless parts have to be joined first.
fn remember(app: &App, caller: &Caller, set: &UploadSet) {
    if set.files.iter().all(|file| plan(app, file).is_none()) {
        let declared = DeclaredSet {
            files: set.files.clone(),
            expires_at: set.expires_at,
        };
        declared::remember(&caller.tenant, set.id, declared);
    }
}

/// Completes a set that this isolate declared and that is whole; its objects are looked at while the database is
/// still being reached. `None` when something is not as it should be: what, and for whom, is to be found out by looking the
/// set up.
///
/// # Errors
/// The store's; a refusal of the database.
async fn finish_declared(
    config: &Config,
    database: &impl Database,
    storage: &impl Storage,
    caller: &Caller,
    upload: UploadId,
    key: Option<String>,
) -> Result<Option<Value>, ApiError> {
    let Some(set) = declared::take(&caller.tenant, upload) else {
        return Ok(None);
    };
    let inspected = examine(config, storage, &set.files).await?;
    if verdict(&inspected) != Verdict::Complete || set.expires_at <= clock::now() {
        return Ok(None);
    }
    let shut = download_only(&inspected);
    match make_available(database, caller, upload, &shut, key).await {
        Err(DbError::Refused(refusal)) if refusal.code == ErrorCode::UploadRejected => Ok(None),
        completed => Ok(Some(completed?)),
    }
}

/// Completes a set, whoever says that it is time; steps 3 to 6 of [`complete`].
///
/// # Errors
/// Why it is not complete.
pub(crate) async fn finish(
    config: &Config,
    database: &impl Database,
    storage: &impl Storage,
    caller: &Caller,
    upload: UploadId,
    key: Option<String>,
) -> Result<Value, ApiError> {
    let set = look_up(database, caller, upload).await?;
    let mut shut = Vec::new();
    if set.state == PENDING {
        // Later the sweep may have deleted what this would make, and would not look again.
        if clock::now() < set.expires_at {
            multipart::join(storage, &set.files).await?;
        }
        let inspected = examine(config, storage, &set.files).await?;
        match verdict(&inspected) {
            Verdict::Complete if set.expires_at + COMPLETE_GRACE < clock::now() => {
                return Err(expired());
            }
            Verdict::Complete => {}
            Verdict::Incomplete if set.expires_at <= clock::now() => return Err(expired()),
            Verdict::Incomplete | Verdict::Unproven => {
                return Err(incomplete(&set, &report(&inspected)));
            }
            Verdict::Wrong => {
                let report = report(&inspected);
                return Err(reject(database, storage, caller, &set, &report).await?);
            }
        }
        shut = download_only(&inspected);
    }
    make_available(database, caller, upload, &shut, key)
        .await
        .map_err(|error| with_record(error, &set))
}

async fn make_available(
    database: &impl Database,
    caller: &Caller,
    upload: UploadId,
    download_only: &[AttachmentId],
    key: Option<String>,
) -> Result<Value, DbError> {
    let request = json!({ "upload_id": upload, "download_only": download_only });
    let request = idempotency::with_key(request, key);
    database
        .for_caller(CallerFunction::CompleteUpload, caller, request)
        .await
}

/// Looks at every object, and reads those whole of which the store does not tell the SHA-256.
async fn examine<'a>(
    config: &Config,
    storage: &impl Storage,
    files: &'a [DeclaredFile],
) -> Result<Vec<Inspected<'a>>, StorageError> {
    let mut inspected = inspect(storage, files, config.max_image_pixels).await?;
    if verdict(&inspected) == Verdict::Unproven {
        prove(storage, &mut inspected).await?;
    }
    Ok(inspected)
}

/// `GET /v1/uploads/{id}`: where a set stands, and why. A browser cannot read what a store
/// answered; this can be read.
///
/// 1. A caller who may read; else 401 or 403.
/// 2. Read the id; malformed → 400.
/// 3. Look the set up; nothing there, or another tenant's → 404.
/// 4. While it waits for files, look at every object.
/// 5. 200 with what was seen of each file and what is wrong with it.
#[worker::send]
pub(crate) async fn get(
    State(app): State<App>,
    Reader(caller): Reader,
    Params(upload): Params<String>,
) -> Result<Response, ApiError> {
    let set = look_up(&app.database()?, &caller, id(&upload)?).await?;
    let files: Vec<Value> = if set.state == PENDING {
        let inspected = inspect(&app.storage()?, &set.files, app.config.max_image_pixels).await?;
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

/// `DELETE /v1/uploads/{id}`: gives a set up.
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the id; malformed → 400.
/// 3. Close the set and drop its rows; nothing there, or another tenant's → 404, completed → 409.
/// 4. Drain the outbox in the background, so that what was uploaded goes soon.
/// 5. 204; the same again for a set given up before.
#[worker::send]
pub(crate) async fn abort(
    State(app): State<App>,
    Writer(caller): Writer,
    Params(upload): Params<String>,
) -> Result<Response, ApiError> {
    let upload: UploadId = id(&upload)?;
    let database = app.database()?;
    database
        .for_caller(
            CallerFunction::AbortUpload,
            &caller,
            json!({ "upload_id": upload }),
        )
        .await?;
    let storage = app.storage()?;
    app.after_answer(async move { drain_soon(&database, &storage).await });
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// When a set made now is given up: sets with a file in parts have longer.
fn set_expiry(app: &App, checked: &CheckedUpload) -> OffsetDateTime {
    let in_parts = |size| app.config.parts_of(size).is_some();
    if checked.files.iter().any(|file| in_parts(file.size)) {
        clock::now() + Duration::from_secs(app.config.multipart_ttl)
    } else {
        Signer(app).upload_expiry()
    }
}

fn declaration(
    checked: &CheckedUpload,
    file_types: FileTypes,
    expires_at: OffsetDateTime,
) -> Result<Value, ApiError> {
    let files: Vec<Value> = checked
        .files
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
        "entity_type": checked.entity_type,
        "entity_id": checked.entity_id,
        "expires_at": rfc3339(expires_at)?,
        "file_types": file_types,
        "files": files,
    }))
}

/// A set that a key made before keeps its time: what its URLs may store is counted until then.
fn signed(app: &App, caller: &Caller, set: UploadSet) -> Result<Value, ApiError> {
    let url_expires_at = set.expires_at.min(Signer(app).upload_expiry());
    let url_expires = rfc3339(url_expires_at)?;
    let kind = app.config.store.capabilities().parts.checksum;
    let files = set
        .files
        .into_iter()
        .map(|file| {
            let key = own(caller, file.object_key.clone())?;
            if let Some(plan) = plan(app, &file) {
                return Ok(json!({
                    "attachment_id": file.attachment_id,
                    "name": file.name,
                    "multipart": shown_plan(&plan, kind),
                }));
            }
            let put = Signer(app).upload(key, &file, url_expires_at)?;
            let form = Signer(app).form(&file, url_expires_at)?;
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

async fn look_up(
    database: &impl Database,
    caller: &Caller,
    upload: UploadId,
) -> Result<UploadSet, ApiError> {
    let request = json!({ "upload_id": upload });
    expect(
        database
            .for_caller(CallerFunction::GetUpload, caller, request)
            .await?,
    )
}

fn incomplete(set: &UploadSet, report: &[FileReport]) -> ApiError {
    let errors = field_errors(&set.files, report);
    ApiError::new(
        ErrorCode::NotUploaded,
        format_args!(
            "{} of {} files are not uploaded yet. Nothing has changed: upload them and try again.",
            errors.len(),
            set.files.len()
        ),
    )
    .with_errors(errors)
}

/// Adds to the refusal of a rejected set what was wrong with its files.
fn with_record(error: DbError, set: &UploadSet) -> ApiError {
    let rejected =
        matches!(&error, DbError::Refused(refusal) if refusal.code == ErrorCode::UploadRejected);
    let error = ApiError::from(error);
    if rejected {
        error.with_errors(field_errors(&set.files, &set.report))
    } else {
        error
    }
}

fn expired() -> ApiError {
    ApiError::new(
        ErrorCode::UploadExpired,
        "The time to upload has run out: declare the files again.",
    )
}

/// Closes a set that can never become complete: its rows in one transaction, and then, by way of the
/// outbox, its objects. Should the store fail here, or the worker stop, the outbox keeps their keys.
async fn reject(
    database: &impl Database,
    storage: &impl Storage,
    caller: &Caller,
    set: &UploadSet,
    report: &[FileReport],
) -> Result<ApiError, DbError> {
    let request = json!({ "upload_id": set.id, "report": report });
    database
        .for_caller(CallerFunction::RejectUpload, caller, request)
        .await?;
    drain_soon(database, storage).await;
    Ok(ApiError::new(
        ErrorCode::UploadRejected,
        "What was uploaded is not what was declared, so the whole set was dropped: declare the files again.",
    )
    .with_errors(field_errors(&set.files, report)))
}

/// Deletes the objects of a set that was just closed. What cannot be deleted now waits in the outbox
/// for the next scheduled run.
async fn drain_soon(database: &impl Database, storage: &impl Storage) {
    let drained = outbox::drain(database, storage, BATCHES_AT_ONCE).await;
    let given_up = multipart::give_up(database, storage).await;
    if let Some(error) = drained.err().or(given_up.err()) {
        log::write(
            Level::Error,
            "drain",
            json!({ "cause": format!("{error:?}") }),
        );
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        db::Refusal,
        fakes::{MemoryStorage, ScriptedDatabase, config},
        storage::StoredObject,
    };
    use futures_util::FutureExt;
    use keepsake_shared::Sha256Digest;

    const TEXT: &[u8] = b"a note";
    const KEY: &str = "t/acme/post/1/0198f7d0-1111-7aaa-8bbb-000000000002.txt";
    const UPLOAD: &str = "0198f7d0-1111-7aaa-8bbb-000000000001";

    fn caller(tenant: &str) -> Caller {
        Caller {
            tenant: tenant.parse().unwrap(),
            claims: "{}".to_owned(),
        }
    }

    /// Declares a set for `acme` that ends so many seconds from now.
    fn declare(ends_in: i64) {
        let file = json!({
            "attachment_id": "0198f7d0-1111-7aaa-8bbb-000000000002",
            "name": "note.txt",
            "media_type": "text/plain",
            "size": TEXT.len(),
            "sha256": Sha256Digest::of(TEXT).to_hex(),
            "object_key": KEY,
        });
        let set = DeclaredSet {
            files: vec![serde_json::from_value(file).unwrap()],
            expires_at: clock::now() + time::Duration::seconds(ends_in),
        };
        declared::remember(&caller("acme").tenant, UPLOAD.parse().unwrap(), set);
    }

    fn holding(bytes: &[u8]) -> MemoryStorage {
        let storage = MemoryStorage::default();
        let object = StoredObject {
            size: bytes.len() as u64,
            // As a store that tells none.
            sha256: None,
            first_bytes: bytes.to_vec(),
            encoded: false,
        };
        storage.objects.borrow_mut().insert(KEY.to_owned(), object);
        storage
    }

    /// What becomes of it; the database is asked no more often than it has answers.
    fn finish_at_once(
        tenant: &str,
        storage: &MemoryStorage,
        answers: impl IntoIterator<Item = Result<Value, DbError>>,
    ) -> Result<Option<Value>, ErrorCode> {
        let database = ScriptedDatabase::new(answers);
        let upload = UPLOAD.parse().unwrap();
        finish_declared(&config(), &database, storage, &caller(tenant), upload, None)
            .now_or_never()
            .unwrap()
            .map_err(|error| error.code())
    }

    fn refused(code: &str) -> Result<Value, DbError> {
        let refusal = json!({ "code": code, "detail": "" });
        let refusal: Refusal = serde_json::from_value(refusal).unwrap();
        Err(DbError::Refused(refusal))
    }

    #[test]
    fn a_set_declared_here_and_whole_is_not_looked_up() {
        declare(60);
        let answer = finish_at_once("acme", &holding(TEXT), [Ok(json!("completed"))]);
        assert_eq!(answer, Ok(Some(json!("completed"))));
        // Once.
        assert_eq!(finish_at_once("acme", &holding(TEXT), []), Ok(None));
    }

    #[test]
    fn whatever_is_not_as_it_should_be_is_looked_up() {
        assert_eq!(finish_at_once("acme", &holding(TEXT), []), Ok(None));
        declare(60);
        assert_eq!(finish_at_once("other", &holding(TEXT), []), Ok(None));
        assert_eq!(finish_at_once("acme", &holding(b"other!"), []), Ok(None));
        declare(60);
        assert_eq!(
            finish_at_once("acme", &MemoryStorage::default(), []),
            Ok(None)
        );
        declare(0);
        assert_eq!(finish_at_once("acme", &holding(TEXT), []), Ok(None));
        declare(60);
        let rejected = [refused("upload_rejected")];
        assert_eq!(finish_at_once("acme", &holding(TEXT), rejected), Ok(None));
    }

    #[test]
    fn the_database_and_the_store_have_the_last_word() {
        declare(60);
        assert_eq!(
            finish_at_once("acme", &holding(TEXT), [refused("not_found")]),
            Err(ErrorCode::NotFound)
        );
        declare(60);
        let down = MemoryStorage {
            broken: true,
            ..MemoryStorage::default()
        };
        assert_eq!(
            finish_at_once("acme", &down, []),
            Err(ErrorCode::StorageUnavailable)
        );
    }
}
