//! The service's store by files.

use super::{
    delete::delete,
    digest::{CHUNK_BYTES, sha256},
    folder::piece,
    folders::{Folders, failed},
    found::Found,
    list::list,
    parts::{Join, join, part_name, remove_others},
    probe::Probe,
    receive::{incoming, receive},
};
use axum::body::{Body, Bytes};
use futures_util::TryStreamExt;
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
    fs::File,
    io::{self, Seek, SeekFrom},
    ops::Range,
    path::Path,
    sync::Arc,
};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

/// A bucket in a folder.
#[derive(Debug, Clone)]
pub(crate) struct FileStore(pub(super) Arc<Folders>, Arc<Probe>);

impl FileStore {
    /// Opens a root, and makes it if it is missing.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        Ok(Self(Folders::open(root)?, Arc::default()))
    }

    /// Removes what servers left behind that stopped in the middle of an upload.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) async fn tidy(&self) -> Result<(), StorageError> {
        self.0.blocking("tidy", |folders| folders.tidy()).await
    }

    async fn refuse_stored(&self, key: &ObjectKey) -> Result<(), PutError> {
        match self.look(key).await.map_err(PutError::Failed)? {
            Some(_) => Err(PutError::Exists),
            None => Ok(()),
        }
    }

    async fn look(&self, key: &ObjectKey) -> Result<Option<(File, Found)>, StorageError> {
        let key = key.as_str().to_owned();
        self.0
            .blocking("open", move |folders| match folders.object(&key)? {
                Some(file) => {
                    let found = Found::of(&file)?;
                    Ok(Some((file, found)))
                }
                None => Ok(None),
            })
            .await
    }
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
        Box::pin(self.0.blocking("observe", move |folders| {
            let Some(file) = folders.object(&key)? else {
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
            self.0
                .blocking("read", move |folders| match folders.object(&key)? {
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
        Box::pin(self.0.blocking("digest", move |folders| {
            let Some(file) = folders.object(&key)? else {
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
        Box::pin(
            self.0
                .blocking("delete", move |folders| Ok(delete(folders, &keys))),
        )
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: u32,
    ) -> Task<'a, Result<Listing, StorageError>> {
        let (prefix, after) = (prefix.to_owned(), after.unwrap_or_default().to_owned());
        let limit = limit as usize;
        Box::pin(self.0.blocking("list", move |folders| {
            list(&folders.objects, &prefix, &after, limit)
        }))
    }

    fn begin_multipart<'a>(
        &'a self,
        _: &'a DeclaredFile,
    ) -> Task<'a, Result<String, StorageError>> {
        let id = Uuid::new_v4().to_string();
        Box::pin(self.0.blocking("begin", move |folders| {
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
        let parts = Join {
            key: key.as_str().to_owned(),
            id: storage_id.to_owned(),
            parts: parts.to_vec(),
        };
        Box::pin(join(&self.0, parts))
    }

    fn abort_multipart<'a>(
        &'a self,
        _: &'a ObjectKey,
        storage_id: &'a str,
    ) -> Task<'a, Result<(), StorageError>> {
        let id = storage_id.to_owned();
        Box::pin(
            self.0
                .blocking("abort", move |folders| folders.parts.remove_files(&id)),
        )
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
            let held = incoming(&self.0, target).await?;
            self.refuse_stored(key).await?;
            let incoming = receive(&self.0, held, content, size, sha256).await?;
            let key = key.as_str().to_owned();
            let moved = self.0.blocking("move", move |_| incoming.place(&key));
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
            let held = incoming(&self.0, target).await?;
            let incoming = receive(&self.0, held, content, part.size, part.sha256);
            let (incoming, number) = (incoming.await?, part.number);
            let etag = part.sha256.to_hex();
            let (id, name) = (part.storage_id.to_owned(), part_name(part.number, &etag));
            let moved = self.0.blocking("part", move |folders| {
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

    fn probe<'a>(&'a self, _: &'a ObjectKey) -> Task<'a, Result<(), StorageError>> {
        Box::pin(self.1.outcome(&self.0))
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
