//! The one door through which PostgreSQL calls a trigger function.
//!
//! Anybody who may create a trigger may have it call any function, at any event, level and time, and
//! anybody may call a function by SELECT. So the calls that a function serves are a type, that of its
//! parameter: [`Call`] of a [`Kind`]. Any other call is refused before the function begins, as
//! `ri_triggers.c` does (39P01). What it may read is the kind's rows, which live as long as the call.

use std::ffi::CStr;
use std::fmt;

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::trigger_support::called_as_trigger;
use pgrx::tupdesc::PgTupleDesc;
use pgrx::{FromDatum, pg_sys};

use crate::call::trigger_row::Row;
use crate::model::error::{Failure, Outcome, raise_unless_ok};
use crate::model::sql::{Ident, Qualified, join};

/// A call that a trigger function serves, and what it brings.
#[derive(Debug)]
pub struct Call<'call, K: Kind> {
    /// The table whose row or statement fired the trigger; a partition, where it is one.
    pub relation: pg_sys::Oid,
    /// The rows that the kind brings.
    pub rows: K::Rows<'call>,
    opened: &'call pg_sys::RelationData,
    data: &'call pg_sys::TriggerData,
}

/// Which calls a function serves.
pub trait Kind {
    /// What such a call brings.
    type Rows<'call>: Rows<'call>;
    /// Before or after.
    const TIMING: u32;
    /// For each row, or once a statement.
    const LEVEL: u32;
    /// The events.
    const EVENTS: &'static [u32];
}

/// What a kind's calls bring.
pub trait Rows<'call>: Sized {
    /// Reads them; `None` where the call lacks one.
    fn of(data: &'call pg_sys::TriggerData) -> Option<Self>;
    /// What the trigger's definition must have besides, in SQL.
    const CLAUSE: &'static str = "";
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident: $timing:ident $level:ident [$($event:ident),+] brings $rows:ty;)+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl Kind for $name {
            type Rows<'call> = $rows;
            const TIMING: u32 = pg_sys::$timing;
            const LEVEL: u32 = $level;
            const EVENTS: &'static [u32] = &[$(pg_sys::$event),+];
        }
    )+};
}

const ROW: u32 = pg_sys::TRIGGER_EVENT_ROW;
const STATEMENT: u32 = 0;

kinds! {
    /// `BEFORE INSERT FOR EACH ROW`
    BeforeInsert: TRIGGER_EVENT_BEFORE ROW [TRIGGER_EVENT_INSERT] brings Inserted<'call>;
    /// `BEFORE UPDATE FOR EACH ROW`
    BeforeUpdate: TRIGGER_EVENT_BEFORE ROW [TRIGGER_EVENT_UPDATE] brings Updated<'call>;
    /// `BEFORE DELETE FOR EACH ROW`
    BeforeDelete: TRIGGER_EVENT_BEFORE ROW [TRIGGER_EVENT_DELETE] brings Deleted<'call>;
    /// `AFTER DELETE FOR EACH ROW`
    AfterDelete: TRIGGER_EVENT_AFTER ROW [TRIGGER_EVENT_DELETE] brings Deleted<'call>;
    /// `AFTER UPDATE FOR EACH ROW`
    AfterUpdate: TRIGGER_EVENT_AFTER ROW [TRIGGER_EVENT_UPDATE] brings Updated<'call>;
    /// `AFTER INSERT`, once a statement, with its new rows
    AfterInsertedRows: TRIGGER_EVENT_AFTER STATEMENT [TRIGGER_EVENT_INSERT] brings NewRows<'call>;
    /// `AFTER UPDATE`, once a statement, with its new rows
    AfterUpdatedRows: TRIGGER_EVENT_AFTER STATEMENT [TRIGGER_EVENT_UPDATE] brings NewRows<'call>;
    /// `AFTER DELETE`, once a statement, with its old rows
    AfterOldRows: TRIGGER_EVENT_AFTER STATEMENT [TRIGGER_EVENT_DELETE] brings OldRows<'call>;
    /// `BEFORE UPDATE OR DELETE`, once a statement
    BeforeChange: TRIGGER_EVENT_BEFORE STATEMENT [TRIGGER_EVENT_UPDATE, TRIGGER_EVENT_DELETE] brings Nothing;
    /// `AFTER UPDATE OR DELETE`, once a statement
    AfterChange: TRIGGER_EVENT_AFTER STATEMENT [TRIGGER_EVENT_UPDATE, TRIGGER_EVENT_DELETE] brings Nothing;
    /// `BEFORE TRUNCATE`
    BeforeTruncate: TRIGGER_EVENT_BEFORE STATEMENT [TRIGGER_EVENT_TRUNCATE] brings Nothing;
}

