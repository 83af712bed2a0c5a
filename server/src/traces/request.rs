//! The span of a caller's request.

use super::span::{Kind, Span};
use axum::{
    body::Body,
    http::{self, HeaderMap, Method},
    response::Response,
};
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// Most bytes of `tracestate` that are taken over, as many as W3C Trace Context wants (§3.3.1.5): it waits in memory.
const MAX_STATE_BYTES: usize = 512;

/// Carries the id that the log has, too.
const REQUEST_ID: &str = "x-request-id";

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Request {
    span: Span,
    method: &'static str,
    /// Empty where nothing is traced.
    path: String,
}

impl Request {
    /// Begins with a request's arrival, as a part of what its caller traces.
    pub(crate) fn begin(request: &http::Request<Body>) -> Self {
        let method = known(request.method());
        let span = Span::begin_in(
            || caller(request.headers()),
            Kind::Server,
            || {
                let scheme = request.uri().scheme_str().unwrap_or("http").to_owned();
                let attributes = vec![
                    KeyValue::new("http.request.method", method),
                    KeyValue::new("url.scheme", scheme),
                ];
                (method.into(), attributes)
            },
        );
        let path = match super::span::are_on() {
            true => request.uri().path().to_owned(),
            false => String::new(),
        };
        Self { span, method, path }
    }

    /// Answers it.
    pub(crate) fn around<W: Future>(&self, work: W) -> impl Future<Output = W::Output> + use<W> {
        self.span.around(work)
    }

    /// Ends with the beginning of the answer. A request that no route took has no path: anything could stand in it.
    pub(crate) fn end(self, answer: &Response, route: Option<&str>) {
        if !super::span::are_on() {
            return;
        }
        if let Some(route) = route {
            self.span.rename(format!("{} {route}", self.method));
            self.span.add("http.route", route.to_owned());
            self.span.add("url.path", shown(route, &self.path));
        }
        let id = answer.headers().get(REQUEST_ID);
        if let Some(id) = id.and_then(|id| id.to_str().ok()) {
            self.span.add("keepsake.request_id", id.to_owned());
        }
        let status = answer.status();
        let number = i64::from(status.as_u16());
        self.span.add("http.response.status_code", number);
        if status.is_server_error() {
            self.span.fail(status.as_str().to_owned());
        }
    }
}

/// A method that HTTP knows; any word may stand in its place.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE",
    ];
    let known = KNOWN.into_iter().find(|known| *known == method.as_str());
    known.unwrap_or("_OTHER")
}

/// What a request is a part of, as W3C Trace Context says it.
fn caller(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers))
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let text = self.0.get(key)?.to_str().ok()?;
        Some(text).filter(|text| text.len() <= MAX_STATE_BYTES)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// A path as it may be shown: of what a caller put in, only ids. Elsewhere stands what the route calls it.
fn shown(route: &str, path: &str) -> String {
    let given = path.split('/');
    let words: Vec<&str> = route
        .split('/')
        .zip(given)
        .map(
            |(word, given)| match word.starts_with('{') && is_id(given) {
                true => given,
                false => word,
            },
        )
        .collect();
    words.join("/")
}

/// Whether it is a whole number or a UUID: neither a token nor a name.
fn is_id(text: &str) -> bool {
    let is_number =
        (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number || (text.len() == 36 && uuid::Uuid::try_parse(text).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::TraceContextExt;

    #[test]
    fn of_a_path_only_ids_are_shown() {
        let id = "0193a2c4-7d1e-7000-8000-0123456789ab";
        for (route, path, expected) in [
            (
                "/v1/objects/{token}",
                "/v1/objects/eyJhbGciOiJI",
                "/v1/objects/{token}",
            ),
            (
                "/v1/uploads/{id}",
                &format!("/v1/uploads/{id}"),
                &format!("/v1/uploads/{id}"),
            ),
            ("/v1/{entity}/{id}", "/v1/post/7", "/v1/{entity}/7"),
            (
                "/v1/{entity}/{id}",
                "/v1/my%20taxes.pdf/a.b.c",
                "/v1/{entity}/{id}",
            ),
            (
                "/v1/{entity}/{id}",
                "/v1/post/123456789012345678901",
                "/v1/{entity}/{id}",
            ),
            ("/", "/", "/"),
        ] {
            assert_eq!(shown(route, path), expected, "{path}");
        }
    }

    #[test]
    fn takes_over_what_a_caller_traces_and_no_more_than_it_must() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let of = |state: String| {
            let headers = [("traceparent", parent), ("tracestate", &state)];
            let headers = headers
                .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
            caller(&headers.into_iter().collect())
        };
        let state = |context: &Context| context.span().span_context().trace_state().header();
        let short = of("a=1".to_owned());
        assert!(short.span().span_context().is_sampled());
        assert_eq!(state(&short), "a=1");
        let long = of(format!("a={}", "1".repeat(MAX_STATE_BYTES)));
        assert!(long.span().span_context().is_sampled());
        assert_eq!(state(&long), "");
        assert!(!caller(&HeaderMap::new()).has_active_span());
    }

    #[test]
    fn a_method_that_nobody_knows_is_not_repeated() {
        assert_eq!(known(&Method::PATCH), "PATCH");
        assert_eq!(known(&Method::from_bytes(b"HUNTER2").unwrap()), "_OTHER");
    }
}
