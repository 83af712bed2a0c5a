//! Which deletions a purge takes: expired, longest expired first, whatever stands at the head passed over.

use std::sync::LazyLock;

use pgrx::prelude::*;
use pgrx::{Uuid, pg_sys};

use crate::model::error::Outcome;
use crate::spi::cursor::Cursor;
use crate::spi::session::Session;

/// Deletions that are worked on in one go, at most.
const WINDOW: usize = 1000;
/// Deletions fetched at once, until there are enough.
const CHUNK: i64 = 50;

/// What a deletion `d` must be to be purged as of `$1` (now, when NULL).
pub const IS_DUE: &str = include_str!("is_due.sql");

static EXPIRED: LazyLock<String> =
    LazyLock::new(|| format!(include_str!("expired_deletions.sql"), is_due = IS_DUE));

/// A deletion whose retention has run out, locked: nobody restores half of it, and no second worker takes it.
#[derive(Clone, Copy, Debug)]
pub struct Expired {
    /// The deletion.
    pub id: Uuid,
    /// The table of its root.
    pub root_table: pg_sys::Oid,
}

/// The expired deletions, in order, from where an earlier selection ended.
pub struct Selection<'conn> {
    expired: Cursor<'conn>,
    exhausted: bool,
    /// The last deletion that was looked at.
    pub last: Option<Uuid>,
}

impl<'conn> Selection<'conn> {
    /// Those expired at `as_of`, now when `None`, behind the deletion `after`.
    pub fn open(
        session: &mut Session<'_, 'conn>,
        as_of: Option<TimestampWithTimeZone>,
        after: Option<Uuid>,
    ) -> Outcome<Self> {
        let expired = session.registry_cursor(&EXPIRED, &[as_of.into(), after.into()])?;
        Ok(Self {
            expired,
            exhausted: false,
            last: after,
        })
    }

    /// The next deletions with about `rows` rows. Empty when there are no more.
    pub fn next(&mut self, rows: i64) -> Outcome<Vec<Expired>> {
        let taken = self.take(rows)?;
        if let Some(last) = taken.last() {
            self.last = Some(last.id);
        }
        Ok(taken)
    }

    fn take(&mut self, rows: i64) -> Outcome<Vec<Expired>> {
        let (mut taken, mut found) = (Vec::new(), 0);
        while found < rows && taken.len() < WINDOW && !self.exhausted {
            let chunk = CHUNK.min(rows - found);
            let fetched = self.expired.fetch(chunk)?;
            self.exhausted = i64::try_from(fetched.len()) != Ok(chunk);
            for row in fetched {
                if let Some(id) = row.get(1)? {
                    taken.push(Expired {
                        id,
                        root_table: row.get(3)?.unwrap_or(pg_sys::InvalidOid),
                    });
                }
                found += row.get::<i64>(2)?.unwrap_or(0).max(1);
            }
        }
        Ok(taken)
    }
}
