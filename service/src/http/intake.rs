//! Taking in a body that is kept in memory until it is stored: bounded in size and time, and all such bodies of this process or
//! isolate together in memory.

use super::{body, headers::content_length, problem::ApiError};
use crate::clock;
use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue},
};
use http_body_util::BodyExt;
use keepsake_shared::{ErrorCode, TenantId};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Most bytes that all bodies together hold. A worker has 128 MiB, and holds what it hands to its bucket twice.
const MAX_HELD_BYTES: u64 = 32 << 20;

/// Most of them that those of one tenant hold, but for a single body that is larger: who sends slowly shuts nobody else out.
const MAX_SHARE_BYTES: u64 = MAX_HELD_BYTES / 2;

/// How long is waited for room among them, and how often is looked.
const MAX_WAIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// A body that has its room has this long, and a second more for so many bytes.
const BASE_TIME: Duration = body::MAX_BODY_TIME;
const BYTES_A_SECOND: u64 = 64 << 10;

/// After so long a body counts no longer: a worker forgets a request whose client has gone, and nobody drops what it held.
const MAX_LIFE_MILLISECONDS: u64 = 10 * 60 * 1000;

/// How much more of a body has to come until it is looked at again.
const STEP: usize = 1 << 10;

/// How much of a body that is refused is read off, so that its client sees the answer.
const MAX_DISCARDED_BYTES: usize = 32 << 20;

/// A body on its way in.
#[derive(Debug)]
pub(crate) struct Intake {
    body: Body,
    bytes: Vec<u8>,
    limit: usize,
    room: Option<Room>,
    /// Whether it had all the time that it may have.
    is_late: bool,
}

/// The room in memory of a body, which it has until this is dropped.
#[derive(Debug)]
pub(crate) struct Held(
    #[expect(dead_code, reason = "it is given back when it is dropped")] Option<Room>,
);

impl Intake {
    /// Looks at the headers of a body of at most `limit` bytes.
    ///
    /// 1. No `Content-Encoding`; else 415.
    /// 2. No `Content-Length` beyond the limit; else 413.
    pub(crate) fn of(headers: &HeaderMap, body: Body, limit: u64) -> Result<Self, ApiError> {
        body::require_identity(headers)?;
        let most = content_length(headers).unwrap_or(limit);
        if most > limit {
            return Err(too_large(limit));
        }
        Ok(Self {
            body,
            bytes: Vec::new(),
            limit: usize::try_from(most).unwrap_or(usize::MAX),
            room: None,
            is_late: false,
        })
    }

