//! The settings as the worker uses them, checked against each other.

use super::{
    claim::Claim,
    parsers::{ConfigError, StorageKind, must_be_within},
    table::{MAX_OBJECT_BYTES, Settings},
};
use crate::{db::Address, model::Scope, storage::S3Settings};
use keepsake_shared::{
    KeyRing, Limits, ShownOrigin, WebhookKeys, WebhookUrl,
    capabilities::{Capabilities, StoreKind},
    sigv4,
    upload::PartPlan,
};
use std::{fmt, ops::RangeInclusive, sync::Arc};

/// Most seconds that an upload URL works by which stored bytes can be replaced, also after they were looked at.
const MAX_REPLACING_SECONDS: u64 = 300;

/// The settings, checked.
#[derive(Debug)]
pub struct Config {
    /// Where objects are stored.
    pub store: StoreSettings,
    /// Origins whose pages may call the API, exactly as a browser sends them.
    pub(crate) allowed_origins: Vec<String>,
    /// Headers that they may send beside those that the API takes, as a preflight names them.
    pub(crate) allowed_headers: String,
    /// The limits of one upload set.
    pub(crate) limits: Limits,
    /// Bytes of all files of one request that stores them at once.
    pub(crate) inline_max_bytes: u64,
    /// Files of more bytes are uploaded in parts.
    pub(crate) multipart_threshold: u64,
    /// Bytes of a part; larger where the store needs it.
    pub(crate) part_bytes: u64,
    /// Seconds that an upload set lives which has a file in parts.
    pub(crate) multipart_ttl: u64,
    /// Most pixels of an image.
    pub max_image_pixels: u64,
    /// Seconds that an upload set lives which has no file in parts.
    pub(crate) upload_ttl: u64,
    /// Seconds an upload URL works.
    pub(crate) upload_url_ttl: u64,
    /// Seconds a download URL works.
    pub(crate) download_ttl: u64,
    /// Seconds for which downloads of one file get one URL; 0 for a new one each time.
    pub(crate) download_window: u64,
    /// PostgreSQL itself, instead of a Hyperdrive binding.
    pub database: Option<Address>,
    /// Whether the Hyperdrive binding may ask for the password in any form, and not only for SCRAM.
    pub hyperdrive_open: bool,
    /// How bearer tokens are checked.
    pub(crate) tokens: TokenSettings,
    /// Keys of malware scanners; without any, no verdict is accepted.
    pub(crate) scan_keys: Option<KeyRing>,
    /// The endpoint that events are sent to, if one is.
    pub(crate) webhook: Option<Arc<Webhook>>,
    /// Keys for the upload and download URLs the worker serves itself.
    pub(crate) url_keys: KeyRing,
    /// Origin of the signed object URLs; the request's own when not set. A domain of its own keeps
    /// users' files away from the application's origin.
    pub(crate) objects_origin: Option<String>,
}

impl Config {
    /// What works but should be changed, for the log of a worker that starts.
    pub fn advice(&self) -> Option<&'static str> {
        let tokens = &self.tokens;
        (tokens.jwks.is_some() && tokens.audience.is_none() && tokens.client.is_none()).then_some(
            "JWT_AUDIENCE is not set: the worker accepts every token that the issuer of JWKS_URL signs, also for \
             other applications, if it names a scope and a tenant. Set it to the audience of tokens for this worker.",
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
            StoreSettings::R2 | StoreSettings::File(_) => self.objects_origin.clone(),
            StoreSettings::S3(s3) => {
                let endpoint = s3.bucket.endpoint();
                Some(format!("{}{}", endpoint.scheme(), endpoint.host()))
            }
        }
    }
}

/// Where objects are stored.
#[derive(Debug)]
pub enum StoreSettings {
    /// In an R2 bucket, through the worker's binding.
    R2,
    /// In a folder of the native server.
    File(String),
    /// In a store that speaks S3.
    S3(Arc<S3Settings>),
}

impl StoreSettings {
    /// What the store can do.
    pub(crate) fn capabilities(&self) -> Capabilities {
        match self {
            Self::R2 | Self::File(_) => StoreKind::R2Binding.capabilities(),
            Self::S3(settings) => settings.kind.capabilities(),
        }
    }
}

/// An endpoint that events are sent to.
#[derive(Debug)]
pub(crate) struct Webhook {
    /// Where it is.
    pub(crate) url: WebhookUrl,
    /// The keys that sign each message.
    pub(crate) keys: WebhookKeys,
}

