//! Cross-origin requests: listed origins only, but for object URLs any; preflights are answered
//! without a token.

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

/// The headers that the API takes.
const REQUEST_HEADERS: &str = "authorization, content-type, idempotency-key, if-match, if-modified-since, if-none-match, \
    if-range, if-unmodified-since, range, x-amz-checksum-sha256, x-request-id";
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(
    "accept-ranges, content-disposition, content-range, etag, keepsake-deletion, last-modified, location, retry-after, x-request-id",
);
/// Seconds a browser may remember a preflight; Chromium caps it at two hours.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// The pages that may read an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Readers<'a> {
    /// Those of any origin, `null` too.
    Any,
    /// Those of these origins.
    Listed(&'a [String]),
}

impl<'a> Readers<'a> {
    /// Who may read what a path answers.
    ///
    /// For an object URL the token in it is the whole permission, whoever asks. A list could not
    /// tell either: after a redirect to another origin a browser sends `Origin: null`
    /// (<https://fetch.spec.whatwg.org/#append-a-request-origin-header>).
    pub(crate) fn of(path: &str, allowed_origins: &'a [String]) -> Self {
        match path.strip_prefix("/v1/objects/") {
            Some(token) if !token.is_empty() && !token.contains('/') => Self::Any,
            _ => Self::Listed(allowed_origins),
        }
    }

    /// What allows the page that sent this `Origin` to read the answer, if it may.
    fn allow(self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        match self {
            Self::Any => Some(HeaderValue::from_static("*")),
            Self::Listed(allowed) => origin
                .filter(|origin| {
                    allowed
                        .iter()
                        .any(|allowed| allowed.as_bytes() == origin.as_bytes())
                })
                .cloned(),
        }
    }
}

/// The answer to `OPTIONS`, made of what the router answers, whose routes do not have that method: 204, with the methods
/// that the path takes, and with what else a page that may read it may send: the headers of the API, and those of the
/// settings, which tracing libraries and frameworks add to every request. Where there is no path, a page may at least read
/// that.
pub(crate) fn preflight(answer: Response, further_headers: &str) -> Response {
    if !matches!(
        answer.status(),
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_FOUND
    ) {
        return answer;
    }
    let methods = methods(answer.headers().get(ALLOW));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ALLOW, methods.clone());
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    let allowed = HeaderValue::from_str(&format!("{REQUEST_HEADERS}, {further_headers}"));
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        allowed.unwrap_or(HeaderValue::from_static(REQUEST_HEADERS)),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}

/// The methods that the router allows, and this one.
fn methods(allowed: Option<&HeaderValue>) -> HeaderValue {
    let only = HeaderValue::from_static("OPTIONS");
    let Some(allowed) = allowed.and_then(|allowed| allowed.to_str().ok()) else {
        return only;
    };
    HeaderValue::from_str(&format!("{}, OPTIONS", allowed.replace(',', ", "))).unwrap_or(only)
}

/// Marks a response as readable by the page that asked, if it is among the readers; never with
/// credentials. Every response varies by origin, so that no cache hands one page's answer to
/// another.
pub(crate) fn apply(request: &HeaderMap, readers: Readers<'_>, response: &mut HeaderMap) {
    response.append(VARY, HeaderValue::from_static("Origin"));
    match readers.allow(request.get(ORIGIN)) {
        Some(allowed) => {
            response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
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
        answer_at("/v1/uploads", origin)
    }

    fn answer_at(path: &str, origin: Option<&str>) -> HeaderMap {
        let request = HeaderMap::from_iter(origin.map(|value| (ORIGIN, value.parse().unwrap())));
        let listed = ["https://app.example.com".to_owned()];
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response
            .headers_mut()
            .insert(ALLOW, "GET,HEAD".parse().unwrap());
        let mut response = preflight(response, "traceparent, x-of-our-own");
        apply(&request, Readers::of(path, &listed), response.headers_mut());
        response.headers().clone()
    }

    #[test]
    fn tells_the_methods_of_a_path_and_no_other() {
        let headers = answer_to(Some("https://app.example.com"));
        for name in [ALLOW, ACCESS_CONTROL_ALLOW_METHODS] {
            assert_eq!(headers[&name], "GET, HEAD, OPTIONS");
        }
        for (status, want) in [
            (StatusCode::NOT_FOUND, StatusCode::NO_CONTENT),
            (StatusCode::TOO_MANY_REQUESTS, StatusCode::TOO_MANY_REQUESTS),
        ] {
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = status;
            assert_eq!(preflight(answer, "").status(), want);
        }
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
        let allowed = headers[ACCESS_CONTROL_ALLOW_HEADERS].to_str().unwrap();
        let allowed: Vec<_> = allowed.split(", ").collect();
        for name in [
            "authorization",
            "if-unmodified-since",
            "traceparent",
            "x-of-our-own",
        ] {
            assert!(allowed.contains(&name), "{name}");
        }
    }

    #[test]
    fn lets_any_origin_in_at_an_object_url() {
        for origin in [
            None,
            Some("null"),
            Some("https://app.example.com"),
            Some("https://other.example.com"),
        ] {
            let headers = answer_at("/v1/objects/k1.a.b.c", origin);
            assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*", "{origin:?}");
            assert!(headers.contains_key(ACCESS_CONTROL_ALLOW_METHODS));
            assert!(!headers.contains_key("access-control-allow-credentials"));
        }
        for path in [
            "/v1/objects",
            "/v1/objects/",
            "/v1/objects/x/restore",
            "/v1/uploads/objects",
            "/v1/post/7/attachments",
        ] {
            let headers = answer_at(path, Some("null"));
            assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), "{path}");
        }
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
