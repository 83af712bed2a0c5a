//! AWS's own signing test suite: every case, by headers and by query, at each step. Its source and
//! licence stand in `tests/vectors/README.md`.

use keepsake_shared::{
    Sha256Digest,
    sigv4::{
        AuthorizationRequest, Credentials, Endpoint, Payload, PresignRequest, Request,
        SessionTokenUse, Signer, SigningKeyCache, authorization, normalise_path, presigned_request,
    },
};
use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::percent_decode;

#[derive(Deserialize)]
struct Case {
    name: String,
    context: Context,
    request: String,
    header: Steps,
    query: Steps,
}

#[derive(Deserialize)]
struct Context {
    credentials: Key,
    expiration_in_seconds: u32,
    normalize: bool,
    region: String,
    service: String,
    sign_body: bool,
    timestamp: String,
    #[serde(default)]
    omit_session_token: bool,
}

#[derive(Deserialize)]
struct Key {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
}

#[derive(Deserialize)]
struct Steps {
    canonical_request: String,
    string_to_sign: String,
    signature: String,
    signed_request: String,
}

/// A request of the suite, read from its text.
struct Parsed {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    host: String,
    payload: Payload,
}

#[test]
fn every_case_by_headers() {
    for case in cases() {
        let parsed = parse(&case);
        let endpoint = Endpoint::parse(&format!("https://{}", parsed.host)).unwrap();
        let (query, headers) = (borrow(&parsed.query), borrow(&parsed.headers));
        let request = AuthorizationRequest {
            request: request(&parsed, &endpoint, &query, &headers),
            send_content_sha256: case.context.sign_body,
        };
        let signer = signer(&case.context);
        let mut keys = SigningKeyCache::default();
        let signed = authorization(&request, &signer, &mut keys, now(&case.context)).unwrap();

        let name = &case.name;
        assert_eq!(
            signed.canonical_request.as_str(),
            case.header.canonical_request,
            "{name}"
        );
        assert_eq!(signed.string_to_sign, case.header.string_to_sign, "{name}");
        assert_eq!(hex(&signed.signature), case.header.signature, "{name}");
        for (header, value) in signed.headers() {
            let sent = sent_header(&case.header.signed_request, header);
            assert_eq!(sent.as_deref(), Some(value), "{name}: {header}");
        }
    }
}

#[test]
fn every_case_by_query() {
    for case in cases() {
        let parsed = parse(&case);
        let endpoint = Endpoint::parse(&format!("https://{}", parsed.host)).unwrap();
        let (query, headers) = (borrow(&parsed.query), borrow(&parsed.headers));
        let request = PresignRequest {
            request: request(&parsed, &endpoint, &query, &headers),
            expires_seconds: case.context.expiration_in_seconds,
        };
        let signer = signer(&case.context);
        let mut keys = SigningKeyCache::default();
        let signed = presigned_request(&request, &signer, &mut keys, now(&case.context)).unwrap();

        let name = &case.name;
        let canonical = signed.canonical_request().as_str();
        assert_eq!(canonical, case.query.canonical_request, "{name}");
        assert_eq!(signed.string_to_sign(), case.query.string_to_sign, "{name}");
        assert_eq!(hex(signed.signature()), case.query.signature, "{name}");
        let url = signed.url();
        let (_, query) = url.split_once('?').unwrap();
        assert_eq!(
            decoded_parameters(query),
            decoded_parameters(sent_query(&case.query.signed_request)),
            "{name}"
        );
    }
}

fn cases() -> Vec<Case> {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../vectors/aws-signing-test-suite.json")).unwrap();
    assert_eq!(cases.len(), 38);
    cases
}

fn request<'a>(
    parsed: &'a Parsed,
    endpoint: &'a Endpoint,
    query: &'a [(&'a str, &'a str)],
    headers: &'a [(&'a str, &'a str)],
) -> Request<'a> {
    Request {
        method: &parsed.method,
        target: endpoint.path(&parsed.path).unwrap(),
        query,
        headers,
        payload: parsed.payload,
    }
}

fn signer(context: &Context) -> Signer {
    let key = &context.credentials;
    let credentials = Credentials::new(
        &key.access_key_id,
        &key.secret_access_key,
        key.token.as_deref(),
    );
    let token_use = if context.omit_session_token {
        SessionTokenUse::AddedUnsigned
    } else {
        SessionTokenUse::Signed
    };
    Signer::new(
        credentials.unwrap(),
        &context.region,
        &context.service,
        token_use,
    )
    .unwrap()
}

fn now(context: &Context) -> OffsetDateTime {
    OffsetDateTime::parse(&context.timestamp, &Rfc3339).unwrap()
}

fn parse(case: &Case) -> Parsed {
    let (head, body) = case
        .request
        .split_once("\n\n")
        .unwrap_or((&case.request, ""));
    let mut lines = head.lines();
    let (method, rest) = lines.next().unwrap().split_once(' ').unwrap();
    let target = rest.strip_suffix(" HTTP/1.1").unwrap();
    let (raw_path, raw_query) = target.split_once('?').unwrap_or((target, ""));
    let path = percent_decode(raw_path);

    let mut headers: Vec<(String, String)> = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        if line.starts_with(' ') {
            // A value that goes on in the next line, which HTTP once allowed.
            headers.last_mut().unwrap().1.push_str(line);
        } else {
            let (name, value) = line.split_once(':').unwrap();
            headers.push((name.into(), value.into()));
        }
    }
    let (host, headers): (Vec<_>, Vec<_>) = headers
        .into_iter()
        .partition(|(name, _)| name.eq_ignore_ascii_case("host"));
    Parsed {
        method: method.into(),
        path: if case.context.normalize {
            normalise_path(&path)
        } else {
            path
        },
        query: decoded_parameters(raw_query),
        headers,
        host: host.into_iter().next().unwrap().1,
        payload: Payload::Sha256(Sha256Digest::of(if case.context.sign_body {
            body.as_bytes()
        } else {
            b""
        })),
    }
}

fn decoded_parameters(query: &str) -> Vec<(String, String)> {
    let mut parameters: Vec<(String, String)> = query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
        .map(|(name, value)| (percent_decode(name), percent_decode(value)))
        .collect();
    parameters.sort_unstable();
    parameters
}

fn sent_header(signed_request: &str, name: &str) -> Option<String> {
    signed_request
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(sent, _)| sent.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().into())
}

fn sent_query(signed_request: &str) -> &str {
    let (_, rest) = signed_request.split_once('?').unwrap();
    rest.split_once(" HTTP/1.1").unwrap().0
}

fn borrow(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

fn hex(signature: &[u8; 32]) -> String {
    Sha256Digest::from_bytes(*signature).to_hex()
}
