//! Does the store hold what was declared? The rules are in `keepsake_shared::upload`; here the
//! objects are looked at.

use crate::{
    model::DeclaredFile,
    storage::{Storage, StorageError, StoredObject},
};
use axum::body::Bytes;
use futures_util::future::try_join_all;
use keepsake_shared::{
    AttachmentId, ErrorCode, FieldError, Sha256Digest,
    content::{Finding, Inspection, Next, first_piece},
    upload::{CheckedFile, Declared, ObjectProblem, Observed, verify_object},
};
use serde::{Deserialize, Serialize};

/// A declared file beside what the store has.
#[derive(Debug)]
pub(crate) struct Inspected<'a> {
    /// The declaration.
    pub(crate) file: &'a DeclaredFile,
    /// What is stored, if anything is.
    pub(crate) seen: Option<StoredObject>,
    /// Whether it may be shown in place, as far as its bytes tell.
    is_plain: bool,
    /// Everything that differs; empty when all is well as far as the store tells.
    pub(crate) problems: Vec<ObjectProblem>,
}

impl<'a> Inspected<'a> {
    fn new(
        file: &'a DeclaredFile,
        max_pixels: u64,
        seen: Option<(StoredObject, Option<Finding>)>,
    ) -> Self {
        let declared = Declared {
            size: file.size,
            media_type: file.media_type,
            sha256: file.sha256,
            max_pixels,
        };
        let observed = match &seen {
            Some((object, finding)) => Observed::Stored {
                size: object.size,
                sha256: object.sha256,
                finding: *finding,
            },
            None => Observed::Missing,
        };
        let mut problems = verify_object(&declared, &observed);
        // A digest that the store does not tell is to be made: see `prove`.
        problems.retain(|problem| !matches!(problem, ObjectProblem::Sha256 { seen: None, .. }));
        let is_plain = seen
            .as_ref()
            .and_then(|(_, finding)| *finding)
            .is_some_and(|finding| finding.is_plain);
        Self {
            file,
            is_plain,
            seen: seen.map(|(object, _)| object),
            problems,
        }
    }

    /// The digest of what was seen, made from its bytes; or it has gone.
    fn with_digest(&mut self, digest: Option<Sha256Digest>) {
        let Some(digest) = digest else {
            self.seen = None;
            self.problems = vec![ObjectProblem::Missing];
            return;
        };
        if let Some(object) = &mut self.seen {
            object.sha256 = Some(digest);
        }
        if digest != self.file.sha256 {
            self.problems.push(ObjectProblem::Sha256 {
                declared: self.file.sha256,
                seen: Some(digest),
            });
        }
    }

    fn is_proven(&self) -> bool {
        self.seen
            .as_ref()
            .is_none_or(|object| object.sha256.is_some())
    }
}

/// Where a whole set stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every file is there and right.
    Complete,
    /// As far as the store tells; of some file it does not tell the SHA-256.
    Unproven,
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
    max_pixels: u64,
) -> Result<Vec<Inspected<'a>>, StorageError> {
    try_join_all(files.iter().map(async |file| {
        let seen = observe(storage, file).await?;
        Ok(Inspected::new(file, max_pixels, seen))
    }))
    .await
}

/// A file's object, and what its bytes show: nothing of an encoded one.
async fn observe(
    storage: &impl Storage,
    file: &DeclaredFile,
) -> Result<Option<(StoredObject, Option<Finding>)>, StorageError> {
    let key = &file.object_key;
    let first = first_piece(file.media_type);
    let Some(object) = storage.observe(key, first.length).await? else {
        return Ok(None);
    };
    if object.encoded {
        return Ok(Some((object, None)));
    }
    let mut inspection = Inspection::new(file.media_type, object.size);
    inspection.add(first, object.first_bytes.clone());
    let finding = loop {
        match inspection.step() {
            Next::Found(finding) => break finding,
            Next::Read(piece) => {
                let bytes = storage.read(key, piece.offset, piece.length).await?;
                inspection.add(piece, bytes);
            }
        }
    };
    Ok(Some((object, Some(finding))))
}

