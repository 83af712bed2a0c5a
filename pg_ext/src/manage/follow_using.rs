//! The event trigger that reads from `ALTER COLUMN … TYPE … USING` whether it converts values otherwise than an assignment does: those
//! of archived rows stay as they are, and so do those that the registry has of rows in place.

use std::ffi::CStr;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{PgLogLevel, PgSqlErrorCode};

use crate::archive::using::{self, Conversion, Converted};
use crate::manage::ddl_command::{command, find_table};
use crate::model::error::{Failure, Outcome};
use crate::postgres::pg_list::pointers;
use crate::spi::session::Session;
use crate::spi::shown_names;

/// On `ddl_command_start` of ALTER TABLE, when PostgreSQL has neither locked the table nor asked whose it is: this only notes what stands in the command.
#[pg_extern(
    sql = "CREATE FUNCTION keepsake.follow_using() RETURNS event_trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
           REVOKE ALL ON FUNCTION keepsake.follow_using() FROM PUBLIC;"
)]
fn follow_using(call: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    // SAFETY: PostgreSQL calls a function with its own arguments; the tree of the command lives as long as the call.
    unsafe {
        let command = command(call, "keepsake.follow_using", "ON ddl_command_start")?;
        if let Some((relation, converted)) = converted(command) {
            using::note(command, relation, converted);
        }
    }
    Ok(())
}

/// What the registry knows of rows of table $1, kept in place, by a value of a column among $2: holds, roots of deletions, and what SET NULL and SET
/// DEFAULT replaced.
const KNOWN: &str = "
    SELECT (SELECT count(*) FROM keepsake.hold WHERE relation = $1 AND released_at IS NULL AND row_key ?| $2),
           (SELECT count(*) FROM keepsake.deletion WHERE root_table = $1 AND state = 'deleted' AND root_key ?| $2),
           (SELECT count(DISTINCT x.deletion_id) FROM keepsake.detached x WHERE x.relation = $1 AND (x.columns || x.key_columns)::text[] && $2)
    FROM keepsake.kept_in_place WHERE relation = $1";

/// How many holds, roots of deletions, and deletions that replaced values, the registry knows by columns; `None` where there are none.
fn known(
    session: &Session<'_, '_>,
    relation: pg_sys::Oid,
    columns: &[String],
) -> Outcome<Option<[i64; 3]>> {
    let known = session.registry_now(KNOWN, &[relation.into(), columns.to_vec().into()])?;
    let Some(row) = known.first() else {
        return Ok(None);
    };
    let count = |ordinal| -> Outcome<i64> { Ok(row.get(ordinal)?.unwrap_or(0)) };
    let counts = [count(1)?, count(2)?, count(3)?];
    Ok((counts != [0; 3]).then_some(counts))
}

/// What a `USING` that is no cast makes of values, the registry cannot follow. To it, the column is as good as dropped: a value that it knew may be
/// another row's by now. Called when the command ends: it has locked the table, so that nobody else makes a hold or a deletion by the old values.
///
/// # Errors
/// 40001 when the transaction's snapshot is too old to see what the registry knows.
pub fn forget_values(
    session: &mut Session<'_, '_>,
    relation: pg_sys::Oid,
    converted: &Converted,
) -> Outcome<()> {
    let unknown = converted
        .iter()
        .filter(|(_, how)| *how == Conversion::Unknown);
    let columns: Vec<String> = unknown.map(|(name, _)| name.clone()).collect();
    if columns.is_empty() {
        return Ok(());
    }
    let Some([holds, roots, replaced]) = known(session, relation, &columns)? else {
        return Ok(());
    };
    for column in &columns {
        session.registry(
            "SELECT keepsake.follow_column($1, $2, '')",
            &[relation.into(), column.as_str().into()],
        )?;
    }
    if known(session, relation, &columns)?.is_some() {
        return Err(Failure::RegistryMoved);
    }
    let table = shown_names::table(session, relation)?;
    ereport!(
        PgLogLevel::WARNING,
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("Keepsake knew rows of table {table} by values that USING converts"),
        format!(
            "Of {holds} holds, each covers all deleted rows of the table until it is placed again. {roots} deletions can be restored by roles that may delete all that they removed from the table. What SET NULL or SET DEFAULT replaced does not come back with {replaced} deletions."
        )
    );
    Ok(())
}

