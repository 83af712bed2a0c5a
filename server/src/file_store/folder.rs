//! Files and folders below a root, and no way out of it.

use rustix::{
    fd::OwnedFd,
    fs::{
        Access, AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat,
        XattrFlags, accessat, fgetxattr, flock, fsetxattr, fstat, fsync, mkdirat, openat, renameat,
        renameat_with, stat, statat, unlinkat,
    },
    io::Errno,
};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// How often a file is moved whose folder was removed meanwhile, because it was empty, and how often one is opened that was
/// moved away meanwhile.
const ATTEMPTS: u32 = 5;

/// Only the server's user reads what it stores.
const FOLDER_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Where a file's SHA-256 stands beside it, if the file system keeps such attributes.
const DIGEST: &str = "user.keepsake.sha256";

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder(OwnedFd);

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name.
    pub(super) name: String,
    /// Whether it is a folder.
    pub(super) is_folder: bool,
}

impl Folder {
    /// Opens the root, which may be given through links, and makes it if it is missing.
    pub(super) fn root(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(openat(CWD, path, flags, Mode::empty())?))
    }

    /// Whether it is what stands at a path.
    pub(super) fn is_at(&self, path: &Path) -> io::Result<bool> {
        Ok(is_one(&stat(path)?, &fstat(&self.0)?))
    }

    /// Whether it is what has this name in this one.
    pub(super) fn has(&self, name: &str, folder: &Self) -> io::Result<bool> {
        self.is_named(name, &folder.0)
    }

    /// Whether files can be made in it. A disk that can only be read is told apart, and rights where the user has no more than
    /// those.
    pub(super) fn check_writable(&self) -> io::Result<()> {
        let access = Access::WRITE_OK | Access::EXEC_OK;
        Ok(accessat(&self.0, ".", access, AtFlags::empty())?)
    }

    /// The folder of this name in this one. A link is refused.
    pub(super) fn open(&self, name: &str) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(openat(&self.0, plain(name)?, flags, Mode::empty())?))
    }

    /// The same, made if it is missing. Its name is on the disk then.
    pub(super) fn make(&self, name: &str) -> io::Result<Self> {
        match self.open(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        match mkdirat(&self.0, plain(name)?, FOLDER_MODE) {
            Ok(()) => self.sync()?,
            // Somebody else was quicker.
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        self.open(name)
    }

    /// The folder of a path of names.
    pub(super) fn descend<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> io::Result<Self> {
        let mut folder = Self(self.0.try_clone()?);
        for name in names {
            folder = folder.open(name)?;
        }
        Ok(folder)
    }

    fn make_path<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> io::Result<Self> {
        let mut folder = Self(self.0.try_clone()?);
        for name in names {
            folder = folder.make(name)?;
        }
        Ok(folder)
    }

    /// An empty file that no other process and no other caller has while it is open; `None` while somebody has it.
    pub(super) fn hold(&self, name: &str) -> io::Result<Option<File>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..ATTEMPTS {
            let file = openat(&self.0, plain(name)?, flags, FILE_MODE)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Ok(None),
                locked => locked?,
            }
            // Whoever had it before may have moved it away, and then it is no longer to be written.
            if self.is_named(name, &file)? {
                let file = File::from(file);
                file.set_len(0)?;
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    fn is_named(&self, name: &str, file: &OwnedFd) -> io::Result<bool> {
        let open = fstat(file)?;
        match statat(&self.0, plain(name)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => Ok(is_one(&named, &open)),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A file to be read. What is no plain file is refused, and never waited for.
    pub(super) fn read(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&self.0, plain(name)?, flags, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::RegularFile {
            Ok(file.into())
        } else {
            Err(io::Error::other("it is no plain file"))
        }
    }

    /// Moves the file `name` of this folder below `target`, whose folders are made. Nothing is overwritten: then, the error
    /// is [`io::ErrorKind::AlreadyExists`]. The place is on the disk afterwards.
    pub(super) fn move_to(&self, name: &str, target: &Self, path: &str) -> io::Result<()> {
        let (folders, last) = split(path);
        let mut attempt = 1;
        loop {
            let moved = target.make_path(folders.clone()).and_then(|folder| {
                rename_new(&self.0, plain(name)?, &folder.0, plain(last)?)?;
                folder.sync()
            });
            match moved {
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => {
                    attempt += 1;
                }
                moved => return moved,
            }
        }
    }

    /// Moves the file `name` of this folder into `target`, in place of what has that name.
    pub(super) fn replace(&self, name: &str, target: &Self, new_name: &str) -> io::Result<()> {
        renameat(&self.0, plain(name)?, &target.0, plain(new_name)?)?;
        target.sync()
    }

    /// Removes a file. One that is not there counts as removed.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        ignore_missing(unlinkat(&self.0, plain(name)?, AtFlags::empty()))
    }

    /// Removes a folder if it is empty.
    pub(super) fn remove_empty(&self, name: &str) {
        // What is put into it meanwhile keeps it.
        let _ = plain(name).map(|name| unlinkat(&self.0, name, AtFlags::REMOVEDIR));
    }

    /// Removes a folder of files. One that is not there counts as removed.
    pub(super) fn remove_files(&self, name: &str) -> io::Result<()> {
        let folder = match self.open(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            folder => folder?,
        };
        for entry in folder.entries()? {
            folder.remove(&entry.name)?;
        }
        ignore_missing(unlinkat(&self.0, plain(name)?, AtFlags::REMOVEDIR))?;
        self.sync()
    }

    /// What is in it: files and folders. Links and what else there may be are left out.
    pub(super) fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if matches!(name, "." | "..") {
                continue;
            }
            let is_folder = match self.kind(name, entry.file_type())? {
                Some(FileType::Directory) => true,
                Some(FileType::RegularFile) => false,
                _ => continue,
            };
            let name = name.to_owned();
            entries.push(Entry { name, is_folder });
        }
        Ok(entries)
    }

    /// What an entry is, which not every file system tells with its name; `None` when it has gone meanwhile.
    fn kind(&self, name: &str, told: FileType) -> io::Result<Option<FileType>> {
        if told != FileType::Unknown {
            return Ok(Some(told));
        }
        match statat(&self.0, plain(name)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Brings the names in it to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(fsync(&self.0)?)
    }

    /// When a file was last changed, in seconds since 1970.
    pub(super) fn changed(&self, name: &str) -> io::Result<i64> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let found = statat(&self.0, plain(name)?, flags)?;
        Ok(found.st_mtime as i64)
    }
}

fn is_one(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// Keeps a file's digest beside it, where the file system can; elsewhere the bytes are read when it is asked for.
pub(super) fn keep_digest(file: &File, digest: &[u8; 32]) {
    let _ = fsetxattr(file, DIGEST, digest, XattrFlags::empty());
}

/// The digest that was kept.
pub(super) fn kept_digest(file: &File) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let length = fgetxattr(file, DIGEST, &mut digest[..]).ok()?;
    (length == digest.len()).then_some(digest)
}

/// `length` bytes from `offset`, fewer at the end.
pub(super) fn piece(mut file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset))?;
    file.take(length as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The folders of a key, and its last name.
pub(super) fn split(path: &str) -> (std::str::Split<'_, char>, &str) {
    match path.rsplit_once('/') {
        Some((folders, last)) => (folders.split('/'), last),
        None => {
            let mut none = path.split('/');
            none.next();
            (none, path)
        }
    }
}

/// A name that means one entry of a folder and no other place. What it is made of is checked long before; this is the last
/// gate.
fn plain(name: &str) -> io::Result<&str> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no name of a file",
        ))
    } else {
        Ok(name)
    }
}

