//! The worker's settings, read once and checked whole.
//!
//! Plain settings are `[vars]` in `wrangler.toml`; the two key rings are secrets. A setting that is
//! missing takes its default. While one is wrong the worker answers 500 to every request, `/healthz`
//! included, and the log names it.

use crate::{db::Address, storage::S3Settings};
use axum::http::Uri;
use keepsake_shared::{
    FileTypes, KeyRing, Limits,
    capabilities::{Capabilities, StoreKind},
    sigv4,
    upload::PartPlan,
};
use std::{fmt, ops::RangeInclusive, sync::Arc};

/// Seconds a signed URL may live, whatever the setting says. Seven days is the longest SigV4
/// allows; an hour is the longest that makes sense for a URL that whoever holds it may use.
const URL_LIFETIME: RangeInclusive<u64> = 1..=3600;

/// The largest object of S3 and R2: 5 TiB.
const MAX_OBJECT_BYTES: u64 = 5 << 40;

/// Everything the worker can be told.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where the bytes are.
    pub(crate) store: StoreSettings,
    /// Origins whose pages may call the API, exactly as a browser sends them.
    pub(crate) allowed_origins: Vec<String>,
    /// What one upload set may hold.
    pub(crate) limits: Limits,
    /// Files of more bytes are uploaded in parts.
    pub(crate) multipart_threshold: u64,
    /// The bytes of a part, but where the store wants larger ones.
    pub(crate) part_bytes: u64,
    /// Seconds a set may take of which a file is uploaded in parts.
    pub(crate) multipart_ttl: u64,
    /// The most pixels of a picture.
    pub(crate) max_image_pixels: u64,
    /// Seconds an upload URL works.
    pub(crate) upload_ttl: u64,
    /// Seconds a download URL works.
    pub(crate) download_ttl: u64,
    /// Seconds for which downloads of one file get one URL; 0 for a new one each time.
    pub(crate) download_window: u64,
    /// PostgreSQL itself, instead of a Hyperdrive binding.
    pub(crate) database: Option<Address>,
    /// Whether the Hyperdrive binding may ask for the password in any form, and not by SCRAM alone.
    pub(crate) hyperdrive_open: bool,
    /// How bearer tokens are checked.
    pub(crate) tokens: TokenSettings,
    /// Keys of those who send scan verdicts; without any, none is taken.
    pub(crate) scan_keys: Option<KeyRing>,
    /// Keys for the upload and download URLs the worker serves itself.
    pub(crate) url_keys: KeyRing,
    /// Origin of the signed object URLs; the request's own when not set. A domain of its own keeps
    /// users' files away from the application's origin.
    pub(crate) objects_origin: Option<String>,
}

impl Config {
    /// What works and should not stay so, for the log of a worker that starts.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        let tokens = &self.tokens;
        (tokens.jwks.is_some() && tokens.audience.is_none()).then_some(
            "JWT_AUDIENCE is not set: whatever the issuer of JWKS_URL signs for anybody, ID tokens of other \
             applications among it, is taken here if it names a scope and a tenant. Set it to the audience that \
             the issuer gives tokens for this worker.",
        )
    }

    /// The parts of a file of so many bytes; `None` for one that is uploaded whole.
    pub(crate) fn parts_of(&self, file_bytes: u64) -> Option<PartPlan> {
        (file_bytes > self.multipart_threshold)
            .then(|| {
                let rules = self.store.capabilities().parts;
                PartPlan::new(file_bytes, self.part_bytes, &rules).ok()
            })
            .flatten()
    }

    /// The origin of signed object URLs, where it is not the request's own.
    pub(crate) fn store_origin(&self) -> Option<String> {
        match &self.store {
            StoreSettings::R2 => self.objects_origin.clone(),
            StoreSettings::S3(s3) => {
                let endpoint = s3.bucket.endpoint();
                Some(format!("{}{}", endpoint.scheme(), endpoint.host()))
            }
        }
    }
}

/// Where the bytes are.
#[derive(Debug)]
pub(crate) enum StoreSettings {
    /// In an R2 bucket, through the worker's binding.
    R2,
    /// In a store that speaks S3.
    S3(Arc<S3Settings>),
}

