use super::{
    S3,
    call::{Call, trouble},
    xml::{Element, push_escaped},
};
use crate::{
    model::{DeclaredFile, Multipart, StoredPart},
    runtime::{self, Task},
    storage::{Listing, PutError, Storage, StorageError, StoredObject, Undeleted, put_subject},
};
use axum::body::Bytes;
use base64::{Engine, engine::general_purpose::STANDARD};
use keepsake_shared::{ObjectKey, Sha256Digest, capabilities::ChecksumKind};

/// How much of an object is read by one request while it is hashed. What a store sends faster than
/// it is hashed waits in memory: so that is no more than this.
const WINDOW_BYTES: u64 = 32 << 20;

/// How long [`WINDOW_BYTES`] may take to be read and hashed, in seconds.
const WINDOW_SECONDS: u32 = 60;

/// How long one file that is in memory may take to be stored, in seconds.
const STORE_SECONDS: u32 = 40;

impl Storage for S3 {
    fn store<'a>(
        &'a self,
        file: &'a DeclaredFile,
        bytes: &'a Bytes,
    ) -> Task<'a, Result<(), PutError>> {
        Box::pin(async move {
            let headers = self.0.kind.capabilities().put_headers(&put_subject(file));
            let headers =
                headers.map_err(|error| PutError::Failed(StorageError(error.to_string())))?;
            // The length is that of the body, whose digest is signed.
            let headers: Vec<(&str, &str)> = headers
                .iter()
                .filter(|(name, _)| *name != "content-length")
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let call = Call {
                key: Some(file.object_key.as_str()),
                headers: &headers,
                body: Some(bytes),
                sha256: Some(file.sha256),
                seconds: STORE_SECONDS,
                ..Call::new("S3 PutObject", "PUT")
            };
            let answer = self.call(&call).await.map_err(PutError::Failed)?;
            match answer.status {
                200 => Ok(()),
                412 => Err(PutError::Exists),
                _ => Err(PutError::Failed(trouble(&call, &answer))),
            }
        })
    }

    fn observe<'a>(
        &'a self,
        key: &'a ObjectKey,
        head: usize,
    ) -> Task<'a, Result<Option<StoredObject>, StorageError>> {
        Box::pin(async move {
            let call = Call {
                key: Some(key.as_str()),
                headers: &[("x-amz-checksum-mode", "ENABLED")],
                ..Call::new("S3 HeadObject", "HEAD")
            };
            let answer = self.call(&call).await?;
            let size = match answer.status {
                200 => answer
                    .header("content-length")
                    .and_then(|length| length.parse().ok())
                    .ok_or_else(|| StorageError("S3 HEAD tells no length".to_owned()))?,
                404 => return Ok(None),
                _ => return Err(trouble(&call, &answer)),
            };
            let encoding = answer.header("content-encoding").unwrap_or_default();
            let encoded = !matches!(encoding, "" | "identity");
            // Of an object made of parts the store may tell a digest of their digests, which has
            // another form.
            let sha256 = answer
                .header(ChecksumKind::Sha256.header())
                .and_then(|digest| digest.parse().ok());
            drop(answer);
            Ok(Some(StoredObject {
                size,
                // The runtime would undo the encoding, or stumble over it.
                first_bytes: if encoded {
                    Vec::new()
                } else {
                    self.read(key, 0, head).await?
                },
                encoded,
                sha256,
            }))
        })
    }

    fn read<'a>(
        &'a self,
        key: &'a ObjectKey,
        offset: u64,
        length: usize,
    ) -> Task<'a, Result<Vec<u8>, StorageError>> {
        Box::pin(async move {
            let mut piece = Vec::new();
            loop {
                let begin = offset.saturating_add(piece.len() as u64);
                let (bytes, is_all) = self.read_some(key, begin, length - piece.len()).await?;
                piece.extend_from_slice(&bytes);
                if is_all {
                    return Ok(piece);
                }
            }
        })
    }

    fn digest<'a>(
        &'a self,
        key: &'a ObjectKey,
        size: u64,
    ) -> Task<'a, Result<Option<Sha256Digest>, StorageError>> {
        Box::pin(async move {
            let mut hasher = runtime::current().sha256();
            let mut offset = 0;
            while offset < size {
                let end = size.min(offset + WINDOW_BYTES);
                let range = format!("bytes={offset}-{}", end - 1);
                let call = Call {
                    key: Some(key.as_str()),
                    headers: &[("range", &range)],
                    seconds: WINDOW_SECONDS,
                    ..Call::new("S3 GetObject", "GET")
                };
                let answer = self.call(&call).await?;
                offset = match (answer.status, answer.range()) {
                    // The next window begins where this answer ends, be it less than was asked for.
                    (206, Some(range)) if range.begin == offset && range.end <= end => range.end,
                    // The range was passed over: this is the whole object. More than a window would wait in memory.
                    (200, _) if offset == 0 && size <= WINDOW_BYTES => size,
                    (404, _) => return Ok(None),
                    _ => return Err(trouble(&call, &answer)),
                };
                hasher.add(answer.content()).await.map_err(StorageError)?;
            }
            let digest = hasher.finish().await.map_err(StorageError)?;
            Ok(Some(Sha256Digest::from_bytes(digest)))
        })
    }

    fn delete_many<'a>(
        &'a self,
        keys: &'a [String],
    ) -> Task<'a, Result<Vec<Undeleted>, StorageError>> {
        Box::pin(async move {
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let body = deletion(keys);
            let md5 = runtime::current().md5(&body).await.map_err(StorageError)?;
            let (md5, body) = (STANDARD.encode(md5), body.into());
            let call = Call {
                query: &[("delete", "")],
                headers: &[("content-md5", &md5), ("content-type", "application/xml")],
                body: Some(&body),
                seconds: 30,
                ..Call::new("S3 DeleteObjects", "POST")
            };
            let answer = self.call(&call).await?;
            if answer.status != 200 {
                return Err(trouble(&call, &answer));
            }
            undeleted(keys, &answer.text().await?)
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: u32,
    ) -> Task<'a, Result<Listing, StorageError>> {
        Box::pin(async move {
            let limit = limit.to_string();
            let query = [
                ("list-type", "2"),
                ("max-keys", &limit),
                ("prefix", prefix),
                ("start-after", after.unwrap_or_default()),
            ];
            let call = Call {
                // An empty start is none.
                query: &query[..if after.is_some() { 4 } else { 3 }],
                ..Call::new("S3 ListObjectsV2", "GET")
            };
            let answer = self.call(&call).await?;
            if answer.status != 200 {
                return Err(trouble(&call, &answer));
            }
            listing(&answer.text().await?)
        })
    }

    fn begin_multipart<'a>(
        &'a self,
        file: &'a DeclaredFile,
    ) -> Task<'a, Result<String, StorageError>> {
        Box::pin(async move { self.begin(file).await })
    }

    fn list_parts<'a>(
        &'a self,
        key: &'a ObjectKey,
        multipart: &'a Multipart,
    ) -> Task<'a, Result<Option<Vec<StoredPart>>, StorageError>> {
        Box::pin(async move { self.parts(key, &multipart.storage_id).await })
    }

    fn complete_multipart<'a>(
        &'a self,
        key: &'a ObjectKey,
        storage_id: &'a str,
        parts: &'a [StoredPart],
    ) -> Task<'a, Result<(), StorageError>> {
        Box::pin(async move { self.complete(key, storage_id, parts).await })
    }

    fn abort_multipart<'a>(
        &'a self,
        key: &'a ObjectKey,
        storage_id: &'a str,
    ) -> Task<'a, Result<(), StorageError>> {
        Box::pin(async move { self.abort(key, storage_id).await })
    }
}

