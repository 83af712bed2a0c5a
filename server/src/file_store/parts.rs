//! Large files: their parts, and joining them.

use super::{
    digest::sha256,
    folder::{Folder, keep_digest},
    folders::Folders,
    incoming::Incoming,
    waiting::{MAX_WAIT, PAUSE},
};
use keepsake_service::{model::StoredPart, storage::StorageError};
use sha2::{Digest, Sha256};
use std::{fs::File, io, sync::Arc, time::Duration};
use tokio::time::sleep;

/// Joins parts as an object, or waits until another request has.
///
/// # Errors
/// The other takes too long, or the disk's.
pub(super) async fn join(folders: &Arc<Folders>, join: Join) -> Result<(), StorageError> {
    let join = Arc::new(join);
    let mut waited = Duration::ZERO;
    loop {
        let wanted = Arc::clone(&join);
        let done = folders.blocking("join", move |folders| wanted.run(folders));
        if done.await? {
            return Ok(());
        }
        if waited >= MAX_WAIT {
            let cause = "file join: another request still joins these parts";
            return Err(StorageError(cause.to_owned()));
        }
        sleep(PAUSE).await;
        waited += PAUSE;
    }
}

/// Parts to be joined as an object.
pub(super) struct Join {
    /// The object's key.
    pub(super) key: String,
    /// The bucket's id of the multipart upload.
    pub(super) id: String,
    /// Its parts, in order.
    pub(super) parts: Vec<StoredPart>,
}

impl Join {
    /// Joins them in one go, so that it ends even when the client stops waiting, and nothing is copied twice. Whether it is
    /// done: not while another request does it.
    ///
    /// 1. Parts that are gone were joined or aborted before.
    /// 2. Put them together as a file that is on the disk, unless the object is there already.
    /// 3. Move it to its place.
    /// 4. Remove the parts.
    fn run(&self, folders: &Arc<Folders>) -> io::Result<bool> {
        let Some((incoming, whole)) = Incoming::create(folders, self.id.clone())? else {
            return Ok(false);
        };
        let folder = match folders.parts.open(&self.id) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            folder => folder?,
        };
        if folders.object(&self.key)?.is_none() {
            if !self.copy(&folder, whole)? {
                return Ok(true);
            }
            incoming.place(&self.key)?;
        }
        folders.parts.remove_files(&self.id)?;
        Ok(true)
    }

    /// Whether all are there.
    fn copy(&self, folder: &Folder, mut whole: File) -> io::Result<bool> {
        let mut digest = Sha256::new();
        for part in &self.parts {
            let file = match folder.read(&part_name(part.number, &part.etag)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                file => file?,
            };
            if sha256(file, Some(&mut whole), &mut digest)? != part.size {
                return Err(io::Error::other("a part has another length"));
            }
        }
        keep_digest(&whole, &digest.finalize().into());
        whole.sync_all()?;
        Ok(true)
    }
}

/// A part is known by its number and its digest, so that one which takes the place of another is not mistaken for it.
pub(super) fn part_name(number: u16, etag: &str) -> String {
    format!("{number}-{etag}")
}

/// Removes the parts of this number but this one: the latest takes the place of those before, and of their room on the disk.
///
/// # Errors
/// The operating system's.
pub(super) fn remove_others(folder: &Folder, number: u16, name: &str) -> io::Result<()> {
    let of_number = format!("{number}-");
    for entry in folder.entries()? {
        if entry.name.starts_with(&of_number) && entry.name != name {
            folder.remove(&entry.name)?;
        }
    }
    Ok(())
}
