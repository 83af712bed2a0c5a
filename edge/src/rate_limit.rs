//! How often one caller may ask, where the deployment has a rate-limiting binding
//! (<https://developers.cloudflare.com/workers/runtime-apis/bindings/rate-limit/>). The binding
//! counts for each location, loosely and without a round trip; the limit itself stands in
//! `wrangler.toml`.

use crate::{auth::Caller, log, problem::ApiError};
use axum::http::{HeaderMap, HeaderValue};
use keepsake_shared::ErrorCode;
use serde_json::json;
use worker::{
    Env,
    js_sys::{Function, Object, Promise, Reflect},
    send::SendFuture,
    wasm_bindgen::{JsCast, JsValue},
    wasm_bindgen_futures::JsFuture,
};

/// The binding; without it nothing is limited.
const BINDING: &str = "RATE_LIMITER";

/// Seconds after which a caller may try again: the longest period that the binding knows.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("60");

/// Who calls from where, as the platform says; no client can set it there.
const ADDRESS: &str = "cf-connecting-ip";

/// Counts the requests of a caller.
#[derive(Debug)]
pub(crate) struct RateLimits<'a>(pub(crate) &'a Env);

impl RateLimits<'_> {
    /// Counts a request of a verified caller.
    ///
    /// # Errors
    /// 429 when there were too many.
    pub(crate) async fn caller(&self, caller: &Caller) -> Result<(), ApiError> {
        self.count(&format!("c/{}/{}", caller.tenant.as_str(), caller.subject))
            .await
    }

    /// Counts a request of somebody unknown by the address it comes from.
    ///
    /// # Errors
    /// 429 when there were too many.
    pub(crate) async fn anonymous(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let address = headers.get(ADDRESS).and_then(|value| value.to_str().ok());
        self.count(&format!("a/{}", address.unwrap_or_default()))
            .await
    }

    async fn count(&self, key: &str) -> Result<(), ApiError> {
        match SendFuture::new(allows(self.0, key)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(ApiError::new(
                ErrorCode::TooManyRequests,
                "There were too many requests in a short time: wait a minute and go on more slowly.",
            )
            .with_header("retry-after", RETRY_AFTER)),
            // A counter that is out of order must not stop those who may.
            Err(_) => {
                let fields = json!({ "cause": "the binding does not count" });
                log::write(log::Level::Error, "rate_limit", fields);
                Ok(())
            }
        }
    }
}

async fn allows(env: &Env, key: &str) -> Result<bool, JsValue> {
    let binding = Reflect::get(env, &BINDING.into())?;
    if binding.is_undefined() {
        return Ok(true);
    }
    let limit: Function = Reflect::get(&binding, &"limit".into())?.dyn_into()?;
    let options = Object::new();
    Reflect::set(&options, &"key".into(), &key.into())?;
    let answer: Promise = limit.call1(&binding, &options)?.dyn_into()?;
    let answer = JsFuture::from(answer).await?;
    Ok(Reflect::get(&answer, &"success".into())? != JsValue::FALSE)
}
