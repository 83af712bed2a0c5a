//! The settings: those of the service, and the server's own. The environment goes before the file.

use crate::traces;
use axum::http::HeaderName;
use keepsake_service::config::{Config, ConfigError, NAMES, StoreSettings};
use std::{
    collections::HashMap,
    ffi::OsString,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Every setting of the server's own, with its default, if it has one. `docs/settings.md` explains them.
const OWN: [(&str, &str); 9] = [
    ("LISTEN", "127.0.0.1:8787"),
    ("PUBLIC_ORIGIN", ""),
    ("ADDRESS_HEADER", ""),
    ("MAX_CONNECTIONS", "1000"),
    ("DATABASE_CONNECTIONS", "10"),
    ("REQUESTS_PER_MINUTE", "1000"),
    ("SCHEDULE_SECONDS", "300"),
    ("STOP_SECONDS", "30"),
    ("PAGE_ROOT", ""),
];

/// The settings, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Those of the service.
    pub(crate) config: Arc<Config>,
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// The origin that clients see, where a proxy is in front.
    pub(crate) public_origin: Option<String>,
    /// The header in which the proxy in front tells the client's address.
    pub(crate) address_header: Option<HeaderName>,
    /// Most connections of clients.
    pub(crate) max_connections: u32,
    /// Most connections to the database.
    pub(crate) connections: usize,
    /// Most requests of one caller in a minute; 0 for any number.
    pub(crate) requests_per_minute: u32,
    /// How long from one run of the scheduled work to the next; none where it is run from outside.
    pub(crate) schedule: Option<Duration>,
    /// How long requests may take to end when the server is told to stop.
    pub(crate) stop: Duration,
    /// The folder of the page's files.
    pub(crate) page_root: Option<PathBuf>,
    /// What is traced, if anything is.
    pub(crate) traces: traces::Asked,
}

/// A setting that cannot be used, or a file of them. No value is repeated but the name of a folder.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// The file is no TOML.
    #[error("{0} is no TOML, line {1}")]
    Toml(PathBuf, usize),
    /// There is no such setting.
    #[error("there is no setting {0}: docs/settings.md lists them")]
    Unknown(String),
    /// A setting cannot be used.
    #[error("setting {0}: {1}")]
    Setting(&'static str, String),
    /// The folder that a setting names cannot be used.
    #[error("setting {0}: {1} cannot be used: {2}")]
    Folder(&'static str, PathBuf, #[source] io::Error),
}

impl SettingsError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> String {
        let hint = match self {
            Self::File(..) => "name a file that exists, and that the user of this process may read",
            Self::Folder(..) => "let the user of this process use it, or name another folder",
            Self::Toml(..) | Self::Unknown(_) | Self::Setting(..) => {
                "correct the settings, then start it again"
            }
        };
        hint.to_owned()
    }
}

impl From<ConfigError> for SettingsError {
    fn from(error: ConfigError) -> Self {
        Self::Setting(error.name, error.problem)
    }
}

