//! The issuer's public keys, kept by the isolate.
//!
//! A fresh set answers alone. One that has had its time is fetched again, and goes on answering while
//! the issuer cannot be reached (stale-while-error, RFC 5861 §4), for [`MAX_STALE_SECONDS`]. A `kid`
//! that the set has not asks for a new set too, but never more often than the settings allow:
//! anybody can send unknown ones.

use super::{
    AuthError,
    jwks::{KeySet, PublicKey},
    token::{Algorithm, Token},
};
use crate::{
    clock,
    config::JwksSettings,
    http::{body, bridge::RawBody},
    log,
};
use serde_json::json;
use std::{cell::RefCell, time::Duration};
use worker::{
    AbortController,
    js_sys::global,
    wasm_bindgen::JsCast,
    wasm_bindgen_futures::JsFuture,
    web_sys::{RequestInit, RequestRedirect, Response, WorkerGlobalScope},
};

/// Longest wait for the issuer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Most bytes of a set.
const MAX_BYTES: usize = 64 << 10;

/// How long keys go on answering when no newer set can be had: a day in which to mend it.
const MAX_STALE_SECONDS: i64 = 86_400;

const UNKNOWN: AuthError = AuthError::Invalid("its kid is unknown");

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

/// What the isolate knows.
#[derive(Debug, Default)]
struct Cache {
    /// The newest set, and when it came.
    keys: Option<(KeySet, i64)>,
    /// When the issuer was asked last, and whether that went well as far as is known.
    asked: Option<(i64, bool)>,
}

/// What is to be done for one token.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Verify with this key.
    Use(PublicKey),
    /// Ask the issuer first, and if that fails verify with this key.
    Ask(Option<PublicKey>),
    /// No key.
    Refuse(AuthError),
}

/// The key of a token.
///
/// 1. What the isolate has, if it is fresh, or if the issuer was asked just now.
/// 2. Else ask the issuer: within [`TIMEOUT`], at most [`MAX_BYTES`], no redirect.
/// 3. When that fails, what the isolate has, if it is not too old.
///
/// # Errors
/// `Invalid` for an unknown `kid`; `NoKeys` when it cannot be known whether there is one.
pub(super) async fn find(token: &Token<'_>, jwks: &JwksSettings) -> Result<PublicKey, AuthError> {
    let now = clock::now().unix_timestamp();
    let (algorithm, kid) = (token.algorithm, token.kid.as_str());
    let step = CACHE.with_borrow(|cache| cache.step(kid, algorithm, jwks, now));
    let fallback = match step {
        Step::Use(key) => return Ok(key),
        Step::Refuse(error) => return Err(error),
        Step::Ask(fallback) => fallback,
    };
    CACHE.with_borrow_mut(|cache| cache.begin(now));
    let answer = fetch(&jwks.url).await;
    let now = clock::now().unix_timestamp();
    if let Err(cause) = &answer {
        log::write(log::Level::Error, "jwks", json!({ "cause": cause }));
    }
    CACHE.with_borrow_mut(|cache| cache.end(answer.ok(), now));
    match CACHE.with_borrow(|cache| cache.known(kid, algorithm)) {
        Some(verdict) => verdict,
        None => fallback.ok_or(AuthError::NoKeys),
    }
}

impl Cache {
    fn step(&self, kid: &str, algorithm: Algorithm, jwks: &JwksSettings, now: i64) -> Step {
        // A clock that was set back must not keep the issuer from being asked.
        let may_ask = self
            .asked
            .is_none_or(|(asked, _)| now < asked || now - asked >= jwks.refresh_seconds);
        let age = self.keys.as_ref().map(|(_, came)| (now - came).max(0));
        let usable = age.is_some_and(|age| age < jwks.lifetime_seconds + MAX_STALE_SECONDS);
        let key = self.key(kid, algorithm).filter(|_| usable);
        match key {
            Some(key) if age < Some(jwks.lifetime_seconds) || !may_ask => Step::Use(key.clone()),
            key if may_ask => Step::Ask(key.cloned()),
            _ if usable && self.asked.is_some_and(|(_, well)| well) => Step::Refuse(UNKNOWN),
            _ => Step::Refuse(AuthError::NoKeys),
        }
    }

    /// The issuer is being asked. Without any keys this keeps nobody else from asking: no request
    /// can wait for the answer to another's.
    fn begin(&mut self, now: i64) {
        if self.keys.is_some() {
            let well = self.asked.is_none_or(|(_, well)| well);
            self.asked = Some((now, well));
        }
    }

    fn end(&mut self, keys: Option<KeySet>, now: i64) {
        self.asked = Some((now, keys.is_some()));
        if let Some(keys) = keys {
            self.keys = Some((keys, now));
        }
    }

    /// What a set that has just come says of a key; nothing if none has.
    fn known(&self, kid: &str, algorithm: Algorithm) -> Option<Result<PublicKey, AuthError>> {
        let (_, well) = self.asked?;
        well.then(|| self.key(kid, algorithm).cloned().ok_or(UNKNOWN))
    }

    fn key(&self, kid: &str, algorithm: Algorithm) -> Option<&PublicKey> {
        let (keys, _) = self.keys.as_ref()?;
        keys.find(kid, algorithm)
    }
}

