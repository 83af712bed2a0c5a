//! Files that come with one request: `POST /v1/{entity}/{id}/attachments`.

use super::{
    answers::{id, json},
    attachments::add_content_url,
    extractors::{Asker, Params},
    uploads::{check, declaration_on, of_types},
};
use crate::{
    auth::Identity,
    context::RequestContext,
    db::DbError,
    http::{
        ApiError,
        form::{Boundary, FormError, Part},
        headers::value as header,
        idempotency,
        intake::{Held, Intake, too_large},
        problem::excerpt,
        query::{Query, invalid},
        rate_limit::Counted,
    },
    model::{Caller, Scope},
    runtime::{self, Once},
    upload::{self, AtOnce, Undone, UploadError, delete_closed, examine},
};
use axum::{
    body::Bytes,
    extract::{RawQuery, Request, State},
    http::{StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use keepsake_shared::{
    EntityId, EntityType, ErrorCode, FieldError, Sha256Digest,
    upload::{CheckedFile, FileDeclaration, UploadRequest, check_upload},
};
use serde_json::Value;

/// The field of a form with the bearer token, for a page without a script.
const TOKEN_FIELD: &str = "access_token";
/// The field of a form with the address that the browser goes to once the files are stored.
const REDIRECT_FIELD: &str = "redirect";

/// The field of a form with the SHA-256 of a file: one for each file, in their order, or none.
const SHA256_FIELD: &str = "sha256";
/// The same of a body that is the file itself, as a signed PUT names it.
const SHA256_HEADER: &str = "x-amz-checksum-sha256";

/// How much of a form is read of somebody who is not known yet: the longest token, and the headers of its part.
const MAX_UNKNOWN_BYTES: usize = 16 << 10;

/// How much a form may have beside its files: boundaries and headers of its parts.
const FORM_BYTES: u64 = 256 << 10;

/// A file as it was sent.
struct Sent {
    name: String,
    bytes: Bytes,
    /// What its SHA-256 is said to be.
    sha256: Option<String>,
}

/// What came with a request.
#[derive(Default)]
struct Sending {
    files: Vec<Sent>,
    redirect: Option<String>,
}

/// `POST /v1/{entity}/{id}/attachments?name`: takes in one file as the body, or several as a form, and makes them available at
/// once.
///
/// 1. A caller who may write, by the header, or of a form without one by its first field; else 401 or 403.
/// 2. Read the ids, the query and the `Idempotency-Key`; malformed → 400. Encoded → 415, longer than `INLINE_MAX_BYTES` → 413.
/// 3. Read the body, which waits for room in memory; none → 429, too slow → 408, no valid form or broken off → 400.
/// 4. Other bytes than their sender's SHA-256 says → 422. Check every file by the rules of any declaration, all errors at once → 422, or 413 or 415; then their bytes → 422.
/// 5. Declare them in the database: the same refusals as of `POST /v1/uploads`. A key that came before with the same files
///    is answered as then.
/// 6. Store each file; the store fails → 503.
/// 7. Make all available in one transaction; 201 with `Location`, or of a form that says where to, 303.
///
/// Nothing is left after any other answer.
pub(crate) async fn store(
    State(context): State<RequestContext>,
    Params((entity_type, entity_id)): Params<(String, String)>,
    RawQuery(query): RawQuery,
    Asker(identity): Asker,
    mut request: Request,
) -> Result<Response, ApiError> {
    let boundary = Boundary::of(request.headers()).map_err(malformed)?;
    let sender = match &boundary {
        Some(_) if identity.is_missing() => Sender::InForm(identity),
        _ => Sender::Known(identity.caller(Scope::Write)?),
    };
    let entity_type: EntityType = id(&entity_type)?;
    let entity_id: EntityId = id(&entity_id)?;
    let query = Query::parse(query.as_deref(), &["name"])?;
    let key = idempotency::key(request.headers())?;
    let body = std::mem::take(request.body_mut());
    let intake = |limit| Intake::of(request.headers(), body, limit);
    let limit = context.config.inline_max_bytes;
    let (caller, sending, _held) = match (boundary, sender, query.get("name")) {
        (Some(_), _, Some(_)) => {
            return Err(invalid("name", "is for a body that is the file itself"));
        }
        (Some(boundary), sender, None) => {
            let intake = intake(limit.saturating_add(FORM_BYTES))?;
            Once::new(of_form(&context, sender, &boundary, intake)).await?
        }
        (None, Sender::Known(caller), Some(name)) => {
            let (bytes, held) = whole(&caller, intake(limit)?).await?;
            let said = request.headers().get(SHA256_HEADER);
            let file = Sent {
                name: name.to_owned(),
                bytes,
                sha256: said.map(|said| said.to_str().unwrap_or_default().to_owned()),
            };
            let sending = Sending {
                files: vec![file],
                redirect: None,
            };
            (caller, sending, held)
        }
        (None, ..) => return Err(nameless()),
    };
    let wanted = UploadRequest {
        entity_type: entity_type.to_string(),
        entity_id: entity_id.to_string(),
        files: Vec::new(),
    };
    let stored = Once::new(store_files(&context, &caller, key, wanted, sending.files));
    answer(stored.await?, sending.redirect)
}

/// Who sends a form.
enum Sender {
    /// A caller who may write.
    Known(Caller),
    /// Whoever its first field says.
    InForm(Identity),
}

/// Takes in a body whole.
async fn whole(caller: &Caller, mut intake: Intake) -> Result<(Bytes, Held), ApiError> {
    match intake.finish(&caller.tenant).await {
        Ok(()) => Ok(intake.received()),
        Err(error) => {
            intake.read_off().await;
            Err(error)
        }
    }
}

/// Reads a form, whose first field says who sends it where no header does.
async fn of_form(
    context: &RequestContext,
    sender: Sender,
    boundary: &Boundary,
    mut intake: Intake,
) -> Result<(Caller, Sending, Held), ApiError> {
    let caller = match sender {
        Sender::Known(caller) => caller,
        Sender::InForm(nobody) => match known(context, nobody, boundary, &mut intake).await {
            Ok(caller) => caller,
            Err(error) => {
                intake.read_off().await;
                return Err(error);
            }
        },
    };
    let (bytes, held) = whole(&caller, intake).await?;
    Ok((caller, take_apart(context, boundary, bytes)?, held))
}

/// Who the first field of a form says that sends it.
async fn known(
    context: &RequestContext,
    nobody: Identity,
    boundary: &Boundary,
    intake: &mut Intake,
) -> Result<Caller, ApiError> {
    let first = |bytes: &[u8]| boundary.parts(Bytes::copy_from_slice(bytes)).next();
    intake
        .take_while(|bytes| {
            bytes.len() < MAX_UNKNOWN_BYTES && first(bytes) == Err(FormError::Incomplete)
        })
        .await?;
    match first(intake.so_far()) {
        Ok(Some(part)) if is_field(&part, TOKEN_FIELD) => {
            let identity = Identity::of_token(&value(&part)?, &context.config.tokens).await;
            if let Some(name) = identity.name() {
                context.limits().count(Counted::Caller(&name)).await?;
            }
            Ok(identity.caller(Scope::Write)?)
        }
        // Nobody, whatever else is wrong with it.
        _ => Ok(nobody.caller(Scope::Write)?),
    }
}

/// The files of a form, and where the browser goes from here.
fn take_apart(
    context: &RequestContext,
    boundary: &Boundary,
    form: Bytes,
) -> Result<Sending, ApiError> {
    let mut parts = boundary.parts(form);
    let mut sending = Sending::default();
    let (mut is_first, mut said) = (true, Vec::new());
    while let Some(part) = parts.next().map_err(malformed)? {
        match &part.file_name {
            // A file field of a page that was left empty.
            Some(name) if name.is_empty() && part.content.is_empty() => {}
            Some(name) => sending.files.push(Sent {
                name: name.clone(),
                bytes: part.content,
                sha256: None,
            }),
            None if is_field(&part, SHA256_FIELD) => said.push(value(&part)?),
            None if is_first && is_field(&part, TOKEN_FIELD) => {}
            None if is_field(&part, REDIRECT_FIELD) && sending.redirect.is_none() => {
                sending.redirect = Some(redirect(context, &value(&part)?)?);
            }
            None => return Err(unknown_field(&part)),
        }
        is_first = false;
    }
    if !said.is_empty() && said.len() != sending.files.len() {
        return Err(invalid(
            SHA256_FIELD,
            "must be given once for each file, or for none",
        ));
    }
    for (file, said) in sending.files.iter_mut().zip(said) {
        file.sha256 = Some(said);
    }
    let total = sending.files.iter().map(|file| file.bytes.len() as u64);
    if total.sum::<u64>() > context.config.inline_max_bytes {
        return Err(too_large(context.config.inline_max_bytes));
    }
    Ok(sending)
}

fn is_field(part: &Part, name: &str) -> bool {
    part.file_name.is_none() && part.name == name
}

/// A field's text.
fn value(part: &Part) -> Result<String, ApiError> {
    String::from_utf8(part.content.to_vec())
        .map_err(|_| invalid(&part.name, "must be text in UTF-8"))
}

/// An address to send a browser to: of an origin whose pages may call the API, so that nobody is lured elsewhere with our name.
fn redirect(context: &RequestContext, address: &str) -> Result<String, ApiError> {
    let is_allowed = context.config.allowed_origins.iter().any(|origin| {
        address
            .strip_prefix(origin.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
    });
    if is_allowed && address.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(address.to_owned())
    } else {
        Err(invalid(
            REDIRECT_FIELD,
            "must be an absolute address whose origin is in ALLOWED_ORIGINS",
        ))
    }
}

/// Checks the files, and makes them available.
async fn store_files(
    context: &RequestContext,
    caller: &Caller,
    key: Option<String>,
    mut wanted: UploadRequest,
    files: Vec<Sent>,
) -> Result<Value, ApiError> {
    let mut errors = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let digest = runtime::current().sha256_of(&file.bytes).await;
        let digest = Sha256Digest::from_bytes(digest.map_err(ApiError::internal)?);
        errors.extend(other_digest(index, file, digest));
        wanted.files.push(declared(file, digest));
    }
    if !errors.is_empty() {
        return Err(ApiError::of_errors(errors));
    }
    let limits = &context.config.limits;
    let checked = check(limits, |limits| check_upload(&wanted, limits))?;
    let received = look_at(context, &checked.files, files)?;
    let declaration = declaration_on(context, &checked, upload::expiry_at_once())?;
    let (database, storage) = (context.database()?, context.storage()?);
    let at_once = AtOnce {
        database: &database,
        storage: &storage,
        caller,
        key: key.as_deref(),
    };
    let stored = at_once.run(declaration, &received).await;
    let mut answer = stored.map_err(|Undone { error, is_closed }| {
        if is_closed {
            context
                .after_answer(async move { Once::new(delete_closed(&database, &storage)).await });
        }
        match error {
            UploadError::Refused(refusal, _) => of_types(DbError::Refused(refusal)),
            other => other.into(),
        }
    })?;
    let attachments = answer.get_mut("attachments").and_then(Value::as_array_mut);
    for attachment in attachments.into_iter().flatten() {
        add_content_url(context, attachment);
    }
    Ok(answer)
}

/// A file as its sender would have declared it.
fn declared(file: &Sent, digest: Sha256Digest) -> FileDeclaration {
    FileDeclaration {
        name: file.name.clone(),
        // That of a part is what a browser or a library guesses, and that of a file as the body often not even this.
        media_type: None,
        size: i64::try_from(file.bytes.len()).unwrap_or(i64::MAX),
        sha256: digest.to_hex(),
    }
}

/// What is wrong with a file's SHA-256, if its sender said one: something on the way may have changed the bytes.
fn other_digest(index: usize, file: &Sent, digest: Sha256Digest) -> Option<FieldError> {
    let said = file.sha256.as_deref()?;
    let (code, detail) = match said.parse::<Sha256Digest>() {
        Ok(said) if said == digest => return None,
        Ok(_) => (
            ErrorCode::Sha256Mismatch,
            "The received bytes do not have this SHA-256.".to_owned(),
        ),
        Err(error) => (ErrorCode::Sha256Invalid, format!("It is invalid: {error}.")),
    };
    Some(FieldError::new(
        format!("/files/{index}/sha256"),
        code,
        detail,
    ))
}

/// Looks at the bytes of all files.
fn look_at(
    context: &RequestContext,
    checked: &[CheckedFile],
    sent: Vec<Sent>,
) -> Result<Vec<upload::Received>, ApiError> {
    let (mut received, mut errors): (Vec<_>, Vec<FieldError>) = (Vec::new(), Vec::new());
    for (index, (file, Sent { bytes, .. })) in checked.iter().zip(sent).enumerate() {
        match examine(file, &bytes, context.config.max_image_pixels) {
            Ok(download_only) => received.push(upload::Received {
                bytes,
                sha256: file.sha256,
                download_only,
            }),
            Err(problems) => errors.extend(problems.iter().map(|problem| problem.at(index))),
        }
    }
    if errors.is_empty() {
        Ok(received)
    } else {
        Err(ApiError::new(
            ErrorCode::UploadRejected,
            "The content of a file does not match its name. Nothing was stored.",
        )
        .with_errors(errors))
    }
}

fn answer(stored: Value, redirect: Option<String>) -> Result<Response, ApiError> {
    if let Some(address) = redirect {
        return Ok((StatusCode::SEE_OTHER, [(LOCATION, header(&address)?)]).into_response());
    }
    let upload = stored["id"].as_str().unwrap_or_default();
    let location = [(LOCATION, header(&format!("/v1/uploads/{upload}"))?)];
    Ok((location, json(StatusCode::CREATED, &stored)?).into_response())
}

fn malformed(error: FormError) -> ApiError {
    ApiError::new(ErrorCode::MalformedForm, error.detail())
}

fn nameless() -> ApiError {
    invalid(
        "name",
        "is required: name the file in the query, as in ?name=photo.png, or send a form",
    )
}

fn unknown_field(part: &Part) -> ApiError {
    let name = excerpt(&part.name);
    let detail = format!(
        "A form has files, and these fields: {TOKEN_FIELD} as its first, {SHA256_FIELD} and {REDIRECT_FIELD}. A file has a file name."
    );
    ApiError::new(ErrorCode::UnknownField, &detail).with_errors(vec![FieldError::new(
        format!("/{}", name.replace('~', "~0").replace('/', "~1")),
        ErrorCode::UnknownField,
        detail,
    )])
}
