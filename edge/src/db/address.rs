//! `DATABASE_URL`: where PostgreSQL is when no Hyperdrive stands before it.

use std::{fmt, str::FromStr};
use tokio_postgres::config::{Config, Host, SslMode};

/// A server, and how it is reached.
#[derive(Clone)]
pub(crate) struct Address {
    /// Its name, which its certificate has to bear.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
    /// Whether the connection is encrypted.
    pub(super) tls: bool,
    /// User, password, database.
    pub(super) config: Config,
}

/// Why a text is no [`Address`]. It holds no part of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    /// Not a connection URL, or not of one server.
    #[error("must be postgres://user:password@host:port/database?sslmode=verify-full")]
    Form,
    /// A mode in which somebody on the way could have the connection unencrypted.
    #[error("may have sslmode=verify-full, or sslmode=disable within a private network")]
    SslMode,
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

/// Reads a connection URL (<https://www.postgresql.org/docs/current/libpq-connect.html>).
///
/// `sslmode` is `verify-full`, which is the default and which `require` and `verify-ca` mean here,
/// too: the runtime always checks the certificate and the name. `disable` is taken at its word.
impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(AddressError::Form);
        }
        let (plain, options) = text.split_once('?').unwrap_or((text, ""));
        let (modes, others): (Vec<_>, Vec<_>) = options
            .split('&')
            .filter(|option| !option.is_empty())
            .partition(|option| option.starts_with("sslmode="));
        let tls = match modes.as_slice() {
            [] | ["sslmode=verify-full" | "sslmode=verify-ca" | "sslmode=require"] => true,
            ["sslmode=disable"] => false,
            _ => return Err(AddressError::SslMode),
        };
        let mut config: Config = format!("{plain}?{}", others.join("&"))
            .parse()
            .map_err(|_| AddressError::Form)?;
        config.ssl_mode(if tls {
            SslMode::Require
        } else {
            SslMode::Disable
        });
        let ([Host::Tcp(host)], Some(_)) = (config.get_hosts(), config.get_user()) else {
            return Err(AddressError::Form);
        };
        Ok(Self {
            host: host.clone(),
            port: config.get_ports().first().copied().unwrap_or(5432),
            tls,
            config,
        })
    }
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
            "/app?sslmode=verify-full&connect_timeout=5",
        ] {
            assert_eq!(with(end), Ok((host.clone(), 5432, true)), "{end}");
        }
        assert_eq!(with(":6432/app?sslmode=disable"), Ok((host, 6432, false)));
        for end in [
            "/app?sslmode=prefer",
            "/app?sslmode=allow",
            "/app?sslmode=",
            "/app?sslmode=require&sslmode=disable",
        ] {
            assert_eq!(with(end), Err(AddressError::SslMode), "{end}");
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
            "postgres://worker@db.example.com/app?sslrootcert=x",
        ] {
            assert_eq!(read(text), Err(AddressError::Form), "{text}");
        }
    }

    #[test]
    fn shows_no_password() {
        let address: Address = "postgres://worker:topsecret@db.example.com/app"
            .parse()
            .unwrap();
        assert_eq!(address.config.get_password(), Some(b"topsecret".as_slice()));
        assert!(!format!("{address:?}").contains("topsecret"));
    }
}
