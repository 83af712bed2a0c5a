//! Does the store hold what was declared? The rules are in `keepsake_shared::upload`; here the
//! objects are looked at.

use crate::storage::{Storage, StorageError, StoredObject};
use futures_util::future::try_join_all;
use keepsake_shared::{
    AttachmentId, ErrorCode, FieldError, FileName, MediaType, ObjectKey, Sha256Digest,
    upload::{Declared, ObjectProblem, verify_object},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// One file of an upload set, as the database has it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct DeclaredFile {
    /// The attachment it will be.
    pub(crate) attachment_id: AttachmentId,
    /// The name its uploader gave it.
    pub(crate) name: FileName,
    /// The type its extension stands for.
    pub(crate) media_type: MediaType,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Its digest.
    pub(crate) sha256: Sha256Digest,
    /// Where its bytes go.
    pub(crate) object_key: ObjectKey,
    /// Where it stands.
    pub(crate) state: Option<String>,
}

/// A declared file beside what the store has.
#[derive(Debug)]
pub(crate) struct Inspected<'a> {
    /// The declaration.
    pub(crate) file: &'a DeclaredFile,
    /// What is stored, if anything is.
    pub(crate) seen: Option<StoredObject>,
    /// Everything that differs; empty when all is well.
    pub(crate) problems: Vec<ObjectProblem>,
}

/// Where a whole set stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every file is there and right.
    Complete,
    /// Files are missing, and those that are there are right.
    Incomplete,
    /// A file is there and wrong: the set can never become complete.
    Wrong,
}

/// Looks at the objects of all files, side by side.
///
/// # Errors
/// The store's; nothing is known then.
pub(crate) async fn inspect<'a>(
    storage: &impl Storage,
    files: &'a [DeclaredFile],
) -> Result<Vec<Inspected<'a>>, StorageError> {
    try_join_all(files.iter().map(async |file| {
        let seen = storage.observe(&file.object_key).await?;
        let declared = Declared {
            size: file.size,
            media_type: file.media_type,
            sha256: file.sha256,
        };
        Ok(Inspected {
            file,
            problems: verify_object(&declared, &StoredObject::observed(seen.as_ref())),
            seen,
        })
    }))
    .await
}

/// Sums up a set.
pub(crate) fn verdict(inspected: &[Inspected<'_>]) -> Verdict {
    let problems = || inspected.iter().flat_map(|one| &one.problems);
    if problems().any(|problem| *problem != ObjectProblem::Missing) {
        Verdict::Wrong
    } else if problems().next().is_some() {
        Verdict::Incomplete
    } else {
        Verdict::Complete
    }
}

impl Inspected<'_> {
    /// The problems as the API and the database write them.
    pub(crate) fn problem_list(&self) -> Vec<Value> {
        self.problems
            .iter()
            .map(|problem| json!({ "code": problem.code(), "detail": sentence(problem) }))
            .collect()
    }
}

/// What is kept of a rejected set: the problems of every file that has some.
pub(crate) fn report(inspected: &[Inspected<'_>]) -> Vec<Value> {
    inspected
        .iter()
        .filter(|one| !one.problems.is_empty())
        .map(|one| json!({ "attachment_id": one.file.attachment_id, "problems": one.problem_list() }))
        .collect()
}

/// The problems as errors of an answer, one entry each, pointing at the file's place in the set.
pub(crate) fn field_errors(inspected: &[Inspected<'_>]) -> Vec<FieldError> {
    inspected
        .iter()
        .enumerate()
        .flat_map(|(index, one)| one.problems.iter().map(move |problem| (index, problem)))
        .map(|(index, problem)| {
            let code: ErrorCode = problem.code();
            FieldError::new(format!("/files/{index}"), code, sentence(problem))
        })
        .collect()
}

/// A problem's text as a sentence.
fn sentence(problem: &ObjectProblem) -> String {
    let text = problem.to_string();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        None => text,
    }
}