/// Renames, but over nothing. Some file systems cannot do this in one step; a second name that is made before the first is
/// removed comes to the same.
fn rename_new(from: &OwnedFd, name: &str, to: &OwnedFd, new_name: &str) -> Result<(), Errno> {
    match renameat_with(from, name, to, new_name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::linkat(from, name, to, new_name, AtFlags::empty())?;
            unlinkat(from, name, AtFlags::empty())
        }
        renamed => renamed,
    }
}

fn ignore_missing(outcome: Result<(), Errno>) -> io::Result<()> {
    match outcome {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, os::unix::fs::symlink};

    /// A folder that is removed when it is dropped.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new() -> Self {
            let name = format!("keepsake-folder-{}", uuid::Uuid::new_v4());
            Self(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn nothing_leads_out_of_the_root() {
        let scratch = Scratch::new();
        let root = Folder::root(&scratch.0.join("root")).unwrap();
        std::fs::create_dir(scratch.0.join("outside")).unwrap();
        std::fs::write(scratch.0.join("outside/secret"), "s").unwrap();
        symlink("../outside", scratch.0.join("root/link")).unwrap();
        symlink("../outside/secret", scratch.0.join("root/file")).unwrap();
        for name in ["..", ".", "", "a/b", "/etc", "link", "a\0b"] {
            assert!(root.open(name).is_err(), "{name}");
            assert!(root.make(name).is_err(), "{name}");
        }
        for name in [
            "file",
            "..",
            "/etc/passwd",
            "link/secret",
            "../outside/secret",
        ] {
            assert!(root.read(name).is_err(), "{name}");
            assert!(root.hold(name).is_err(), "{name}");
        }
        assert_eq!(root.entries().unwrap(), []);
    }

    #[test]
    fn what_is_no_plain_file_is_not_waited_for() {
        let scratch = Scratch::new();
        let root = Folder::root(&scratch.0).unwrap();
        rustix::fs::mknodat(&root.0, "pipe", FileType::Fifo, FILE_MODE, 0).unwrap();
        assert!(root.read("pipe").is_err());
    }

    #[test]
    fn a_file_is_moved_over_nothing() {
        let scratch = Scratch::new();
        let root = Folder::root(&scratch.0).unwrap();
        for text in ["first", "second"] {
            let mut file = root.hold(text).unwrap().unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
        root.move_to("first", &root, "a/b/c").unwrap();
        let again = root.move_to("second", &root, "a/b/c").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        let kept = root.descend(["a", "b"]).unwrap().read("c").unwrap();
        assert_eq!(piece(&kept, 1, 3).unwrap(), b"irs");
    }

    #[test]
    fn a_file_is_held_by_one_and_never_written_after_it_was_moved() {
        let scratch = Scratch::new();
        let root = Folder::root(&scratch.0).unwrap();
        let mut first = root.hold("name").unwrap().unwrap();
        first.write_all(b"first").unwrap();
        assert!(root.hold("name").unwrap().is_none());
        root.move_to("name", &root, "a/b").unwrap();
        // The name is free again, though the file is still held.
        let second = root.hold("name").unwrap().unwrap();
        let moved = root.descend(["a"]).unwrap().read("b").unwrap();
        assert_eq!(piece(&moved, 0, 9).unwrap(), b"first");
        drop(second);
        // What a process that was killed left is written anew.
        std::fs::write(scratch.0.join("left"), "half").unwrap();
        let anew = root.hold("left").unwrap().unwrap();
        assert_eq!(anew.metadata().unwrap().len(), 0);
    }

    #[test]
    fn what_a_file_system_does_not_tell_of_an_entry_is_asked() {
        let scratch = Scratch::new();
        let root = Folder::root(&scratch.0).unwrap();
        root.make("folder").unwrap();
        root.hold("file").unwrap();
        symlink("folder", scratch.0.join("link")).unwrap();
        let asked = |name| root.kind(name, FileType::Unknown).unwrap();
        assert_eq!(asked("folder"), Some(FileType::Directory));
        assert_eq!(asked("file"), Some(FileType::RegularFile));
        assert_eq!(asked("link"), Some(FileType::Symlink));
        assert_eq!(asked("gone"), None);
    }
}
