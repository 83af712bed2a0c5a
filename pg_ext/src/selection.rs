//! Which deletions a purge takes: expired, not held, longest expired first, whatever stands at the
//! head passed over.

use pgrx::Uuid;
use pgrx::prelude::*;

use crate::cursor::Cursor;
use crate::deletion;
use crate::error::Outcome;
use crate::graph::Graph;
use crate::hold;
use crate::session::Session;

/// Deletions that are worked on in one go, at most.
const WINDOW: usize = 1000;
/// Deletions fetched at once, until there are enough.
const CHUNK: i64 = 50;

const EXPIRED: &str = include_str!("../sql/expired_deletions.sql");

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
        let expired = session.registry_cursor(EXPIRED, &[as_of.into(), after.into()])?;
        Ok(Self {
            expired,
            exhausted: false,
            last: after,
        })
    }

    /// The next deletions with about `rows` rows, locked: nobody restores half of one, no second
    /// worker takes it, and none is held. Empty when there are no more.
    pub fn next(
        &mut self,
        session: &mut Session<'_, '_>,
        graph: &Graph,
        rows: i64,
    ) -> Outcome<Vec<Uuid>> {
        loop {
            let taken = self.take(rows)?;
            let Some(last) = taken.last() else {
                return Ok(taken);
            };
            self.last = Some(*last);
            let holds = hold::locked(session, graph, &taken)?;
            deletion::put_off(session, holds.by_row.clone())?;
            let free: Vec<Uuid> = taken.into_iter().filter(|id| !holds.contain(*id)).collect();
            if !free.is_empty() {
                return Ok(free);
            }
        }
    }

    fn take(&mut self, rows: i64) -> Outcome<Vec<Uuid>> {
        let (mut taken, mut found) = (Vec::new(), 0);
        while found < rows && taken.len() < WINDOW && !self.exhausted {
            let chunk = CHUNK.min(rows - found);
            let fetched = self.expired.fetch(chunk)?;
            self.exhausted = i64::try_from(fetched.len()) != Ok(chunk);
            for row in fetched {
                if let Some(id) = row.get(1)? {
                    taken.push(id);
                }
                found += row.get::<i64>(2)?.unwrap_or(0).max(1);
            }
        }
        Ok(taken)
    }
}
