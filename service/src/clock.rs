//! The time, timeouts, and waiting. In a worker, time stands still between two I/O operations.

use crate::runtime;
use futures_util::future::{Either, select};
use std::time::Duration;
use time::OffsetDateTime;

/// The time, in UTC and to the second.
pub(crate) fn now() -> OffsetDateTime {
    let seconds = i64::try_from(milliseconds() / 1000).unwrap_or_default();
    // A Date is within ±8.64e15 ms, far inside what an OffsetDateTime holds.
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// The time, in milliseconds since 1970.
pub(crate) fn milliseconds() -> u64 {
    runtime::current().now()
}

/// The outcome of `work`, or `None` when it takes longer than `limit`. Then it is dropped: the runtime cancels its I/O as
/// soon as the request has its answer.
pub async fn timeout<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    match select(std::pin::pin!(work), runtime::current().sleep(limit)).await {
        Either::Left((outcome, _)) => Some(outcome),
        Either::Right(_) => None,
    }
}

/// Waits.
pub async fn sleep(time: Duration) {
    runtime::current().sleep(time).await;
}
