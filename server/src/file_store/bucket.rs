//! The service's store by files.

use super::folder::{Folder, keep_digest, kept_digest, piece, split};
use axum::body::Body;
use futures_util::TryStreamExt;
use http_body_util::BodyExt;
use keepsake_service::{
    model::{DeclaredFile, Multipart, StoredPart},
    runtime::{Content, Task},
    storage::{Bucket, Download, Listing, Part, PutError, Storage, StorageError, StoredObject},
};
use keepsake_shared::{MediaType, ObjectKey, Sha256Digest};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};
use time::{OffsetDateTime, macros::format_description};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::spawn_blocking,
};
use tokio_util::io::ReaderStream;
use uuid::Uuid;

/// How much of a file is read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// How old a file in `incoming/` is that no upload works on any more: none takes longer than its URL works.
const MAX_INCOMING_AGE: Duration = Duration::from_secs(6 * 3600);

/// A bucket in a folder.
#[derive(Debug, Clone)]
pub(crate) struct FileStore(Arc<Folders>);

#[derive(Debug)]
struct Folders {
    objects: Folder,
    parts: Folder,
    incoming: Folder,
}

impl FileStore {
    /// Opens a root, and makes it if it is missing.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let root = Folder::root(root)?;
        Ok(Self(Arc::new(Folders {
            objects: root.make("objects")?,
            parts: root.make("parts")?,
            incoming: root.make("incoming")?,
        })))
    }

    /// Removes what servers left behind that stopped in the middle of an upload.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) async fn tidy(&self) -> Result<(), StorageError> {
        self.blocking("tidy", |folders| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let now = now.unwrap_or_default();
            for entry in folders.incoming.entries()? {
                let changed = folders.incoming.changed(&entry.name).unwrap_or(i64::MAX);
                let age = now.saturating_sub(Duration::from_secs(changed.unsigned_abs()));
                if age > MAX_INCOMING_AGE {
                    folders.incoming.remove(&entry.name)?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Does what may wait for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Folders) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let folders = Arc::clone(&self.0);
        match spawn_blocking(move || work(&folders)).await {
            Ok(done) => done.map_err(|error| failed(operation, &error)),
            Err(_) => Err(StorageError(format!("file {operation}: it was broken off"))),
        }
    }

    /// Takes bytes in, as a file of its own that is on the disk. It is removed when it is dropped without being moved.
    async fn receive(
        &self,
        content: Content,
        size: u64,
        sha256: &Sha256Digest,
    ) -> Result<Incoming, PutError> {
        let (incoming, file) = self
            .blocking("create", |folders| Incoming::create(&folders.incoming))
            .await
            .map_err(PutError::Failed)?;
        let incoming = incoming.of(self);
        let mut file = tokio::fs::File::from_std(file);
        let (mut body, mut seen, mut digest) = (content.body, 0, Sha256::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                PutError::Failed(StorageError(format!("the client broke off: {error}")))
            })?;
            let bytes = frame.into_data().unwrap_or_default();
            seen += bytes.len() as u64;
            if seen > size {
                return Err(PutError::LengthMismatch);
            }
            digest.update(&bytes);
            let written = file.write_all(&bytes).await;
            written.map_err(|error| PutError::Failed(failed("write", &error)))?;
        }
        if seen != size {
            return Err(PutError::LengthMismatch);
        }
        let digest: [u8; 32] = digest.finalize().into();
        if digest != *sha256.as_bytes() {
            return Err(PutError::Sha256Mismatch);
        }
        let flushed = file.flush().await;
        flushed.map_err(|error| PutError::Failed(failed("write", &error)))?;
        let file = file.into_std().await;
        self.blocking("sync", move |_| {
            keep_digest(&file, &digest);
            file.sync_all()
        })
        .await
        .map_err(PutError::Failed)?;
        Ok(incoming)
    }

    /// Moves what was taken in to its place.
    async fn place(&self, incoming: Incoming, key: &ObjectKey) -> Result<(), PutError> {
        let key = key.as_str().to_owned();
        let moved = self.blocking("move", move |folders| {
            match folders
                .incoming
                .move_to(&incoming.name, &folders.objects, &key)
            {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                moved => moved.map(|()| true),
            }
        });
        match moved.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(PutError::Exists),
            Err(error) => Err(PutError::Failed(error)),
        }
    }

    async fn look(&self, key: &ObjectKey) -> Result<Option<(File, Found)>, StorageError> {
        let key = key.as_str().to_owned();
        self.blocking("open", move |folders| match object(folders, &key)? {
            Some(file) => {
                let found = Found::of(&file)?;
                Ok(Some((file, found)))
            }
            None => Ok(None),
        })
        .await
    }
}

