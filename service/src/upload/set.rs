use super::inspection::FileReport;
use crate::{
    db::{CallerFunction, Database, DbError},
    model::{Caller, DeclaredFile},
};
use keepsake_shared::UploadId;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use time::OffsetDateTime;

/// An upload set, as the database has it.
#[derive(Debug, Deserialize)]
pub(crate) struct UploadSet {
    /// Its id.
    pub(crate) id: UploadId,
    /// When its time is over.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) expires_at: OffsetDateTime,
    /// Its files, in order.
    pub(crate) files: Vec<DeclaredFile>,
    /// Its state; a set that was just declared is pending.
    #[serde(default)]
    pub(crate) state: State,
    /// Why it was rejected.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub(crate) report: Vec<FileReport>,
}

/// The states of a set, as `migrations/schema/05_upload_sets.sql` draws them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It waits for its files.
    #[default]
    Pending,
    /// Its files wait for a malware scan.
    Scanning,
    /// Its files are attachments.
    Completed,
    /// A stored file was not what was declared.
    Rejected,
    /// Its client gave it up.
    Aborted,
    /// Its time was over before it was complete.
    Expired,
}

fn null_as_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<FileReport>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What a set is looked up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To show it.
    Show,
    /// To complete it, which not everybody may who may see it.
    Complete,
}

/// Looks a set up.
///
/// # Errors
/// The database's; a refusal for one that is not there, or another tenant's, or that the caller may not complete.
pub(crate) async fn look_up(
    database: &impl Database,
    caller: &Caller,
    upload: UploadId,
    purpose: Purpose,
) -> Result<UploadSet, DbError> {
    let to_complete = purpose == Purpose::Complete;
    let request = json!({ "upload_id": upload, "to_complete": to_complete });
    database
        .read_for_caller(CallerFunction::GetUpload, caller, request)
        .await
}
