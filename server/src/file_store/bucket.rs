//! The service's store by files.

use super::folder::{Folder, keep_digest, kept_digest, piece, split};
use crate::drain;
use axum::body::{Body, Bytes};
use futures_util::TryStreamExt;
use http_body::Frame;
use http_body_util::BodyExt;
use keepsake_service::{
    model::{DeclaredFile, Multipart, StoredPart},
    runtime::{Content, Task},
    storage::{
        Bucket, Download, Listing, Part, PutError, Storage, StorageError, StoredObject, Undeleted,
    },
};
use keepsake_shared::{MediaType, ObjectKey, Sha256Digest};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
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
    time::{sleep, timeout},
};
use tokio_util::io::ReaderStream;
use uuid::Uuid;

/// How much of a file is read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// How old a file in `incoming/` is that no upload works on any more: none takes longer than its URL works.
const MAX_INCOMING_AGE: Duration = Duration::from_secs(6 * 3600);

/// How many uploads of the same object or part are taken in at a time. More than one, for who lost a connection sends again
/// before the server knows of the loss.
const PLACES: u32 = 2;

/// How long is waited for one of them, and for parts that another request joins, and how often is looked.
const MAX_WAIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);

/// How long an upload may send nothing. Then it has lost its connection, and the next has its place.
const MAX_SILENCE: Duration = Duration::from_secs(60);

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

    /// Does what may wait for the disk. Once begun, it ends even when nobody waits for it any more.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Arc<Folders>) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let folders = Arc::clone(&self.0);
        match spawn_blocking(move || work(&folders)).await {
            Ok(done) => done.map_err(|error| failed(operation, &error)),
            Err(_) => Err(StorageError(format!("file {operation}: it was broken off"))),
        }
    }

    /// A file of one of the places that a target has in `incoming/`, for which is waited. So nobody who sends the same over
    /// and over takes more of the disk than those.
    async fn incoming(&self, target: String) -> Result<(Incoming, File), PutError> {
        let target = Arc::new(target);
        let mut waited = Duration::ZERO;
        loop {
            let wanted = Arc::clone(&target);
            let held = self.blocking("create", move |folders| Incoming::any(folders, &wanted));
            if let Some(held) = held.await.map_err(PutError::Failed)? {
                return Ok(held);
            }
            if waited >= MAX_WAIT {
                return Err(PutError::Busy);
            }
            sleep(PAUSE).await;
            waited += PAUSE;
        }
    }

    /// Takes bytes in, as a file that is on the disk. It is removed when it is dropped without being moved.
    async fn receive(
        &self,
        (incoming, file): (Incoming, File),
        content: Content,
        size: u64,
        sha256: &Sha256Digest,
    ) -> Result<Incoming, PutError> {
        let mut file = tokio::fs::File::from_std(file);
        let (mut body, mut seen, mut digest) = (content.body, 0, Sha256::new());
        while let Some(frame) = next_frame(&mut body).await? {
            let bytes = frame.into_data().unwrap_or_default();
            seen += bytes.len() as u64;
            if seen > size {
                return Err(PutError::LengthMismatch);
            }
            digest.update(&bytes);
            if let Err(error) = file.write_all(&bytes).await {
                // The place on the disk is needed, and the client is to see the answer.
                drop((file, incoming));
                drain::read_off(&mut body).await;
                return Err(PutError::Failed(failed("write", &error)));
            }
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

    async fn refuse_stored(&self, key: &ObjectKey) -> Result<(), PutError> {
        match self.look(key).await.map_err(PutError::Failed)? {
            Some(_) => Err(PutError::Exists),
            None => Ok(()),
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

/// The next bytes of an upload.
async fn next_frame(body: &mut Body) -> Result<Option<Frame<Bytes>>, PutError> {
    let broke_off =
        |cause: String| PutError::Failed(StorageError(format!("the client broke off: {cause}")));
    match timeout(MAX_SILENCE, body.frame()).await {
        Ok(Some(Ok(frame))) => Ok(Some(frame)),
        Ok(Some(Err(error))) => Err(broke_off(error.to_string())),
        Ok(None) => Ok(None),
        Err(_) => {
            let seconds = MAX_SILENCE.as_secs();
            Err(broke_off(format!("it sent nothing for {seconds} s")))
        }
    }
}

/// A file in `incoming/` that nobody else has.
#[derive(Debug)]
struct Incoming {
    name: String,
    folders: Arc<Folders>,
    is_moved: bool,
    /// The same file, so that it is held until it is moved or removed.
    _held: File,
}

impl Incoming {
    /// The first place of a target that is free, if any is.
    fn any(folders: &Arc<Folders>, target: &str) -> io::Result<Option<(Self, File)>> {
        for place in 0..PLACES {
            let held = Self::create(folders, format!("{target}.{place}"))?;
            if held.is_some() {
                return Ok(held);
            }
        }
        Ok(None)
    }

    /// `None` while somebody has it.
    fn create(folders: &Arc<Folders>, name: String) -> io::Result<Option<(Self, File)>> {
        let Some(file) = folders.incoming.hold(&name)? else {
            return Ok(None);
        };
        let incoming = Self {
            name,
            folders: Arc::clone(folders),
            is_moved: false,
            _held: file.try_clone()?,
        };
        Ok(Some((incoming, file)))
    }

    /// Moves it to the place of an object; whether that was free.
    fn place(mut self, key: &str) -> io::Result<bool> {
        let Folders {
            incoming, objects, ..
        } = &*self.folders;
        match incoming.move_to(&self.name, objects, key) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            moved => {
                moved?;
                self.is_moved = true;
                Ok(true)
            }
        }
    }

    /// Moves it to the place of a part.
    fn replace(mut self, target: &Folder, name: &str) -> io::Result<()> {
        self.folders.incoming.replace(&self.name, target, name)?;
        self.is_moved = true;
        Ok(())
    }
}

impl Drop for Incoming {
    /// After it was moved its name may be somebody else's. What cannot be removed now is tidied later.
    fn drop(&mut self) {
        if !self.is_moved {
            let _ = self.folders.incoming.remove(&self.name);
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
    fn store<'a>(
        &'a self,
        file: &'a DeclaredFile,
        bytes: &'a Bytes,
    ) -> Task<'a, Result<(), PutError>> {
        let content = Content {
            body: Body::from(bytes.clone()),
            ..Content::default()
        };
        self.put(
            &file.object_key,
            content,
            file.size,
            file.media_type,
            &file.sha256,
        )
    }

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

    fn delete_many<'a>(
        &'a self,
        keys: &'a [String],
    ) -> Task<'a, Result<Vec<Undeleted>, StorageError>> {
        let keys = keys.to_vec();
        Box::pin(self.blocking("delete", move |folders| Ok(delete(folders, &keys))))
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
        let join = Arc::new(Join {
            key: key.as_str().to_owned(),
            id: storage_id.to_owned(),
            parts: parts.to_vec(),
        });
        Box::pin(async move {
            let mut waited = Duration::ZERO;
            loop {
                let wanted = Arc::clone(&join);
                let done = self.blocking("join", move |folders| wanted.run(folders));
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

/// Deletes objects, and the folders that they leave empty. That they are gone is on the disk afterwards. One that cannot be
/// deleted keeps no other from it.
fn delete(folders: &Folders, keys: &[String]) -> Vec<Undeleted> {
    let mut left: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut undeleted = Vec::new();
    let mut keep = |key: &str, error: &io::Error| {
        undeleted.push(Undeleted {
            key: key.to_owned(),
            error: failed("delete", error),
        });
    };
    for key in keys {
        let (names, last) = split(key);
        let removed = folders.objects.descend(names);
        match removed.and_then(|folder| folder.remove(last)) {
            Ok(()) => {
                let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
                left.entry(folder).or_default().push(key);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => keep(key, &error),
        }
    }
    for (path, keys) in left {
        // Another server may have removed it.
        if let Ok(folder) = folders.objects.descend(path.split('/'))
            && let Err(error) = folder.sync()
        {
            keys.iter().for_each(|key| keep(key, &error));
        }
        remove_empty(&folders.objects, path);
    }
    undeleted
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

/// Parts to be joined as an object.
struct Join {
    key: String,
    id: String,
    parts: Vec<StoredPart>,
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
        if object(folders, &self.key)?.is_none() {
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
fn part_name(number: u16, etag: &str) -> String {
    format!("{number}-{etag}")
}

/// Removes the parts of this number but this one: the latest takes the place of those before, and of their room on the disk.
fn remove_others(folder: &Folder, number: u16, name: &str) -> io::Result<()> {
    let of_number = format!("{number}-");
    for entry in folder.entries()? {
        if entry.name.starts_with(&of_number) && entry.name != name {
            folder.remove(&entry.name)?;
        }
    }
    Ok(())
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
            // Spares whoever comes too late the upload, and the wait; the move decides.
            self.refuse_stored(key).await?;
            let target = Sha256Digest::of(key.as_str().as_bytes()).to_hex();
            let held = self.incoming(target).await?;
            self.refuse_stored(key).await?;
            let incoming = self.receive(held, content, size, sha256).await?;
            let key = key.as_str().to_owned();
            let moved = self.blocking("move", move |_| incoming.place(&key));
            match moved.await {
                Ok(true) => Ok(()),
                Ok(false) => Err(PutError::Exists),
                Err(error) => Err(PutError::Failed(error)),
            }
        })
    }

    fn put_part<'a>(
        &'a self,
        part: Part<'a>,
        content: Content,
    ) -> Task<'a, Result<String, PutError>> {
        Box::pin(async move {
            let target = format!("{}-{}", part.storage_id, part.number);
            let held = self.incoming(target).await?;
            let incoming = self.receive(held, content, part.size, part.sha256);
            let (incoming, number) = (incoming.await?, part.number);
            let etag = part.sha256.to_hex();
            let (id, name) = (part.storage_id.to_owned(), part_name(part.number, &etag));
            let moved = self.blocking("part", move |folders| {
                let folder = match folders.parts.open(&id) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                    folder => folder?,
                };
                incoming.replace(&folder, &name)?;
                remove_others(&folder, number, &name)?;
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
            assert_eq!(store.delete_many(&gone).await, Ok(Vec::new()));
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
        // The one that cannot be deleted keeps no other.
        let other = self::key("acme", "8", 2);
        put(&store, &other, b"hello").await.unwrap();
        let both = [&key, &other].map(|key| key.as_str().to_owned());
        let undeleted = store.delete_many(&both).await.unwrap();
        assert_eq!(undeleted.len(), 1, "{undeleted:?}");
        assert_eq!(undeleted[0].key, key.as_str());
        assert_eq!(store.observe(&other, 0).await, Ok(None));
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

    /// A multipart upload of two parts that have been taken in.
    async fn two_parts(store: &FileStore, key: &ObjectKey) -> (String, Vec<StoredPart>) {
        let id = Uuid::new_v4().to_string();
        store.0.parts.make(&id).unwrap();
        let mut parts = Vec::new();
        for (number, bytes) in [(1, &b"hello, "[..]), (2, b"world")] {
            let etag = put_part(store, key, &id, number, bytes).await.unwrap();
            parts.push(StoredPart {
                number,
                etag,
                size: bytes.len() as u64,
                checksum: None,
            });
        }
        (id, parts)
    }

    async fn put_part(
        store: &FileStore,
        key: &ObjectKey,
        id: &str,
        number: u16,
        bytes: &'static [u8],
    ) -> Result<String, PutError> {
        let part = Part {
            key,
            storage_id: id,
            number,
            size: bytes.len() as u64,
            sha256: &Sha256Digest::of(bytes),
        };
        let content = Content {
            body: Body::from(bytes),
            ..Content::default()
        };
        store.put_part(part, content).await
    }

    #[tokio::test]
    async fn parts_are_joined_even_when_nobody_waits_for_it() {
        let (scratch, store) = Scratch::new();
        let key = key("acme", "7", 1);
        let (id, parts) = two_parts(&store, &key).await;
        let mut joining = store.complete_multipart(&key, &id, &parts);
        assert!(futures_util::poll!(&mut joining).is_pending());
        drop(joining);
        let left = scratch.0.join("parts").join(&id);
        for _ in 0..200 {
            if !left.exists() {
                break;
            }
            sleep(Duration::from_millis(25)).await;
        }
        assert!(!left.exists(), "the parts stayed");
        assert_eq!(store.read(&key, 0, 99).await.unwrap(), b"hello, world");
        assert_eq!(incoming(&scratch), 0);
    }

    #[tokio::test]
    async fn of_those_who_complete_at_once_one_joins_and_the_others_wait() {
        let (scratch, store) = Scratch::new();
        let key = key("acme", "7", 1);
        let (id, parts) = two_parts(&store, &key).await;
        let held = Incoming::create(&store.0, id.clone()).unwrap().unwrap();
        let all = (0..4).map(|_| store.complete_multipart(&key, &id, &parts));
        let all = futures_util::future::join_all(all);
        let free = async {
            sleep(PAUSE * 2).await;
            assert_eq!(store.observe(&key, 0).await, Ok(None));
            drop(held);
        };
        let (outcomes, ()) = futures_util::future::join(all, free).await;
        assert_eq!(outcomes, [Ok(()), Ok(()), Ok(()), Ok(())]);
        assert_eq!(store.read(&key, 0, 99).await.unwrap(), b"hello, world");
        assert_eq!(incoming(&scratch), 0);
    }

    #[tokio::test]
    async fn a_part_takes_the_room_of_those_before_it() {
        let (scratch, store) = Scratch::new();
        let key = key("acme", "7", 1);
        let (id, _) = two_parts(&store, &key).await;
        for bytes in [&b"other"[..], b"third"] {
            put_part(&store, &key, &id, 2, bytes).await.unwrap();
        }
        let left = std::fs::read_dir(scratch.0.join("parts").join(&id)).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort_unstable();
        let name = |number, bytes: &[u8]| part_name(number, &Sha256Digest::of(bytes).to_hex());
        assert_eq!(left, [name(1, b"hello, ").as_str(), &name(2, b"third")]);
    }

    #[tokio::test(start_paused = true)]
    async fn uploads_of_the_same_have_so_many_places_and_no_more() {
        let (scratch, store) = Scratch::new();
        let key = key("acme", "7", 1);
        let stalled = || Content {
            body: Body::from_stream(futures_util::stream::pending::<io::Result<Bytes>>()),
            ..Content::default()
        };
        let digest = Sha256Digest::of(b"hello");
        let stalled = [stalled(), stalled()].map(|content| {
            let silent = store.put(&key, content, 5, text(), &digest);
            Box::pin(silent)
        });
        let all = futures_util::future::join_all(stalled);
        let third = async {
            sleep(Duration::from_secs(5)).await;
            assert_eq!(incoming(&scratch), 2);
            put(&store, &key, b"hello").await
        };
        let (stalled, third) = futures_util::future::join(all, third).await;
        assert_eq!(third, Err(PutError::Busy));
        for outcome in stalled {
            assert!(matches!(outcome, Err(PutError::Failed(_))), "{outcome:?}");
        }
        assert_eq!(incoming(&scratch), 0);
        assert_eq!(put(&store, &key, b"hello").await, Ok(()));
    }
}