/// A file in `incoming/`.
#[derive(Debug)]
struct Incoming {
    name: String,
    store: Option<FileStore>,
}

impl Incoming {
    fn create(folder: &Folder) -> io::Result<(Self, File)> {
        let name = Uuid::new_v4().to_string();
        let file = folder.create(&name)?;
        Ok((Self { name, store: None }, file))
    }

    fn of(mut self, store: &FileStore) -> Self {
        self.store = Some(store.clone());
        self
    }
}

impl Drop for Incoming {
    /// After it was moved there is nothing of this name any more. What cannot be removed now is tidied later.
    fn drop(&mut self) {
        if let Some(FileStore(folders)) = &self.store {
            let _ = folders.incoming.remove(&self.name);
        }
    }
}

/// What a file tells of itself.
#[derive(Debug, Clone)]
struct Found {
    size: u64,
    sha256: Option<Sha256Digest>,
    stored: SystemTime,
}

impl Found {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            size: metadata.len(),
            sha256: kept_digest(file).map(Sha256Digest::from_bytes),
            stored: metadata.modified()?,
        })
    }

    /// An object never changes under its key, so that what it is may as well be told by when it was stored.
    fn etag(&self) -> String {
        match &self.sha256 {
            Some(digest) => format!("\"{}\"", &digest.to_hex()[..32]),
            None => {
                let stored = self.stored.duration_since(SystemTime::UNIX_EPOCH);
                let stored = stored.map_or(0, |stored| stored.as_nanos());
                format!("\"{:x}-{stored:x}\"", self.size)
            }
        }
    }

    /// As RFC 9110 §5.6.7 wants it.
    fn modified(&self) -> String {
        let form = format_description!(
            "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
        );
        let stored = OffsetDateTime::from(self.stored);
        stored.format(form).unwrap_or_default()
    }

    fn download(self, content: Option<Content>) -> Download {
        Download {
            size: self.size,
            etag: self.etag(),
            modified: self.modified(),
            content,
        }
    }
}

