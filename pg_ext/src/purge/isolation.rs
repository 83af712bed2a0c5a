//! Keeps what the tables of one owner do to a purge from reaching the others.
//!
//! Deletions are worked on owner by owner, each in a subtransaction with an end in time: a trigger that raises an error
//! of any kind, sleeps, or a table that its owner has locked, costs that owner's deletions a delay, which the registry
//! records, and nobody else. Only the caller's own cancel ends the whole.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::{PgSqlErrorCode, Uuid, pg_sys};

use crate::graph::reference_graph::Graph;
use crate::model::error::Outcome;
use crate::postgres::deadline::Deadline;
use crate::postgres::settings::LocalSettings;
use crate::postgres::subtransaction::{Caught, Raised, attempt_unless};
use crate::purge::selection::Expired;
use crate::spi::session::Session;

static PURGE_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static PURGE_LOCK_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(1_000);

/// Defines `keepsake.purge_timeout` and `keepsake.purge_lock_timeout`. Once in a backend's life.
pub fn install() {
    let define = |name, short, setting| {
        GucRegistry::define_int_guc(
            name,
            short,
            c"When the time is over, the error is recorded and the rest of that owner's deletions are postponed for an hour. 0 means no limit.",
            setting,
            0,
            i32::MAX,
            GucContext::Userset,
            GucFlags::UNIT_MS,
        );
    };
    define(
        c"keepsake.purge_timeout",
        c"Time limit of a purge for the deletions of one owner, plus one millisecond for each row.",
        &PURGE_TIMEOUT,
    );
    define(
        c"keepsake.purge_lock_timeout",
        c"Time limit of a purge for each lock of a table or row.",
        &PURGE_LOCK_TIMEOUT,
    );
}

/// How many parts a purge makes of the caller's own statement_timeout: what one owner takes must leave time to record it.
const PARTS: i32 = 8;

/// What one owner may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    time: Option<Duration>,
    lock_ms: i32,
}

impl Limits {
    fn for_rows(rows: i64) -> Self {
        // SAFETY: plain integers of this backend.
        let (statement, lock) = unsafe { (pg_sys::StatementTimeout, pg_sys::LockTimeout) };
        let own = |limit: i32| (limit > 0).then(|| i64::from(limit).saturating_add(rows.max(0)));
        let callers = (statement > 0).then(|| i64::from((statement / PARTS).max(1)));
        let time = [own(PURGE_TIMEOUT.get()), callers]
            .into_iter()
            .flatten()
            .min();
        let lock_ms = [PURGE_LOCK_TIMEOUT.get(), lock]
            .into_iter()
            .filter(|ms| *ms > 0)
            .min();
        Self {
            time: time
                .and_then(|ms| u64::try_from(ms).ok())
                .map(Duration::from_millis),
            lock_ms: lock_ms.unwrap_or(0),
        }
    }
}

/// How the work on some deletions ended.
enum Ended {
    Done,
    /// With an error.
    Failed(String),
    /// With an error, because it took too long or waited for a lock.
    Stalled(String),
}

/// One call of a purge: what each owner has taken of its time, and what failed.
pub struct Isolation {
    limits: Limits,
    began: Instant,
    /// When the caller's own statement_timeout is half over, so that what was done and recorded is committed.
    end: Option<Duration>,
    taken: HashMap<pg_sys::Oid, Duration>,
    /// Deletions that met an error.
    pub failed: i64,
}

impl Isolation {
    /// For a call that purges up to `rows` rows.
    pub fn new(rows: i64) -> Self {
        // SAFETY: a plain integer of this backend.
        let statement = unsafe { pg_sys::StatementTimeout };
        let half = u64::try_from(statement / 2).ok().filter(|ms| *ms > 0);
        Self {
            limits: Limits::for_rows(rows),
            began: Instant::now(),
            end: half.map(Duration::from_millis),
            taken: HashMap::new(),
            failed: 0,
        }
    }

