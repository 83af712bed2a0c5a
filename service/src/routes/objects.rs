//! The bytes themselves: `/v1/objects/{token}`. The token in the URL is the whole permission, so no
//! bearer is asked for, and the database is not either.

use super::extractors::Params;
use crate::{
    clock,
    context::RequestContext,
    db::Database,
    db::SystemFunction,
    http::{
        ApiError,
        conditions::{Validators, Verdict},
        headers::{content_length, value as header},
        range::ByteRange,
        rate_limit::Counted,
    },
    runtime::Content,
    storage::{Bucket, Download, Part, PutError},
};
use axum::{
    body::HttpBody,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH,
            CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE,
            LAST_MODIFIED, RANGE,
        },
    },
    response::{IntoResponse, Response},
};
use keepsake_shared::{
    ErrorCode, FieldError, FileName, MediaType, ObjectKey, ObjectToken, Sha256Digest, TokenError,
    content_disposition,
};
use serde_json::json;
use time::{Duration, OffsetDateTime};

/// Carries the SHA-256 of an upload in base64, under the name S3 gave it.
const CHECKSUM_HEADER: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");

/// How long an upload that began in time may continue after its URL has expired. The object of an aborted
/// row is deleted for the last time a minute after that, and what is stored later stays forever. The rest
/// of the minute is for the bucket to finish what it has begun.
const UPLOAD_GRACE: Duration = Duration::seconds(30);

/// What a download token allows.
struct Permitted {
    key: ObjectKey,
    media_type: MediaType,
    file_name: FileName,
    inline: bool,
    size: u64,
    expires_at: OffsetDateTime,
}

/// `PUT /v1/objects/{token}`: takes in exactly the object that was declared, once.
///
/// 1. The token is ours, for an upload, and not expired; else 403.
/// 2. `Content-Length` is the declared one, and so are `Content-Type`, `If-None-Match: *` and the
///    SHA-256 header; else 422 with each that is not.
/// 3. Stream the body into the bucket, which checks the SHA-256 and refuses to overwrite; wrong
///    bytes, or not all of them → 422, none for a minute → 408, something there already → 412, the
///    bucket fails → 503. Nothing is stored then.
/// 4. [`UPLOAD_GRACE`] after the token's time the upload is broken off, or if the bucket was faster
///    deleted again → 403.
/// 5. 201.
pub(crate) async fn store(
    State(context): State<RequestContext>,
    Params(token): Params<String>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let (key, size, media_type, sha256, expires_at) = match open(&context, &token).await? {
        ObjectToken::Upload {
            key,
            size,
            media_type,
            sha256,
            expires_at,
        } => (key, size, media_type, sha256, expires_at),
        part @ ObjectToken::Part { .. } => return store_part(&context, part, request).await,
        ObjectToken::Download { .. } => return Err(refused(TokenError::BadSignature)),
    };
    check_headers(request.headers(), size, media_type, &sha256)?;
    let content = content(&mut request).ok_or_else(|| length_mismatch(size))?;
    let bucket = context.bucket()?;
    let deadline = expires_at.saturating_add(UPLOAD_GRACE);
    let put = bucket.put(&key, content, size, media_type, &sha256);
    match before(deadline, put).await {
        Some(Ok(())) if clock::now() < deadline => Ok(StatusCode::CREATED.into_response()),
        Some(Ok(())) => {
            take_back(bucket.as_ref(), &key).await?;
            Err(refused(TokenError::Expired))
        }
        None => Err(refused(TokenError::Expired)),
        Some(Err(error)) => Err(not_stored(error, size)),
    }
}