/// The file of a key; `None` when there is none.
fn object(folders: &Folders, key: &str) -> io::Result<Option<File>> {
    let (names, last) = split(key);
    let found = folders
        .objects
        .descend(names)
        .and_then(|folder| folder.read(last));
    match found {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn sha256(mut file: File, mut copy: Option<&mut File>, digest: &mut Sha256) -> io::Result<u64> {
    let (mut buffer, mut total) = (vec![0; CHUNK_BYTES], 0);
    loop {
        let length = file.read(&mut buffer)?;
        let bytes = buffer.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(total);
        }
        digest.update(bytes);
        if let Some(copy) = &mut copy {
            copy.write_all(bytes)?;
        }
        total += length as u64;
    }
}

fn failed(operation: &str, error: &io::Error) -> StorageError {
    let what = match error.kind() {
        io::ErrorKind::StorageFull => "the disk is full",
        io::ErrorKind::QuotaExceeded => "the disk quota is used up",
        _ => "",
    };
    let separator = if what.is_empty() { "" } else { ": " };
    StorageError(format!("file {operation}: {what}{separator}{error}"))
}

impl Storage for FileStore {
    fn observe<'a>(
        &'a self,
        key: &'a ObjectKey,
        head: usize,
    ) -> Task<'a, Result<Option<StoredObject>, StorageError>> {
        let key = key.as_str().to_owned();
        Box::pin(self.blocking("observe", move |folders| {
            let Some(file) = object(folders, &key)? else {
                return Ok(None);
            };
            let found = Found::of(&file)?;
            Ok(Some(StoredObject {
                size: found.size,
                sha256: found.sha256,
                first_bytes: piece(&file, 0, head)?,
                encoded: false,
            }))
        }))
    }

    fn read<'a>(
        &'a self,
        key: &'a ObjectKey,
        offset: u64,
        length: usize,
    ) -> Task<'a, Result<Vec<u8>, StorageError>> {
        let key = key.as_str().to_owned();
        Box::pin(
            self.blocking("read", move |folders| match object(folders, &key)? {
                Some(file) => piece(&file, offset, length),
                None => Ok(Vec::new()),
            }),
        )
    }

    fn digest<'a>(
        &'a self,
        key: &'a ObjectKey,
        _: u64,
    ) -> Task<'a, Result<Option<Sha256Digest>, StorageError>> {
        let key = key.as_str().to_owned();
        Box::pin(self.blocking("digest", move |folders| {
            let Some(file) = object(folders, &key)? else {
                return Ok(None);
            };
            let mut digest = Sha256::new();
            sha256(file, None, &mut digest)?;
            Ok(Some(Sha256Digest::from_bytes(digest.finalize().into())))
        }))
    }

    fn delete_many<'a>(&'a self, keys: &'a [String]) -> Task<'a, Result<(), StorageError>> {
        let keys = keys.to_vec();
        Box::pin(self.blocking("delete", move |folders| delete(folders, &keys)))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: u32,
    ) -> Task<'a, Result<Listing, StorageError>> {
        let (prefix, after) = (prefix.to_owned(), after.unwrap_or_default().to_owned());
        Box::pin(self.blocking("list", move |folders| {
            let mut walk = Walk {
                prefix: &prefix,
                after: &after,
                most: limit as usize + 1,
                keys: Vec::new(),
            };
            walk.enter(&folders.objects, "")?;
            let mut keys = walk.keys;
            let more = keys.len() > limit as usize;
            keys.truncate(limit as usize);
            Ok(Listing { keys, more })
        }))
    }

    fn begin_multipart<'a>(
        &'a self,
        _: &'a DeclaredFile,
    ) -> Task<'a, Result<String, StorageError>> {
        let id = Uuid::new_v4().to_string();
        Box::pin(self.blocking("begin", move |folders| {
            folders.parts.make(&id)?;
            Ok(id)
        }))
    }

    /// The database has those that were taken in.
    fn list_parts<'a>(
        &'a self,
        _: &'a ObjectKey,
        multipart: &'a Multipart,
    ) -> Task<'a, Result<Option<Vec<StoredPart>>, StorageError>> {
        Box::pin(std::future::ready(Ok(Some(multipart.parts.clone()))))
    }

    fn complete_multipart<'a>(
        &'a self,
        key: &'a ObjectKey,
        storage_id: &'a str,
        parts: &'a [StoredPart],
    ) -> Task<'a, Result<(), StorageError>> {
        let (id, parts) = (storage_id.to_owned(), parts.to_vec());
        Box::pin(async move {
            let store = self.clone();
            let joined = self.blocking("join", move |folders| join(store, folders, &id, &parts));
            let Some(incoming) = joined.await? else {
                return Ok(());
            };
            match self.place(incoming, key).await {
                Ok(()) | Err(PutError::Exists) => {}
                Err(PutError::Failed(error)) => return Err(error),
                Err(other) => return Err(StorageError(format!("file join: {other:?}"))),
            }
            self.abort_multipart(key, storage_id).await
        })
    }

    fn abort_multipart<'a>(
        &'a self,
        _: &'a ObjectKey,
        storage_id: &'a str,
    ) -> Task<'a, Result<(), StorageError>> {
        let id = storage_id.to_owned();
        Box::pin(self.blocking("abort", move |folders| folders.parts.remove_files(&id)))
    }
}

/// Deletes objects, and the folders that they leave empty. That they are gone is on the disk afterwards.
fn delete(folders: &Folders, keys: &[String]) -> io::Result<()> {
    let mut left = BTreeSet::new();
    for key in keys {
        let (names, last) = split(key);
        match folders.objects.descend(names) {
            Ok(folder) => folder.remove(last)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        }
        left.extend(key.rsplit_once('/').map(|(folder, _)| folder));
    }
    for path in left {
        // Another server may have removed it.
        if let Ok(folder) = folders.objects.descend(path.split('/')) {
            folder.sync()?;
        }
        remove_empty(&folders.objects, path);
    }
    Ok(())
}

/// Removes a folder, and those above, as far as they are empty.
fn remove_empty(root: &Folder, path: &str) {
    let mut path = path;
    while let Some((above, name)) = path.rsplit_once('/') {
        if let Ok(folder) = root.descend(above.split('/')) {
            folder.remove_empty(name);
        }
        path = above;
    }
}