impl StoreSettings {
    /// What the store can do.
    pub(crate) fn capabilities(&self) -> Capabilities {
        match self {
            Self::R2 => StoreKind::R2Binding.capabilities(),
            Self::S3(settings) => settings.kind.capabilities(),
        }
    }
}

/// What a bearer token must satisfy.
#[derive(Debug)]
pub(crate) struct TokenSettings {
    /// Secrets by `kid`, for HS256.
    pub(crate) keys: Option<KeyRing>,
    /// Where the issuer publishes its keys, for RS256 and ES256.
    pub(crate) jwks: Option<JwksSettings>,
    /// Required `iss`, if set.
    pub(crate) issuer: Option<String>,
    /// Required member of `aud`, if set.
    pub(crate) audience: Option<String>,
    /// Seconds by which the issuer's clock may differ from ours.
    pub(crate) leeway: u32,
}

/// The issuer's JSON Web Key Set.
#[derive(Debug)]
pub(crate) struct JwksSettings {
    /// Its address.
    pub(crate) url: String,
    /// Seconds for which a set is fresh.
    pub(crate) lifetime_seconds: i64,
    /// Least seconds from one question for a newer set to the next.
    pub(crate) refresh_seconds: i64,
}

/// A setting that cannot be used. Its text names the setting, never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting {name}: {problem}")]
pub(crate) struct ConfigError {
    /// The setting's name.
    pub(crate) name: &'static str,
    /// What is wrong with it.
    pub(crate) problem: String,
}

impl ConfigError {
    fn new(name: &'static str, problem: impl fmt::Display) -> Self {
        Self {
            name,
            problem: problem.to_string(),
        }
    }
}

impl Config {
    /// Reads all settings through `lookup`, which answers `None` for one that is not set.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub(crate) fn read(
        lookup: impl Fn(&'static str) -> Result<Option<String>, ConfigError>,
    ) -> Result<Self, ConfigError> {
        let text = |name| Ok(lookup(name)?.filter(|value| !value.trim().is_empty()));
        let defaults = Limits::default();
        let store = store(text)?;
        let Capabilities {
            max_put_bytes,
            parts,
            ..
        } = store.capabilities();
        let multipart_threshold = number(
            "MULTIPART_THRESHOLD_BYTES",
            text("MULTIPART_THRESHOLD_BYTES")?,
            64 << 20,
            1..=max_put_bytes,
        )?;
        let part_bytes = number(
            "PART_BYTES",
            text("PART_BYTES")?,
            16 << 20,
            parts.min_bytes..=parts.max_bytes,
        )?;
        let max_object_bytes =
            MAX_OBJECT_BYTES.min(parts.max_bytes.saturating_mul(parts.max_parts.into()));
        Ok(Self {
            multipart_threshold,
            part_bytes,
            multipart_ttl: number(
                "MULTIPART_TTL_SECONDS",
                text("MULTIPART_TTL_SECONDS")?,
                86_400,
                1..=604_800,
            )?,
            store,
            allowed_origins: origins(text("ALLOWED_ORIGINS")?)?,
            limits: Limits {
                max_files: number("MAX_FILES", text("MAX_FILES")?, defaults.max_files, 1..=100)?,
                max_file_bytes: number(
                    "MAX_FILE_BYTES",
                    text("MAX_FILE_BYTES")?,
                    defaults.max_file_bytes,
                    1..=max_object_bytes,
                )?,
                max_set_bytes: number(
                    "MAX_SET_BYTES",
                    text("MAX_SET_BYTES")?,
                    defaults.max_set_bytes,
                    1..=100 * MAX_OBJECT_BYTES,
                )?,
                file_types: file_types(text("FILE_TYPES")?)?,
                number_duplicates: number_duplicates(text("DUPLICATE_NAMES")?.as_deref())?,
            },
            max_image_pixels: number(
                "MAX_IMAGE_PIXELS",
                text("MAX_IMAGE_PIXELS")?,
                268_435_456,
                1..=u64::MAX,
            )?,
            upload_ttl: number(
                "UPLOAD_TTL_SECONDS",
                text("UPLOAD_TTL_SECONDS")?,
                900,
                URL_LIFETIME,
            )?,
            download_ttl: number(
                "DOWNLOAD_TTL_SECONDS",
                text("DOWNLOAD_TTL_SECONDS")?,
                300,
                URL_LIFETIME,
            )?,
            download_window: number(
                "DOWNLOAD_WINDOW_SECONDS",
                text("DOWNLOAD_WINDOW_SECONDS")?,
                0,
                0..=3600,
            )?,
            database: text("DATABASE_URL")?
                .map(|url| {
                    url.parse()
                        .map_err(|error| ConfigError::new("DATABASE_URL", error))
                })
                .transpose()?,
            hyperdrive_open: match text("HYPERDRIVE_LOGIN")?.as_deref() {
                None | Some("scram") => false,
                Some("password") => true,
                Some(_) => {
                    return Err(ConfigError::new(
                        "HYPERDRIVE_LOGIN",
                        "must be scram or password",
                    ));
                }
            },
            tokens: tokens(text)?,
            url_keys: keys("URL_KEYS", text("URL_KEYS")?)?.ok_or_else(|| {
                ConfigError::new(
                    "URL_KEYS",
                    "is required: kid:base64, several separated by commas",
                )
            })?,
            scan_keys: keys("SCAN_KEYS", text("SCAN_KEYS")?)?,
            objects_origin: text("OBJECTS_ORIGIN")?
                .map(|value| origin("OBJECTS_ORIGIN", &value))
                .transpose()?,
        })
    }
}

