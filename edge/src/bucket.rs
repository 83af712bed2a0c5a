//! An R2 bucket through its binding.

use crate::{
    bridge::{self, RawBody},
    digest::{self, Sha256Hasher},
};
use axum::body::Bytes;
use futures_util::future::join;
use keepsake_service::{
    model::{DeclaredFile, Multipart, StoredPart},
    runtime::{Content, Hasher, Task},
    storage::{
        Bucket, Download, Listing, Part, PutError, Storage, StorageError, StoredObject, Undeleted,
    },
};
use keepsake_shared::{MediaType, ObjectKey, Sha256Digest};
use std::ops;
use worker::{
    Conditional, Data, HttpMetadata, MultipartUpload, Object, Range, ResponseBody, UploadedPart,
    js_sys::Date, send::SendFuture, wasm_bindgen::JsCast, web_sys::ReadableStream,
};

/// R2's own number for "the checksum you specified did not match what we received"
/// (<https://developers.cloudflare.com/r2/api/error-codes/>).
const BAD_DIGEST: &str = "(10037)";

/// "The specified multipart upload does not exist."
const NO_SUCH_UPLOAD: &str = "(10024)";

/// "The requested range is not satisfiable."
const BAD_RANGE: &str = "(10039)";

/// How much of an object is read by one request while it is hashed. What a store sends faster than
/// it is hashed waits in memory: so that is no more than this.
const WINDOW_BYTES: u64 = 32 << 20;

/// The bucket of the binding `BUCKET`.
#[derive(Debug)]
pub(crate) struct R2(pub(crate) worker::Bucket);

impl Storage for R2 {
    fn store<'a>(
        &'a self,
        file: &'a DeclaredFile,
        bytes: &'a Bytes,
    ) -> Task<'a, Result<(), PutError>> {
        Box::pin(SendFuture::new(async move {
            let data = Data::Bytes(bytes.to_vec());
            self.put_data(&file.object_key, data, file.media_type, &file.sha256)
                .await
        }))
    }

    fn observe<'a>(
        &'a self,
        key: &'a ObjectKey,
        head: usize,
    ) -> Task<'a, Result<Option<StoredObject>, StorageError>> {
        Box::pin(SendFuture::new(async move {
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
        }))
    }

    fn read<'a>(
        &'a self,
        key: &'a ObjectKey,
        offset: u64,
        length: usize,
    ) -> Task<'a, Result<Vec<u8>, StorageError>> {
        Box::pin(SendFuture::new(async move {
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
        }))
    }

    fn digest<'a>(
        &'a self,
        key: &'a ObjectKey,
        size: u64,
    ) -> Task<'a, Result<Option<Sha256Digest>, StorageError>> {
        Box::pin(SendFuture::new(async move {
            let mut hasher = Box::new(Sha256Hasher::new());
            let mut offset = 0;
            while offset < size {
                let length = WINDOW_BYTES.min(size - offset);
                let found = self.get(key, Some(offset..offset + length)).await?;
                let Some(content) = found.and_then(|part| part.content) else {
                    return Ok(None);
                };
                hasher.add(content).await.map_err(StorageError)?;
                offset += length;
            }
            let digest = hasher.finish().await.map_err(StorageError)?;
            Ok(Some(Sha256Digest::from_bytes(digest)))
        }))
    }

    fn delete_many<'a>(
        &'a self,
        keys: &'a [String],
    ) -> Task<'a, Result<Vec<Undeleted>, StorageError>> {
        Box::pin(SendFuture::new(async move {
            if !keys.is_empty() {
                let keys = keys.iter().map(String::as_str).collect();
                let deleted = self.0.delete_multiple(keys).await;
                deleted.map_err(failed("delete"))?;
            }
            // R2 does not tell them apart.
            Ok(Vec::new())
        }))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: u32,
    ) -> Task<'a, Result<Listing, StorageError>> {
        Box::pin(SendFuture::new(async move {
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
        }))
    }

    fn begin_multipart<'a>(
        &'a self,
        file: &'a DeclaredFile,
    ) -> Task<'a, Result<String, StorageError>> {
        Box::pin(SendFuture::new(async move {
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
        }))
    }

    /// The binding lists no parts; the database has those that the worker took in.
    fn list_parts<'a>(
        &'a self,
        _: &'a ObjectKey,
        multipart: &'a Multipart,
    ) -> Task<'a, Result<Option<Vec<StoredPart>>, StorageError>> {
        Box::pin(SendFuture::new(
            async move { Ok(Some(multipart.parts.clone())) },
        ))
    }

    fn complete_multipart<'a>(
        &'a self,
        key: &'a ObjectKey,
        storage_id: &'a str,
        parts: &'a [StoredPart],
    ) -> Task<'a, Result<(), StorageError>> {
        Box::pin(SendFuture::new(async move {
            let parts = parts
                .iter()
                .map(|part| UploadedPart::new(part.number, part.etag.clone()));
            let joined = self.multipart(key, storage_id)?.complete(parts).await;
            unless_gone(joined.map(|_| ()).map_err(failed("complete")))
        }))
    }

    fn abort_multipart<'a>(
        &'a self,
        key: &'a ObjectKey,
        storage_id: &'a str,
    ) -> Task<'a, Result<(), StorageError>> {
        Box::pin(SendFuture::new(async move {
            let aborted = self.multipart(key, storage_id)?.abort().await;
            unless_gone(aborted.map_err(failed("abort")))
        }))
    }
}

