//! An R2 bucket through its binding.

use super::{
    Listing, Storage, StorageError, StoredObject,
    digest::{self, Sha256Hasher, WINDOW_BYTES},
};
use crate::model::{DeclaredFile, Multipart, StoredPart};
use futures_util::future::join;
use keepsake_shared::{MediaType, ObjectKey, Sha256Digest};
use std::ops;
use worker::{
    Conditional, Data, HttpMetadata, MultipartUpload, Object, Range, ResponseBody, UploadedPart,
    js_sys::Date, wasm_bindgen::JsCast, web_sys::ReadableStream,
};

/// R2's own number for "the checksum you specified did not match what we received"
/// (<https://developers.cloudflare.com/r2/api/error-codes/>).
const BAD_DIGEST: &str = "(10037)";

/// "The specified multipart upload does not exist."
const NO_SUCH_UPLOAD: &str = "(10024)";

/// "The requested range is not satisfiable."
const BAD_RANGE: &str = "(10039)";

/// The bucket of the binding `BUCKET`.
#[derive(Debug)]
pub(crate) struct Bucket(pub(crate) worker::Bucket);

/// Why an object was not stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PutError {
    /// Something is stored under this key already; it was left as it is.
    Exists,
    /// The bytes do not have the declared SHA-256; nothing was stored.
    Sha256Mismatch,
    /// The multipart upload was completed or aborted.
    Closed,
    /// The store failed, or the client stopped half way; nothing was stored.
    Failed(StorageError),
}

/// What a download found.
#[derive(Debug)]
pub(crate) struct Download {
    /// Size of the whole object, in bytes.
    pub(crate) size: u64,
    /// Its strong entity tag, quoted.
    pub(crate) etag: String,
    /// When it was stored, as `Last-Modified` says it.
    pub(crate) modified: String,
    /// The bytes asked for; none when only the head was.
    pub(crate) body: Option<ReadableStream>,
}

impl Storage for Bucket {
    async fn observe(
        &self,
        key: &ObjectKey,
        head: usize,
    ) -> Result<Option<StoredObject>, StorageError> {
        let length = head as u64;
        let found = self
            .0
            .get(key.as_str())
            .range(Range::Prefix { length })
            .execute()
            .await
            .map_err(failed("get"))?;
        let Some(object) = found else {
            return Ok(None);
        };
        let first_bytes = match object.body() {
            Some(body) => body.bytes().await.map_err(failed("read"))?,
            None => Vec::new(),
        };
        Ok(Some(StoredObject {
            size: object.size(),
            sha256: object
                .checksum()
                .sha256
                .and_then(|bytes| bytes.try_into().ok())
                .map(Sha256Digest::from_bytes),
            first_bytes,
            // The worker stored it, without one.
            encoded: false,
        }))
    }

    async fn read(
        &self,
        key: &ObjectKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        let range = Range::OffsetWithLength {
            offset,
            length: length as u64,
        };
        let found = self.0.get(key.as_str()).range(range).execute().await;
        let object = match found {
            Ok(object) => object,
            Err(error) if error.to_string().contains(BAD_RANGE) => None,
            Err(error) => return Err(failed("get")(error)),
        };
        match object.as_ref().and_then(Object::body) {
            Some(body) => body.bytes().await.map_err(failed("read")),
            None => Ok(Vec::new()),
        }
    }

    async fn digest(
        &self,
        key: &ObjectKey,
        size: u64,
    ) -> Result<Option<Sha256Digest>, StorageError> {
        let hasher = Sha256Hasher::new();
        let mut offset = 0;
        while offset < size {
            let length = WINDOW_BYTES.min(size - offset);
            let found = self.get(key, Some(offset..offset + length)).await?;
            let Some(stream) = found.and_then(|part| part.body) else {
                return Ok(None);
            };
            hasher.add(&stream).await?;
            offset += length;
        }
        hasher.finish().await.map(Some)
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), StorageError> {
        if keys.is_empty() {
            return Ok(());
        }
        let keys = keys.iter().map(String::as_str).collect();
        self.0.delete_multiple(keys).await.map_err(failed("delete"))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Listing, StorageError> {
        let request = self.0.list().prefix(prefix).limit(limit);
        let request = match after {
            Some(after) => request.start_after(after),
            None => request,
        };
        let found = request.execute().await.map_err(failed("list"))?;
        Ok(Listing {
            keys: found.objects().iter().map(Object::key).collect(),
            more: found.truncated(),
        })
    }

    async fn begin_multipart(&self, file: &DeclaredFile) -> Result<String, StorageError> {
        let upload = self
            .0
            .create_multipart_upload(file.object_key.as_str())
            .http_metadata(HttpMetadata {
                content_type: Some(file.media_type.as_str().to_owned()),
                ..HttpMetadata::default()
            })
            .execute()
            .await
            .map_err(failed("begin"))?;
        Ok(upload.upload_id().await)
    }

    /// The binding lists no parts; the database has those that the worker took in.
    async fn list_parts(
        &self,
        _: &ObjectKey,
        multipart: &Multipart,
    ) -> Result<Option<Vec<StoredPart>>, StorageError> {
        Ok(Some(multipart.parts.clone()))
    }

    async fn complete_multipart(
        &self,
        key: &ObjectKey,
        storage_id: &str,
        parts: &[StoredPart],
    ) -> Result<(), StorageError> {
        let parts = parts
            .iter()
            .map(|part| UploadedPart::new(part.number, part.etag.clone()));
        let joined = self.multipart(key, storage_id)?.complete(parts).await;
        unless_gone(joined.map(|_| ()).map_err(failed("complete")))
    }

    async fn abort_multipart(&self, key: &ObjectKey, storage_id: &str) -> Result<(), StorageError> {
        let aborted = self.multipart(key, storage_id)?.abort().await;
        unless_gone(aborted.map_err(failed("abort")))
    }
}

impl Bucket {
    fn multipart(
        &self,
        key: &ObjectKey,
        storage_id: &str,
    ) -> Result<MultipartUpload, StorageError> {
        self.0
            .resume_multipart_upload(key.as_str(), storage_id)
            .map_err(failed("resume"))
    }

