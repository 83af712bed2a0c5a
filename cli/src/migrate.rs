//! Installs and updates the extension and the schema with its roles, then reports problems.

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::arguments::Migrate;
use crate::database::{rows, run, value};
use crate::doctor::{self, available, installed, schema_version};
use crate::failure::{Exit, Failure};
use crate::migrations::{self, Embedded, TABLE};
use crate::output::progress;
use crate::report::Report;

/// Two runs wait for each other. A session-level lock, because a run takes several transactions.
const LOCK: &str = "SELECT pg_advisory_lock(hashtextextended('keepsake migrate', 0))";
const TRY_LOCK: &str = "SELECT pg_try_advisory_lock(hashtextextended('keepsake migrate', 0))";

/// The PostgreSQL releases that the extension is built for; `scripts/check-versions` proves that they are those that are tested.
const SERVERS: std::ops::RangeInclusive<i32> = 15..=19;

/// The version of this program. The extension and the schema of a release have the same.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// Brings a database to the versions of this program.
pub async fn migrate(
    connection: &mut PgConnection,
    arguments: &Migrate,
) -> Result<Report, Failure> {
    let release = check_server(connection).await?;
    if arguments.dry_run {
        return dry_run(connection, release).await;
    }
    check_role(connection).await?;
    lock(connection).await?;
    let extension = extension(connection, release).await?;
    let applied = schema(connection, arguments.adopt).await?;
    progress("Checking for problems");
    let findings = doctor::doctor(connection).await?;
    run(connection, "SELECT pg_advisory_unlock_all()").await?;

    let found = findings.exit == Exit::Findings;
    let mut text = format!(
        "The extension has version {extension} and the schema has version {}. {} applied.",
        migrations::newest(),
        match applied.len() {
            0 => "No migration had to be".to_owned(),
            1 => "1 migration was".to_owned(),
            n => format!("{n} migrations were"),
        }
    );
    if found {
        text += &format!(
            "\n\nProblems (keepsake doctor shows them again):\n\n{}",
            findings.render(false).trim_end()
        );
    }
    Ok(Report::text(
        text,
        json!({
            "extension": extension, "schema": migrations::newest(), "applied": applied, "findings": findings.value()}),
    ))
}

/// Checks the server's release, which it returns.
async fn check_server(connection: &mut PgConnection) -> Result<i32, Failure> {
    let release: i32 = value(
        connection,
        "SELECT current_setting('server_version_num')::integer / 10000",
        &[],
    )
    .await?;
    if !SERVERS.contains(&release) {
        return Err(prevented(
            format!("cannot migrate on PostgreSQL {release}"),
            format!(
                "this release of keepsake supports PostgreSQL {} to {}",
                SERVERS.start(),
                SERVERS.end()
            ),
            "use one of these, or a release of keepsake that supports yours",
        ));
    }
    Ok(release)
}

/// Checks the role. Whoever only prints the SQL for someone else needs no more than to look.
async fn check_role(connection: &mut PgConnection) -> Result<(), Failure> {
    let role: String = value(connection, "SELECT current_user::text", &[]).await?;
    let is_superuser: bool = value(
        connection,
        "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user",
        &[],
    )
    .await?;
    if !is_superuser {
        return Err(prevented(
            format!("{role} may not migrate"),
            "installing a library and giving functions to other roles needs a superuser".to_owned(),
            "log in as a superuser, or have one apply the SQL of keepsake migrate --dry-run",
        ));
    }
    Ok(())
}

async fn lock(connection: &mut PgConnection) -> Result<(), Failure> {
    if !value::<bool>(connection, TRY_LOCK, &[]).await? {
        progress("Waiting for another keepsake migrate to finish");
        run(connection, LOCK).await?;
    }
    Ok(())
}

/// Installs or updates the extension. Returns its version.
async fn extension(connection: &mut PgConnection, release: i32) -> Result<String, Failure> {
    let available = available_version(connection, release).await?;
    match installed(connection).await? {
        None => {
            progress(&format!("Installing the extension {available}"));
            run(connection, "CREATE EXTENSION keepsake").await?;
        }
        Some(installed) if installed != available => {
            check_path(connection, &installed, &available).await?;
            progress(&format!(
                "Updating the extension from {installed} to {available}"
            ));
            run(connection, "ALTER EXTENSION keepsake UPDATE").await?;
        }
        Some(_) => {}
    }
    Ok(available)
}

/// The version of the server's files, which is that of this program: a migration may call what only its own release of the
/// extension has, and an older program does not know what a newer extension expects of the schema.
async fn available_version(connection: &mut PgConnection, release: i32) -> Result<String, Failure> {
    let Some(available) = available(connection).await? else {
        return Err(prevented(
            "cannot install the extension".to_owned(),
            "its files are not on the server".to_owned(),
            &format!(
                "install postgresql-{release}-keepsake, or the archive for PostgreSQL {release}, on the machine that runs the server: docs/install.md"
            ),
        ));
    };
    if available != PROGRAM {
        return Err(prevented(
            "cannot migrate".to_owned(),
            format!(
                "the server has the files of Keepsake {available}, and this program is of {PROGRAM}"
            ),
            &format!(
                "install postgresql-{release}-keepsake, or the archive for PostgreSQL {release}, and the program keepsake of one version"
            ),
        ));
    }
    Ok(available)
}

