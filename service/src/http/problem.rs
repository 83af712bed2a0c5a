//! How every failure leaves the worker: RFC 9457 `application/problem+json` with a stable code.
//!
//! A handler answers `Err(ApiError)`. The response it turns into is empty and carries the error
//! along; [`render`] writes the body at the rim, where the request's id and path are known, and
//! also takes care of whatever an unmatched route or the framework itself answered. So no failure
//! leaves in another shape.

use crate::log::Failure;
use axum::{
    body::Body,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use keepsake_shared::{
    ErrorCode, FieldError,
    error::{PROBLEM_JSON, Problem},
};
use serde_json::Value;
use std::fmt::Display;

/// Seconds after which a client may try again when a part behind the worker is down.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// Most characters of what a client sent that a response repeats.
const MAX_EXCERPT_CHARS: usize = 300;

/// What a client sent, or a text that quotes it, cut short: a response is not many times its request.
pub(crate) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(MAX_EXCERPT_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A failure on its way to the client. Boxed, because every handler's result has room for one.
#[derive(Debug, Clone)]
pub(crate) struct ApiError(Box<Contents>);

#[derive(Debug, Clone)]
struct Contents {
    code: ErrorCode,
    detail: String,
    errors: Vec<FieldError>,
    conflicts: Vec<Value>,
    quota: Option<Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<String>,
}

impl ApiError {
    /// A failure the client is told about: `detail` says what happened, why, and what to do.
    pub(crate) fn new(code: ErrorCode, detail: impl Display) -> Self {
        Self(Box::new(Contents {
            code,
            detail: detail.to_string(),
            errors: Vec::new(),
            conflicts: Vec::new(),
            quota: None,
            headers: Vec::new(),
            cause: None,
        }))
    }

    /// A failure of ours. `cause` goes to the log; the client learns nothing from it.
    pub(crate) fn internal(cause: impl Display) -> Self {
        Self::new(
            ErrorCode::Internal,
            "The worker failed. The cause is in its log, under this request id.",
        )
        .with_cause(cause)
    }

    /// Nothing there, or nothing the caller may know of: both look the same.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(
            ErrorCode::NotFound,
            format_args!("There is no such {what}."),
        )
    }

    /// No route, or none in this deployment.
    pub(crate) fn no_path() -> Self {
        Self::new(ErrorCode::NotFound, "There is nothing at this path.")
    }

    /// A request whose fields are wrong, with everything that is.
    pub(crate) fn of_errors(errors: Vec<FieldError>) -> Self {
        let problem = Problem::of_errors(errors);
        Self::new(problem.code, problem.detail).with_errors(problem.errors)
    }

    /// One reason per file or field.
    pub(crate) fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.0.errors = errors;
        self
    }

    /// What stands in the way of a restore.
    pub(crate) fn with_conflicts(mut self, conflicts: Vec<Value>) -> Self {
        self.0.conflicts = conflicts;
        self
    }

    /// The limit that was met.
    pub(crate) fn with_quota(mut self, quota: Option<Value>) -> Self {
        self.0.quota = quota;
        self
    }

    /// A header the status asks for.
    pub(crate) fn with_header(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.0.headers.push((HeaderName::from_static(name), value));
        self
    }

    /// What the client is told instead.
    pub(crate) fn with_detail(mut self, detail: impl Display) -> Self {
        self.0.detail = detail.to_string();
        self
    }

    /// What really happened, for the log alone.
    pub(crate) fn with_cause(mut self, cause: impl Display) -> Self {
        self.0.cause = Some(cause.to_string());
        self
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status();
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the problem document of a failed response; leaves every other response as it is.
///
/// `path` is the request's path as it may be shown: without a token.
pub(crate) fn render(
    response: Response,
    path: &str,
    request_id: &str,
) -> (Response, Option<Failure>) {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return (response, None);
    }
    let (mut parts, _) = response.into_parts();
    let error = parts
        .extensions
        .remove::<ApiError>()
        .unwrap_or_else(|| unexplained(status));
    parts.status = error.status();
    // That of the body before.
    parts.headers.remove(CONTENT_LENGTH);
    parts
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    if parts.status == StatusCode::SERVICE_UNAVAILABLE {
        parts.headers.insert(RETRY_AFTER, RETRY_SECONDS);
    }
    let error = *error.0;
    parts.headers.extend(error.headers);
    let failure = Failure {
        code: error.code,
        cause: error.cause,
    };
    let problem = Problem {
        instance: Some(path.to_owned()),
        request_id: Some(request_id.to_owned()),
        errors: error.errors,
        conflicts: error.conflicts,
        quota: error.quota,
        ..Problem::new(error.code, error.detail)
    };
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    (Response::from_parts(parts, Body::from(body)), Some(failure))
}

