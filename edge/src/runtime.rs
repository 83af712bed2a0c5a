//! What the service needs of any runtime, by those of Workers.

use crate::{bridge, digest, webcrypto};
use keepsake_service::runtime::{
    Fetch, Fetched, Hasher, Level, Runtime, Signed, Task, UnusableKey, install as install_runtime,
};
use std::time::Duration;
use worker::{
    Delay,
    js_sys::{self, global},
    send::SendFuture,
    wasm_bindgen::{JsCast, JsValue},
    wasm_bindgen_futures::JsFuture,
    web_sys::{AbortSignal, Headers, RequestInit, RequestRedirect, Response, WorkerGlobalScope},
};

/// Installs it for the service.
pub(crate) fn install() {
    install_runtime(&Workers);
}

/// Lets the runtime do other work first, such as sending an answer.
pub(crate) async fn yield_now() {
    Delay::from(Duration::ZERO).await;
}

#[derive(Debug)]
struct Workers;

impl Runtime for Workers {
    fn counts_requests(&self) -> bool {
        true
    }

    fn now(&self) -> u64 {
        worker::Date::now().as_millis()
    }

    fn sleep(&self, time: Duration) -> Task<'static, ()> {
        Box::pin(SendFuture::new(Delay::from(time)))
    }

    fn log(&self, level: Level, line: &str) {
        match level {
            Level::Info => worker::console_log!("{line}"),
            Level::Warning => worker::console_warn!("{line}"),
            Level::Error => worker::console_error!("{line}"),
        }
    }

    fn fetch<'a>(&self, request: Fetch<'a>) -> Task<'a, Result<Fetched, String>> {
        Box::pin(SendFuture::new(async move {
            fetch(request).await.map_err(|error| shown(&error))
        }))
    }

    fn sha256(&self) -> Box<dyn Hasher> {
        Box::new(digest::Sha256Hasher::new())
    }

    fn sha256_of<'a>(&self, bytes: &'a [u8]) -> Task<'a, Result<[u8; 32], String>> {
        Box::pin(SendFuture::new(async move {
            let digest = digest::of_bytes("SHA-256", bytes).await?;
            digest
                .try_into()
                .map_err(|_| "the runtime's SHA-256 has another length".to_owned())
        }))
    }

    /// `Content-MD5` wants it for the deletion of many objects, and nothing that has to be safe from an attacker.
    fn md5<'a>(&self, text: &'a str) -> Task<'a, Result<Vec<u8>, String>> {
        Box::pin(SendFuture::new(digest::of_bytes("MD5", text.as_bytes())))
    }

    fn verify<'a>(&self, signed: Signed<'a>) -> Task<'a, Result<bool, UnusableKey>> {
        Box::pin(SendFuture::new(async move {
            webcrypto::verify(&signed).await.map_err(|_| UnusableKey)
        }))
    }
}

async fn fetch(request: Fetch<'_>) -> Result<Fetched, JsValue> {
    let fields = Headers::new()?;
    for (name, value) in request.headers {
        fields.set(name, value)?;
    }
    let init = RequestInit::new();
    init.set_method(request.method);
    init.set_headers(&fields);
    init.set_redirect(RequestRedirect::Manual);
    let time = u32::try_from(request.time.as_millis()).unwrap_or(u32::MAX);
    init.set_signal(Some(&AbortSignal::timeout_with_u32(time)));
    if let Some(body) = request.body {
        init.set_body(&js_sys::Uint8Array::from(&body[..]));
    }
    let scope: WorkerGlobalScope = global().unchecked_into();
    let response = JsFuture::from(scope.fetch_with_str_and_init(request.url, &init)).await?;
    let response: Response = response.unchecked_into();
    Ok(Fetched {
        status: response.status(),
        headers: bridge::headers(response.headers()),
        content: response.body().map(bridge::fetched).unwrap_or_default(),
    })
}

/// What a JavaScript error says of itself.
fn shown(error: &JsValue) -> String {
    error
        .dyn_ref::<js_sys::Error>()
        .map_or_else(|| "unknown".to_owned(), |error| error.message().into())
}
