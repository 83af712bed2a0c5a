//! The upload sets that this isolate declared: one that is completed where it was declared need not be looked up first.
//! What is kept never changes once it is declared. Whether the set may still be completed, and by whom, the database
//! decides.

use crate::model::DeclaredFile;
use keepsake_shared::{TenantId, UploadId};
use std::{cell::RefCell, collections::BTreeMap};
use time::OffsetDateTime;

/// Most files kept, of all sets together: about two megabytes. The oldest sets are dropped first.
const MAX_FILES: usize = 4096;

/// A set none of whose files is uploaded in parts.
#[derive(Debug, Clone)]
pub(crate) struct RecentSet {
    /// Its files, in order.
    pub(crate) files: Vec<DeclaredFile>,
    /// When its time is over.
    pub(crate) expires_at: OffsetDateTime,
}

#[derive(Default)]
struct Recent {
    /// In the order of their ids, which is that of time (RFC 9562 §5.7).
    sets: BTreeMap<UploadId, (TenantId, RecentSet)>,
    files: usize,
}

thread_local! {
    static RECENT: RefCell<Recent> = RefCell::default();
}

/// Keeps a set.
pub(crate) fn remember(tenant: &TenantId, upload: UploadId, set: RecentSet) {
    RECENT.with_borrow_mut(|recent| {
        recent.files += set.files.len();
        let before = recent.sets.insert(upload, (tenant.clone(), set));
        recent.files -= before.map_or(0, |(_, set)| set.files.len());
        while recent.files > MAX_FILES
            && let Some((_, (_, oldest))) = recent.sets.pop_first()
        {
            recent.files -= oldest.files.len();
        }
    });
}

/// Takes the tenant's set of this id out.
pub(crate) fn take(tenant: &TenantId, upload: UploadId) -> Option<RecentSet> {
    RECENT.with_borrow_mut(|recent| {
        let (owner, _) = recent.sets.get(&upload)?;
        if owner != tenant {
            return None;
        }
        let (_, set) = recent.sets.remove(&upload)?;
        recent.files -= set.files.len();
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

    fn set(files: usize) -> RecentSet {
        let file = json!({
            "attachment_id": ATTACHMENT,
            "name": "a.txt",
            "media_type": "text/plain",
            "size": 1,
            "sha256": "0".repeat(64),
            "object_key": format!("t/acme/post/1/{ATTACHMENT}.txt"),
        });
        RecentSet {
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
        // Declared again, with the same key.
        remember(&tenant("acme"), id(0), set(100));
        for n in 0..=MAX_FILES / 100 {
            remember(&tenant("acme"), id(n), set(100));
        }
        assert!(take(&tenant("acme"), id(0)).is_none());
        for n in 1..=MAX_FILES / 100 {
            assert!(take(&tenant("acme"), id(n)).is_some(), "{n}");
        }
        RECENT.with_borrow(|recent| {
            assert_eq!((recent.sets.len(), recent.files), (0, 0));
        });
    }
}
