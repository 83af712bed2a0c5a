//! The triggers that Keepsake has on tables, in one table: on which tables, when they fire, and what for.
//!
//! `manage` and `bind_storage` create triggers by this table, the executor's hook finds in it those that a statement can
//! skip, and `keepsake.doctor()` reports those of it that are missing. When a trigger fires is taken from the kind of call that
//! its function serves.

use std::ffi::CStr;

use crate::call::trigger_call::{
    AfterChange, AfterDelete, AfterInsertedRows, AfterOldRows, AfterUpdate, AfterUpdatedRows,
    BeforeChange, BeforeDelete, BeforeInsert, BeforeTruncate, BeforeUpdate, Firing, Kind,
};
use crate::model::on_plain_delete::OnPlainDelete;

/// Which tables have a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Every managed table.
    Managed,
    /// Every managed table that is partitioned.
    ManagedPartitioned,
    /// Every managed table that answers a plain DELETE so.
    OnPlainDelete(OnPlainDelete),
    /// Every table that refers to a managed one.
    Referring,
    /// The same, if it is partitioned.
    ReferringPartitioned,
    /// Every managed table that a deferred NO ACTION refers to.
    Deferring,
    /// Every table that is bound to the bucket.
    Bound,
    /// Every such table that keeps its deleted rows in place.
    BoundInPlace,
    /// Every such table with an archive.
    BoundArchived,
    /// Every managed table with an archive.
    Archived,
    /// Every managed table with an archive that has foreign keys.
    ArchivedReferring,
    /// Every managed table with an archive that does not allow TRUNCATE.
    ArchivedWatched,
    /// Every managed table with an archive that declared references refer to.
    ArchivedReferred,
}

impl Carrier {
    /// Its name for `keepsake.doctor()`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Managed => "managed",
            Self::ManagedPartitioned => "managed partitioned",
            Self::OnPlainDelete(answer) => answer.name(),
            Self::Referring => "referring",
            Self::ReferringPartitioned => "referring partitioned",
            Self::Deferring => "deferring",
            Self::Bound => "bound",
            Self::BoundInPlace => "bound in place",
            Self::BoundArchived => "bound archived",
            Self::Archived => "archived",
            Self::ArchivedReferring => "archived referring",
            Self::ArchivedWatched => "archived watched",
            Self::ArchivedReferred => "archived referred",
        }
    }
}

/// For which rows a row trigger fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// For every row.
    Always,
    /// Those that are inserted with `deleted_at` or `deletion_id`.
    HasMarks,
    /// Those of which `deleted_at` or `deletion_id` changes.
    MarksChange,
    /// Those that were live and are marked as deleted.
    IsDeleted,
    /// Those of which one of certain columns changes: who creates the trigger names them.
    ColumnsChange,
    /// The same, if the row is deleted.
    ColumnsOfDeletedChange,
}

/// Which statements go without a row trigger, because it would find nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// None.
    Never,
    /// The engine's own DELETE.
    InEnginesDelete,
    /// An INSERT that passes over no conflict.
    WithoutOnConflict,
    /// An INSERT that leaves the columns of its condition NULL.
    MarksLeftNull,
    /// An UPDATE that changes no column of a foreign key.
    ForeignKeysUnchanged,
    /// An UPDATE that changes no column of the primary key.
    KeyUnchanged,
    /// An UPDATE that changes no column that a foreign key can refer to.
    UniqueKeysUnchanged,
    /// An UPDATE that changes no column of its condition; the engine's own UPDATE; and a converted DELETE that sets all columns of
    /// the condition.
    MarksUnchangedOrSetByEngine,
    /// An UPDATE that changes no column of a reference to a managed table; and the engine's own UPDATE, unless references of
    /// the table share columns.
    ReferencesUnchangedOrCheckedByEngine,
}

/// One of the triggers.
#[derive(Clone, Copy, Debug)]
pub struct OwnTrigger {
    /// Its name: `keepsake_` and that of its function, unless it has to fire before those of foreign keys, `RI_…`.
    pub name: &'static CStr,
    /// Its function, in the schema `keepsake`.
    pub function: &'static str,
    /// When it fires.
    pub firing: Firing,
    /// Which tables have it.
    pub carrier: Carrier,
    /// For which rows it fires.
    pub condition: Condition,
    /// Which statements go without it.
    pub skipped: Skipped,
    /// What it is for.
    pub purpose: &'static str,
}

impl OwnTrigger {
    /// Its name as text.
    pub fn name(&self) -> &'static str {
        // A concatenation of literals is valid UTF-8.
        self.name.to_str().unwrap_or_default()
    }
}

const fn firing<K: Kind>() -> Firing {
    Firing::of::<K>()
}

macro_rules! name_of {
    ($function:ident) => {
        concat!("keepsake_", stringify!($function), "\0")
    };
    ($function:ident $name:literal) => {
        concat!($name, "\0")
    };
}