/// What a bearer token must satisfy.
#[derive(Debug)]
pub(crate) struct TokenSettings {
    /// Secrets by `kid`, for HS256.
    pub(crate) keys: Option<KeyRing>,
    /// Where the issuer publishes its keys, for RS256, ES256 and EdDSA.
    pub(crate) jwks: Option<JwksSettings>,
    /// Required `iss`, if set.
    pub(crate) issuer: Option<String>,
    /// Required member of `aud`, if set.
    pub(crate) audience: Option<String>,
    /// To whom a token without `aud` must have been issued, if set.
    pub(crate) client: Option<String>,
    /// The claim that names the tenant.
    pub(crate) tenant_claim: Claim,
    /// The claim that has the caller's roles, if one does.
    pub(crate) roles_claim: Option<Claim>,
    /// The scopes that roles grant.
    pub(crate) roles: Vec<(String, Vec<Scope>)>,
    /// Seconds by which the issuer's clock may differ from ours.
    pub(crate) leeway: u32,
}

/// The issuer's JSON Web Key Set.
pub(crate) struct JwksSettings {
    /// Its address.
    pub(crate) url: String,
    /// Seconds for which a set is fresh.
    pub(crate) lifetime_seconds: i64,
    /// Least seconds from one question for a newer set to the next.
    pub(crate) refresh_seconds: i64,
}

impl fmt::Debug for JwksSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwksSettings")
            .field("url", &ShownOrigin(&self.url))
            .field("lifetime_seconds", &self.lifetime_seconds)
            .field("refresh_seconds", &self.refresh_seconds)
            .finish()
    }
}

impl Config {
    /// Reads all settings through `lookup`, which returns `None` for one that is not set.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn read(
        lookup: impl Fn(&'static str) -> Result<Option<String>, ConfigError>,
    ) -> Result<Self, ConfigError> {
        let settings = Settings::read(&lookup)?;
        let store = store(&settings)?;
        let tokens = tokens(&settings)?;
        let can = store.capabilities();
        check_sizes(&settings, &can)?;
        let upload_url_ttl = if can.keeps_bytes() {
            settings.upload_ttl
        } else {
            settings.upload_ttl.min(MAX_REPLACING_SECONDS)
        };
        Ok(Self {
            store,
            allowed_origins: settings.allowed_origins.unwrap_or_default(),
            allowed_headers: settings.allowed_headers,
            limits: Limits {
                max_files: settings.max_files,
                max_file_bytes: settings.max_file_bytes,
                max_set_bytes: settings.max_set_bytes,
                file_types: settings.file_types.unwrap_or_default(),
                number_duplicates: settings.number_duplicates,
            },
            inline_max_bytes: settings.inline_max_bytes,
            multipart_threshold: settings.multipart_threshold,
            part_bytes: settings.part_bytes,
            multipart_ttl: settings.multipart_ttl,
            max_image_pixels: settings.max_image_pixels,
            upload_ttl: settings.upload_ttl,
            upload_url_ttl,
            download_ttl: settings.download_ttl,
            download_window: settings.download_window,
            database: settings.database,
            hyperdrive_open: settings.hyperdrive_open,
            tokens,
            scan_keys: settings.scan_keys,
            webhook: webhook(settings.events_url, settings.events_keys)?,
            url_keys: settings.url_keys.ok_or_else(|| {
                ConfigError::new(
                    "URL_KEYS",
                    "is required: kid:base64, several separated by commas",
                )
            })?,
            objects_origin: settings.objects_origin,
        })
    }
}

/// Nobody could tell an unsigned message from a forged one.
fn webhook(
    url: Option<WebhookUrl>,
    keys: Option<WebhookKeys>,
) -> Result<Option<Arc<Webhook>>, ConfigError> {
    match (url, keys) {
        (Some(url), Some(keys)) => Ok(Some(Arc::new(Webhook { url, keys }))),
        (Some(_), None) => Err(ConfigError::new(
            "EVENTS_KEYS",
            "is required with EVENTS_URL",
        )),
        (None, _) => Ok(None),
    }
}

/// The sizes that depend on the store.
fn check_sizes(settings: &Settings, can: &Capabilities) -> Result<(), ConfigError> {
    let parts = &can.parts;
    let max_object_bytes =
        MAX_OBJECT_BYTES.min(parts.max_bytes.saturating_mul(parts.max_parts.into()));
    let checks: [(_, _, RangeInclusive<u64>); 3] = [
        (
            "MULTIPART_THRESHOLD_BYTES",
            settings.multipart_threshold,
            1..=can.max_put_bytes,
        ),
        (
            "PART_BYTES",
            settings.part_bytes,
            parts.min_bytes..=parts.max_bytes,
        ),
        (
            "MAX_FILE_BYTES",
            settings.max_file_bytes,
            1..=max_object_bytes,
        ),
    ];
    match checks
        .iter()
        .find(|(_, value, bounds)| !bounds.contains(value))
    {
        Some((name, _, bounds)) => Err(ConfigError::new(name, must_be_within(bounds))),
        None => Ok(()),
    }
}

