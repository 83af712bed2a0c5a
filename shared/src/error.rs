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
    /// The body holds a field that this request does not have.
    UnknownField = "unknown_field", 400, "The body has an unknown field";
    /// A field, query parameter or header is missing or has the wrong type or value.
    InvalidField = "invalid_field", 400, "A field is missing or wrong";
    /// An id is not of the form ids have.
    InvalidId = "invalid_id", 400, "An id is malformed";
    /// The body is longer than this request may have.
    BodyTooLarge = "body_too_large", 413, "The body is too large";
    /// The body did not arrive in time. Nothing has changed: send it again.
    BodyTooSlow = "body_too_slow", 408, "The body took too long";
    /// The body's content type is not `application/json`.
    UnsupportedContentType = "unsupported_content_type", 415, "The body must be JSON";
    /// The path exists, but not for this method.
    MethodNotAllowed = "method_not_allowed", 405, "The method is not allowed here";
    /// There is no such thing, or not for this caller.
    NotFound = "not_found", 404, "Not found";
    /// The bytes asked for lie outside the file.
    RangeNotSatisfiable = "range_not_satisfiable", 416, "The range lies outside the file";
    /// The caller sends too many requests.
    TooManyRequests = "too_many_requests", 429, "Too many requests";

    // The caller
    /// The request carries no bearer token.
    MissingToken = "missing_token", 401, "A bearer token is needed";
    /// The bearer token is malformed, or not signed with a known key.
    InvalidToken = "invalid_token", 401, "The bearer token is not valid";
    /// The bearer token has run out.
    TokenExpired = "token_expired", 401, "The bearer token has expired";
    /// The bearer token names no tenant.
    MissingTenant = "missing_tenant", 403, "The token names no tenant";
    /// The bearer token does not allow this request.
    InsufficientScope = "insufficient_scope", 403, "The token does not allow this";

    // Declaring an upload
    /// The upload set has errors of several kinds: see the list.
    InvalidUpload = "invalid_upload", 422, "The upload cannot be accepted";
    /// The upload set names no file.
    NoFiles = "no_files", 422, "The upload names no file";
    /// The upload set has more files than allowed.
    TooManyFiles = "too_many_files", 422, "Too many files";
    /// The file name is one that Keepsake does not take.
    FileNameInvalid = "file_name_invalid", 422, "The file name is not allowed";
    /// Two files of the set have the same name.
    DuplicateName = "duplicate_name", 422, "Two files have the same name";
    /// The name's extension is not that of an allowed media type.
    MediaTypeNotAllowed = "media_type_not_allowed", 415, "This kind of file is not allowed";
    /// The declared media type, or the content, is not what the file's name says.
    MediaTypeMismatch = "media_type_mismatch", 422, "The file is not what its name says";
    /// The file has no bytes.
    FileEmpty = "file_empty", 422, "The file is empty";
    /// The file is larger than allowed.
    FileTooLarge = "file_too_large", 413, "The file is too large";
    /// The files together are larger than allowed.
    SetTooLarge = "set_too_large", 413, "The files together are too large";
    /// The SHA-256 is not 64 hexadecimal digits or 44 characters of base64.
    Sha256Invalid = "sha256_invalid", 422, "The SHA-256 is malformed";
    /// A part's number or checksum is not one of this file's.
    PartInvalid = "part_invalid", 422, "A part is wrong";
    /// The file is not uploaded in parts.
    NotInParts = "not_in_parts", 422, "The file is uploaded whole";
    /// Another live attachment of the same thing has this name, or another thing this label.
    NameTaken = "name_taken", 409, "The name is taken";
    /// The tenant or the user may not hold so many bytes or files: see `quota`.
    QuotaExceeded = "quota_exceeded", 403, "The quota is used up";
    /// Too many of the user's files still wait for their bytes: see `quota`.
    TooManyPending = "too_many_pending", 429, "Too many uploads are open";
    /// The `Idempotency-Key` was used for another request.
    IdempotencyMismatch = "idempotency_mismatch", 422, "The key stands for another request";
    /// The first request with this `Idempotency-Key` is still being worked on. Ask again.
    IdempotencyInFlight = "idempotency_in_flight", 409, "The first request is still at work";

    // Completing an upload
    /// A file has not been uploaded yet. Upload it and ask again.
    NotUploaded = "not_uploaded", 409, "Not every file has been uploaded yet";
    /// What was uploaded is not what was declared; the whole set has been dropped.
    UploadRejected = "upload_rejected", 422, "The upload was rejected";
    /// The time to upload has run out.
    UploadExpired = "upload_expired", 410, "The upload has expired";
    /// The upload set is completed, rejected or aborted, and can no longer be changed.
    UploadClosed = "upload_closed", 409, "The upload is closed";
    /// The stored file has another length than declared.
    SizeMismatch = "size_mismatch", 422, "The file has another length than declared";
    /// The stored file has another SHA-256 than declared.
    Sha256Mismatch = "sha256_mismatch", 422, "The file has another SHA-256 than declared";

    /// The stored picture has more pixels than allowed.
    ImageTooLarge = "image_too_large", 422, "The picture has too many pixels";
    /// The size of the stored picture cannot be read from its header.
    ImageUnreadable = "image_unreadable", 422, "The picture cannot be read";
    /// The stored file is marked as encoded, so that readers would get other bytes.
    ContentEncoded = "content_encoded", 422, "The file is stored in another encoding";

    // Scanning
    /// The file waits for its malware scan, and is shut until it is found clean.
    FileScanning = "file_scanning", 409, "The file is being scanned";
    /// Malware was found in the file; it is shut for good.
    FileQuarantined = "file_quarantined", 403, "The file is in quarantine";
    /// The message is not signed with a known key, or not of this moment.
    SignatureInvalid = "signature_invalid", 401, "The signature is not valid";

    // Signed URLs of the worker-served store
    /// The URL was altered, or was not made for this request.
    UrlInvalid = "url_invalid", 403, "The URL is not valid";
    /// The URL has run out.
    UrlExpired = "url_expired", 403, "The URL has expired";
    /// The request's length is not the declared one.
    LengthMismatch = "length_mismatch", 422, "The length is not the declared one";
    /// A header that the URL fixes is missing or has another value.
    HeaderMismatch = "header_mismatch", 422, "A required header is missing or wrong";
    /// An object stands there already, and is never overwritten.
    ObjectExists = "object_exists", 412, "The file has been uploaded already";

    // Deleting and restoring
    /// Something that still refers to the row forbids its deletion.
    DeleteBlocked = "delete_blocked", 409, "Something still in use forbids the deletion";
    /// What would be restored collides with what is there: see the conflicts.
    RestoreConflict = "restore_conflict", 409, "Restoring would collide with what is there now";
    /// It has been deleted for good.
    Purged = "purged", 410, "It has been deleted for good";

    // The service
    /// The database cannot be reached or is busy. Try again later.
    DatabaseUnavailable = "database_unavailable", 503, "The database is not available";
    /// The database lacks the attachment schema, or has an older version than the worker needs. Run `keepsake migrate`.
    SchemaOutdated = "schema_outdated", 503, "The database schema is out of date";
    /// The object store cannot be reached or is busy. Try again later.
    StorageUnavailable = "storage_unavailable", 503, "The storage is not available";
    /// The keys that verify bearer tokens cannot be fetched. Try again later.
    KeysUnavailable = "keys_unavailable", 503, "The keys of tokens are not available";
    /// Something went wrong that is not the caller's fault.
    Internal = "internal", 500, "Something went wrong on our side";
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
            several => format!("There are {} errors; each is listed.", several.len()),
        };
        let mut problem = Self::new(ErrorCode::of_errors(&errors), detail);
        problem.errors = errors;
        problem
    }
}
