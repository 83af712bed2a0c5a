//! The one place that asks for the time. In a worker it stands still between two I/O operations.

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
