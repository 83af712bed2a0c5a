//! The time, timeouts, and yielding. In a worker, time stands still between two I/O operations.

use std::time::Duration;
use time::OffsetDateTime;

/// The time, in UTC and to the second.
pub(crate) fn now() -> OffsetDateTime {
    // A Date is within ±8.64e15 ms, far inside what an OffsetDateTime holds.
    OffsetDateTime::from_unix_timestamp(seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(not(test))]
fn seconds() -> i64 {
    i64::try_from(worker::Date::now().as_millis() / 1000).unwrap_or_default()
}

/// A fixed moment, 2026-09-01T00:00:00Z.
#[cfg(test)]
fn seconds() -> i64 {
    1_788_220_800
}

/// The outcome of `work`, or `None` when it takes longer than `limit`. Then it is dropped: the runtime cancels its I/O as
/// soon as the request has its answer.
#[cfg(not(test))]
pub(crate) async fn timeout<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    use futures_util::future::{Either, select};
    match select(std::pin::pin!(work), worker::Delay::from(limit)).await {
        Either::Left((outcome, _)) => Some(outcome),
        Either::Right(_) => None,
    }
}

/// Native tests do not have the runtime's timer.
#[cfg(test)]
pub(crate) async fn timeout<T>(_limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    Some(work.await)
}

/// Lets the runtime do other work first, such as sending an answer.
pub(crate) async fn yield_now() {
    worker::Delay::from(Duration::ZERO).await;
}