fn store(
    text: impl Fn(&'static str) -> Result<Option<String>, ConfigError>,
) -> Result<StoreSettings, ConfigError> {
    match text("STORAGE")?.as_deref() {
        None | Some("r2") => Ok(StoreSettings::R2),
        Some("s3") => Ok(StoreSettings::S3(Arc::new(s3(text)?))),
        Some(_) => Err(ConfigError::new("STORAGE", "must be r2 or s3")),
    }
}

fn s3(
    text: impl Fn(&'static str) -> Result<Option<String>, ConfigError>,
) -> Result<S3Settings, ConfigError> {
    let required = |name| text(name)?.ok_or_else(|| ConfigError::new(name, "is required for s3"));
    let endpoint = sigv4::Endpoint::parse(&required("S3_ENDPOINT")?)
        .map_err(|error| ConfigError::new("S3_ENDPOINT", error))?;
    let kind = match text("S3_KIND")? {
        Some(name) => name
            .parse()
            .ok()
            .filter(|kind| *kind != StoreKind::R2Binding)
            .ok_or_else(|| {
                ConfigError::new("S3_KIND", "must be aws, r2, minio, garage or other")
            })?,
        None => StoreKind::of_host(endpoint.host()),
    };
    let name = required("S3_BUCKET")?;
    let bucket = match text("S3_ADDRESSING")?.as_deref() {
        None | Some("path") => sigv4::Bucket::path_style(endpoint, &name),
        Some("virtual") => sigv4::Bucket::virtual_hosted(endpoint, &name),
        Some(_) => {
            return Err(ConfigError::new("S3_ADDRESSING", "must be path or virtual"));
        }
    }
    .map_err(|error| ConfigError::new("S3_BUCKET", error))?;
    let credentials = sigv4::Credentials::new(
        &required("S3_ACCESS_KEY_ID")?,
        &required("S3_SECRET_ACCESS_KEY")?,
        text("S3_SESSION_TOKEN")?.as_deref(),
    )
    .map_err(|error| {
        let name = match error {
            sigv4::SigV4Error::SecretAccessKey => "S3_SECRET_ACCESS_KEY",
            sigv4::SigV4Error::SessionToken => "S3_SESSION_TOKEN",
            _ => "S3_ACCESS_KEY_ID",
        };
        ConfigError::new(name, error)
    })?;
    let region = text("S3_REGION")?.unwrap_or_else(|| "auto".to_owned());
    let signer = sigv4::Signer::s3(credentials, &region)
        .map_err(|error| ConfigError::new("S3_REGION", error))?;
    Ok(S3Settings::new(kind, bucket, signer))
}

/// A comma-separated list of origins. `*` is refused: any page could then use a token it got hold
/// of.
fn origins(value: Option<String>) -> Result<Vec<String>, ConfigError> {
    value
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(|entry| origin("ALLOWED_ORIGINS", entry))
        .collect()
}

/// One origin as RFC 6454 §6.2 writes it: scheme, host and port, lower case, nothing after.
fn origin(name: &'static str, value: &str) -> Result<String, ConfigError> {
    let host = value
        .strip_prefix("https://")
        .or_else(|| value.strip_prefix("http://"))
        .unwrap_or_default();
    let well_formed = !host.is_empty()
        && host
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b':' | b'[' | b']'));
    if well_formed {
        Ok(value.to_owned())
    } else {
        Err(ConfigError::new(
            name,
            "must be made of origins such as https://app.example.com, in lower case and with nothing after the host",
        ))
    }
}

