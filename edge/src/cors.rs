//! Cross-origin requests: listed origins only, preflights answered without a token.

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
            ALLOW, ORIGIN, VARY,
        },
    },
    response::Response,
};

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, OPTIONS");
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, if-match, if-none-match, if-range, range, x-amz-checksum-sha256, x-request-id",
);
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(
    "accept-ranges, content-disposition, content-range, etag, keepsake-deletion, location, retry-after, x-request-id",
);
/// Seconds a browser may remember a preflight; Chromium caps it at two hours.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// The answer to `OPTIONS`, whatever the path: 204, and for a listed origin what it may send.
pub(crate) fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ALLOW, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}

/// Marks a response as readable by the page that asked, if its origin is listed. Every response
/// varies by origin, so that no cache hands one page's answer to another.
pub(crate) fn apply(request: &HeaderMap, allowed_origins: &[String], response: &mut HeaderMap) {
    response.append(VARY, HeaderValue::from_static("Origin"));
    let listed = request.get(ORIGIN).filter(|origin| {
        allowed_origins
            .iter()
            .any(|allowed| allowed.as_bytes() == origin.as_bytes())
    });
    match listed {
        Some(origin) => {
            response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
        }
        None => {
            for name in [
                ACCESS_CONTROL_ALLOW_METHODS,
                ACCESS_CONTROL_ALLOW_HEADERS,
                ACCESS_CONTROL_MAX_AGE,
            ] {
                response.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(origin: Option<&str>) -> HeaderMap {
        let request = HeaderMap::from_iter(origin.map(|value| (ORIGIN, value.parse().unwrap())));
        let mut response = preflight();
        apply(
            &request,
            &["https://app.example.com".to_owned()],
            response.headers_mut(),
        );
        response.headers().clone()
    }

    #[test]
    fn lets_a_listed_origin_in() {
        let headers = answer_to(Some("https://app.example.com"));
        assert_eq!(
            headers[ACCESS_CONTROL_ALLOW_ORIGIN],
            "https://app.example.com"
        );
        assert_eq!(headers[VARY], "Origin");
        assert!(headers.contains_key(ACCESS_CONTROL_ALLOW_METHODS));
    }

    #[test]
    fn keeps_every_other_origin_out() {
        for origin in [
            None,
            Some("null"),
            Some("*"),
            Some("http://app.example.com"),
            Some("https://app.example.com.evil.test"),
            Some("https://app.example.com:8443"),
            Some("HTTPS://APP.EXAMPLE.COM"),
        ] {
            let headers = answer_to(origin);
            assert!(
                !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN),
                "{origin:?}"
            );
            assert!(
                !headers.contains_key(ACCESS_CONTROL_ALLOW_METHODS),
                "{origin:?}"
            );
            assert_eq!(headers[VARY], "Origin");
        }
    }
}
