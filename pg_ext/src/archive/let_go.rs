//! References that this transaction let go of: by SET NULL or SET DEFAULT, or by a statement of the application's own.
//!
//! They are remembered until a row of the referenced table is archived by the same transaction; then the registry keeps
//! them with that deletion, whose restore puts them back. Without one they are forgotten with the transaction.

use std::cell::RefCell;
use std::ffi::{CString, c_char};

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{IntoDatum, Uuid};

use crate::archive::key::printed;
use crate::archive::setting;
use crate::archive::source::{self, Reference, Source};
use crate::archive::write::{Target, registry_table};
use crate::call::trigger_call::{AfterUpdate, Answer, Call};
use crate::model::error::Outcome;
use crate::postgres::settings::LocalSettings;

/// What a row referred to.
#[derive(Debug)]
struct LetGo {
    subtransaction: pg_sys::SubTransactionId,
    /// The subtransaction that has entered it in the registry.
    entered: Option<pg_sys::SubTransactionId>,
    table: pg_sys::Oid,
    parent: pg_sys::Oid,
    key: Vec<String>,
    columns: Vec<String>,
    key_values: Vec<Option<CString>>,
    old: Vec<Option<CString>>,
    new: Vec<Option<CString>>,
}

thread_local! {
    static REMEMBERED: RefCell<Vec<LetGo>> = const { RefCell::new(Vec::new()) };
}

