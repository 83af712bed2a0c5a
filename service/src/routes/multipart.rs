//! A large file in the words of S3: `/v1/uploads/{id}/multipart/{attachment_id}`, for uploaders that
//! speak them, such as Uppy. Nothing is decided here that is not decided elsewhere: parts are signed
//! by `POST …/parts`, and joined when the set is completed.

use super::{
    answers::id,
    extractors::{Params, Reader, Writer},
    parts::{Found, find, not_in_parts, plan},
};
use crate::{
    context::RequestContext,
    http::{ApiError, query::Query},
    model::{Caller, DeclaredFile, StoredPart},
    storage::Storage,
    storage::push_escaped,
    upload::is_whole,
};
use axum::{
    extract::{RawQuery, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use keepsake_shared::{AttachmentId, ErrorCode};
use std::fmt::Write;

/// `POST /v1/uploads/{id}/multipart/{attachment_id}?uploads` begins, and `?uploadId` ends, the upload of
/// a file that comes in parts ([CreateMultipartUpload], [CompleteMultipartUpload]).
///
/// 1. A caller who may write; else 401 or 403.
/// 2. Read the ids and the query; malformed, or another `uploadId` than the one given → 400.
/// 3. Look the file up; nothing there, another tenant's, or another's on an entity that the caller may not
///    change → 404, the set closed → 409, its time run out → 410. A file that is uploaded whole → 422.
/// 4. To begin: 200 with the upload id, which is the file's own. Nothing has changed.
/// 5. To end: ask the store; a part is missing → 409; else 200. The parts are joined when the set is
///    completed, as they are listed in the store: what the body says of them is not read.
///
/// [CreateMultipartUpload]: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html
/// [CompleteMultipartUpload]: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
pub(crate) async fn change(
    State(context): State<RequestContext>,
    Writer(caller): Writer,
    Params((upload, attachment)): Params<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let attachment: AttachmentId = id(&attachment)?;
    let query = Query::parse(query.as_deref(), &["uploads", "uploadId"])?;
    let begun: Option<AttachmentId> = query.parsed("uploadId")?;
    let Found { file, .. } = look_up(&context, &caller, &upload, attachment).await?;
    match begun {
        None => Ok(xml(&format!(
            "<InitiateMultipartUploadResult><Key>{attachment}</Key><UploadId>{attachment}</UploadId></InitiateMultipartUploadResult>"
        ))),
        Some(begun) if begun != attachment => Err(ApiError::new(
            ErrorCode::InvalidField,
            "uploadId is not that of this file.",
        )),
        Some(_) => {
            let part_bytes = plan(&context, &file).map_or(0, |plan| plan.part_bytes());
            let parts = stored(&context, &file).await?;
            if parts.is_some_and(|parts| !is_whole(file.size, part_bytes, &parts)) {
                return Err(ApiError::new(
                    ErrorCode::NotUploaded,
                    "A part has not been uploaded. Nothing was changed. Upload it, then retry.",
                ));
            }
            Ok(xml(&format!(
                "<CompleteMultipartUploadResult><Location>/v1/attachments/{attachment}</Location><Key>{attachment}</Key></CompleteMultipartUploadResult>"
            )))
        }
    }
}

/// `GET /v1/uploads/{id}/multipart/{attachment_id}`: the parts that the store holds ([ListParts]),
/// always all of them.
///
/// Its steps are those of `GET …/parts`.
///
/// [ListParts]: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html
pub(crate) async fn list(
    State(context): State<RequestContext>,
    Reader(caller): Reader,
    Params((upload, attachment)): Params<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    Query::parse(query.as_deref(), &["uploadId"])?;
    let Found { file, .. } = look_up(&context, &caller, &upload, id(&attachment)?).await?;
    let mut body = "<ListPartsResult><IsTruncated>false</IsTruncated>".to_owned();
    for part in stored(&context, &file).await?.unwrap_or_default() {
        let (number, size) = (part.number, part.size);
        // Writing to a String does not fail.
        let _ = write!(
            body,
            "<Part><PartNumber>{number}</PartNumber><Size>{size}</Size><ETag>"
        );
        push_escaped(&mut body, &part.etag);
        body.push_str("</ETag></Part>");
    }
    body.push_str("</ListPartsResult>");
    Ok(xml(&body))
}

async fn look_up(
    context: &RequestContext,
    caller: &Caller,
    upload: &str,
    attachment: AttachmentId,
) -> Result<Found, ApiError> {
    let found = find(context, caller, id(upload)?, attachment).await?;
    plan(context, &found.file).ok_or_else(not_in_parts)?;
    Ok(found)
}

/// The parts that have arrived, none before the first was signed; `None` when they are joined already.
async fn stored(
    context: &RequestContext,
    file: &DeclaredFile,
) -> Result<Option<Vec<StoredPart>>, ApiError> {
    match &file.multipart {
        Some(begun) => Ok(context
            .storage()?
            .list_parts(&file.object_key, begun)
            .await?),
        None => Ok(Some(Vec::new())),
    }
}

fn xml(body: &str) -> Response {
    let declared = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{body}");
    ([(CONTENT_TYPE, "application/xml")], declared).into_response()
}
