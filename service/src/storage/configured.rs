use super::{Bucket, Listing, PutError, S3, Storage, StorageError, StoredObject, Undeleted};
use crate::{
    model::{DeclaredFile, Multipart, StoredPart},
    runtime::Task,
};
use axum::body::Bytes;
use keepsake_shared::{ObjectKey, Sha256Digest};
use std::sync::Arc;

/// The store that the settings name.
#[derive(Debug)]
pub enum Store {
    /// One that the service serves itself.
    Served(Arc<dyn Bucket>),
    /// A store that speaks S3.
    S3(S3),
}

impl Store {
    /// Whether it could take an object in now, where it is one that the service serves itself; else whether it answers. `nothing`
    /// is the key of no object.
    pub(crate) async fn probe(&self, nothing: &ObjectKey) -> Result<(), StorageError> {
        match self {
            Self::Served(bucket) => bucket.probe(nothing).await,
            Self::S3(s3) => s3.observe(nothing, 0).await.map(drop),
        }
    }
}

/// Implements [`Storage`] for [`Store`]: each method calls the same one of the store that is configured.
macro_rules! dispatch {
    ($(fn $method:ident(&self $(, $argument:ident: $type:ty)* $(,)?) -> $answer:ty;)+) => {
        impl Storage for Store {
            $(fn $method<'a>(&'a self $(, $argument: $type)*) -> Task<'a, $answer> {
                match self {
                    Self::Served(bucket) => bucket.$method($($argument),*),
                    Self::S3(s3) => s3.$method($($argument),*),
                }
            })+
        }
    };
}

dispatch! {
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
