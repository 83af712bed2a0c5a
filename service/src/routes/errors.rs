//! The one place that turns the errors of other rooms into problems.

use crate::{
    auth::AuthError,
    db::{DbError, REQUIRED_SCHEMA, Refusal},
    http::ApiError,
    signer::SigningError,
    storage::StorageError,
    upload::UploadError,
};
use axum::http::HeaderValue;
use keepsake_shared::ErrorCode;

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let refused = |code, detail: &str, challenge: &str| {
            let refused = Self::new(code, detail);
            match HeaderValue::from_str(&format!("Bearer realm=\"keepsake\"{challenge}")) {
                Ok(challenge) => refused.with_header("www-authenticate", challenge),
                Err(_) => refused,
            }
        };
        match error {
            AuthError::Missing => refused(
                ErrorCode::MissingToken,
                "This request requires a token. Send it as `Authorization: Bearer <token>`.",
                "",
            ),
            AuthError::Invalid(reason) => refused(
                ErrorCode::InvalidToken,
                &format!("The token is invalid: {reason}."),
                ", error=\"invalid_token\"",
            ),
            AuthError::Expired => refused(
                ErrorCode::TokenExpired,
                "The token has expired. Get a new one and retry.",
                ", error=\"invalid_token\"",
            ),
            AuthError::NoTenant => Self::new(
                ErrorCode::MissingTenant,
                "The token names no tenant. Its issuer must set the claim `tenant`, or the one that JWT_TENANT_CLAIM names.",
            ),
            AuthError::Scope(scope) => refused(
                ErrorCode::InsufficientScope,
                &format!(
                    "The token does not have the required scope {}.",
                    scope.name()
                ),
                &format!(", error=\"insufficient_scope\", scope=\"{}\"", scope.name()),
            ),
            AuthError::NoKeys => Self::new(
                ErrorCode::KeysUnavailable,
                "The keys that verify the token cannot be fetched. Retry in a moment.",
            ),
            AuthError::UnusableKeys(reason) => Self::new(
                ErrorCode::KeysUnusable,
                format_args!(
                    "What JWKS_URL answers cannot be used: {reason}. Retrying does not help. Correct the setting or the keys."
                ),
            ),
        }
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Refused(refusal) => refused(refusal),
            DbError::SchemaOutdated(found) => {
                let found = found.map_or_else(
                    || "has no schema for attachments".to_owned(),
                    |version| format!("has version {version} of the attachment schema"),
                );
                Self::new(
                    ErrorCode::SchemaOutdated,
                    format_args!(
                        "The database {found}, but this worker needs version {REQUIRED_SCHEMA} or later. Nothing was \
                         changed. Run `keepsake migrate` on the database, then retry."
                    ),
                )
            }
            DbError::Unavailable(cause) => Self::new(
                ErrorCode::DatabaseUnavailable,
                "The database did not answer. Nothing was lost. Retry in a moment.",
            )
            .with_cause(cause),
            DbError::Unexpected(cause) => Self::internal(cause),
        }
    }
}

fn refused(refusal: Refusal) -> ApiError {
    let error = ApiError::new(refusal.code, refusal.detail)
        .with_errors(refusal.errors)
        .with_conflicts(refusal.conflicts)
        .with_quota(refusal.quota);
    match refusal.retry_after {
        Some(seconds) => error.with_header("retry-after", seconds.into()),
        None => error,
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        Self::new(
            ErrorCode::StorageUnavailable,
            "The object store did not answer. Nothing was lost. Retry in a moment.",
        )
        .with_cause(error)
    }
}

impl From<SigningError> for ApiError {
    fn from(error: SigningError) -> Self {
        Self::internal(error)
    }
}

impl From<UploadError> for ApiError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::NotUploaded { missing, of } => Self::new(
                ErrorCode::NotUploaded,
                format_args!(
                    "{} of {of} files have not been uploaded. Nothing was changed. Upload them, then retry.",
                    missing.len()
                ),
            )
            .with_errors(missing),
            UploadError::Rejected(problems) => Self::new(
                ErrorCode::UploadRejected,
                "The uploaded files do not match their declarations, so the whole upload was removed. Declare the files again.",
            )
            .with_errors(problems),
            UploadError::Expired => Self::new(
                ErrorCode::UploadExpired,
                "The upload has expired. Declare the files again.",
            ),
            UploadError::Refused(refusal, problems) if problems.is_empty() => refused(refusal),
            UploadError::Refused(refusal, problems) => refused(refusal).with_errors(problems),
            UploadError::Database(error) => error.into(),
            UploadError::Storage(error) => error.into(),
        }
    }
}