/// When a trigger fires, and with what: the part of its definition that its kind decides.
#[derive(Clone, Copy, Debug)]
pub struct Firing {
    timing: u32,
    events: &'static [u32],
    level: u32,
    transition: &'static str,
}

impl Firing {
    /// That of a kind.
    pub const fn of<K: Kind>() -> Self {
        Self {
            timing: K::TIMING,
            events: K::EVENTS,
            level: K::LEVEL,
            transition: <K::Rows<'static> as Rows<'static>>::CLAUSE,
        }
    }

    /// `BEFORE` or `AFTER`.
    pub fn timing(&self) -> &'static str {
        timing_name(self.timing)
    }

    /// The events, as `UPDATE OR DELETE`.
    pub fn events(&self) -> String {
        join(self.events.iter().map(|event| event_name(*event)), " OR ")
    }

    /// `FOR EACH ROW` or `FOR EACH STATEMENT`.
    pub fn level(&self) -> &'static str {
        level_name(self.level)
    }

    /// What `pg_trigger.tgtype` has for it.
    pub fn catalog_type(&self) -> i16 {
        let level = match self.level {
            ROW => pg_sys::TRIGGER_TYPE_ROW,
            _ => 0,
        };
        let timing = match self.timing {
            pg_sys::TRIGGER_EVENT_BEFORE => pg_sys::TRIGGER_TYPE_BEFORE,
            _ => 0,
        };
        let events = self.events.iter().map(|event| match *event {
            pg_sys::TRIGGER_EVENT_INSERT => pg_sys::TRIGGER_TYPE_INSERT,
            pg_sys::TRIGGER_EVENT_UPDATE => pg_sys::TRIGGER_TYPE_UPDATE,
            pg_sys::TRIGGER_EVENT_DELETE => pg_sys::TRIGGER_TYPE_DELETE,
            _ => pg_sys::TRIGGER_TYPE_TRUNCATE,
        });
        events.fold(level | timing, |all, event| all | event) as i16
    }

    /// What stands before the level: the transition table, if there is one.
    pub fn transition(&self) -> &'static str {
        self.transition
    }

    /// Whether it fires for each row.
    pub fn is_for_each_row(&self) -> bool {
        self.level == ROW
    }
}

impl fmt::Display for Firing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {}{}",
            self.timing(),
            self.events(),
            self.transition,
            self.level()
        )
    }
}

/// The row that is inserted.
#[derive(Clone, Copy, Debug)]
pub struct Inserted<'call> {
    /// The row.
    pub new: Row<'call>,
}

impl<'call> Rows<'call> for Inserted<'call> {
    fn of(data: &'call pg_sys::TriggerData) -> Option<Self> {
        let new = Row::of_trigger(data, data.tg_trigtuple)?;
        Some(Self { new })
    }
}

/// The row that is updated.
#[derive(Clone, Copy, Debug)]
pub struct Updated<'call> {
    /// As it was.
    pub old: Row<'call>,
    /// As it is to be.
    pub new: Row<'call>,
}

impl<'call> Rows<'call> for Updated<'call> {
    fn of(data: &'call pg_sys::TriggerData) -> Option<Self> {
        let old = Row::of_trigger(data, data.tg_trigtuple)?;
        let new = Row::of_trigger(data, data.tg_newtuple)?;
        Some(Self { old, new })
    }
}

/// The row that is deleted.
#[derive(Clone, Copy, Debug)]
pub struct Deleted<'call> {
    /// The row.
    pub old: Row<'call>,
}

impl<'call> Rows<'call> for Deleted<'call> {
    fn of(data: &'call pg_sys::TriggerData) -> Option<Self> {
        let old = Row::of_trigger(data, data.tg_trigtuple)?;
        Some(Self { old })
    }
}

