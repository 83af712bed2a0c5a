//! The folders below a root, and the work on them that may wait for the disk.

use super::folder::{Folder, split};
use keepsake_service::storage::StorageError;
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::task::spawn_blocking;

/// How old a file in `incoming/` is that no upload works on any more: none takes longer than its URL works.
const MAX_INCOMING_AGE: Duration = Duration::from_secs(6 * 3600);

/// What lies under a root.
#[derive(Debug)]
pub(super) struct Folders {
    /// Each object under its key.
    pub(super) objects: Folder,
    /// A folder of parts for each multipart upload.
    pub(super) parts: Folder,
    /// What is being received or joined.
    pub(super) incoming: Folder,
    root: Folder,
    path: PathBuf,
}

impl Folders {
    /// Opens a root, and makes it if it is missing.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn open(path: &Path) -> io::Result<Arc<Self>> {
        let root = Folder::root(path)?;
        Ok(Arc::new(Self {
            objects: root.make("objects")?,
            parts: root.make("parts")?,
            incoming: root.make("incoming")?,
            root,
            // It means the same wherever the process goes.
            path: std::path::absolute(path)?,
        }))
    }

    /// Whether the folders that are held open are those that stand below the root now, and can be written to. Whoever removes or
    /// replaces one, or mounts something over it, leaves this server with folders that nobody else sees.
    ///
    /// # Errors
    /// The operating system's, or another folder stands in the place of one.
    pub(super) fn are_in_place(&self) -> io::Result<()> {
        let of_root = self.root.is_at(&self.path)?;
        for (name, folder) in [
            ("objects", &self.objects),
            ("parts", &self.parts),
            ("incoming", &self.incoming),
        ] {
            if !of_root || !self.root.has(name, folder)? {
                return Err(io::Error::other(
                    "another folder stands in the place of the one that this server opened: start it again",
                ));
            }
            folder.check_writable()?;
        }
        Ok(())
    }

    /// Removes what servers left behind that stopped in the middle of an upload.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn tidy(&self) -> io::Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default();
        for entry in self.incoming.entries()? {
            let changed = self.incoming.changed(&entry.name).unwrap_or(i64::MAX);
            let age = now.saturating_sub(Duration::from_secs(changed.unsigned_abs()));
            if age > MAX_INCOMING_AGE {
                self.incoming.remove(&entry.name)?;
            }
        }
        Ok(())
    }

    /// The file of a key; `None` when there is none.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn object(&self, key: &str) -> io::Result<Option<File>> {
        let (names, last) = split(key);
        let found = self.objects.descend(names);
        match found.and_then(|folder| folder.read(last)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Does what may wait for the disk. Once begun, it ends even when nobody waits for it any more.
    ///
    /// # Errors
    /// The operating system's, named after the operation.
    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        work: impl FnOnce(&Arc<Self>) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let folders = Arc::clone(self);
        match spawn_blocking(move || work(&folders)).await {
            Ok(done) => done.map_err(|error| failed(operation, &error)),
            Err(_) => Err(StorageError(format!("file {operation}: it was broken off"))),
        }
    }
}

/// What the log says of an operation that failed.
pub(super) fn failed(operation: &str, error: &io::Error) -> StorageError {
    let what = match error.kind() {
        io::ErrorKind::StorageFull => "the disk is full",
        io::ErrorKind::QuotaExceeded => "the disk quota is used up",
        _ => "",
    };
    let separator = if what.is_empty() { "" } else { ": " };
    StorageError(format!("file {operation}: {what}{separator}{error}"))
}