/// A failure that came from the router and not from a handler.
fn unexplained(status: StatusCode) -> ApiError {
    match status {
        StatusCode::NOT_FOUND => ApiError::no_path(),
        StatusCode::METHOD_NOT_ALLOWED => ApiError::new(
            ErrorCode::MethodNotAllowed,
            "This path does not support this method. The Allow header lists those it supports.",
        ),
        other => ApiError::internal(format_args!("the router answered {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use http_body_util::BodyExt;

    fn rendered(response: Response) -> (StatusCode, Value, Option<Failure>) {
        let (response, failure) = render(response, "/v1/x", "id-1");
        let status = response.status();
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
        let body = response
            .into_body()
            .collect()
            .now_or_never()
            .unwrap()
            .unwrap();
        (
            status,
            serde_json::from_slice(&body.to_bytes()).unwrap(),
            failure,
        )
    }

    #[test]
    fn tells_long_texts_cut_short() {
        let longest = "ü".repeat(MAX_EXCERPT_CHARS);
        assert_eq!(excerpt(&longest), longest);
        assert_eq!(excerpt(&format!("{longest}ü")), format!("{longest}…"));
    }

    #[test]
    fn says_what_happened_and_where() {
        let error = ApiError::new(ErrorCode::NotFound, "There is no such upload.");
        let (status, problem, _) = rendered(error.into_response());
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(problem["status"], 404);
        assert_eq!(problem["code"], "not_found");
        assert_eq!(problem["detail"], "There is no such upload.");
        assert_eq!(problem["instance"], "/v1/x");
        assert_eq!(problem["request_id"], "id-1");
    }

    #[test]
    fn keeps_causes_for_the_log() {
        let error = ApiError::internal("password=hunter2");
        let (status, problem, failure) = rendered(error.into_response());
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!problem.to_string().contains("hunter2"));
        assert_eq!(failure.unwrap().cause.as_deref(), Some("password=hunter2"));
    }

    #[test]
    fn asks_for_patience_when_a_part_is_down() {
        let error = ApiError::new(ErrorCode::DatabaseUnavailable, "Down.");
        let (response, _) = render(error.into_response(), "/", "id");
        assert!(response.headers().contains_key(RETRY_AFTER));
    }

    #[test]
    fn tells_no_length_of_another_body() {
        let mut refused = ApiError::not_found("upload").into_response();
        refused.headers_mut().insert(CONTENT_LENGTH, 0.into());
        let (response, _) = render(refused, "/", "id");
        assert!(!response.headers().contains_key(CONTENT_LENGTH));
    }

    #[test]
    fn explains_what_the_router_answered() {
        for (status, code) in [
            (StatusCode::NOT_FOUND, "not_found"),
            (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            (StatusCode::BAD_REQUEST, "internal"),
        ] {
            assert_eq!(rendered(status.into_response()).1["code"], code);
        }
    }

    #[test]
    fn leaves_good_answers_alone() {
        let (response, failure) = render((StatusCode::OK, "fine").into_response(), "/", "id");
        assert!(failure.is_none());
        let body = response
            .into_body()
            .collect()
            .now_or_never()
            .unwrap()
            .unwrap();
        assert_eq!(body.to_bytes(), "fine");
    }
}
