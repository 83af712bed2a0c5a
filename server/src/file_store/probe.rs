//! Whether a file could be stored now: found out by what an upload does, short of making an object.

use super::{folders::Folders, incoming::Incoming};
use keepsake_service::storage::StorageError;
use std::{
    io::{self, Write},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::Mutex, time::Instant};
use uuid::Uuid;

/// As large as a block of the disk, so that it needs one.
const BYTES: [u8; 4096] = [0; 4096];

/// How long an outcome stands. Anybody may ask, and each time the disk would have to write.
const MAX_AGE: Duration = Duration::from_secs(1);

/// The last outcome, and when that was.
#[derive(Debug, Default)]
pub(super) struct Probe(Mutex<Option<(Instant, Result<(), StorageError>)>>);

impl Probe {
    /// The outcome of this moment. Those who ask meanwhile wait for the same.
    pub(super) async fn outcome(&self, folders: &Arc<Folders>) -> Result<(), StorageError> {
        let mut last = self.0.lock().await;
        if let Some((at, outcome)) = &*last
            && at.elapsed() < MAX_AGE
        {
            return outcome.clone();
        }
        let outcome = folders.blocking("probe", probe).await;
        *last = Some((Instant::now(), outcome.clone()));
        outcome
    }
}

/// 1. The folders that are held open are still those of the root, and can be written to.
/// 2. A file is brought to the disk, and removed.
///
/// # Errors
/// The operating system's, or another folder stands in the place of one.
fn probe(folders: &Arc<Folders>) -> io::Result<()> {
    folders.are_in_place()?;
    let name = format!("probe-{}", Uuid::new_v4());
    let Some((incoming, mut file)) = Incoming::create(folders, name)? else {
        return Err(io::Error::other("a new file is held by somebody else"));
    };
    file.write_all(&BYTES)?;
    file.sync_all()?;
    incoming.discard()
}

#[cfg(test)]
mod tests {
    use super::{super::folders::failed, *};
    use std::{fs, path::PathBuf};

    struct Scratch(PathBuf, Arc<Folders>);

    impl Scratch {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("keepsake-probe-{}", Uuid::new_v4()));
            let folders = Folders::open(&path.join("root")).unwrap();
            Self(path, folders)
        }

        fn probe(&self) -> Result<(), String> {
            probe(&self.1).map_err(|error| failed("probe", &error).0)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn leaves_nothing() {
        let scratch = Scratch::new();
        scratch.probe().unwrap();
        for folder in ["incoming", "objects", "parts"] {
            let found = fs::read_dir(scratch.0.join("root").join(folder)).unwrap();
            assert_eq!(found.count(), 0, "{folder}");
        }
    }

    #[test]
    fn notices_folders_that_are_gone_or_others() {
        for folder in ["", "incoming", "objects", "parts"] {
            let scratch = Scratch::new();
            let path = scratch.0.join("root").join(folder);
            let moved = scratch.0.join("moved");
            fs::rename(&path, &moved).unwrap();
            assert!(scratch.probe().is_err(), "{folder} is gone");
            fs::create_dir_all(&path).unwrap();
            for below in ["incoming", "objects", "parts"] {
                let _ = fs::create_dir(path.join(below));
            }
            let told = scratch.probe().unwrap_err();
            assert!(told.contains("another folder"), "{folder}: {told}");
            fs::remove_dir_all(&path).unwrap();
            fs::rename(&moved, &path).unwrap();
            scratch.probe().unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outcome_stands_for_a_moment() {
        let scratch = Scratch::new();
        let probe = Probe::default();
        probe.outcome(&scratch.1).await.unwrap();
        fs::remove_dir_all(scratch.0.join("root/incoming")).unwrap();
        probe.outcome(&scratch.1).await.unwrap();
        tokio::time::advance(MAX_AGE).await;
        probe.outcome(&scratch.1).await.unwrap_err();
    }
}