/// No rows.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl<'call> Rows<'call> for Nothing {
    fn of(_data: &'call pg_sys::TriggerData) -> Option<Self> {
        Some(Self)
    }
}

/// The rows that a statement inserted or updated, as they are now.
#[derive(Clone, Copy, Debug)]
pub struct NewRows<'call>(&'call pg_sys::TriggerData);

impl<'call> NewRows<'call> {
    /// The name of the transition table.
    pub const NAME: &'static str = "keepsake_new";

    /// The row, where there is but one.
    pub fn only(&self) -> Option<Row<'call>> {
        let opened = relation(self.0)?;
        let store = self.0.tg_newtable;
        // SAFETY: the transition table is there as long as the call, and its rows have the shape of the relation, which is open; the one is copied into
        // the current memory. A read pointer of its own disturbs no other reader.
        unsafe {
            if pg_sys::tuplestore_tuple_count(store) != 1 {
                return None;
            }
            let reader =
                pg_sys::tuplestore_alloc_read_pointer(store, pg_sys::EXEC_FLAG_REWIND as _);
            pg_sys::tuplestore_select_read_pointer(store, reader);
            pg_sys::tuplestore_rescan(store);
            let slot = pg_sys::MakeSingleTupleTableSlot(
                opened.rd_att,
                &raw const pg_sys::TTSOpsMinimalTuple,
            );
            let mut is_copy = false;
            let tuple = if pg_sys::tuplestore_gettupleslot(store, true, false, slot) {
                pg_sys::ExecFetchSlotHeapTuple(slot, false, &raw mut is_copy)
            } else {
                std::ptr::null_mut()
            };
            let row = if is_copy {
                Row::of_relation(opened, tuple)
            } else {
                None
            };
            pg_sys::ExecDropSingleTupleTableSlot(slot);
            row
        }
    }
}

impl NewRows<'_> {
    /// The values of a column in all rows; `None` where it is no column of the type text, whose values are read without anybody's code.
    pub fn texts(&self, column: &str) -> Option<Vec<Option<String>>> {
        let opened = relation(self.0)?;
        let store = self.0.tg_newtable;
        // SAFETY: as in `only`; the slot has the value of a column that its shape has, once it is asked for it. What is read of it is a copy.
        unsafe {
            let shape = PgTupleDesc::from_pg_unchecked(opened.rd_att);
            let place = shape
                .iter()
                .position(|one| !one.attisdropped && one.name() == column)?;
            if shape.get(place)?.atttypid != pg_sys::TEXTOID {
                return None;
            }
            let reader =
                pg_sys::tuplestore_alloc_read_pointer(store, pg_sys::EXEC_FLAG_REWIND as _);
            pg_sys::tuplestore_select_read_pointer(store, reader);
            pg_sys::tuplestore_rescan(store);
            let slot = pg_sys::MakeSingleTupleTableSlot(
                opened.rd_att,
                &raw const pg_sys::TTSOpsMinimalTuple,
            );
            let mut texts = Vec::new();
            while pg_sys::tuplestore_gettupleslot(store, true, false, slot) {
                pg_sys::slot_getsomeattrs_int(slot, i32::try_from(place + 1).ok()?);
                let is_null = *(*slot).tts_isnull.add(place);
                texts.push(String::from_datum(*(*slot).tts_values.add(place), is_null));
            }
            pg_sys::ExecDropSingleTupleTableSlot(slot);
            Some(texts)
        }
    }
}

impl<'call> Rows<'call> for NewRows<'call> {
    const CLAUSE: &'static str = "REFERENCING NEW TABLE AS keepsake_new ";

    fn of(data: &'call pg_sys::TriggerData) -> Option<Self> {
        let name = trigger(data)?.tgnewtable;
        (!data.tg_newtable.is_null() && text(name) == Self::NAME).then_some(Self(data))
    }
}

/// The rows that a statement deleted.
#[derive(Clone, Copy, Debug)]
pub struct OldRows<'call>(&'call pg_sys::TriggerData);

impl OldRows<'_> {
    /// The name of the transition table.
    pub const NAME: &'static str = "keepsake_old";
}

impl<'call> Rows<'call> for OldRows<'call> {
    const CLAUSE: &'static str = "REFERENCING OLD TABLE AS keepsake_old ";

    fn of(data: &'call pg_sys::TriggerData) -> Option<Self> {
        let name = trigger(data)?.tgoldtable;
        (!data.tg_oldtable.is_null() && text(name) == Self::NAME).then_some(Self(data))
    }
}

