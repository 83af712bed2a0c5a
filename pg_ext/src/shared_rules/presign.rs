//! Presigned S3 URLs in SQL, by the signer of `keepsake-shared`.

use std::cell::RefCell;

use keepsake_shared::sigv4::{
    Bucket, Credentials, Endpoint, Payload, PresignRequest, Request, SigV4Error, Signer,
    SigningKeyCache, presign as sign,
};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use time::OffsetDateTime;

use crate::call::arguments::Jsonb;
use crate::model::error::{Failure, Outcome};

thread_local! {
    /// Deriving a key costs more than a signature; a query over many rows derives it once.
    static KEYS: RefCell<SigningKeyCache> = RefCell::default();
}

/// A presigned URL (AWS Signature Version 4, path style, `UNSIGNED-PAYLOAD`) that may be used for
/// `expires_seconds` from `signed_at`. `headers`, an object of names and values, must be sent
/// exactly as they are signed. A `session_token` belongs to temporary credentials.
///
/// # Errors
/// 22023 when something in it cannot be signed; the text never holds the secret.
#[pg_extern(immutable, strict, parallel_safe)]
#[expect(
    clippy::too_many_arguments,
    reason = "SQL names them, and has no structs to group them"
)]
fn presign(
    method: &str,
    endpoint: &str,
    bucket: &str,
    key: &str,
    region: &str,
    access_key_id: &str,
    secret_access_key: &str,
    signed_at: TimestampWithTimeZone,
    expires_seconds: i32,
    headers: default!(Jsonb, "'{}'::jsonb"),
    session_token: default!(&str, "''"),
) -> Result<String, ErrorReport> {
    let headers = header_list(headers)?;
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let session_token = (!session_token.is_empty()).then_some(session_token);
    let signed = || -> Result<String, SigV4Error> {
        let credentials = Credentials::new(access_key_id, secret_access_key, session_token)?;
        let bucket = Bucket::path_style(Endpoint::parse(endpoint)?, bucket)?;
        let request = PresignRequest {
            request: Request {
                method,
                target: bucket.object(key)?,
                query: &[],
                headers: &headers,
                payload: Payload::Unsigned,
            },
            expires_seconds: u32::try_from(expires_seconds).map_err(|_| SigV4Error::Expires)?,
        };
        let signer = Signer::s3(credentials, region)?;
        KEYS.with_borrow_mut(|keys| sign(&request, &signer, keys, moment(signed_at)?))
    };
    Ok(signed().map_err(|error| refused(&error.to_string()))?)
}

fn refused(what: &str) -> Failure {
    Failure::BadArgument {
        what: what.to_owned(),
        fix:
            "Correct the named argument. The AWS page \"Authenticating Requests\" lists the allowed values."
                .into(),
    }
}

fn header_list(Jsonb(headers): Jsonb) -> Outcome<Vec<(String, String)>> {
    serde_json::from_value::<std::collections::BTreeMap<String, String>>(headers)
        .map(|headers| headers.into_iter().collect())
        .map_err(|_| refused("headers must be an object of texts"))
}

/// PostgreSQL counts microseconds from the year 2000.
/// <https://www.postgresql.org/docs/15/datatype-datetime.html>
fn moment(at: TimestampWithTimeZone) -> Result<OffsetDateTime, SigV4Error> {
    const YEAR_2000: i128 = 946_684_800;
    let micros = i128::from(pg_sys::TimestampTz::from(at));
    OffsetDateTime::from_unix_timestamp_nanos((YEAR_2000 * 1_000_000 + micros) * 1_000)
        .map_err(|_| SigV4Error::Time)
}
