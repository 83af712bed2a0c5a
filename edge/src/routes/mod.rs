//! Which handler answers what.

mod attachments;
mod deletions;
mod entities;
mod health;
mod limits;
mod metrics;
mod multipart;
mod objects;
mod operator;
mod page;
mod parts;
mod runs;
mod scans;
pub(crate) mod uploads;
mod usage;

use crate::{
    app::App,
    auth::{Caller, Identity},
    body, cursor,
    db::{CallerFunction, Database, DbError, SystemFunction},
    problem::ApiError,
    query::{Query, foreign_cursor},
    rate_limit::Counted,
    wire::RawBody,
};
use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, MatchedPath, Path, Request},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header::CONTENT_TYPE, request::Parts},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use keepsake_shared::{ErrorCode, ObjectKey};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{str::FromStr, sync::OnceLock};
use tower_service::Service;

/// Made for the first request of an isolate: it takes a sixth of a millisecond.
static ROUTER: OnceLock<Router<App>> = OnceLock::new();

/// Paths whose handlers count the requests that they take; those that they refuse are counted here. Of health a load
/// balancer may ask as often as it likes, and what was signed names whom it is for.
const COUNTED_THERE: [&str; 3] = ["/healthz", "/v1/objects/{token}", "/v1/scan-results"];

/// Lets the matching handler answer. Every failure is an [`ApiError`] in the response's extensions.
pub(crate) async fn answer(mut request: Request, app: App) -> Response {
    request.extensions_mut().insert(app.clone());
    let mut router = ROUTER.get_or_init(router).clone().with_state(app);
    let Ok(response) = router.call(request).await;
    response
}

/// The route that answered, if one matched.
pub(crate) fn matched(response: &Response) -> Option<&str> {
    response
        .extensions()
        .get::<MatchedPath>()
        .map(MatchedPath::as_str)
}

fn router() -> Router<App> {
    Router::new()
        .route("/", get(page::get))
        .route("/healthz", get(health::check))
        .route("/metrics", get(metrics::get))
        .route("/v1/uploads", post(uploads::create))
        .route("/v1/uploads/{id}", get(uploads::get).delete(uploads::abort))
        .route("/v1/uploads/{id}/complete", post(uploads::complete))
        .route("/v1/uploads/{id}/parts", post(parts::sign).get(parts::list))
        .route(
            "/v1/uploads/{id}/multipart/{attachment_id}",
            get(multipart::list).post(multipart::change),
        )
        .route("/v1/limits", get(limits::get))
        .route("/v1/usage", get(usage::get))
        .route("/v1/runs", get(runs::list))
        .route("/v1/scan-results", post(scans::record))
        .route("/v1/attachments", get(attachments::list))
        .route(
            "/v1/attachments/{id}",
            get(attachments::get)
                .patch(attachments::rename)
                .delete(attachments::delete),
        )
        .route("/v1/attachments/{id}/content", get(attachments::content))
        .route("/v1/attachments/{id}/restore", post(attachments::restore))
        .route(
            "/v1/objects/{token}",
            put(objects::store).get(objects::read).head(objects::head),
        )
        .route("/v1/deletions", get(deletions::list))
        .route("/v1/deletions/{id}", get(deletions::get))
        .route("/v1/deletions/{id}/restore", post(deletions::restore))
        .route("/v1/operator/history", get(operator::look))
        .route("/v1/operator/purge-plan", get(operator::look))
        .route("/v1/operator/outbox", get(operator::look))
        .route("/v1/operator/outbox/{id}/retry", post(operator::retry))
        .route(
            "/v1/operator/holds",
            get(operator::look).post(operator::hold),
        )
        .route("/v1/operator/holds/{id}/release", post(operator::release))
        .route("/v1/operator/findings", get(operator::look))
        .route("/v1/{entity}", get(entities::list))
        .route(
            "/v1/{entity}/{id}",
            get(entities::get)
                .patch(entities::rename)
                .delete(entities::delete),
        )
        .route("/v1/{entity}/{id}/attachments", get(entities::attachments))
        .route("/v1/{entity}/{id}/restore", post(entities::restore))
        .layer(from_fn(admit))
}

