//! Every condition the extension reports: SQLSTATE, message, DETAIL and HINT in one table.

use std::ffi::{CString, c_char, c_int};

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::{PgSqlErrorCode, function_name, pg_sys, spi};

use crate::model::conflict::Conflict;
use crate::model::sql::Qualified;

/// What went wrong, in the words of the domain.
#[derive(Debug)]
pub enum Failure {
    /// The table was not given to `keepsake.manage()`.
    NotManaged { table: String },
    /// `manage` cannot keep this table safe.
    CannotManage {
        table: String,
        why: String,
        fix: String,
    },
    /// `hide_deleted` cannot hide this table's deleted rows as asked.
    CannotHide {
        table: String,
        why: String,
        fix: String,
    },
    /// The caller does not own the table.
    NotOwner { table: String },
    /// The table still holds soft-deleted rows.
    HoldsDeletedRows { table: String },
    /// The caller lacks the DELETE privilege.
    MayNotDelete { table: String },
    /// No such row, or none the caller may see.
    RowNotFound { table: String },
    /// No such deletion, or none the caller may see.
    DeletionNotFound { deletion: String },
    /// Rows that restrict the deletion.
    Blocked {
        table: String,
        referrers: Vec<String>,
        constraint: ConstraintName,
        /// Whether by ON DELETE RESTRICT.
        restricts: bool,
    },
    /// A row would go for good to which another refers by a declared reference.
    DeclaredReferrer {
        table: String,
        child: String,
        reference: String,
    },
    /// A live child would stand under a deleted parent, seen only by a newer snapshot.
    ConcurrentChild { table: String },
    /// A row would come back under a parent whose deletion only a newer snapshot shows.
    ConcurrentParent { table: String },
    /// A deleted row's parent would change while its deletion is restored or purged.
    Settling { table: String },
    /// Restoring would break what holds among live rows.
    RestoreConflicts { conflicts: Vec<Conflict> },
    /// Purge has begun or ended; nothing to bring back.
    Purged { deletion: String },
    /// A legal hold keeps the deletion from being purged.
    Held { deletion: String },
    /// The key of a held row would change.
    HeldKey { table: String },
    /// A deletion would expire sooner than the caller may make it.
    MayNotShorten { deletion: String },
    /// The registry has changed since the transaction's snapshot was taken.
    RegistryMoved,
    /// A table that names objects has lost the index over their keys.
    NoKeyIndex { table: String },
    /// An object is being deleted from the bucket right now.
    ObjectInUse,
    /// A plain `DELETE` on a managed table.
    PlainDelete { table: String },
    /// One statement deletes rows of a partitioned table and updates others, which may move.
    MovesAndDeletes { table: String },
    /// A MERGE that meets a row twice.
    MergedTwice,
    /// A `TRUNCATE` on a managed table.
    Truncate { table: String },
    /// A table with the columns of a managed one, and without its triggers.
    Unguarded { table: String },
    /// An `INSERT … ON CONFLICT` that meets a deleted row.
    DeletedHolder { table: String },
    /// `deleted_at` or `deletion_id` written by hand.
    StateWrittenByHand { table: String },
    /// A row that refers to a deleted or missing parent.
    DeadParent {
        child: String,
        parent: String,
        reference: String,
        constraint: ConstraintName,
    },
    /// A reference whose two tables' owners do not see all of each other's rows.
    Unreadable {
        reference: String,
        child: String,
        parent: String,
    },
    /// A declared reference whose columns or key are gone.
    LostReference { reference: String, child: String },
    /// A trigger of the table's own kept the engine's UPDATE from a row.
    Prevented { table: String },
    /// A statement of the engine's met another relation than the one it means.
    Exchanged { relation: u32 },
    /// The schema changes each time that a deletion begins anew.
    SchemaMoves,
    /// Rows of several owners' tables that only go together.
    OwnersDiffer { tables: String },
    /// A statement that code of a table's owner may not run when another called it.
    Restricted { statement: &'static str },
    /// A trigger function was called by another trigger than those it serves, or by none.
    TriggerProtocol {
        function: String,
        serves: String,
        called: String,
    },
    /// The columns that mark rows as deleted are not there, or of other types.
    StateColumns { table: String },
    /// A row lacks a column that the registry or the catalog knows.
    ColumnGone { column: String },
    /// A wrong argument, or a value that a rule of `keepsake-shared` refuses.
    BadArgument { what: String, fix: String },
    /// PostgreSQL's own complaint.
    Spi(spi::Error),
}

impl From<spi::Error> for Failure {
    fn from(error: spi::Error) -> Self {
        Self::Spi(error)
    }
}

/// What the extension's functions return inside.
pub type Outcome<T> = Result<T, Failure>;

type Parts = (PgSqlErrorCode, String, Option<String>, Option<String>);

impl Failure {
    fn parts(self) -> Parts {
        use PgSqlErrorCode as Code;
        let (code, message, detail, hint): (_, _, Option<String>, Option<String>) = match self {
            Self::NotManaged { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{table} is not managed by keepsake"),
                None,
                Some(format!("Run SELECT keepsake.manage('{table}') first.")),
            ),
            Self::CannotManage { table, why, fix } => {
                (Code::ERRCODE_FEATURE_NOT_SUPPORTED, format!("{table} cannot be kept safe"), Some(why), Some(fix))
            }
            Self::CannotHide { table, why, fix } => (
                Code::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("deleted rows of {table} cannot be hidden this way"),
                Some(why),
                Some(fix),
            ),
            Self::NotOwner { table } => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("must be owner of {table}"),
                None,
                Some("Run this as the table's owner, who alone may add triggers to it.".into()),
            ),
            Self::HoldsDeletedRows { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{table} still holds soft-deleted rows"),
                Some("Without their marks they would be live again.".into()),
                Some("Restore or purge them first.".into()),
            ),
            Self::MayNotDelete { table } => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied to delete from {table}"),
                None,
                Some("Soft delete, restore and purge of a deletion need the DELETE privilege on its root table.".into()),
            ),
            Self::RowNotFound { table } => (
                Code::ERRCODE_NO_DATA_FOUND,
                format!("{table} has no such row"),
                Some("The key names no row, or none that you may see and delete.".into()),
                None,
            ),
            Self::DeletionNotFound { deletion } => (
                Code::ERRCODE_NO_DATA_FOUND,
                format!("there is no deletion {deletion}"),
                Some("The id names no deletion, or none whose root row you may see and delete, or the table of its root was dropped or is no longer managed.".into()),
                None,
            ),
            Self::Blocked { table, referrers, restricts, .. } => (
                blocked(restricts),
                format!("cannot delete from {table}: live rows still refer to what it would remove"),
                Some(format!("Still referring: {}.", referrers.join(", "))),
                Some("Delete those rows first, or let their reference cascade; a table that is not managed must be given to keepsake.manage().".into()),
            ),
            Self::DeclaredReferrer { table, child, reference } => (
                Code::ERRCODE_FOREIGN_KEY_VIOLATION,
                format!("cannot remove a row of {table} for good: a row of {child} still refers to it"),
                Some(format!("It refers by the declared reference \"{reference}\"; deleted rows count until they are purged.")),
                Some(format!("Remove or re-point those rows first, or use SELECT keepsake.soft_delete('{table}', key), which takes them along.")),
            ),
            Self::ConcurrentChild { table } => (
                Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
                format!("could not delete from {table}: another transaction added a row beneath it meanwhile"),
                None,
                Some("The transaction's snapshot is too old to see that row. Retry the transaction.".into()),
            ),
            Self::ConcurrentParent { table } => (
                Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
                format!("could not restore rows of {table}: another transaction deleted a row above them meanwhile"),
                None,
                Some("The transaction's snapshot is too old to see that deletion. Retry the transaction.".into()),
            ),
            Self::Settling { table } => (
                Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
                format!("could not move a deleted row of {table}: its deletion is being restored or purged"),
                None,
                Some("Its parents have been looked at already. Retry the transaction.".into()),
            ),
            Self::RestoreConflicts { conflicts } => (
                Code::ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION,
                format!("cannot restore the deletion: {} in the way", count(conflicts.len(), "conflict")),
                Some(Conflict::to_json(&conflicts).to_string()),
                Some("DETAIL lists them all as JSON, as keepsake.restore_conflicts() does. Nothing was changed. Clear them away, or give on_conflict => 'skip' to leave these rows deleted.".into()),
            ),
            Self::Purged { deletion } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "the deletion has been purged".into(),
                Some(format!(
                    "The retention of deletion {deletion} ran out; some or all of its rows are gone for good."
                )),
                None,
            ),
            Self::Held { deletion } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "the deletion is held".into(),
                Some(format!("A legal hold on deletion {deletion}, on its tenant or on one of its rows keeps all its rows from being purged.")),
                Some("keepsake.hold says who holds it and why; keepsake.release(id) ends a hold.".into()),
            ),
            Self::HeldKey { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("the key of a held row of {table} cannot change"),
                Some("A legal hold knows the row by it.".into()),
                Some("keepsake.release(id) ends a hold.".into()),
            ),
            Self::MayNotShorten { deletion } => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied to let deletion {deletion} expire sooner"),
                Some("That comes to the same as purging it.".into()),
                Some("Give a longer retention, or be granted EXECUTE on keepsake.purge_deletion(uuid).".into()),
            ),
            Self::RegistryMoved => (
                Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
                "could not go on: another transaction has changed a deletion or a hold meanwhile".into(),
                None,
                Some("The transaction's snapshot is too old to see that. Retry the transaction.".into()),
            ),
            Self::NoKeyIndex { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{table} has no index over its object keys"),
                Some("No object is handed out for deletion before it is known that no row names it.".into()),
                Some("Create a btree index over all rows whose first column is the key column of keepsake.bound_storage.".into()),
            ),
            Self::ObjectInUse => (
                Code::ERRCODE_OBJECT_IN_USE,
                "an object that the row would name is being deleted from the bucket now".into(),
                Some("A row that named it is gone for good, and a worker has leased its key from the outbox.".into()),
                Some("Retry in a minute, or store the object under a new key.".into()),
            ),
            Self::PlainDelete { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("rows of {table} are not deleted by DELETE"),
                Some("The table is managed by keepsake; a hard delete could not be undone.".into()),
                Some(format!("Use SELECT keepsake.soft_delete('{table}', key). If the DELETE came from a parent's ON DELETE CASCADE, manage the parent too.")),
            ),
            Self::MovesAndDeletes { table } => (
                Code::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("one statement both updates and deletes rows of {table}"),
                Some("In a partitioned table, a row that moves to another partition cannot be told from one that is deleted.".into()),
                Some("Use one statement to update and another to delete.".into()),
            ),
            Self::MergedTwice => (
                Code::ERRCODE_CARDINALITY_VIOLATION,
                "MERGE command cannot affect row a second time".into(),
                None,
                Some("Ensure that not more than one source row matches any one target row.".into()),
            ),
            Self::Truncate { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{table} cannot be truncated"),
                Some("The table is managed by keepsake; TRUNCATE could not be undone.".into()),
                Some("Soft-delete its rows and let purge remove them.".into()),
            ),
            Self::Unguarded { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{table} has lost what makes a deletion of a DELETE"),
                Some("It has the columns deleted_at and deletion_id, but not the triggers of a managed table: rows would be deleted for good, or marked without a deletion. A dump of the schema alone leaves a table so.".into()),
                Some(format!("Run SELECT keepsake.manage('{table}'), or drop the two columns.")),
            ),
            Self::DeletedHolder { table } => (
                Code::ERRCODE_UNIQUE_VIOLATION,
                format!("a deleted row of {table} has this key"),
                Some("ON CONFLICT would have taken the deleted row for a live one. Its unique index covers deleted rows as well.".into()),
                Some(format!("Restore the row first, or run SELECT keepsake.live_unique('{table}'), so that the index covers live rows only.")),
            ),
            Self::StateWrittenByHand { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("deleted_at and deletion_id of {table}, and the key of a deleted row, are written by keepsake alone"),
                Some("A row deleted or restored by hand would leave its children behind.".into()),
                Some("Use keepsake.soft_delete() and keepsake.restore().".into()),
            ),
            Self::DeadParent { child, parent, reference, .. } => (
                Code::ERRCODE_FOREIGN_KEY_VIOLATION,
                format!("{child} refers to a row of {parent} that is deleted or missing"),
                Some(format!("Reference \"{reference}\" must point to a live row.")),
                Some("Restore the parent first, or refer to another.".into()),
            ),
            Self::Unreadable { reference, child, parent } => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("cannot follow reference \"{reference}\" from {child} to {parent}"),
                Some("The tables have different owners, and row-level security hides rows of one from the owner of the other: they would be overlooked.".into()),
                Some("Give both tables one owner, or their owners BYPASSRLS.".into()),
            ),
            Self::LostReference { reference, child } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("the declared reference \"{reference}\" of {child} has lost its columns"),
                Some("A column that it names, or the parent's primary key, was renamed or dropped.".into()),
                Some("Delete its row from keepsake.declared_reference and call keepsake.declare_reference() with the new names.".into()),
            ),
            Self::Prevented { table } => (
                Code::ERRCODE_TRIGGERED_ACTION_EXCEPTION,
                format!("a trigger of {table} kept a row from being changed"),
                Some("Nothing was changed: a deletion or restore is whole or not at all.".into()),
                Some("Let the BEFORE UPDATE triggers of the table return NEW, with deleted_at and deletion_id as they are, when these change.".into()),
            ),
            Self::Exchanged { relation } => (
                Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
                "a table was exchanged for another relation meanwhile".into(),
                Some(format!("The relation with OID {relation} is a view, has another owner, or has policies that bind the owner of a table that refers to it.")),
                Some("Retry. If it happens again, look for a trigger that renames or replaces tables.".into()),
            ),
            Self::SchemaMoves => (
                Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
                "the schema changes all the time".into(),
                Some("The deletion began anew each time, since there may be new references to follow.".into()),
                Some("Retry. If it happens again, look for a trigger that changes the schema.".into()),
            ),
            Self::OwnersDiffer { tables } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("cannot purge rows of {tables}: they refer to each other, and their owners differ"),
                Some("They can only go in one statement, and no owner's triggers run with another's rights.".into()),
                Some("Give these tables one owner.".into()),
            ),
            Self::Restricted { statement } => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("cannot execute {statement} within security-restricted operation"),
                Some("Code of a table's owner that another role's call runs leaves nothing behind.".into()),
                None,
            ),
            Self::TriggerProtocol { function, serves, called } => (
                Code::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                format!("{function}() serves triggers {serves}"),
                Some(called),
                Some("Drop that trigger, if there is one: keepsake.manage() makes those that a table needs.".into()),
            ),
            Self::StateColumns { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{table} has lost the columns that mark its deleted rows"),
                Some("Its column deleted_at must be a timestamptz and deletion_id a uuid, and neither generated. One is gone, or another has its name.".into()),
                Some("Give the columns of old their names back: ALTER TABLE … RENAME COLUMN … TO …. keepsake.doctor() lists such tables.".into()),
            ),
            Self::ColumnGone { column } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("the row has no column \"{column}\""),
                Some("Keepsake knows it of the table.".into()),
                Some("keepsake.doctor() says what it has lost.".into()),
            ),
            Self::BadArgument { what, fix } => (Code::ERRCODE_INVALID_PARAMETER_VALUE, what, None, Some(fix)),
            Self::Spi(error) => (
                Code::ERRCODE_INTERNAL_ERROR,
                "keepsake could not read what PostgreSQL answered".into(),
                Some(error.to_string()),
                None,
            ),
        };
        (code, message, detail, hint)
    }
}

