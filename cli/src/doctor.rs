//! Problems in a database, each with its fix.

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::database::{rows, value};
use crate::failure::{Exit, Failure};
use crate::migrations;
use crate::report::Report;

/// Reports every problem.
pub async fn doctor(connection: &mut PgConnection) -> Result<Report, Failure> {
    let findings = findings(connection).await?;
    let exit = if findings.iter().any(is_problem) {
        Exit::Findings
    } else {
        Exit::Ok
    };
    let text = match findings.as_slice() {
        [] => "No problems found.".to_owned(),
        some => some.iter().map(in_words).collect::<Vec<_>>().join("\n\n"),
    };
    Ok(Report::text(text, Value::from(findings)).leaving(exit))
}

/// A finding as a paragraph: its text and its fix are too long for a table.
fn in_words(finding: &Value) -> String {
    let of = |name: &str| finding[name].as_str().unwrap_or_default();
    let mut text = format!(
        "{} {} on {}\n  {}",
        of("severity"),
        of("check_name"),
        of("object"),
        of("finding")
    );
    if !of("fix").is_empty() {
        text += &format!("\n  fix: {}", of("fix"));
    }
    text
}

/// A finding of severity `info` may be intended.
pub fn is_problem(finding: &Value) -> bool {
    finding["severity"] != "info"
}

async fn findings(connection: &mut PgConnection) -> Result<Vec<Value>, Failure> {
    let mut found = versions(connection).await?;
    if installed(connection).await?.is_some() {
        let of_the_extension = "SELECT severity, check_name, object, finding, fix FROM keepsake.doctor()
            ORDER BY array_position(ARRAY['error', 'warning', 'info'], severity), check_name, object";
        found.extend(rows(connection, of_the_extension, &[]).await?);
    }
    if schema_version(connection).await?.is_some() {
        let of_the_worker = "SELECT 'warning' AS severity, 'worker_may_more' AS check_name, object,
                format('The role keepsake_worker can %s.', what) AS finding,
                'Revoke this from PUBLIC or from the role. It needs only the functions of attachments_api.' AS fix
            FROM attachments.worker_rights()";
        found.extend(rows(connection, of_the_worker, &[]).await?);
        let of_entities = "SELECT 'warning' AS severity, 'lookup_unplanned' AS check_name, relation::text AS object,
                format('The table of the entity type %s, or the schema attachments, has changed since it was last planned how requests find an entity.', entity_type) AS finding,
                'Run SELECT attachments.plan_lookups().' AS fix
            FROM attachments.unplanned_lookups()";
        found.extend(rows(connection, of_entities, &[]).await?);
    }
    Ok(found)
}

/// Versions that do not match.
async fn versions(connection: &mut PgConnection) -> Result<Vec<Value>, Failure> {
    let finding = |severity: &str, check: &str, object: &str, finding: String, fix: &str| json!({"severity": severity, "check_name": check, "object": object, "finding": finding, "fix": fix});
    let mut found = Vec::new();
    let (installed, available) = (installed(connection).await?, available(connection).await?);
    match (&installed, &available) {
        (None, _) => found.push(finding(
            "error",
            "extension_missing",
            "keepsake",
            "The extension is not installed in this database.".into(),
            "Run keepsake migrate.",
        )),
        (Some(installed), Some(available)) if installed != available => found.push(finding(
            "error",
            "extension_outdated",
            "keepsake",
            format!("The extension has version {installed}, but the server has the files of {available}."),
            "Run keepsake migrate.",
        )),
        _ => {}
    }
    match schema_version(connection).await? {
        None => found.push(finding(
            "info",
            "schema_missing",
            "attachments",
            "The schema attachments is not installed in this database.".into(),
            "Run keepsake migrate.",
        )),
        Some(version) if version != migrations::newest() => found.push(finding(
            "error",
            "schema_version",
            "attachments",
            format!(
                "The schema has version {version}, but this program needs {}.",
                migrations::newest()
            ),
            "Run keepsake migrate of the newest release.",
        )),
        Some(_) => {}
    }
    Ok(found)
}

/// The version of the extension in this database.
pub async fn installed(connection: &mut PgConnection) -> Result<Option<String>, Failure> {
    value(
        connection,
        "SELECT (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'keepsake')",
        &[],
    )
    .await
}

/// The version of the server's files.
pub async fn available(connection: &mut PgConnection) -> Result<Option<String>, Failure> {
    value(connection, "SELECT (SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'keepsake')", &[]).await
}

/// The version of the schema in this database, if it says so.
pub async fn schema_version(connection: &mut PgConnection) -> Result<Option<i64>, Failure> {
    let says: bool = value(
        connection,
        "SELECT to_regprocedure('attachments.schema_version()') IS NOT NULL",
        &[],
    )
    .await?;
    if !says {
        return Ok(None);
    }
    let version: i32 = value(connection, "SELECT attachments.schema_version()", &[]).await?;
    Ok(Some(version.into()))
}
