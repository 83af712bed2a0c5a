//! Which handler answers what.
//!
//! One file a resource; each handler documents its steps and their statuses. `extractors` are its arguments, `answers`
//! what several handlers do alike, and `errors` the one place that turns other rooms' errors into problems.
//!
//! May call every other room. Nothing but the entry points calls this one.

mod answers;
mod attach;
mod attachments;
mod deletions;
mod entities;
mod errors;
mod extractors;
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
mod uploads;
mod usage;
mod versions;

use crate::{
    auth::Identity,
    context::RequestContext,
    http::{ApiError, rate_limit::Counted},
};
use axum::{
    Router,
    extract::{MatchedPath, Request},
    http::{HeaderMap, Method, StatusCode},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
pub(crate) use health::misconfigured;
use std::sync::OnceLock;
use tower_service::Service;

/// Made for the first request of an isolate: it takes a sixth of a millisecond.
static ROUTER: OnceLock<Router<RequestContext>> = OnceLock::new();

/// Paths whose handlers count the requests that they take; those that they refuse are counted here. Of health a load
/// balancer may ask as often as it likes, and what was signed names whom it is for.
const COUNTED_THERE: [&str; 3] = ["/healthz", "/v1/objects/{token}", "/v1/scan-results"];

/// Lets the matching handler answer. Every failure is an [`ApiError`] in the response's extensions.
pub(crate) async fn answer(mut request: Request, context: RequestContext) -> Response {
    request.extensions_mut().insert(context.clone());
    let mut router = ROUTER.get_or_init(router).clone().with_state(context);
    let Ok(response) = router.call(request).await;
    response
}

/// The route that answered, if one matched.
pub fn matched(response: &Response) -> Option<&str> {
    response
        .extensions()
        .get::<MatchedPath>()
        .map(MatchedPath::as_str)
}

fn router() -> Router<RequestContext> {
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
            "/v1/attachments/{id}/versions",
            get(versions::list).post(versions::create),
        )
        .route(
            "/v1/attachments/{id}/versions/{version}/content",
            get(versions::content),
        )
        .route(
            "/v1/attachments/{id}/versions/{version}/restore",
            post(versions::restore),
        )
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
        .route(
            "/v1/operator/erasures",
            get(operator::look).post(operator::erase),
        )
        .route("/v1/operator/events", get(operator::look))
        .route("/v1/operator/events/{id}/retry", post(operator::retry))
        .route("/v1/operator/findings", get(operator::look))
        .route("/v1/{entity}", get(entities::list))
        .route(
            "/v1/{entity}/{id}",
            get(entities::get)
                .patch(entities::rename)
                .delete(entities::delete),
        )
        .route(
            "/v1/{entity}/{id}/attachments",
            get(entities::attachments).post(attach::store),
        )
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
    let context = request.extensions_mut().remove::<RequestContext>();
    let context =
        context.ok_or_else(|| ApiError::internal("a request came without its context"))?;
    let (limits, headers) = (context.limits(), request.headers().clone());
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
        let identity = identify(&context, path, &headers).await?;
        request.extensions_mut().insert(identity);
    }
    Ok(next.run(std::mem::take(request)).await)
}

/// Says who asks, and counts it. To a Hyperdrive a connection is opened meanwhile.
async fn identify(
    context: &RequestContext,
    path: Option<&str>,
    headers: &HeaderMap,
) -> Result<Identity, ApiError> {
    let identity = Identity::of(headers, &context.config.tokens).await;
    if path.is_some() && identity.may_ask() {
        context.expect_database();
    }
    match identity.name() {
        Some(name) => context.limits().count(Counted::Caller(&name)).await,
        None => context.limits().count(Counted::Address(headers)).await,
    }?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use keepsake_shared::{EntityType, ErrorCode};
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn openapi() -> Value {
        serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap()
    }

    /// The routes and their methods, read from this file.
    fn routes() -> BTreeSet<String> {
        let source = include_str!("mod.rs");
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