    /// What has come so far.
    pub(crate) fn so_far(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes in more while it is wanted, which is asked once for each KiB: who sends single bytes does not have all looked at
    /// for each. Longer than announced or allowed → 413, too slow → 408, broken off → 400.
    pub(crate) async fn take_while(
        &mut self,
        is_wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<(), ApiError> {
        let taken = async {
            while is_wanted(&self.bytes) {
                let enough = self.bytes.len() + STEP;
                while self.bytes.len() < enough {
                    if !self.take().await? {
                        return Ok(());
                    }
                }
            }
            Ok(())
        };
        let taken = clock::timeout(BASE_TIME, taken).await;
        taken.unwrap_or_else(|| Err(self.late(BASE_TIME)))
    }

    /// Takes in the rest, once there is room in memory among the bodies of all and of the tenant, for which is waited; else 429.
    /// Refuses what [`Self::take_while`] does.
    pub(crate) async fn finish(&mut self, tenant: &TenantId) -> Result<(), ApiError> {
        let most = self.limit as u64;
        self.room = Some(Room::wait_for(tenant, most).await?);
        let time = BASE_TIME + Duration::from_secs(most / BYTES_A_SECOND);
        let taken = async {
            while self.take().await? {}
            Ok(())
        };
        let taken = clock::timeout(time, taken).await;
        taken.unwrap_or_else(|| Err(self.late(time)))
    }

    fn late(&mut self, time: Duration) -> ApiError {
        self.is_late = true;
        body::too_slow(time)
    }

    /// Takes in what comes next; `false` at the end.
    async fn take(&mut self) -> Result<bool, ApiError> {
        let Some(frame) = self.body.frame().await else {
            return Ok(false);
        };
        let data = frame.map_err(|_| broken_off())?.into_data();
        let data = data.unwrap_or_default();
        if self.bytes.len() + data.len() > self.limit {
            return Err(too_large(self.limit as u64));
        }
        let free = self.bytes.capacity() - self.bytes.len();
        if self.room.is_some() && free < data.len() {
            // As much as is announced, if it comes; not on the word of who sends a byte and no more.
            let some = data.len().saturating_mul(1024).max(self.bytes.len());
            let left = self.limit - self.bytes.len();
            self.bytes.reserve_exact(left.min(some));
        }
        self.bytes.extend_from_slice(&data);
        Ok(true)
    }

    /// What has come.
    pub(crate) fn received(self) -> (Bytes, Held) {
        (self.bytes.into(), Held(self.room))
    }

    /// Reads off what of a refused body is still on its way. Its client would otherwise lose the connection and never see the answer.
    /// Not of one that was too slow: it would be answered later still.
    pub(crate) async fn read_off(mut self) {
        // Nothing of it is held meanwhile.
        (self.bytes, self.room) = (Vec::new(), None);
        if self.is_late {
            return;
        }
        let read = async {
            let mut seen = 0;
            while seen < MAX_DISCARDED_BYTES
                && let Some(Ok(frame)) = self.body.frame().await
            {
                seen += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        clock::timeout(BASE_TIME, read).await;
    }
}

fn broken_off() -> ApiError {
    ApiError::new(
        ErrorCode::MalformedForm,
        "The body ended before it was complete. Nothing was stored.",
    )
}

/// What is sent in one request is longer than it may be.
pub(crate) fn too_large(limit: u64) -> ApiError {
    ApiError::new(
        ErrorCode::BodyTooLarge,
        format_args!(
            "The body has more than {limit} bytes. Nothing was stored. Send larger files with POST /v1/uploads."
        ),
    )
}

/// What all bodies hold.
#[derive(Debug)]
struct Rooms {
    next: u64,
    taken: Vec<Taken>,
}

/// What one body holds.
#[derive(Debug)]
struct Taken {
    id: u64,
    tenant: TenantId,
    bytes: u64,
    /// When it counts no longer.
    until: u64,
}

static ROOMS: Mutex<Rooms> = Mutex::new(Rooms {
    next: 0,
    taken: Vec::new(),
});

fn rooms() -> MutexGuard<'static, Rooms> {
    ROOMS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rooms {
    fn take(&mut self, tenant: &TenantId, bytes: u64, now: u64) -> Option<u64> {
        self.taken.retain(|taken| taken.until > now);
        let held: u64 = self.taken.iter().map(|taken| taken.bytes).sum();
        let own = self.taken.iter().filter(|taken| taken.tenant == *tenant);
        let own: u64 = own.map(|taken| taken.bytes).sum();
        if held + bytes > MAX_HELD_BYTES || (own > 0 && own + bytes > MAX_SHARE_BYTES) {
            return None;
        }
        self.next += 1;
        self.taken.push(Taken {
            id: self.next,
            tenant: tenant.clone(),
            bytes,
            until: now + MAX_LIFE_MILLISECONDS,
        });
        Some(self.next)
    }

    fn give_back(&mut self, id: u64) {
        self.taken.retain(|taken| taken.id != id);
    }
}

/// Room for one body, given back when it is dropped.
#[derive(Debug)]
struct Room(u64);

impl Room {
    async fn wait_for(tenant: &TenantId, bytes: u64) -> Result<Self, ApiError> {
        let mut waited = Duration::ZERO;
        loop {
            let taken = rooms().take(tenant, bytes, clock::milliseconds());
            if let Some(id) = taken {
                return Ok(Self(id));
            }
            if waited >= MAX_WAIT {
                return Err(busy());
            }
            clock::sleep(PAUSE).await;
            waited += PAUSE;
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        rooms().give_back(self.0);
    }
}

fn busy() -> ApiError {
    ApiError::new(
        ErrorCode::TooManyRequests,
        "Too many files are being sent in one request each. Nothing was stored. Retry in a moment, or send the files with POST /v1/uploads.",
    )
    .with_header("retry-after", HeaderValue::from_static("5"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, StreamExt, stream};
    use std::{cell::Cell, convert::Infallible};

    const LIMIT: u64 = 5 << 20;

    /// A body of so many single bytes, behind which nothing more comes, not even its end.
    fn stopping(bytes: usize) -> Intake {
        let byte = Ok::<_, Infallible>(Bytes::from_static(b"x"));
        let body = stream::iter(vec![byte; bytes]).chain(stream::pending());
        Intake::of(&HeaderMap::new(), Body::from_stream(body), LIMIT).unwrap()
    }

    #[test]
    fn single_bytes_are_not_looked_at_one_by_one() {
        let mut intake = stopping(20 * STEP);
        let asked = Cell::new(0);
        let taken = intake.take_while(|bytes| {
            asked.set(asked.get() + 1);
            bytes.len() < 16 * STEP
        });
        taken.now_or_never().unwrap().unwrap();
        assert_eq!(intake.so_far().len(), 16 * STEP);
        assert_eq!(asked.get(), 17);
    }

    #[test]
    fn nothing_is_reserved_without_room() {
        let mut intake = stopping(2 * STEP);
        let taken = intake.take_while(|bytes| bytes.len() < 2 * STEP);
        taken.now_or_never().unwrap().unwrap();
        assert!(intake.bytes.capacity() <= 4 * STEP);
        let body = Body::from(vec![b'x'; 32 * STEP]);
        let mut intake = Intake::of(&HeaderMap::new(), body, LIMIT).unwrap();
        let taken = intake.take_while(|bytes| bytes.len() < STEP);
        taken.now_or_never().unwrap().unwrap();
        assert_eq!(intake.bytes.capacity(), 32 * STEP);
    }

    #[test]
    fn what_is_read_off_has_no_room() {
        let mut intake = stopping(1);
        assert!(intake.finish(&tenant("acme")).now_or_never().is_none());
        let id = intake.room.as_ref().unwrap().0;
        let has_room = || rooms().taken.iter().any(|taken| taken.id == id);
        assert!(has_room());
        let mut reading = std::pin::pin!(intake.read_off());
        assert!(reading.as_mut().now_or_never().is_none());
        assert!(!has_room());
    }

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    const EMPTY: Rooms = Rooms {
        next: 0,
        taken: Vec::new(),
    };

    #[test]
    fn bodies_share_the_room_and_give_it_back() {
        let (mut rooms, half) = (EMPTY, MAX_HELD_BYTES / 2);
        let first = rooms.take(&tenant("acme"), half, 0).unwrap();
        rooms.take(&tenant("globex"), half, 0).unwrap();
        assert_eq!(rooms.take(&tenant("initech"), 1, 0), None);
        rooms.give_back(first);
        assert!(rooms.take(&tenant("initech"), 1, 0).is_some());
        assert_eq!(rooms.take(&tenant("acme"), half, 0), None);
    }

    #[test]
    fn a_tenant_has_one_body_or_its_share() {
        let (mut rooms, acme) = (EMPTY, tenant("acme"));
        let large = rooms.take(&acme, MAX_SHARE_BYTES + 1, 0).unwrap();
        assert_eq!(rooms.take(&acme, 1, 0), None);
        assert!(
            rooms
                .take(&tenant("globex"), MAX_SHARE_BYTES - 1, 0)
                .is_some()
        );
        rooms.give_back(large);
        assert!(rooms.take(&acme, MAX_SHARE_BYTES - 1, 0).is_some());
        assert!(rooms.take(&acme, 1, 0).is_some());
        assert_eq!(rooms.take(&acme, 1, 0), None);
    }

    #[test]
    fn what_nobody_gives_back_counts_for_a_time() {
        let (mut rooms, acme) = (EMPTY, tenant("acme"));
        rooms.take(&acme, MAX_HELD_BYTES, 0).unwrap();
        assert_eq!(rooms.take(&acme, 1, MAX_LIFE_MILLISECONDS - 1), None);
        assert!(rooms.take(&acme, 1, MAX_LIFE_MILLISECONDS).is_some());
    }
}
