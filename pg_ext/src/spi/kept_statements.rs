//! Statements of a session whose plans are kept.

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiTupleTable;

use crate::model::error::Outcome;
use crate::model::table::Table;
use crate::postgres::settings::{one_plan, one_plan_for_few};
use crate::run_as::engine_write::EngineWrite;
use crate::run_as::role::Role;
use crate::run_as::search_path::SearchPath;
use crate::spi::session::Session;

impl<'conn> Session<'_, 'conn> {
    /// As [`Self::catalog`], with one plan that is kept for all arguments: for what takes longer to plan than to read.
    pub fn catalog_kept(
        &self,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        let _path = SearchPath::pinned().pin();
        let _plan = one_plan();
        let statement = self.kept(sql, args)?;
        Ok(self.client.select(statement, None, args)?)
    }

    /// As `registry`, with a plan that is kept: for what a batch does again and again.
    pub fn registry_kept(
        &mut self,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        let _registry = Role::ExtensionOwner(self.extension_owner()?).enter();
        let statement = self.kept(sql, args)?;
        self.execute(statement, args)
    }

    /// As `registry_kept`, with the same plan for all arguments. For a statement that takes longer to plan than to run, and finds its
    /// rows by an index however many elements an array has: PostgreSQL would plan it anew each time, since it takes an array
    /// that it does not know for a longer one.
    pub fn registry_planned_once(
        &mut self,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        let _plan = one_plan();
        self.registry_kept(sql, args)
    }

    /// The same for a statement that goes from few rows to few others, by indexes.
    pub fn registry_of_few(
        &mut self,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        let _plan = one_plan_for_few();
        self.registry_kept(sql, args)
    }

    /// As `as_owner`, with a plan that is kept: for a statement on few rows, which takes longer to plan than to run.
    pub fn as_owner_kept(
        &mut self,
        table: &Table,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        self.with_owner(table, SearchPath::pinned(), |session| {
            let _plan = one_plan_for_few();
            let statement = session.kept(sql, args)?;
            session.execute(statement, args)
        })
    }

    /// As `write`, with a plan that is kept.
    pub fn write_kept(
        &mut self,
        table: &Table,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        let path = SearchPath::of(&table.name.schema);
        self.with_owner(table, path, |session| {
            let statement = session.kept(sql, args)?;
            let _open = EngineWrite::to(table.oid);
            session.execute(statement, args)
        })
    }
}
