//! The row-level policies of `hide_deleted(…, 'policy')`: on the table, and on each partition, because PostgreSQL asks no policy of the whole table
//! of a statement that names a partition.

use pgrx::PgLogLevel;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::call::arguments::Regclass;
use crate::graph::catalog::field;
use crate::manage::ddl_command::{command, find_any_table, find_table, partition_step};
use crate::model::error::{Failure, Outcome};
use crate::model::sql::{Ident, Qualified};
use crate::spi::session::{Session, with_session};

/// Shows all rows where nothing but Keepsake asked for row-level security: without a permissive policy it would show none.
const SHOW_ALL: Policy = Policy {
    name: "keepsake_show_all",
    rule: "USING (true) WITH CHECK (true)",
};

const HIDE: Policy = Policy {
    name: "keepsake_hide_deleted",
    rule: "AS RESTRICTIVE FOR SELECT USING (deleted_at IS NULL OR keepsake.shows_deleted(deletion_id))",
};

/// PostgreSQL asks no SELECT policy of an UPDATE that reads no column.
const KEEP: Policy = Policy {
    name: "keepsake_keep_deleted",
    rule: "AS RESTRICTIVE FOR UPDATE USING (deleted_at IS NULL OR keepsake.shows_deleted(deletion_id)) WITH CHECK (true)",
};

const ALL: [Policy; 3] = [SHOW_ALL, HIDE, KEEP];

struct Policy {
    name: &'static str,
    rule: &'static str,
}

/// A table that the policies are for: the managed one, or a partition of it.
struct Target {
    oid: pg_sys::Oid,
    name: Qualified,
    shown: String,
    is_partition: bool,
    /// Whether the caller has the rights of its owner.
    is_own: bool,
    /// Whether the whole table has another owner.
    has_other_owner: bool,
    has_rls: bool,
    is_forced: bool,
    /// Policies of the application's.
    has_policies: bool,
    own_policies: Vec<String>,
}

const TARGETS: &str = include_str!("hiding_policies.sql");

/// The table, then its partitions.
fn targets(session: &Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<Vec<Target>> {
    let names = ALL.map(|policy| policy.name.to_owned());
    let rows = session.catalog(TARGETS, &[oid.into(), names.to_vec().into()])?;
    rows.map(|row| {
        Ok(Target {
            oid: field(&row, "oid")?,
            name: Qualified {
                schema: Ident(field(&row, "schema")?),
                name: Ident(field(&row, "name")?),
            },
            shown: field(&row, "shown")?,
            is_partition: field(&row, "is_partition")?,
            is_own: field(&row, "is_own")?,
            has_other_owner: field(&row, "has_other_owner")?,
            has_rls: field(&row, "has_rls")?,
            is_forced: field(&row, "is_forced")?,
            has_policies: field(&row, "has_policies")?,
            own_policies: field(&row, "own_policies")?,
        })
    })
    .collect()
}

/// Adds the policies that a table and its partitions lack; says whether row-level security is Keepsake's there, as it was before (`enabled`) or is
/// now.
///
/// # Errors
/// 0A000 when the table has policies that are not in effect. A partition that has such, or that is another owner's, is left out with a warning.
pub fn add(session: &mut Session<'_, '_>, oid: pg_sys::Oid, enabled: bool) -> Outcome<bool> {
    let mut enables = enabled;
    for target in targets(session, oid)? {
        if target.is_partition {
            target.equip_partition(session)?;
        } else if let Some(why) = target.obstacle() {
            return Err(why);
        } else {
            enables |= !target.has_rls;
            target.equip(session, enables)?;
        }
    }
    Ok(enables)
}

/// Takes the policies from a table and its partitions, and row-level security from where it is Keepsake's, as it is in the table if it was `enabled`.
pub fn remove(session: &mut Session<'_, '_>, oid: pg_sys::Oid, enabled: bool) -> Outcome<()> {
    for target in targets(session, oid)? {
        let was_ours = if target.is_partition {
            target.has(&SHOW_ALL)
        } else {
            enabled
        };
        if target.is_own || !target.is_partition {
            target.strip(session, was_ours)?;
        }
    }
    Ok(())
}

/// Whether a policy of this name hides deleted rows.
pub fn is_one(policy: &str) -> bool {
    ALL.iter().any(|own| own.name == policy)
}

/// Drops the policy of a partition that has the name of one that is about to come: a dump brings those that Keepsake has made already, where an
/// earlier command of the same transaction gave the partition to the table.
pub fn make_room(session: &mut Session<'_, '_>, table: pg_sys::Oid, policy: &str) -> Outcome<()> {
    let found = targets(session, table)?;
    let Some(target) = found.first().filter(|target| target.is_partition) else {
        return Ok(());
    };
    if target.own_policies.iter().any(|own| own == policy) {
        target.drop_policy(session, policy)?;
    }
    Ok(())
}

/// The partitions that the running transaction has made or attached, or that are part of what it has.
const NEW_PARTITIONS: &str = "
    SELECT part.relid AS oid FROM keepsake.partition_tree($1) AS part
    WHERE EXISTS (SELECT FROM pg_partition_ancestors(part.relid) AS whole JOIN pg_inherits i ON i.inhrelid = whole.relid
                  WHERE keepsake.is_of_this_transaction(i.xmin))";

/// Hides the deleted rows of partitions that a table got since. Called by an event trigger alone.
#[pg_extern]
fn hide_in_partitions(relation: Regclass) -> Result<(), ErrorReport> {
    Ok(with_session(|session| {
        let new: Vec<pg_sys::Oid> = session
            .registry_now(NEW_PARTITIONS, &[relation.oid().into()])?
            .iter()
            .map(|row| field(row, "oid"))
            .collect::<Outcome<_>>()?;
        let targets = targets(session, relation.oid())?;
        let mut new = targets.iter().filter(|target| new.contains(&target.oid));
        new.try_for_each(|target| target.equip_partition(session))
    })?)
}

/// On `ddl_command_start` of ALTER TABLE: a partition that is detached is an ordinary table, which shows all its rows.
#[pg_extern(
    sql = "CREATE FUNCTION keepsake.show_detached() RETURNS event_trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
           REVOKE ALL ON FUNCTION keepsake.show_detached() FROM PUBLIC;"
)]
fn show_detached(call: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    // SAFETY: PostgreSQL calls a function with its own arguments.
    if let Some(partition) = unsafe { detached(call) }? {
        with_session(|session| remove(session, partition, false))?;
    }
    Ok(())
}

