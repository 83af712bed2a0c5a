//! The upload sets that this process or isolate declared: one that is completed where it was declared need not be looked up
//! first.
//! What is kept never changes once it is declared. Whether the set may still be completed, and by whom, the database
//! decides.

use crate::model::DeclaredFile;
use keepsake_shared::{TenantId, UploadId};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
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

struct Recent {
    /// In the order of their ids, which is that of time (RFC 9562 §5.7).
    sets: BTreeMap<UploadId, (TenantId, RecentSet)>,
    files: usize,
}

/// One for all threads: the next request of a client may be on another one.
static RECENT: Mutex<Recent> = Mutex::new(Recent::new());

/// Keeps a set.
pub(crate) fn remember(tenant: &TenantId, upload: UploadId, set: RecentSet) {
    recent().remember(tenant, upload, set);
}

/// Takes the tenant's set of this id out.
pub(crate) fn take(tenant: &TenantId, upload: UploadId) -> Option<RecentSet> {
    recent().take(tenant, upload)
}

fn recent() -> MutexGuard<'static, Recent> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recent {
    const fn new() -> Self {
        Self {
            sets: BTreeMap::new(),
            files: 0,
        }
    }

    fn remember(&mut self, tenant: &TenantId, upload: UploadId, set: RecentSet) {
        self.files += set.files.len();
        let before = self.sets.insert(upload, (tenant.clone(), set));
        self.files -= before.map_or(0, |(_, set)| set.files.len());
        while self.files > MAX_FILES
            && let Some((_, (_, oldest))) = self.sets.pop_first()
        {
            self.files -= oldest.files.len();
        }
    }

    fn take(&mut self, tenant: &TenantId, upload: UploadId) -> Option<RecentSet> {
        let (owner, _) = self.sets.get(&upload)?;
        if owner != tenant {
            return None;
        }
        let (_, set) = self.sets.remove(&upload)?;
        self.files -= set.files.len();
        Some(set)
    }
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
        let mut recent = Recent::new();
        recent.remember(&tenant("acme"), id(1), set(2));
        assert!(recent.take(&tenant("other"), id(1)).is_none());
        assert!(recent.take(&tenant("acme"), id(2)).is_none());
        assert_eq!(recent.take(&tenant("acme"), id(1)).unwrap().files.len(), 2);
        assert!(recent.take(&tenant("acme"), id(1)).is_none());
    }

    #[test]
    fn keeps_so_many_files_and_forgets_the_oldest() {
        let mut recent = Recent::new();
        // Declared again, with the same key.
        recent.remember(&tenant("acme"), id(0), set(100));
        for n in 0..=MAX_FILES / 100 {
            recent.remember(&tenant("acme"), id(n), set(100));
        }
        assert!(recent.take(&tenant("acme"), id(0)).is_none());
        for n in 1..=MAX_FILES / 100 {
            assert!(recent.take(&tenant("acme"), id(n)).is_some(), "{n}");
        }
        assert_eq!((recent.sets.len(), recent.files), (0, 0));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the native server has threads")]
    fn a_set_is_taken_from_whichever_thread() {
        remember(&tenant("threads"), id(9), set(1));
        let other = std::thread::spawn(|| take(&tenant("threads"), id(9)).is_some());
        assert!(other.join().unwrap());
    }
}
