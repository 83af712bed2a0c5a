//! What each command does in the database.

use keepsake_server::{Cause, Mode};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::arguments::{
    Arguments, Command, Deletions, Erase, Hold, Manage, OnDelete, Purge, Restore, Serve, State,
};
use crate::database::{connect, rows, value};
use crate::doctor::{doctor, installed};
use crate::failure::{Exit, Failure};
use crate::migrate::migrate;
use crate::output::progress;
use crate::report::Report;

/// Runs a command.
///
/// # Errors
/// The command failed; see [`Failure`].
pub async fn run(arguments: Arguments) -> Result<Report, Failure> {
    if let Command::Serve(wanted) = &arguments.command {
        return serve(wanted, arguments.database_url.clone()).await;
    }
    let mut connection = connect(
        arguments.database_url.as_deref(),
        arguments.actor.as_deref(),
    )
    .await?;
    let report = dispatch(&mut connection, &arguments.command).await?;
    // Everything is committed, so a failure to close changes nothing.
    let _ignored = connection.close().await;
    Ok(report)
}

async fn dispatch(connection: &mut PgConnection, command: &Command) -> Result<Report, Failure> {
    if !matches!(command, Command::Migrate(_) | Command::Doctor) {
        check_installed(connection).await?;
    }
    match command {
        Command::Migrate(arguments) => migrate(connection, arguments).await,
        Command::Doctor => doctor(connection).await,
        Command::Manage(arguments) => manage(connection, arguments).await,
        Command::Deletions(arguments) => deletions(connection, arguments).await,
        Command::Restore(arguments) => restore(connection, arguments).await,
        Command::Purge(arguments) => purge(connection, arguments).await,
        Command::Hold(arguments) => hold(connection, arguments).await,
        Command::Release { hold } => release(connection, *hold).await,
        Command::Erase(arguments) => erase(connection, arguments).await,
        Command::Plan { table, key } => plan(connection, table, key).await,
        // It needs more than one connection.
        Command::Serve(arguments) => serve(arguments, None).await,
    }
}

/// Runs until it is told to stop.
async fn serve(arguments: &Serve, database_url: Option<String>) -> Result<Report, Failure> {
    let mode = if arguments.once {
        Mode::Once
    } else {
        Mode::Serve
    };
    keepsake_server::serve(arguments.config.as_deref(), database_url, mode)
        .await
        .map_err(|error| Failure::NotServed {
            exit: match error.cause() {
                Cause::Settings => Exit::Usage,
                Cause::Database => Exit::Database,
                Cause::Other => Exit::Findings,
            },
            why: error.to_string(),
            hint: error.hint(),
        })?;
    // Standard output has the log, and nothing else.
    Ok(Report::silent())
}

async fn check_installed(connection: &mut PgConnection) -> Result<(), Failure> {
    if installed(connection).await?.is_none() {
        return Err(Failure::Prevented {
            what: "cannot run this command".to_owned(),
            why: "the extension keepsake is not installed in this database".to_owned(),
            hint: "run keepsake migrate to install it".to_owned(),
        });
    }
    Ok(())
}

async fn manage(connection: &mut PgConnection, arguments: &Manage) -> Result<Report, Failure> {
    let on_delete = arguments.on_delete.map(|what| match what {
        OnDelete::Convert => "convert",
        OnDelete::Reject => "reject",
        OnDelete::Allow => "allow",
    });
    value::<Option<bool>>(
        connection,
        "SELECT true FROM keepsake.manage($1::text::regclass, $2::text::interval, $3) AS done",
        &[
            Some(&arguments.table),
            arguments.retention.as_deref(),
            on_delete,
        ],
    )
    .await?;
    let managed = rows(
        connection,
        "SELECT m.relation::regclass::text AS table_name, m.retention::text, m.on_delete FROM keepsake.managed_table m
         WHERE m.relation = $1::text::regclass",
        &[Some(&arguments.table)],
    )
    .await?;
    Ok(Report::table(
        managed,
        &["table_name", "retention", "on_delete"],
        "",
    ))
}

async fn deletions(
    connection: &mut PgConnection,
    arguments: &Deletions,
) -> Result<Report, Failure> {
    let state = arguments.state.map(|state| match state {
        State::Deleted => "deleted",
        State::Restored => "restored",
        State::Purging => "purging",
        State::Purged => "purged",
    });
    let limit = arguments.limit.to_string();
    let found = rows(
        connection,
        "SELECT d.id, d.state, d.root_table::regclass::text AS table_name, d.root_key, d.tenant, d.actor, d.reason,
                d.deleted_at, d.expires_at,
                (SELECT sum(t.row_count - t.purged)::bigint FROM keepsake.deletion_table t WHERE t.deletion_id = d.id) AS rows
         FROM keepsake.deletion d
         WHERE ($1::text IS NULL OR d.state = $1::text) AND ($2::text IS NULL OR d.root_table = $2::text::regclass)
           AND ($3::text IS NULL OR d.tenant = $3::text)
         ORDER BY d.id DESC LIMIT $4::text::bigint",
        &[state, arguments.table.as_deref(), arguments.tenant.as_deref(), Some(&limit)],
    )
    .await?;
    let columns = [
        "id",
        "state",
        "table_name",
        "root_key",
        "rows",
        "tenant",
        "actor",
        "reason",
        "deleted_at",
        "expires_at",
    ];
    Ok(Report::table(found, &columns, "No deletions found."))
}

