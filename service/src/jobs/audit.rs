//! Do bucket and database agree? One page of the bucket with each run, over and over.
//!
//! The bucket is listed behind the key where the last page ended, and the database compares that
//! range of keys with its rows. It keeps what it found, and says which orphans have been known for
//! long enough to be deleted. A run that breaks off is done again by the next; of two at once the
//! second changes nothing.

use crate::{
    db::{Database, DbError, SystemFunction},
    storage::{MAX_LIST, Storage, StorageError},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// What the keys of attachments begin with. Whatever else lies in the bucket is not looked at.
const PREFIX: &str = "t/";

/// Why a page was not compared. The text is for the log.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct AuditError(String);

impl From<DbError> for AuditError {
    fn from(error: DbError) -> Self {
        Self(format!("{error:?}"))
    }
}

impl From<StorageError> for AuditError {
    fn from(error: StorageError) -> Self {
        Self(error.0)
    }
}

#[derive(Deserialize)]
struct Place {
    after: String,
}

#[derive(Deserialize)]
struct Compared {
    checked: u64,
    orphans: u64,
    missing: u64,
    remove: Vec<String>,
}

/// Compares the next page.
///
/// 1. Ask the database where it begins.
/// 2. List the bucket from there.
/// 3. Let the database compare and move on.
/// 4. Delete the orphans that may go. Those that could not be deleted are found again.
///
/// # Errors
/// The database's or the store's.
pub(crate) async fn page(
    database: &impl Database,
    storage: &impl Storage,
) -> Result<Value, AuditError> {
    let Place { after } = database
        .read_for_system(SystemFunction::AuditPlace, json!({}))
        .await?;
    let begin = Some(after.as_str()).filter(|after| !after.is_empty());
    let listing = storage.list(PREFIX, begin, MAX_LIST).await?;
    let request = json!({ "after": after, "keys": listing.keys, "more": listing.more });
    let compared: Compared = database
        .read_for_system(SystemFunction::AuditObjects, request)
        .await?;
    let mut removed = compared.remove.len();
    if removed > 0 {
        removed -= storage.delete_many(&compared.remove).await?.len();
    }
    Ok(json!({
        "checked": compared.checked,
        "orphans": compared.orphans,
        "missing": compared.missing,
        "removed": removed,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fakes::{MemoryStorage, ScriptedDatabase},
        storage::StoredObject,
    };
    use futures_util::FutureExt;

    fn bucket(keys: &[&str]) -> MemoryStorage {
        let storage = MemoryStorage::default();
        for key in keys {
            let object = StoredObject {
                size: 1,
                sha256: None,
                first_bytes: Vec::new(),
                encoded: false,
            };
            storage
                .objects
                .borrow_mut()
                .insert((*key).to_owned(), object);
        }
        storage
    }

    #[test]
    fn compares_what_lies_behind_the_last_page_and_deletes_what_may_go() {
        let storage = bucket(&["other", "t/a", "t/b", "t/c"]);
        let database = ScriptedDatabase::new([
            Ok(json!({ "after": "t/a" })),
            Ok(json!({ "checked": 2, "orphans": 2, "missing": 1, "remove": ["t/c"] })),
        ]);
        let done = page(&database, &storage).now_or_never().unwrap().unwrap();
        let want = json!({ "checked": 2, "orphans": 2, "missing": 1, "removed": 1 });
        assert_eq!(done, want);
        let asked = json!({ "after": "t/a", "keys": ["t/b", "t/c"], "more": false });
        assert_eq!(database.calls()[1], (SystemFunction::AuditObjects, asked));
        let mut left: Vec<String> = storage.objects.borrow().keys().cloned().collect();
        left.sort_unstable();
        assert_eq!(left, ["other", "t/a", "t/b"]);
    }

    #[test]
    fn tells_the_database_nothing_when_the_store_fails() {
        let storage = MemoryStorage {
            broken: true,
            ..MemoryStorage::default()
        };
        let database = ScriptedDatabase::new([Ok(json!({ "after": "" }))]);
        let failed = page(&database, &storage).now_or_never().unwrap();
        assert_eq!(failed.unwrap_err().to_string(), "the store is down");
        assert_eq!(database.calls().len(), 1);
    }
}
