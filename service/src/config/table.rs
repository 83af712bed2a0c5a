//! Every setting of the worker, one line each. `scripts/check-settings` compares the lines with the documentation and
//! with `wrangler.toml`.

use super::{
    claim::Claim,
    parsers::{
        ConfigError, StorageKind, either, header_names, https, keys, kind, number, origin, origins,
        parsed, roles, text,
    },
};
use crate::{db::Address, model::Scope};
use keepsake_shared::{FileTypes, KeyRing, WebhookKeys, WebhookUrl, capabilities::StoreKind};
use std::ops::RangeInclusive;

/// Seconds that a signed URL may live, whatever the setting says. SigV4 allows seven days; whoever has the URL may use it,
/// so that an hour is the most that makes sense.
const URL_LIFETIME: RangeInclusive<u64> = 1..=3600;

/// The largest object of S3 and R2: 5 TiB.
pub(super) const MAX_OBJECT_BYTES: u64 = 5 << 40;

/// Declares the settings, as a struct of a field each, and how they are read.
macro_rules! settings {
    ($($(secret)? $name:literal => $field:ident: $type:ty $(= $default:literal)?, $parse:expr, $meaning:literal;)+) => {
        /// The settings, each read by itself. Not to be shown: some are secrets as they came.
        pub(super) struct Settings {
            $(#[doc = $meaning] pub(super) $field: $type,)+
        }

        /// The names of the settings.
        pub const NAMES: &[&str] = &[$($name),+];

        impl Settings {
            /// Reads every setting through `lookup`, which returns `None` for one that is not set. A blank one is not set.
            ///
            /// # Errors
            /// The first setting that cannot be used.
            pub(super) fn read(lookup: Lookup<'_>) -> Result<Self, ConfigError> {
                Ok(Self {
                    $($field: settings!(@read lookup, $name, $parse $(, $default)?)?,)+
                })
            }
        }
    };
    (@read $lookup:ident, $name:literal, $parse:expr, $default:literal) => {
        with_default($lookup, $name, $default, $parse)
    };
    (@read $lookup:ident, $name:literal, $parse:expr) => {
        optional($lookup, $name, $parse)
    };
}

/// Where settings come from.
type Lookup<'a> = &'a dyn Fn(&'static str) -> Result<Option<String>, ConfigError>;

fn given(lookup: Lookup<'_>, name: &'static str) -> Result<Option<String>, ConfigError> {
    Ok(lookup(name)?.filter(|value| !value.trim().is_empty()))
}

fn with_default<T>(
    lookup: Lookup<'_>,
    name: &'static str,
    default: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, ConfigError> {
    let value = given(lookup, name)?;
    let value = value.as_deref().unwrap_or(default);
    parse(value).map_err(|problem| ConfigError::new(name, problem))
}

fn optional<T>(
    lookup: Lookup<'_>,
    name: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, ConfigError> {
    let value = given(lookup, name)?;
    let value = value.as_deref().map(parse).transpose();
    value.map_err(|problem| ConfigError::new(name, problem))
}

settings! {
           "STORAGE"                   => storage: StorageKind                  = "r2"       , parsed                                    , "Where objects are stored: `r2`, the worker's bucket binding; `file`, a folder of `keepsake serve`; or `s3`, any store that speaks S3. Objects in the first two are served by Keepsake itself";
           "FILE_ROOT"                 => file_root: Option<String>                          , text                                      , "For `file`: the folder";
           "S3_ENDPOINT"               => s3_endpoint: Option<String>                        , text                                      , "For `s3`: `https://host[:port]`";
           "S3_BUCKET"                 => s3_bucket: Option<String>                          , text                                      , "For `s3`: the bucket's name";
           "S3_REGION"                 => s3_region: String                     = "auto"     , text                                      , "For `s3`: the region that signatures name; `auto` is R2's";
           "S3_ADDRESSING"             => s3_virtual_hosts: bool                = "path"     , either(["path", "virtual"])               , "For `s3`: the bucket's name is in the `path` (R2, MinIO, Garage), or part of the host, `virtual` (AWS)";
           "S3_KIND"                   => s3_kind: Option<StoreKind>                         , kind                                      , "For `s3`: `aws`, `r2`, `minio`, `garage` or `other`, which decides what is signed; required where the host does not tell it";
    secret "S3_ACCESS_KEY_ID"          => s3_access_key_id: Option<String>                   , text                                      , "For `s3`: the id of the key that signs";
    secret "S3_SECRET_ACCESS_KEY"      => s3_secret_access_key: Option<String>               , text                                      , "For `s3`: the key that signs";
    secret "S3_SESSION_TOKEN"          => s3_session_token: Option<String>                   , text                                      , "For `s3`: the token of temporary credentials";
           "ALLOWED_ORIGINS"           => allowed_origins: Option<Vec<String>>               , origins                                   , "Origins whose pages may call the API, separated by commas; none by default";
           "ALLOWED_HEADERS"           => allowed_headers: String               = "baggage, sentry-trace, traceparent, tracestate, x-requested-with", header_names, "Headers that these pages may send beside those that the API takes, separated by commas";
           "MAX_FILES"                 => max_files: u32                        = "5"        , number(1..=100)                           , "Files in one upload set, at most 100";
           "MAX_FILE_BYTES"            => max_file_bytes: u64                   = "10485760" , number(1..=MAX_OBJECT_BYTES)              , "Bytes of one file";
           "MAX_SET_BYTES"             => max_set_bytes: u64                    = "26214400" , number(1..=100 * MAX_OBJECT_BYTES)        , "Bytes of all files of one upload set";
           "INLINE_MAX_BYTES"          => inline_max_bytes: u64                 = "5242880"  , number(1..=16_777_216)                    , "Bytes of all files of one request that stores them at once, at most 16 MiB: they are kept in memory until they are stored";
           "FILE_TYPES"                => file_types: Option<FileTypes>                      , parsed                                    , "Allowed file types, as changes to the usual ones: `+zip`, `-mov`, `none +pdf +png`; `+unknown` allows any other extension, for download only. See [file types](file-types.md)";
           "DUPLICATE_NAMES"           => number_duplicates: bool               = "refuse"   , either(["refuse", "number"])              , "`number` stores the second `image.jpg` of an upload set as `image (2).jpg`; `refuse` rejects the set";
           "MULTIPART_THRESHOLD_BYTES" => multipart_threshold: u64              = "67108864" , number(1..=u64::MAX)                      , "Files of more bytes are uploaded in parts";
           "PART_BYTES"                => part_bytes: u64                       = "16777216" , number(1..=u64::MAX)                      , "Bytes of a part, at least 5 MiB; larger where a file would have more than 10,000 parts";
           "MULTIPART_TTL_SECONDS"     => multipart_ttl: u64                    = "86400"    , number(1..=604_800)                       , "Lifetime of an upload set with a file in parts, at most a week; each URL works for `UPLOAD_TTL_SECONDS`";
           "MAX_IMAGE_PIXELS"          => max_image_pixels: u64                 = "268435456", number(1..=u64::MAX)                      , "Largest image, in pixels, as its header states it; the default is 16384 × 16384, a gibibyte when decoded";
           "UPLOAD_TTL_SECONDS"        => upload_ttl: u64                       = "900"      , number(URL_LIFETIME)                      , "Lifetime of an upload URL, and of an upload set without a file in parts, 1 to 3600; with `S3_KIND=other`, a URL works for 300 at most";
           "DOWNLOAD_TTL_SECONDS"      => download_ttl: u64                     = "300"      , number(URL_LIFETIME)                      , "Lifetime of a download URL, 1 to 3600";
           "DOWNLOAD_WINDOW_SECONDS"   => download_window: u64                  = "0"        , number(0..=3600)                          , "How long all downloads of a file get the same URL, so that caches can reuse it, 0 to 3600";
           "OBJECTS_ORIGIN"            => objects_origin: Option<String>                     , origin                                    , "Origin of signed object URLs, such as `https://files.example.com`; by default that of the request";
           "JWT_ISSUER"                => jwt_issuer: Option<String>                         , text                                      , "Required `iss` of a token; not checked by default, required with `JWKS_URL`";
           "JWT_AUDIENCE"              => jwt_audience: Option<String>                       , text                                      , "Required `aud` of a token; not checked by default, recommended with `JWKS_URL`";
           "JWT_CLIENT"                => jwt_client: Option<String>                         , text                                      , "Required `client_id` of a token without `aud`, or `azp` if it has no `client_id`; for issuers that name no audience";
           "JWT_TENANT_CLAIM"          => tenant_claim: Claim                   = "tenant"   , parsed                                    , "The claim that names the tenant: a name such as `org_id`, or a JSON pointer such as `/app_metadata/tenant_id`";
           "JWT_ROLES_CLAIM"           => roles_claim: Option<Claim>                         , parsed                                    , "A claim with the caller's roles, a text or a list: a name or a JSON pointer. A role grants the scopes of `JWT_ROLES`; `attachments:read` and `attachments:write` grant themselves";
           "JWT_ROLES"                 => roles: Option<Vec<(String, Vec<Scope>)>>           , roles                                     , "The scopes that roles grant: `role=scope scope`, several separated by commas";
           "JWT_LEEWAY_SECONDS"        => jwt_leeway: u32                       = "30"       , number(0..=300)                           , "Allowed difference from the issuer's clock, 0 to 300";
           "JWKS_URL"                  => jwks_url: Option<String>                           , https                                     , "Where the issuer publishes its keys (RFC 7517) for RS256, ES256 and EdDSA; https";
           "JWKS_TTL_SECONDS"          => jwks_ttl: i64                         = "600"      , number(1..=86_400)                        , "How long the issuer's keys are fresh, 1 to 86400; while the issuer is down they serve a day longer";
           "JWKS_REFRESH_SECONDS"      => jwks_refresh: i64                     = "30"       , number(1..=3600)                          , "How long an unknown `kid` waits for the next request to the issuer, 1 to 3600";
    secret "JWT_KEYS"                  => jwt_keys: Option<KeyRing>                          , keys                                      , "Keys of bearer tokens, HS256: `kid:base64`, several separated by commas; all verify. Required without `JWKS_URL`";
    secret "SCAN_KEYS"                 => scan_keys: Option<KeyRing>                         , keys                                      , "Keys of malware scanners, in the same form; all verify. Without any, no verdict is accepted";
           "EVENTS_URL"                => events_url: Option<WebhookUrl>                     , parsed                                    , "Where to send what happens to attachments: an https address (http only on localhost). Without it, events go to the queue that is bound as `EVENTS`, if any";
    secret "EVENTS_KEYS"               => events_keys: Option<WebhookKeys>                   , parsed                                    , "Keys that sign these messages: `whsec_` and base64 of 24 to 64 bytes, several separated by commas; all sign. Required with `EVENTS_URL`";
    secret "URL_KEYS"                  => url_keys: Option<KeyRing>                          , keys                                      , "Keys of signed object URLs, in the same form; the first signs, all verify. Required";
    secret "DATABASE_URL"              => database: Option<Address>                          , parsed                                    , "PostgreSQL without Hyperdrive, over TLS: `postgres://…?sslmode=verify-full`; the login is SCRAM-SHA-256";
           "HYPERDRIVE_LOGIN"          => hyperdrive_open: bool                 = "scram"    , either(["scram", "password"])             , "`password` allows Hyperdrive to ask for its password in clear text or as MD5";
}
