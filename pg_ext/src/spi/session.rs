//! One SPI connection, with the few ways in which the engine runs a statement.

use std::cell::Cell;
use std::ffi::{CString, c_int};

use pgrx::datum::DatumWithOid;
use pgrx::spi::{OwnedPreparedStatement, Query, Spi, SpiClient, SpiHeapTupleData, SpiTupleTable};
use pgrx::{FromDatum, IntoDatum, Uuid, pg_sys};

use crate::call::trigger_call::Transition;
use crate::model::error::{Failure, Outcome};
use crate::model::table::Table;
use crate::postgres::settings::{indexes_only, one_plan, one_plan_for_few};
use crate::run_as::archive_reading::{self, Reading};
use crate::run_as::engine_write::EngineWrite;
use crate::run_as::role::{Restricted, Role, RunAs};
use crate::run_as::search_path::SearchPath;
use crate::spi::cursor::Cursor;
use crate::spi::kept_plans::{self, is_standby};
use crate::spi::latest_snapshot::{self, Source};

/// A connection to PostgreSQL's SPI for the length of one call.
pub struct Session<'a, 'conn> {
    pub(super) client: &'a mut SpiClient<'conn>,
    /// That of the transition tables that are registered; see [`Source`].
    pub(super) magnitude: u32,
    /// Whose code runs restricted.
    restricted: Restricted,
    /// Whether plans are kept: see [`Session::keep_plans`].
    pub(super) keeps_plans: bool,
    /// Who owns the extension, once somebody has asked.
    extension_owner: Cell<Option<pg_sys::Oid>>,
    /// The owners of the tables that the caller has named.
    named_owners: Vec<pg_sys::Oid>,
}

/// Transition tables whose sizes are within this power of two share a plan: one serves 1 to 7 rows, one 8 to 63, and so on.
const OF_A_KIND: u32 = 3;