/// The foreign key that an error is about: clients read the fields of the error that name it.
#[derive(Clone, Debug)]
pub struct ConstraintName {
    /// The referring table.
    pub table: Qualified,
    /// The constraint.
    pub name: String,
}

/// The SQLSTATE of a deletion that live rows refuse, as the release has it for a foreign key.
fn blocked(restricts: bool) -> PgSqlErrorCode {
    if cfg!(feature = "pg18") && restricts {
        PgSqlErrorCode::ERRCODE_RESTRICT_VIOLATION
    } else {
        PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION
    }
}

impl Failure {
    /// As an error of pgrx's, which has no fields for a table and a constraint.
    pub fn into_report(self) -> ErrorReport {
        let (code, message, detail, hint) = self.parts();
        let mut report = ErrorReport::new(code, message, function_name!());
        if let Some(detail) = detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = hint {
            report = report.set_hint(hint);
        }
        report
    }

    fn constraint(&self) -> Option<ConstraintName> {
        match self {
            Self::Blocked { constraint, .. } | Self::DeadParent { constraint, .. } => {
                Some(constraint.clone())
            }
            _ => None,
        }
    }
}

impl From<Failure> for ErrorReport {
    fn from(failure: Failure) -> Self {
        if let Some(constraint) = failure.constraint() {
            raise(failure.parts(), &constraint);
        }
        failure.into_report()
    }
}

