//! Who may read an archive.

use pgrx::pg_sys;

use crate::archive::names::name_of;
use crate::model::error::Outcome;
use crate::model::sql::{Ident, Qualified};
use crate::spi::session::{Session, first_column};

/// The policy of an archive whose source has row-level security.
pub const POLICY: &str = "keepsake_source_owner";

/// Shows an archive to the owner that its source has now, and to nobody else any more.
pub fn show_anew(
    session: &mut Session<'_, '_>,
    archive: pg_sys::Oid,
    (owner, has_rls): (pg_sys::Oid, bool),
) -> Outcome<()> {
    let name = name_of(session, archive)?;
    revoke_all(session, archive, &name)?;
    drop_policy(session, archive, &name)?;
    show(session, &name, owner, has_rls)
}

/// Takes from everybody what he may do with an archive or a month table: also what default privileges have granted when it was made.
pub fn revoke_all(
    session: &mut Session<'_, '_>,
    heap: pg_sys::Oid,
    name: &Qualified,
) -> Outcome<()> {
    let granted: Vec<String> = first_column(session.registry(
        "SELECT DISTINCT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END
         FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) AS x WHERE c.oid = $1 AND x.grantee <> c.relowner",
        &[heap.into()],
    )?)?;
    for role in granted {
        session.registry(&format!("REVOKE ALL ON {name} FROM {role} CASCADE"), &[])?;
    }
    Ok(())
}

fn drop_policy(
    session: &mut Session<'_, '_>,
    archive: pg_sys::Oid,
    name: &Qualified,
) -> Outcome<()> {
    let found = session.registry_now(
        "SELECT 1 FROM pg_policy WHERE polrelid = $1 AND polname = $2",
        &[archive.into(), POLICY.into()],
    )?;
    if !found.is_empty() {
        session.registry(&format!("DROP POLICY {POLICY} ON {name}"), &[])?;
    }
    Ok(())
}

/// Hides an archive from a role that it was shown to, and from whom that role has shown it.
pub fn hide_from(session: &mut Session<'_, '_>, archive: pg_sys::Oid, role: &Ident) -> Outcome<()> {
    let name = name_of(session, archive)?;
    session.registry(&format!("REVOKE ALL ON {name} FROM {role} CASCADE"), &[])?;
    let is_for = "SELECT 1 FROM pg_policy p JOIN pg_roles r ON r.oid = ANY (p.polroles)
                  WHERE p.polrelid = $1 AND p.polname = $2 AND r.rolname = $3::text::name";
    let named = [archive.into(), POLICY.into(), role.0.as_str().into()];
    if !session.registry_now(is_for, &named)?.is_empty() {
        session.registry(&format!("DROP POLICY {POLICY} ON {name}"), &[])?;
    }
    Ok(())
}

/// Drops the policy of a table, if that is an archive, for one of the same name that is about to come.
pub fn make_room(session: &mut Session<'_, '_>, archive: pg_sys::Oid) -> Outcome<()> {
    let is_archive = "SELECT 1 FROM keepsake.archive_table WHERE archive = $1";
    if session
        .registry_now(is_archive, &[archive.into()])?
        .is_empty()
    {
        return Ok(());
    }
    let name = name_of(session, archive)?;
    drop_policy(session, archive, &name)
}

/// Who may read an archive: the owner of its source, and whom he lets. Under row-level security of the source, he alone.
pub fn show(
    session: &mut Session<'_, '_>,
    name: &Qualified,
    owner: pg_sys::Oid,
    has_rls: bool,
) -> Outcome<()> {
    let owner: Option<String> = session
        .registry(
            "SELECT rolname::text FROM pg_roles WHERE oid = $1",
            &[owner.into()],
        )?
        .first()
        .get_one()?;
    let Some(owner) = owner.map(Ident) else {
        return Ok(());
    };
    session.registry(
        &format!("GRANT SELECT ON {name} TO {owner} WITH GRANT OPTION"),
        &[],
    )?;
    open_schema(session, &name.schema, &owner)?;
    if has_rls {
        session.registry(
            &format!("CREATE POLICY {POLICY} ON {name} FOR SELECT TO {owner} USING (true)"),
            &[],
        )?;
        session.registry(
            &format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY"),
            &[],
        )?;
    }
    Ok(())
}

/// Lets a role into the schema of an archive where PUBLIC may not enter any more. Elsewhere nothing is written: a grant would have
/// everyone who makes a table there wait for the transaction of who made one before.
fn open_schema(session: &mut Session<'_, '_>, schema: &Ident, role: &Ident) -> Outcome<()> {
    let may = "SELECT 1 WHERE has_schema_privilege($1::text::name, $2::text, 'USAGE')";
    let names = [role.0.as_str().into(), schema.0.as_str().into()];
    if session.registry_now(may, &names)?.is_empty() {
        session.registry(&format!("GRANT USAGE ON SCHEMA {schema} TO {role}"), &[])?;
    }
    Ok(())
}