/// The first column of every row, NULLs left out.
pub fn first_column<T, C>(rows: SpiTupleTable<'_>) -> Outcome<C>
where
    T: FromDatum + IntoDatum,
    C: FromIterator<T>,
{
    rows.filter_map(|row| row.get::<T>(1).map_err(Failure::from).transpose())
        .collect()
}

/// The first column of the first row; `None` where it is NULL, or there is no row.
pub fn first_cell<T: FromDatum + IntoDatum>(mut rows: SpiTupleTable<'_>) -> Outcome<Option<T>> {
    match rows.next() {
        Some(row) => Ok(row.get(1)?),
        None => Ok(None),
    }
}

/// Runs `work`, which writes or locks rows, in a session of its own. Refused on a standby (25006).
pub fn with_session<R>(work: impl FnOnce(&mut Session<'_, '_>) -> R) -> R {
    // SAFETY: raises an error or does nothing; the text is a constant that C can read.
    unsafe { pg_sys::PreventCommandDuringRecovery(c"a keepsake function that writes".as_ptr()) };
    with_reading_session(work)
}

/// Runs `work`, which purges or is to tell what a purge would do, in a session of its own. Whoever owns a table, his code
/// leaves nothing to the commit: what fails there fails for all.
pub fn with_purging_session<R>(work: impl FnOnce(&mut Session<'_, '_>) -> R) -> R {
    with_session(|session| {
        session.restricted = Restricted::Everybodys;
        work(session)
    })
}

/// Runs `work`, which only reads, in a session of its own; on a standby, too.
pub fn with_reading_session<R>(work: impl FnOnce(&mut Session<'_, '_>) -> R) -> R {
    Spi::connect_mut(|client| {
        work(&mut Session {
            client,
            magnitude: 0,
            restricted: Restricted::Others,
            keeps_plans: false,
            extension_owner: Cell::new(None),
            named_owners: Vec::new(),
        })
    })
}

/// The rows of the statement that has just succeeded: so many, or none where it gives none.
pub(super) fn result<'conn>(rows: usize) -> Outcome<Vec<SpiHeapTupleData<'conn>>> {
    // SAFETY: this is its result, of that many rows, or NULL; it is kept in the memory of the SPI connection.
    unsafe {
        let Some(table) = pg_sys::SPI_tuptable.as_ref() else {
            return Ok(Vec::new());
        };
        let row = |n: usize| SpiHeapTupleData::new(table.tupdesc, *table.vals.add(n));
        let found = (0..rows).filter_map(|n| row(n).transpose());
        Ok(found.collect::<Result<_, _>>()?)
    }
}

impl<'conn> Session<'_, 'conn> {
    /// Whether the statements that read and write rows from now on keep their plans: for work on few rows, which take longer to plan
    /// than to run. What is read has one plan, whatever the arguments; what is written, whose triggers may be anybody's, the one that
    /// PostgreSQL chooses. Only for statements whose text the graph and the caller's policies decide; see [`kept_plans`].
    pub fn keep_plans(&mut self, keep: bool) {
        self.keeps_plans = keep;
    }

    /// Whether plans are kept now.
    pub fn keeps_plans(&self) -> bool {
        self.keeps_plans
    }

    /// Notes that the caller has named a table of this owner, or a deletion that began in one.
    pub fn name_owner(&mut self, owner: pg_sys::Oid) {
        if !self.has_named(owner) {
            self.named_owners.push(owner);
        }
    }

    /// Whether the caller has named a table of this owner.
    pub fn has_named(&self, owner: pg_sys::Oid) -> bool {
        self.named_owners.contains(&owner)
    }

    /// The owners of the tables that the caller has named.
    pub fn named_owners(&self) -> &[pg_sys::Oid] {
        &self.named_owners
    }

    /// Reads the catalog or the registry, as whoever calls.
    pub fn catalog(&self, sql: &str, args: &[DatumWithOid<'_>]) -> Outcome<SpiTupleTable<'conn>> {
        let _path = SearchPath::pinned().pin();
        Ok(self.client.select(sql, None, args)?)
    }

    /// Reads or writes the registry, as the extension's owner.
    pub fn registry(
        &mut self,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        let _registry = Role::ExtensionOwner(self.extension_owner()?).enter();
        self.execute(sql, args)
    }

    /// Changes the schema with the caller's own rights: a statement of ours that runs no code of a table's owner. The
    /// names in it are resolved in `pg_catalog` alone, so that nothing in the caller's `search_path` is stored in what it
    /// makes.
    pub fn ddl(&mut self, sql: &str) -> Outcome<()> {
        let _path = SearchPath::pinned().pin();
        self.execute(sql, &[])?;
        Ok(())
    }

    /// Reads the catalog with the caller's own `search_path`, under which policies are printed and read again. Its plan is kept.
    pub fn catalog_in_callers_path(
        &self,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        let statement = self.kept(sql, args)?;
        Ok(self.client.select(statement, None, args)?)
    }

    /// Reads rows of a table with the caller's own rights, under its policies.
    pub fn as_caller_under_policies(
        &mut self,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        let _restricted = RunAs::restricted_caller();
        let _plan = self.keeps_plans.then(one_plan);
        self.execute_text(sql, args)
    }

    /// Runs a statement that reads or locks rows of `table`, as its owner.
    pub fn as_owner(
        &mut self,
        table: &Table,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        self.with_owner(table, SearchPath::pinned(), |session| {
            session.read_text(sql, args)
        })
    }

    /// As [`Self::as_owner`], for a statement over the new rows of `child`, those of a transition table or one in the arguments: its plan is kept.
    pub fn lock_for_new(
        &mut self,
        table: &Table,
        child: pg_sys::Oid,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<()> {
        let _owner = self.owner(table.owner, SearchPath::pinned()).enter();
        latest_snapshot::execute_ordinarily(self.new_rows_of(child), sql, args).map(drop)
    }

    pub(super) fn new_rows_of(&self, child: pg_sys::Oid) -> Source {
        Source {
            table: child,
            magnitude: self.magnitude,
            few: self.magnitude == 0,
        }
    }

    /// The same for a table of which no more than its owner is known.
    pub fn as_role(
        &mut self,
        owner: pg_sys::Oid,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        let _owner = self.owner(owner, SearchPath::pinned()).enter();
        self.execute(sql, args)
    }

    /// The same, for a statement that reads what the caller wrote, under the settings that he wrote it with.
    pub fn as_owner_in_callers_formats(
        &mut self,
        table: &Table,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        let path = SearchPath::pinned().in_callers_formats();
        self.with_owner(table, path, |session| session.execute_text(sql, args))
    }

    /// As [`Self::as_owner`], for a statement with expressions of the table's indexes: their functions find what
    /// they find when the table is written to.
    pub fn as_owner_in_schema(
        &mut self,
        table: &Table,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        let path = SearchPath::of(&table.name.schema);
        self.with_owner(table, path, |session| session.read_text(sql, args))
    }

    /// Reads the catalog as the owner of `table`, with the path of [`Self::as_owner_in_schema`]: what is printed reads back the same there.
    pub fn catalog_in_schema(
        &self,
        table: &Table,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        let path = SearchPath::of(&table.name.schema);
        let _owner = self.owner(table.owner, path).enter();
        Ok(self.client.select(sql, None, args)?)
    }

    /// Runs a statement that compares archived rows with those of `table`, as its owner.
    pub fn over_archives(
        &mut self,
        table: &Table,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        let _reading = Reading::by(sql);
        self.as_owner_in_schema(table, sql, args)
    }

    /// As [`Self::as_owner`], for a statement that also reads another table, with that one's owner's rights to it. What is
    /// in the statement runs as the owner of `table`, as in PostgreSQL's own check of a new foreign key.
    pub fn as_owner_beside(
        &mut self,
        table: &Table,
        other: pg_sys::Oid,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        let _reading = Reading::beside(sql, other);
        self.as_owner(table, sql, args)
    }

    /// Sends the rows of a query over archives to a receiver, with the rights that are in force.
    ///
    /// # Safety
    /// The receiver is valid until this returns.
    pub unsafe fn send_archived(
        &mut self,
        sql: &str,
        receiver: *mut pg_sys::DestReceiver,
    ) -> Outcome<()> {
        let _reading = Reading::by(sql);
        let sql = CString::new(sql).map_err(|_| Failure::BadArgument {
            what: "a name holds a NUL".into(),
            fix: "Rename it.".into(),
        })?;
        // SAFETY: we are connected to SPI; the caller promises the rest.
        unsafe {
            let plan = pg_sys::SPI_prepare(sql.as_ptr(), 0, std::ptr::null_mut());
            if plan.is_null() {
                Spi::check_status(pg_sys::SPI_result)?;
            }
            let options = pg_sys::SPIExecuteOptions {
                dest: receiver,
                ..Default::default()
            };
            Spi::check_status(pg_sys::SPI_execute_plan_extended(plan, &raw const options))?;
            pg_sys::SPI_freeplan(plan);
        }
        Ok(())
    }

    /// Does work that runs what the owner of a table wrote, as him; as the caller where no table is given.
    pub fn while_owner<R>(
        &mut self,
        table: Option<&Table>,
        work: impl FnOnce(&mut Self) -> Outcome<R>,
    ) -> Outcome<R> {
        let owner = table.map(|table| self.owner(table.owner, SearchPath::of(&table.name.schema)));
        let _owner = owner.as_ref().map(Role::enter);
        work(self)
    }

    /// Writes to an archive, as the role that owns it.
    pub fn write_archive(
        &mut self,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        let _owner = Role::ExtensionOwner(archive_reading::owner()).enter();
        self.execute(sql, args)
    }

    /// Whether `sql`, whose one argument is a deletion, finds a row. Runs as the owner of `table`.
    pub fn exists(&mut self, table: &Table, sql: &str, deletion: Uuid) -> Outcome<bool> {
        let found = self.as_owner(table, &format!("{sql} LIMIT 1"), &[deletion.into()])?;
        Ok(!found.is_empty())
    }

    /// Opens a cursor over rows of `table`, as its owner. Its plan uses indexes alone, and is kept.
    pub fn cursor(
        &mut self,
        table: &Table,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<Cursor<'conn>> {
        let owner = self.owner(table.owner, SearchPath::pinned());
        self.open_cursor(owner, sql, args)
    }

    /// Opens a cursor over the registry, as the extension's owner; its plan as that of `cursor`.
    pub fn registry_cursor(
        &mut self,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<Cursor<'conn>> {
        let owner = Role::ExtensionOwner(self.extension_owner()?);
        let _plan = one_plan();
        self.open_cursor(owner, sql, args)
    }

    /// As [`Self::write`], for a statement that starts from few rows: it has one plan, which is kept. Answers with how many rows it wrote, and
    /// with what it returns of them.
    pub fn write_from_few(
        &mut self,
        table: &Table,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<(usize, Vec<SpiHeapTupleData<'conn>>)> {
        let _owner = self
            .owner(table.owner, SearchPath::of(&table.name.schema))
            .enter();
        let _open = EngineWrite::to(table.oid);
        let source = Source {
            table: table.oid,
            magnitude: 0,
            few: true,
        };
        let written = latest_snapshot::execute_ordinarily(source, sql, args)?;
        Ok((written, result(written)?))
    }

    /// Writes like [`Self::write`], and answers with how many rows. Where plans are kept, it starts from few.
    pub fn write_counted(
        &mut self,
        table: &Table,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<usize> {
        if self.keeps_plans {
            return Ok(self.write_from_few(table, sql, args)?.0);
        }
        Ok(self.write(table, sql, args)?.len())
    }

    /// The prepared form of a statement whose text the graph alone decides.
    pub(super) fn kept(
        &self,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<&'static OwnedPreparedStatement> {
        kept_plans::prepared(self.client, sql, args)
    }

    /// Writes to `table` as its owner, past the triggers that refuse anybody else. The table's own
    /// triggers find `pg_catalog` and the table's schema, not what the caller put in their way.
    pub fn write(
        &mut self,
        table: &Table,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        self.write_to_all(&[table], sql, args)
    }

    /// Writes like [`Self::write`], with a statement that reads archives.
    pub fn write_from_archive(
        &mut self,
        table: &Table,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        let _reading = Reading::by(sql);
        self.write(table, sql, args)
    }

    /// Writes to several tables in one statement, as the owner of the first.
    pub fn write_to_all(
        &mut self,
        tables: &[&Table],
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        let Some(first) = tables.first() else {
            return self.execute(sql, args);
        };
        let path = SearchPath::of(&first.name.schema);
        self.with_owner(first, path, |session| {
            let _open = EngineWrite::to_all(tables.iter().map(|table| table.oid).collect());
            session.execute_text(sql, args)
        })
    }

    /// Writes like [`Self::write`], with a statement that has a RETURNING clause, and hands its rows on in
    /// windows. However many there are, they are not in memory at once, nor is what `each` makes of them:
    /// it has a session of its own.
    pub fn write_in_windows(
        &mut self,
        table: &Table,
        (sql, args): (&str, &[DatumWithOid<'_>]),
        window: i64,
        mut each: impl FnMut(&mut Session<'_, '_>, SpiTupleTable<'_>) -> Outcome<()>,
    ) -> Outcome<()> {
        let owner = self.owner(table.owner, SearchPath::of(&table.name.schema));
        let mut cursor = {
            let _as = owner.enter();
            let _open = EngineWrite::to(table.oid);
            let opened = self.client.try_open_cursor_mut(sql, args)?;
            Cursor::pin(self.client, opened, owner.clone())?
        };
        loop {
            let rows = {
                // The first fetch runs the statement to its end.
                let _open = EngineWrite::to(table.oid);
                cursor.fetch(window)?
            };
            if rows.is_empty() {
                return Ok(());
            }
            with_session(|session| {
                session.restricted = self.restricted;
                each(session, rows)
            })?;
        }
    }

    /// Reads what is the registry's or an archive's, and hands its rows on in windows, as [`Self::write_in_windows`] does.
    pub fn registry_in_windows(
        &mut self,
        sql: &str,
        window: i64,
        mut each: impl FnMut(&mut Session<'_, '_>, SpiTupleTable<'_>) -> Outcome<()>,
    ) -> Outcome<()> {
        let owner = Role::ExtensionOwner(self.extension_owner()?);
        let mut cursor = {
            let _as = owner.enter();
            let opened = self.client.try_open_cursor_mut(sql, &[])?;
            Cursor::pin(self.client, opened, owner.clone())?
        };
        loop {
            let rows = cursor.fetch(window)?;
            if rows.is_empty() {
                return Ok(());
            }
            with_session(|session| {
                session.restricted = self.restricted;
                each(session, rows)
            })?;
        }
    }

    /// Whether the transaction reads all its statements from one snapshot (REPEATABLE READ and
    /// SERIALIZABLE), so that it cannot see what others commit meanwhile.
    pub fn keeps_its_snapshot(&self) -> bool {
        // SAFETY: reads a backend-local variable that only this backend writes.
        unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as c_int }
    }

    /// Makes the rows that a trigger's statement wrote visible to this session's statements, which ends
    /// within the trigger's call.
    pub fn register_transition_table(&mut self, table: &impl Transition) -> Outcome<()> {
        let data: *const pg_sys::TriggerData = table.data();
        // SAFETY: the data of a trigger's call, which this session ends within.
        Spi::check_status(unsafe { pg_sys::SPI_register_trigger_data(data.cast_mut()) })?;
        // SAFETY: where the trigger has a transition table, it is a tuplestore that lives as long as its call.
        let rows = unsafe {
            [(*data).tg_oldtable, (*data).tg_newtable]
                .into_iter()
                .filter(|table| !table.is_null())
                .map(|table| pg_sys::tuplestore_tuple_count(table))
                .max()
        };
        self.magnitude = rows.and_then(i64::checked_ilog2).unwrap_or(0) / OF_A_KIND;
        Ok(())
    }

    /// As [`Self::execute_text`], for a statement that reads rows.
    fn read_text(&mut self, sql: &str, args: &[DatumWithOid<'_>]) -> Outcome<SpiTupleTable<'conn>> {
        let _plan = self.keeps_plans.then(one_plan_for_few);
        self.execute_text(sql, args)
    }

    /// As [`Self::execute`], with a plan that is kept where plans are.
    fn execute_text(
        &mut self,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        if self.keeps_plans {
            let statement = self.kept(sql, args)?;
            return self.execute(statement, args);
        }
        self.execute(sql, args)
    }

    /// Runs a statement that may write; on a standby, where only reading sessions are, one that does not:
    /// pgrx would ask for a transaction id.
    pub(super) fn execute<Q: Query<'conn>>(
        &mut self,
        query: Q,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        if is_standby() {
            return Ok(self.client.select(query, None, args)?);
        }
        Ok(self.client.update(query, None, args)?)
    }

    /// Does `work` as the owner of `table`, with names found by `path`.
    pub(super) fn with_owner<R>(
        &mut self,
        table: &Table,
        path: SearchPath,
        work: impl FnOnce(&mut Self) -> Outcome<R>,
    ) -> Outcome<R> {
        let _owner = self.owner(table.owner, path).enter();
        work(self)
    }

    /// The owner of a table, as whom a statement on it runs.
    pub(super) fn owner(&self, owner: pg_sys::Oid, path: SearchPath) -> Role {
        Role::Owner {
            owner,
            restricted: self.restricted,
            path,
        }
    }

    /// Opens a cursor with a plan that uses indexes alone, and is kept.
    fn open_cursor(
        &mut self,
        role: Role,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<Cursor<'conn>> {
        let _as = role.enter();
        let _plan = indexes_only();
        let statement = self.kept(sql, args)?;
        let opened = self.client.try_open_cursor_mut(statement, args)?;
        Cursor::pin(self.client, opened, role.clone())
    }

    pub(super) fn extension_owner(&self) -> Outcome<pg_sys::Oid> {
        if let Some(known) = self.extension_owner.get() {
            return Ok(known);
        }
        let _path = SearchPath::pinned().pin();
        let statement = self.kept(
            "SELECT extowner FROM pg_extension WHERE extname = 'keepsake'",
            &[],
        )?;
        let rows = self.client.select(statement, Some(1), &[])?;
        let owner: Option<pg_sys::Oid> = rows.first().get_one()?;
        self.extension_owner.set(owner);
        Ok(owner.unwrap_or(pg_sys::InvalidOid))
    }
}