/// Puts parts together as a file that is on the disk; `None` when they are gone, because they were joined or aborted before.
fn join(
    store: FileStore,
    folders: &Folders,
    id: &str,
    parts: &[StoredPart],
) -> io::Result<Option<Incoming>> {
    let folder = match folders.parts.open(id) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        folder => folder?,
    };
    let (incoming, mut whole) = Incoming::create(&folders.incoming)?;
    let incoming = incoming.of(&store);
    let mut digest = Sha256::new();
    for part in parts {
        let file = match folder.read(&part_name(part.number, &part.etag)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        if sha256(file, Some(&mut whole), &mut digest)? != part.size {
            return Err(io::Error::other("a part has another length"));
        }
    }
    keep_digest(&whole, &digest.finalize().into());
    whole.sync_all()?;
    Ok(Some(incoming))
}

/// A part is known by its number and its digest, so that one which takes the place of another is not mistaken for it.
fn part_name(number: u16, etag: &str) -> String {
    format!("{number}-{etag}")
}

/// Lists keys in the order of their bytes.
struct Walk<'a> {
    prefix: &'a str,
    after: &'a str,
    most: usize,
    keys: Vec<String>,
}

impl Walk<'_> {
    /// Goes through a folder, whose path ends with a slash unless it is the root.
    fn enter(&mut self, folder: &Folder, path: &str) -> io::Result<()> {
        let mut entries: Vec<(String, bool)> = folder
            .entries()?
            .into_iter()
            .map(|entry| match entry.is_folder {
                // What is in a folder comes where its name stands with the slash.
                true => (format!("{path}{}/", entry.name), true),
                false => (format!("{path}{}", entry.name), false),
            })
            .filter(|(path, is_folder)| self.concerns(path, *is_folder))
            .collect();
        entries.sort_unstable();
        for (path, is_folder) in entries {
            if self.keys.len() >= self.most {
                break;
            }
            if !is_folder {
                self.keys.push(path);
                continue;
            }
            let name = path.trim_end_matches('/').rsplit('/').next();
            match folder.open(name.unwrap_or_default()) {
                // It was empty, and has been removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                inner => self.enter(&inner?, &path)?,
            }
        }
        Ok(())
    }

    fn concerns(&self, path: &str, is_folder: bool) -> bool {
        if is_folder {
            (path.starts_with(self.prefix) || self.prefix.starts_with(path))
                && (path > self.after || self.after.starts_with(path))
        } else {
            path.starts_with(self.prefix) && path > self.after
        }
    }
}

