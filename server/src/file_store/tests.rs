//! The store, asked as the service asks it.

use super::{FileStore, incoming::Incoming, parts::part_name, waiting::PAUSE};
use axum::body::{Body, Bytes};
use keepsake_service::{
    model::StoredPart,
    runtime::Content,
    storage::{Bucket, Part, PutError, Storage},
};
use keepsake_shared::{MediaType, ObjectKey, Sha256Digest};
use std::{io, time::Duration};
use tokio::time::sleep;
use uuid::Uuid;

struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> (Self, FileStore) {
        let name = format!("keepsake-files-{}", Uuid::new_v4());
        let path = std::env::temp_dir().join(name);
        let store = FileStore::open(&path).unwrap();
        (Self(path), store)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn key(tenant: &str, entity: &str, number: u8) -> ObjectKey {
    let id = format!("0198f7d0-1111-7aaa-8bbb-0000000000{number:02x}");
    ObjectKey::parse(&format!("t/{tenant}/post/{entity}/{id}.txt")).unwrap()
}

fn text() -> MediaType {
    MediaType::from_extension("txt").unwrap()
}

async fn put(store: &FileStore, key: &ObjectKey, bytes: &'static [u8]) -> Result<(), PutError> {
    put_as(
        store,
        key,
        bytes,
        bytes.len() as u64,
        Sha256Digest::of(bytes),
    )
    .await
}

async fn put_as(
    store: &FileStore,
    key: &ObjectKey,
    bytes: &'static [u8],
    size: u64,
    sha256: Sha256Digest,
) -> Result<(), PutError> {
    let content = Content {
        body: Body::from(bytes),
        ..Content::default()
    };
    store.put(key, content, size, text(), &sha256).await
}

fn incoming(scratch: &Scratch) -> usize {
    std::fs::read_dir(scratch.0.join("incoming"))
        .unwrap()
        .count()
}

#[tokio::test]
async fn takes_exactly_what_was_declared_and_only_once() {
    let (scratch, store) = Scratch::new();
    let key = key("acme", "7", 1);
    let digest = Sha256Digest::of(b"hello");
    let short = put_as(&store, &key, b"hell", 5, digest).await;
    assert_eq!(short, Err(PutError::LengthMismatch));
    let long = put_as(&store, &key, b"hello!", 5, digest).await;
    assert_eq!(long, Err(PutError::LengthMismatch));
    let other = put_as(&store, &key, b"jello", 5, digest).await;
    assert_eq!(other, Err(PutError::Sha256Mismatch));
    assert_eq!(store.observe(&key, 9).await, Ok(None));
    assert_eq!(put(&store, &key, b"hello").await, Ok(()));
    assert_eq!(put(&store, &key, b"other").await, Err(PutError::Exists));
    let seen = store.observe(&key, 4).await.unwrap().unwrap();
    assert_eq!((seen.size, seen.first_bytes), (5, b"hell".to_vec()));
    assert_eq!(store.digest(&key, 5).await, Ok(Some(digest)));
    assert_eq!(incoming(&scratch), 0);
}

#[tokio::test]
async fn of_many_at_once_one_is_stored() {
    let (scratch, store) = Scratch::new();
    let key = key("acme", "7", 1);
    let puts = (0..16).map(|_| put(&store, &key, b"hello"));
    let outcomes = futures_util::future::join_all(puts).await;
    let stored = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(stored, 1, "{outcomes:?}");
    assert_eq!(incoming(&scratch), 0);
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let (scratch, store) = Scratch::new();
    let key = key("acme", "7", 1);
    let pieces = [Ok(&b"hel"[..]), Err(io::Error::other("gone"))];
    let content = Content {
        body: Body::from_stream(futures_util::stream::iter(pieces)),
        ..Content::default()
    };
    let digest = Sha256Digest::of(b"hello");
    let outcome = store.put(&key, content, 5, text(), &digest).await;
    assert!(
        matches!(outcome, Err(PutError::BrokenOff(_))),
        "{outcome:?}"
    );
    assert_eq!(store.observe(&key, 0).await, Ok(None));
    assert_eq!(incoming(&scratch), 0);
}

#[tokio::test]
async fn keys_are_listed_in_the_order_of_their_bytes() {
    let (_scratch, store) = Scratch::new();
    let mut keys = Vec::new();
    for tenant in ["a", "a-b", "ab", "B"] {
        for entity in ["1", "1-2", "12"] {
            for number in [3, 1, 2] {
                let key = key(tenant, entity, number);
                put(&store, &key, b"x").await.unwrap();
                keys.push(key.as_str().to_owned());
            }
        }
    }
    keys.sort_unstable();
    let mut after = None;
    let mut seen = Vec::new();
    loop {
        let page = store.list("t/", after.as_deref(), 5).await.unwrap();
        seen.extend(page.keys.clone());
        after = page.keys.last().cloned();
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, keys);
    let some = store.list("t/ab/", None, 100).await.unwrap();
    assert_eq!(some.keys.len(), 9);
    assert!(!some.more);
}

#[tokio::test]
async fn what_is_deleted_leaves_no_folder_behind() {
    let (scratch, store) = Scratch::new();
    let (first, second) = (key("acme", "7", 1), key("acme", "8", 2));
    for key in [&first, &second] {
        put(&store, key, b"hello").await.unwrap();
    }
    let gone = [
        first.as_str().to_owned(),
        key("no", "1", 3).as_str().to_owned(),
    ];
    for _ in 0..2 {
        assert_eq!(store.delete_many(&gone).await, Ok(Vec::new()));
    }
    assert!(!scratch.0.join("objects/t/acme/post/7").exists());
    assert!(store.observe(&second, 0).await.unwrap().is_some());
    put(&store, &first, b"again").await.unwrap();
}

#[tokio::test]
async fn a_link_is_never_followed() {
    let (scratch, store) = Scratch::new();
    let outside = scratch.0.join("outside");
    std::fs::create_dir(&outside).unwrap();
    let key = key("acme", "7", 1);
    let name = key.as_str().rsplit('/').next().unwrap();
    std::fs::write(outside.join(name), "secret").unwrap();
    std::fs::create_dir_all(scratch.0.join("objects/t/acme/post")).unwrap();
    std::os::unix::fs::symlink(&outside, scratch.0.join("objects/t/acme/post/7")).unwrap();
    assert!(store.observe(&key, 9).await.is_err());
    assert!(store.get(&key, None).await.is_err());
    let outcome = put(&store, &key, b"hello").await;
    assert!(matches!(outcome, Err(PutError::Failed(_))), "{outcome:?}");
    // The one that cannot be deleted keeps no other.
    let other = self::key("acme", "8", 2);
    put(&store, &other, b"hello").await.unwrap();
    let both = [&key, &other].map(|key| key.as_str().to_owned());
    let undeleted = store.delete_many(&both).await.unwrap();
    assert_eq!(undeleted.len(), 1, "{undeleted:?}");
    assert_eq!(undeleted[0].key, key.as_str());
    assert_eq!(store.observe(&other, 0).await, Ok(None));
    assert_eq!(std::fs::read(outside.join(name)).unwrap(), b"secret");
    assert_eq!(store.list("t/", None, 9).await.unwrap().keys, [""; 0]);
}

#[tokio::test]
async fn parts_are_joined_once_and_not_after_they_were_aborted() {
    let (scratch, store) = Scratch::new();
    let key = key("acme", "7", 1);
    let id = {
        let id = Uuid::new_v4().to_string();
        store.0.parts.make(&id).unwrap();
        id
    };
    let mut parts = Vec::new();
    for (number, bytes) in [(1, &b"hello, "[..]), (2, b"world")] {
        let sha256 = Sha256Digest::of(bytes);
        let part = Part {
            key: &key,
            storage_id: &id,
            number,
            size: bytes.len() as u64,
            sha256: &sha256,
        };
        let content = || Content {
            body: Body::from(bytes),
            ..Content::default()
        };
        // A second time it takes its own place.
        store.put_part(part, content()).await.unwrap();
        let etag = store.put_part(part, content()).await.unwrap();
        parts.push(StoredPart {
            number,
            etag,
            size: bytes.len() as u64,
            checksum: None,
        });
    }
    for _ in 0..2 {
        store.complete_multipart(&key, &id, &parts).await.unwrap();
    }
    let whole = store.read(&key, 0, 99).await.unwrap();
    assert_eq!(whole, b"hello, world");
    assert_eq!(
        store.digest(&key, 12).await,
        Ok(Some(Sha256Digest::of(b"hello, world")))
    );
    store.abort_multipart(&key, &id).await.unwrap();
    let sha256 = Sha256Digest::of(b"x");
    let part = Part {
        key: &key,
        storage_id: &id,
        number: 1,
        size: 1,
        sha256: &sha256,
    };
    let content = Content {
        body: Body::from("x"),
        ..Content::default()
    };
    assert_eq!(store.put_part(part, content).await, Err(PutError::Closed));
    assert_eq!(incoming(&scratch), 0);
}

/// A multipart upload of two parts that have been taken in.
async fn two_parts(store: &FileStore, key: &ObjectKey) -> (String, Vec<StoredPart>) {
    let id = Uuid::new_v4().to_string();
    store.0.parts.make(&id).unwrap();
    let mut parts = Vec::new();
    for (number, bytes) in [(1, &b"hello, "[..]), (2, b"world")] {
        let etag = put_part(store, key, &id, number, bytes).await.unwrap();
        parts.push(StoredPart {
            number,
            etag,
            size: bytes.len() as u64,
            checksum: None,
        });
    }
    (id, parts)
}

async fn put_part(
    store: &FileStore,
    key: &ObjectKey,
    id: &str,
    number: u16,
    bytes: &'static [u8],
) -> Result<String, PutError> {
    let part = Part {
        key,
        storage_id: id,
        number,
        size: bytes.len() as u64,
        sha256: &Sha256Digest::of(bytes),
    };
    let content = Content {
        body: Body::from(bytes),
        ..Content::default()
    };
    store.put_part(part, content).await
}

#[tokio::test]
async fn parts_are_joined_even_when_nobody_waits_for_it() {
    let (scratch, store) = Scratch::new();
    let key = key("acme", "7", 1);
    let (id, parts) = two_parts(&store, &key).await;
    let mut joining = store.complete_multipart(&key, &id, &parts);
    assert!(futures_util::poll!(&mut joining).is_pending());
    drop(joining);
    let left = scratch.0.join("parts").join(&id);
    for _ in 0..200 {
        if !left.exists() {
            break;
        }
        sleep(Duration::from_millis(25)).await;
    }
    assert!(!left.exists(), "the parts stayed");
    assert_eq!(store.read(&key, 0, 99).await.unwrap(), b"hello, world");
    assert_eq!(incoming(&scratch), 0);
}

#[tokio::test]
async fn of_those_who_complete_at_once_one_joins_and_the_others_wait() {
    let (scratch, store) = Scratch::new();
    let key = key("acme", "7", 1);
    let (id, parts) = two_parts(&store, &key).await;
    let held = Incoming::create(&store.0, id.clone()).unwrap().unwrap();
    let all = (0..4).map(|_| store.complete_multipart(&key, &id, &parts));
    let all = futures_util::future::join_all(all);
    let free = async {
        sleep(PAUSE * 2).await;
        assert_eq!(store.observe(&key, 0).await, Ok(None));
        drop(held);
    };
    let (outcomes, ()) = futures_util::future::join(all, free).await;
    assert_eq!(outcomes, [Ok(()), Ok(()), Ok(()), Ok(())]);
    assert_eq!(store.read(&key, 0, 99).await.unwrap(), b"hello, world");
    assert_eq!(incoming(&scratch), 0);
}

#[tokio::test]
async fn a_part_takes_the_room_of_those_before_it() {
    let (scratch, store) = Scratch::new();
    let key = key("acme", "7", 1);
    let (id, _) = two_parts(&store, &key).await;
    for bytes in [&b"other"[..], b"third"] {
        put_part(&store, &key, &id, 2, bytes).await.unwrap();
    }
    let left = std::fs::read_dir(scratch.0.join("parts").join(&id)).unwrap();
    let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    left.sort_unstable();
    let name = |number, bytes: &[u8]| part_name(number, &Sha256Digest::of(bytes).to_hex());
    assert_eq!(left, [name(1, b"hello, ").as_str(), &name(2, b"third")]);
}

#[tokio::test(start_paused = true)]
async fn uploads_of_the_same_have_so_many_places_and_no_more() {
    let (scratch, store) = Scratch::new();
    let key = key("acme", "7", 1);
    let stalled = || Content {
        body: Body::from_stream(futures_util::stream::pending::<io::Result<Bytes>>()),
        ..Content::default()
    };
    let digest = Sha256Digest::of(b"hello");
    let stalled = [stalled(), stalled()].map(|content| {
        let silent = store.put(&key, content, 5, text(), &digest);
        Box::pin(silent)
    });
    let all = futures_util::future::join_all(stalled);
    let third = async {
        sleep(Duration::from_secs(5)).await;
        assert_eq!(incoming(&scratch), 2);
        put(&store, &key, b"hello").await
    };
    let (stalled, third) = futures_util::future::join(all, third).await;
    assert_eq!(third, Err(PutError::Busy));
    for outcome in stalled {
        assert_eq!(outcome, Err(PutError::Stalled(Duration::from_secs(60))));
    }
    assert_eq!(incoming(&scratch), 0);
    assert_eq!(put(&store, &key, b"hello").await, Ok(()));
}
