//! The one place that asks for the time, and waits no longer than so long. In a worker it stands still between two I/O operations.

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

/// What `work` comes to, or `None` when it has not within `limit`. Then it is given up: the runtime
/// cancels what it was doing as soon as the request has its answer.
#[cfg(not(test))]
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    use futures_util::future::{Either, select};
    match select(std::pin::pin!(work), worker::Delay::from(limit)).await {
        Either::Left((outcome, _)) => Some(outcome),
        Either::Right(_) => None,
    }
}

/// Native tests have no timer of the runtime.
#[cfg(test)]
pub(crate) async fn within<T>(_limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    Some(work.await)
}

/// Lets the runtime go on with what else is to be done, such as sending an answer, and comes back then.
pub(crate) async fn pass_on() {
    worker::Delay::from(Duration::ZERO).await;
}
