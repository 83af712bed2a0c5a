//! `DATABASE_URL`: where PostgreSQL is when no Hyperdrive stands before it.

use axum::http::Uri;
use percent_encoding::percent_decode_str;
use std::{fmt, str::FromStr};

/// A server, and how it is reached.
#[derive(Clone)]
pub struct Address {
    /// Its name, which its certificate has to bear.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// As whom, and to which database.
    pub login: Login,
}

/// Who logs in.
#[derive(Clone)]
pub struct Login {
    /// The role.
    pub user: String,
    /// Its password; empty when the server asks for none.
    pub password: Vec<u8>,
    /// The database.
    pub database: String,
    /// Whether the server may have the password in any form that it asks for, and need not prove that it knows it.
    pub open: bool,
}

/// Why a text is no [`Address`]. It holds no part of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a connection URL, or not of one server.
    #[error("must be postgres://user:password@host:port/database?sslmode=verify-full")]
    Form,
    /// Another option than `sslmode`, or a mode in which somebody on the way could have the
    /// connection unencrypted.
    #[error(
        "may have sslmode=verify-full, or sslmode=disable within a private network, and no other option"
    )]
    Options,
}

/// The password stays out of every log.
impl fmt::Debug for Login {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Login").finish_non_exhaustive()
    }
}

/// The password stays out of every log.
impl fmt::Debug for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Address")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// Reads a connection URL (<https://www.postgresql.org/docs/current/libpq-connect.html>), in which
/// special characters of the user and the password are percent-encoded.
///
/// Its one option is `sslmode`: `verify-full`, which is the default and which `require` and
/// `verify-ca` mean here, too, as the runtime always checks the certificate and the name; or
/// `disable`, taken at its word.
impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let url: Uri = text.parse().map_err(|_| AddressError::Form)?;
        let authority = url.authority().ok_or(AddressError::Form)?;
        let (user, server) = authority
            .as_str()
            .rsplit_once('@')
            .ok_or(AddressError::Form)?;
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let database = url.path().trim_start_matches('/');
        let host = authority.host();
        // libpq takes a list of hosts; this is of one.
        let named = !user.is_empty()
            && !host.is_empty()
            && !host.contains(',')
            && (server == host || authority.port_u16().is_some())
            && !database.is_empty()
            // Of a password with a slash that is not encoded, the end would be taken for the database, and be traced.
            && !database.contains('@');
        if !named || !matches!(url.scheme_str(), Some("postgres" | "postgresql")) {
            return Err(AddressError::Form);
        }
        let tls = match url.query() {
            None | Some("sslmode=verify-full" | "sslmode=verify-ca" | "sslmode=require") => true,
            Some("sslmode=disable") => false,
            Some(_) => return Err(AddressError::Options),
        };
        Ok(Self {
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(5432),
            tls,
            login: Login {
                user: decode(user)?,
                password: percent_decode_str(password).collect(),
                database: decode(database)?,
                open: false,
            },
        })
    }
}

fn decode(text: &str) -> Result<String, AddressError> {
    let text = percent_decode_str(text).decode_utf8();
    Ok(text.map_err(|_| AddressError::Form)?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, u16, bool), AddressError> {
        let Address {
            host, port, tls, ..
        } = text.parse()?;
        Ok((host, port, tls))
    }

    #[test]
    fn encrypts_unless_told_not_to() {
        let with = |end: &str| read(&format!("postgres://worker:p%40ss@db.example.com{end}"));
        let host = "db.example.com".to_owned();
        for end in [
            "/app",
            ":5432/app?sslmode=require",
            "/app?sslmode=verify-ca",
            "/app?sslmode=verify-full",
        ] {
            assert_eq!(with(end), Ok((host.clone(), 5432, true)), "{end}");
        }
        assert_eq!(with(":6432/app?sslmode=disable"), Ok((host, 6432, false)));
        for end in [
            "/app?sslmode=prefer",
            "/app?sslmode=allow",
            "/app?sslmode=",
            "/app?sslmode=require&sslmode=disable",
            "/app?connect_timeout=5",
        ] {
            assert_eq!(with(end), Err(AddressError::Options), "{end}");
        }
    }

    #[test]
    fn refuses_what_names_no_one_server() {
        for text in [
            "",
            "host=db user=worker",
            "https://worker@db.example.com/app",
            "postgres:///app",
            "postgres://db.example.com/app",
            "postgres://worker@a.example.com,b.example.com/app",
            "postgres://worker@db.example.com:port/app",
            "postgres://worker@db:5/secret@db.example.com/app",
            "postgres://worker@db.example.com",
        ] {
            assert_eq!(read(text), Err(AddressError::Form), "{text}");
        }
    }

    #[test]
    fn shows_no_password() {
        let address: Address = "postgres://worker:topsecret@db.example.com/app"
            .parse()
            .unwrap();
        assert_eq!(address.login.password, b"topsecret");
        assert!(!format!("{address:?}").contains("secret"));
    }
}
