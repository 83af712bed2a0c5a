//! What several handlers do alike: read a body, ask the database, answer in JSON, page a listing.

use crate::{
    context::RequestContext,
    db::{CallerFunction, Database, DbError, SystemFunction},
    http::{
        ApiError, body, cursor,
        query::{Query, foreign_cursor},
    },
    model::Caller,
    runtime::Once,
};
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use keepsake_shared::{ErrorCode, ObjectKey};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::str::FromStr;

/// A JSON answer.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(value).map_err(ApiError::internal)?;
    let content_type = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((status, content_type, Body::from(body)).into_response())
}

/// What the database answers a caller, as it is.
pub(super) fn ask<'a>(
    context: &'a RequestContext,
    caller: &'a Caller,
    function: CallerFunction,
    request: Value,
) -> impl Future<Output = Result<Response, ApiError>> + 'a {
    Once::new(async move {
        let answer = context
            .database()?
            .for_caller(function, caller, request)
            .await?;
        json(StatusCode::OK, &answer)
    })
}

/// Whose entries a listing has.
pub(super) enum Listed<'a> {
    /// Those that a caller may see.
    OfCaller(&'a Caller, CallerFunction),
    /// Those of all tenants.
    OfAll(SystemFunction),
}

/// One page of a listing, from `limit` and `cursor`. What is not asked for is `null` in `listing`, and
/// not there for the database.
pub(super) fn page<'a>(
    context: &'a RequestContext,
    listed: Listed<'a>,
    query: &'a Query,
    mut listing: Value,
) -> impl Future<Output = Result<Value, ApiError>> + 'a {
    Once::new(async move {
        let keys = &context.config.url_keys;
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
        let database = context.database()?;
        let mut answer = match listed {
            Listed::OfCaller(caller, function) => {
                database.for_caller(function, caller, request).await
            }
            Listed::OfAll(function) => database.for_system(function, request).await,
        }?;
        let next = answer["next_cursor"]
            .as_str()
            .map(|last| cursor::sign(keys, tenant, &listing, last));
        answer
            .as_object_mut()
            .ok_or_else(|| {
                DbError::Unavailable(
                    "the database's answer has an unexpected shape: no object".to_owned(),
                )
            })?
            .insert("next_cursor".to_owned(), next.into());
        Ok(answer)
    })
}

/// The JSON body of a request; see [`body::read_json`].
pub(super) async fn read<T: DeserializeOwned>(request: &mut Request) -> Result<T, ApiError> {
    let body = std::mem::take(request.body_mut());
    body::read_json(request.headers(), body).await
}

/// An id from the path.
pub(super) fn id<T: FromStr>(text: &str) -> Result<T, ApiError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| {
        ApiError::new(
            ErrorCode::InvalidId,
            format_args!("The path is invalid: {error}."),
        )
    })
}

/// The last gate before anything is signed: an object of another tenant never is, whatever the
/// database said.
pub(super) fn own(caller: &Caller, key: ObjectKey) -> Result<ObjectKey, ApiError> {
    if *key.tenant() == caller.tenant {
        Ok(key)
    } else {
        Err(ApiError::internal(
            "the database named an object of another tenant",
        ))
    }
}
