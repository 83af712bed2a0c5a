//! `manage(…, keep => 'archive')` and `unmanage` of such a table.

use std::collections::HashSet;

use pgrx::datum::Interval;
use pgrx::pg_sys;
use pgrx::spi::SpiHeapTupleData;

use crate::archive::table::{self, Source};
use crate::archive::{follow_ddl, layouts, names, objects, source};
use crate::call::own_triggers::{self, Carrier};
use crate::graph::cache;
use crate::manage::old_snapshot::refuse_old_snapshot;
use crate::manage::triggers::{self, OWN_TRIGGERS};
use crate::manage::{bound_table, drop_guards, reserved_columns};
use crate::model::error::{Failure, Outcome};
use crate::model::sql::{Ident, Qualified};
use crate::purge::retention;
use crate::spi::session::{Session, first_column};

const DESCRIBE: &str = include_str!("describe_source.sql");
const DEPENDENTS: &str = include_str!("dependents.sql");

/// Where the deleted rows of a managed table are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// In the table itself, marked.
    InPlace,
    /// In an archive of its own.
    Archive,
}

impl Keep {
    /// Reads it as `manage()` takes it.
    pub fn parse(name: &str) -> Outcome<Self> {
        match name {
            "in place" => Ok(Self::InPlace),
            "archive" => Ok(Self::Archive),
            _ => Err(Failure::BadArgument {
                what: format!("deleted rows cannot be kept '{name}'"),
                fix: "Give 'archive' or 'in place'.".into(),
            }),
        }
    }

    /// How a table is kept now; `None` when it is not managed.
    pub fn of(session: &Session<'_, '_>, table: pg_sys::Oid) -> Outcome<Option<Self>> {
        let rows = session.registry_now(
            "SELECT keep FROM keepsake.managed_table WHERE relation = $1",
            &[table.into()],
        )?;
        match rows.first() {
            Some(row) => row
                .get::<String>(1)?
                .map(|keep| Self::parse(&keep))
                .transpose(),
            None => Ok(None),
        }
    }
}

/// What `manage` may say of an archived table; what is not given stays as it is.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// How long deleted rows can be restored.
    pub retention: Option<Interval>,
    /// What TRUNCATE does.
    pub on_truncate: Option<&'a str>,
    /// Whether a restore fires AFTER INSERT triggers.
    pub after_triggers: Option<&'a str>,
    /// Whether tables that hang on it are taken along.
    pub cascade: bool,
}

impl Options<'_> {
    /// What of it is meant for a table that is taken along.
    pub fn of_a_child(self) -> Self {
        Self {
            retention: None,
            ..self
        }
    }

    /// Refuses values that mean nothing.
    pub fn check(&self) -> Outcome<()> {
        let wrong = |name, given: Option<&str>, allowed: &[&str]| match given {
            Some(given) if !allowed.contains(&given) => Err(Failure::BadArgument {
                what: format!("{name} cannot be '{given}'"),
                fix: format!("Give '{}'.", allowed.join("' or '")),
            }),
            _ => Ok(()),
        };
        wrong(
            "on_truncate",
            self.on_truncate,
            &["reject", "archive", "allow"],
        )?;
        wrong("after_triggers", self.after_triggers, &["fire", "skip"])
    }
}

/// Gives a table to Keepsake, or mends what is missing of one that has been.
pub fn take_on(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    options: Options<'_>,
) -> Outcome<()> {
    options.check()?;
    let mut begun = HashSet::new();
    let mut tables = vec![oid];
    while let Some(oid) = tables.pop() {
        if begun.insert(oid) {
            tables.extend(take_on_one(session, oid, options)?);
        }
    }
    Ok(())
}