async fn restore(connection: &mut PgConnection, arguments: &Restore) -> Result<Report, Failure> {
    let deletion = arguments.deletion.to_string();
    if arguments.dry_run {
        let found = rows(
            connection,
            "SELECT kind, table_name, key, constraint_name, key_values, holder FROM keepsake.restore_conflicts($1::text::uuid)",
            &[Some(&deletion)],
        )
        .await?;
        let exit = if found.is_empty() {
            Exit::Ok
        } else {
            Exit::Findings
        };
        let columns = [
            "kind",
            "table_name",
            "key",
            "constraint_name",
            "key_values",
            "holder",
        ];
        return Ok(Report::table(found, &columns, "No conflicts.").leaving(exit));
    }
    let on_conflict = if arguments.skip { "skip" } else { "fail" };
    let report: Value = value(
        connection,
        "SELECT keepsake.restore($1::text::uuid, $2)",
        &[Some(&deletion), Some(on_conflict)],
    )
    .await?;
    let skipped = report["conflicts"]
        .as_array()
        .is_some_and(|conflicts| !conflicts.is_empty());
    let text = format!(
        "Restored {}.{}",
        counts(&report["restored"]),
        if skipped {
            " Some rows conflict and were skipped; --json lists the conflicts."
        } else {
            ""
        }
    );
    let exit = if skipped { Exit::Findings } else { Exit::Ok };
    Ok(Report::text(text, report).leaving(exit))
}

/// Tables with their numbers of rows.
fn counts(tables: &Value) -> String {
    let of = |table: &Value| {
        let name = table["table"]
            .as_str()
            .or_else(|| table["table_name"].as_str())
            .unwrap_or("?");
        format!("{name} {}", table["rows"])
    };
    match tables {
        Value::Array(tables) if !tables.is_empty() => {
            tables.iter().map(of).collect::<Vec<_>>().join(", ")
        }
        Value::Object(tables) if !tables.is_empty() => tables
            .iter()
            .map(|(name, rows)| format!("{name} {rows}"))
            .collect::<Vec<_>>()
            .join(", "),
        _ => "nothing".to_owned(),
    }
}

async fn purge(connection: &mut PgConnection, arguments: &Purge) -> Result<Report, Failure> {
    if arguments.dry_run {
        let found = rows(
            connection,
            "SELECT table_name, outcome, rows FROM keepsake.purge_plan() ORDER BY 1, 2",
            &[],
        )
        .await?;
        return Ok(Report::table(
            found,
            &["table_name", "outcome", "rows"],
            "No expired rows.",
        ));
    }
    match arguments.deletion {
        Some(deletion) => purge_deletion(connection, &deletion.to_string()).await,
        None => purge_expired(connection, arguments.batch).await,
    }
}

async fn purge_deletion(connection: &mut PgConnection, deletion: &str) -> Result<Report, Failure> {
    let report: Value = value(
        connection,
        "SELECT keepsake.purge_deletion($1::text::uuid)",
        &[Some(deletion)],
    )
    .await?;
    let tables = report["tables"].as_array().into_iter().flatten();
    let blocked: i64 = tables.filter_map(|table| table["blocked"].as_i64()).sum();
    let (text, exit) = match blocked {
        0 => (format!("Purged {} rows.", report["rows"]), Exit::Ok),
        _ => (
            format!(
                "Purged {} rows. {blocked} rows stay, because other rows refer to them: purge those first.",
                report["rows"]
            ),
            Exit::Findings,
        ),
    };
    Ok(Report::text(text, report).leaving(exit))
}

/// Purges in batches, as `CALL keepsake.purge()` does: to the end of the queue, and again from its head as long as rows go, since
/// what was referred to may be free then. A deletion that fails stops none behind it.
async fn purge_expired(connection: &mut PgConnection, batch: i32) -> Result<Report, Failure> {
    let run: i64 = value(connection, "SELECT keepsake.start_purge()", &[]).await?;
    let (run, batch) = (run.to_string(), batch.to_string());
    let (mut purged, mut failed, mut round) = (0, 0, 0);
    let mut after: Option<String> = None;
    loop {
        let again = (round > 0).to_string();
        let done: Value = value(
            connection,
            "SELECT keepsake.purge_step($1::text::bigint, $2::text::integer, $3::text::uuid, $4::text::boolean, true)",
            &[Some(&run), Some(&batch), after.as_deref(), Some(&again)],
        )
        .await?;
        let of = |name: &str| done[name].as_i64().unwrap_or(0);
        round += of("rows");
        purged += of("rows");
        failed += of("failed");
        if of("rows") > 0 {
            progress(&format!("{purged} rows purged"));
        }
        if done["more"] == true {
            after = done["last"].as_str().map(str::to_owned);
        } else if round > 0 {
            (after, round) = (None, 0);
        } else {
            break;
        }
    }
    value::<Option<bool>>(
        connection,
        "SELECT true FROM keepsake.finish_purge($1::text::bigint) AS done",
        &[Some(&run)],
    )
    .await?;
    let (text, exit) = match failed {
        0 => (format!("Purged {purged} rows."), Exit::Ok),
        _ => (
            format!(
                "Purged {purged} rows. {failed} deletions could not be purged. Run keepsake doctor to see why."
            ),
            Exit::Findings,
        ),
    };
    Ok(Report::text(text, json!({"rows": purged, "failed": failed})).leaving(exit))
}