/// Stands before every route, and before there being none: counts the request, says who asks, and hands the matched
/// route on to the log line.
async fn admit(route: Option<MatchedPath>, mut request: Request, next: Next) -> Response {
    let path = route.as_ref().map(MatchedPath::as_str);
    let mut response = counted(path, &mut request, next)
        .await
        .unwrap_or_else(IntoResponse::into_response);
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

/// Lets nobody past who asks too often, whether the request would be permitted or not.
async fn counted(
    path: Option<&str>,
    request: &mut Request,
    next: Next,
) -> Result<Response, ApiError> {
    let app = request.extensions_mut().remove::<App>();
    let app = app.ok_or_else(|| ApiError::internal("a request came without its App"))?;
    let (limits, headers) = (app.limits(), request.headers().clone());
    if request.method() == Method::OPTIONS {
        limits.count(Counted::Preflight(&headers)).await?;
    } else if path.is_some_and(|path| COUNTED_THERE.contains(&path)) {
        let response = next.run(std::mem::take(request)).await;
        let status = response.status();
        if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
            limits.count(Counted::Misuse(&headers)).await?;
        }
        return Ok(response);
    } else {
        let identity = identify(&app, path, &headers).await?;
        request.extensions_mut().insert(identity);
    }
    Ok(next.run(std::mem::take(request)).await)
}

/// Says who asks, and counts it. To a Hyperdrive a connection is opened meanwhile.
async fn identify(
    app: &App,
    path: Option<&str>,
    headers: &HeaderMap,
) -> Result<Identity, ApiError> {
    let identity = Identity::of(headers, &app.config.tokens).await;
    if path.is_some() && identity.may_ask() {
        app.expect_database();
    }
    match identity.name() {
        Some(name) => app.limits().count(Counted::Caller(&name)).await,
        None => app.limits().count(Counted::Address(headers)).await,
    }?;
    Ok(identity)
}

/// The variable parts of the path.
struct Params<T>(T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Path(values) = Path::from_request_parts(parts, app)
            .await
            .map_err(|_| ApiError::new(ErrorCode::InvalidId, "The path is not valid UTF-8."))?;
        Ok(Self(values))
    }
}

/// A JSON answer.
fn json(status: StatusCode, value: &impl Serialize) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(value).map_err(ApiError::internal)?;
    let content_type = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((status, content_type, Body::from(body)).into_response())
}

/// What the database answers a caller, as it is.
async fn ask(
    app: &App,
    caller: &Caller,
    function: CallerFunction,
    request: Value,
) -> Result<Response, ApiError> {
    let answer = app
        .database()?
        .for_caller(function, caller, request)
        .await?;
    json(StatusCode::OK, &answer)
}

/// Whose entries a listing has.
enum Listed<'a> {
    /// Those that a caller may see.
    OfCaller(&'a Caller, CallerFunction),
    /// Those of all tenants.
    OfAll(SystemFunction),
}

/// One page of a listing, from `limit` and `cursor`. What is not asked for is `null` in `listing`, and
/// not there for the database.
async fn page(
    app: &App,
    listed: Listed<'_>,
    query: &Query,
    mut listing: Value,
) -> Result<Value, ApiError> {
    let keys = &app.config.url_keys;
    let tenant = match &listed {
        Listed::OfCaller(caller, _) => caller.tenant.as_str(),
        Listed::OfAll(_) => "",
    };
    if let Some(fields) = listing.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    let after = query
        .text("cursor")?
        .map(|text| cursor::verify(keys, tenant, &listing, text).ok_or_else(foreign_cursor))
        .transpose()?;
    let mut request = listing.clone();
    request["limit"] = query.limit()?.into();
    request["cursor"] = after.into();
    let database = app.database()?;
    let mut answer = match listed {
        Listed::OfCaller(caller, function) => database.for_caller(function, caller, request).await,
        Listed::OfAll(function) => database.for_system(function, request).await,
    }?;
    let next = answer["next_cursor"]
        .as_str()
        .map(|last| cursor::sign(keys, tenant, &listing, last));
    answer
        .as_object_mut()
        .ok_or_else(|| misshapen("no object"))?
        .insert("next_cursor".to_owned(), next.into());
    Ok(answer)
}