fn number<T>(
    name: &'static str,
    value: Option<String>,
    default: T,
    bounds: RangeInclusive<T>,
) -> Result<T, ConfigError>
where
    T: std::str::FromStr + PartialOrd + fmt::Display,
{
    let Some(text) = value else {
        return Ok(default);
    };
    text.trim()
        .parse()
        .ok()
        .filter(|number| bounds.contains(number))
        .ok_or_else(|| {
            ConfigError::new(
                name,
                format_args!(
                    "must be a whole number from {} to {}",
                    bounds.start(),
                    bounds.end()
                ),
            )
        })
}

fn file_types(value: Option<String>) -> Result<FileTypes, ConfigError> {
    value.map_or_else(
        || Ok(FileTypes::default()),
        |text| {
            text.parse()
                .map_err(|error| ConfigError::new("FILE_TYPES", error))
        },
    )
}

fn number_duplicates(value: Option<&str>) -> Result<bool, ConfigError> {
    match value {
        None | Some("refuse") => Ok(false),
        Some("number") => Ok(true),
        Some(_) => Err(ConfigError::new(
            "DUPLICATE_NAMES",
            "must be refuse or number",
        )),
    }
}

fn keys(name: &'static str, value: Option<String>) -> Result<Option<KeyRing>, ConfigError> {
    value
        .map(|text| text.parse().map_err(|error| ConfigError::new(name, error)))
        .transpose()
}