    /// Whether the call is to end, and another to go on.
    pub fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.began.elapsed() > end)
    }

    /// Does `work` on the deletions of each owner together; when that fails, on each deletion by itself, so that one that
    /// cannot go does not stand in the way of the others.
    pub fn for_each_owner(
        &mut self,
        session: &mut Session<'_, '_>,
        graph: &Graph,
        deletions: &[Expired],
        mut work: impl FnMut(&mut Session<'_, '_>, &[Uuid]) -> Outcome<()>,
    ) -> Outcome<()> {
        for (owner, deletions) in by_owner(graph, deletions) {
            if self.is_over() {
                return Ok(());
            }
            self.of_owner(session, owner, &deletions, &mut work)?;
        }
        Ok(())
    }

    fn of_owner(
        &mut self,
        session: &mut Session<'_, '_>,
        owner: pg_sys::Oid,
        deletions: &[Uuid],
        work: &mut impl FnMut(&mut Session<'_, '_>, &[Uuid]) -> Outcome<()>,
    ) -> Outcome<()> {
        if deletions.len() > 1 {
            let began = Instant::now();
            if matches!(isolated(session, self.limits, deletions, work), Ended::Done) {
                return Ok(());
            }
            self.take(owner, began);
        }
        for deletion in deletions.chunks(1) {
            let began = Instant::now();
            let ended = isolated(session, self.limits, deletion, work);
            let stalled = match ended {
                Ended::Done => false,
                Ended::Failed(error) => {
                    self.note(session, deletion, &error)?;
                    false
                }
                Ended::Stalled(error) => {
                    self.note(session, deletion, &error)?;
                    true
                }
            };
            if self.take(owner, began) || stalled {
                return postpone_owner(session, owner);
            }
            if self.is_over() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn note(
        &mut self,
        session: &mut Session<'_, '_>,
        deletion: &[Uuid],
        error: &str,
    ) -> Outcome<()> {
        self.failed += 1;
        record(session, deletion, error)
    }

    /// Counts what an owner has taken since its deletions are worked on one by one; whether it is too much: what they may
    /// take together, and once more.
    fn take(&mut self, owner: pg_sys::Oid, began: Instant) -> bool {
        let taken = self.taken.entry(owner).or_default();
        *taken += began.elapsed();
        self.limits.time.is_some_and(|limit| *taken > limit * 2)
    }
}

/// Does work that only looks at the tables of one owner, within the limits; `None` when it fails.
pub fn look<R>(work: impl FnOnce() -> Outcome<R>) -> Option<R> {
    let limits = Limits::for_rows(0);
    within(limits, work).ok()
}

/// The deletions by who owns the table of their root, in the order of the first of each.
pub fn by_owner(graph: &Graph, deletions: &[Expired]) -> Vec<(pg_sys::Oid, Vec<Uuid>)> {
    let mut groups: Vec<(pg_sys::Oid, Vec<Uuid>)> = Vec::new();
    for deletion in deletions {
        let table = graph.table(deletion.root_table);
        let owner = table.map_or(pg_sys::InvalidOid, |table| table.owner);
        match groups.iter_mut().find(|(known, _)| *known == owner) {
            Some((_, group)) => group.push(deletion.id),
            None => groups.push((owner, vec![deletion.id])),
        }
    }
    groups
}

/// Does the work on some deletions in a subtransaction, within the limits.
fn isolated(
    session: &mut Session<'_, '_>,
    limits: Limits,
    deletions: &[Uuid],
    work: &mut impl FnMut(&mut Session<'_, '_>, &[Uuid]) -> Outcome<()>,
) -> Ended {
    match within(limits, || work(session, deletions)) {
        Ok(()) => Ended::Done,
        Err(ended) => ended,
    }
}

fn within<R>(limits: Limits, work: impl FnOnce() -> Outcome<R>) -> Result<R, Ended> {
    let lock_timeout = std::ffi::CString::new(limits.lock_ms.to_string()).unwrap_or_default();
    let _locks = LocalSettings::open(&[(c"lock_timeout", &lock_timeout)]);
    let deadline = Deadline::after(limits.time);
    let is_callers_cancel = |raised: Raised| {
        raised.code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED
            && raised.by_interrupt
            && !deadline.has_passed()
    };
    let ended = attempt_unless(is_callers_cancel, work);
    let passed = deadline.has_passed();
    ended.map_err(|error| {
        if passed {
            Ended::Stalled(format!(
                "gave up after {} ms: triggers or policies of the tables concerned took too long",
                limits.time.map_or(0, |time| time.as_millis())
            ))
        } else if is_lock_not_available(&error) {
            Ended::Stalled(error.into_message())
        } else {
            Ended::Failed(error.into_message())
        }
    })
}

fn is_lock_not_available(error: &Caught) -> bool {
    matches!(error, Caught::Error { code, .. } if *code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE)
}

/// Records why a deletion could not be purged; it is tried again in an hour.
fn record(session: &mut Session<'_, '_>, deletions: &[Uuid], error: &str) -> Outcome<()> {
    session.registry(
        "UPDATE keepsake.deletion SET purge_failed_at = now(), purge_error = left($2, 500)
         WHERE id = ANY ($1) AND state IN ('deleted', 'purging')",
        &[deletions.to_vec().into(), error.into()],
    )?;
    Ok(())
}

/// Puts off, for an hour, what else has expired in tables of this owner.
fn postpone_owner(session: &mut Session<'_, '_>, owner: pg_sys::Oid) -> Outcome<()> {
    session.registry(
        "UPDATE keepsake.deletion SET purge_failed_at = now(), purge_error = 'put off: another deletion in tables of the same owner took too long'
         WHERE id IN (
             SELECT d.id FROM keepsake.deletion d JOIN pg_class c ON c.oid = d.root_table
             WHERE d.state IN ('deleted', 'purging') AND d.expires_at <= now() AND c.relowner = $1
               AND (d.purge_failed_at <= now() - interval '1 hour') IS NOT FALSE
             FOR UPDATE OF d SKIP LOCKED)",
        &[owner.into()],
    )?;
    Ok(())
}
