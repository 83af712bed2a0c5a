use crate::{
    db::{DbError, Refusal},
    storage::StorageError,
};
use keepsake_shared::{ErrorCode, FieldError};

/// Why an upload set is not complete.
#[derive(Debug)]
pub(crate) enum UploadError {
    /// Files are missing, and nothing has changed.
    NotUploaded {
        /// One for each missing file.
        missing: Vec<FieldError>,
        /// Files of the set.
        of: usize,
    },
    /// A stored file is not what was declared: the set was closed just now. One error for each problem.
    Rejected(Vec<FieldError>),
    /// The set's time is over.
    Expired,
    /// The database refused; for a set that was rejected before, with the problems on record.
    Refused(Refusal, Vec<FieldError>),
    /// The database did not answer.
    Database(DbError),
    /// The store did not answer.
    Storage(StorageError),
}

impl UploadError {
    /// The stable code that a client sees.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::NotUploaded { .. } => ErrorCode::NotUploaded,
            Self::Rejected(_) => ErrorCode::UploadRejected,
            Self::Expired => ErrorCode::UploadExpired,
            Self::Refused(refusal, _) => refusal.code,
            Self::Database(error) => error.code(),
            Self::Storage(_) => ErrorCode::StorageUnavailable,
        }
    }
}

impl From<DbError> for UploadError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Refused(refusal) => Self::Refused(refusal, Vec::new()),
            error => Self::Database(error),
        }
    }
}

impl From<StorageError> for UploadError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}