/// Secrets, published keys, or both; at least one of them.
fn tokens(
    text: impl Fn(&'static str) -> Result<Option<String>, ConfigError>,
) -> Result<TokenSettings, ConfigError> {
    let keys = keys("JWT_KEYS", text("JWT_KEYS")?)?;
    let jwks = text("JWKS_URL")?.map(|url| jwks(url, &text)).transpose()?;
    if keys.is_none() && jwks.is_none() {
        return Err(ConfigError::new(
            "JWT_KEYS",
            "is required without JWKS_URL: kid:base64, several separated by commas",
        ));
    }
    let issuer = text("JWT_ISSUER")?;
    // RFC 8725 §3.8: published keys may well sign for others too.
    if jwks.is_some() && issuer.is_none() {
        return Err(ConfigError::new("JWT_ISSUER", "is required with JWKS_URL"));
    }
    Ok(TokenSettings {
        keys,
        jwks,
        issuer,
        audience: text("JWT_AUDIENCE")?,
        leeway: number(
            "JWT_LEEWAY_SECONDS",
            text("JWT_LEEWAY_SECONDS")?,
            30,
            0..=300,
        )?,
    })
}

/// The address has to be one that nobody on the way can answer for: HTTPS, or this very machine.
fn jwks(
    url: String,
    text: impl Fn(&'static str) -> Result<Option<String>, ConfigError>,
) -> Result<JwksSettings, ConfigError> {
    let parsed: Uri = url.parse().unwrap_or_default();
    let host = parsed.host().unwrap_or_default();
    let plain = parsed
        .authority()
        .is_some_and(|authority| !authority.as_str().contains('@'));
    let trusted = match parsed.scheme_str() {
        Some("https") => true,
        Some("http") => matches!(host, "localhost" | "127.0.0.1" | "[::1]"),
        _ => false,
    };
    if !plain || !trusted {
        return Err(ConfigError::new("JWKS_URL", "must be an https URL"));
    }
    Ok(JwksSettings {
        url,
        lifetime_seconds: number(
            "JWKS_TTL_SECONDS",
            text("JWKS_TTL_SECONDS")?,
            600,
            1..=86_400,
        )?,
        refresh_seconds: number(
            "JWKS_REFRESH_SECONDS",
            text("JWKS_REFRESH_SECONDS")?,
            30,
            1..=3600,
        )?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "k1:a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5";

    const S3: [(&str, &str); 6] = [
        ("STORAGE", "s3"),
        ("S3_ENDPOINT", "https://acct.r2.cloudflarestorage.com"),
        ("S3_BUCKET", "files"),
        ("S3_ACCESS_KEY_ID", "AKIA"),
        ("S3_SECRET_ACCESS_KEY", "hunter2"),
        ("S3_SESSION_TOKEN", "FwoGZXIvYXdz"),
    ];

    fn read(settings: &[(&'static str, &str)]) -> Result<Config, ConfigError> {
        Config::read(|name| {
            let given = settings.iter().find(|(given, _)| *given == name);
            let secret = name.ends_with("_KEYS").then(|| KEY.to_owned());
            Ok(given.map(|(_, value)| (*value).to_owned()).or(secret))
        })
    }

    #[test]
    fn has_defaults_for_all_but_the_keys() {
        let config = read(&[]).unwrap();
        assert_eq!(config.limits, Limits::default());
        assert_eq!((config.upload_ttl, config.download_ttl), (900, 300));
        assert!(config.allowed_origins.is_empty());
        assert!(config.tokens.issuer.is_none() && config.tokens.audience.is_none());
        assert_eq!(read(&[("JWT_KEYS", " ")]).unwrap_err().name, "JWT_KEYS");
        assert_eq!(read(&[("URL_KEYS", "")]).unwrap_err().name, "URL_KEYS");
    }

    #[test]
    fn reads_what_is_set() {
        let config = read(&[
            (
                "ALLOWED_ORIGINS",
                "https://a.example.com, http://localhost:5173,",
            ),
            ("MAX_FILES", "3"),
            ("UPLOAD_TTL_SECONDS", "60"),
            ("OBJECTS_ORIGIN", "https://files.example.com"),
            ("STORAGE", "r2"),
        ])
        .unwrap();
        assert_eq!(
            config.allowed_origins,
            ["https://a.example.com", "http://localhost:5173"]
        );
        assert_eq!((config.limits.max_files, config.upload_ttl), (3, 60));
        assert_eq!(
            config.objects_origin.as_deref(),
            Some("https://files.example.com")
        );
    }

    #[test]
    fn names_the_setting_that_is_wrong_and_keeps_its_value_to_itself() {
        for (name, value) in [
            ("ALLOWED_ORIGINS", "*"),
            ("ALLOWED_ORIGINS", "https://a.example.com/"),
            ("ALLOWED_ORIGINS", "https://A.example.com"),
            ("ALLOWED_ORIGINS", "a.example.com"),
            ("ALLOWED_ORIGINS", "https://"),
            ("MAX_FILES", "0"),
            ("MAX_FILES", "-1"),
            ("MAX_FILES", "many"),
            ("MAX_FILE_BYTES", "99999999999999"),
            ("MULTIPART_THRESHOLD_BYTES", "0"),
            ("MULTIPART_THRESHOLD_BYTES", "9999999999999"),
            ("PART_BYTES", "5242879"),
            ("MULTIPART_TTL_SECONDS", "604801"),
            ("UPLOAD_TTL_SECONDS", "3601"),
            ("DOWNLOAD_TTL_SECONDS", "0"),
            ("STORAGE", "floppy"),
            ("S3_ENDPOINT", ""),
            ("S3_ENDPOINT", "ftp://127.0.0.1"),
            ("S3_ENDPOINT", "https://s3.example.com/path"),
            ("S3_BUCKET", "No_Bucket"),
            ("S3_ADDRESSING", "sideways"),
            ("S3_KIND", "r2_binding"),
            ("S3_REGION", "eu central"),
            ("S3_ACCESS_KEY_ID", "top/secret"),
            ("S3_SECRET_ACCESS_KEY", ""),
            ("OBJECTS_ORIGIN", "https://files.example.com/x"),
            ("JWT_KEYS", "topsecret"),
            ("URL_KEYS", "k1:c2hvcnQ="),
            ("DOWNLOAD_WINDOW_SECONDS", "3601"),
            (
                "DATABASE_URL",
                "postgres://worker:topsecret@db/app?sslmode=prefer",
            ),
            ("JWT_LEEWAY_SECONDS", "301"),
            ("JWKS_URL", "http://id.example.com/jwks"),
            ("JWKS_URL", "http://localhost.example.com/jwks"),
            ("JWKS_URL", "https://user:topsecret@id.example.com/jwks"),
            ("JWKS_URL", "id.example.com"),
            ("JWKS_URL", "file:///etc/passwd"),
        ] {
            let mut settings = vec![(name, value)];
            if name.starts_with("S3_") {
                settings.extend(S3);
            }
            let error = read(&settings).unwrap_err();
            assert_eq!(error.name, name);
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn reads_an_s3_store() {
        let StoreSettings::S3(store) = read(&S3).unwrap().store else {
            panic!("not S3");
        };
        assert_eq!(store.kind, StoreKind::R2);
        assert_eq!(
            store.bucket.endpoint().host(),
            "acct.r2.cloudflarestorage.com"
        );
        let hosted: Vec<_> = [("S3_ADDRESSING", "virtual"), ("S3_KIND", "minio")]
            .into_iter()
            .chain(S3)
            .collect();
        let StoreSettings::S3(store) = read(&hosted).unwrap().store else {
            panic!("not S3");
        };
        assert_eq!(store.kind, StoreKind::Minio);
        assert!(store.bucket.endpoint().host().starts_with("files.acct."));
    }

    #[test]
    fn knows_where_signed_urls_lead() {
        let origin =
            |settings: &[(&'static str, &'static str)]| read(settings).unwrap().store_origin();
        let files = "https://files.example.com";
        assert_eq!(origin(&[]), None);
        assert_eq!(origin(&[("OBJECTS_ORIGIN", files)]).as_deref(), Some(files));
        let account = "acct.r2.cloudflarestorage.com";
        assert_eq!(origin(&S3), Some(format!("https://{account}")));
        let hosted: Vec<_> = [("S3_ADDRESSING", "virtual")]
            .into_iter()
            .chain(S3)
            .collect();
        assert_eq!(origin(&hosted), Some(format!("https://files.{account}")));
    }

    #[test]
    fn published_keys_need_an_issuer_and_no_secret() {
        let url = ("JWKS_URL", "https://id.example.com/.well-known/jwks.json");
        let issuer = ("JWT_ISSUER", "https://id.example.com");
        assert_eq!(read(&[url]).unwrap_err().name, "JWT_ISSUER");
        let config = read(&[url, issuer, ("JWT_KEYS", "")]).unwrap();
        assert!(config.tokens.keys.is_none());
        let jwks = config.tokens.jwks.unwrap();
        assert_eq!((jwks.lifetime_seconds, jwks.refresh_seconds), (600, 30));
        for (name, value) in [("JWKS_TTL_SECONDS", "0"), ("JWKS_REFRESH_SECONDS", "0")] {
            assert_eq!(read(&[url, issuer, (name, value)]).unwrap_err().name, name);
        }
        assert!(read(&[("JWKS_URL", "http://127.0.0.1:1/jwks"), issuer]).is_ok());
    }

    #[test]
    fn shows_no_key() {
        let shown = format!("{:?}", read(&S3).unwrap());
        for secret in ["a2V5", "hunter2", "FwoG"] {
            assert!(!shown.contains(secret), "{secret}");
        }
    }

    #[test]
    fn advises_an_audience_where_the_issuer_signs_for_others_too() {
        let jwks = ("JWKS_URL", "https://id.example.com/jwks");
        let issuer = ("JWT_ISSUER", "https://id.example.com");
        let audience = ("JWT_AUDIENCE", "keepsake");
        for (settings, advised) in [
            (vec![], false),
            (vec![jwks, issuer], true),
            (vec![jwks, issuer, audience], false),
        ] {
            let config = read(&settings).unwrap();
            assert_eq!(config.advice().is_some(), advised, "{settings:?}");
        }
    }

    #[test]
    fn keeps_the_password_from_a_pool_unless_told_otherwise() {
        let open =
            |value| read(&[("HYPERDRIVE_LOGIN", value)]).map(|config| config.hyperdrive_open);
        assert_eq!(read(&[]).map(|config| config.hyperdrive_open), Ok(false));
        assert_eq!(open("scram"), Ok(false));
        assert_eq!(open("password"), Ok(true));
        assert_eq!(open("Password").unwrap_err().name, "HYPERDRIVE_LOGIN");
    }
}
