//! Rows that a query computes as the owner of their table, for statements that run as the caller.
//!
//! What the owner wrote (expressions of generated columns, casts, checks of domains) runs as him; what binds the caller (policies) is
//! then judged as the caller, on values that are there.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::spi::Spi;

use crate::model::error::{Failure, Outcome};
use crate::model::table::Table;
use crate::postgres::one_snapshot::OneSnapshot;
use crate::postgres::pg_list::pointers;
use crate::run_as::archive_reading::Reading;
use crate::run_as::role::RunAs;
use crate::spi::session::Session;

/// What the caller's statements call the rows, in FROM.
pub const ROWS: &str = "keepsake_owners_rows";

const NAME: &CStr = c"keepsake_owners_rows";

/// The rows, which statements of this SPI connection find by their name.
struct Registered {
    relation: Box<pg_sys::EphemeralNamedRelationData>,
    store: *mut pg_sys::Tuplestorestate,
}

impl Drop for Registered {
    fn drop(&mut self) {
        // SAFETY: takes the name out of a list where it is there; nobody reads the rows any more.
        unsafe {
            pg_sys::SPI_unregister_relation(NAME.as_ptr());
            pg_sys::tuplestore_end(self.store);
        }
    }
}

impl Session<'_, '_> {
    /// Does work whose statements find the rows of a query over archives, computed as the owner of `table`, as [`ROWS`].
    pub fn with_owners_rows<R>(
        &mut self,
        table: &Table,
        sql: &str,
        work: impl FnOnce(&mut Self) -> Outcome<R>,
    ) -> Outcome<R> {
        let _snapshot = OneSnapshot::take();
        let mut rows = self.while_owner(Some(table), |_| materialise(sql))?;
        // SAFETY: we are connected to SPI; the relation stays in its place until it is unregistered.
        Spi::check_status(unsafe { pg_sys::SPI_register_relation(&raw mut *rows.relation) })?;
        let done = work(self);
        drop(rows);
        done
    }

    /// Sends rows of one snapshot to a receiver: those of `live` with the caller's own rights, under the policies of the tables that it
    /// reads, and those of a query over archives computed as the owner of `table`. Where `seen` is given, a query of [`ROWS`], they are
    /// sent through it, with the caller's own rights.
    ///
    /// # Safety
    /// The receiver is valid until this returns.
    pub unsafe fn send_owners_rows(
        &mut self,
        table: &Table,
        (live, archived, seen): (Option<&str>, &str, Option<&str>),
        receiver: *mut pg_sys::DestReceiver,
    ) -> Outcome<()> {
        let _snapshot = OneSnapshot::take();
        if let Some(live) = live {
            let _restricted = RunAs::restricted_caller();
            // SAFETY: the caller's promise.
            unsafe { Statement::prepare(live)?.send(receiver)? };
        }
        let Some(seen) = seen else {
            return self.while_owner(Some(table), |_| {
                let _reading = Reading::by(archived);
                // SAFETY: the caller's promise.
                unsafe { Statement::prepare(archived)?.send(receiver) }
            });
        };
        self.with_owners_rows(table, archived, |_| {
            let _restricted = RunAs::restricted_caller();
            // SAFETY: the caller's promise.
            unsafe { Statement::prepare(seen)?.send(receiver) }
        })
    }
}

/// The rows of a query over archives, read with the rights that are in force.
fn materialise(sql: &str) -> Outcome<Registered> {
    let _reading = Reading::by(sql);
    let statement = Statement::prepare(sql)?;
    // SAFETY: the tuplestore and what describes its rows are made in the current memory, which outlives the session's statements; the
    // receiver fills it during the call.
    unsafe {
        let shape = statement.shape()?;
        let store = pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem);
        let receiver = pg_sys::CreateTuplestoreDestReceiver();
        pg_sys::SetTuplestoreDestReceiverParams(
            receiver,
            store,
            pg_sys::CurrentMemoryContext,
            false,
            std::ptr::null_mut(),
            std::ptr::null(),
        );
        statement.send(receiver)?;
        let mut relation = Box::new(pg_sys::EphemeralNamedRelationData::default());
        relation.md.name = NAME.as_ptr().cast_mut();
        relation.md.reliddesc = pg_sys::InvalidOid;
        relation.md.tupdesc = shape;
        relation.md.enrtype = pg_sys::EphemeralNameRelationType::ENR_NAMED_TUPLESTORE;
        relation.md.enrtuples = pg_sys::tuplestore_tuple_count(store) as f64;
        relation.reldata = store.cast();
        Ok(Registered { relation, store })
    }
}

/// A prepared SELECT.
struct Statement(pg_sys::SPIPlanPtr);

impl Statement {
    fn prepare(sql: &str) -> Outcome<Self> {
        let sql = CString::new(sql).map_err(|_| Failure::BadArgument {
            what: "a name holds a NUL".into(),
            fix: "Rename it.".into(),
        })?;
        // SAFETY: we are connected to SPI, which copies the text.
        let plan = unsafe { pg_sys::SPI_prepare(sql.as_ptr(), 0, std::ptr::null_mut()) };
        if plan.is_null() {
            // SAFETY: reads the status that SPI_prepare has just set.
            Spi::check_status(unsafe { pg_sys::SPI_result })?;
        }
        Ok(Self(plan))
    }

    /// A copy of what describes its rows.
    fn shape(&self) -> Outcome<pg_sys::TupleDesc> {
        // SAFETY: a plan of one statement has one source, which describes the rows of a SELECT.
        unsafe {
            let sources = pg_sys::SPI_plan_get_plan_sources(self.0);
            let source = pointers::<pg_sys::CachedPlanSource>(sources).next();
            let shape = source.map(|source| (*source).resultDesc);
            let shape = shape.filter(|shape| !shape.is_null());
            let shape = shape.ok_or_else(|| Failure::ColumnGone {
                column: String::new(),
            })?;
            Ok(pg_sys::CreateTupleDescCopy(shape))
        }
    }

    /// Sends the rows that the active snapshot shows.
    ///
    /// # Safety
    /// The receiver is valid until this returns.
    unsafe fn send(&self, receiver: *mut pg_sys::DestReceiver) -> Outcome<()> {
        let options = pg_sys::SPIExecuteOptions {
            read_only: true,
            dest: receiver,
            ..Default::default()
        };
        // SAFETY: the plan was prepared by this connection; the caller promises the rest.
        Spi::check_status(unsafe {
            pg_sys::SPI_execute_plan_extended(self.0, &raw const options)
        })?;
        Ok(())
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        // An error frees it with the connection.
        if !std::thread::panicking() {
            // SAFETY: prepared by this connection, which is still open, and freed once.
            unsafe { pg_sys::SPI_freeplan(self.0) };
        }
    }
}