/// Raises an error that names a table and a constraint.
#[allow(
    unreachable_code,
    reason = "the bindings of some releases know that the call never returns"
)]
fn raise((code, message, detail, hint): Parts, constraint: &ConstraintName) -> ! {
    let kept = |text: &str| -> *mut c_char {
        let text = CString::new(text.replace('\0', "")).unwrap_or_default();
        // SAFETY: copies a string into PostgreSQL's memory.
        unsafe { pg_sys::pstrdup(text.as_ptr()) }
    };
    let optional = |text: Option<String>| text.map_or(std::ptr::null_mut(), |text| kept(&text));
    let mut error = pg_sys::ErrorData {
        elevel: pg_sys::PGERROR as c_int,
        sqlerrcode: code as c_int,
        message: kept(&message),
        detail: optional(detail),
        hint: optional(hint),
        schema_name: kept(&constraint.table.schema.0),
        table_name: kept(&constraint.table.name.0),
        constraint_name: kept(&constraint.name),
        filename: c"error.rs".as_ptr(),
        funcname: c"keepsake".as_ptr(),
        ..Default::default()
    };
    // SAFETY: a whole error, whose texts PostgreSQL copies; the call raises it.
    unsafe {
        error.assoc_context = pg_sys::CurrentMemoryContext;
        pg_sys::ThrowErrorData(&raw mut error);
    }
    unreachable!("PostgreSQL has raised the error")
}

/// An argument that must not be NULL.
pub fn required<T>(argument: Option<T>, name: &str) -> Outcome<T> {
    argument.ok_or_else(|| Failure::BadArgument {
        what: format!("{name} must not be NULL"),
        fix: "Give a value for it.".into(),
    })
}

/// Raises a failure from a trigger: pgrx would wrap a returned `Err` as XX000.
pub fn raise_unless_ok<T>(outcome: Outcome<T>) -> T {
    outcome.map_err(ErrorReport::from).unwrap_or_report()
}

/// `1 row`, `2 rows`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}