/// Rows that a session can read as a table.
pub trait Transition {
    /// What `SPI_register_trigger_data` takes.
    fn data(&self) -> &pg_sys::TriggerData;
}

impl Transition for NewRows<'_> {
    fn data(&self) -> &pg_sys::TriggerData {
        self.0
    }
}

impl Transition for OldRows<'_> {
    fn data(&self) -> &pg_sys::TriggerData {
        self.0
    }
}

impl<'call, K: Kind> Call<'call, K> {
    /// Checks a call.
    fn enter(info: &'call pg_sys::FunctionCallInfoBaseData) -> Outcome<Self> {
        let refuse = |called: String| Failure::TriggerProtocol {
            function: function_name(info),
            serves: Firing::of::<K>().to_string(),
            called,
        };
        let Some(data) = trigger_data(info) else {
            return Err(refuse("It was not called by a trigger.".into()));
        };
        let served = K::EVENTS.iter().any(|event| {
            const WHAT: u32 = pg_sys::TRIGGER_EVENT_OPMASK
                | pg_sys::TRIGGER_EVENT_ROW
                | pg_sys::TRIGGER_EVENT_TIMINGMASK;
            data.tg_event & WHAT == event | K::LEVEL | K::TIMING
        });
        let rows = if served { K::Rows::of(data) } else { None };
        let Some((rows, relation)) = rows.zip(relation(data)) else {
            return Err(refuse(describe(data)));
        };
        Ok(Self {
            relation: relation.rd_id,
            rows,
            opened: relation,
            data,
        })
    }

    /// That table, open for as long as the call lasts.
    pub fn opened(&self) -> &'call pg_sys::RelationData {
        self.opened
    }

    /// The name of that table.
    pub fn table(&self) -> String {
        table_name(self.data)
    }

    /// Whether a DELETE fired the trigger.
    pub fn is_delete(&self) -> bool {
        self.data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_DELETE
    }
}

// SAFETY: reads nothing of the argument list, only the call's own information.
unsafe impl<'call, K: Kind> ArgAbi<'call> for Call<'call, K> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'call>) -> Self {
        // SAFETY: the information that PostgreSQL passes to every function it calls, which outlives the call.
        let info = unsafe { &*<pg_sys::FunctionCallInfo as ArgAbi>::unbox_arg_unchecked(arg) };
        raise_unless_ok(Self::enter(info))
    }

    fn is_virtual_arg() -> bool {
        true
    }
}

// SAFETY: no argument of the function in SQL.
unsafe impl<K: Kind> SqlTranslatable for Call<'_, K> {
    const TYPE_IDENT: &'static str = "keepsake::trigger_call::Call";
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::Skip);
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = Ok(ReturnsRef::One(SqlMappingRef::Skip));
}

/// What a trigger function answers: the row to be written in place of the one it was called for, or
/// nothing, which skips that row, and is what every other kind of call answers.
#[derive(Debug)]
pub struct Answer<'call>(Option<Row<'call>>);

impl<'call> Answer<'call> {
    /// The row goes on, as it is here.
    pub fn row(row: Row<'call>) -> Self {
        Self(Some(row))
    }

    /// The row is skipped, or there is none to answer with.
    pub fn nothing() -> Self {
        Self(None)
    }
}

// SAFETY: a trigger's protocol is a pointer to a tuple, or NULL, but never the flag for NULL.
unsafe impl BoxRet for Answer<'_> {
    unsafe fn box_into<'fcx>(self, info: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        let tuple = self.0.map_or(std::ptr::null_mut(), Row::into_tuple);
        // SAFETY: see above; the row lives as long as the call's memory.
        unsafe { info.return_raw_datum(pg_sys::Datum::from(tuple)) }
    }
}

// SAFETY: the function returns `trigger`, and is what makes it one.
unsafe impl SqlTranslatable for Answer<'_> {
    const TYPE_IDENT: &'static str = "keepsake::trigger_call::Answer";
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> =
        Err(ArgumentError::NotValidAsArgument("Answer"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("trigger")));
}

