//! What a malware scanner found: `/v1/scan-results`.

use crate::{
    clock,
    context::RequestContext,
    db::Database,
    db::SystemFunction,
    http::{ApiError, body, rate_limit::Counted},
    runtime::Once,
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use keepsake_shared::{ErrorCode, KeyRing, ObjectKey, Sha256Digest, read_from_object};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// When the message was signed, in seconds since 1970.
const TIMESTAMP: &str = "keepsake-timestamp";
/// `<key id>.<HMAC-SHA-256 in hexadecimal or base64>`.
const SIGNATURE: &str = "keepsake-signature";
/// Seconds by which that moment may differ from ours.
const TOLERANCE_SECONDS: u64 = 300;

const DOMAIN: &[u8] = b"keepsake scan result, version 1\n";

/// One verdict.
#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, expecting = "a JSON object")]
struct ScanResult {
    object_key: ObjectKey,
    #[serde(deserialize_with = "body::choice")]
    verdict: Verdict,
}

read_from_object!(ScanResult);

/// The five results of Amazon GuardDuty Malware Protection for S3, under plainer names
/// (<https://docs.aws.amazon.com/guardduty/latest/ug/monitoring-malware-protection-s3-scans-gdu.html>).
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// `NO_THREATS_FOUND`. Nothing else opens a file.
    Clean,
    /// `THREATS_FOUND`: shuts it for good.
    Infected,
    /// `UNSUPPORTED`: too large, or locked with a password.
    Unsupported,
    /// `ACCESS_DENIED`: the scanner may not read it.
    AccessDenied,
    /// `FAILED`: the scan itself went wrong.
    Failed,
}

/// `POST /v1/scan-results`: takes a verdict. The message may come more than once.
///
/// 1. Where no key for scanners is set → 404.
/// 2. Read the body, bounded; too large → 413, another type → 415.
/// 3. A signature by a known key, over the timestamp and the body, and a timestamp of this moment;
///    else 401.
/// 4. Read the verdict; malformed → 400.
/// 5. Count it among the verdicts on its object; too many → 429.
/// 6. Take it in the database, the same message once; no attachment with this object → 404.
/// 7. 204.
pub(crate) async fn record(
    State(context): State<RequestContext>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let Some(keys) = &context.config.scan_keys else {
        return Err(ApiError::no_path());
    };
    let body = std::mem::take(request.body_mut());
    let bytes = Once::new(body::read_bytes(request.headers(), body)).await?;
    let now = clock::now().unix_timestamp();
    let Some(mac) = verified(keys, request.headers(), &bytes, now) else {
        return Err(ApiError::new(
            ErrorCode::SignatureInvalid,
            "The message's signature is invalid. Sign the timestamp and the body with a scanner's key, and use the current time.",
        ));
    };
    let ScanResult {
        object_key,
        verdict,
    } = body::parse(&bytes)?;
    context
        .limits()
        .count(Counted::Verdict(&object_key))
        .await?;
    let request = json!({ "object_key": object_key, "verdict": verdict, "mac": mac.to_hex() });
    context
        .database()?
        .for_system(SystemFunction::RecordScan, request)
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The MAC of a message that is signed as it has to be, at a moment near `now`.
fn verified(keys: &KeyRing, headers: &HeaderMap, body: &[u8], now: i64) -> Option<Sha256Digest> {
    let timestamp = headers.get(TIMESTAMP)?.to_str().ok()?;
    let (key_id, mac) = headers.get(SIGNATURE)?.to_str().ok()?.split_once('.')?;
    let mac: Sha256Digest = mac.parse().ok()?;
    let signed = [DOMAIN, timestamp.as_bytes(), b"\n", body];
    if !keys.key(key_id)?.verify(&signed, mac.as_bytes()) {
        return None;
    }
    let moment: i64 = timestamp.parse().ok()?;
    (moment.abs_diff(now) <= TOLERANCE_SECONDS).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"{}";
    const NOW: i64 = 1_788_220_800;

    fn ring() -> KeyRing {
        "s1:c2NhbnNjYW5zY2Fuc2NhbnNjYW5zY2Fuc2NhbnNjYW4="
            .parse()
            .unwrap()
    }

    fn signed(timestamp: &str) -> HeaderMap {
        let key = ring();
        let parts = [DOMAIN, timestamp.as_bytes(), b"\n", BODY];
        let mac = Sha256Digest::from_bytes(key.signing_key().sign(&parts)).to_hex();
        let mut headers = HeaderMap::new();
        headers.insert(TIMESTAMP, timestamp.parse().unwrap());
        headers.insert(SIGNATURE, format!("s1.{mac}").parse().unwrap());
        headers
    }

    #[test]
    fn takes_what_is_signed_at_this_moment() {
        for age in [-300, 0, 300] {
            let headers = signed(&(NOW - age).to_string());
            assert!(verified(&ring(), &headers, BODY, NOW).is_some(), "{age}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for timestamp in [
            "1788220499",
            "1788221101",
            "0",
            "-1",
            "x",
            "9999999999999999999",
        ] {
            let headers = signed(timestamp);
            assert!(
                verified(&ring(), &headers, BODY, NOW).is_none(),
                "{timestamp}"
            );
        }
        let now = NOW.to_string();
        assert!(verified(&ring(), &signed(&now), b"{ }", NOW).is_none());
        let mut moved = signed(&now);
        moved.insert(TIMESTAMP, "1788220801".parse().unwrap());
        assert!(verified(&ring(), &moved, BODY, NOW).is_none());
        for signature in ["", "s1", "s1.", "s1.00", "s2.0000", "."] {
            let mut headers = signed(&now);
            headers.insert(SIGNATURE, signature.parse().unwrap());
            assert!(
                verified(&ring(), &headers, BODY, NOW).is_none(),
                "{signature}"
            );
        }
        assert!(verified(&ring(), &HeaderMap::new(), BODY, NOW).is_none());
    }
}
