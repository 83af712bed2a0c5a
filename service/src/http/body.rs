//! Reading a JSON request body: bounded in size and time first, parsed after.

use super::{
    headers::content_length,
    problem::{self, ApiError},
};
use crate::{clock, runtime::Once};
use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderValue,
        header::{CONTENT_ENCODING, CONTENT_TYPE},
    },
};
use http_body_util::BodyExt;
use keepsake_shared::{ErrorCode, FieldError};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, IntoDeserializer},
};
use serde_json::error::Category;
use std::time::Duration;

/// Most bytes of a JSON body. A hundred files with the longest names fit into half of it.
pub(crate) const MAX_JSON_BYTES: usize = 64 << 10;

/// How much of a body of undeclared length is read off, and thrown away, so that a client that sends
/// too much still sees the answer.
const MAX_DISCARDED_BYTES: usize = 4 << 20;

/// Longest wait for a body that is read here. The slowest modem sends the longest one in a third of it.
pub const MAX_BODY_TIME: Duration = Duration::from_secs(30);

/// Reads a request's JSON; see [`read_bytes`] and [`parse`].
pub(crate) async fn read_json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
) -> Result<T, ApiError> {
    parse(&Once::new(read_bytes(headers, body)).await?)
}

/// Reads the bytes of a request that are said to be JSON.
///
/// 1. `Content-Type: application/json` and no `Content-Encoding`; else 415.
/// 2. At most [`MAX_JSON_BYTES`], counted while reading; else 413.
/// 3. All of it within [`MAX_BODY_TIME`]; else 408.
///
/// A body is read only when its headers are good: what of it nobody read can still be read off.
pub(crate) async fn read_bytes(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, ApiError> {
    require_json(headers)?;
    require_short(headers)?;
    clock::timeout(MAX_BODY_TIME, read_bounded(body))
        .await
        .unwrap_or_else(|| Err(too_slow(MAX_BODY_TIME)))
}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let declared = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = declared.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(ApiError::new(
            ErrorCode::UnsupportedContentType,
            "The body must be JSON. Send it with Content-Type: application/json.",
        ));
    }
    require_identity(headers)
}

/// No body is decompressed.
pub(super) fn require_identity(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(encoded()),
        _ => Ok(()),
    }
}

/// RFC 9110 §15.5.16: `Accept-Encoding` says which codings are read.
fn encoded() -> ApiError {
    ApiError::new(
        ErrorCode::UnsupportedContentType,
        "The body is compressed, which is not supported. Send it without Content-Encoding.",
    )
    .with_header("accept-encoding", HeaderValue::from_static("identity"))
}

fn require_short(headers: &HeaderMap) -> Result<(), ApiError> {
    match content_length(headers) {
        Some(length) if length > MAX_JSON_BYTES as u64 => Err(too_large()),
        _ => Ok(()),
    }
}

/// Reads off a body of undeclared length that nobody wants; at most [`MAX_DISCARDED_BYTES`] of it.
pub async fn read_off(body: Body) {
    // What it holds and why it ends are nobody's concern.
    let _ = read_bounded(body).await;
}

async fn read_bounded(mut body: Body) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let data = frame
            .map_err(|_| {
                ApiError::new(
                    ErrorCode::MalformedJson,
                    "The body ended before it was complete.",
                )
            })?
            .into_data()
            .unwrap_or_default();
        seen += data.len();
        if seen <= MAX_JSON_BYTES {
            bytes.extend_from_slice(&data);
        } else if seen > MAX_DISCARDED_BYTES {
            break;
        }
    }
    if seen > MAX_JSON_BYTES {
        return Err(too_large());
    }
    Ok(bytes)
}

/// Reads what another service answers.
///
/// # Errors
/// What is wrong with it, for the log: longer than `limit`, or broken off.
pub(crate) async fn read_at_most(mut body: Body, limit: usize) -> Result<Vec<u8>, &'static str> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| "broke off")?;
        bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
        if bytes.len() > limit {
            return Err("is too long");
        }
    }
    Ok(bytes)
}

