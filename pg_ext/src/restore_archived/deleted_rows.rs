//! What is in an archive, for SQL: rows in the shape that their table has now.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid, pg_sys};

use crate::access::privileges::Privileges;
use crate::call::arguments::Jsonb;
use crate::graph::reference_graph::not_in_place;
use crate::model::error::{Failure, Outcome};
use crate::model::sql::{Literal, join};
use crate::restore_archived::archived_rows::Archived;
use crate::restore_archived::rights;
use crate::restore_archived::work::{Scope, open};
use crate::spi::owners_rows::ROWS;
use crate::spi::session::{Session, with_reading_session};

/// `keepsake.deleted_rows(NULL::post)`: the archived rows of a table, each with its deletion. `deletion` and `key`, an object with a
/// member for each column of the primary key, say which; NULL of either means all.
///
/// # Errors
/// 42501 without the SELECT privilege on the table; 55000 when it has no archive.
#[pg_extern(
    sql = "CREATE FUNCTION keepsake.deleted_rows(of anyelement, deletion uuid DEFAULT NULL, key jsonb DEFAULT NULL)
           RETURNS TABLE (deleted anyelement, deletion_id uuid, deleted_at timestamptz, actor text)
           LANGUAGE c STABLE AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
fn deleted_rows(call: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    // SAFETY: PostgreSQL calls a function with its own arguments, of the types that it was created with.
    unsafe {
        let asked = Asked {
            deletion: pgrx::pg_getarg(call, 1),
            key: Jsonb::of_call(call, 2).map(|key| JsonB(key.0)),
            live: false,
        };
        Ok(answer(call, &asked)?)
    }
}

/// `keepsake.with_deleted(NULL::post)`: the live rows of a table and the archived ones. A live row has no deletion.
///
/// # Errors
/// As `deleted_rows`.
#[pg_extern(sql = "CREATE FUNCTION keepsake.with_deleted(of anyelement)
           RETURNS TABLE (\"row\" anyelement, deletion_id uuid, deleted_at timestamptz, actor text)
           LANGUAGE c STABLE AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn with_deleted(call: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    let asked = Asked {
        deletion: None,
        key: None,
        live: true,
    };
    // SAFETY: as in `deleted_rows`.
    unsafe { Ok(answer(call, &asked)?) }
}

/// Which rows are asked for.
struct Asked {
    deletion: Option<Uuid>,
    key: Option<JsonB>,
    /// The live ones, too.
    live: bool,
}

/// Fills the result of a call with the rows.
///
/// # Safety
/// `call` is the call that PostgreSQL has made of a function whose first argument is of a row type, and which answers with rows of
/// that type, a uuid, a timestamptz and a text.
unsafe fn answer(call: pg_sys::FunctionCallInfo, asked: &Asked) -> Outcome<()> {
    // SAFETY: the caller's promise; the tuplestore lives as long as the query that calls.
    unsafe {
        let row_type = pg_sys::get_fn_expr_argtype((*call).flinfo, 0);
        let relation = pg_sys::get_typ_typrelid(row_type);
        if relation == pg_sys::InvalidOid {
            return Err(Failure::BadArgument {
                what: "the first argument says of which table the rows are to be read".into(),
                fix: "Pass NULL of the table's row type, as in NULL::post.".into(),
            });
        }
        pg_sys::InitMaterializedSRF(call, 0);
        let result = (*call).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        let receiver = pg_sys::CreateTuplestoreDestReceiver();
        pg_sys::SetTuplestoreDestReceiverParams(
            receiver,
            (*result).setResult,
            (*(*result).econtext).ecxt_per_query_memory,
            false,
            std::ptr::null_mut(),
            std::ptr::null(),
        );
        with_reading_session(|session| send(session, relation, asked, receiver))
    }
}

/// Sends the rows to a receiver.
///
/// # Safety
/// The receiver is valid until this returns.
unsafe fn send(
    session: &mut Session<'_, '_>,
    relation: pg_sys::Oid,
    asked: &Asked,
    receiver: *mut pg_sys::DestReceiver,
) -> Outcome<()> {
    let found = open(session, vec![relation], Scope::Preview)?;
    let Some(one) = found.first() else {
        return Err(match not_in_place(session, relation)? {
            // It is kept in place then.
            Failure::KeptInArchive { table } | Failure::NotManaged { table } => {
                Failure::NotArchived { table }
            }
            failure => failure,
        });
    };
    if !Privileges::of(session, &one.table)?.selects() {
        return Err(Failure::MayNotRead {
            table: one.table.shown.clone(),
        });
    }
    let live = asked.live.then(|| {
        format!(
            "SELECT t, NULL::pg_catalog.uuid, NULL::pg_catalog.timestamptz, NULL::pg_catalog.text FROM {} AS t",
            one.table.rows()
        )
    });
    let bound = rights::is_bound(session, &one.table)?;
    let seen = if bound {
        Some(format!(
            "SELECT {name}.keepsake_row, {name}.keepsake_deletion, {name}.keepsake_deleted_at, {name}.keepsake_actor
             FROM {ROWS} AS {name} WHERE ({condition}) IS TRUE",
            name = one.table.name.name,
            condition = rights::would_see(session, &one.table)?,
        ))
    } else {
        None
    };
    let archived = archived(one, asked, bound);
    // SAFETY: the caller's promise.
    unsafe {
        session.send_owners_rows(
            &one.table,
            (live.as_deref(), &archived, seen.as_deref()),
            receiver,
        )
    }
}

/// The query for the archived rows; with `columns`, also each column by its name, for policies to be asked about.
fn archived(one: &Archived, asked: &Asked, columns: bool) -> String {
    let row_type = &one.table.name;
    let values = one
        .columns
        .iter()
        .map(|column| format!("s.{}", column.name));
    format!(
        "SELECT CAST(ROW({values}) AS {row_type}) AS keepsake_row, {deletion}, d.deleted_at AS keepsake_deleted_at, d.actor AS keepsake_actor
         FROM (SELECT {name}.* FROM {whole}) AS s
         JOIN keepsake.deletion AS d ON d.id OPERATOR(pg_catalog.=) s.keepsake_deletion
         WHERE d.state OPERATOR(pg_catalog.=) 'deleted'{key}",
        values = join(values, ", "),
        deletion = if columns { "s.*" } else { "s.keepsake_deletion" },
        name = one.table.name.name,
        whole = one.whole_where(&conditions(asked)),
        key = key_condition(one, asked),
    )
}

/// Conditions on row `a` of the archive.
fn conditions(asked: &Asked) -> Vec<String> {
    vec![asked.deletion.map_or_else(
        || "true".into(),
        |id| format!("a.keepsake_deletion OPERATOR(pg_catalog.=) '{id}'::pg_catalog.uuid"),
    )]
}

/// The condition that row `s` has the key that was asked for.
fn key_condition(one: &Archived, asked: &Asked) -> String {
    let Some(key) = &asked.key else {
        return String::new();
    };
    let terms = one.table.key.iter().map(|column| {
        let member = key.0.get(&column.name.0);
        let text = match member {
            Some(serde_json::Value::String(text)) => Some(text.clone()),
            Some(serde_json::Value::Null) | None => None,
            Some(other) => Some(other.to_string()),
        };
        let value = text.map_or_else(|| "NULL".into(), |text| Literal(&text).to_string());
        format!(
            " AND s.{} {} CAST({value} AS {})",
            column.name, column.equals, column.type_sql
        )
    });
    terms.collect()
}
