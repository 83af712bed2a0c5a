//! What the registry learns of a new deletion: written past SQL, since a DELETE waits for it.

use std::ffi::{CStr, CString};

use pgrx::datum::DatumWithOid;
use pgrx::{IntoDatum, Uuid, pg_sys};
use serde_json::Value;

use crate::archive::source;
use crate::archive::write::{Target, registry_table};
use crate::model::error::Outcome;
use crate::postgres::ensured_snapshot::EnsuredSnapshot;
use crate::postgres::settings::value_of;
use crate::registry::expiry;
use crate::registry::locks::{Lock, Mode};
use crate::spi::session::with_session;

/// Who deletes, as the registry records it.
#[derive(Clone, Debug)]
pub struct Caller {
    role: pg_sys::Oid,
    session_role: pg_sys::Oid,
    actor: Option<CString>,
    tenant: Option<CString>,
}

impl Caller {
    /// Who calls now.
    pub fn current() -> Self {
        // SAFETY: reads a backend-local variable.
        Self::now(unsafe { pg_sys::GetUserId() })
    }

    /// Who calls now, as `role`: `keepsake.actor` when the application has set it, else the subject of the token. Claims
    /// that cannot be read are none: a DELETE does not fail for them.
    pub fn now(role: pg_sys::Oid) -> Self {
        let claims = value_of(c"request.jwt.claims")
            .and_then(|text| serde_json::from_slice::<Value>(text.to_bytes()).ok());
        let claim = |name: &str| text_of(claims.as_ref()?.get(name)?);
        Self {
            role,
            // SAFETY: reads a backend-local variable.
            session_role: unsafe { pg_sys::GetSessionUserId() },
            actor: value_of(c"keepsake.actor")
                .map(CStr::to_owned)
                .or_else(|| claim("sub")),
            tenant: claim("tenant"),
        }
    }
}

/// A claim as `->>` has it.
fn text_of(claim: &Value) -> Option<CString> {
    match claim {
        Value::Null => None,
        Value::String(text) => CString::new(text.as_str()).ok(),
        other => CString::new(other.to_string()).ok(),
    }
}

/// The name of a role; `None` when it is gone.
fn role_name(role: pg_sys::Oid) -> Option<&'static CStr> {
    // SAFETY: looks the role up in the system's caches; what is found is a string in the current memory, which lasts as long
    // as what is written of it.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        (!name.is_null()).then(|| CStr::from_ptr(name))
    }
}

/// A NAME, which is padded.
#[repr(C)]
struct Name([u8; pg_sys::NAMEDATALEN as usize]);

impl Name {
    fn of(text: Option<&CStr>) -> Self {
        let mut name = [0; pg_sys::NAMEDATALEN as usize];
        let bytes = text.map_or(&[] as &[u8], CStr::to_bytes);
        for (to, from) in name.iter_mut().zip(bytes) {
            *to = *from;
        }
        Self(name)
    }

    fn datum(&self) -> Option<pg_sys::Datum> {
        (self.0[0] != 0).then(|| pg_sys::Datum::from(self.0.as_ptr()))
    }
}

/// A deletion to be entered.
#[derive(Debug)]
pub struct Deletion<'a> {
    /// Its id.
    pub id: Uuid,
    /// The first deletion of its transaction.
    pub group: Uuid,
    /// The table of its roots.
    pub root: pg_sys::Oid,
    /// The key of its only root: a jsonb.
    pub key: Option<pg_sys::Datum>,
    /// Who made it.
    pub caller: &'a Caller,
    /// Why.
    pub reason: Option<&'a str>,
}

/// Enters a deletion. Takes memory in the current context.
pub fn write(deletion: &Deletion<'_>) -> Outcome<()> {
    // Its expiry must not be computed of a retention that is being changed.
    Lock::Retention(deletion.root).take(Mode::Shared);
    let retention = source::retention(deletion.root)?;
    // SAFETY: reads a backend-local variable.
    let now = unsafe { pg_sys::GetCurrentTransactionStartTimestamp() };
    let Some(target) = Target::open(registry_table(c"deletion")) else {
        return Ok(());
    };
    let Caller {
        role,
        session_role,
        actor,
        tenant,
    } = deletion.caller;
    // SAFETY: makes a text of a string, in the current memory.
    let text =
        |text: &CStr| unsafe { Some(pg_sys::Datum::from(pg_sys::cstring_to_text(text.as_ptr()))) };
    let role = role_name(*role);
    let names = [role, role_name(*session_role)].map(Name::of);
    target.insert_named(|column| match column.to_bytes() {
        b"id" => deletion.id.into_datum(),
        b"group_id" => deletion.group.into_datum(),
        b"root_table" => deletion.root.into_datum(),
        b"root_key" => deletion.key,
        b"actor" => actor.as_deref().or(role).and_then(text),
        b"role" => names[0].datum(),
        b"session_role" => names[1].datum(),
        b"reason" => deletion.reason.and_then(IntoDatum::into_datum),
        b"tenant" => tenant.as_deref().and_then(text),
        b"deleted_at" => Some(pg_sys::Datum::from(now)),
        b"expires_at" => Some(pg_sys::Datum::from(expiry::expires(now, retention))),
        b"state" => "deleted".into_datum(),
        _ => None,
    });
    Ok(())
}

/// Enters of a deletion that is entered already what only the end of its statement tells.
pub fn complete(deletion: &Deletion<'_>) -> Outcome<()> {
    // There is none when the transaction commits.
    let _snapshot = EnsuredSnapshot::take();
    // SAFETY: a value of this type, in the current memory.
    let key = unsafe { DatumWithOid::new(deletion.key, pg_sys::JSONBOID) };
    with_session(|session| {
        session.registry(
            "UPDATE keepsake.deletion SET root_table = $2, root_key = $3, reason = $4 WHERE id = $1",
            &[
                deletion.id.into(),
                deletion.root.into(),
                key,
                deletion.reason.into(),
            ],
        )?;
        Ok(())
    })
}

/// Enters how many rows of each table a deletion has. Takes memory in the current context.
pub fn write_counts(deletion: Uuid, counts: impl Iterator<Item = (pg_sys::Oid, i64)>) {
    let Some(target) = Target::open(registry_table(c"deletion_table")) else {
        return;
    };
    for (table, rows) in counts {
        target.insert_named(|column| match column.to_bytes() {
            b"deletion_id" => deletion.into_datum(),
            b"relation" => table.into_datum(),
            b"row_count" => rows.into_datum(),
            b"purged" => 0_i64.into_datum(),
            _ => None,
        });
    }
}
