//! Files in `incoming/`, each of which one upload has to itself until it is moved to its place.

use super::{folder::Folder, folders::Folders};
use std::{fs::File, io, sync::Arc};

/// How many uploads of the same object or part are taken in at a time. More than one, for who lost a connection sends again
/// before the server knows of the loss.
const PLACES: u32 = 2;

/// A file in `incoming/` that nobody else has.
#[derive(Debug)]
pub(super) struct Incoming {
    name: String,
    folders: Arc<Folders>,
    is_gone: bool,
    /// The same file, so that it is held until it is moved or removed.
    _held: File,
}

impl Incoming {
    /// The first place of a target that is free, if any is.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn any(folders: &Arc<Folders>, target: &str) -> io::Result<Option<(Self, File)>> {
        for place in 0..PLACES {
            let held = Self::create(folders, format!("{target}.{place}"))?;
            if held.is_some() {
                return Ok(held);
            }
        }
        Ok(None)
    }

    /// `None` while somebody has it.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn create(folders: &Arc<Folders>, name: String) -> io::Result<Option<(Self, File)>> {
        let Some(file) = folders.incoming.hold(&name)? else {
            return Ok(None);
        };
        let incoming = Self {
            name,
            folders: Arc::clone(folders),
            is_gone: false,
            _held: file.try_clone()?,
        };
        Ok(Some((incoming, file)))
    }

    /// Moves it to the place of an object; whether that was free.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn place(mut self, key: &str) -> io::Result<bool> {
        let Folders {
            incoming, objects, ..
        } = &*self.folders;
        match incoming.move_to(&self.name, objects, key) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            moved => {
                moved?;
                self.is_gone = true;
                Ok(true)
            }
        }
    }

    /// Moves it to the place of a part.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn replace(mut self, target: &Folder, name: &str) -> io::Result<()> {
        self.folders.incoming.replace(&self.name, target, name)?;
        self.is_gone = true;
        Ok(())
    }

    /// Removes it.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn discard(mut self) -> io::Result<()> {
        self.is_gone = true;
        self.folders.incoming.remove(&self.name)
    }
}

impl Drop for Incoming {
    /// After it was moved or removed its name may be somebody else's. What cannot be removed now is tidied later.
    fn drop(&mut self) {
        if !self.is_gone {
            let _ = self.folders.incoming.remove(&self.name);
        }
    }
}
