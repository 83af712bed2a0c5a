//! For unit tests: a database that answers from a script and records its calls, and a store in memory.

use crate::{
    db::{Call, Database, DbError, SystemFunction},
    model::{DeclaredFile, Multipart, StoredPart},
    storage::{Listing, Storage, StorageError, StoredObject},
};
use keepsake_shared::{ObjectKey, Sha256Digest};
use serde_json::Value;
use std::{cell::RefCell, collections::HashMap};

/// Most pixels of an image.
pub(crate) const MAX_PIXELS: u64 = 100_000_000;

/// Answers calls in the order of its script.
#[derive(Debug, Default)]
pub(crate) struct ScriptedDatabase {
    answers: RefCell<Vec<Result<Value, DbError>>>,
    calls: RefCell<Vec<(SystemFunction, Value)>>,
}

impl ScriptedDatabase {
    pub(crate) fn new(answers: impl IntoIterator<Item = Result<Value, DbError>>) -> Self {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Self {
            answers: answers.into(),
            calls: RefCell::default(),
        }
    }

    /// What was asked so far.
    pub(crate) fn calls(&self) -> Vec<(SystemFunction, Value)> {
        self.calls.borrow().clone()
    }
}

impl Database for ScriptedDatabase {
    async fn call(&self, call: Call<'_>) -> Result<Value, DbError> {
        if let Call::System { function, request } = call {
            self.calls.borrow_mut().push((function, request));
        }
        self.answers.borrow_mut().pop().unwrap()
    }
}

/// Holds objects by key.
#[derive(Debug, Default)]
pub(crate) struct MemoryStorage {
    pub(crate) objects: RefCell<HashMap<String, StoredObject>>,
    pub(crate) broken: bool,
}

impl MemoryStorage {
    fn check(&self) -> Result<(), StorageError> {
        if self.broken {
            Err(StorageError("the store is down".to_owned()))
        } else {
            Ok(())
        }
    }
}

impl Storage for MemoryStorage {
    async fn observe(
        &self,
        key: &ObjectKey,
        head: usize,
    ) -> Result<Option<StoredObject>, StorageError> {
        self.check()?;
        let found = self.objects.borrow().get(key.as_str()).cloned();
        Ok(found.map(|mut object| {
            object.first_bytes.truncate(head);
            object
        }))
    }

    async fn read(
        &self,
        key: &ObjectKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        self.check()?;
        let objects = self.objects.borrow();
        let bytes = objects
            .get(key.as_str())
            .and_then(|object| object.first_bytes.get(offset as usize..))
            .unwrap_or_default();
        Ok(bytes.iter().copied().take(length).collect())
    }

    async fn digest(&self, key: &ObjectKey, _: u64) -> Result<Option<Sha256Digest>, StorageError> {
        self.check()?;
        let objects = self.objects.borrow();
        let object = objects.get(key.as_str());
        Ok(object.map(|object| Sha256Digest::of(&object.first_bytes)))
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), StorageError> {
        self.check()?;
        self.objects
            .borrow_mut()
            .retain(|key, _| !keys.contains(key));
        Ok(())
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Listing, StorageError> {
        self.check()?;
        let mut keys: Vec<String> = self.objects.borrow().keys().cloned().collect();
        keys.retain(|key| {
            key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after)
        });
        keys.sort_unstable();
        let more = keys.len() > limit as usize;
        keys.truncate(limit as usize);
        Ok(Listing { keys, more })
    }

    async fn begin_multipart(&self, _: &DeclaredFile) -> Result<String, StorageError> {
        self.check().map(|()| "s".to_owned())
    }

    async fn list_parts(
        &self,
        _: &ObjectKey,
        multipart: &Multipart,
    ) -> Result<Option<Vec<StoredPart>>, StorageError> {
        self.check().map(|()| Some(multipart.parts.clone()))
    }

    async fn complete_multipart(
        &self,
        _: &ObjectKey,
        _: &str,
        _: &[StoredPart],
    ) -> Result<(), StorageError> {
        self.check()
    }

    async fn abort_multipart(&self, _: &ObjectKey, _: &str) -> Result<(), StorageError> {
        self.check()
    }
}