impl S3 {
    /// As [`Storage::read`], but at most what one answer has, and whether that is all there is.
    async fn read_some(
        &self,
        key: &ObjectKey,
        offset: u64,
        length: usize,
    ) -> Result<(Vec<u8>, bool), StorageError> {
        let end = offset.saturating_add(length as u64);
        let range = format!("bytes={offset}-{}", end.saturating_sub(1));
        let call = Call {
            key: Some(key.as_str()),
            headers: &[("range", &range)],
            ..Call::new("S3 GetObject", "GET")
        };
        let answer = self.call(&call).await?;
        match (answer.status, answer.range()) {
            (206, Some(range)) if range.begin == offset => {
                let is_all = range.end >= end || range.size == Some(range.end);
                let bytes = answer.part(0, length).await?;
                if bytes.len() as u64 != range.end.min(end) - offset {
                    return Err(StorageError("S3: the answer broke off".to_owned()));
                }
                Ok((bytes, is_all))
            }
            // A server may pass over a range (RFC 9110 §14.2).
            (200, _) => Ok((answer.part(offset, length).await?, true)),
            // The object ends before, or has gone since it was looked at.
            (404 | 416, _) => Ok((Vec::new(), true)),
            _ => Err(trouble(&call, &answer)),
        }
    }
}