    /// Stores a part of known length, and gives what the bucket calls it, if its bytes have this
    /// SHA-256. One of other bytes stays unknown: nothing names it, and the next of its number takes
    /// its place.
    pub(crate) async fn put_part(
        &self,
        key: &ObjectKey,
        storage_id: &str,
        number: u16,
        body: ReadableStream,
        sha256: &Sha256Digest,
    ) -> Result<String, PutError> {
        let (stored, seen) = split(&body).map_err(PutError::Failed)?;
        let upload = self.multipart(key, storage_id).map_err(PutError::Failed)?;
        let (stored, seen) = join(
            upload.upload_part(number, Data::ReadableStream(stored)),
            digest::sha256(&seen),
        )
        .await;
        let stored = stored.map_err(|error| match failed("part")(error) {
            error if error.0.contains(NO_SUCH_UPLOAD) => PutError::Closed,
            error => PutError::Failed(error),
        })?;
        if seen.map_err(PutError::Failed)? == *sha256 {
            Ok(stored.etag())
        } else {
            Err(PutError::Sha256Mismatch)
        }
    }

    /// Stores a stream of known length, if nothing is stored under its key yet and its bytes have
    /// this SHA-256. The bytes go from the client to the bucket without passing through the
    /// worker's memory.
    pub(crate) async fn put(
        &self,
        key: &ObjectKey,
        body: ReadableStream,
        media_type: MediaType,
        sha256: &Sha256Digest,
    ) -> Result<(), PutError> {
        let stored = self
            .0
            .put(key.as_str(), Data::ReadableStream(body))
            .sha256(sha256.as_bytes().to_vec())
            .only_if(Conditional {
                etag_does_not_match: Some("*".to_owned()),
                ..Conditional::default()
            })
            .http_metadata(HttpMetadata {
                content_type: Some(media_type.as_str().to_owned()),
                ..HttpMetadata::default()
            })
            .execute()
            .await;
        match stored {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(PutError::Exists),
            Err(error) => {
                let error = failed("put")(error);
                if error.0.contains(BAD_DIGEST) {
                    Err(PutError::Sha256Mismatch)
                } else {
                    Err(PutError::Failed(error))
                }
            }
        }
    }

    /// An object without its bytes.
    pub(crate) async fn head(&self, key: &ObjectKey) -> Result<Option<Download>, StorageError> {
        let found = self.0.head(key.as_str()).await.map_err(failed("head"))?;
        Ok(found.map(|object| download(&object, None)))
    }

    /// An object's bytes, or a part of them, as a stream the runtime moves by itself.
    pub(crate) async fn get(
        &self,
        key: &ObjectKey,
        part: Option<ops::Range<u64>>,
    ) -> Result<Option<Download>, StorageError> {
        let request = self.0.get(key.as_str());
        let request = match part {
            Some(ops::Range { start, end }) => request.range(Range::OffsetWithLength {
                offset: start,
                length: end - start,
            }),
            None => request,
        };
        let Some(object) = request.execute().await.map_err(failed("get"))? else {
            return Ok(None);
        };
        let body = match object.body().map(|body| body.response_body()) {
            Some(Ok(ResponseBody::Stream(stream))) => Some(stream),
            Some(Err(error)) => return Err(failed("read")(error)),
            _ => None,
        };
        Ok(Some(download(&object, body)))
    }
}

fn unless_gone(outcome: Result<(), StorageError>) -> Result<(), StorageError> {
    match outcome {
        Err(error) if error.0.contains(NO_SUCH_UPLOAD) => Ok(()),
        outcome => outcome,
    }
}

/// A stream as two of the same content.
fn split(body: &ReadableStream) -> Result<(ReadableStream, ReadableStream), StorageError> {
    let branches = body.tee();
    match [branches.get(0), branches.get(1)].map(JsCast::dyn_into) {
        [Ok(first), Ok(second)] => Ok((first, second)),
        _ => Err(StorageError("a body cannot be read twice".to_owned())),
    }
}

fn download(object: &Object, body: Option<ReadableStream>) -> Download {
    Download {
        size: object.size(),
        etag: object.http_etag(),
        modified: Date::new(&(object.uploaded().as_millis() as f64).into())
            .to_utc_string()
            .into(),
        body,
    }
}

fn failed(operation: &'static str) -> impl Fn(worker::Error) -> StorageError {
    move |error| StorageError(format!("R2 {operation}: {error}"))
}
