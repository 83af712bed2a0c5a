//! The page's document: `/`. The files that it names are served by the platform as they are.

use crate::{context::RequestContext, http::ApiError};
use axum::{
    extract::State,
    http::{
        HeaderValue,
        header::{CONTENT_LENGTH, CONTENT_SECURITY_POLICY, ETAG},
    },
    response::Response,
};

/// Directives of the policy for what the page sends to the store, and what it shows from there.
const OF_STORE: [&str; 2] = ["connect-src ", "img-src "];

/// `GET /`: the page's document, as `scripts/build-page` made it. Its Content-Security-Policy lets
/// it reach the store besides the worker, and no other host: where the store is, the settings say
/// only when the worker runs.
///
/// 1. Fetch the document; this deployment has none → 404.
/// 2. 200, with the store's origin in the policy.
pub(crate) async fn get(State(context): State<RequestContext>) -> Result<Response, ApiError> {
    let mut document = context.page().await?;
    let headers = document.headers_mut();
    // Without a validator its kilobyte is sent anew each time: over a 304 Chromium keeps the headers
    // named `Content-*` that it has, and with them the policy of a store that may have moved.
    headers.remove(ETAG);
    headers.remove(CONTENT_LENGTH);
    if let Some(origin) = context.config.store_origin()
        && let Some(policy) = headers.get_mut(CONTENT_SECURITY_POLICY)
    {
        let told = policy.to_str().map_err(ApiError::internal)?;
        *policy = HeaderValue::from_str(&with_store(told, &origin)).map_err(ApiError::internal)?;
    }
    Ok(document)
}

/// The policy, with one more origin for what concerns the store.
fn with_store(policy: &str, origin: &str) -> String {
    let directives = policy.split("; ").map(|directive| {
        if OF_STORE.iter().any(|name| directive.starts_with(name)) {
            format!("{directive} {origin}")
        } else {
            directive.to_owned()
        }
    });
    directives.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::with_store;

    #[test]
    fn lets_the_store_in_where_it_is_needed_and_nowhere_else() {
        assert_eq!(
            with_store(
                "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:",
                "https://s3.example.com",
            ),
            "default-src 'none'; script-src 'self'; connect-src 'self' https://s3.example.com; \
             img-src 'self' data: https://s3.example.com",
        );
    }
}
