//! What a handler takes as arguments: who calls, and the variable parts of the path.

use crate::{
    auth::{AuthError, Identity},
    context::RequestContext,
    http::ApiError,
    model::{Caller, Scope},
};
use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use keepsake_shared::ErrorCode;
use serde::de::DeserializeOwned;

/// A caller who may read.
#[derive(Debug)]
pub(crate) struct Reader(pub(crate) Caller);

/// A caller who may write.
#[derive(Debug)]
pub(crate) struct Writer(pub(crate) Caller);

/// A caller who may read, or anybody else.
#[derive(Debug)]
pub(crate) struct Anybody(pub(crate) Option<Caller>);

/// Whoever it is: the handler reads on, and then asks for a [`Caller`].
#[derive(Debug)]
pub(crate) struct Asker(pub(crate) Identity);

/// Somebody who may read the metrics. No tenant's business, so the token needs to name none.
#[derive(Debug)]
pub(crate) struct Watcher;

/// Somebody who keeps the whole deployment running: who it is, for the record. The token needs to
/// name no tenant.
#[derive(Debug)]
pub(crate) struct Operator(pub(crate) String);

impl FromRequestParts<RequestContext> for Reader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &RequestContext) -> Result<Self, ApiError> {
        Ok(Self(identity(parts)?.caller(Scope::Read)?))
    }
}

impl FromRequestParts<RequestContext> for Writer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &RequestContext) -> Result<Self, ApiError> {
        Ok(Self(identity(parts)?.caller(Scope::Write)?))
    }
}

impl FromRequestParts<RequestContext> for Anybody {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &RequestContext) -> Result<Self, ApiError> {
        let identity = identity(parts).ok();
        Ok(Self(
            identity.and_then(|identity| identity.caller(Scope::Read).ok()),
        ))
    }
}

impl FromRequestParts<RequestContext> for Asker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &RequestContext) -> Result<Self, ApiError> {
        Ok(Self(identity(parts)?))
    }
}

impl FromRequestParts<RequestContext> for Watcher {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &RequestContext) -> Result<Self, ApiError> {
        identity(parts)?.require(Scope::Metrics)?;
        Ok(Self)
    }
}

impl FromRequestParts<RequestContext> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &RequestContext) -> Result<Self, ApiError> {
        Ok(Self(identity(parts)?.subject(Scope::Operator)?))
    }
}

/// The [`Identity`] that came with the request, where its requests were counted. Without one nobody is let in.
fn identity(parts: &mut Parts) -> Result<Identity, AuthError> {
    parts.extensions.remove().ok_or(AuthError::Missing)
}

/// The variable parts of the path.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<RequestContext> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        context: &RequestContext,
    ) -> Result<Self, ApiError> {
        let Path(values) = Path::from_request_parts(parts, context)
            .await
            .map_err(|_| ApiError::new(ErrorCode::InvalidId, "The path is not valid UTF-8."))?;
        Ok(Self(values))
    }
}