/// Looks at a file that is in memory, as at one that is stored: whether it is for download only, or all that is wrong with it.
pub(crate) fn examine(
    file: &CheckedFile,
    bytes: &Bytes,
    max_pixels: u64,
) -> Result<bool, Vec<FileProblem>> {
    let mut inspection = Inspection::new(file.media_type, file.size);
    let finding = loop {
        match inspection.step() {
            Next::Found(finding) => break finding,
            Next::Read(piece) => {
                let begin = usize::try_from(piece.offset).unwrap_or(usize::MAX);
                let rest = bytes.get(begin..).unwrap_or_default();
                let wanted = rest.get(..piece.length).unwrap_or(rest);
                inspection.add(piece, wanted.to_vec());
            }
        }
    };
    let declared = Declared {
        size: file.size,
        media_type: file.media_type,
        sha256: file.sha256,
        max_pixels,
    };
    let observed = Observed::Stored {
        size: bytes.len() as u64,
        sha256: Some(file.sha256),
        finding: Some(finding),
    };
    let problems = verify_object(&declared, &observed);
    if problems.is_empty() {
        Ok(file.media_type.is_inline_safe() && !finding.is_plain)
    } else {
        Err(problems.iter().map(FileProblem::from).collect())
    }
}

/// Finds out the digests that the store does not tell, by reading those objects once, one after the
/// other.
///
/// # Errors
/// The store's.
pub(crate) async fn prove(
    storage: &impl Storage,
    inspected: &mut [Inspected<'_>],
) -> Result<(), StorageError> {
    for one in inspected.iter_mut().filter(|one| !one.is_proven()) {
        let digest = storage.digest(&one.file.object_key, one.file.size).await?;
        one.with_digest(digest);
    }
    Ok(())
}

/// Sums up a set.
pub(crate) fn verdict(inspected: &[Inspected<'_>]) -> Verdict {
    let problems = || inspected.iter().flat_map(|one| &one.problems);
    if problems().any(|problem| *problem != ObjectProblem::Missing) {
        Verdict::Wrong
    } else if problems().next().is_some() {
        Verdict::Incomplete
    } else if inspected.iter().all(Inspected::is_proven) {
        Verdict::Complete
    } else {
        Verdict::Unproven
    }
}

/// The files of a type that browsers show, which are not to be shown all the same: they are, or may be,
/// something else as well.
pub(crate) fn download_only(inspected: &[Inspected<'_>]) -> Vec<AttachmentId> {
    inspected
        .iter()
        .filter(|one| one.file.media_type.is_inline_safe() && !one.is_plain)
        .map(|one| one.file.attachment_id)
        .collect()
}

/// What was found wrong with one file, as it is kept for a rejected set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FileReport {
    attachment_id: AttachmentId,
    problems: Vec<FileProblem>,
}

/// One difference, as the API and the database write it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FileProblem {
    code: ErrorCode,
    detail: String,
}

impl From<&ObjectProblem> for FileProblem {
    fn from(problem: &ObjectProblem) -> Self {
        Self {
            code: problem.code(),
            detail: problem.detail(),
        }
    }
}

impl Inspected<'_> {
    /// The differences.
    pub(crate) fn problem_list(&self) -> Vec<FileProblem> {
        self.problems.iter().map(FileProblem::from).collect()
    }
}

impl FileProblem {
    /// As an error of an answer, which points at the file's place in the set.
    pub(crate) fn at(&self, index: usize) -> FieldError {
        FieldError::new(format!("/files/{index}"), self.code, &self.detail)
    }
}

/// What is kept of a set: every file with its problems.
pub(crate) fn report(inspected: &[Inspected<'_>]) -> Vec<FileReport> {
    inspected
        .iter()
        .map(|one| FileReport {
            attachment_id: one.file.attachment_id,
            problems: one.problem_list(),
        })
        .collect()
}

/// What a report says of a file.
pub(crate) fn recorded<'a>(file: &DeclaredFile, report: &'a [FileReport]) -> &'a [FileProblem] {
    report
        .iter()
        .find(|entry| entry.attachment_id == file.attachment_id)
        .map_or(&[], |entry| &entry.problems)
}