/// The keys of a ListObjectsV2 answer.
fn listing(answer: &str) -> Result<Listing, StorageError> {
    let result = Element::parse(answer)
        .map_err(|error| StorageError(format!("S3 ListObjectsV2: {error}")))?;
    let more = result.text("IsTruncated");
    match (result.name(), more) {
        ("ListBucketResult", Some(more)) => Ok(Listing {
            keys: result
                .all("Contents")
                .filter_map(|object| object.text("Key"))
                .map(ToOwned::to_owned)
                .collect(),
            more: more == "true",
        }),
        (name, _) => Err(StorageError(format!("S3 ListObjectsV2: {name}"))),
    }
}

/// The body of DeleteObjects. `Quiet`: only what could not be deleted is told.
fn deletion(keys: &[String]) -> String {
    let mut body = String::from("<Delete><Quiet>true</Quiet>");
    for key in keys {
        body.push_str("<Object><Key>");
        push_escaped(&mut body, key);
        body.push_str("</Key></Object>");
    }
    body.push_str("</Delete>");
    body
}

/// What an answer with status 200 says was not deleted.
fn undeleted(keys: &[String], answer: &str) -> Result<Vec<Undeleted>, StorageError> {
    let unreadable = |error| StorageError(format!("S3 DeleteObjects: {error}"));
    let result = Element::parse(answer).map_err(unreadable)?;
    if result.name() != "DeleteResult" {
        return Err(StorageError(format!("S3 DeleteObjects: {}", result.name())));
    }
    let mut undeleted = Vec::new();
    for failed in result.all("Error") {
        let code = failed.text("Code").unwrap_or("unknown");
        // A key that is not there is as good as deleted.
        if code == "NoSuchKey" {
            continue;
        }
        let error = StorageError(format!("S3 DeleteObjects: {code}"));
        let key = failed.text("Key").unwrap_or_default();
        match keys.iter().find(|wanted| *wanted == key) {
            Some(key) => undeleted.push(Undeleted {
                key: key.clone(),
                error,
            }),
            // It may be any of them.
            None => return Err(error),
        }
    }
    Ok(undeleted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_was_not_deleted() {
        let keys = ["a&b", "c"].map(ToOwned::to_owned);
        let undeleted = |answer| undeleted(&keys, answer);
        assert_eq!(undeleted("<DeleteResult/>"), Ok(Vec::new()));
        let gone = "<DeleteResult><Error><Key>a</Key><Code>NoSuchKey</Code></Error></DeleteResult>";
        assert_eq!(undeleted(gone), Ok(Vec::new()));
        let one = "<DeleteResult><Error><Key>a&amp;b</Key><Code>AccessDenied</Code></Error><Error><Key>c</Key><Code>NoSuchKey</Code></Error></DeleteResult>";
        let denied = Undeleted {
            key: "a&b".to_owned(),
            error: StorageError("S3 DeleteObjects: AccessDenied".to_owned()),
        };
        assert_eq!(undeleted(one), Ok(vec![denied]));
        for answer in [
            "<DeleteResult><Error/></DeleteResult>",
            "<DeleteResult><Error><Key>d</Key><Code>AccessDenied</Code></Error></DeleteResult>",
            "<Error><Code>MalformedXML</Code></Error>",
            "<html>",
        ] {
            assert!(undeleted(answer).is_err(), "{answer}");
        }
    }

    #[test]
    fn reads_a_listing() {
        let answer = "<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>t/a</Key><Size>1</Size></Contents><Contents><Key>t/b</Key></Contents></ListBucketResult>";
        let want = Listing {
            keys: vec!["t/a".to_owned(), "t/b".to_owned()],
            more: true,
        };
        assert_eq!(listing(answer), Ok(want));
        for answer in [
            "<ListBucketResult/>",
            "<Error><IsTruncated>false</IsTruncated></Error>",
            "<",
        ] {
            assert!(listing(answer).is_err(), "{answer}");
        }
    }

    #[test]
    fn a_key_is_no_markup() {
        let body = deletion(&["a<b>&c".to_owned()]);
        assert_eq!(
            body,
            "<Delete><Quiet>true</Quiet><Object><Key>a&lt;b&gt;&amp;c</Key></Object></Delete>"
        );
    }
}
