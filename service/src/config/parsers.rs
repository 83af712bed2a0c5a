//! The forms that a setting can have. An error says what the setting must be, never what it is.

use crate::model::Scope;
use axum::http::{HeaderName, Uri};
use keepsake_shared::{KeyRing, capabilities::StoreKind};
use std::{fmt, ops::RangeInclusive, str::FromStr};

/// A setting that cannot be used. Its text names the setting, never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting {name}: {problem}")]
pub struct ConfigError {
    /// The setting's name.
    pub name: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl ConfigError {
    /// An error of this setting.
    pub(super) fn new(name: &'static str, problem: impl fmt::Display) -> Self {
        Self {
            name,
            problem: problem.to_string(),
        }
    }
}

/// Where objects are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StorageKind {
    R2,
    File,
    S3,
}

impl FromStr for StorageKind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "r2" => Ok(Self::R2),
            "file" => Ok(Self::File),
            "s3" => Ok(Self::S3),
            _ => Err("must be r2, file or s3"),
        }
    }
}

/// Any text.
pub(super) fn text(value: &str) -> Result<String, String> {
    Ok(value.to_owned())
}

/// A whole number within these bounds.
pub(super) fn number<T>(bounds: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String>
where
    T: FromStr + PartialOrd + fmt::Display,
{
    move |value| {
        value
            .trim()
            .parse()
            .ok()
            .filter(|number| bounds.contains(number))
            .ok_or_else(|| must_be_within(&bounds))
    }
}

/// What a number outside its bounds must be.
pub(super) fn must_be_within(bounds: &RangeInclusive<impl fmt::Display>) -> String {
    format!(
        "must be a whole number from {} to {}",
        bounds.start(),
        bounds.end()
    )
}

/// One of two words; the first means `false`.
pub(super) fn either(words: [&'static str; 2]) -> impl Fn(&str) -> Result<bool, String> {
    move |value| {
        let place = words.iter().position(|word| *word == value);
        place
            .map(|place| place == 1)
            .ok_or_else(|| format!("must be {} or {}", words[0], words[1]))
    }
}

/// What reads itself.
pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(value: &str) -> Result<T, String> {
    value.parse().map_err(|error: T::Err| error.to_string())
}

/// A key ring.
pub(super) fn keys(value: &str) -> Result<KeyRing, String> {
    parsed(value)
}

/// A kind of store that speaks S3.
pub(super) fn kind(value: &str) -> Result<StoreKind, String> {
    let kind = value.parse().ok();
    kind.filter(|kind| *kind != StoreKind::R2Binding)
        .ok_or_else(|| "must be aws, r2, minio, garage or other".to_owned())
}

/// A comma-separated list of origins. `*` is refused: any page could then use a token that it got hold of.
pub(super) fn origins(value: &str) -> Result<Vec<String>, String> {
    list(value, page_origin)
}

/// The names of headers, separated by commas. `*` is refused: it is no name, and browsers take it for all but the token.
pub(super) fn header_names(value: &str) -> Result<String, String> {
    let names = list(value, |name| {
        HeaderName::from_str(name)
            .ok()
            .filter(|_| name != "*")
            .map(|name| name.to_string())
            .ok_or_else(|| "must be names of headers, separated by commas".to_owned())
    })?;
    Ok(names.join(", "))
}

/// Roles, and the scopes that each grants: `role=scope scope`, separated by commas.
pub(super) fn roles(value: &str) -> Result<Vec<(String, Vec<Scope>)>, String> {
    list(value, |entry| {
        let (role, scopes) = entry.rsplit_once('=').unwrap_or_default();
        let scopes: Option<Vec<_>> = scopes.split_whitespace().map(Scope::parse).collect();
        match (role.trim(), scopes) {
            ("", _) | (_, None) => Err(
                "must be role=scope, with scopes of Keepsake between spaces and a comma after each role".to_owned(),
            ),
            (role, Some(scopes)) => Ok((role.to_owned(), scopes)),
        }
    })
}

/// What stands between commas.
pub(super) fn list<T>(
    value: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let entries = value.split(',').map(str::trim);
    entries
        .filter(|entry| !entry.is_empty())
        .map(read)
        .collect()
}

/// The origin of a site: see [`page_origin`].
pub(super) fn origin(value: &str) -> Result<String, String> {
    match page_origin(value) {
        Ok(origin) if value.starts_with("http://") || value.starts_with("https://") => Ok(origin),
        _ => Err("must be an origin such as https://files.example.com, in lower case, with nothing after the host".to_owned()),
    }
}

/// One origin as RFC 6454 §6.2 writes it: scheme, host and port, in lower case, nothing after. The scheme is HTTP's, or
/// that of an app or an extension, such as `capacitor`, `tauri` or `chrome-extension`.
fn page_origin(value: &str) -> Result<String, String> {
    let (scheme, host) = value.split_once("://").unwrap_or_default();
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme != "file"
        && scheme
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.'));
    let is_host = !host.is_empty()
        && host.bytes().all(
            |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b':' | b'[' | b']'),
        );
    if is_scheme && is_host {
        Ok(value.to_owned())
    } else {
        Err("must contain only origins such as https://app.example.com or capacitor://localhost, in lower case, with nothing after the host".to_owned())
    }
}

/// An address that nobody in between can answer for: HTTPS, or this very machine.
pub(super) fn https(value: &str) -> Result<String, String> {
    let parsed: Uri = value.parse().unwrap_or_default();
    let host = parsed.host().unwrap_or_default();
    let plain = parsed
        .authority()
        .is_some_and(|authority| !authority.as_str().contains('@'));
    let trusted = match parsed.scheme_str() {
        Some("https") => true,
        Some("http") => matches!(host, "localhost" | "127.0.0.1" | "[::1]"),
        _ => false,
    };
    if plain && trusted {
        Ok(value.to_owned())
    } else {
        Err("must be an https URL".to_owned())
    }
}