/// Whether the server's files lead from one version to the other. PostgreSQL would refuse it, too, and not say what to do.
async fn check_path(
    connection: &mut PgConnection,
    installed: &str,
    available: &str,
) -> Result<(), Failure> {
    let leads: bool = value(
        connection,
        "SELECT EXISTS (SELECT FROM pg_extension_update_paths('keepsake') WHERE source = $1 AND target = $2 AND path IS NOT NULL)",
        &[Some(installed), Some(available)],
    )
    .await?;
    if leads {
        return Ok(());
    }
    Err(prevented(
        "cannot update the extension".to_owned(),
        format!(
            "this database has version {installed} of it, and the server has the files of {available}, which do not lead there from it"
        ),
        &format!(
            "if {installed} is the newer one, install the server's files and the program keepsake of {installed}: no database goes back"
        ),
    ))
}

/// Applies the missing migrations. Returns their names.
async fn schema(connection: &mut PgConnection, adopt: bool) -> Result<Vec<&'static str>, Failure> {
    let migrator = migrations::migrator();
    let recorded = recorded(connection).await?;
    if recorded.is_empty()
        && let Some(version) = schema_version(connection).await?
    {
        if !adopt {
            return Err(prevented(
                "cannot migrate the schema".to_owned(),
                format!(
                    "it exists in version {version}, but no record says which migrations were applied"
                ),
                "if its migrations were applied by hand from migrations/, run keepsake migrate --adopt",
            ));
        }
        progress(&format!(
            "Recording the migrations up to version {version} as applied"
        ));
        migrator.skip(&mut *connection, Some(version)).await?;
    }
    let pending = pending(connection).await?;
    // Even if none is pending: this compares the checksums of the applied ones.
    migrator.run_to(0, &mut *connection).await?;
    for migration in &pending {
        progress(&format!(
            "Applying {:04} {}",
            migration.version, migration.name
        ));
        migrator.run_to(migration.version, &mut *connection).await?;
    }
    migrator.run(&mut *connection).await?;
    Ok(pending.iter().map(|migration| migration.name).collect())
}

/// The versions recorded as applied.
async fn recorded(connection: &mut PgConnection) -> Result<Vec<i64>, Failure> {
    let is_there = "SELECT to_regclass('keepsake_migration.applied') IS NOT NULL";
    if !value::<bool>(connection, is_there, &[]).await? {
        return Ok(Vec::new());
    }
    let versions = rows(
        connection,
        "SELECT version FROM keepsake_migration.applied WHERE success",
        &[],
    )
    .await?;
    Ok(versions
        .iter()
        .filter_map(|row| row["version"].as_i64())
        .collect())
}

async fn pending(connection: &mut PgConnection) -> Result<Vec<&'static Embedded>, Failure> {
    let recorded = recorded(connection).await?;
    let all = migrations::ALL.iter();
    Ok(all
        .filter(|migration| !recorded.contains(&migration.version))
        .collect())
}

/// The SQL of a run, for someone else to apply. It records what it applies, as a run does.
async fn dry_run(connection: &mut PgConnection, release: i32) -> Result<Report, Failure> {
    let available = available_version(connection, release).await?;
    let mut sql =
        "-- Printed by keepsake migrate --dry-run. Apply it as a superuser, with ON_ERROR_STOP.\n"
            .to_owned();
    match installed(connection).await? {
        None => sql += "\nCREATE EXTENSION keepsake;\n",
        Some(installed) if installed != available => {
            check_path(connection, &installed, &available).await?;
            sql += "\nALTER EXTENSION keepsake UPDATE;\n";
        }
        Some(_) => {}
    }
    let pending = pending(connection).await?;
    let migrator = migrations::migrator();
    for migration in &pending {
        let checksum = migrator.iter().find(|known| {
            known.version == migration.version && known.migration_type.is_up_migration()
        });
        let checksum = checksum
            .map(|known| hex(&known.checksum))
            .unwrap_or_default();
        sql += &format!(
            "\nBEGIN;\n{RECORD}\n{}\nINSERT INTO {TABLE} (version, description, success, checksum, execution_time)\n    VALUES ({}, '{}', true, '\\x{checksum}', -1);\nCOMMIT;\n",
            migration.up, migration.version, migration.name
        );
    }
    let names: Vec<Value> = pending
        .iter()
        .map(|migration| migration.name.into())
        .collect();
    Ok(Report::text(
        sql.clone(),
        json!({"pending": names, "sql": sql}),
    ))
}

/// The record, as the runner creates it.
const RECORD: &str = "CREATE SCHEMA IF NOT EXISTS keepsake_migration;
CREATE TABLE IF NOT EXISTS keepsake_migration.applied (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMPTZ NOT NULL DEFAULT now(),
    success BOOLEAN NOT NULL,
    checksum BYTEA NOT NULL,
    execution_time BIGINT NOT NULL
);
";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn prevented(what: String, why: String, hint: &str) -> Failure {
    Failure::Prevented {
        what,
        why,
        hint: hint.to_owned(),
    }
}
