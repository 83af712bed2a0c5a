//! The rules of `keepsake-shared` as SQL functions, so that CHECK constraints, queries and the edge
//! judge alike. All but `uuid_v7` are immutable and parallel safe.

use keepsake_shared::object_key::key_extension;
use keepsake_shared::search;
use keepsake_shared::upload::{UploadRequest, check_file_types, check_upload};
use keepsake_shared::{
    AttachmentId, EntityId, EntityType, FileName, FileTypes, Limits, MediaType, ObjectKey, TenantId,
};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid};
use serde_json::json;

use crate::call::arguments::Jsonb;
use crate::model::error::{Failure, required};

/// What to do about a part that is not fit for an object key.
const KEY_PARTS: &str = "An id has 1 to 64 characters of A-Z a-z 0-9 _ -, an entity type is a lower-case word, and an attachment id is a version 7 UUID.";

fn refused(error: impl std::fmt::Display, fix: &'static str) -> ErrorReport {
    Failure::BadArgument {
        what: error.to_string(),
        fix: fix.into(),
    }
    .into()
}

/// A version 7 UUID (RFC 9562): ids that sort by the time they were made.
#[pg_extern(volatile, parallel_safe)]
fn uuid_v7() -> Uuid {
    Uuid::from_bytes(uuid::Uuid::now_v7().into_bytes())
}

/// The name made safe to show, store and send; never fails.
#[pg_extern(immutable, strict, parallel_safe)]
fn sanitize_filename(name: &str) -> String {
    FileName::sanitize(name).as_str().to_owned()
}

/// Whether the text is a file name as it stands: what `sanitize_filename` would not change.
#[pg_extern(immutable, strict, parallel_safe)]
fn is_filename(name: &str) -> bool {
    FileName::parse(name).is_ok_and(|parsed| parsed.as_str() == name)
}

/// The text by which two file names are compared: `A.PNG` and `a.png` are the same.
///
/// # Errors
/// 22023 when the text is no file name.
#[pg_extern(immutable, strict, parallel_safe, cost = 100)]
fn filename_comparison_key(name: &str) -> Result<String, ErrorReport> {
    Ok(parse_name(name)?.comparison_key())
}

/// The words of a folded text, as a search finds them: without punctuation and the marks of accents.
#[pg_extern(immutable, strict, parallel_safe)]
fn search_words(folded: &str) -> Vec<String> {
    search::words(folded)
}

/// The terms of a word in a tenant's index: its trigrams, from its beginning.
///
/// # Errors
/// 22023 when the tenant is not fit for a key.
#[pg_extern(immutable, strict, parallel_safe)]
fn search_terms(tenant: &str, word: &str) -> Result<Vec<String>, ErrorReport> {
    Ok(search::terms(&parse_tenant(tenant)?, word))
}

/// All terms of a file name in a tenant's index.
///
/// # Errors
/// 22023 when the name is no file name, or the tenant is not fit for a key.
#[pg_extern(immutable, strict, parallel_safe, cost = 100)]
fn filename_terms(tenant: &str, name: &str) -> Result<Vec<String>, ErrorReport> {
    let terms = search::name_terms(&parse_tenant(tenant)?, &parse_name(name)?);
    Ok(terms.into_iter().collect())
}

fn parse_name(name: &str) -> Result<FileName, ErrorReport> {
    FileName::parse(name)
        .map_err(|error| refused(error, "Use keepsake.sanitize_filename() to clean the name."))
}

fn parse_tenant(tenant: &str) -> Result<TenantId, ErrorReport> {
    tenant.parse().map_err(|error| refused(error, KEY_PARTS))
}

/// Whether the text can name a kind of entity: a lower-case word that no route of the API bears.
#[pg_extern(immutable, strict, parallel_safe)]
fn is_entity_type(name: &str) -> bool {
    name.parse::<EntityType>().is_ok()
}

/// The key of an attachment's object, `t/<tenant>/<entity>/<entity id>/<attachment>.<ext>`, its
/// extension that of the file's name, or `bin` where that is not 1 to 10 letters and digits.
///
/// # Errors
/// 22023 when a part is not fit for a key.
#[pg_extern(immutable, strict, parallel_safe)]
fn object_key(
    tenant: &str,
    entity_type: &str,
    entity_id: &str,
    attachment: Uuid,
    name: &str,
) -> Result<String, ErrorReport> {
    let tenant = parse_tenant(tenant)?;
    let fit = |error| refused(error, KEY_PARTS);
    let entity_type: EntityType = entity_type.parse().map_err(fit)?;
    let entity_id: EntityId = entity_id.parse().map_err(fit)?;
    let name = parse_name(name)?;
    let attachment = AttachmentId(uuid::Uuid::from_bytes(*attachment.as_bytes()));
    let key = ObjectKey::new(
        &tenant,
        &entity_type,
        &entity_id,
        attachment,
        key_extension(&name),
    )
    .map_err(|error| refused(error, KEY_PARTS))?;
    Ok(key.as_str().to_owned())
}