/// Whether a key is that of several columns, or names its column: then it is a JSON object.
fn is_object(key: &str) -> bool {
    serde_json::from_str::<Value>(key).is_ok_and(|key| key.is_object())
}

async fn hold(connection: &mut PgConnection, arguments: &Hold) -> Result<Report, Failure> {
    let reason = Some(arguments.reason.as_str());
    let hold: i64 = match arguments {
        Hold {
            deletion: Some(deletion),
            ..
        } => {
            value(
                connection,
                "SELECT keepsake.hold($1::text::uuid, $2)",
                &[Some(&deletion.to_string()), reason],
            )
            .await?
        }
        Hold {
            tenant: Some(tenant),
            ..
        } => {
            value(
                connection,
                "SELECT keepsake.hold_tenant($1, $2)",
                &[Some(tenant), reason],
            )
            .await?
        }
        Hold { table, key, .. } => {
            let sql = match key.as_deref().is_some_and(is_object) {
                true => "SELECT keepsake.hold($1::text::regclass, $2::text::jsonb, $3)",
                false => "SELECT keepsake.hold($1::text::regclass, $2::text, $3)",
            };
            value(connection, sql, &[table.as_deref(), key.as_deref(), reason]).await?
        }
    };
    Ok(Report::text(
        format!("Placed hold {hold}. To end it: keepsake release {hold}"),
        json!({"hold": hold}),
    ))
}

async fn release(connection: &mut PgConnection, hold: i64) -> Result<Report, Failure> {
    let number = hold.to_string();
    let released: bool = value(
        connection,
        "SELECT keepsake.release($1::text::bigint)",
        &[Some(&number)],
    )
    .await?;
    let text = if released {
        format!("Released hold {hold}.")
    } else {
        format!("Hold {hold} was already released.")
    };
    Ok(Report::text(
        text,
        json!({"hold": hold, "released": released}),
    ))
}

/// Erases, and prints the certificate. What stayed is a finding.
async fn erase(connection: &mut PgConnection, arguments: &Erase) -> Result<Report, Failure> {
    let keep_files = arguments.keep_files.to_string();
    let certificate: Value = value(
        connection,
        "SELECT to_jsonb(e) FROM attachments.erase($1, $2, $3, $4::text::boolean) AS e",
        &[
            Some(&arguments.tenant),
            arguments.subject.as_deref(),
            Some(&arguments.reason),
            Some(&keep_files),
        ],
    )
    .await?;
    let list = |what: &str| {
        let counts = certificate[what].as_object().into_iter().flatten();
        let lines = counts.map(|(table, rows)| format!("  {table}: {rows}\n"));
        lines.collect::<String>()
    };
    let kept = certificate["kept"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let mut text = format!(
        "Erased. Certificate {}.\nRemoved rows:\n{}Rows without the name:\n{}",
        certificate["id"].as_str().unwrap_or_default(),
        list("removed"),
        list("renamed"),
    );
    for line in kept {
        let name = |member: &str| line[member].as_str().unwrap_or_default();
        text += &format!(
            "Kept: {} rows of {}, {}.\n",
            line["rows"],
            name("table"),
            name("why")
        );
    }
    let exit = if kept.is_empty() {
        Exit::Ok
    } else {
        Exit::Findings
    };
    Ok(Report::text(text.trim_end(), certificate).leaving(exit))
}

async fn plan(connection: &mut PgConnection, table: &str, key: &str) -> Result<Report, Failure> {
    let of = match is_object(key) {
        true => "$2::text::jsonb",
        false => "$2::text",
    };
    let sql = format!(
        "SELECT action, table_name, reference, row_count FROM keepsake.plan_delete($1::text::regclass, {of})"
    );
    let found = rows(connection, &sql, &[Some(table), Some(key)]).await?;
    let restricted = found.iter().any(|line| line["action"] == "restrict");
    let exit = if restricted { Exit::Findings } else { Exit::Ok };
    let columns = ["action", "table_name", "reference", "row_count"];
    Ok(Report::table(found, &columns, "No rows would be deleted.").leaving(exit))
}