macro_rules! own_triggers {
    ($($kind:ident $function:ident $(named $name:literal)? on $carrier:expr, $condition:ident, $skipped:ident: $purpose:literal)+) => {
        /// All of them.
        pub const ALL: &[OwnTrigger] = &[$(OwnTrigger {
            name: match CStr::from_bytes_with_nul(name_of!($function $($name)?).as_bytes()) {
                Ok(name) => name,
                Err(_) => c"",
            },
            function: stringify!($function),
            firing: firing::<$kind>(),
            carrier: $carrier,
            condition: Condition::$condition,
            skipped: Skipped::$skipped,
            purpose: $purpose,
        }),+];
    };
}

own_triggers! {
    BeforeDelete convert_delete on Carrier::OnPlainDelete(OnPlainDelete::Convert), Always, InEnginesDelete:
        "Collects the rows of a DELETE that the planner did not convert."
    BeforeDelete refuse_delete on Carrier::OnPlainDelete(OnPlainDelete::Reject), Always, InEnginesDelete:
        "Refuses a plain DELETE."
    BeforeDelete allow_delete on Carrier::OnPlainDelete(OnPlainDelete::Allow), Always, InEnginesDelete:
        "Lets a plain DELETE remove live rows, unless a hold or a declared reference keeps them."
    BeforeInsert refuse_marked on Carrier::Managed, HasMarks, MarksLeftNull:
        "Refuses a new row that is marked as deleted."
    BeforeInsert insert_again on Carrier::Managed, Always, WithoutOnConflict:
        "Makes a deleted row live again that ON CONFLICT DO NOTHING inserts anew."
    BeforeUpdate protect_state on Carrier::Managed, MarksChange, MarksUnchangedOrSetByEngine:
        "Makes a deletion of an UPDATE that sets deleted_at, and refuses other changes of the marks."
    BeforeUpdate keep_row_key on Carrier::Managed, Always, KeyUnchanged:
        "Keeps the primary key of a deleted or held row."
    AfterUpdate follow_key named "Keepsake_follow_key" on Carrier::Managed, Always, UniqueKeysUnchanged:
        "Has deleted rows follow a key that they refer to, so that they do not keep it from changing."
    BeforeTruncate refuse_truncate on Carrier::Managed, Always, Never:
        "Refuses TRUNCATE."
    AfterChange finish_statement on Carrier::Managed, Always, Never:
        "Makes one deletion of the rows that the statement marked, and carries it out."
    BeforeChange begin_statement on Carrier::ManagedPartitioned, Always, Never:
        "Notes what a statement does that began before the library was loaded: it may move rows between partitions."
    AfterUpdate check_deferred on Carrier::Deferring, IsDeleted, Never:
        "Checks a deferred NO ACTION at the commit."
    AfterInsertedRows guard_insert on Carrier::Referring, Always, Never:
        "Refuses new rows that refer to a deleted one."
    AfterUpdate guard_update on Carrier::Referring, Always, ReferencesUnchangedOrCheckedByEngine:
        "Refuses to make a row refer to a deleted one."
    AfterUpdatedRows guard_moved on Carrier::ReferringPartitioned, Always, Never:
        "Does the same for rows that an UPDATE moves to another partition."
    AfterOldRows enqueue_objects on Carrier::Bound, Always, Never:
        "Enters the objects of rows that are deleted for good in the outbox."
    AfterInsertedRows claim_objects on Carrier::Bound, Always, Never:
        "Takes the objects of new rows out of the outbox."
    BeforeUpdate keep_object_key on Carrier::BoundInPlace, ColumnsOfDeletedChange, Never:
        "Keeps the object key of a deleted row."
    AfterUpdate exchange_object on Carrier::Bound, ColumnsChange, Never:
        "Enters the old object of a row in the outbox, and takes the new one out."
    BeforeTruncate enqueue_truncated on Carrier::BoundArchived, Always, Never:
        "Enters the objects of rows that a TRUNCATE removes for good in the outbox."
    AfterDelete archive_row on Carrier::Archived, Always, Never:
        "Archives a deleted row."
    AfterUpdate archive_reference on Carrier::ArchivedReferring, Always, ForeignKeysUnchanged:
        "Remembers what a row referred to when the reference is set to NULL or to a default."
    BeforeUpdate keep_held_key on Carrier::Archived, Always, KeyUnchanged:
        "Keeps the primary key of a held row, by which its hold knows it."
    BeforeTruncate archive_truncate on Carrier::ArchivedWatched, Always, Never:
        "Refuses TRUNCATE, or archives the rows."
    AfterOldRows delete_declared on Carrier::ArchivedReferred, Always, Never:
        "Deletes the rows that refer to the deleted rows by a declared reference."
}

/// Those that these tables have.
pub fn on(carrier: Carrier) -> impl Iterator<Item = &'static OwnTrigger> {
    ALL.iter().filter(move |trigger| trigger.carrier == carrier)
}

/// That of this name.
pub fn named(name: &CStr) -> Option<&'static OwnTrigger> {
    ALL.iter().find(|trigger| trigger.name == name)
}