/// The parts of an object key as `{"tenant", "entity_type", "entity_id", "attachment_id",
/// "extension"}`; NULL for anything that is not one.
#[pg_extern(immutable, strict, parallel_safe)]
fn parse_object_key(key: &str) -> Option<JsonB> {
    let key = ObjectKey::parse(key).ok()?;
    Some(JsonB(json!({
        "tenant": key.tenant().as_str(),
        "entity_type": key.entity_type().as_str(),
        "entity_id": key.entity_id().as_str(),
        "attachment_id": key.attachment_id().to_string(),
        "extension": key.extension(),
    })))
}

/// The media type that goes with a file name's extension; NULL when the table of types has none for it.
#[pg_extern(immutable, strict, parallel_safe)]
fn media_type(name: &str) -> Option<&'static str> {
    let name = FileName::parse(name).ok()?;
    MediaType::from_extension(name.extension()?).map(MediaType::as_str)
}

/// The media type that the first bytes of a file show; NULL when they show none.
#[pg_extern(immutable, strict, parallel_safe)]
fn sniff(first_bytes: &[u8]) -> Option<&'static str> {
    keepsake_shared::content::sniff(first_bytes)
}

/// The Content-Disposition header of a download (RFC 6266).
///
/// # Errors
/// 22023 when the text is no file name.
#[pg_extern(immutable, strict, parallel_safe)]
fn content_disposition(name: &str, inline: default!(bool, "false")) -> Result<String, ErrorReport> {
    let name = FileName::parse(name)
        .map_err(|error| refused(error, "Use keepsake.sanitize_filename() to clean the name."))?;
    Ok(keepsake_shared::content_disposition(&name, inline))
}

/// Whether the text is a choice of file types, such as `+zip -mov`.
#[pg_extern(immutable, strict, parallel_safe)]
fn is_file_types(text: &str) -> bool {
    text.parse::<FileTypes>().is_ok()
}

/// Checks that files of these names are of the chosen types: a JSON array of `{"pointer", "code",
/// "detail"}`, as `check_upload` gives it, empty when all are.
///
/// # Errors
/// 22023 when a name is no file name, or the choice none.
#[pg_extern(immutable, strict, parallel_safe, name = "check_file_types")]
fn check_types_of_names(
    names: Vec<Option<String>>,
    file_types: &str,
) -> Result<JsonB, ErrorReport> {
    const FIX: &str = "Each name is a file name, and file types are words such as +zip or -mov.";
    let names: Vec<FileName> = names
        .iter()
        .map(|name| {
            let name = required(name.as_deref(), "name")?;
            FileName::parse(name).map_err(|error| refused(error, FIX))
        })
        .collect::<Result<_, ErrorReport>>()?;
    let file_types: FileTypes = file_types.parse().map_err(|error| refused(error, FIX))?;
    let errors = check_file_types(names.iter(), file_types);
    Ok(JsonB(
        serde_json::to_value(errors).map_err(|error| refused(error, FIX))?,
    ))
}

/// Checks a request for an upload as the edge does: a JSON array of `{"pointer", "code",
/// "detail"}`, empty when it may be written. `limits` may set `max_files`, `max_file_bytes`,
/// `max_set_bytes`, `file_types` and `number_duplicates`.
///
/// # Errors
/// 22023 when either argument has another shape.
#[pg_extern(immutable, strict, parallel_safe, name = "check_upload")]
fn check_upload_request(
    request: Jsonb,
    limits: default!(Jsonb, "'{}'::jsonb"),
) -> Result<JsonB, ErrorReport> {
    const FIX: &str = "A request has entity_type, entity_id and files, each with name, media_type (optional), size and sha256.";
    let request: UploadRequest =
        serde_json::from_value(request.0).map_err(|error| refused(error, FIX))?;
    let limits: Limits = serde_json::from_value(limits.0).map_err(|error| {
        refused(
            error,
            "The limits are the integers max_files, max_file_bytes and max_set_bytes, the text file_types and the boolean number_duplicates.",
        )
    })?;
    let errors = check_upload(&request, &limits).err().unwrap_or_default();
    Ok(JsonB(
        serde_json::to_value(errors).map_err(|error| refused(error, FIX))?,
    ))
}
