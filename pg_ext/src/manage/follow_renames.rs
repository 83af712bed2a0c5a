//! The event trigger that keeps the registry true when a schema, a column, a foreign key or a value of an enum gets another name: it reads the command
//! itself, where both names stand.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::archive::follow_ddl::follow_conversion;
use crate::archive::using;
use crate::graph::cache;
use crate::manage::ddl_command::command;
use crate::manage::follow_using::forget_values;
use crate::model::error::Outcome;
use crate::spi::session::{Session, with_session};

/// On `ddl_command_end` of ALTER TABLE, ALTER TYPE and ALTER SCHEMA.
#[pg_extern(
    sql = "CREATE FUNCTION keepsake.follow_renames() RETURNS event_trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
           REVOKE ALL ON FUNCTION keepsake.follow_renames() FROM PUBLIC;"
)]
fn follow_renames(call: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    // SAFETY: PostgreSQL calls a function with its own arguments; the context of an event trigger is its data, whose command and
    // names live as long as the call.
    let (command, rename) = unsafe {
        let command = command(call, "keepsake.follow_renames", "ON ddl_command_end")?;
        (command, rename(command))
    };
    if let Some((relation, converted)) = using::converted_by(command) {
        with_session(|session| -> Outcome<()> {
            follow_conversion(session, relation)?;
            forget_values(session, relation, &converted)
        })?;
        using::end(command);
    }
    if let Some(rename) = rename {
        with_session(|session| follow(session, &rename))?;
    }
    Ok(())
}

/// What got another name.
enum Renamed {
    Schema,
    Column,
    Constraint,
    EnumValue,
}

struct Rename {
    what: Renamed,
    was: String,
    becomes: String,
}

unsafe fn rename(command: *mut pg_sys::Node) -> Option<Rename> {
    if command.is_null() {
        return None;
    }
    // SAFETY: each node is read as what its tag says it is; names are strings of the command's, or NULL.
    unsafe {
        if pgrx::is_a(command, pg_sys::NodeTag::T_RenameStmt) {
            let rename = &*command.cast::<pg_sys::RenameStmt>();
            let what = match rename.renameType {
                pg_sys::ObjectType::OBJECT_COLUMN => Renamed::Column,
                pg_sys::ObjectType::OBJECT_TABCONSTRAINT => Renamed::Constraint,
                pg_sys::ObjectType::OBJECT_SCHEMA => Renamed::Schema,
                _ => return None,
            };
            return Rename::of(what, rename.subname, rename.newname);
        }
        if pgrx::is_a(command, pg_sys::NodeTag::T_AlterEnumStmt) {
            let change = &*command.cast::<pg_sys::AlterEnumStmt>();
            return Rename::of(Renamed::EnumValue, change.oldVal, change.newVal);
        }
    }
    None
}

impl Rename {
    /// `None` where a value is added to an enum, which has no old name.
    unsafe fn of(what: Renamed, was: *const c_char, becomes: *const c_char) -> Option<Self> {
        if was.is_null() || becomes.is_null() {
            return None;
        }
        // SAFETY: both are strings of the command's.
        let (was, becomes) = unsafe { (CStr::from_ptr(was), CStr::from_ptr(becomes)) };
        Some(Self {
            what,
            was: was.to_string_lossy().into_owned(),
            becomes: becomes.to_string_lossy().into_owned(),
        })
    }

    const fn follow(&self) -> &'static str {
        match self.what {
            Renamed::Schema => {
                "UPDATE keepsake.whole_schema SET schema = $3::text::name WHERE $1 IS NOT NULL AND schema = $2::text::name"
            }
            Renamed::Column => "SELECT keepsake.follow_column($1, $2, $3)",
            Renamed::Constraint => "SELECT keepsake.follow_constraint($1, $2, $3)",
            Renamed::EnumValue => "SELECT keepsake.follow_enum_value($1, $2, $3)",
        }
    }

    /// The schema, or the tables or types whose column, constraint or value the command has renamed.
    const fn owners(&self) -> &'static str {
        match self.what {
            Renamed::Schema => {
                "SELECT objid FROM pg_event_trigger_ddl_commands() WHERE classid = 'pg_namespace'::regclass"
            }
            // A column that is inherited has the new name in all tables that inherit it.
            Renamed::Column => {
                "WITH RECURSIVE heir (oid) AS (
                     SELECT objid FROM pg_event_trigger_ddl_commands() WHERE classid = 'pg_class'::regclass
                     UNION SELECT i.inhrelid FROM pg_inherits i JOIN heir ON i.inhparent = heir.oid)
                 SELECT oid FROM heir"
            }
            Renamed::Constraint => {
                "SELECT con.conrelid FROM pg_event_trigger_ddl_commands() c JOIN pg_constraint con ON con.oid = c.objid
                 WHERE c.classid = 'pg_constraint'::regclass"
            }
            Renamed::EnumValue => {
                "SELECT objid FROM pg_event_trigger_ddl_commands() WHERE classid = 'pg_type'::regclass"
            }
        }
    }
}

fn follow(session: &mut Session<'_, '_>, rename: &Rename) -> Outcome<()> {
    for row in session.catalog(rename.owners(), &[])? {
        let Some(owner) = row.get::<pg_sys::Oid>(1)? else {
            continue;
        };
        let names = [
            owner.into(),
            rename.was.as_str().into(),
            rename.becomes.as_str().into(),
        ];
        session.registry(rename.follow(), &names)?;
        if matches!(rename.what, Renamed::Column | Renamed::Constraint) {
            cache::invalidate(owner);
        }
    }
    Ok(())
}