/// Refuses to keep a table in place that refers to one with an archive, or for which something is asked that
/// only an archive has.
pub fn check_in_place(
    session: &Session<'_, '_>,
    oid: pg_sys::Oid,
    options: Options<'_>,
) -> Outcome<()> {
    refuse_options(options)?;
    if options.cascade {
        return Err(only_of_archives());
    }
    let found = Description::of(session, oid)?;
    let refuse = |why: String, fix: String| {
        Err(Failure::CannotManage {
            table: found.shown.clone(),
            why,
            fix,
        })
    };
    let parents = session.catalog_now(ARCHIVED_PARENT, &[oid.into()])?;
    let parent: Option<String> = match parents.first() {
        Some(row) => row.get(1)?,
        None => None,
    };
    match parent {
        Some(parent) => refuse(
            format!(
                "It refers to {parent}, which is kept in an archive: a DELETE there would be refused because of rows that nobody sees, or remove them for good."
            ),
            format!(
                "SELECT keepsake.manage('{}', keep => 'archive').",
                found.shown
            ),
        ),
        None => Ok(()),
    }
}

/// Refuses what only a table with an archive has.
pub fn refuse_options(options: Options<'_>) -> Outcome<()> {
    if options.on_truncate.is_none() && options.after_triggers.is_none() {
        return Ok(());
    }
    Err(only_of_archives())
}

fn only_of_archives() -> Failure {
    Failure::BadArgument {
        what: "on_truncate, after_triggers and cascade are of tables with an archive".into(),
        fix: "Leave them out, or give keep => 'archive'.".into(),
    }
}

const ARCHIVED_PARENT: &str = "
    SELECT min(con.confrelid::regclass::text) FROM pg_constraint con JOIN keepsake.managed_table m
        ON m.relation = coalesce(pg_partition_root(con.confrelid)::oid, con.confrelid) AND m.keep = 'archive'
    WHERE con.contype = 'f' AND con.conrelid = $1 AND con.conparentid = 0";

/// Takes on one table; answers with those to be taken along.
fn take_on_one(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    options: Options<'_>,
) -> Outcome<Vec<pg_sys::Oid>> {
    let found = Description::of(session, oid)?;
    found.check_safe()?;
    reserved_columns::refuse(session, oid)?;
    if options.on_truncate.is_some_and(|does| does != "reject") && is_referred(session, oid)? {
        return Err(Failure::CannotManage {
            table: found.shown,
            why: "Rows of other tables refer to it by a declared reference. TRUNCATE would leave them behind.".into(),
            fix: "Leave on_truncate at 'reject', and use DELETE.".into(),
        });
    }
    // Whoever adds a foreign key to the table, or a partition, comes before or after.
    let lock = format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", found.name);
    session.ddl(&lock)?;
    let along = dependents(session, oid, &found, options)?;
    retention::register(session, oid, options.retention)?;
    session.registry(
        "UPDATE keepsake.managed_table
         SET keep = 'archive', on_truncate = coalesce($2, on_truncate), after_triggers = coalesce($3, after_triggers)
         WHERE relation = $1",
        &[
            oid.into(),
            options.on_truncate.into(),
            options.after_triggers.into(),
        ],
    )?;
    session.registry(
        "UPDATE keepsake.whole_schema SET exceptions = array_remove(exceptions, $1::regclass) WHERE $1 = ANY (exceptions)",
        &[oid.into()],
    )?;
    archive_of(session, oid)?;
    add_triggers(session, oid, &found.name)?;
    bound_table::equip(session, oid)?;
    source::forget(oid);
    cache::invalidate(oid);
    Ok(along)
}

