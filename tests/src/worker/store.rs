//! Where objects are stored.

use std::fmt::Debug;

use anyhow::Result;

use super::Host;

/// A kind of store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Store {
    /// The bucket that is bound to the worker.
    R2,
    /// A server that speaks S3.
    S3,
    /// A folder of `keepsake serve`.
    File,
}

impl Store {
    /// That of the variable `KEEPSAKE_STORE`, if it names one.
    ///
    /// # Panics
    /// It names none that there is, or one that the host does not have: no test could tell anything.
    #[must_use]
    pub fn named() -> Option<Self> {
        let name = std::env::var("KEEPSAKE_STORE").ok()?;
        let store = match (name.as_str(), Host::chosen()) {
            ("", _) => return None,
            ("r2", Host::Worker | Host::Workerd) => Some(Self::R2),
            ("s3", _) => Some(Self::S3),
            ("file", Host::Native) => Some(Self::File),
            _ => None,
        };
        assert!(
            store.is_some(),
            "KEEPSAKE_STORE={name}: the worker has r2 and s3, keepsake serve file and s3"
        );
        store
    }

    /// The one that is named, or else the host's own.
    #[must_use]
    pub fn chosen() -> Self {
        Self::named().unwrap_or(match Host::chosen() {
            Host::Worker | Host::Workerd => Self::R2,
            Host::Native => Self::File,
        })
    }
}

/// A store outside of the stack.
pub trait OuterStore: Debug + Send + Sync {
    /// The settings of a worker that keeps its objects there.
    fn settings(&self) -> Vec<(String, String)>;

    /// The bytes of an object, asked of the store itself.
    fn object(&self, key: &str) -> Option<Vec<u8>>;

    /// Stores an object behind the service's back.
    ///
    /// # Errors
    /// The store's.
    fn put(&self, key: &str, bytes: &[u8]) -> Result<()>;
}
