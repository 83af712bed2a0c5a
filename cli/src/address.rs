//! The URL of the database, as libpq reads it (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS>).
//!
//! The driver passes over parameters that it does not know, and takes a URL apart where a password has a character that should have
//! been encoded: what it then takes for the database is a part of the password. So a URL is checked before the driver sees it. No
//! error repeats a part of it, but the name of a parameter, which stands where no password can be.

use std::str::FromStr as _;

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

use crate::failure::Failure;

/// The parameters that are known, by their names in libpq.
const PARAMETERS: [&str; 12] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];

/// Other names that the driver has for them, and one parameter of its own.
const OTHER_NAMES: [&str; 6] = [
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "statement-cache-capacity",
];

/// Reads the URL of a database.
///
/// # Errors
/// [`Failure::BadAddress`], which says why.
pub fn read(url: &str) -> Result<PgConnectOptions, Failure> {
    let bad = |why: String| Failure::BadAddress { why };
    check(url).map_err(bad)?;
    let options = PgConnectOptions::from_str(url)
        .map_err(|error| bad(reason(&error)))?
        .disable_statement_logging();
    let is_named = options.get_application_name().is_some();
    Ok(match is_named {
        true => options,
        false => options.application_name("keepsake"),
    })
}

fn check(url: &str) -> Result<(), String> {
    let rest = ["postgres://", "postgresql://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme))
        .ok_or("it does not begin with postgres:// or postgresql://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (_, place) = rest.split_at(end);
    if place.contains('@') {
        return Err("an @ stands behind the host: in a user or a password, write / as %2F, ? as %3F and # as %23; \
                    elsewhere, write @ as %40"
            .to_owned());
    }
    if place.contains('#') {
        return Err("it has a #: write it as %23".to_owned());
    }
    let query = place.split_once('?').map_or("", |(_, query)| query);
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        check_parameter(&name)?;
    }
    Ok(())
}

fn check_parameter(name: &str) -> Result<(), String> {
    let is_option = name.starts_with("options[") && name.ends_with(']');
    if is_option || PARAMETERS.contains(&name) || OTHER_NAMES.contains(&name) {
        return Ok(());
    }
    let named = match name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        true => format!("a parameter {name}"),
        false => "a parameter".to_owned(),
    };
    Err(format!(
        "it has {named} that this program does not know: it knows {}",
        PARAMETERS.join(", ")
    ))
}

/// What is wrong with a URL, without the URL.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(error) => error.to_string(),
        _ => "it is not a URL".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        read(url).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_with_a_url_is_told_without_its_user_and_password() {
        for url in [
            "postgres://keepsake:/secret@127.0.0.1:5717/app",
            "postgres://keepsake:/secret@127.0.0.1:5717",
            "postgres://keepsake:12/secret@127.0.0.1:5717/app",
            "postgres://keepsake:12?secret@127.0.0.1:5717/app",
            "postgres://keepsake:12?secret=1@127.0.0.1:5717/app",
            "postgres://keepsake:12#secret@127.0.0.1:5717/app",
            "postgres://keepsake:secret/1@127.0.0.1:5717/app",
            "postgres://keepsake:secret?1@127.0.0.1/app?sslmode=disable",
            "postgres:///keepsake:secret@127.0.0.1/app",
            "postgres:/keepsake:secret@127.0.0.1/app",
            "postgres:keepsake:secret@127.0.0.1/app",
            "postgres:keepsake:secret",
            "keepsake:secret@127.0.0.1/app",
            "keepsake://secret",
            "host=127.0.0.1 password=secret",
            "postgres://keepsake:secret%ff@127.0.0.1/app",
            "postgres://keepsake:secret@127.0.0.1:port/app",
            "postgres://keepsake:secret@127.0.0.1:99999/app",
            "postgres://keepsake:secret@[127/app",
            "postgres://keepsake:secret",
            " postgres://keepsake:secret@127.0.0.1/app",
            "postgres://127.0.0.1/app?password=secret&port=secret",
            "postgres://127.0.0.1/app?secret-1=x",
        ] {
            let told = refused(url);
            assert!(!told.contains("secret"), "{url}: {told}");
            assert!(told.contains("hint:"), "{told}");
        }
    }

    #[test]
    fn what_would_be_passed_over_is_refused() {
        for (url, told) in [
            ("postgres://db/app?sslmod=verify-full", "parameter sslmod"),
            (
                "postgres://db/app?sslmode=require&channel_binding=require",
                "parameter channel_binding",
            ),
            (
                "postgres://db/app?connect_timeout=5",
                "application_name, dbname",
            ),
            ("postgres://db/app?=1", "a parameter"),
            ("postgres://db/app#x", "write it as %23"),
            ("mysql://db/app", "does not begin with postgres://"),
            ("POSTGRES://db/app", "does not begin with postgres://"),
        ] {
            let said = refused(url);
            assert!(said.contains(told), "{url}: {said}");
        }
    }

    #[test]
    fn what_is_known_is_taken() {
        let every = "postgresql://me:p%40ss%2Fword@db:6432/app?sslmode=verify-full&sslrootcert=/ca.pem&\
                     sslcert=/a.pem&sslkey=/a.key&application_name=mine&options=-c%20statement_timeout%3D5s";
        let options = read(every).unwrap();
        assert_eq!(options.get_username(), "me");
        assert_eq!((options.get_host(), options.get_port()), ("db", 6432));
        assert_eq!(options.get_application_name(), Some("mine"));
        assert_eq!(options.get_options(), Some("-c statement_timeout=5s"));
        let other =
            "postgres://?host=db&port=6432&dbname=app&user=me&password=p%40ss&hostaddr=127.0.0.1";
        assert_eq!(read(other).unwrap().get_database(), Some("app"));
        let socket = read("postgres:///app?host=/run/postgresql&ssl-mode=disable").unwrap();
        assert!(socket.get_socket().is_some());
        assert!(read("postgres://me@%2Frun%2Fpostgresql/app?options[a]=b").is_ok());
    }
}