fn store(settings: &Settings) -> Result<StoreSettings, ConfigError> {
    match settings.storage {
        StorageKind::R2 => Ok(StoreSettings::R2),
        StorageKind::File => match &settings.file_root {
            Some(root) => Ok(StoreSettings::File(root.clone())),
            None => Err(ConfigError::new("FILE_ROOT", "is required for file")),
        },
        StorageKind::S3 => Ok(StoreSettings::S3(Arc::new(s3(settings)?))),
    }
}

fn s3(settings: &Settings) -> Result<S3Settings, ConfigError> {
    let endpoint = required("S3_ENDPOINT", settings.s3_endpoint.as_deref())?;
    let endpoint =
        sigv4::Endpoint::parse(endpoint).map_err(|error| ConfigError::new("S3_ENDPOINT", error))?;
    let kind = settings
        .s3_kind
        .or_else(|| StoreKind::of_host(endpoint.host()))
        .ok_or_else(|| {
            ConfigError::new(
                "S3_KIND",
                "is required, because the host of S3_ENDPOINT does not tell it: aws, r2, minio, garage or other. It decides \
                 what is signed. With other, whoever has an upload URL can replace the stored bytes until it expires",
            )
        })?;
    let name = required("S3_BUCKET", settings.s3_bucket.as_deref())?;
    let bucket = if settings.s3_virtual_hosts {
        sigv4::Bucket::virtual_hosted(endpoint, name)
    } else {
        sigv4::Bucket::path_style(endpoint, name)
    }
    .map_err(|error| ConfigError::new("S3_BUCKET", error))?;
    let credentials = sigv4::Credentials::new(
        required("S3_ACCESS_KEY_ID", settings.s3_access_key_id.as_deref())?,
        required(
            "S3_SECRET_ACCESS_KEY",
            settings.s3_secret_access_key.as_deref(),
        )?,
        settings.s3_session_token.as_deref(),
    )
    .map_err(|error| {
        let name = match error {
            sigv4::SigV4Error::SecretAccessKey => "S3_SECRET_ACCESS_KEY",
            sigv4::SigV4Error::SessionToken => "S3_SESSION_TOKEN",
            _ => "S3_ACCESS_KEY_ID",
        };
        ConfigError::new(name, error)
    })?;
    let signer = sigv4::Signer::s3(credentials, &settings.s3_region)
        .map_err(|error| ConfigError::new("S3_REGION", error))?;
    Ok(S3Settings::new(kind, bucket, signer))
}

fn required<'a>(name: &'static str, value: Option<&'a str>) -> Result<&'a str, ConfigError> {
    value.ok_or_else(|| ConfigError::new(name, "is required for s3"))
}