impl Settings {
    /// Reads the environment and a file; a database that is given goes before both.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub(crate) fn read(
        file: Option<&Path>,
        database_url: Option<String>,
    ) -> Result<Self, SettingsError> {
        let given = match file {
            Some(path) => read_file(path)?,
            None => HashMap::new(),
        };
        let mut given = with_environment(given, |name| std::env::var_os(name))?;
        put(&mut given, "DATABASE_URL", database_url);
        Self::of(|name| given.get(name).cloned())
    }

    fn of(lookup: impl Fn(&'static str) -> Option<String>) -> Result<Self, SettingsError> {
        let config = Config::read(|name| Ok(lookup(name)))?;
        if matches!(config.store, StoreSettings::R2) {
            return Err(setting("STORAGE", "must be file or s3: r2 is the worker's"));
        }
        if config.database.is_none() {
            return Err(setting("DATABASE_URL", "is required"));
        }
        let own = |name: &'static str| {
            let default = own_names().find(|(own, _)| *own == name);
            let value = lookup(name).filter(|value| !value.trim().is_empty());
            value.unwrap_or_else(|| default.map_or("", |(_, value)| value).to_owned())
        };
        let optional = |name| Some(own(name)).filter(|value| !value.is_empty());
        let number = |name, least: u32, most: u32| {
            let number = own(name).trim().parse().ok();
            number
                .filter(|number| (least..=most).contains(number))
                .ok_or_else(|| {
                    setting(
                        name,
                        &format!("must be a whole number from {least} to {most}"),
                    )
                })
        };
        let public_origin = optional("PUBLIC_ORIGIN");
        if public_origin
            .as_deref()
            .is_some_and(|origin| !is_origin(origin))
        {
            return Err(setting(
                "PUBLIC_ORIGIN",
                "must be like https://files.example.com",
            ));
        }
        let seconds = |number: u32| Duration::from_secs(number.into());
        let schedule = number("SCHEDULE_SECONDS", 0, 86_400)?;
        let settings = Self {
            config: Arc::new(config),
            listen: own("LISTEN")
                .parse()
                .map_err(|_| setting("LISTEN", "must be like 127.0.0.1:8787 or [::]:8787"))?,
            public_origin,
            address_header: optional("ADDRESS_HEADER")
                .map(|name| name.trim().parse())
                .transpose()
                .map_err(|_| setting("ADDRESS_HEADER", "must be a header like X-Forwarded-For"))?,
            max_connections: number("MAX_CONNECTIONS", 1, 1_000_000)?,
            connections: number("DATABASE_CONNECTIONS", 1, 1000)? as usize,
            requests_per_minute: number("REQUESTS_PER_MINUTE", 0, u32::MAX)?,
            schedule: (schedule > 0).then(|| seconds(schedule)),
            stop: seconds(number("STOP_SECONDS", 0, 3600)?),
            page_root: optional("PAGE_ROOT").map(PathBuf::from),
            traces: traces::Asked::read(own)
                .map_err(|(name, problem)| SettingsError::Setting(name, problem))?,
        };
        Ok(settings)
    }
}

/// Every setting that the service does not have, with its default.
fn own_names() -> impl Iterator<Item = (&'static str, &'static str)> {
    OWN.into_iter().chain(traces::NAMES)
}

/// Every setting that there is.
fn names() -> impl Iterator<Item = &'static str> {
    NAMES
        .iter()
        .copied()
        .chain(own_names().map(|(name, _)| name))
}

/// Settings by their names.
type Given = HashMap<&'static str, String>;

/// Puts a value before the one that a setting has. A blank one is none, and hides no other.
fn put(given: &mut Given, name: &'static str, value: Option<String>) {
    if let Some(value) = value.filter(|value| !value.trim().is_empty()) {
        given.insert(name, value);
    }
}

/// Puts the environment before what a file has.
fn with_environment(
    mut given: Given,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Given, SettingsError> {
    for name in names() {
        let value = environment(name).map(|value| text(name, value));
        put(&mut given, name, value.transpose()?);
    }
    Ok(given)
}

/// A variable as text. One that is none was meant to be something, and is not taken for unset. Those of traces stop no server: what is
/// left of their text is judged where they are read.
fn text(name: &'static str, value: OsString) -> Result<String, SettingsError> {
    value.into_string().or_else(|value| {
        let is_of_traces = traces::NAMES.iter().any(|(known, _)| *known == name);
        is_of_traces
            .then(|| value.to_string_lossy().into_owned())
            .ok_or_else(|| setting(name, "must be text in UTF-8"))
    })
}

fn setting(name: &'static str, problem: &str) -> SettingsError {
    SettingsError::Setting(name, problem.to_owned())
}

fn is_origin(text: &str) -> bool {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        host.parse::<axum::http::uri::Authority>().is_ok() && !host.contains('@')
    })
}

