//! The upload sets that this isolate declared lately: one that is completed where it was declared need not be looked
//! up first. What is kept never changes once it is declared. Whether the set may still be completed, and by whom, is
//! for the database to say, as ever.

use crate::inspection::DeclaredFile;
use keepsake_shared::{TenantId, UploadId};
use std::{cell::RefCell, collections::BTreeMap};
use time::OffsetDateTime;

/// Most files that are kept, of all sets together; some two megabytes. The oldest sets go first.
const MAX_FILES: usize = 4096;

/// A set without files in parts.
#[derive(Debug, Clone)]
pub(crate) struct DeclaredSet {
    /// Its files, in order.
    pub(crate) files: Vec<DeclaredFile>,
    /// When its time is over.
    pub(crate) expires_at: OffsetDateTime,
}

#[derive(Default)]
struct Declared {
    /// Ids are in the order of their time (RFC 9562 §5.7).
    sets: BTreeMap<UploadId, (TenantId, DeclaredSet)>,
    files: usize,
}

thread_local! {
    static DECLARED: RefCell<Declared> = RefCell::default();
}

/// Keeps a set.
pub(crate) fn remember(tenant: &TenantId, upload: UploadId, set: DeclaredSet) {
    DECLARED.with_borrow_mut(|declared| {
        declared.files += set.files.len();
        let before = declared.sets.insert(upload, (tenant.clone(), set));
        declared.files -= before.map_or(0, |(_, set)| set.files.len());
        while declared.files > MAX_FILES
            && let Some((_, (_, oldest))) = declared.sets.pop_first()
        {
            declared.files -= oldest.files.len();
        }
    });
}

/// The tenant's set of this id, once.
pub(crate) fn take(tenant: &TenantId, upload: UploadId) -> Option<DeclaredSet> {
    DECLARED.with_borrow_mut(|declared| {
        let (owner, _) = declared.sets.get(&upload)?;
        if owner != tenant {
            return None;
        }
        let (_, set) = declared.sets.remove(&upload)?;
        declared.files -= set.files.len();
        Some(set)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use uuid::Uuid;

    const ATTACHMENT: &str = "0198f7d0-1111-7aaa-8bbb-000000000002";

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    fn id(n: usize) -> UploadId {
        UploadId(Uuid::from_u128(n as u128))
    }

    fn set(files: usize) -> DeclaredSet {
        let file = json!({
            "attachment_id": ATTACHMENT,
            "name": "a.txt",
            "media_type": "text/plain",
            "size": 1,
            "sha256": "0".repeat(64),
            "object_key": format!("t/acme/post/1/{ATTACHMENT}.txt"),
        });
        DeclaredSet {
            files: vec![serde_json::from_value(file).unwrap(); files],
            expires_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn gives_a_set_to_its_tenant_and_once() {
        remember(&tenant("acme"), id(1), set(2));
        assert!(take(&tenant("other"), id(1)).is_none());
        assert!(take(&tenant("acme"), id(2)).is_none());
        assert_eq!(take(&tenant("acme"), id(1)).unwrap().files.len(), 2);
        assert!(take(&tenant("acme"), id(1)).is_none());
    }

    #[test]
    fn keeps_so_many_files_and_forgets_the_oldest() {
        // Declared again, by the same key.
        remember(&tenant("acme"), id(0), set(100));
        for n in 0..=MAX_FILES / 100 {
            remember(&tenant("acme"), id(n), set(100));
        }
        assert!(take(&tenant("acme"), id(0)).is_none());
        for n in 1..=MAX_FILES / 100 {
            assert!(take(&tenant("acme"), id(n)).is_some(), "{n}");
        }
        DECLARED.with_borrow(|declared| {
            assert_eq!((declared.sets.len(), declared.files), (0, 0));
        });
    }
}