/// The JSON body of a request; see [`body::read_json`].
async fn read<T: DeserializeOwned>(request: &mut Request) -> Result<T, ApiError> {
    let body = RawBody::of(request);
    let open = || body.map_or_else(worker::Body::empty, RawBody::into_body);
    body::read_json(request.headers(), open).await
}

/// A value the worker made itself, as a header.
fn header(value: &str) -> Result<HeaderValue, ApiError> {
    HeaderValue::from_str(value).map_err(ApiError::internal)
}

/// An id from the path.
fn id<T: FromStr>(text: &str) -> Result<T, ApiError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| {
        ApiError::new(
            ErrorCode::InvalidId,
            format_args!("The path was refused: {error}."),
        )
    })
}

/// An answer of the database, in the form it has promised.
fn expect<T: DeserializeOwned>(answer: Value) -> Result<T, ApiError> {
    serde_json::from_value(answer).map_err(|error| misshapen(&error.to_string()))
}

/// An answer that our SQL functions do not give, so that it is not our database that answers.
fn misshapen(cause: &str) -> ApiError {
    DbError::Unavailable(format!("the database's answer has another form: {cause}")).into()
}

/// The last gate before anything is signed: an object of another tenant never is, whatever the
/// database said.
fn own(caller: &Caller, key: ObjectKey) -> Result<ObjectKey, ApiError> {
    if *key.tenant() == caller.tenant {
        Ok(key)
    } else {
        Err(ApiError::internal(
            "the database named an object of another tenant",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepsake_shared::EntityType;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn openapi() -> Value {
        serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap()
    }

    /// The routes and their methods, read from this file.
    fn routes() -> BTreeSet<String> {
        let source = include_str!("routes.rs");
        let router = source.split("fn router(").nth(1).unwrap();
        let router = router.split(".route_layer(").next().unwrap();
        let mut routes = BTreeSet::new();
        for route in router.split(".route(").skip(1) {
            let path = route.split('"').nth(1).unwrap();
            for method in ["get", "head", "post", "put", "patch", "delete"] {
                if route.contains(&format!("{method}(")) {
                    routes.insert(format!("{method} {path}"));
                }
            }
        }
        routes
    }

    #[test]
    fn the_api_description_has_every_route_and_no_other() {
        let mut described = BTreeSet::new();
        for (path, operations) in openapi()["paths"].as_object().unwrap() {
            // A file beside the page.
            if path == "/openapi.json" {
                continue;
            }
            for method in operations.as_object().unwrap().keys() {
                if method != "parameters" {
                    described.insert(format!("{method} {path}"));
                }
            }
        }
        let mut routes = routes();
        // The page is served beside the interface, and is no part of it.
        assert!(routes.remove("get /"));
        assert_eq!(described, routes);
    }

    #[test]
    fn the_api_description_has_every_code() {
        let described = openapi()["components"]["schemas"]["Code"]["enum"].clone();
        let described: Vec<ErrorCode> = serde_json::from_value(described).unwrap();
        assert_eq!(described, ErrorCode::ALL);
    }

    #[test]
    fn no_entity_type_is_a_word_of_a_path() {
        for path in openapi()["paths"].as_object().unwrap().keys() {
            let words = path.strip_prefix("/v1/").unwrap_or_default();
            let word = words.split('/').next().unwrap_or_default();
            assert!(
                word.starts_with('{') || word.parse::<EntityType>().is_err(),
                "{word}"
            );
        }
    }
}
