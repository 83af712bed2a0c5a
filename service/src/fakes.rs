//! For unit tests: a database that answers from a script and records its calls, and a store in memory.

use crate::{
    db::{Call, Database, DbError, SystemFunction},
    model::{DeclaredFile, Multipart, StoredPart},
    runtime::Task,
    storage::{Listing, PutError, Storage, StorageError, StoredObject, Undeleted},
};
use axum::body::Bytes;
use keepsake_shared::{ObjectKey, Sha256Digest};
use serde_json::Value;
use std::{cell::RefCell, collections::HashMap, future::ready};

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
    fn call<'a>(&'a self, call: Call<'a>) -> Task<'a, Result<Value, DbError>> {
        let answer = || {
            if let Call::System { function, request } = call {
                self.calls.borrow_mut().push((function, request));
            }
            self.answers.borrow_mut().pop().unwrap()
        };
        Box::pin(ready(answer()))
    }
}

/// Holds objects by key.
#[derive(Debug, Default)]
pub(crate) struct MemoryStorage {
    pub(crate) objects: RefCell<HashMap<String, StoredObject>>,
    pub(crate) broken: bool,
    /// Keys that it does not delete.
    pub(crate) undeletable: Vec<String>,
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
    fn store<'a>(
        &'a self,
        file: &'a DeclaredFile,
        bytes: &'a Bytes,
    ) -> Task<'a, Result<(), PutError>> {
        let answer = || {
            self.check().map_err(PutError::Failed)?;
            let object = StoredObject {
                size: bytes.len() as u64,
                sha256: Some(Sha256Digest::of(bytes)),
                first_bytes: bytes.to_vec(),
                encoded: false,
            };
            let key = file.object_key.as_str().to_owned();
            match self.objects.borrow_mut().insert(key, object) {
                Some(_) => Err(PutError::Exists),
                None => Ok(()),
            }
        };
        Box::pin(ready(answer()))
    }

    fn observe<'a>(
        &'a self,
        key: &'a ObjectKey,
        head: usize,
    ) -> Task<'a, Result<Option<StoredObject>, StorageError>> {
        let answer = || {
            self.check()?;
            let found = self.objects.borrow().get(key.as_str()).cloned();
            Ok(found.map(|mut object| {
                object.first_bytes.truncate(head);
                object
            }))
        };
        Box::pin(ready(answer()))
    }

    fn read<'a>(
        &'a self,
        key: &'a ObjectKey,
        offset: u64,
        length: usize,
    ) -> Task<'a, Result<Vec<u8>, StorageError>> {
        let answer = || {
            self.check()?;
            let objects = self.objects.borrow();
            let bytes = objects
                .get(key.as_str())
                .and_then(|object| object.first_bytes.get(offset as usize..))
                .unwrap_or_default();
            Ok(bytes.iter().copied().take(length).collect())
        };
        Box::pin(ready(answer()))
    }

    fn digest<'a>(
        &'a self,
        key: &'a ObjectKey,
        _: u64,
    ) -> Task<'a, Result<Option<Sha256Digest>, StorageError>> {
        let answer = || {
            self.check()?;
            let objects = self.objects.borrow();
            let object = objects.get(key.as_str());
            Ok(object.map(|object| Sha256Digest::of(&object.first_bytes)))
        };
        Box::pin(ready(answer()))
    }

    fn delete_many<'a>(
        &'a self,
        keys: &'a [String],
    ) -> Task<'a, Result<Vec<Undeleted>, StorageError>> {
        let answer = || {
            self.check()?;
            let (kept, gone): (Vec<&String>, Vec<&String>) =
                keys.iter().partition(|key| self.undeletable.contains(*key));
            self.objects
                .borrow_mut()
                .retain(|key, _| !gone.contains(&key));
            let undeleted = kept.into_iter().map(|key| Undeleted {
                key: key.clone(),
                error: StorageError("it is locked".to_owned()),
            });
            Ok(undeleted.collect())
        };
        Box::pin(ready(answer()))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: u32,
    ) -> Task<'a, Result<Listing, StorageError>> {
        let answer = || {
            self.check()?;
            let mut keys: Vec<String> = self.objects.borrow().keys().cloned().collect();
            keys.retain(|key| {
                key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after)
            });
            keys.sort_unstable();
            let more = keys.len() > limit as usize;
            keys.truncate(limit as usize);
            Ok(Listing { keys, more })
        };
        Box::pin(ready(answer()))
    }

    fn begin_multipart<'a>(
        &'a self,
        _: &'a DeclaredFile,
    ) -> Task<'a, Result<String, StorageError>> {
        let answer = || self.check().map(|()| "s".to_owned());
        Box::pin(ready(answer()))
    }

    fn list_parts<'a>(
        &'a self,
        _: &'a ObjectKey,
        multipart: &'a Multipart,
    ) -> Task<'a, Result<Option<Vec<StoredPart>>, StorageError>> {
        let answer = || self.check().map(|()| Some(multipart.parts.clone()));
        Box::pin(ready(answer()))
    }

    fn complete_multipart<'a>(
        &'a self,
        _: &'a ObjectKey,
        _: &'a str,
        _: &'a [StoredPart],
    ) -> Task<'a, Result<(), StorageError>> {
        let answer = || self.check();
        Box::pin(ready(answer()))
    }

    fn abort_multipart<'a>(
        &'a self,
        _: &'a ObjectKey,
        _: &'a str,
    ) -> Task<'a, Result<(), StorageError>> {
        let answer = || self.check();
        Box::pin(ready(answer()))
    }
}