/// Takes in exactly the part that was signed; another of the same number takes its place.
///
/// 1. `Content-Length` and the SHA-256 header are those of the part; else 422 with each that is not.
/// 2. Stream the body into the bucket and through the SHA-256 at once; the upload closed → 409, wrong
///    bytes, or not all of them → 422, none for a minute → 408, the bucket fails → 503, too late → 403.
///    Then the part does not count, nor does the one before if the bucket has lost it.
/// 3. Keep in the database what the bucket calls the part; the upload closed meanwhile → 409.
/// 4. 201 with that as `ETag`.
async fn store_part(
    context: &RequestContext,
    part: ObjectToken,
    mut request: Request,
) -> Result<Response, ApiError> {
    let ObjectToken::Part {
        key,
        storage_id,
        number,
        size,
        sha256,
        expires_at,
    } = part
    else {
        return Err(refused(TokenError::BadSignature));
    };
    check_length(request.headers(), size)?;
    check_fixed(request.headers(), &[(CHECKSUM_HEADER, &sha256.to_base64())])?;
    let content = content(&mut request).ok_or_else(|| length_mismatch(size))?;
    let bucket = context.bucket()?;
    let part = Part {
        key: &key,
        storage_id: &storage_id,
        number,
        size,
        sha256: &sha256,
    };
    let mut record = json!({
        "attachment_id": key.attachment_id(),
        "storage_id": storage_id,
        "number": number,
        "size": size,
    });
    let put = bucket.put_part(part, content);
    let etag = match before(expires_at.saturating_add(UPLOAD_GRACE), put).await {
        Some(Ok(etag)) => etag,
        None => return Err(refused(TokenError::Expired)),
        Some(Err(PutError::Exists)) => return Err(closed()),
        Some(Err(PutError::PartLost)) => {
            let database = context.database()?;
            database
                .for_system(SystemFunction::ForgetPart, record)
                .await?;
            return Err(not_stored(PutError::PartLost, size));
        }
        Some(Err(error)) => return Err(not_stored(error, size)),
    };
    record["etag"] = json!(etag);
    let answer = context
        .database()?
        .for_system(SystemFunction::RecordPart, record)
        .await?;
    match answer["recorded"].as_bool() {
        Some(true) => {
            // Uploaders that speak S3 ask for it.
            let etag = [(ETAG, header(&format!("\"{etag}\""))?)];
            Ok((StatusCode::CREATED, etag).into_response())
        }
        _ => Err(closed()),
    }
}

/// The bytes of a request that has any.
fn content(request: &mut Request) -> Option<Content> {
    let content = Content {
        body: std::mem::take(request.body_mut()),
        native: std::mem::take(request.extensions_mut()),
    };
    (!content.body.is_end_stream()).then_some(content)
}

/// What the client is told of bytes that were not stored. Only a store that fails is a fault of ours.
fn not_stored(error: PutError, size: u64) -> ApiError {
    match error {
        PutError::Exists => ApiError::new(
            ErrorCode::ObjectExists,
            "This file is already uploaded. The stored file was not changed.",
        ),
        PutError::LengthMismatch => length_mismatch(size),
        PutError::Sha256Mismatch | PutError::PartLost => ApiError::new(
            ErrorCode::Sha256Mismatch,
            "The received bytes do not have the declared SHA-256. Nothing was stored. Send the file again.",
        ),
        PutError::Closed => closed(),
        PutError::Busy => busy(),
        PutError::Stalled(time) => ApiError::new(
            ErrorCode::BodyTooSlow,
            format_args!(
                "No more of the body arrived for {} seconds. Nothing was stored. Send the file again.",
                time.as_secs()
            ),
        ),
        PutError::BrokenOff(cause) => ApiError::new(
            ErrorCode::LengthMismatch,
            "The body ended before it was complete. Nothing was stored. Send the file again.",
        )
        .with_cause(cause),
        PutError::Failed(error) => error.into(),
    }
}

fn closed() -> ApiError {
    ApiError::new(
        ErrorCode::UploadClosed,
        "The upload was completed or aborted, and accepts no more parts.",
    )
}

fn busy() -> ApiError {
    ApiError::new(
        ErrorCode::TooManyRequests,
        "This file is being uploaded by other requests. Wait until they end, or for a minute, then retry.",
    )
    .with_header("retry-after", HeaderValue::from_static("60"))
}

/// What `work` comes to, or `None` when it has not by `deadline`.
async fn before<T>(deadline: OffsetDateTime, work: impl Future<Output = T>) -> Option<T> {
    clock::timeout(time_until(deadline, clock::now()), work).await
}

/// Nothing once `deadline` has come.
fn time_until(deadline: OffsetDateTime, now: OffsetDateTime) -> std::time::Duration {
    (deadline - now).try_into().unwrap_or_default()
}

/// Deletes an object that this very request has stored. Of no other is it known that nobody
/// has come to rely on it.
async fn take_back(bucket: &dyn Bucket, key: &ObjectKey) -> Result<(), ApiError> {
    let undeleted = bucket.delete_many(&[key.as_str().to_owned()]).await?;
    match undeleted.into_iter().next() {
        Some(one) => Err(one.error.into()),
        None => Ok(()),
    }
}