fn read_file(path: &Path) -> Result<Given, SettingsError> {
    let text =
        fs::read_to_string(path).map_err(|error| SettingsError::File(path.to_owned(), error))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        // Its own text repeats the line, which may hold a secret.
        let begin = error.span().map_or(0, |span| span.start);
        let before = text.get(..begin).unwrap_or_default();
        SettingsError::Toml(path.to_owned(), before.matches('\n').count() + 1)
    })?;
    let mut given = HashMap::new();
    for (name, value) in table {
        let Some(known) = names().find(|known| *known == name) else {
            return Err(SettingsError::Unknown(name));
        };
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(truth) => truth.to_string(),
            _ => return Err(setting(known, "must be a text, a number, true or false")),
        };
        given.insert(known, value);
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    const KEYS: &str = "k1:a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5";

    fn read(given: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let usual = [
            ("STORAGE", "file"),
            ("FILE_ROOT", "/srv/files"),
            ("DATABASE_URL", "postgres://a:hunter2@db/app"),
            ("JWT_KEYS", KEYS),
            ("URL_KEYS", KEYS),
        ];
        Settings::of(|name| {
            let mut all = given.iter().chain(&usual);
            all.find(|(given, _)| *given == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_is_not_given_has_its_default() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:8787");
        assert_eq!(settings.schedule, Some(Duration::from_secs(300)));
        assert_eq!(read(&[("SCHEDULE_SECONDS", "0")]).unwrap().schedule, None);
    }

    #[test]
    fn names_the_setting_that_is_wrong_and_keeps_its_value_to_itself() {
        for (name, value) in [
            ("STORAGE", "r2"),
            ("STORAGE", "hunter2"),
            ("FILE_ROOT", " "),
            ("DATABASE_URL", ""),
            ("LISTEN", "hunter2"),
            ("PUBLIC_ORIGIN", "https://hunter2/path"),
            ("PUBLIC_ORIGIN", "ftp://hunter2"),
            ("DATABASE_CONNECTIONS", "0"),
            ("STOP_SECONDS", "hunter2"),
            ("ADDRESS_HEADER", "hunter2: x"),
            ("MAX_CONNECTIONS", "0"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "hunter2"),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name), "{name}={value}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    /// A file's settings behind an environment of one variable.
    fn beside(name: &'static str, value: &[u8]) -> Result<Given, SettingsError> {
        let file = Given::from([("LISTEN", "file".to_owned())]);
        let value = OsString::from_vec(value.to_vec());
        with_environment(file, |asked| (asked == name).then(|| value.clone()))
    }

    #[test]
    fn what_is_blank_hides_nothing() {
        for (value, listens) in [("", "file"), (" ", "file"), ("b", "b")] {
            let given = beside("LISTEN", value.as_bytes()).unwrap();
            assert_eq!(given["LISTEN"], listens);
        }
        let mut given = Given::new();
        put(&mut given, "DATABASE_URL", Some(" ".to_owned()));
        assert!(given.is_empty());
    }

    #[test]
    fn what_is_no_text_is_not_taken_for_unset() {
        for name in ["JWT_AUDIENCE", "JWT_ISSUER", "LISTEN"] {
            let error = beside(name, b"hunter2\xff").unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("UTF-8"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(beside("UNKNOWN", b"\xff").is_ok());
        let given = beside("OTEL_SDK_DISABLED", b"true\xff").unwrap();
        assert_eq!(given["OTEL_SDK_DISABLED"], "true\u{fffd}");
    }

    #[test]
    fn a_file_may_have_every_setting_and_no_other() {
        let path = std::env::temp_dir().join(format!("keepsake-{}.toml", uuid::Uuid::new_v4()));
        let of = |text: &str| {
            fs::write(&path, text).unwrap();
            read_file(&path)
        };
        let given = of("LISTEN = \"[::]:80\"\nMAX_FILES = 3\n").unwrap();
        assert_eq!(
            (given["LISTEN"].as_str(), given["MAX_FILES"].as_str()),
            ("[::]:80", "3")
        );
        let given = of("OTEL_TRACES_SAMPLER_ARG = 0.1\nOTEL_SDK_DISABLED = true\n").unwrap();
        let values = ["OTEL_TRACES_SAMPLER_ARG", "OTEL_SDK_DISABLED"].map(|name| &*given[name]);
        assert_eq!(values, ["0.1", "true"]);
        let error = of("MAX_FILES = [3]").unwrap_err().to_string();
        assert!(error.contains("MAX_FILES"), "{error}");
        assert!(
            of("LISTN = \"x\"")
                .unwrap_err()
                .to_string()
                .contains("LISTN")
        );
        let error = of("MAX_FILES = 3\nURL_KEYS = hunter2\n")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("line 2") && !error.contains("hunter2"),
            "{error}"
        );
        fs::remove_file(&path).unwrap();
    }
}