impl Bucket for FileStore {
    fn put<'a>(
        &'a self,
        key: &'a ObjectKey,
        content: Content,
        size: u64,
        _: MediaType,
        sha256: &'a Sha256Digest,
    ) -> Task<'a, Result<(), PutError>> {
        Box::pin(async move {
            // Spares whoever comes too late the upload; the move decides.
            if self.look(key).await.map_err(PutError::Failed)?.is_some() {
                return Err(PutError::Exists);
            }
            let incoming = self.receive(content, size, sha256).await?;
            self.place(incoming, key).await
        })
    }

    fn put_part<'a>(
        &'a self,
        part: Part<'a>,
        content: Content,
    ) -> Task<'a, Result<String, PutError>> {
        Box::pin(async move {
            let incoming = self.receive(content, part.size, part.sha256).await?;
            let etag = part.sha256.to_hex();
            let (id, name) = (part.storage_id.to_owned(), part_name(part.number, &etag));
            let moved = self.blocking("part", move |folders| {
                let folder = match folders.parts.open(&id) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                    folder => folder?,
                };
                folders.incoming.replace(&incoming.name, &folder, &name)?;
                Ok(true)
            });
            match moved.await.map_err(PutError::Failed)? {
                true => Ok(etag),
                false => Err(PutError::Closed),
            }
        })
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> Task<'a, Result<Option<Download>, StorageError>> {
        Box::pin(async move {
            let found = self.look(key).await?;
            Ok(found.map(|(_, found)| found.download(None)))
        })
    }

    fn get<'a>(
        &'a self,
        key: &'a ObjectKey,
        part: Option<Range<u64>>,
    ) -> Task<'a, Result<Option<Download>, StorageError>> {
        Box::pin(async move {
            let Some((mut file, found)) = self.look(key).await? else {
                return Ok(None);
            };
            let part = part.unwrap_or(0..found.size);
            if part.start > 0 {
                let sought = file.seek(SeekFrom::Start(part.start));
                sought.map_err(|error| failed("seek", &error))?;
            }
            let length = part.end.saturating_sub(part.start);
            let bytes = tokio::fs::File::from_std(file).take(length);
            let capacity = usize::try_from(length)
                .unwrap_or(CHUNK_BYTES)
                .clamp(1, CHUNK_BYTES);
            let stream = ReaderStream::with_capacity(bytes, capacity).into_stream();
            Ok(Some(found.download(Some(Content {
                body: Body::from_stream(stream),
                ..Content::default()
            }))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new() -> (Self, FileStore) {
            let name = format!("keepsake-files-{}", Uuid::new_v4());
            let path = std::env::temp_dir().join(name);
            let store = FileStore::open(&path).unwrap();
            (Self(path), store)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn key(tenant: &str, entity: &str, number: u8) -> ObjectKey {
        let id = format!("0198f7d0-1111-7aaa-8bbb-0000000000{number:02x}");
        ObjectKey::parse(&format!("t/{tenant}/post/{entity}/{id}.txt")).unwrap()
    }

    fn text() -> MediaType {
        MediaType::from_extension("txt").unwrap()
    }

    async fn put(store: &FileStore, key: &ObjectKey, bytes: &'static [u8]) -> Result<(), PutError> {
        put_as(
            store,
            key,
            bytes,
            bytes.len() as u64,
            Sha256Digest::of(bytes),
        )
        .await
    }

    async fn put_as(
        store: &FileStore,
        key: &ObjectKey,
        bytes: &'static [u8],
        size: u64,
        sha256: Sha256Digest,
    ) -> Result<(), PutError> {
        let content = Content {
            body: Body::from(bytes),
            ..Content::default()
        };
        store.put(key, content, size, text(), &sha256).await
    }

    fn incoming(scratch: &Scratch) -> usize {
        std::fs::read_dir(scratch.0.join("incoming"))
            .unwrap()
            .count()
    }

    #[tokio::test]
    async fn takes_exactly_what_was_declared_and_only_once() {
        let (scratch, store) = Scratch::new();
        let key = key("acme", "7", 1);
        let digest = Sha256Digest::of(b"hello");
        let short = put_as(&store, &key, b"hell", 5, digest).await;
        assert_eq!(short, Err(PutError::LengthMismatch));
        let long = put_as(&store, &key, b"hello!", 5, digest).await;
        assert_eq!(long, Err(PutError::LengthMismatch));
        let other = put_as(&store, &key, b"jello", 5, digest).await;
        assert_eq!(other, Err(PutError::Sha256Mismatch));
        assert_eq!(store.observe(&key, 9).await, Ok(None));
        assert_eq!(put(&store, &key, b"hello").await, Ok(()));
        assert_eq!(put(&store, &key, b"other").await, Err(PutError::Exists));
        let seen = store.observe(&key, 4).await.unwrap().unwrap();
        assert_eq!((seen.size, seen.first_bytes), (5, b"hell".to_vec()));
        assert_eq!(store.digest(&key, 5).await, Ok(Some(digest)));
        assert_eq!(incoming(&scratch), 0);
    }

    #[tokio::test]
    async fn of_many_at_once_one_is_stored() {
        let (scratch, store) = Scratch::new();
        let key = key("acme", "7", 1);
        let puts = (0..16).map(|_| put(&store, &key, b"hello"));
        let outcomes = futures_util::future::join_all(puts).await;
        let stored = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(stored, 1, "{outcomes:?}");
        assert_eq!(incoming(&scratch), 0);
    }

    #[tokio::test]
    async fn an_upload_that_breaks_off_leaves_nothing() {
        let (scratch, store) = Scratch::new();
        let key = key("acme", "7", 1);
        let pieces = [Ok(&b"hel"[..]), Err(io::Error::other("gone"))];
        let content = Content {
            body: Body::from_stream(futures_util::stream::iter(pieces)),
            ..Content::default()
        };
        let digest = Sha256Digest::of(b"hello");
        let outcome = store.put(&key, content, 5, text(), &digest).await;
        assert!(matches!(outcome, Err(PutError::Failed(_))), "{outcome:?}");
        assert_eq!(store.observe(&key, 0).await, Ok(None));
        assert_eq!(incoming(&scratch), 0);
    }

    #[tokio::test]
    async fn keys_are_listed_in_the_order_of_their_bytes() {
        let (_scratch, store) = Scratch::new();
        let mut keys = Vec::new();
        for tenant in ["a", "a-b", "ab", "B"] {
            for entity in ["1", "1-2", "12"] {
                for number in [3, 1, 2] {
                    let key = key(tenant, entity, number);
                    put(&store, &key, b"x").await.unwrap();
                    keys.push(key.as_str().to_owned());
                }
            }
        }
        keys.sort_unstable();
        let mut after = None;
        let mut seen = Vec::new();
        loop {
            let page = store.list("t/", after.as_deref(), 5).await.unwrap();
            seen.extend(page.keys.clone());
            after = page.keys.last().cloned();
            if !page.more {
                break;
            }
        }
        assert_eq!(seen, keys);
        let some = store.list("t/ab/", None, 100).await.unwrap();
        assert_eq!(some.keys.len(), 9);
        assert!(!some.more);
    }

    #[tokio::test]
    async fn what_is_deleted_leaves_no_folder_behind() {
        let (scratch, store) = Scratch::new();
        let (first, second) = (key("acme", "7", 1), key("acme", "8", 2));
        for key in [&first, &second] {
            put(&store, key, b"hello").await.unwrap();
        }
        let gone = [
            first.as_str().to_owned(),
            key("no", "1", 3).as_str().to_owned(),
        ];
        for _ in 0..2 {
            assert_eq!(store.delete_many(&gone).await, Ok(()));
        }
        assert!(!scratch.0.join("objects/t/acme/post/7").exists());
        assert!(store.observe(&second, 0).await.unwrap().is_some());
        put(&store, &first, b"again").await.unwrap();
    }

    #[tokio::test]
    async fn a_link_is_never_followed() {
        let (scratch, store) = Scratch::new();
        let outside = scratch.0.join("outside");
        std::fs::create_dir(&outside).unwrap();
        let key = key("acme", "7", 1);
        let name = key.as_str().rsplit('/').next().unwrap();
        std::fs::write(outside.join(name), "secret").unwrap();
        std::fs::create_dir_all(scratch.0.join("objects/t/acme/post")).unwrap();
        std::os::unix::fs::symlink(&outside, scratch.0.join("objects/t/acme/post/7")).unwrap();
        assert!(store.observe(&key, 9).await.is_err());
        assert!(store.get(&key, None).await.is_err());
        let outcome = put(&store, &key, b"hello").await;
        assert!(matches!(outcome, Err(PutError::Failed(_))), "{outcome:?}");
        assert!(store.delete_many(&[key.as_str().to_owned()]).await.is_err());
        assert_eq!(std::fs::read(outside.join(name)).unwrap(), b"secret");
        assert_eq!(store.list("t/", None, 9).await.unwrap().keys, [""; 0]);
    }

    #[tokio::test]
    async fn parts_are_joined_once_and_not_after_they_were_aborted() {
        let (scratch, store) = Scratch::new();
        let key = key("acme", "7", 1);
        let id = {
            let id = Uuid::new_v4().to_string();
            store.0.parts.make(&id).unwrap();
            id
        };
        let mut parts = Vec::new();
        for (number, bytes) in [(1, &b"hello, "[..]), (2, b"world")] {
            let sha256 = Sha256Digest::of(bytes);
            let part = Part {
                key: &key,
                storage_id: &id,
                number,
                size: bytes.len() as u64,
                sha256: &sha256,
            };
            let content = || Content {
                body: Body::from(bytes),
                ..Content::default()
            };
            // A second time it takes its own place.
            store.put_part(part, content()).await.unwrap();
            let etag = store.put_part(part, content()).await.unwrap();
            parts.push(StoredPart {
                number,
                etag,
                size: bytes.len() as u64,
                checksum: None,
            });
        }
        for _ in 0..2 {
            store.complete_multipart(&key, &id, &parts).await.unwrap();
        }
        let whole = store.read(&key, 0, 99).await.unwrap();
        assert_eq!(whole, b"hello, world");
        assert_eq!(
            store.digest(&key, 12).await,
            Ok(Some(Sha256Digest::of(b"hello, world")))
        );
        store.abort_multipart(&key, &id).await.unwrap();
        let sha256 = Sha256Digest::of(b"x");
        let part = Part {
            key: &key,
            storage_id: &id,
            number: 1,
            size: 1,
            sha256: &sha256,
        };
        let content = Content {
            body: Body::from("x"),
            ..Content::default()
        };
        assert_eq!(store.put_part(part, content).await, Err(PutError::Closed));
        assert_eq!(incoming(&scratch), 0);
    }
}
