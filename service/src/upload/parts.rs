//! Multipart uploads: completing those that have all their parts, aborting those of closed sets.
//!
//! The database knows whose a multipart upload is, its part size and its id in the store. The store knows its parts; where
//! the worker stored them itself, the database does.

use crate::{
    db::{Database, DbError, SystemFunction},
    model::{DeclaredFile, StoredPart},
    storage::{Storage, StorageError},
};
use futures_util::future::join_all;
use keepsake_shared::{AttachmentId, ObjectKey, upload::PartPlan};
use serde::Deserialize;
use serde_json::{Value, json};

/// Most multipart uploads aborted in one run: each costs a request to the store.
const ABORT_LIMIT: u32 = 20;
/// Seconds that a run has for them before another run may lease them.
const LEASE_SECONDS: u32 = 300;

/// Completes the multipart upload of each file that has all its parts, so that its object can be inspected. One that was
/// completed before, or lacks a part, stays as it is.
///
/// # Errors
/// The store's.
pub(crate) async fn join(
    storage: &impl Storage,
    files: &[DeclaredFile],
) -> Result<(), StorageError> {
    for file in files {
        let Some(multipart) = &file.multipart else {
            continue;
        };
        let key = &file.object_key;
        if let Some(parts) = storage.list_parts(key, multipart).await?
            && is_whole(file.size, multipart.part_size, &parts)
        {
            storage
                .complete_multipart(key, &multipart.storage_id, &parts)
                .await?;
        }
    }
    Ok(())
}

/// Whether these are all parts of a file, in order, each of the planned length.
pub(crate) fn is_whole(file_bytes: u64, part_bytes: u64, parts: &[StoredPart]) -> bool {
    PartPlan::of(file_bytes, part_bytes).is_some_and(|plan| {
        plan.count() == parts.len() as u64
            && (1..).zip(parts).all(|(number, part)| {
                u32::from(part.number) == number && plan.bytes_of(number) == Some(part.size)
            })
    })
}

#[derive(Deserialize)]
struct Leases {
    multiparts: Vec<Lease>,
}

#[derive(Deserialize)]
struct Lease {
    attachment_id: AttachmentId,
    object_key: ObjectKey,
    storage_id: String,
}

/// Aborts the multipart uploads of closed sets.
///
/// # Errors
/// The database's. What was leased by then is leased again when the lease ends.
pub(crate) async fn abort_closed(
    database: &impl Database,
    storage: &impl Storage,
) -> Result<Value, DbError> {
    let request = json!({ "limit": ABORT_LIMIT, "lease_seconds": LEASE_SECONDS });
    let Leases { multiparts } = database
        .read_for_system(SystemFunction::LeaseMultiparts, request)
        .await?;
    if multiparts.is_empty() {
        return Ok(json!({ "given_up": 0, "failed": 0 }));
    }
    let outcomes = join_all(
        multiparts
            .iter()
            .map(|one| storage.abort_multipart(&one.object_key, &one.storage_id)),
    )
    .await;
    let (mut given_up, mut failed) = (Vec::new(), Vec::new());
    for (one, outcome) in multiparts.iter().zip(outcomes) {
        match outcome {
            Ok(()) => given_up.push(json!(one.attachment_id)),
            Err(error) => {
                failed.push(json!({ "attachment_id": one.attachment_id, "error": error.0 }));
            }
        }
    }
    let counts = json!({ "given_up": given_up.len(), "failed": failed.len() });
    let request = json!({ "given_up": given_up, "failed": failed });
    database
        .for_system(SystemFunction::SettleMultiparts, request)
        .await?;
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{MemoryStorage, ScriptedDatabase};
    use futures_util::FutureExt;

    fn part(number: u16, size: u64) -> StoredPart {
        StoredPart {
            number,
            etag: "e".to_owned(),
            size,
            checksum: None,
        }
    }

    #[test]
    fn a_file_is_whole_when_every_part_is_there_in_its_length() {
        assert!(is_whole(25, 10, &[part(1, 10), part(2, 10), part(3, 5)]));
        assert!(is_whole(20, 10, &[part(1, 10), part(2, 10)]));
        for wrong in [
            &[][..],
            &[part(1, 10), part(2, 10)],
            &[part(1, 10), part(3, 5)],
            &[part(1, 10), part(2, 10), part(3, 4)],
            &[part(1, 9), part(2, 11), part(3, 5)],
            &[part(2, 10), part(1, 10), part(3, 5)],
            &[part(1, 10), part(2, 10), part(3, 5), part(4, 1)],
        ] {
            assert!(!is_whole(25, 10, wrong), "{wrong:?}");
        }
        assert!(!is_whole(25, 0, &[]));
    }

    #[test]
    fn reports_what_the_store_did_not_abort() {
        let id = "0198f7d0-1111-7aaa-8bbb-000000000001";
        let leased = json!({ "multiparts": [{
            "attachment_id": id, "object_key": format!("t/acme/post/1/{id}.mp4"), "storage_id": "s",
        }] });
        for (broken, given_up) in [(false, 1), (true, 0)] {
            let database = ScriptedDatabase::new([Ok(leased.clone()), Ok(json!({}))]);
            let storage = MemoryStorage {
                broken,
                ..MemoryStorage::default()
            };
            let done = abort_closed(&database, &storage).now_or_never().unwrap();
            let want = json!({ "given_up": given_up, "failed": 1 - given_up });
            assert_eq!(done, Ok(want));
            let settled = &database.calls()[1].1;
            assert_eq!(settled["given_up"].as_array().map(Vec::len), Some(given_up));
        }
    }

    #[test]
    fn asks_nobody_when_nothing_is_leased() {
        let database = ScriptedDatabase::new([Ok(json!({ "multiparts": [] }))]);
        let storage = MemoryStorage::default();
        let done = abort_closed(&database, &storage);
        assert!(done.now_or_never().unwrap().is_ok());
        assert_eq!(database.calls().len(), 1);
    }
}