/// The archive of a table in its newest layout, made if there is none.
fn archive_of(session: &mut Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<pg_sys::Oid> {
    let found = Description::of(session, oid)?;
    if let Some(archive) = found.archive {
        follow_ddl::follow(session, oid)?;
        return Ok(archive);
    }
    let source = Source {
        oid,
        name: found.name.clone(),
        owner: found.owner,
        unlogged: found.persistence == "u",
        has_rls: found.has_rls,
    };
    table::create(session, &source)
}

/// An archive that rows are to be copied to.
pub struct Made {
    /// Its name.
    pub archive: Qualified,
    /// The number of its newest layout.
    pub layout: i32,
    /// The stored columns of its table, and what it calls them.
    pub columns: Vec<(Ident, Ident)>,
}

/// Makes the archive of a table that has none, for its deleted rows to be copied there.
pub fn make_archive(session: &mut Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<Made> {
    let archive = archive_of(session, oid)?;
    let columns = session.catalog_now(STORED, &[archive.into(), oid.into()])?;
    let text = |row: &SpiHeapTupleData<'_>, name: &str| -> Outcome<Ident> {
        Ok(Ident(row.get_by_name(name)?.unwrap_or_default()))
    };
    let columns = columns
        .iter()
        .map(|row| Ok((text(row, "name")?, text(row, "kept")?)));
    let columns = columns.collect::<Outcome<Vec<_>>>()?;
    let (layout, _) = layouts::newest(session, archive)?;
    Ok(Made {
        archive: names::name_of(session, archive)?,
        layout,
        columns,
    })
}

/// The columns of the newest layout, but for those that are computed whenever they are read.
const STORED: &str = "
    SELECT a.attname::text AS name, k.archive_name::text AS kept FROM keepsake.archive_column k
    JOIN pg_attribute a ON a.attrelid = $2 AND a.attnum = k.source_attnum AND a.attgenerated <> 'v'
    WHERE k.archive = $1 AND k.layout = (SELECT max(layout) FROM keepsake.archive_column WHERE archive = $1) ORDER BY a.attnum";

/// The tables that go with this one when it is managed: a removal of its rows would take theirs, or change them.
fn dependents(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    found: &Description,
    options: Options<'_>,
) -> Outcome<Vec<pg_sys::Oid>> {
    let mut along = Vec::new();
    for row in session.registry_now(DEPENDENTS, &[oid.into()])? {
        let text =
            |name: &str| -> Outcome<String> { Ok(row.get_by_name(name)?.unwrap_or_default()) };
        let (shown, why, action) = (text("shown")?, text("why")?, text("action")?);
        let action = action.get(2..).unwrap_or_default();
        let keep: Option<String> = row.get_by_name("keep")?;
        match keep.as_deref() {
            Some("archive") => {
                // What it lets go of is remembered from now on.
                if let Some(child) = row.get_by_name::<pg_sys::Oid, _>("child")? {
                    cache::invalidate(child);
                }
            }
            Some(_) => {
                return Err(Failure::CannotManage {
                    table: found.shown.clone(),
                    why: format!(
                        "{shown} hangs on it {why} and is kept in place: its deleted rows would block a DELETE here, or go for good."
                    ),
                    fix: format!(
                        "Keep {shown} in an archive as well: SELECT keepsake.manage('{shown}', keep => 'archive')."
                    ),
                });
            }
            None if action == "restrict" => {}
            None if options.cascade => {
                along.extend(row.get_by_name::<pg_sys::Oid, _>("child")?);
            }
            None => {
                return Err(Failure::CannotManage {
                    table: found.shown.clone(),
                    why: format!(
                        "A DELETE here would {} {shown} {why}, which is not managed, and nothing could bring that back.",
                        match action {
                            "cascade" => "take rows of",
                            _ => "change rows of",
                        }
                    ),
                    fix: format!(
                        "Manage {shown} first: SELECT keepsake.manage('{shown}', keep => 'archive'); or give cascade => true to take it along."
                    ),
                });
            }
        }
    }
    Ok(along)
}

const REFERRED: &str = "SELECT 1 FROM keepsake.declared_reference WHERE parent = $1";

/// Whether declared references refer to the table.
fn is_referred(session: &Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<bool> {
    Ok(!session.registry_now(REFERRED, &[oid.into()])?.is_empty())
}

/// Makes a table with an archive ready for declared references that refer to it: what refers to its rows goes with them, and a
/// restore finds its archived rows by their keys. Whoever deletes from it comes before or after.
pub fn let_refer(session: &mut Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<()> {
    let found = Description::of(session, oid)?;
    found.check_owned()?;
    let name = &found.name;
    session.ddl(&format!("LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE"))?;
    let truncates = session.registry_now(
        "SELECT 1 FROM keepsake.managed_table WHERE relation = $1 AND on_truncate <> 'reject'",
        &[oid.into()],
    )?;
    if !truncates.is_empty() {
        return Err(Failure::BadArgument {
            what: format!(
                "rows cannot refer to table {} by a declared reference while TRUNCATE may empty it",
                found.shown
            ),
            fix: format!(
                "SELECT keepsake.manage('{}', on_truncate => 'reject') first.",
                found.shown
            ),
        });
    }
    if let Some(archive) = found.archive {
        table::index_key(session, archive, oid)?;
    }
    for (_, part_name) in parts(session, oid)? {
        for trigger in own_triggers::on(Carrier::ArchivedReferred) {
            triggers::create_on(session, &part_name, trigger, &[])?;
        }
    }
    Ok(())
}

const REFERS: &str = "SELECT 1 FROM pg_constraint WHERE contype = 'f' AND conrelid = $1";

/// The triggers of an archived table. Row triggers are PostgreSQL's to carry to partitions.
fn add_triggers(session: &mut Session<'_, '_>, oid: pg_sys::Oid, name: &Qualified) -> Outcome<()> {
    for trigger in own_triggers::on(Carrier::Archived) {
        triggers::create_on(session, name, trigger, &[])?;
    }
    let refers = !session.catalog(REFERS, &[oid.into()])?.is_empty();
    for trigger in own_triggers::on(Carrier::ArchivedReferring) {
        if refers {
            triggers::create_on(session, name, trigger, &[])?;
        } else {
            drop_trigger(session, oid, name, trigger.name())?;
        }
    }
    let allows = !session
        .registry(
            "SELECT 1 FROM keepsake.managed_table WHERE relation = $1 AND on_truncate = 'allow'",
            &[oid.into()],
        )?
        .is_empty();
    if is_referred(session, oid)? {
        let_refer(session, oid)?;
    }
    guard_declared(session, oid)?;
    for (part, part_name) in parts(session, oid)? {
        for trigger in own_triggers::on(Carrier::ArchivedWatched) {
            if allows {
                drop_trigger(session, part, &part_name, trigger.name())?;
            } else {
                triggers::create_on(session, &part_name, trigger, &[])?;
            }
        }
    }
    Ok(())
}

const DECLARES: &str = "SELECT 1 FROM keepsake.declared_reference WHERE child = $1";

/// Guards the declared references of a table with an archive, if it has any.
fn guard_declared(session: &mut Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<()> {
    if session.registry_now(DECLARES, &[oid.into()])?.is_empty() {
        return Ok(());
    }
    cache::invalidate(oid);
    let graph = cache::current(session)?;
    match graph.table(oid) {
        Some(table) => triggers::guard_references(session, &graph, table),
        None => Ok(()),
    }
}

/// A table and its partitions, at every level.
fn parts(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
) -> Outcome<Vec<(pg_sys::Oid, Qualified)>> {
    let rows = session.registry_now(
        "SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name
         FROM (SELECT $1::oid AS oid UNION SELECT relid FROM keepsake.partition_tree($1::oid)) AS part
         JOIN pg_class c ON c.oid = part.oid JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY c.oid",
        &[oid.into()],
    )?;
    rows.iter()
        .map(|row| {
            let text = |name: &str| -> Outcome<Ident> {
                Ok(Ident(row.get_by_name(name)?.unwrap_or_default()))
            };
            let name = Qualified {
                schema: text("schema")?,
                name: text("name")?,
            };
            Ok((row.get_by_name("oid")?.unwrap_or(pg_sys::InvalidOid), name))
        })
        .collect()
}

fn drop_trigger(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    table: &Qualified,
    name: &str,
) -> Outcome<()> {
    let own: Vec<String> = first_column(session.catalog(OWN_TRIGGERS, &[oid.into()])?)?;
    if own.iter().any(|own| own == name) {
        session.ddl(&format!(
            "DROP TRIGGER {} ON {table}",
            Ident(name.to_owned())
        ))?;
    }
    Ok(())
}

/// Takes a table back from Keepsake, with its archive, which must be empty or be given up.
pub fn hand_back(session: &mut Session<'_, '_>, oid: pg_sys::Oid, gives_up: bool) -> Outcome<()> {
    let found = Description::of(session, oid)?;
    found.check_owned()?;
    let name = &found.name;
    session.ddl(&format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"))?;
    if let Some(archive) = found.archive {
        let archive_name = names::name_of(session, archive)?;
        // Nobody restores or purges meanwhile.
        session.registry(
            &format!("LOCK TABLE {archive_name} IN ACCESS EXCLUSIVE MODE"),
            &[],
        )?;
        // Now: others may have deleted rows before the lock.
        let any = format!("SELECT 1 FROM {archive_name} LIMIT 1");
        if session.registry_exists_now(&any, &[])? {
            if !gives_up {
                return Err(Failure::HoldsArchivedRows {
                    table: found.shown,
                    archive: archive_name.shown(),
                });
            }
            refuse_old_snapshot(session, oid)?;
            give_up(session, oid)?;
            objects::give_up(session, (archive, oid), "true")?;
        }
        table::drop_archive(session, archive)?;
    }
    bound_table::keep_live_objects(session, oid, found.owner)?;
    drop_triggers(session, oid)?;
    for forget in [
        "DELETE FROM keepsake.bound_storage WHERE relation = $1",
        "DELETE FROM keepsake.declared_reference WHERE $1 IN (child, parent)",
        "DELETE FROM keepsake.managed_table WHERE relation = $1",
    ] {
        session.registry(forget, &[oid.into()])?;
    }
    source::forget(oid);
    cache::invalidate(oid);
    drop_guards::drop_needless_guards(session)
}

/// Drops the triggers of an archived table and its partitions.
pub fn drop_triggers(session: &mut Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<()> {
    let carriers = [
        Carrier::Archived,
        Carrier::ArchivedReferring,
        Carrier::ArchivedWatched,
        Carrier::ArchivedReferred,
        Carrier::Bound,
        Carrier::BoundArchived,
    ];
    for (part, part_name) in parts(session, oid)? {
        for trigger in carriers.into_iter().flat_map(own_triggers::on) {
            drop_trigger(session, part, &part_name, trigger.name())?;
        }
    }
    Ok(())
}

const MAY_ERASE: &str = "SELECT has_function_privilege('keepsake.purge_deletion(uuid)', 'EXECUTE')";
/// Deletions with rows of the table that a hold keeps.
const HELD: &str = "
    SELECT 1 FROM keepsake.deletion_table t JOIN keepsake.deletion d ON d.id = t.deletion_id
    JOIN keepsake.hold h ON h.released_at IS NULL AND (h.deletion_id = d.id OR h.tenant = d.tenant OR h.relation = t.relation)
    WHERE t.relation = $1 AND t.purged < t.row_count AND d.state IN ('deleted', 'purging') LIMIT 1";
const GIVE_UP: &str = "
    WITH gone AS (
        UPDATE keepsake.deletion_table SET purged = row_count WHERE relation = $1 AND purged < row_count RETURNING deletion_id)
    UPDATE keepsake.deletion d
    SET state = CASE WHEN r.left_over THEN 'purging' ELSE 'purged' END, settled_at = CASE WHEN r.left_over THEN NULL ELSE now() END
    FROM (SELECT t.deletion_id, bool_or(t.purged < t.row_count AND t.relation <> $1) AS left_over
          FROM keepsake.deletion_table t WHERE t.deletion_id IN (SELECT deletion_id FROM gone) GROUP BY t.deletion_id) AS r
    WHERE d.id = r.deletion_id AND d.state IN ('deleted', 'purging')";

/// Enters as purged what an archive still holds. It comes to the same as purging each of its deletions.
fn give_up(session: &mut Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<()> {
    let may_erase = session.catalog(MAY_ERASE, &[])?.first().get_one::<bool>()?;
    if may_erase != Some(true) {
        return Err(Failure::MayNotErase);
    }
    if !session.registry(HELD, &[oid.into()])?.is_empty() {
        return Err(Failure::BadArgument {
            what: "a hold keeps rows of the archive".into(),
            fix: "keepsake.hold says who holds them and why; keepsake.release(id) ends a hold."
                .into(),
        });
    }
    session.registry(GIVE_UP, &[oid.into()])?;
    Ok(())
}

/// What the catalog says of a table that is to be archived.
struct Description {
    name: Qualified,
    shown: String,
    kind: String,
    persistence: String,
    is_partition: bool,
    owner: pg_sys::Oid,
    owned: bool,
    is_system: bool,
    has_rls: bool,
    keep: Option<Keep>,
    foreign_part: Option<String>,
    archive: Option<pg_sys::Oid>,
}

impl Description {
    fn of(session: &Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<Self> {
        let rows = session.catalog_now(DESCRIBE, &[oid.into()])?;
        let row = rows.first().ok_or_else(|| Failure::RowNotFound {
            table: "pg_class".into(),
        })?;
        Self::read(row)
    }

    fn read(row: &SpiHeapTupleData<'_>) -> Outcome<Self> {
        let text = |name: &str| -> Outcome<Option<String>> { Ok(row.get_by_name(name)?) };
        let flag = |name: &str| -> Outcome<bool> { Ok(row.get_by_name(name)?.unwrap_or(false)) };
        Ok(Self {
            name: Qualified {
                schema: Ident(text("schema")?.unwrap_or_default()),
                name: Ident(text("name")?.unwrap_or_default()),
            },
            shown: text("shown")?.unwrap_or_default(),
            kind: text("kind")?.unwrap_or_default(),
            persistence: text("persistence")?.unwrap_or_default(),
            is_partition: flag("is_partition")?,
            owner: row.get_by_name("owner")?.unwrap_or(pg_sys::InvalidOid),
            owned: flag("owned")?,
            is_system: flag("is_system")?,
            has_rls: flag("has_rls")?,
            keep: text("keep")?.map(|keep| Keep::parse(&keep)).transpose()?,
            foreign_part: text("foreign_part")?,
            archive: row.get_by_name("archive")?,
        })
    }

    fn check_owned(&self) -> Outcome<()> {
        if self.owned {
            return Ok(());
        }
        Err(Failure::NotOwner {
            table: self.shown.clone(),
        })
    }

    fn check_safe(&self) -> Outcome<()> {
        self.check_owned()?;
        let refusal = if self.persistence == "t" {
            (
                "It is a temporary table.".into(),
                "Manage a permanent table.".into(),
            )
        } else if self.is_system {
            (
                "It belongs to PostgreSQL or to keepsake itself.".into(),
                "Manage a table of your own.".into(),
            )
        } else if self.is_partition {
            (
                "It is a partition.".into(),
                "Manage the partitioned table that it belongs to.".into(),
            )
        } else if !matches!(self.kind.as_str(), "r" | "p") {
            (
                "It is no table, or a foreign one, whose rows PostgreSQL does not remove itself."
                    .into(),
                "Manage a plain or a partitioned table.".into(),
            )
        } else if let Some(part) = &self.foreign_part {
            (
                format!("Its partition {part} is a foreign table."),
                "Detach that partition.".to_owned(),
            )
        } else if self.keep == Some(Keep::InPlace) {
            (
                "It is kept in place already.".into(),
                format!("SELECT keepsake.unmanage('{}') first.", self.shown),
            )
        } else {
            return Ok(());
        };
        let (why, fix): (String, String) = refusal;
        Err(Failure::CannotManage {
            table: self.shown.clone(),
            why,
            fix,
        })
    }
}
