//! Statements of a session that look at what is committed *now*.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::spi::SpiHeapTupleData;

use crate::model::error::Outcome;
use crate::model::table::Table;
use crate::postgres::settings::from_row_to_row;
use crate::run_as::archive_reading::Reading;
use crate::run_as::role::Role;
use crate::run_as::search_path::SearchPath;
use crate::spi::latest_snapshot::{self, Source};
use crate::spi::session::{Session, result};

/// Runs a SELECT in the latest snapshot, with the rights that are in force. For `few`, with one plan whatever the arguments.
fn read_now<'conn>(
    table: pg_sys::Oid,
    few: bool,
    sql: &str,
    args: &[DatumWithOid<'_>],
) -> Outcome<Vec<SpiHeapTupleData<'conn>>> {
    let source = Source {
        table,
        magnitude: 0,
        few,
    };
    // A plan that another `search_path` made invalid is made again while the statement runs.
    let _settings = few.then(from_row_to_row);
    let rows = latest_snapshot::execute(source, sql, args, 0)?;
    result(rows)
}

impl<'conn> Session<'_, 'conn> {
    /// Reads rows of a table of which no more than its owner is known, as they are committed *now*, as its owner.
    pub fn as_role_now(
        &self,
        (table, owner): (pg_sys::Oid, pg_sys::Oid),
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<Vec<SpiHeapTupleData<'conn>>> {
        let _owner = self.owner(owner, SearchPath::pinned()).enter();
        read_now(table, false, sql, args)
    }

    /// Whether `sql` finds a row when it looks at what is committed *now*, not at what the
    /// transaction's snapshot shows: the same latest snapshot that `ri_triggers.c` gives to
    /// foreign-key checks under REPEATABLE READ and SERIALIZABLE. Runs as `owner`.
    pub fn exists_now(
        &mut self,
        (child, owner): (pg_sys::Oid, pg_sys::Oid),
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<bool> {
        let _owner = self.owner(owner, SearchPath::pinned()).enter();
        let source = Source {
            table: child,
            magnitude: self.magnitude,
            few: false,
        };
        Ok(latest_snapshot::execute(source, sql, args, 1)? > 0)
    }

    /// The same for a statement over rows of `table` that also reads another one: see [`Self::as_owner_beside`].
    pub fn exists_now_beside(
        &mut self,
        table: &Table,
        other: pg_sys::Oid,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<bool> {
        let _reading = Reading::beside(sql, other);
        self.exists_now((table.oid, table.owner), sql, args)
    }

    /// Reads the catalog as it is committed *now*, as whoever calls: what triggers and
    /// foreign keys do is decided by it, too, whatever the transaction's snapshot shows.
    pub fn catalog_now(
        &self,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<Vec<SpiHeapTupleData<'conn>>> {
        let _path = SearchPath::pinned().pin();
        read_now(pg_sys::InvalidOid, false, sql, args)
    }

    /// The same for the registry, as the extension's owner: whoever writes to a managed table needs no right in
    /// the schema `keepsake`.
    pub fn registry_now(
        &self,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<Vec<SpiHeapTupleData<'conn>>> {
        let _registry = Role::ExtensionOwner(self.extension_owner()?).enter();
        self.catalog_now(sql, args)
    }

    /// The same for what few arguments name, with one plan that is kept: such a query takes a hundred times as long to plan as to run.
    pub fn registry_now_of_few(
        &self,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<Vec<SpiHeapTupleData<'conn>>> {
        let _registry = Role::ExtensionOwner(self.extension_owner()?).enter();
        let _path = SearchPath::pinned().pin();
        read_now(pg_sys::InvalidOid, true, sql, args)
    }

    /// Whether the registry, as it is committed *now*, has a row.
    pub fn registry_exists_now(&mut self, sql: &str, args: &[DatumWithOid<'_>]) -> Outcome<bool> {
        let _registry = Role::ExtensionOwner(self.extension_owner()?).enter();
        let source = Source {
            table: pg_sys::InvalidOid,
            magnitude: self.magnitude,
            few: false,
        };
        Ok(latest_snapshot::execute(source, sql, args, 1)? > 0)
    }

    /// As [`Self::exists_now`], for a statement over the new rows of `child`.
    pub fn exists_now_for_new(
        &mut self,
        (child, owner): (pg_sys::Oid, pg_sys::Oid),
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<bool> {
        let _owner = self.owner(owner, SearchPath::pinned()).enter();
        Ok(latest_snapshot::execute(self.new_rows_of(child), sql, args, 1)? > 0)
    }

    /// The same for a statement that also reads another table: see [`Self::as_owner_beside`].
    pub fn exists_now_for_new_beside(
        &mut self,
        (relation, table): (pg_sys::Oid, &Table),
        other: pg_sys::Oid,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<bool> {
        let _reading = Reading::beside(sql, other);
        self.exists_now_for_new((relation, table.owner), sql, args)
    }
}
