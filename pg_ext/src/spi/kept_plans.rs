//! Statements that a backend prepares once. There are few, since the graph and the caller's policies alone decide their texts.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::datum::DatumWithOid;
use pgrx::spi::{OwnedPreparedStatement, SpiClient};
use pgrx::{PgOid, pg_sys};

use crate::model::error::Outcome;

/// The text of a statement and its arguments' types.
type StatementKey = (String, Vec<pg_sys::Oid>);

thread_local! {
    static STATEMENTS: RefCell<HashMap<StatementKey, &'static OwnedPreparedStatement>> = RefCell::default();
}

/// The prepared form of a statement. It is kept as long as the backend: PostgreSQL plans it anew when what it reads has changed.
pub fn prepared(
    client: &SpiClient<'_>,
    sql: &str,
    args: &[DatumWithOid<'_>],
) -> Outcome<&'static OwnedPreparedStatement> {
    let types: Vec<pg_sys::Oid> = args.iter().map(DatumWithOid::oid).collect();
    let key = (sql.to_owned(), types);
    if let Some(statement) = STATEMENTS.with_borrow(|known| known.get(&key).copied()) {
        return Ok(statement);
    }
    let types: Vec<PgOid> = key.1.iter().map(|oid| PgOid::from(*oid)).collect();
    // On a standby, where pgrx could get no transaction id, they only read.
    let prepared = if is_standby() {
        client.prepare(sql, &types)?
    } else {
        client.prepare_mut(sql, &types)?
    };
    let statement: &'static OwnedPreparedStatement = Box::leak(Box::new(prepared.keep()));
    STATEMENTS.with_borrow_mut(|known| known.insert(key, statement));
    Ok(statement)
}

/// Whether this backend can only read.
pub fn is_standby() -> bool {
    // SAFETY: reads shared memory, or a backend-local copy of what it once said.
    unsafe { pg_sys::RecoveryInProgress() }
}