/// Secrets, published keys, or both; at least one of them.
fn tokens(settings: &Settings) -> Result<TokenSettings, ConfigError> {
    if settings.jwt_keys.is_none() && settings.jwks_url.is_none() {
        return Err(ConfigError::new(
            "JWT_KEYS",
            "is required without JWKS_URL: kid:base64, several separated by commas",
        ));
    }
    // RFC 8725 §3.8: an issuer may sign for others with its published keys.
    if settings.jwks_url.is_some() && settings.jwt_issuer.is_none() {
        return Err(ConfigError::new("JWT_ISSUER", "is required with JWKS_URL"));
    }
    if settings.roles.is_some() && settings.roles_claim.is_none() {
        return Err(ConfigError::new(
            "JWT_ROLES_CLAIM",
            "is required with JWT_ROLES",
        ));
    }
    Ok(TokenSettings {
        keys: settings.jwt_keys.clone(),
        jwks: settings.jwks_url.clone().map(|url| JwksSettings {
            url,
            lifetime_seconds: settings.jwks_ttl,
            refresh_seconds: settings.jwks_refresh,
        }),
        issuer: settings.jwt_issuer.clone(),
        audience: settings.jwt_audience.clone(),
        client: settings.jwt_client.clone(),
        tenant_claim: settings.tenant_claim.clone(),
        roles_claim: settings.roles_claim.clone(),
        roles: settings.roles.clone().unwrap_or_default(),
        leeway: settings.jwt_leeway,
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
            let secret =
                matches!(name, "JWT_KEYS" | "SCAN_KEYS" | "URL_KEYS").then(|| KEY.to_owned());
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
    fn signs_whatever_it_sends() {
        let url = ("EVENTS_URL", "https://example.com/hooks/hunter2");
        let keys = ("EVENTS_KEYS", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let unset = ("EVENTS_KEYS", " ");
        assert!(read(&[url, keys]).unwrap().webhook.is_some());
        assert!(read(&[keys]).unwrap().webhook.is_none());
        for settings in [[url, unset], [url, ("EVENTS_KEYS", "hunter2")]] {
            assert_eq!(read(&settings).unwrap_err().name, "EVENTS_KEYS");
        }
        let config = read(&[url, keys]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
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
    fn lets_apps_and_extensions_in() {
        let origins = "capacitor://localhost,tauri://localhost,chrome-extension://abcdefghijklmnopabcdefghijklmnop,\
            moz-extension://0ab1c2d3-0000-4000-8000-1234567890ab,ionic://localhost,app://obsidian.md";
        let config = read(&[
            ("ALLOWED_ORIGINS", origins),
            ("ALLOWED_HEADERS", "X-Of-Ours,baggage"),
        ])
        .unwrap();
        assert_eq!(
            config.allowed_origins,
            origins.split(',').collect::<Vec<_>>()
        );
        assert_eq!(config.allowed_headers, "x-of-ours, baggage");
    }

    #[test]
    fn reads_roles() {
        let claim = ("JWT_ROLES_CLAIM", "roles");
        let roles = (
            "JWT_ROLES",
            "org:admin = attachments:read attachments:write, a=b=metrics",
        );
        let tokens = read(&[claim, roles]).unwrap().tokens;
        let want = [
            ("org:admin".to_owned(), vec![Scope::Read, Scope::Write]),
            ("a=b".to_owned(), vec![Scope::Metrics]),
        ];
        assert_eq!(tokens.roles, want);
        assert_eq!(read(&[roles]).unwrap_err().name, "JWT_ROLES_CLAIM");
    }

    #[test]
    fn names_the_setting_that_is_wrong_and_keeps_its_value_to_itself() {
        for (name, value) in [
            ("ALLOWED_ORIGINS", "*"),
            ("ALLOWED_ORIGINS", "https://a.example.com/"),
            ("ALLOWED_ORIGINS", "https://A.example.com"),
            ("ALLOWED_ORIGINS", "a.example.com"),
            ("ALLOWED_ORIGINS", "https://"),
            ("ALLOWED_ORIGINS", "file://home"),
            ("ALLOWED_ORIGINS", "null"),
            ("ALLOWED_ORIGINS", "Capacitor://localhost"),
            ("ALLOWED_ORIGINS", "tauri://localhost/"),
            ("ALLOWED_HEADERS", "*"),
            ("ALLOWED_HEADERS", "x-one x-two"),
            ("OBJECTS_ORIGIN", "tauri://localhost"),
            ("JWT_TENANT_CLAIM", "a tenant"),
            ("JWT_ROLES", "editor"),
            ("JWT_ROLES", "editor=attachments:own"),
            ("JWT_ROLES", "=attachments:read"),
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
    fn a_store_that_its_host_does_not_tell_is_named() {
        let elsewhere = ("S3_ENDPOINT", "https://s3.example.com");
        let with =
            |settings: &[(&'static str, &str)]| read(&[&[elsewhere][..], settings, &S3].concat());
        let error = with(&[]).unwrap_err();
        assert_eq!(error.name, "S3_KIND");
        for kind in ["aws", "r2", "minio", "garage", "other"] {
            assert!(error.problem.contains(kind), "{kind}");
            assert!(with(&[("S3_KIND", kind)]).is_ok(), "{kind}");
        }
    }

    #[test]
    fn a_url_that_can_replace_bytes_works_for_a_short_time() {
        for (kind, set, ttl) in [
            ("other", "900", 300),
            ("other", "60", 60),
            ("garage", "900", 900),
            ("minio", "900", 900),
        ] {
            let settings = [("S3_KIND", kind), ("UPLOAD_TTL_SECONDS", set)];
            let config = read(&[&settings[..], &S3].concat()).unwrap();
            assert_eq!(config.upload_url_ttl, ttl, "{kind}");
            assert_eq!(config.upload_ttl.to_string(), set, "{kind}");
        }
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
        let mut settings = S3.to_vec();
        settings.extend([
            ("JWKS_URL", "https://id.example.com?key=topsecret"),
            ("JWT_ISSUER", "https://id.example.com"),
            ("EVENTS_URL", "https://hooks.example.com?key=topsecret"),
            ("EVENTS_KEYS", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ]);
        let shown = format!("{:?}", read(&settings).unwrap());
        assert!(shown.contains("https://id.example.com/…"), "{shown}");
        for secret in ["a2V5", "hunter2", "FwoG", "topsecret", "MfKQ"] {
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
