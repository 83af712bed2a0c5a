//! What a session can do. The numbers choose among what is there when the operation is reached, so
//! that any part of a sequence is a sequence.

use keepsake_tests::random::Random;

/// The kinds of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Insert,
    Touch,
    Relabel,
    Reparent,
    SoftDelete,
    /// A plain `DELETE` from a table that is not managed.
    DeleteUnmanaged,
    /// A plain `DELETE` of one to three rows of a managed table, converted to a deletion.
    PlainDelete,
    /// `UPDATE … SET deleted_at = now()` of one to three rows.
    MarkDeleted,
    Restore,
    /// `restore(…, 'skip')`.
    RestoreSkipping,
    HoldRow,
    HoldDeletion,
    Release,
    PurgeDeletion,
    PurgeBatch,
    Savepoint,
    RollbackToSavepoint,
    Commit,
    Abort,
    /// `pg_terminate_backend` of the session.
    Kill,
    /// A plain `DELETE` of every row of a managed table.
    DeleteAll,
    /// `UPDATE … SET deleted_at = now()` of every row.
    MarkAll,
    Truncate,
    /// A partition is detached and attached again.
    Reattach,
    HoldTenant,
    /// `kill -9` of the server, and its recovery.
    Crash,
}

/// Kinds that the extension does not offer yet. To switch one on, take it out of this list.
pub const SWITCHED_OFF: &[Kind] = &[];

/// Whether SET NULL and SET DEFAULT are carried out by the deletion and put back by the restore,
/// or wait for the purge.
pub const DETACHES_AT_ONCE: bool = true;

/// Whether purge takes rows that refer to each other in a ring, or to themselves.
pub const PURGES_RINGS: bool = true;

/// Whether a restore refuses a row that refers to one of its own deletion which stays deleted, held by
/// another: by a reference that restricts, or from the root around a ring.
pub const RESTORE_SEES_HELD_PARENTS: bool = true;

/// Whether a restore refuses a row whose declared parent is gone for good. Only a row that was pointed
/// there while it was deleted can have one.
pub const RESTORE_MISSES_NO_PARENT: bool = true;

const WEIGHTS: [(usize, Kind); 20] = [
    (30, Kind::Insert),
    (2, Kind::Touch),
    (4, Kind::Relabel),
    (9, Kind::Reparent),
    (14, Kind::SoftDelete),
    (3, Kind::DeleteUnmanaged),
    (6, Kind::PlainDelete),
    (4, Kind::MarkDeleted),
    (12, Kind::Restore),
    (4, Kind::RestoreSkipping),
    (2, Kind::HoldRow),
    (2, Kind::HoldDeletion),
    (3, Kind::Release),
    (4, Kind::PurgeDeletion),
    (3, Kind::PurgeBatch),
    (3, Kind::Savepoint),
    (2, Kind::RollbackToSavepoint),
    (3, Kind::Commit),
    (1, Kind::Abort),
    (1, Kind::Kill),
];

/// One step.
#[derive(Clone, Debug)]
pub struct Operation {
    pub kind: Kind,
    /// What it is done to.
    pub subject: usize,
    /// The parents of a new row, the new parent, or further rows.
    pub picks: [usize; 4],
    pub label: Option<i32>,
    /// Under whose claims it is done.
    pub tenant: Option<usize>,
}

/// What the first seeds had not.
const LATER: [(usize, Kind); 6] = [
    (6, Kind::DeleteAll),
    (4, Kind::MarkAll),
    (3, Kind::Truncate),
    (6, Kind::Reattach),
    (2, Kind::HoldTenant),
    (1, Kind::Crash),
];

impl Operation {
    pub fn random(random: &mut Random) -> Self {
        let allowed: Vec<(usize, Kind)> = WEIGHTS
            .into_iter()
            .filter(|(_, kind)| !SWITCHED_OFF.contains(kind))
            .collect();
        Self {
            kind: random.weighted(&allowed),
            subject: random.below(1 << 20),
            picks: std::array::from_fn(|_| random.below(1 << 20)),
            label: (!random.one_in(3)).then(|| random.below(4) as i32),
            tenant: None,
        }
    }

    /// Makes it, now and then, something that the first seeds had not.
    pub fn widen(&mut self, random: &mut Random) {
        if random.one_in(8) {
            self.kind = random.weighted(&LATER);
        }
        self.tenant = random.one_of(&[None, None, Some(0), Some(1)]);
    }
}

impl Kind {
    /// What takes its place where deleted rows go to archives: there, to delete is to delete.
    pub const fn of_archives(self) -> Self {
        match self {
            Self::SoftDelete | Self::MarkDeleted => Self::PlainDelete,
            Self::MarkAll => Self::DeleteAll,
            // A hold is put on the whole deletion, since a row of it cannot be held yet.
            Self::HoldRow => Self::HoldDeletion,
            other => other,
        }
    }
}