/// `GET /v1/objects/{token}`: sends the object, or a part of it.
///
/// 1. The token is ours, for a download, and not expired; else 403.
/// 2. Open the object; not there any more → 404, the bucket fails → 503.
/// 3. It is not what `If-Match` or `If-Unmodified-Since` means → 412; what `If-None-Match` or `If-Modified-Since` says the
///    client has → 304; whatever the range (RFC 9110 §13.2.2).
/// 4. `If-Range` of another object sets the range aside. One that the object does not reach → 416.
/// 5. 206 with the part, or 200 with the whole, as a stream.
pub(crate) async fn read(
    State(context): State<RequestContext>,
    Params(token): Params<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let permitted = permitted(&context, &token).await?;
    let bucket = context.bucket()?;
    let mut range = wanted_range(&headers, permitted.size);
    // Whether these ranges count depends on which object it is, so that comes before its bytes.
    if range == ByteRange::Unsatisfiable
        || (range != ByteRange::Whole && headers.contains_key(IF_RANGE))
    {
        let found = bucket.head(&permitted.key).await?.ok_or_else(gone)?;
        let validators = validators(&found);
        if validators.judge(&headers) != Verdict::Met {
            return respond(&permitted, &headers, ByteRange::Whole, found);
        }
        if !validators.allow_range(&headers) {
            range = ByteRange::Whole;
        } else if range == ByteRange::Unsatisfiable {
            return Err(unsatisfiable(permitted.size)?);
        }
    }
    let part = match range {
        ByteRange::Part { offset, length } => Some(offset..offset + length),
        ByteRange::Whole | ByteRange::Unsatisfiable => None,
    };
    let found = bucket.get(&permitted.key, part).await?.ok_or_else(gone)?;
    respond(&permitted, &headers, range, found)
}

/// `HEAD /v1/objects/{token}`: what `GET` would answer without a range, and no bytes.
///
/// 1. The token is ours, for a download, and not expired; else 403.
/// 2. Look at the object; not there any more → 404, the bucket fails → 503.
/// 3. The conditions as of `GET`: 412, 304, or 200.
pub(crate) async fn head(
    State(context): State<RequestContext>,
    Params(token): Params<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let permitted = permitted(&context, &token).await?;
    let found = context
        .bucket()?
        .head(&permitted.key)
        .await?
        .ok_or_else(gone)?;
    respond(&permitted, &headers, ByteRange::Whole, found)
}

/// Reads a token, whose uses are counted together.
async fn open(context: &RequestContext, token: &str) -> Result<ObjectToken, ApiError> {
    let token =
        ObjectToken::verify(token, &context.config.url_keys, clock::now()).map_err(refused)?;
    let (key, part) = match &token {
        ObjectToken::Upload { key, .. } | ObjectToken::Download { key, .. } => (key, 0),
        ObjectToken::Part { key, number, .. } => (key, *number),
    };
    context.limits().count(Counted::Object(key, part)).await?;
    Ok(token)
}

async fn permitted(context: &RequestContext, token: &str) -> Result<Permitted, ApiError> {
    match open(context, token).await? {
        ObjectToken::Download {
            key,
            media_type,
            file_name,
            inline,
            size,
            expires_at,
        } => Ok(Permitted {
            key,
            media_type,
            file_name,
            inline: inline && media_type.is_inline_safe(),
            size,
            expires_at,
        }),
        ObjectToken::Upload { .. } | ObjectToken::Part { .. } => {
            Err(refused(TokenError::BadSignature))
        }
    }
}

fn refused(error: TokenError) -> ApiError {
    let detail = match error {
        TokenError::Expired => "This URL has expired. Request a new one.",
        TokenError::Malformed | TokenError::UnknownKey | TokenError::BadSignature => {
            "This URL is not valid for this request. Use it exactly as given, or request a new one."
        }
    };
    ApiError::new(error.code(), detail)
}

fn gone() -> ApiError {
    ApiError::not_found("file any more")
}

fn length_mismatch(size: u64) -> ApiError {
    ApiError::new(
        ErrorCode::LengthMismatch,
        format_args!("This URL accepts exactly {size} bytes, declared in Content-Length."),
    )
}

/// Compares the request's headers with what the token fixes.
fn check_headers(
    headers: &HeaderMap,
    size: u64,
    media_type: MediaType,
    sha256: &Sha256Digest,
) -> Result<(), ApiError> {
    check_length(headers, size)?;
    let fixed = [
        (CONTENT_TYPE, media_type.as_str()),
        (IF_NONE_MATCH, "*"),
        (CHECKSUM_HEADER, &sha256.to_base64()),
    ];
    check_fixed(headers, &fixed)
}

fn check_length(headers: &HeaderMap, size: u64) -> Result<(), ApiError> {
    if content_length(headers) == Some(size) {
        Ok(())
    } else {
        Err(length_mismatch(size))
    }
}