pub(super) fn too_slow(time: Duration) -> ApiError {
    ApiError::new(
        ErrorCode::BodyTooSlow,
        format_args!(
            "The body did not arrive within {} seconds. Nothing was changed. Send the request again.",
            time.as_secs()
        ),
    )
}

fn too_large() -> ApiError {
    ApiError::new(
        ErrorCode::BodyTooLarge,
        format_args!("The body must not be larger than {MAX_JSON_BYTES} bytes."),
    )
}

/// Reads JSON text.
///
/// 1. JSON; else 400 `malformed_json`.
/// 2. The fields of `T`, all known and of the right type; else 400 `unknown_field` or
///    `invalid_field`, with the place.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (place, error) = (pointer(error.path()), error.inner());
        // serde_json calls some values an error of syntax though they are none, such as a number that no type holds.
        if error.classify() == Category::Data || is_json(bytes) {
            explain(&problem::excerpt(&place), error)
        } else {
            malformed(error)
        }
    })?;
    json.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

/// Reads one of a type's words: from a text alone. What serde derives for an enum would also read an object, and takes other
/// values for an error of syntax.
pub(crate) fn choice<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<T, D::Error> {
    T::deserialize(String::deserialize(deserializer)?.into_deserializer())
}

fn is_json(bytes: &[u8]) -> bool {
    // What is skipped is not checked for being UTF-8.
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

fn malformed(error: &serde_json::Error) -> ApiError {
    ApiError::new(
        ErrorCode::MalformedJson,
        format_args!(
            "The body is not valid JSON: the error is at line {}, column {}.",
            error.line(),
            error.column()
        ),
    )
}

fn explain(pointer: &str, error: &serde_json::Error) -> ApiError {
    // serde has no other way to tell these two apart.
    let text = error.to_string();
    let code = if text.starts_with("unknown field") {
        ErrorCode::UnknownField
    } else {
        ErrorCode::InvalidField
    };
    let reason = problem::excerpt(
        text.rsplit_once(" at line ")
            .map_or(&text, |(reason, _)| reason),
    );
    ApiError::new(code, format_args!("The body is invalid: {reason}."))
        .with_errors(vec![FieldError::new(pointer, code, reason)])
}

/// The place in the body as an RFC 6901 pointer.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { variant } => format!("/{variant}"),
            Segment::Unknown => "/".to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{body::Body, response::IntoResponse};
    use futures_util::FutureExt;
    use keepsake_shared::upload::UploadRequest;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        files: Vec<File>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        size: u64,
        #[serde(default, deserialize_with = "choice")]
        kind: Kind,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        #[default]
        Plain,
        Picture,
    }

    fn json_headers() -> HeaderMap {
        HeaderMap::from_iter([(
            CONTENT_TYPE,
            "application/json; charset=utf-8".parse().unwrap(),
        )])
    }

    fn read(body: impl Into<Body>) -> Result<Wanted, String> {
        read_json(&json_headers(), body.into())
            .now_or_never()
            .unwrap()
            .map_err(problem)
    }

    /// `code pointer` of a failure.
    fn problem(error: ApiError) -> String {
        let (response, _) = problem::render(error.into_response(), "/", "id");
        let bytes = response
            .into_body()
            .collect()
            .now_or_never()
            .unwrap()
            .unwrap()
            .to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let pointer = problem["errors"][0]["pointer"].as_str().unwrap_or("-");
        format!("{} {pointer}", problem["code"].as_str().unwrap())
    }

    #[test]
    fn reads_what_is_wanted() {
        assert_eq!(
            read(r#"{"files":[{"size":1},{"size":2,"kind":"picture"}]}"#),
            Ok(Wanted {
                files: vec![
                    File {
                        size: 1,
                        kind: Kind::Plain
                    },
                    File {
                        size: 2,
                        kind: Kind::Picture
                    }
                ]
            })
        );
    }

    #[test]
    fn names_the_place_of_what_is_not() {
        for (body, want) in [
            ("", "malformed_json -"),
            ("{", "malformed_json -"),
            ("{\"files\":[]} x", "malformed_json -"),
            ("\u{feff}{\"files\":[]}", "malformed_json -"),
            ("[]", "invalid_field "),
            ("null", "invalid_field "),
            ("{}", "invalid_field "),
            (r#"{"files":{}}"#, "invalid_field /files"),
            (r#"{"files":[{"size":-1}]}"#, "invalid_field /files/0/size"),
            (r#"{"files":[{"size":1.5}]}"#, "invalid_field /files/0/size"),
            (r#"{"files":[{"size":"1"}]}"#, "invalid_field /files/0/size"),
            (
                r#"{"files":[{"size":1,"size":2}]}"#,
                "invalid_field /files/0",
            ),
            (
                r#"{"files":[{"size":1,"state":"available"}]}"#,
                "unknown_field /files/0/state",
            ),
            (r#"{"files":[],"tenant":"x"}"#, "unknown_field /tenant"),
        ] {
            assert_eq!(read(body).unwrap_err(), want, "{body}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_type_is_no_error_of_syntax() {
        for value in [
            "null",
            "5",
            "true",
            "[]",
            "{}",
            r#""film""#,
            r#"{"picture":null}"#,
            r#"{"picture":null,"plain":null}"#,
            &format!("{}{}", "[".repeat(500), "]".repeat(500)),
        ] {
            let body = format!(r#"{{"files":[{{"size":1,"kind":{value}}}]}}"#);
            let want = "invalid_field /files/0/kind";
            assert_eq!(read(body).unwrap_err(), want, "{value}");
        }
        let far = r#"{"files":[{"size":1e999}]}"#;
        assert_eq!(read(far).unwrap_err(), "invalid_field /files/0/size");
        let broken = r#"{"files":[{"size":1e999}]"#;
        assert_eq!(read(broken).unwrap_err(), "malformed_json -");
    }

    #[test]
    fn takes_no_list_for_an_object() {
        for (body, want) in [
            (r#"["post","1",[]]"#, "invalid_field "),
            (
                r#"{"entity_type":"post","entity_id":"1","files":[["a.png",null,1,"x"]]}"#,
                "invalid_field /files/0",
            ),
        ] {
            let answer = read_json::<UploadRequest>(&json_headers(), Body::from(body))
                .now_or_never()
                .unwrap();
            assert_eq!(problem(answer.unwrap_err()), want, "{body}");
        }
    }

    #[test]
    fn bounds_nesting_and_size() {
        let deep = format!("{{\"files\":[{{\"size\":{}", "[".repeat(10_000));
        assert_eq!(read(deep).unwrap_err(), "invalid_field /files/0/size");
        assert_eq!(
            read(vec![b' '; MAX_JSON_BYTES + 1]).unwrap_err(),
            "body_too_large -"
        );
        assert_eq!(
            read(vec![b' '; MAX_JSON_BYTES]).unwrap_err(),
            "malformed_json -"
        );
    }

    #[test]
    fn refuses_bytes_that_are_not_utf8() {
        assert_eq!(
            read(b"{\"files\xff\":[]}".to_vec()).unwrap_err(),
            "malformed_json -"
        );
    }

    #[test]
    fn wants_the_json_content_type() {
        for declared in [
            "",
            "text/plain",
            "application/jsonx",
            "application/problem+json",
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, declared.parse().unwrap())]);
            let answer = read_json::<Wanted>(&headers, Body::from("{}"))
                .now_or_never()
                .unwrap();
            assert!(
                problem(answer.unwrap_err()).starts_with("unsupported_content_type"),
                "{declared}"
            );
        }
    }
}