/// AFTER UPDATE of a row of an archived table that has references.
#[pg_extern]
fn archive_reference(call: Call<'_, AfterUpdate>) -> Result<Answer<'_>, ErrorReport> {
    remember(&call)?;
    Ok(Answer::nothing())
}

fn remember(call: &Call<'_, AfterUpdate>) -> Outcome<()> {
    if !setting::is_on() {
        return Ok(());
    }
    let Some(source) = source::of(call.opened())? else {
        return Ok(());
    };
    if source.references.is_empty() {
        return Ok(());
    }
    let (old, new) = (call.rows.old.values(), call.rows.new.values());
    for reference in &source.references {
        if lets_go(reference, &old, &new) {
            keep(&source, reference, &old, &new);
        }
    }
    Ok(())
}

/// Whether the reference was set, and is no longer, or is another by default. Setting a column to the value that it has
/// lets go of nothing.
fn lets_go(
    reference: &Reference,
    old: &[Option<pg_sys::Datum>],
    new: &[Option<pg_sys::Datum>],
) -> bool {
    let of = |row: &[Option<pg_sys::Datum>], place: usize| row.get(place).copied().flatten();
    let was_set = reference
        .columns
        .iter()
        .all(|column| of(old, column.place).is_some());
    let is_null = reference
        .columns
        .iter()
        .any(|column| of(new, column.place).is_none());
    was_set
        && (is_null
            || reference.sets_default
                && reference.columns.iter().any(|column| {
                    of(old, column.place)
                        .zip(of(new, column.place))
                        .is_some_and(|(old, new)| {
                            printed(column.type_oid, old) != printed(column.type_oid, new)
                        })
                }))
}

fn keep(
    source: &Source,
    reference: &Reference,
    old: &[Option<pg_sys::Datum>],
    new: &[Option<pg_sys::Datum>],
) {
    let _formats = LocalSettings::exact_output();
    // Without a key the row could not be found again.
    if source.key.is_empty() {
        return;
    }
    let print = |row: &[Option<pg_sys::Datum>]| {
        let values = reference
            .columns
            .iter()
            .map(|column| printed_at(row, column.place, column.type_oid));
        values.collect()
    };
    let key_values = source
        .key
        .iter()
        .map(|column| printed_at(new, column.place, column.type_oid));
    let let_go = LetGo {
        // SAFETY: reads a backend-local variable.
        subtransaction: unsafe { pg_sys::GetCurrentSubTransactionId() },
        entered: None,
        table: source.table,
        parent: reference.parent,
        key: source
            .key
            .iter()
            .map(|column| column.name.clone())
            .collect(),
        key_values: key_values.collect(),
        columns: reference
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect(),
        old: print(old),
        new: print(new),
    };
    REMEMBERED.with_borrow_mut(|all| all.push(let_go));
}

fn printed_at(
    row: &[Option<pg_sys::Datum>],
    place: usize,
    type_oid: pg_sys::Oid,
) -> Option<CString> {
    let value = row.get(place).copied().flatten()?;
    Some(printed(type_oid, value))
}

/// Enters in the registry what referred to tables of which this deletion has rows. Takes memory in the current context.
pub fn enter(deletion: Uuid, group: Uuid, tables: &[pg_sys::Oid]) {
    if REMEMBERED.with_borrow(Vec::is_empty) {
        return;
    }
    let Some(target) = Target::open(registry_table(c"archive_undo")) else {
        return;
    };
    // SAFETY: reads a backend-local variable.
    let current = unsafe { pg_sys::GetCurrentSubTransactionId() };
    REMEMBERED.with_borrow_mut(|all| {
        let concerned = |one: &LetGo| one.entered.is_none() && tables.contains(&one.parent);
        for (one, seq) in all.iter_mut().zip(0_i32..) {
            if !concerned(one) {
                continue;
            }
            target.insert_named(|column| match column.to_bytes() {
                b"group_id" => group.into_datum(),
                b"deletion_id" => deletion.into_datum(),
                b"relation" => one.table.into_datum(),
                b"seq" => seq.into_datum(),
                b"key_columns" => one.key.clone().into_datum(),
                b"columns" => one.columns.clone().into_datum(),
                b"key_values" => texts(&one.key_values),
                b"old_values" => texts(&one.old),
                b"new_values" => texts(&one.new),
                _ => None,
            });
            one.entered = Some(current);
        }
    });
}

/// An array of texts, in the encoding of the database.
fn texts(values: &[Option<CString>]) -> Option<pg_sys::Datum> {
    let mut length = i32::try_from(values.len()).ok()?;
    let mut nulls: Vec<bool> = values.iter().map(Option::is_none).collect();
    let mut texts: Vec<pg_sys::Datum> = values
        .iter()
        .map(|value| match value {
            // SAFETY: copies a string into the current memory.
            Some(text) => pg_sys::Datum::from(unsafe { pg_sys::cstring_to_text(text.as_ptr()) }),
            None => pg_sys::Datum::from(0_usize),
        })
        .collect();
    let mut first = 1;
    // SAFETY: one value and one flag for each element, in one dimension; text is of variable length, by reference, and aligned as an int.
    let array = unsafe {
        pg_sys::construct_md_array(
            texts.as_mut_ptr(),
            nulls.as_mut_ptr(),
            1,
            &raw mut length,
            &raw mut first,
            pg_sys::TEXTOID,
            -1,
            false,
            b'i' as c_char,
        )
    };
    Some(pg_sys::Datum::from(array))
}

/// The transaction has ended.
pub fn forget() {
    REMEMBERED.with_borrow_mut(|all| *all = Vec::new());
}

/// A subtransaction was rolled back.
pub fn forget_since(aborted: pg_sys::SubTransactionId) {
    REMEMBERED.with_borrow_mut(|all| {
        all.retain(|one| one.subtransaction < aborted);
        for one in all {
            one.entered = one.entered.filter(|entered| *entered < aborted);
        }
    });
}

/// A subtransaction has committed: what is its is its parent's.
pub fn hand_over(committed: pg_sys::SubTransactionId, parent: pg_sys::SubTransactionId) {
    REMEMBERED.with_borrow_mut(|all| {
        for one in all {
            if one.subtransaction >= committed {
                one.subtransaction = parent;
            }
            if one.entered.is_some_and(|entered| entered >= committed) {
                one.entered = Some(parent);
            }
        }
    });
}