async fn fetch(url: &str) -> Result<KeySet, String> {
    let abort = AbortController::default();
    let init = RequestInit::new();
    init.set_redirect(RequestRedirect::Manual);
    init.set_signal(Some(&*abort.signal()));
    clock::timeout(TIMEOUT, read(url, &init))
        .await
        .unwrap_or_else(|| {
            abort.abort();
            let seconds = TIMEOUT.as_secs();
            Err(format!("no answer from JWKS_URL within {seconds} s"))
        })
}

async fn read(url: &str, init: &RequestInit) -> Result<KeySet, String> {
    let scope: WorkerGlobalScope = global().unchecked_into();
    let answer = JsFuture::from(scope.fetch_with_str_and_init(url, init))
        .await
        .map_err(|_| "JWKS_URL cannot be reached")?;
    let answer: Response = answer.unchecked_into();
    if answer.status() != 200 {
        return Err(format!("JWKS_URL answers {}", answer.status()));
    }
    let stream = answer.body().ok_or("JWKS_URL answers without a body")?;
    let text = body::read_at_most(RawBody::new(stream).into_body(), MAX_BYTES)
        .await
        .map_err(|problem| format!("the answer of JWKS_URL {problem}"))?;
    KeySet::parse(&text).map_err(|error| format!("the answer of JWKS_URL: {error}"))
}

#[cfg(test)]
mod tests {
    use super::{super::jwks::tests::rsa_key, Step::*, *};

    const NOW: i64 = 1_000_000;

    fn settings() -> JwksSettings {
        JwksSettings {
            url: "https://id.example.com/jwks".to_owned(),
            lifetime_seconds: 600,
            refresh_seconds: 30,
        }
    }

    fn set(kid: &str) -> KeySet {
        let set = json!({ "keys": [rsa_key(kid)] });
        KeySet::parse(set.to_string().as_bytes()).unwrap()
    }

    fn step(cache: &Cache, kid: &str, now: i64) -> Step {
        cache.step(kid, Algorithm::Rs256, &settings(), now)
    }

    fn known(kid: &str) -> PublicKey {
        set(kid).find(kid, Algorithm::Rs256).unwrap().clone()
    }

    /// A cache that got `kid` at [`NOW`].
    fn warm(kid: &str) -> Cache {
        let mut cache = Cache::default();
        cache.end(Some(set(kid)), NOW);
        cache
    }

    #[test]
    fn a_cold_cache_asks_for_everybody_until_it_fails() {
        let mut cache = Cache::default();
        assert_eq!(step(&cache, "a", NOW), Ask(None));
        cache.begin(NOW);
        assert_eq!(
            step(&cache, "a", NOW),
            Ask(None),
            "nobody can wait for another"
        );
        cache.end(None, NOW);
        assert_eq!(step(&cache, "a", NOW + 29), Refuse(AuthError::NoKeys));
        assert_eq!(step(&cache, "a", NOW + 30), Ask(None));
    }

    #[test]
    fn a_fresh_set_answers_and_an_unknown_kid_asks_now_and_then() {
        let mut cache = warm("a");
        assert_eq!(step(&cache, "a", NOW + 599), Use(known("a")));
        assert_eq!(step(&cache, "b", NOW + 29), Refuse(UNKNOWN));
        assert_eq!(step(&cache, "b", NOW + 30), Ask(None));
        cache.begin(NOW + 30);
        assert_eq!(step(&cache, "c", NOW + 31), Refuse(UNKNOWN));
        cache.end(Some(set("b")), NOW + 31);
        assert_eq!(step(&cache, "b", NOW + 32), Use(known("b")));
        assert_eq!(cache.known("a", Algorithm::Rs256), Some(Err(UNKNOWN)));
    }

    #[test]
    fn an_old_set_answers_while_the_issuer_cannot() {
        let mut cache = warm("a");
        assert_eq!(step(&cache, "a", NOW + 600), Ask(Some(known("a"))));
        cache.begin(NOW + 600);
        assert_eq!(step(&cache, "a", NOW + 600), Use(known("a")));
        cache.end(None, NOW + 605);
        assert_eq!(cache.known("a", Algorithm::Rs256), None);
        assert_eq!(step(&cache, "a", NOW + 606), Use(known("a")));
        assert_eq!(step(&cache, "b", NOW + 606), Refuse(AuthError::NoKeys));
        assert_eq!(step(&cache, "a", NOW + 635), Ask(Some(known("a"))));
        let end = NOW + 600 + MAX_STALE_SECONDS;
        assert_eq!(step(&cache, "a", end), Ask(None));
        cache.end(None, end);
        assert_eq!(step(&cache, "a", end + 1), Refuse(AuthError::NoKeys));
    }

    #[test]
    fn a_clock_set_back_does_no_harm() {
        let cache = warm("a");
        assert_eq!(step(&cache, "a", NOW - 9000), Use(known("a")));
        assert_eq!(step(&cache, "b", NOW - 9000), Ask(None));
    }

    #[test]
    fn a_key_answers_to_its_own_algorithm_alone() {
        let cache = warm("a");
        for algorithm in [Algorithm::Es256, Algorithm::Hs256] {
            assert_eq!(
                cache.step("a", algorithm, &settings(), NOW + 1),
                Refuse(UNKNOWN)
            );
        }
    }
}
