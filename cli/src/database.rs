//! The connection to the database.

use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::address;
use crate::failure::Failure;

/// Connects to the database at `url`, and sets `actor` if there is one.
pub async fn connect(url: Option<&str>, actor: Option<&str>) -> Result<PgConnection, Failure> {
    let url = url
        .filter(|url| !url.is_empty())
        .ok_or(Failure::NoDatabase)?;
    let options = address::read(url)?;
    check_role(url, options.get_username(), || whoami::username().is_ok())?;
    let place = place(&options);
    let mut connection = PgConnection::connect_with(&options)
        .await
        .map_err(|error| Failure::Unreachable {
            place,
            why: refusal(&error),
        })?;
    if let Some(actor) = actor {
        sqlx::query("SELECT set_config('keepsake.actor', $1, false)")
            .bind(actor)
            .execute(&mut connection)
            .await?;
    }
    Ok(connection)
}

/// Whom sqlx logs in if neither the URL nor `PGUSER` names a role, and the system has no name for this process's user.
const NOBODY: &str = "unknown";

/// Refuses a role that nobody named.
fn check_role(url: &str, role: &str, user_is_known: impl FnOnce() -> bool) -> Result<(), Failure> {
    let is_named = role != NOBODY
        || url.contains(NOBODY)
        || std::env::var("PGUSER").is_ok_and(|named| named == NOBODY);
    if is_named || user_is_known() {
        return Ok(());
    }
    Err(Failure::BadAddress {
        why: "it names no role, and the user of this process has no name that could stand for it"
            .to_owned(),
    })
}

/// Why there is no connection: in the server's words, where it answered. sqlx adds the line of its source.
fn refusal(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(said) => said.message().to_owned(),
        None => error.to_string(),
    }
}

/// Where a connection leads: the socket, or host and port; and the database, where one is named.
fn place(options: &PgConnectOptions) -> String {
    let server = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    match options.get_database() {
        Some(database) => format!("{server}, database {database}"),
        None => server,
    }
}

/// The rows of a query as objects. Their columns are named by the query.
pub async fn rows(
    connection: &mut PgConnection,
    sql: &str,
    arguments: &[Option<&str>],
) -> Result<Vec<Value>, Failure> {
    let sql = format!("SELECT to_jsonb(found) FROM ({sql}) AS found");
    let mut query = sqlx::query_scalar::<_, Value>(AssertSqlSafe(sql));
    for argument in arguments {
        query = query.bind(*argument);
    }
    Ok(query.fetch_all(connection).await?)
}

/// The one value of a query.
pub async fn value<T>(
    connection: &mut PgConnection,
    sql: &'static str,
    arguments: &[Option<&str>],
) -> Result<T, Failure>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    let mut query = sqlx::query_scalar::<_, T>(sql);
    for argument in arguments {
        query = query.bind(*argument);
    }
    Ok(query.fetch_one(connection).await?)
}

/// Runs statements that return nothing.
pub async fn run(connection: &mut PgConnection, sql: &'static str) -> Result<(), Failure> {
    connection.execute(sqlx::raw_sql(sql)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use super::*;

    #[test]
    fn a_url_without_a_role_means_the_user_of_the_system() {
        let id = std::process::Command::new("id")
            .arg("-un")
            .output()
            .unwrap();
        let user = String::from_utf8(id.stdout).unwrap();
        // What the environment says goes first, as it does in psql.
        let wanted = std::env::var("PGUSER").unwrap_or(user);
        let options = PgConnectOptions::from_str("postgres:///app").unwrap();
        assert_eq!(options.get_username(), wanted.trim());
    }

    #[test]
    fn the_role_is_no_part_of_the_place() {
        for (url, shown) in [
            ("postgres://me:word@db:6432/app", "db:6432, database app"),
            ("postgres://me:word@db/?host=/run/pg", "/run/pg"),
        ] {
            let shown_by_us = place(&address::read(url).unwrap());
            assert!(shown_by_us.starts_with(shown), "{shown_by_us}");
            assert!(!shown_by_us.contains("me"), "{shown_by_us}");
        }
    }

    #[test]
    fn a_role_that_nobody_named_is_refused() {
        let refused = check_role("postgres:///app", NOBODY, || false).unwrap_err();
        assert!(refused.to_string().contains("names no role"), "{refused}");
        for (url, role, known) in [
            ("postgres:///app", "alice", false),
            ("postgres://unknown@db/app", NOBODY, false),
            ("postgres:///app", NOBODY, true),
        ] {
            assert!(
                check_role(url, role, || known).is_ok(),
                "{url} {role} {known}"
            );
        }
    }
}
