//! `GET /healthz`.

use super::json;
use crate::{
    app::App,
    db::{Call, Database},
    problem::ApiError,
    query::Query,
    rate_limit::Counted,
    storage::Storage,
};
use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use keepsake_shared::ObjectKey;
use serde_json::json;

/// A key as the rules make them, of a tenant that nobody has: the store only has to answer.
const NO_OBJECT: &str = "t/keepsake/nothing/0/00000000-0000-7000-8000-000000000000.txt";

/// `GET /healthz`: is the worker there, and with `?deep=1` the database and the store too?
///
/// 1. Read the query; an unknown parameter → 400.
/// 2. With `deep`, as one of the callers of this address; too many → 429.
/// 3. Ask the database and the store; one without an answer → 503.
/// 4. 200.
#[worker::send]
pub(crate) async fn check(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref(), &["deep"])?;
    if !query.flag("deep")? {
        return json(StatusCode::OK, &json!({ "status": "ok" }));
    }
    app.limits().count(Counted::Address(&headers)).await?;
    let nothing = ObjectKey::parse(NO_OBJECT).map_err(ApiError::internal)?;
    app.database()?.call(Call::Ping).await?;
    app.storage()?.observe(&nothing, 0).await?;
    json(
        StatusCode::OK,
        &json!({ "status": "ok", "database": "ok", "storage": "ok" }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_an_object_that_could_be() {
        assert_eq!(ObjectKey::parse(NO_OBJECT).unwrap().as_str(), NO_OBJECT);
    }
}