/// The partition that the command detaches, if it does.
unsafe fn detached(call: pg_sys::FunctionCallInfo) -> Outcome<Option<pg_sys::Oid>> {
    // SAFETY: the caller gives a call; each node is read as what its tag says it is.
    unsafe {
        let command = command(call, "keepsake.show_detached", "ON ddl_command_start")?;
        let Some((table, detached)) =
            partition_step(command, pg_sys::AlterTableType::AT_DetachPartition)
        else {
            return Ok(None);
        };
        let lock = if detached.concurrent {
            pg_sys::ShareUpdateExclusiveLock
        } else {
            pg_sys::AccessExclusiveLock
        };
        // Whoever owns the whole may detach what another owns.
        Ok(find_table(table, lock).and_then(|_| find_any_table(detached.name, lock)))
    }
}

impl Target {
    fn has(&self, policy: &Policy) -> bool {
        self.own_policies.iter().any(|own| own == policy.name)
    }

    fn obstacle(&self) -> Option<Failure> {
        let (why, fix) = if !self.has_rls && self.has_policies {
            (
                "It has row-level policies, but row-level security is disabled. Hiding by policy would enable it, and the policies would take effect.",
                format!(
                    "Enable it first (ALTER TABLE {} ENABLE ROW LEVEL SECURITY), or drop the policies.",
                    self.shown
                ),
            )
        } else if self.has_other_owner && !(self.has(&HIDE) && self.has(&KEEP)) {
            (
                "The partition has another owner than the table. A statement that names it sees deleted rows.",
                "Give both the same owner, and hide deleted rows again.".into(),
            )
        } else {
            return None;
        };
        Some(Failure::CannotHide {
            table: self.shown.clone(),
            why: why.into(),
            fix,
        })
    }

    fn equip_partition(&self, session: &mut Session<'_, '_>) -> Outcome<()> {
        if let Some(why) = self.obstacle() {
            why.into_report().report(PgLogLevel::WARNING);
            return Ok(());
        }
        self.equip(session, !self.has_rls || self.has(&SHOW_ALL))
    }

    fn equip(&self, session: &mut Session<'_, '_>, enables: bool) -> Outcome<()> {
        let wanted = enables.then_some(SHOW_ALL).into_iter().chain([HIDE, KEEP]);
        for policy in wanted.filter(|policy| !self.has(policy)) {
            let (name, rule) = (policy.name, policy.rule);
            session.ddl(&format!("CREATE POLICY {name} ON {} {rule}", self.name))?;
        }
        if enables && !(self.has_rls && self.is_forced) {
            // Applications often connect as the owner, whom policies bind only by force.
            self.alter(
                session,
                "ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            )?;
        }
        Ok(())
    }

    fn strip(&self, session: &mut Session<'_, '_>, was_ours: bool) -> Outcome<()> {
        for policy in &self.own_policies {
            self.drop_policy(session, policy)?;
        }
        // Policies that came since want row-level security to stay.
        if was_ours && !self.has_policies {
            self.alter(
                session,
                "DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY",
            )?;
        }
        Ok(())
    }

    fn drop_policy(&self, session: &mut Session<'_, '_>, policy: &str) -> Outcome<()> {
        session.ddl(&format!(
            "DROP POLICY {} ON {}",
            Ident(policy.into()),
            self.name
        ))
    }

    fn alter(&self, session: &mut Session<'_, '_>, what: &str) -> Outcome<()> {
        session.ddl(&format!("ALTER TABLE ONLY {} {what}", self.name))
    }
}