fn trigger_data(info: &pg_sys::FunctionCallInfoBaseData) -> Option<&pg_sys::TriggerData> {
    let call: *const pg_sys::FunctionCallInfoBaseData = info;
    // SAFETY: the context of a call is NULL or a node, which says by its tag that it is a trigger's.
    unsafe {
        if called_as_trigger(call.cast_mut()) {
            info.context.cast::<pg_sys::TriggerData>().as_ref()
        } else {
            None
        }
    }
}

fn trigger(data: &pg_sys::TriggerData) -> Option<&pg_sys::Trigger> {
    // SAFETY: NULL, or the trigger that is fired, for as long as it is called.
    unsafe { data.tg_trigger.as_ref() }
}

fn relation(data: &pg_sys::TriggerData) -> Option<&pg_sys::RelationData> {
    // SAFETY: NULL, or the relation that it is fired for, open and locked for as long as it is called.
    unsafe { data.tg_relation.as_ref() }
}

/// A name in the system's caches; empty where there is none.
fn text<'a>(name: *const std::ffi::c_char) -> std::borrow::Cow<'a, str> {
    if name.is_null() {
        return "".into();
    }
    // SAFETY: names there are strings.
    unsafe { CStr::from_ptr(name) }.to_string_lossy()
}

fn function_name(info: &pg_sys::FunctionCallInfoBaseData) -> String {
    // SAFETY: NULL, or what PostgreSQL has looked up to call the function; the name is looked up in
    // the system's caches, and NULL for a function that is gone.
    let name = unsafe {
        let function = info.flinfo.as_ref().map(|function| function.fn_oid);
        function.map(|function| pg_sys::get_func_name(function))
    };
    format!("keepsake.{}", text(name.unwrap_or(std::ptr::null_mut())))
}

fn table_name(data: &pg_sys::TriggerData) -> String {
    let Some(relation) = relation(data) else {
        return String::new();
    };
    // SAFETY: an open relation has an entry of pg_class; its schema is looked up in the system's caches.
    let (schema, name) = unsafe {
        let class = &*relation.rd_rel;
        let schema = pg_sys::get_namespace_name(class.relnamespace);
        (text(schema), text(class.relname.data.as_ptr()))
    };
    let ident = |name: std::borrow::Cow<'_, str>| Ident(name.into_owned());
    Qualified {
        schema: ident(schema),
        name: ident(name),
    }
    .shown()
}

fn describe(data: &pg_sys::TriggerData) -> String {
    let event = data.tg_event;
    let referencing = trigger(data).map(|trigger| {
        let table = |what, name| match text(name) {
            name if name.is_empty() => String::new(),
            name => format!(" {what} TABLE AS {}", Ident(name.into_owned())),
        };
        let both = table("OLD", trigger.tgoldtable) + &table("NEW", trigger.tgnewtable);
        if both.is_empty() {
            both
        } else {
            format!("REFERENCING{both} ")
        }
    });
    format!(
        "The trigger {} of {} called it {} {} {}{}.",
        trigger(data).map_or(String::new(), |trigger| {
            Ident(text(trigger.tgname).into_owned()).to_string()
        }),
        table_name(data),
        timing_name(event & pg_sys::TRIGGER_EVENT_TIMINGMASK),
        event_name(event & pg_sys::TRIGGER_EVENT_OPMASK),
        referencing.unwrap_or_default(),
        level_name(event & pg_sys::TRIGGER_EVENT_ROW),
    )
}

fn timing_name(timing: u32) -> &'static str {
    match timing {
        pg_sys::TRIGGER_EVENT_BEFORE => "BEFORE",
        pg_sys::TRIGGER_EVENT_AFTER => "AFTER",
        _ => "INSTEAD OF",
    }
}

fn level_name(level: u32) -> &'static str {
    if level == pg_sys::TRIGGER_EVENT_ROW {
        "FOR EACH ROW"
    } else {
        "FOR EACH STATEMENT"
    }
}

fn event_name(event: u32) -> &'static str {
    match event {
        pg_sys::TRIGGER_EVENT_INSERT => "INSERT",
        pg_sys::TRIGGER_EVENT_UPDATE => "UPDATE",
        pg_sys::TRIGGER_EVENT_DELETE => "DELETE",
        _ => "TRUNCATE",
    }
}
