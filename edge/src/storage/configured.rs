use super::{Bucket, Listing, S3, Storage, StorageError, StoredObject};
use crate::model::{DeclaredFile, Multipart, StoredPart};
use keepsake_shared::{ObjectKey, Sha256Digest};

/// The store that the settings name.
#[derive(Debug)]
pub(crate) enum Store {
    /// An R2 bucket through its binding.
    R2(Bucket),
    /// A store that speaks S3.
    S3(S3),
}

/// Implements [`Storage`] for [`Store`]: each method calls the same one of the store that is configured.
macro_rules! dispatch {
    ($(async fn $method:ident(&self $(, $argument:ident: $type:ty)* $(,)?) -> $answer:ty;)+) => {
        impl Storage for Store {
            $(async fn $method(&self $(, $argument: $type)*) -> $answer {
                match self {
                    Self::R2(bucket) => bucket.$method($($argument),*).await,
                    Self::S3(s3) => s3.$method($($argument),*).await,
                }
            })+
        }
    };
}

dispatch! {
    async fn observe(&self, key: &ObjectKey, head: usize) -> Result<Option<StoredObject>, StorageError>;
    async fn read(&self, key: &ObjectKey, offset: u64, length: usize) -> Result<Vec<u8>, StorageError>;
    async fn digest(&self, key: &ObjectKey, size: u64) -> Result<Option<Sha256Digest>, StorageError>;
    async fn delete_many(&self, keys: &[String]) -> Result<(), StorageError>;
    async fn list(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Listing, StorageError>;
    async fn begin_multipart(&self, file: &DeclaredFile) -> Result<String, StorageError>;
    async fn list_parts(&self, key: &ObjectKey, multipart: &Multipart) -> Result<Option<Vec<StoredPart>>, StorageError>;
    async fn complete_multipart(&self, key: &ObjectKey, storage_id: &str, parts: &[StoredPart]) -> Result<(), StorageError>;
    async fn abort_multipart(&self, key: &ObjectKey, storage_id: &str) -> Result<(), StorageError>;
}