/// The table of the command, and its columns that are converted so; `None` where there are none.
unsafe fn converted(command: *mut pg_sys::Node) -> Option<(pg_sys::Oid, Converted)> {
    // SAFETY: the caller gives a command or NULL; each node is read as what its tag says it is.
    unsafe {
        if command.is_null() || !pgrx::is_a(command, pg_sys::NodeTag::T_AlterTableStmt) {
            return None;
        }
        let alter = &*command.cast::<pg_sys::AlterTableStmt>();
        let converted: Converted = pointers::<pg_sys::AlterTableCmd>(alter.cmds)
            .filter(|step| (**step).subtype == pg_sys::AlterTableType::AT_AlterColumnType)
            .filter_map(|step| conversion(&*step))
            .collect();
        if converted.is_empty() {
            return None;
        }
        Some((find_table(alter.relation)?, converted))
    }
}

/// The column that the step converts, and how; `None` where it does as an assignment would.
unsafe fn conversion(step: &pg_sys::AlterTableCmd) -> Option<(String, Conversion)> {
    // SAFETY: a step of the command, as the parser made it: the definition of the column's new type, with the expression.
    unsafe {
        let definition = step.def.cast::<pg_sys::ColumnDef>().as_ref()?;
        let expression = definition.raw_default;
        if expression.is_null() || step.name.is_null() || is_column(expression, step.name) {
            return None;
        }
        let is_cast = pgrx::is_a(expression, pg_sys::NodeTag::T_TypeCast) && {
            let cast = &*expression.cast::<pg_sys::TypeCast>();
            is_column(cast.arg, step.name) && is_same_type(cast.typeName, definition.typeName)
        };
        let how = if is_cast {
            Conversion::Cast
        } else {
            Conversion::Unknown
        };
        let name = CStr::from_ptr(step.name).to_string_lossy().into_owned();
        Some((name, how))
    }
}

/// Whether two names are of the same type, with the same length or precision.
unsafe fn is_same_type(one: *const pg_sys::TypeName, other: *const pg_sys::TypeName) -> bool {
    // SAFETY: both are names that the parser made.
    unsafe {
        if pg_sys::equal(one.cast(), other.cast()) {
            return true;
        }
        let one = resolved(one);
        one.is_some() && one == resolved(other)
    }
}

/// The type of a name, and its length or precision; `None` where there is no such type, which the command itself then says.
unsafe fn resolved(name: *const pg_sys::TypeName) -> Option<(pg_sys::Oid, i32)> {
    let nowhere = std::ptr::null_mut();
    let (mut oid, mut modifier) = (pg_sys::InvalidOid, -1);
    // SAFETY: a name that the parser made; no parse state is needed, and the results are ours.
    unsafe {
        if pg_sys::LookupTypeNameOid(nowhere, name, true) == pg_sys::InvalidOid {
            return None;
        }
        pg_sys::typenameTypeIdAndMod(nowhere, name, &raw mut oid, &raw mut modifier);
    }
    Some((oid, modifier))
}

/// Whether an expression is this column and nothing else. A name before it can only be that of the command's table, which is all that the expression sees.
unsafe fn is_column(expression: *mut pg_sys::Node, name: *const std::ffi::c_char) -> bool {
    // SAFETY: an expression that the parser made; the names in a reference are strings.
    unsafe {
        if expression.is_null() || !pgrx::is_a(expression, pg_sys::NodeTag::T_ColumnRef) {
            return false;
        }
        let fields = (*expression.cast::<pg_sys::ColumnRef>()).fields;
        let Some(last) = pointers::<pg_sys::Node>(fields).last() else {
            return false;
        };
        pgrx::is_a(last, pg_sys::NodeTag::T_String)
            && CStr::from_ptr((*last.cast::<pg_sys::String>()).sval) == CStr::from_ptr(name)
    }
}
