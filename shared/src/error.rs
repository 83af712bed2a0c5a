//! The errors a caller can see: one table of stable codes, and RFC 9457 problem details.

use alloc::{borrow::Cow, format, string::String, vec::Vec};
use core::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::text_serde::serde_as_text;

macro_rules! error_codes {
    ($($(#[doc = $meaning:literal])+ $variant:ident = $code:literal, $status:literal, $title:literal;)+) => {
        /// A stable error code, the same in HTTP answers and in SQL. Written as `snake_case`.
        ///
        /// Each has one HTTP status and one title, and no part of the system maps them anew.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[doc = $meaning])+ $variant,)+
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code as text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// A short summary for people, the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }

            /// What the code means, in a sentence or two.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($meaning,)+).trim_ascii_start(),)+ }
            }
        }
    };
}

error_codes! {
    // The request
    /// The body is not JSON.
    MalformedJson = "malformed_json", 400, "The body is not valid JSON";
    /// The body is not the `multipart/form-data` that its content type says, or it broke off.
    MalformedForm = "malformed_form", 400, "The body is not a valid form";
    /// The body has a field that this request does not have.
    UnknownField = "unknown_field", 400, "The body has an unknown field";
    /// A field, query parameter or header is missing or has the wrong type or value.
    InvalidField = "invalid_field", 400, "A field is missing or invalid";
    /// An id does not have the form of ids.
    InvalidId = "invalid_id", 400, "An id is malformed";
    /// The body is larger than this request may have.
    BodyTooLarge = "body_too_large", 413, "The body is too large";
    /// The body did not arrive in time. Nothing was changed: send the request again.
    BodyTooSlow = "body_too_slow", 408, "The body arrived too slowly";
    /// The body's content type is not the one that the request takes, mostly `application/json`, or the body is compressed.
    UnsupportedContentType = "unsupported_content_type", 415, "The content type is not supported";
    /// The path exists, but not for this method.
    MethodNotAllowed = "method_not_allowed", 405, "The method is not allowed for this path";
    /// It does not exist, or the caller may not see it.
    NotFound = "not_found", 404, "Not found";
    /// The requested bytes are outside the file.
    RangeNotSatisfiable = "range_not_satisfiable", 416, "The range is outside the file";
    /// The file, or the version of the attachment that is current, is not the one that `If-Match` names, or was stored after
    /// `If-Unmodified-Since`.
    PreconditionFailed = "precondition_failed", 412, "The file does not meet the request's condition";
    /// The caller sent too many requests. Wait for `Retry-After`, then retry.
    TooManyRequests = "too_many_requests", 429, "Too many requests";

    // The caller
    /// The request carries no bearer token.
    MissingToken = "missing_token", 401, "A bearer token is required";
    /// The bearer token is malformed, or not signed with a known key.
    InvalidToken = "invalid_token", 401, "The bearer token is invalid";
    /// The bearer token has expired.
    TokenExpired = "token_expired", 401, "The bearer token has expired";
    /// The bearer token names no tenant.
    MissingTenant = "missing_tenant", 403, "The token names no tenant";
    /// The bearer token does not allow this request.
    InsufficientScope = "insufficient_scope", 403, "The token does not have the required scope";

    // Declaring an upload
    /// The upload set has errors of several kinds: see the list.
    InvalidUpload = "invalid_upload", 422, "The upload cannot be accepted";
    /// The upload set contains no files.
    NoFiles = "no_files", 422, "The upload contains no files";
    /// The upload set has more files than allowed.
    TooManyFiles = "too_many_files", 422, "Too many files";
    /// The file name is not allowed.
    FileNameInvalid = "file_name_invalid", 422, "The file name is not allowed";
    /// Two files of the set have the same name.
    DuplicateName = "duplicate_name", 422, "Two files have the same name";
    /// The file name's extension is not that of an allowed media type.
    MediaTypeNotAllowed = "media_type_not_allowed", 415, "This kind of file is not allowed";
    /// The declared media type, or the content, does not match the file name's extension.
    MediaTypeMismatch = "media_type_mismatch", 422, "The content does not match the file name";
    /// The file has no bytes.
    FileEmpty = "file_empty", 422, "The file is empty";
    /// The file is larger than allowed.
    FileTooLarge = "file_too_large", 413, "The file is too large";
    /// The files together are larger than allowed.
    SetTooLarge = "set_too_large", 413, "The files are too large together";
    /// The SHA-256 is not 64 hexadecimal digits or 44 characters of base64.
    Sha256Invalid = "sha256_invalid", 422, "The SHA-256 is malformed";
    /// A part's number or checksum is not valid for this file.
    PartInvalid = "part_invalid", 422, "A part is invalid";
    /// The file is not uploaded in parts.
    NotInParts = "not_in_parts", 422, "The file is not uploaded in parts";
    /// Another live attachment of the same entity has this name, or another entity has this label.
    NameTaken = "name_taken", 409, "The name is already taken";
    /// The tenant or the user would exceed a quota of bytes or files: see `quota`.
    QuotaExceeded = "quota_exceeded", 403, "The quota is exceeded";
    /// Too many of the user's files have not been uploaded yet: see `quota`.
    TooManyPending = "too_many_pending", 429, "Too many uploads are pending";
    /// The `Idempotency-Key` was already used for a different request.
    IdempotencyMismatch = "idempotency_mismatch", 422, "Idempotency-Key was already used for a different request";
    /// The first request with this `Idempotency-Key` is still in progress. Retry in a moment.
    IdempotencyInFlight = "idempotency_in_flight", 409, "The first request is still in progress";

    // Completing an upload
    /// A file has not been uploaded. Upload it, then retry.
    NotUploaded = "not_uploaded", 409, "Some files have not been uploaded";
    /// An uploaded file does not match its declaration; the whole upload was removed.
    UploadRejected = "upload_rejected", 422, "The upload was rejected";
    /// The upload has expired.
    UploadExpired = "upload_expired", 410, "The upload has expired";
    /// The upload set is completed, rejected or aborted, and can no longer be changed.
    UploadClosed = "upload_closed", 409, "The upload is closed";
    /// Another version of the attachment became current since this one was declared. Look at it, then declare yours again.
    VersionConflict = "version_conflict", 409, "Another version became current";
    /// The stored file's size does not match the declaration.
    SizeMismatch = "size_mismatch", 422, "The size does not match the declaration";
    /// The stored file's SHA-256 does not match the declaration.
    Sha256Mismatch = "sha256_mismatch", 422, "The SHA-256 does not match the declaration";

    /// The stored image has more pixels than allowed.
    ImageTooLarge = "image_too_large", 422, "The image has too many pixels";
    /// The size of the stored image cannot be read from its header.
    ImageUnreadable = "image_unreadable", 422, "The image header cannot be read";
    /// The stored file has a `Content-Encoding`, so that clients would decode it to other bytes.
    ContentEncoded = "content_encoded", 422, "The file is stored with a content encoding";

    // Scanning
    /// The file is waiting for its malware scan, and cannot be downloaded until it is found clean.
    FileScanning = "file_scanning", 409, "The file is being scanned";
    /// Malware was found in the file; it can never be downloaded.
    FileQuarantined = "file_quarantined", 403, "The file is quarantined";
    /// The message is not signed with a known key, or its timestamp is too far from now.
    SignatureInvalid = "signature_invalid", 401, "The signature is invalid";

    // Signed URLs of the worker-served store
    /// The URL was altered, or is not for this request.
    UrlInvalid = "url_invalid", 403, "The URL is invalid";
    /// The URL has expired.
    UrlExpired = "url_expired", 403, "The URL has expired";
    /// The request's length does not match the declaration.
    LengthMismatch = "length_mismatch", 422, "The length does not match the declaration";
    /// A header that the URL requires is missing or has another value.
    HeaderMismatch = "header_mismatch", 422, "A required header is missing or different";
    /// The object is already stored, and is never overwritten.
    ObjectExists = "object_exists", 412, "The file is already uploaded";

    // Deleting and restoring
    /// Another row still refers to the row and blocks its deletion.
    DeleteBlocked = "delete_blocked", 409, "Other rows still refer to it";
    /// The restore conflicts with existing rows: see `conflicts`.
    RestoreConflict = "restore_conflict", 409, "The restore conflicts with existing rows";
    /// A legal hold forbids it; the detail names the hold.
    Held = "held", 409, "A legal hold forbids it";
    /// It was permanently deleted.
    Purged = "purged", 410, "It was permanently deleted";

    // The service
    /// The database cannot be reached or is busy. Retry later.
    DatabaseUnavailable = "database_unavailable", 503, "The database is unavailable";
    /// The database lacks the attachment schema, or has an older version than the worker needs. Run `keepsake migrate`.
    SchemaOutdated = "schema_outdated", 503, "The database schema is out of date";
    /// The object store cannot be reached or is busy. Retry later.
    StorageUnavailable = "storage_unavailable", 503, "The object store is unavailable";
    /// The keys that verify bearer tokens cannot be fetched. Retry later.
    KeysUnavailable = "keys_unavailable", 503, "The keys that verify tokens are unavailable";
    /// The issuer publishes no key that can verify tokens. Its keys or the worker's settings need to be corrected; retrying does not help.
    KeysUnusable = "keys_unusable", 500, "The keys that verify tokens cannot be used";
    /// The worker failed. The cause is in its log, under the request id.
    Internal = "internal", 500, "Internal error";
}

