//! When a deletion expires.

use pgrx::datum::Interval;
use pgrx::prelude::*;
use pgrx::{IntoDatum, direct_function_call_as_datum, pg_sys};

/// 100,000 years of 12 months of 30 days, in microseconds: as intervals are compared.
const FOREVER: i128 = 100_000 * 12 * 30 * 24 * 3600 * 1_000_000;

/// When what was deleted at `deleted_at` expires. 100,000 years and more are for ever: a timestamp ends before.
#[pg_extern(stable)]
fn expiry(
    deleted_at: Option<TimestampWithTimeZone>,
    retention: Option<Interval>,
) -> Option<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(expires(deleted_at?.into(), retention)).ok()
}

/// The same, of times as PostgreSQL stores them. The default of a retention is 30 days.
pub fn expires(
    deleted_at: pg_sys::TimestampTz,
    retention: Option<Interval>,
) -> pg_sys::TimestampTz {
    let default = || Interval::new(0, 30, 0).ok();
    let Some(retention) = retention.or_else(default) else {
        return pg_sys::TimestampTz::MAX;
    };
    if retention.as_micros() >= FOREVER {
        return pg_sys::TimestampTz::MAX;
    }
    let arguments = [
        Some(pg_sys::Datum::from(deleted_at)),
        retention.into_datum(),
    ];
    // SAFETY: the function takes its arguments as PostgreSQL stores them, and those are.
    let expires =
        unsafe { direct_function_call_as_datum(pg_sys::timestamptz_pl_interval, &arguments) };
    expires.map_or(pg_sys::TimestampTz::MAX, |datum| {
        datum.value() as pg_sys::TimestampTz
    })
}
