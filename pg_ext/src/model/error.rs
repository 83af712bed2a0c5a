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
    /// The table has the triggers of one with an archive, and the registry knows of none.
    ArchiveUnregistered { table: String },
    /// The function is for tables kept in place, and this one has an archive.
    KeptInArchive { table: String },
    /// `manage` cannot keep this table safe.
    CannotManage {
        table: String,
        why: String,
        fix: String,
    },
    /// The database has an encoding in which tables are not managed.
    Encoding { encoding: String },
    /// `hide_deleted` cannot hide this table's deleted rows as asked.
    CannotHide {
        table: String,
        why: String,
        fix: String,
    },
    /// The caller does not own the table.
    NotOwner { table: String },
    /// The caller does not own the schema.
    NotSchemaOwner { schema: String },
    /// The transaction's snapshot is older than the table's lock, so that it misses rows.
    OldSnapshot { table: String },
    /// The table's deleted rows are in no archive.
    NotArchived { table: String },
    /// The table still holds soft-deleted rows.
    HoldsDeletedRows { table: String },
    /// The archive of the table still holds rows.
    HoldsArchivedRows { table: String, archive: String },
    /// A command has converted values of a table, and its archive cannot follow.
    ConversionNotFollowed { table: String, why: String },
    /// What an archive holds would be given up by someone who may not purge it.
    MayNotErase,
    /// A `TRUNCATE` on an archived table.
    TruncateArchived { table: String },
    /// The caller lacks the DELETE privilege.
    MayNotDelete { table: String },
    /// The caller lacks the UPDATE privilege on a column.
    MayNotUpdate { table: String, column: String },
    /// The caller lacks the SELECT privilege.
    MayNotRead { table: String },
    /// The caller lacks the INSERT privilege.
    MayNotInsert { table: String },
    /// A row would come back to a partition that is a foreign table.
    ForeignPartition { table: String },
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
    /// A change of the key of an object that a deleted row names.
    KeyOfObject { table: String },
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
    /// A table whose guards are gone or do not fire, so that a row could refer to a deleted one.
    GuardsLost { child: String, parent: String },
    /// A foreign key of a partition alone, which cannot be guarded.
    UnguardedPartition { child: String, parent: String },
    /// A TRUNCATE of a managed table whose trigger is gone or does not fire.
    TruncateUnguarded { table: String },
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
                format!("table {table} is not managed by Keepsake"),
                None,
                Some(format!("Run: SELECT keepsake.manage('{table}');")),
            ),
            Self::ArchiveUnregistered { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("no archive is known for the rows of table {table}"),
                Some("The table has the triggers that archive them, and the registry has no archive, as where a dump of one schema was loaded: they would be removed for good.".into()),
                Some(format!("Run: SELECT keepsake.manage('{table}', keep => 'archive');")),
            ),
            Self::KeptInArchive { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("the deleted rows of table {table} are kept in an archive"),
                Some("The function is for tables that keep their deleted rows in place. A table with an archive holds live rows only.".into()),
                Some(format!("keepsake.deleted_rows(NULL::{table}) reads its deleted rows, keepsake.restore_row() restores one. If you need this function, unmanage the table and manage it with keep => 'in place'.")),
            ),
            Self::Encoding { encoding } => (
                Code::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("cannot manage tables in a database with the encoding {encoding}"),
                Some("Keepsake reads names and keys as UTF-8. Rows with other letters than ASCII in their keys could not be restored.".into()),
                Some("Create a database with ENCODING 'UTF8', and load the tables there.".into()),
            ),
            Self::CannotManage { table, why, fix } => {
                (Code::ERRCODE_FEATURE_NOT_SUPPORTED, format!("cannot manage table {table}"), Some(why), Some(fix))
            }
            Self::CannotHide { table, why, fix } => (
                Code::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("cannot hide the deleted rows of table {table}"),
                Some(why),
                Some(fix),
            ),
            Self::NotOwner { table } => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("must be owner of table {table}"),
                None,
                Some("Run this as the table's owner. Only the owner can add triggers to a table.".into()),
            ),
            Self::NotSchemaOwner { schema } => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("must be owner of schema {schema}"),
                None,
                Some("Run this as the schema's owner.".into()),
            ),
            Self::NotArchived { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{table} has no archive"),
                Some("The function is for tables managed with keep => 'archive'. A table that keeps its deleted rows in place has them in it, with deleted_at and deletion_id.".into()),
                Some("Read the table itself, and give keepsake.restore() the row's deletion_id.".into()),
            ),
            Self::HoldsDeletedRows { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("table {table} still holds deleted rows"),
                Some("Without deleted_at and deletion_id these rows would become live again.".into()),
                Some("Restore or purge them first.".into()),
            ),
            Self::HoldsArchivedRows { table, archive } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{archive} still holds deleted rows of {table}"),
                Some("They could not be restored any more.".into()),
                Some(format!("Restore or purge them first, or give them up: SELECT keepsake.unmanage('{table}', drop_archive => true).")),
            ),
            Self::ConversionNotFollowed { table, why } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("the archive of table {table} cannot follow the conversion of a column: {why}"),
                Some("What USING makes of values is known only while the command runs. Rows that were deleted before would come back with other values.".into()),
                Some("Retry when nothing locks the archive, or change the type without USING.".into()),
            ),
            Self::MayNotErase => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                "permission denied to give up deleted rows".into(),
                Some("That comes to the same as purging them.".into()),
                Some("Be granted EXECUTE on keepsake.purge_deletion(uuid).".into()),
            ),
            Self::TruncateArchived { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{table} cannot be truncated"),
                Some("The table is managed by keepsake, and its on_truncate is 'reject'.".into()),
                Some("Use DELETE; or let TRUNCATE archive the rows, or remove them for good, by keepsake.manage() of the table with on_truncate => 'archive' or 'allow'.".into()),
            ),
            Self::MayNotDelete { table } => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied to delete from table {table}"),
                None,
                Some("To delete, restore or purge, you need the DELETE privilege on the root table of the deletion.".into()),
            ),
            Self::MayNotUpdate { table, column } => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied to update column {column} of table {table}"),
                None,
                Some("To change a deleted row, you need the UPDATE privilege that a live one asks for.".into()),
            ),
            Self::MayNotRead { table } => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied to read table {table}"),
                None,
                Some("To read its deleted rows, you need the SELECT privilege on the table.".into()),
            ),
            Self::MayNotInsert { table } => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied to insert into {table}"),
                None,
                Some("Restoring rows that are kept in an archive needs the DELETE and INSERT privileges on the deletion's root table.".into()),
            ),
            Self::ForeignPartition { table } => (
                Code::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("cannot restore rows of {table} into a foreign table"),
                Some("The partition that a row belongs to now is a foreign table.".into()),
                Some("Detach that partition, or move the row's partition into this database.".into()),
            ),
            Self::RowNotFound { table } => (
                Code::ERRCODE_NO_DATA_FOUND,
                format!("table {table} has no row with this key"),
                Some("The row does not exist, or you may not see and delete it.".into()),
                None,
            ),
            Self::DeletionNotFound { deletion } => (
                Code::ERRCODE_NO_DATA_FOUND,
                format!("deletion {deletion} does not exist"),
                Some("No deletion has this id, or you may not see and delete its root row, or its root table was dropped or is no longer managed.".into()),
                None,
            ),
            Self::Blocked { table, referrers, restricts, .. } => (
                blocked(restricts),
                format!("cannot delete from table {table}: live rows still refer to rows that this would delete"),
                Some(format!("Referring rows: {}.", referrers.join(", "))),
                Some("Delete the referring rows first, or make their foreign key cascade. If their table is not managed, run keepsake.manage() on it.".into()),
            ),
            Self::DeclaredReferrer { table, child, reference } => (
                Code::ERRCODE_FOREIGN_KEY_VIOLATION,
                format!("cannot permanently remove a row of table {table}: a row of table {child} still refers to it"),
                Some(format!("It refers through the declared reference \"{reference}\". Deleted rows count until they are purged.")),
                Some(format!("Remove or update the referring rows first, or run SELECT keepsake.soft_delete('{table}', key), which deletes them too.")),
            ),
            Self::ConcurrentChild { table } => (
                Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
                format!("could not delete from table {table}: a concurrent transaction added a row that refers to it"),
                None,
                Some("This transaction's snapshot is too old to see that row. Retry the transaction.".into()),
            ),
            Self::ConcurrentParent { table } => (
                Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
                format!("could not restore rows of table {table}: a concurrent transaction deleted a row that they refer to"),
                None,
                Some("This transaction's snapshot is too old to see that deletion. Retry the transaction.".into()),
            ),
            Self::Settling { table } => (
                Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
                format!("could not update a deleted row of table {table}: its deletion is being restored or purged"),
                None,
                Some("The restore or purge has already checked the rows that it refers to. Retry the transaction.".into()),
            ),
            Self::RestoreConflicts { conflicts } => (
                Code::ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION,
                format!("cannot restore the deletion: {}", count(conflicts.len(), "conflict")),
                Some(Conflict::to_json(&conflicts).to_string()),
                Some("Nothing was changed. DETAIL lists every conflict as JSON, and keepsake.restore_conflicts() as rows. Resolve them, or pass on_conflict => 'skip' to leave the rows in conflict deleted.".into()),
            ),
            Self::Purged { deletion } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "the deletion has been purged".into(),
                Some(format!(
                    "The retention of deletion {deletion} has expired. Some or all of its rows were permanently removed."
                )),
                None,
            ),
            Self::Held { deletion } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "the deletion is on hold".into(),
                Some(format!("A legal hold on deletion {deletion}, on its tenant or on one of its rows prevents the purge of all its rows.")),
                Some("The table keepsake.hold shows who placed the hold and why. keepsake.release(id) ends a hold.".into()),
            ),
            Self::HeldKey { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("cannot change the key of a row of table {table} that is on hold"),
                Some("The legal hold identifies the row by its key.".into()),
                Some("keepsake.release(id) ends a hold.".into()),
            ),
            Self::MayNotShorten { deletion } => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied to shorten the retention of deletion {deletion}"),
                Some("A shorter retention would let the deletion be purged earlier.".into()),
                Some("Pass a longer retention, or ask for EXECUTE on keepsake.purge_deletion(uuid).".into()),
            ),
            Self::OldSnapshot { table } => (
                Code::ERRCODE_ACTIVE_SQL_TRANSACTION,
                format!("the deleted rows of table {table} cannot be read under REPEATABLE READ or SERIALIZABLE"),
                Some("The transaction's snapshot may be older than the lock on the table, and miss rows that others have written.".into()),
                Some("Make the call in a READ COMMITTED transaction.".into()),
            ),
            Self::RegistryMoved => (
                Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
                "a concurrent transaction changed a deletion or a hold".into(),
                None,
                Some("This transaction's snapshot is too old to see the change. Retry the transaction.".into()),
            ),
            Self::NoKeyIndex { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("table {table} has no index on its object keys"),
                Some("No object can be leased for deletion until the index shows that no row names it.".into()),
                Some("Create a btree index without a WHERE clause whose first column is the key column named in keepsake.bound_storage.".into()),
            ),
            Self::ObjectInUse => (
                Code::ERRCODE_OBJECT_IN_USE,
                "the object that this row names is being deleted from the bucket".into(),
                Some("An earlier row that named the object was permanently removed, and a worker has leased the object key from the outbox.".into()),
                Some("Retry in a minute, or store the object under a new key.".into()),
            ),
            Self::KeyOfObject { table } => (
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("cannot change the object key of a deleted row of table {table}"),
                None,
                Some("Restore the row first.".into()),
            ),
            Self::PlainDelete { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("cannot run DELETE on table {table}"),
                Some("The table is managed with on_delete => 'reject'. A plain DELETE could not be undone.".into()),
                Some(format!("Run SELECT keepsake.soft_delete('{table}', key). If the DELETE came from ON DELETE CASCADE of a parent table, manage the parent table too.")),
            ),
            Self::MovesAndDeletes { table } => (
                Code::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("cannot update and delete rows of partitioned table {table} in one statement"),
                Some("Keepsake cannot distinguish a row that moves to another partition from a row that is deleted.".into()),
                Some("Use one statement for the updates and another for the deletes.".into()),
            ),
            Self::MergedTwice => (
                Code::ERRCODE_CARDINALITY_VIOLATION,
                "MERGE command cannot affect row a second time".into(),
                None,
                Some("Ensure that not more than one source row matches any one target row.".into()),
            ),
            Self::Truncate { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("cannot truncate table {table}"),
                Some("The table is managed by Keepsake, and TRUNCATE could not be undone.".into()),
                Some("Delete the rows with DELETE; purge removes them after their retention.".into()),
            ),
            Self::Unguarded { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("cannot delete from table {table}: its triggers are missing"),
                Some("The table has the columns deleted_at and deletion_id but not the triggers of a managed table, so rows would be removed permanently, or marked without a deletion. A table restored from a schema-only dump looks like this.".into()),
                Some(format!("Run SELECT keepsake.manage('{table}'); or drop the two columns.")),
            ),
            Self::GuardsLost { child, parent } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("the guards of table {child} are missing or disabled"),
                Some(format!("Rows of {child} refer to table {parent}. Without the triggers keepsake_guard_…, one of them could come to refer to a deleted row.")),
                Some(format!("Run SELECT keepsake.guard_references('{child}'); which creates and enables them.")),
            ),
            Self::UnguardedPartition { child, parent } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("a foreign key of partition {child} to table {parent} cannot be guarded"),
                Some("The partitioned table has no such key. So a row that comes by way of it could refer to a deleted row.".into()),
                Some("Create the foreign key on the partitioned table, and drop that of the partition.".into()),
            ),
            Self::TruncateUnguarded { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("cannot truncate table {table}: its trigger is missing or disabled"),
                Some("The table is managed by Keepsake, and TRUNCATE would remove its rows for good.".into()),
                Some(format!("Run SELECT keepsake.manage('{table}'); which creates the triggers again.")),
            ),
            Self::DeletedHolder { table } => (
                Code::ERRCODE_UNIQUE_VIOLATION,
                format!("cannot insert into table {table}: a deleted row has this key"),
                Some("ON CONFLICT would act on the deleted row, because the unique index covers deleted rows too.".into()),
                Some(format!("Restore the row first, or run SELECT keepsake.live_unique('{table}'); so that the index covers only live rows.")),
            ),
            Self::StateWrittenByHand { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("cannot write deleted_at, deletion_id or the key of a deleted row in table {table}"),
                Some("Only Keepsake writes them. A row that is deleted or restored by hand would leave its children behind.".into()),
                Some("Use DELETE or keepsake.soft_delete(), and keepsake.restore().".into()),
            ),
            Self::DeadParent { child, parent, reference, .. } => (
                Code::ERRCODE_FOREIGN_KEY_VIOLATION,
                format!("insert or update on table {child} violates reference \"{reference}\": the row of table {parent} is deleted or missing"),
                Some("A reference must point to a live row.".into()),
                Some("Restore the parent row first, or refer to another row.".into()),
            ),
            Self::Unreadable { reference, child, parent } => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("cannot follow reference \"{reference}\" from table {child} to table {parent}"),
                Some("The tables have different owners, and row-level security hides rows of one table from the owner of the other. The deletion would miss these rows.".into()),
                Some("Give both tables the same owner, or give their owners BYPASSRLS.".into()),
            ),
            Self::LostReference { reference, child } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("declared reference \"{reference}\" of table {child} has lost its columns"),
                Some("One of its columns, or the primary key of the parent table, was renamed or dropped.".into()),
                Some("Delete its row from keepsake.declared_reference, then run keepsake.declare_reference() with the new names.".into()),
            ),
            Self::Prevented { table } => (
                Code::ERRCODE_TRIGGERED_ACTION_EXCEPTION,
                format!("a trigger of table {table} prevented the change of a row"),
                Some("Nothing was changed, because a deletion or restore applies to all its rows or to none.".into()),
                Some("Make the BEFORE UPDATE triggers of the table return NEW and keep its deleted_at and deletion_id when these columns change.".into()),
            ),
            Self::Exchanged { relation } => (
                Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
                "a table was replaced by another relation during the statement".into(),
                Some(format!("The relation with OID {relation} is a view, has another owner, or has policies that bind the owner of a table that refers to it.")),
                Some("Retry. If this happens again, look for a trigger that renames or replaces tables.".into()),
            ),
            Self::SchemaMoves => (
                Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
                "the schema kept changing during the deletion".into(),
                Some("Keepsake restarted the deletion after each change, because there may be new references to follow, and gave up.".into()),
                Some("Retry. If this happens again, look for a trigger that changes the schema.".into()),
            ),
            Self::OwnersDiffer { tables } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("cannot purge rows of tables {tables}: they refer to each other and have different owners"),
                Some("One statement would have to remove them, and the triggers of one owner never run with the rights of another.".into()),
                Some("Give these tables the same owner.".into()),
            ),
            Self::Restricted { statement } => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("cannot execute {statement} within security-restricted operation"),
                Some("Code of a table's owner that runs in a call of another role must not leave anything behind.".into()),
                None,
            ),
            Self::TriggerProtocol { function, serves, called } => (
                Code::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                format!("{function}() must be called as a trigger: {serves}"),
                Some(called),
                Some("Drop the trigger that calls it. keepsake.manage() creates the triggers that a table needs.".into()),
            ),
            Self::StateColumns { table } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("table {table} has lost deleted_at or deletion_id"),
                Some("deleted_at must be a timestamptz column and deletion_id a uuid column, and neither may be generated.".into()),
                Some("Rename the original columns back: ALTER TABLE … RENAME COLUMN … TO …. keepsake.doctor() lists the tables concerned.".into()),
            ),
            Self::ColumnGone { column } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("the row has no column \"{column}\""),
                Some("The column is recorded for this table, but the table no longer has it.".into()),
                Some("keepsake.doctor() reports what is missing.".into()),
            ),
            Self::BadArgument { what, fix } => (Code::ERRCODE_INVALID_PARAMETER_VALUE, what, None, Some(fix)),
            Self::Spi(error) => (
                Code::ERRCODE_INTERNAL_ERROR,
                "Keepsake could not read an answer of PostgreSQL".into(),
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
    if cfg!(any(feature = "pg18", feature = "pg19")) && restricts {
        PgSqlErrorCode::ERRCODE_RESTRICT_VIOLATION
    } else {
        PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION
    }
}

impl Failure {
    /// Of a reference whose guards do not stand: what to do depends on whether it is one of a partition alone.
    pub fn unguarded_reference(is_of_partition: bool, child: String, parent: String) -> Self {
        if is_of_partition {
            Self::UnguardedPartition { child, parent }
        } else {
            Self::GuardsLost { child, parent }
        }
    }

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
        fix: "Pass a value.".into(),
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
