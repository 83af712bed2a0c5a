//! `GET /healthz`.

use super::answers::json;
use crate::{
    auth,
    config::ConfigError,
    context::RequestContext,
    db::{self, Call, Database, REQUIRED_SCHEMA},
    http::{ApiError, query::Query, rate_limit::Counted},
};
use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use keepsake_shared::ObjectKey;
use serde::Deserialize;
use serde_json::json;

/// A well-formed key of a tenant that nobody has: the store only has to answer.
const NO_OBJECT: &str = "t/keepsake/nothing/0/00000000-0000-7000-8000-000000000000.txt";

/// The schema of the database.
#[derive(Deserialize)]
struct Schema {
    version: i64,
}

/// `GET /healthz`: does the worker answer, and with `?deep=1` the database and the store too?
///
/// 1. Read the query; an unknown parameter → 400.
/// 2. With `deep`, count the request by its address; too many → 429.
/// 3. Ask the database for the version of its schema; no answer, or a schema that is too old → 503.
/// 4. Ask the store; no answer, or it could not take a file in → 503.
/// 5. Look whether the issuer's keys are there, where it publishes them; they cannot be had → 503, or be used → 500.
/// 6. 200.
///
/// Settings that cannot be used are told before this route is reached: see [`misconfigured`].
pub(crate) async fn check(
    State(context): State<RequestContext>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref(), &["deep"])?;
    if !query.flag("deep")? {
        return json(StatusCode::OK, &json!({ "status": "ok" }));
    }
    context.limits().count(Counted::Address(&headers)).await?;
    let nothing = ObjectKey::parse(NO_OBJECT).map_err(ApiError::internal)?;
    let Schema { version } = db::read(context.database()?.call(Call::SchemaVersion).await?)?;
    context.storage()?.probe(&nothing).await?;
    if let Some(jwks) = &context.config.tokens.jwks {
        auth::check_issuer(jwks).await?;
    }
    let answer = json!({
        "status": "ok",
        "database": "ok",
        "storage": "ok",
        "schema": { "version": version, "required": REQUIRED_SCHEMA },
    });
    json(StatusCode::OK, &answer)
}

/// What a worker answers whose settings cannot be used. Who asks for its health is told which setting it is, but never its
/// value; everybody else, that it failed.
pub(crate) fn misconfigured(path: &str, error: &ConfigError) -> ApiError {
    let failed = ApiError::internal(error);
    if path == "/healthz" {
        failed.with_detail(format_args!(
            "The worker's configuration cannot be used: {error}. Correct it, then deploy again."
        ))
    } else {
        failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::problem;
    use axum::response::IntoResponse;
    use futures_util::FutureExt;
    use http_body_util::BodyExt;

    #[test]
    fn names_a_setting_that_cannot_be_used_to_who_asks_for_health() {
        let error = ConfigError {
            name: "ALLOWED_ORIGINS",
            problem: "must contain only origins".to_owned(),
        };
        let told = |path| {
            let refused = misconfigured(path, &error).into_response();
            let (response, failure) = problem::render(refused, path, "id");
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(failure.unwrap().cause, Some(error.to_string()));
            let body = response.into_body().collect().now_or_never();
            String::from_utf8(body.unwrap().unwrap().to_bytes().into()).unwrap()
        };
        assert!(told("/healthz").contains("ALLOWED_ORIGINS: must contain only origins"));
        assert!(!told("/v1/attachments").contains("ALLOWED_ORIGINS"));
    }

    #[test]
    fn asks_for_an_object_that_could_be() {
        assert_eq!(ObjectKey::parse(NO_OBJECT).unwrap().as_str(), NO_OBJECT);
    }
}