/// A text that is no [`ErrorCode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no error code")]
pub struct UnknownErrorCode;

impl ErrorCode {
    /// The code that stands for a whole list of field errors: when every one is about a size (413),
    /// or every one about a media type (415), the first one's code; otherwise
    /// [`InvalidUpload`](Self::InvalidUpload).
    #[must_use]
    pub fn of_errors(errors: &[FieldError]) -> Self {
        let Some(first) = errors.first().map(|error| error.code) else {
            return Self::InvalidUpload;
        };
        let speaks_for_all = matches!(first.status(), 413 | 415)
            && errors
                .iter()
                .all(|error| error.code.status() == first.status());
        if speaks_for_all {
            first
        } else {
            Self::InvalidUpload
        }
    }
}

impl FromStr for ErrorCode {
    type Err = UnknownErrorCode;

    fn from_str(text: &str) -> Result<Self, UnknownErrorCode> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == text)
            .ok_or(UnknownErrorCode)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

serde_as_text!(ErrorCode);

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// Where the field stands: a JSON pointer (RFC 6901) such as `/files/0/name`.
    pub pointer: String,
    /// The kind of error.
    pub code: ErrorCode,
    /// The exact reason where the code has several, as [`crate::FileNameError::code`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// What is wrong, for people.
    pub detail: String,
}

