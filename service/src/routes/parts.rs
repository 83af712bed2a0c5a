//! The parts of large files: `/v1/uploads/{id}/parts`.

use super::{
    answers::{id, json, own, read},
    extractors::{Params, Reader, Writer},
};
use crate::{
    context::RequestContext,
    db::Database,
    db::{self, CallerFunction, DbError},
    http::{ApiError, query::Query},
    model::{Caller, DeclaredFile, Multipart, StoredPart},
    signer::PartSubject,
    storage::Storage,
};
use axum::{
    extract::{RawQuery, Request, State},
    http::StatusCode,
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use keepsake_shared::{
    AttachmentId, ErrorCode, FieldError, UploadId, capabilities::ChecksumKind, read_from_object,
    upload::PartPlan, whole_number,
};
use serde::Deserialize;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Most parts signed by one request.
const MAX_SIGNED: usize = 100;

/// The body of a request for signed parts.
#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, expecting = "a JSON object")]
struct SignRequest {
    attachment_id: AttachmentId,
    parts: Vec<WantedPart>,
}

read_from_object!(SignRequest);

#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, expecting = "a JSON object")]
struct WantedPart {
    #[serde(deserialize_with = "whole_number")]
    number: u16,
    checksum: Option<String>,
}

read_from_object!(WantedPart);

/// A pending file, as the database has it.
#[derive(Deserialize)]
pub(super) struct Found {
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    pub(super) file: DeclaredFile,
}

/// `POST /v1/uploads/{id}/parts`: signs parts of a file that is uploaded in parts.
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the id and the body, bounded; malformed → 400, too large → 413, another type → 415.
/// 3. Look the file up; nothing there, another tenant's, or another's on an entity that the caller may not
///    change → 404, the set closed → 409, its time run out → 410. A file that is uploaded whole → 422.
/// 4. Check every part: a number of the plan, a checksum that the store verifies → 422 with all
///    that are wrong.
/// 5. Begin the upload in parts in the store, unless it has begun; of two at once the first stays.
/// 6. Sign one URL per part, each locking length and checksum; 200.
pub(crate) async fn sign(
    State(context): State<RequestContext>,
    Writer(caller): Writer,
    Params(upload): Params<String>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let upload: UploadId = id(&upload)?;
    let wanted: SignRequest = read(&mut request).await?;
    let Found { expires_at, file } = find(&context, &caller, upload, wanted.attachment_id).await?;
    let plan = plan(&context, &file).ok_or_else(not_in_parts)?;
    let kind = context.config.store.capabilities().parts.checksum;
    let parts = check(&plan, kind, &wanted.parts)?;
    let multipart = match file.multipart {
        Some(ref begun) => begun.clone(),
        None => begin(&context, &caller, upload, &file, &plan).await?,
    };
    let expires_at = expires_at.min(context.signer().upload_expiry());
    let signed = parts
        .into_iter()
        .map(|(number, size, checksum)| {
            let put = context.signer().part(
                &PartSubject {
                    key: &file.object_key,
                    storage_id: &multipart.storage_id,
                    number,
                    size,
                    checksum: checksum.as_deref(),
                },
                expires_at,
            )?;
            Ok(json!({
                "number": number,
                "size": size,
                "method": "PUT",
                "url": put.url,
                "headers": put.headers,
                "expires_at": expires_at.format(&Rfc3339).map_err(ApiError::internal)?,
            }))
        })
        .collect::<Result<Vec<Value>, ApiError>>()?;
    // Another setting may hold by now than when the first part was signed.
    let plan = PartPlan::of(file.size, multipart.part_size).unwrap_or(plan);
    answer(&file, &plan, kind, signed)
}

/// `GET /v1/uploads/{id}/parts?attachment_id`: which parts of a file the store holds, so that a
/// client that stopped half way sends only the others.
///
/// 1. A caller who may read; else 401 or 403.
/// 2. Read the id and the query; malformed → 400.
/// 3. Look the file up; nothing there, another tenant's, or another's on an entity that the caller may not
///    change → 404, the set closed → 409, its time run out → 410. A file that is uploaded whole → 422.
/// 4. Ask the store; 200 with the parts, none before the first was signed.
pub(crate) async fn list(
    State(context): State<RequestContext>,
    Reader(caller): Reader,
    Params(upload): Params<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let upload: UploadId = id(&upload)?;
    let attachment = Query::parse(query.as_deref(), &["attachment_id"])?
        .parsed("attachment_id")?
        .ok_or_else(|| {
            ApiError::new(
                ErrorCode::InvalidField,
                "The query parameter attachment_id is required.",
            )
        })?;
    let Found { file, .. } = find(&context, &caller, upload, attachment).await?;
    let plan = plan(&context, &file).ok_or_else(not_in_parts)?;
    let stored = match &file.multipart {
        Some(begun) => {
            context
                .storage()?
                .list_parts(&file.object_key, begun)
                .await?
        }
        None => None,
    };
    let parts = stored.unwrap_or_default();
    let shown = |part: StoredPart| json!({ "number": part.number, "size": part.size });
    let kind = context.config.store.capabilities().parts.checksum;
    answer(&file, &plan, kind, parts.into_iter().map(shown).collect())
}

fn answer(
    file: &DeclaredFile,
    plan: &PartPlan,
    kind: Option<ChecksumKind>,
    parts: Vec<Value>,
) -> Result<Response, ApiError> {
    let mut answer = shown_plan(plan, kind);
    answer["attachment_id"] = json!(file.attachment_id);
    answer["parts"] = parts.into();
    json(StatusCode::OK, &answer)
}

/// How a file is to be cut, as clients are told.
pub(super) fn shown_plan(plan: &PartPlan, kind: Option<ChecksumKind>) -> Value {
    json!({ "part_size": plan.part_bytes(), "part_count": plan.count(), "checksum": kind })
}

pub(super) async fn find(
    context: &RequestContext,
    caller: &Caller,
    upload: UploadId,
    attachment: AttachmentId,
) -> Result<Found, ApiError> {
    let request = json!({ "upload_id": upload, "attachment_id": attachment });
    let answer = context
        .database()?
        .for_caller(CallerFunction::FindMultipart, caller, request)
        .await?;
    let found: Found = db::read(answer)?;
    own(caller, found.file.object_key.clone())?;
    Ok(found)
}

/// The parts of a file, as they were first signed, or as the settings say now; `None` for one that
/// is uploaded whole.
pub(super) fn plan(context: &RequestContext, file: &DeclaredFile) -> Option<PartPlan> {
    match &file.multipart {
        Some(begun) => PartPlan::of(file.size, begun.part_size),
        None => context.config.parts_of(file.size),
    }
}

pub(super) fn not_in_parts() -> ApiError {
    ApiError::new(
        ErrorCode::NotInParts,
        "This file is not uploaded in parts. Upload it whole, with its signed URL.",
    )
}

/// Number, length and checksum of each wanted part.
fn check(
    plan: &PartPlan,
    kind: Option<ChecksumKind>,
    wanted: &[WantedPart],
) -> Result<Vec<(u16, u64, Option<String>)>, ApiError> {
    if wanted.is_empty() || wanted.len() > MAX_SIGNED {
        let detail = format!("Request 1 to {MAX_SIGNED} parts.");
        let error = FieldError::new("/parts", ErrorCode::PartInvalid, detail);
        return Err(ApiError::of_errors(vec![error]));
    }
    let (mut parts, mut errors) = (Vec::new(), Vec::new());
    for (index, part) in wanted.iter().enumerate() {
        let mut refuse = |field: &str, detail: String| {
            let pointer = format!("/parts/{index}/{field}");
            errors.push(FieldError::new(pointer, ErrorCode::PartInvalid, detail));
        };
        let size = plan.bytes_of(part.number.into());
        if size.is_none() {
            refuse(
                "number",
                format!("The part number must be from 1 to {}.", plan.count()),
            );
        }
        let checksum = match kind {
            Some(kind) => canonical(kind, part.checksum.as_deref().unwrap_or_default()),
            None => Some(String::new()),
        };
        if checksum.is_none() {
            refuse(
                "checksum",
                format!(
                    "The part's {} is required, in base64.",
                    kind.map_or("", ChecksumKind::as_str)
                ),
            );
        }
        if let (Some(size), Some(checksum)) = (size, checksum) {
            parts.push((part.number, size, kind.map(|_| checksum)));
        }
    }
    if errors.is_empty() {
        Ok(parts)
    } else {
        Err(ApiError::of_errors(errors))
    }
}

/// A checksum in its one spelling, if it has the length of its kind.
fn canonical(kind: ChecksumKind, text: &str) -> Option<String> {
    let length = match kind {
        ChecksumKind::Sha256 => 32,
        ChecksumKind::Crc32c => 4,
    };
    let bytes = STANDARD.decode(text).ok()?;
    (bytes.len() == length).then(|| STANDARD.encode(bytes))
}

/// Begins the upload in parts. When another request was faster, or the set is closed by now, what
/// the store began for this one is given up again; not when the database gave no answer, for then it
/// may have kept it.
async fn begin(
    context: &RequestContext,
    caller: &Caller,
    upload: UploadId,
    file: &DeclaredFile,
    plan: &PartPlan,
) -> Result<Multipart, ApiError> {
    let storage = context.storage()?;
    let storage_id = storage.begin_multipart(file).await?;
    let request = json!({
        "upload_id": upload,
        "attachment_id": file.attachment_id,
        "storage_id": storage_id,
        "part_size": plan.part_bytes(),
    });
    let answer = context
        .database()?
        .for_caller(CallerFunction::BeginMultipart, caller, request)
        .await;
    let kept = match answer {
        Ok(answer) => db::read::<Multipart>(answer)?,
        Err(error) => {
            if matches!(error, DbError::Refused(_)) {
                storage
                    .abort_multipart(&file.object_key, &storage_id)
                    .await?;
            }
            return Err(error.into());
        }
    };
    if kept.storage_id != storage_id {
        storage
            .abort_multipart(&file.object_key, &storage_id)
            .await?;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(number: u16, checksum: Option<&str>) -> WantedPart {
        WantedPart {
            number,
            checksum: checksum.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn a_part_needs_a_number_of_the_plan_and_the_stores_checksum() {
        let plan = PartPlan::of(25, 10).unwrap();
        let crc = Some(ChecksumKind::Crc32c);
        let parts = check(
            &plan,
            crc,
            &[wanted(3, Some("AAAAAA==")), wanted(1, Some("AAAAAA=="))],
        );
        let parts = parts.unwrap();
        assert_eq!(parts[0], (3, 5, Some("AAAAAA==".to_owned())));
        assert_eq!(parts[1].1, 10);
        let none = check(&plan, None, &[wanted(2, None)]).unwrap();
        assert_eq!(none, [(2, 10, None)]);
        for bad in [
            vec![],
            vec![wanted(0, Some("AAAAAA=="))],
            vec![wanted(4, Some("AAAAAA=="))],
            vec![wanted(1, None)],
            vec![wanted(1, Some("AAAA"))],
            vec![wanted(1, Some("AAAAAB=="))],
            vec![wanted(1, Some("not base64"))],
        ] {
            assert!(check(&plan, crc, &bad).is_err());
        }
        let many = (0..=MAX_SIGNED)
            .map(|_| wanted(1, Some("AAAAAA==")))
            .collect::<Vec<_>>();
        assert!(check(&plan, crc, &many).is_err());
    }
}