fn check_fixed(headers: &HeaderMap, fixed: &[(HeaderName, &str)]) -> Result<(), ApiError> {
    let errors: Vec<FieldError> = fixed
        .iter()
        .filter(|(name, value)| {
            headers
                .get(name)
                .is_none_or(|given| given.as_bytes() != value.as_bytes())
        })
        .map(|(name, value)| {
            FieldError::new(
                format!("/headers/{name}"),
                ErrorCode::HeaderMismatch,
                format!("The header {name} must be exactly {value}."),
            )
        })
        .collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::new(
            ErrorCode::HeaderMismatch,
            "This URL requires certain headers, and at least one is missing or different. Send them exactly as given.",
        )
        .with_errors(errors))
    }
}

fn wanted_range(headers: &HeaderMap, size: u64) -> ByteRange {
    ByteRange::parse(
        headers.get(RANGE).and_then(|value| value.to_str().ok()),
        size,
    )
}

fn unsatisfiable(size: u64) -> Result<ApiError, ApiError> {
    Ok(ApiError::new(
        ErrorCode::RangeNotSatisfiable,
        format_args!("The file has {size} bytes, and the range is outside them."),
    )
    .with_header("content-range", header(&format!("bytes */{size}"))?))
}

fn respond(
    permitted: &Permitted,
    request: &HeaderMap,
    range: ByteRange,
    found: Download,
) -> Result<Response, ApiError> {
    let mut headers = HeaderMap::new();
    headers.insert(ETAG, header(&found.etag)?);
    headers.insert(LAST_MODIFIED, header(&found.modified)?);
    headers.insert(CACHE_CONTROL, cache_control(permitted)?);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    match validators(&found).judge(request) {
        Verdict::Failed => return Err(another()),
        Verdict::NotModified => return Ok((StatusCode::NOT_MODIFIED, headers).into_response()),
        Verdict::Met => {}
    }
    // A proxy that passes over `no-transform` leaves alone what has a coding: compressed, a part of a file would be none.
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("identity"));
    let disposition = content_disposition(&permitted.file_name, permitted.inline);
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(permitted.media_type.as_str()),
    );
    headers.insert(CONTENT_DISPOSITION, header(&disposition)?);
    // Should a browser show the file after all, it runs no script, loads nothing, and has no
    // origin.
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; sandbox"),
    );
    let (status, length) = match range {
        ByteRange::Part { offset, length } => {
            let last = offset + length - 1;
            headers.insert(
                CONTENT_RANGE,
                header(&format!("bytes {offset}-{last}/{}", found.size))?,
            );
            (StatusCode::PARTIAL_CONTENT, length)
        }
        ByteRange::Whole | ByteRange::Unsatisfiable => (StatusCode::OK, found.size),
    };
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    let mut response = (status, headers).into_response();
    if let Some(Content { body, native }) = found.content {
        *response.body_mut() = body;
        response.extensions_mut().extend(native);
    }
    Ok(response)
}

fn validators(found: &Download) -> Validators<'_> {
    Validators {
        etag: &found.etag,
        modified: &found.modified,
    }
}

/// The object is there, and is not the one that the client means.
fn another() -> ApiError {
    ApiError::new(
        ErrorCode::PreconditionFailed,
        "The file is not the one that If-Match or If-Unmodified-Since asks for. Request it without this condition.",
    )
}

/// The bytes under a key never change, so a browser may keep them, which seeking in a film needs;
/// but no longer than the URL itself works, so that keeping them gives nothing that the URL does
/// not. Nobody in between may compress them: their length, their ranges and their ETag are those of the bytes.
fn cache_control(permitted: &Permitted) -> Result<HeaderValue, ApiError> {
    let seconds = (permitted.expires_at - clock::now()).whole_seconds().max(0);
    header(&format!("private, max-age={seconds}, no-transform"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::StorageError;

    #[test]
    fn only_a_store_that_fails_is_a_fault_of_ours() {
        let error = || StorageError("why".to_owned());
        let silence = std::time::Duration::from_secs(60);
        for (error, status) in [
            (PutError::Exists, 412),
            (PutError::LengthMismatch, 422),
            (PutError::Sha256Mismatch, 422),
            (PutError::PartLost, 422),
            (PutError::Closed, 409),
            (PutError::Busy, 429),
            (PutError::Stalled(silence), 408),
            (PutError::BrokenOff(error()), 422),
            (PutError::Failed(error()), 503),
        ] {
            let told = not_stored(error, 5).into_response();
            assert_eq!(told.status(), status);
        }
    }

    #[test]
    fn an_upload_has_until_its_deadline_and_not_a_second_more() {
        let now = clock::now();
        let left = |seconds| time_until(now + Duration::seconds(seconds), now).as_secs();
        assert_eq!(left(900), 900);
        assert_eq!(left(0), 0);
        assert_eq!(left(-900), 0);
    }
}