impl R2 {
    /// Stores data, if nothing is stored under its key yet and its bytes have this SHA-256.
    async fn put_data(
        &self,
        key: &ObjectKey,
        data: Data,
        media_type: MediaType,
        sha256: &Sha256Digest,
    ) -> Result<(), PutError> {
        let stored = self
            .0
            .put(key.as_str(), data)
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

    fn multipart(
        &self,
        key: &ObjectKey,
        storage_id: &str,
    ) -> Result<MultipartUpload, StorageError> {
        self.0
            .resume_multipart_upload(key.as_str(), storage_id)
            .map_err(failed("resume"))
    }
}

impl Bucket for R2 {
    /// Stores a part of known length, and gives what the bucket calls it, if its bytes have this
    /// SHA-256. One of other bytes stays unknown: nothing names it, and the next of its number takes
    /// its place, as it took that of the one before.
    fn put_part<'a>(
        &'a self,
        part: Part<'a>,
        content: Content,
    ) -> Task<'a, Result<String, PutError>> {
        Box::pin(SendFuture::new(async move {
            let body = stream(content)?;
            let (stored, seen) = split(&body).map_err(PutError::Failed)?;
            let upload = self
                .multipart(part.key, part.storage_id)
                .map_err(PutError::Failed)?;
            let (stored, seen) = join(
                upload.upload_part(part.number, Data::ReadableStream(stored)),
                digest::sha256(&seen),
            )
            .await;
            let stored = stored.map_err(|error| match failed("part")(error) {
                error if error.0.contains(NO_SUCH_UPLOAD) => PutError::Closed,
                error => PutError::Failed(error),
            })?;
            let seen = seen.map_err(|error| PutError::Failed(StorageError(error)))?;
            if seen == *part.sha256 {
                Ok(stored.etag())
            } else {
                Err(PutError::PartLost)
            }
        }))
    }

    /// Stores a stream of known length, if nothing is stored under its key yet and its bytes have
    /// this SHA-256. The bytes go from the client to the bucket without passing through the
    /// worker's memory.
    fn put<'a>(
        &'a self,
        key: &'a ObjectKey,
        content: Content,
        _: u64,
        media_type: MediaType,
        sha256: &'a Sha256Digest,
    ) -> Task<'a, Result<(), PutError>> {
        Box::pin(SendFuture::new(async move {
            let body = Data::ReadableStream(stream(content)?);
            self.put_data(key, body, media_type, sha256).await
        }))
    }

    /// An object without its bytes.
    fn head<'a>(&'a self, key: &'a ObjectKey) -> Task<'a, Result<Option<Download>, StorageError>> {
        Box::pin(SendFuture::new(async move {
            let found = self.0.head(key.as_str()).await.map_err(failed("head"))?;
            Ok(found.map(|object| download(&object, None)))
        }))
    }

    /// An object's bytes, or a part of them, as a stream the runtime moves by itself.
    fn get<'a>(
        &'a self,
        key: &'a ObjectKey,
        part: Option<ops::Range<u64>>,
    ) -> Task<'a, Result<Option<Download>, StorageError>> {
        Box::pin(SendFuture::new(async move {
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
        }))
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
        content: body.map(bridge::moved),
    }
}

/// The runtime's stream of a content: it has one of each request's body.
fn stream(mut content: Content) -> Result<ReadableStream, PutError> {
    RawBody::of(&mut content.native)
        .map(RawBody::into_stream)
        .ok_or(PutError::LengthMismatch)
}

fn failed(operation: &'static str) -> impl Fn(worker::Error) -> StorageError {
    move |error| StorageError(format!("R2 {operation}: {error}"))
}
