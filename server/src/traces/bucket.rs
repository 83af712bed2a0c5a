//! A bucket whose operations are traced: which one, how long, and whether it failed. Neither key nor name is told.

use super::span::{Kind, Span};
use axum::body::Bytes;
use keepsake_service::{
    model::{DeclaredFile, Multipart, StoredPart},
    runtime::{Content, Task},
    storage::{
        Bucket, Download, Listing, Part, PutError, Storage, StorageError, StoredObject, Undeleted,
    },
};
use keepsake_shared::{MediaType, ObjectKey, Sha256Digest};
use opentelemetry::KeyValue;
use std::ops::Range;

/// A bucket, traced.
#[derive(Debug)]
pub(crate) struct Traced<B>(pub(crate) B);

/// Implements a trait: each method calls the same one of the bucket, within a span.
macro_rules! traced {
    ($trait:ident { $(fn $method:ident(&self $(, $argument:ident: $type:ty)* $(,)?) -> $answer:ty;)+ }) => {
        impl<B: Bucket> $trait for Traced<B> {
            $(fn $method<'a>(&'a self $(, $argument: $type)*) -> Task<'a, $answer> {
                Box::pin(async move {
                    let span = begin(concat!("bucket ", stringify!($method)));
                    let answer = span.around(self.0.$method($($argument),*)).await;
                    if let Some(way) = answer.as_ref().err().and_then(Failing::way) {
                        span.fail(way);
                    }
                    answer
                })
            })+
        }
    };
}

traced! {
    Storage {
        fn store(&self, file: &'a DeclaredFile, bytes: &'a Bytes) -> Result<(), PutError>;
        fn observe(&self, key: &'a ObjectKey, head: usize) -> Result<Option<StoredObject>, StorageError>;
        fn read(&self, key: &'a ObjectKey, offset: u64, length: usize) -> Result<Vec<u8>, StorageError>;
        fn digest(&self, key: &'a ObjectKey, size: u64) -> Result<Option<Sha256Digest>, StorageError>;
        fn delete_many(&self, keys: &'a [String]) -> Result<Vec<Undeleted>, StorageError>;
        fn list(&self, prefix: &'a str, after: Option<&'a str>, limit: u32) -> Result<Listing, StorageError>;
        fn begin_multipart(&self, file: &'a DeclaredFile) -> Result<String, StorageError>;
        fn list_parts(&self, key: &'a ObjectKey, multipart: &'a Multipart) -> Result<Option<Vec<StoredPart>>, StorageError>;
        fn complete_multipart(&self, key: &'a ObjectKey, storage_id: &'a str, parts: &'a [StoredPart]) -> Result<(), StorageError>;
        fn abort_multipart(&self, key: &'a ObjectKey, storage_id: &'a str) -> Result<(), StorageError>;
    }
}

traced! {
    Bucket {
        fn put(&self, key: &'a ObjectKey, content: Content, size: u64, media_type: MediaType, sha256: &'a Sha256Digest) -> Result<(), PutError>;
        fn put_part(&self, part: Part<'a>, content: Content) -> Result<String, PutError>;
        fn probe(&self, nothing: &'a ObjectKey) -> Result<(), StorageError>;
        fn head(&self, key: &'a ObjectKey) -> Result<Option<Download>, StorageError>;
        fn get(&self, key: &'a ObjectKey, part: Option<Range<u64>>) -> Result<Option<Download>, StorageError>;
    }
}

fn begin(name: &'static str) -> Span {
    Span::begin(Kind::Internal, || {
        (name.into(), vec![KeyValue::new("keepsake.store", "file")])
    })
}

/// Whether an error is the store's, and in which of a few ways. What the client sent wrong, or not at all, is none.
trait Failing {
    fn way(&self) -> Option<&'static str>;
}

impl Failing for StorageError {
    fn way(&self) -> Option<&'static str> {
        Some("storage_unavailable")
    }
}

impl Failing for PutError {
    fn way(&self) -> Option<&'static str> {
        match self {
            Self::Failed(error) => error.way(),
            Self::Busy => Some("busy"),
            Self::Stalled(_)
            | Self::BrokenOff(_)
            | Self::Exists
            | Self::LengthMismatch
            | Self::Sha256Mismatch
            | Self::PartLost
            | Self::Closed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_a_client_does_is_no_failure_of_the_store() {
        let error = || StorageError("why".to_owned());
        for client in [
            PutError::Stalled(Duration::from_secs(60)),
            PutError::BrokenOff(error()),
            PutError::Exists,
            PutError::LengthMismatch,
            PutError::Sha256Mismatch,
            PutError::Closed,
        ] {
            assert_eq!(client.way(), None, "{client:?}");
        }
        assert_eq!(PutError::Failed(error()).way(), Some("storage_unavailable"));
        assert_eq!(PutError::Busy.way(), Some("busy"));
    }
}
