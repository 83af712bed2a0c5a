//! The event trigger that reads from `ALTER COLUMN … TYPE … USING` whether it converts values otherwise than an assignment does: those
//! of archived rows stay as they are, and so do those that the registry has of rows in place.

use std::ffi::CStr;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{PgLogLevel, PgSqlErrorCode};

use crate::archive::using::{self, Conversion, Converted};
use crate::graph::catalog::field;
use crate::manage::ddl_command::{command, find_table};
use crate::model::error::{Failure, Outcome};
use crate::postgres::pg_list::pointers;
use crate::spi::session::Session;
use crate::spi::shown_names;

/// On `ddl_command_start` of ALTER TABLE: this only notes what stands in the command.
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

/// What the registry knows by a value of a column among $2, of rows of table $1 and of those that inherit from it: holds; and of rows in place
/// roots of deletions, and what SET NULL and SET DEFAULT replaced. Archived rows keep their values.
const KNOWN: &str = "
    WITH RECURSIVE heir (oid) AS (
        SELECT $1::oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN heir ON i.inhparent = heir.oid)
    SELECT m.relation::oid AS relation, m.keep = 'in place' AS in_place, n.holds, n.roots, n.replaced
    FROM heir JOIN keepsake.managed_table m ON m.relation = heir.oid
    CROSS JOIN LATERAL (
        SELECT (SELECT count(*) FROM keepsake.hold h WHERE h.relation = m.relation AND h.released_at IS NULL AND h.row_key ?| $2) AS holds,
               (SELECT count(*) FROM keepsake.deletion d
                WHERE m.keep = 'in place' AND d.root_table = m.relation AND d.state = 'deleted' AND d.root_key ?| $2) AS roots,
               (SELECT count(DISTINCT x.deletion_id) FROM keepsake.detached x
                WHERE m.keep = 'in place' AND x.relation = m.relation AND (x.columns || x.key_columns)::text[] && $2) AS replaced) n
    WHERE (n.holds, n.roots, n.replaced) <> (0, 0, 0)
    ORDER BY 1";

/// A table of which the registry knows rows by values that are converted.
struct Known {
    relation: pg_sys::Oid,
    in_place: bool,
    holds: i64,
    roots: i64,
    replaced: i64,
}

fn known(
    session: &Session<'_, '_>,
    relation: pg_sys::Oid,
    columns: &[String],
) -> Outcome<Vec<Known>> {
    let args = [relation.into(), columns.to_vec().into()];
    let rows = session.registry_now(KNOWN, &args)?;
    let read = |row| {
        Ok(Known {
            relation: field(row, "relation")?,
            in_place: field(row, "in_place")?,
            holds: field(row, "holds")?,
            roots: field(row, "roots")?,
            replaced: field(row, "replaced")?,
        })
    };
    rows.iter().map(read).collect()
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
    let found = known(session, relation, &columns)?;
    for one in &found {
        let forget = if one.in_place {
            "SELECT keepsake.follow_column($1, $2, '')"
        } else {
            "SELECT keepsake.follow_column_of_holds($1, $2, '')"
        };
        for column in &columns {
            session.registry(forget, &[one.relation.into(), column.as_str().into()])?;
        }
    }
    if !known(session, relation, &columns)?.is_empty() {
        return Err(Failure::RegistryMoved);
    }
    found.iter().try_for_each(|one| tell(session, one))
}

fn tell(session: &Session<'_, '_>, known: &Known) -> Outcome<()> {
    let Known {
        holds,
        roots,
        replaced,
        ..
    } = known;
    let table = shown_names::table(session, known.relation)?;
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
        let table = find_table(alter.relation, pg_sys::AccessExclusiveLock)?;
        Some((table, converted))
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