impl FieldError {
    /// An error without a finer reason.
    pub fn new(pointer: impl Into<String>, code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            code,
            reason: None,
            detail: detail.into(),
        }
    }

    /// Adds the exact reason.
    #[must_use]
    pub fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(Cow::Borrowed(reason));
        self
    }
}

/// Problem details for an HTTP answer of type `application/problem+json` (RFC 9457).
///
/// `status` is the status of the answer. `conflicts` is for [`ErrorCode::RestoreConflict`], `quota`
/// for [`ErrorCode::QuotaExceeded`] and [`ErrorCode::TooManyPending`], as the database gives them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Problem {
    /// A URI that names the kind of problem: `urn:problem-type:keepsake:<code>`.
    #[serde(rename = "type")]
    pub problem_type: String,
    /// A short summary, the same for every occurrence.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time and what to do about it. Never a secret, never a hidden row.
    pub detail: String,
    /// The path of the request, without its query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The stable code.
    pub code: ErrorCode,
    /// The id of the request, as in the header `x-request-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Every wrong field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Everything that stands in the way of a restore.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<serde_json::Value>,
    /// The limit that was met, what is used of it, and what was wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<serde_json::Value>,
}

/// The media type of a [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

impl Problem {
    /// A problem of this code.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            problem_type: format!("urn:problem-type:keepsake:{code}"),
            title: code.title(),
            status: code.status(),
            detail: detail.into(),
            instance: None,
            code,
            request_id: None,
            errors: Vec::new(),
            conflicts: Vec::new(),
            quota: None,
        }
    }

    /// The problem that stands for these field errors, by [`ErrorCode::of_errors`].
    #[must_use]
    pub fn of_errors(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] => only.detail.clone(),
            several => format!(
                "The request has {} errors, all listed under errors.",
                several.len()
            ),
        };
        let mut problem = Self::new(ErrorCode::of_errors(&errors), detail);
        problem.errors = errors;
        problem
    }
}