/// The problems as errors of an answer, each pointing at its file's place in the set.
pub(crate) fn field_errors(files: &[DeclaredFile], report: &[FileReport]) -> Vec<FieldError> {
    files
        .iter()
        .enumerate()
        .flat_map(|(index, file)| {
            recorded(file, report)
                .iter()
                .map(move |problem| (index, problem))
        })
        .map(|(index, problem)| problem.at(index))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::MemoryStorage;
    use futures_util::FutureExt;
    use serde_json::json;

    const MAX_PIXELS: u64 = 6;
    /// Three by two pixels.
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x03\0\0\0\x02 rest of it";

    fn declared(number: u8) -> DeclaredFile {
        let id = format!("0198f7d0-1111-7aaa-8bbb-0000000000{number:02}");
        let file = json!({
            "attachment_id": id,
            "name": format!("{number}.png"),
            "media_type": "image/png",
            "size": PNG.len(),
            "sha256": Sha256Digest::of(PNG).to_hex(),
            "object_key": format!("t/acme/post/1/{id}.png"),
            "state": "pending",
        });
        serde_json::from_value(file).unwrap()
    }

    fn stored(bytes: &[u8]) -> StoredObject {
        StoredObject {
            size: bytes.len() as u64,
            sha256: Some(Sha256Digest::of(bytes)),
            first_bytes: bytes.to_vec(),
            encoded: false,
        }
    }

    fn look(contents: &[Option<&[u8]>]) -> (Verdict, Vec<String>) {
        let files: Vec<_> = (0..).take(contents.len()).map(declared).collect();
        let storage = MemoryStorage::default();
        for (file, bytes) in files.iter().zip(contents) {
            if let Some(bytes) = bytes {
                let key = file.object_key.as_str().to_owned();
                storage.objects.borrow_mut().insert(key, stored(bytes));
            }
        }
        let inspected = inspect(&storage, &files, MAX_PIXELS)
            .now_or_never()
            .unwrap()
            .unwrap();
        let errors = field_errors(&files, &report(&inspected));
        let errors = errors
            .iter()
            .map(|error| format!("{} {}", error.pointer, error.code));
        (verdict(&inspected), errors.collect())
    }

    #[test]
    fn a_set_is_complete_when_every_file_is_as_declared() {
        assert_eq!(
            look(&[Some(PNG), Some(PNG)]),
            (Verdict::Complete, Vec::new())
        );
    }

    #[test]
    fn a_missing_file_can_still_come() {
        let missing = vec!["/files/1 not_uploaded".to_owned()];
        assert_eq!(look(&[Some(PNG), None]), (Verdict::Incomplete, missing));
    }

    #[test]
    fn one_wrong_file_spoils_the_set_even_while_another_is_missing() {
        let (verdict, errors) = look(&[None, Some(b"plain text of another length")]);
        assert_eq!(verdict, Verdict::Wrong);
        assert_eq!(
            errors,
            [
                "/files/0 not_uploaded",
                "/files/1 size_mismatch",
                "/files/1 sha256_mismatch",
                "/files/1 media_type_mismatch",
            ]
        );
    }

    #[test]
    fn a_digest_that_the_store_does_not_tell_is_made_from_the_bytes() {
        for (bytes, in_the_end) in [
            (PNG, Verdict::Complete),
            (
                b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x03\0\0\0\x02 REST OF IT",
                Verdict::Wrong,
            ),
        ] {
            let files = [declared(0)];
            let storage = MemoryStorage::default();
            let key = files[0].object_key.as_str().to_owned();
            let object = StoredObject {
                sha256: None,
                ..stored(bytes)
            };
            storage.objects.borrow_mut().insert(key.clone(), object);
            let mut inspected = inspect(&storage, &files, MAX_PIXELS)
                .now_or_never()
                .unwrap()
                .unwrap();
            assert_eq!(verdict(&inspected), Verdict::Unproven);
            prove(&storage, &mut inspected)
                .now_or_never()
                .unwrap()
                .unwrap();
            assert_eq!(verdict(&inspected), in_the_end);

            let mut inspected = inspect(&storage, &files, MAX_PIXELS)
                .now_or_never()
                .unwrap()
                .unwrap();
            storage.objects.borrow_mut().clear();
            prove(&storage, &mut inspected)
                .now_or_never()
                .unwrap()
                .unwrap();
            assert_eq!(verdict(&inspected), Verdict::Incomplete);
        }
    }

    #[test]
    fn a_picture_of_too_many_pixels_and_an_encoded_file_are_wrong() {
        for (change, code) in [
            (
                (|object| object.first_bytes[23] = 3) as fn(&mut StoredObject),
                "image_too_large",
            ),
            (|object| object.first_bytes.truncate(20), "image_unreadable"),
            (|object| object.encoded = true, "content_encoded"),
        ] {
            let files = [declared(0)];
            let storage = MemoryStorage::default();
            let mut object = stored(PNG);
            change(&mut object);
            let key = files[0].object_key.as_str().to_owned();
            storage.objects.borrow_mut().insert(key, object);
            let inspected = inspect(&storage, &files, MAX_PIXELS)
                .now_or_never()
                .unwrap()
                .unwrap();
            let errors = field_errors(&files, &report(&inspected));
            assert_eq!(errors.len(), 1);
            assert_eq!(errors[0].code.as_str(), code);
        }
    }

    #[test]
    fn a_broken_store_is_no_verdict() {
        let storage = MemoryStorage {
            broken: true,
            ..MemoryStorage::default()
        };
        assert!(
            inspect(&storage, &[declared(0)], MAX_PIXELS)
                .now_or_never()
                .unwrap()
                .is_err()
        );
    }
}
