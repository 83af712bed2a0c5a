//! The issuer's public keys, kept by the process or isolate, for all its threads.
//!
//! A fresh set answers alone. One that has had its time is fetched again, and goes on answering while
//! the issuer cannot be reached (stale-while-error, RFC 5861 §4), for [`MAX_STALE_SECONDS`]. A `kid`
//! that the set has not asks for a new set too, but never more often than the settings allow:
//! anybody can send unknown ones. Without any keys all tokens wait for the one question that is asked.

use super::{
    AuthError,
    jwks::{KeySet, KeySetError, PublicKey},
    token::{Algorithm, Token},
};
use crate::{
    clock,
    config::JwksSettings,
    http::body,
    log,
    runtime::{self, Fetch},
};
use serde_json::json;
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Longest wait for the issuer.
const TIMEOUT_SECONDS: i64 = 5;
const TIMEOUT: Duration = Duration::from_secs(TIMEOUT_SECONDS.unsigned_abs());

/// How often is looked whether another request's question has its answer. No request of a worker can wait for the I/O of another.
const PAUSE: Duration = Duration::from_millis(50);

/// Most bytes of a set.
const MAX_BYTES: usize = 64 << 10;

/// How long keys go on answering when no newer set can be had: a day in which to mend it.
const MAX_STALE_SECONDS: i64 = 86_400;

pub(super) const UNKNOWN: AuthError = AuthError::Invalid("its kid is unknown");
pub(super) const UNNAMED: AuthError = AuthError::Invalid("its header has no kid");

/// One for all threads: a request may be on another one when the issuer has answered.
static CACHE: Mutex<Cache> = Mutex::new(Cache {
    keys: None,
    asked: None,
    told: None,
});

/// Works with the cache, and never waits meanwhile.
fn with_cache<T>(work: impl FnOnce(&mut Cache) -> T) -> T {
    work(&mut CACHE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What is known.
#[derive(Debug, Default)]
struct Cache {
    /// The newest set, and when it came.
    keys: Option<(KeySet, i64)>,
    /// When the issuer was asked last, and how that went as far as is known.
    asked: Option<(i64, Outcome)>,
    /// The last failure that the log was told: one that lasts is told once.
    told: Option<String>,
}

/// How a question for the issuer's keys ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Not yet, and there are no keys meanwhile.
    Asking,
    /// With a set.
    Well,
    /// Without an answer, or with one that may be another in a moment.
    Away,
    /// With an answer that is no set that can be used.
    Unusable(KeySetError),
}

/// Which key a token asks for.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    kid: Option<&'a str>,
    algorithm: Algorithm,
}

impl Wanted<'_> {
    const fn unknown(self) -> AuthError {
        match self.kid {
            Some(_) => UNKNOWN,
            None => UNNAMED,
        }
    }
}

/// What is to be done for one token.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Verify with this key.
    Use(PublicKey),
    /// Ask the issuer first, and if that fails verify with this key.
    Ask(Option<PublicKey>),
    /// Another request asks the issuer: wait for what it gets.
    Wait,
    /// No key.
    Refuse(AuthError),
}

/// The key of a token.
///
/// 1. What is kept, if it is fresh, or if the issuer was asked just now.
/// 2. Where nothing is kept and another request asks the issuer: what that gets.
/// 3. Else ask the issuer: within [`TIMEOUT`], at most [`MAX_BYTES`], no redirect.
/// 4. When that fails, what is kept, if it is not too old.
///
/// # Errors
/// `Invalid` for an unknown `kid`; `NoKeys` when it cannot be known whether there is one; `UnusableKeys` when the issuer
/// publishes none.
pub(super) async fn find(token: &Token<'_>, jwks: &JwksSettings) -> Result<PublicKey, AuthError> {
    let wanted = Wanted {
        kid: token.kid.as_deref(),
        algorithm: token.algorithm,
    };
    let next = || {
        let now = clock::now().unix_timestamp();
        with_cache(|cache| cache.next(wanted, jwks, now))
    };
    let mut step = next();
    if step == Step::Wait {
        wait().await;
        step = next();
    }
    let fallback = match step {
        Step::Use(key) => return Ok(key),
        Step::Refuse(error) => return Err(error),
        Step::Wait => return Err(AuthError::NoKeys),
        Step::Ask(fallback) => fallback,
    };
    ask(jwks).await;
    with_cache(|cache| {
        let verdict = cache.known(wanted);
        verdict.unwrap_or_else(|| fallback.ok_or(cache.no_keys()))
    })
}

/// Whether the issuer's keys can be had, for who asks for the worker's health. The issuer is not asked more often for it.
///
/// # Errors
/// `NoKeys` or `UnusableKeys`.
pub(crate) async fn check(jwks: &JwksSettings) -> Result<(), AuthError> {
    let now = clock::now().unix_timestamp();
    let asks = with_cache(|cache| {
        let asks = !cache.is_fresh(jwks, now) && cache.may_ask(jwks, now);
        if asks {
            cache.begin(jwks, now);
        }
        asks
    });
    if asks {
        ask(jwks).await;
    } else {
        wait().await;
    }
    with_cache(|cache| match cache.asked {
        Some((_, Outcome::Well)) => Ok(()),
        Some((_, Outcome::Away)) if cache.is_usable(jwks, now) => Ok(()),
        _ => Err(cache.no_keys()),
    })
}

/// Waits for the answer to another request's question, as long as that may take.
async fn wait() {
    let mut waited = Duration::ZERO;
    while waited < TIMEOUT && with_cache(|cache| cache.went() == Some(Outcome::Asking)) {
        clock::sleep(PAUSE).await;
        waited += PAUSE;
    }
}

/// Asks the issuer, which has begun, and keeps what it answers.
async fn ask(jwks: &JwksSettings) {
    let answer = fetch(&jwks.url).await;
    let now = clock::now().unix_timestamp();
    let told = with_cache(|cache| cache.end(answer, now));
    if let Some(cause) = told {
        log::write(log::Level::Error, "jwks", json!({ "cause": cause }));
    }
}

impl Cache {
    /// The step of one token. If it is to ask, that has begun: of two at once, one asks.
    fn next(&mut self, wanted: Wanted<'_>, jwks: &JwksSettings, now: i64) -> Step {
        let step = self.step(wanted, jwks, now);
        if matches!(step, Step::Ask(_)) {
            self.begin(jwks, now);
        }
        step
    }

    fn step(&self, wanted: Wanted<'_>, jwks: &JwksSettings, now: i64) -> Step {
        let may_ask = self.may_ask(jwks, now);
        let usable = self.is_usable(jwks, now);
        let key = self.key(wanted).filter(|_| usable);
        match key {
            Some(key) if self.is_fresh(jwks, now) || !may_ask => Step::Use(key.clone()),
            key if may_ask => Step::Ask(key.cloned()),
            _ if self.went() == Some(Outcome::Asking) => Step::Wait,
            _ if usable && self.went() == Some(Outcome::Well) => Step::Refuse(wanted.unknown()),
            _ => Step::Refuse(self.no_keys()),
        }
    }

    fn may_ask(&self, jwks: &JwksSettings, now: i64) -> bool {
        self.asked.is_none_or(|(asked, outcome)| {
            let pause = match outcome {
                // Whose client has gone asks no longer, and nobody says so.
                Outcome::Asking => jwks.refresh_seconds.min(TIMEOUT_SECONDS),
                _ => jwks.refresh_seconds,
            };
            // A clock that was set back must not keep the issuer from being asked.
            now < asked || now - asked >= pause
        })
    }

    fn age(&self, now: i64) -> Option<i64> {
        self.keys.as_ref().map(|(_, came)| (now - came).max(0))
    }

    fn is_fresh(&self, jwks: &JwksSettings, now: i64) -> bool {
        self.age(now).is_some_and(|age| age < jwks.lifetime_seconds)
    }

    fn is_usable(&self, jwks: &JwksSettings, now: i64) -> bool {
        self.age(now)
            .is_some_and(|age| age < jwks.lifetime_seconds + MAX_STALE_SECONDS)
    }

    fn went(&self) -> Option<Outcome> {
        self.asked.map(|(_, outcome)| outcome)
    }

    /// Why there are no keys.
    fn no_keys(&self) -> AuthError {
        match self.went() {
            Some(Outcome::Unusable(error)) => AuthError::UnusableKeys(error.reason()),
            _ => AuthError::NoKeys,
        }
    }

    /// The issuer is being asked. Where no keys can be used, all others wait.
    fn begin(&mut self, jwks: &JwksSettings, now: i64) {
        let went = self.went().filter(|_| self.is_usable(jwks, now));
        self.asked = Some((now, went.unwrap_or(Outcome::Asking)));
    }

    /// Keeps an answer of the issuer, and says what the log has not been told yet.
    fn end(&mut self, answer: Result<KeySet, Fault>, now: i64) -> Option<String> {
        let fault = match answer {
            Ok(keys) => {
                self.asked = Some((now, Outcome::Well));
                self.keys = Some((keys, now));
                self.told = None;
                return None;
            }
            Err(fault) => fault,
        };
        self.asked = Some((now, fault.outcome));
        let is_news = self.told.as_ref() != Some(&fault.cause);
        self.told = Some(fault.cause.clone());
        is_news.then_some(fault.cause)
    }

    /// What a set that has just come says of a key; nothing if none has.
    fn known(&self, wanted: Wanted<'_>) -> Option<Result<PublicKey, AuthError>> {
        (self.went()? == Outcome::Well).then(|| self.key(wanted).cloned().ok_or(wanted.unknown()))
    }

    fn key(&self, wanted: Wanted<'_>) -> Option<&PublicKey> {
        let (keys, _) = self.keys.as_ref()?;
        keys.find(wanted.kid, wanted.algorithm)
    }
}

/// Why no set came.
#[derive(Debug)]
struct Fault {
    outcome: Outcome,
    /// For the log.
    cause: String,
}

impl From<String> for Fault {
    fn from(cause: String) -> Self {
        let outcome = Outcome::Away;
        Self { outcome, cause }
    }
}

async fn fetch(url: &str) -> Result<KeySet, Fault> {
    clock::timeout(TIMEOUT, read(url)).await.unwrap_or_else(|| {
        let seconds = TIMEOUT.as_secs();
        Err(format!("no answer from JWKS_URL within {seconds} s").into())
    })
}

async fn read(url: &str) -> Result<KeySet, Fault> {
    let request = Fetch {
        operation: "JWKS",
        method: "GET",
        url,
        headers: &[],
        body: None,
        time: TIMEOUT,
    };
    let answer = runtime::current().fetch(request).await;
    let answer = answer.map_err(|_| "JWKS_URL cannot be reached".to_owned())?;
    if answer.status != 200 {
        return Err(format!("JWKS_URL answers {}", answer.status).into());
    }
    let text = body::read_at_most(answer.content.body, MAX_BYTES)
        .await
        .map_err(|problem| format!("the answer of JWKS_URL {problem}"))?;
    KeySet::parse(&text).map_err(|error| Fault {
        outcome: Outcome::Unusable(error),
        cause: format!("the answer of JWKS_URL: {}", error.reason()),
    })
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
        cache.step(rsa(kid), &settings(), now)
    }

    fn rsa(kid: &str) -> Wanted<'_> {
        Wanted {
            kid: Some(kid),
            algorithm: Algorithm::Rs256,
        }
    }

    fn away() -> Result<KeySet, Fault> {
        Err("JWKS_URL cannot be reached".to_owned().into())
    }

    fn unusable() -> Result<KeySet, Fault> {
        Err(Fault {
            outcome: Outcome::Unusable(KeySetError::NoUsableKey),
            cause: "no key".to_owned(),
        })
    }

    fn known(kid: &str) -> PublicKey {
        set(kid).find(Some(kid), Algorithm::Rs256).unwrap().clone()
    }

    /// A cache that got `kid` at [`NOW`].
    fn warm(kid: &str) -> Cache {
        let mut cache = Cache::default();
        cache.end(Ok(set(kid)), NOW);
        cache
    }

    #[test]
    fn a_cold_cache_asks_once_for_everybody() {
        let mut cache = Cache::default();
        let next = |cache: &mut Cache, kid, now| cache.next(rsa(kid), &settings(), now);
        assert_eq!(next(&mut cache, "a", NOW), Ask(None));
        for kid in ["a", "b", "made up"] {
            assert_eq!(next(&mut cache, kid, NOW + 4), Wait);
        }
        cache.end(away(), NOW + 5);
        assert_eq!(step(&cache, "a", NOW + 34), Refuse(AuthError::NoKeys));
        assert_eq!(next(&mut cache, "a", NOW + 35), Ask(None));
        assert_eq!(next(&mut cache, "a", NOW + 36), Wait);
        cache.end(Ok(set("a")), NOW + 36);
        assert_eq!(step(&cache, "a", NOW + 36), Use(known("a")));
        assert_eq!(step(&cache, "made up", NOW + 36), Refuse(UNKNOWN));
    }

    #[test]
    fn a_question_that_nobody_ends_is_asked_again() {
        let mut cache = Cache::default();
        cache.begin(&settings(), NOW);
        assert_eq!(step(&cache, "a", NOW + 4), Wait);
        assert_eq!(step(&cache, "a", NOW + 5), Ask(None));
    }

    #[test]
    fn a_fresh_set_answers_and_an_unknown_kid_asks_now_and_then() {
        let mut cache = warm("a");
        assert_eq!(step(&cache, "a", NOW + 599), Use(known("a")));
        assert_eq!(step(&cache, "b", NOW + 29), Refuse(UNKNOWN));
        assert_eq!(step(&cache, "b", NOW + 30), Ask(None));
        cache.begin(&settings(), NOW + 30);
        assert_eq!(step(&cache, "c", NOW + 31), Refuse(UNKNOWN));
        cache.end(Ok(set("b")), NOW + 31);
        assert_eq!(step(&cache, "b", NOW + 32), Use(known("b")));
        assert_eq!(cache.known(rsa("a")), Some(Err(UNKNOWN)));
    }

    #[test]
    fn an_old_set_answers_while_the_issuer_cannot() {
        let mut cache = warm("a");
        assert_eq!(step(&cache, "a", NOW + 600), Ask(Some(known("a"))));
        cache.begin(&settings(), NOW + 600);
        assert_eq!(step(&cache, "a", NOW + 600), Use(known("a")));
        cache.end(away(), NOW + 605);
        assert_eq!(cache.known(rsa("a")), None);
        assert_eq!(step(&cache, "a", NOW + 606), Use(known("a")));
        assert_eq!(step(&cache, "b", NOW + 606), Refuse(AuthError::NoKeys));
        assert_eq!(step(&cache, "a", NOW + 635), Ask(Some(known("a"))));
        let end = NOW + 600 + MAX_STALE_SECONDS;
        assert_eq!(step(&cache, "a", end), Ask(None));
        cache.begin(&settings(), end);
        assert_eq!(step(&cache, "a", end), Wait, "they are too old");
        cache.end(away(), end);
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
                cache.step(
                    Wanted {
                        algorithm,
                        ..rsa("a")
                    },
                    &settings(),
                    NOW + 1
                ),
                Refuse(UNKNOWN)
            );
        }
    }

    #[test]
    fn a_set_that_cannot_be_used_is_told_once_and_as_what_it_is() {
        let error = AuthError::UnusableKeys(KeySetError::NoUsableKey.reason());
        let mut cache = Cache::default();
        assert!(cache.end(unusable(), NOW).is_some());
        assert_eq!(step(&cache, "a", NOW + 1), Refuse(error));
        assert_eq!(step(&cache, "a", NOW + 30), Ask(None));
        assert_eq!(cache.end(unusable(), NOW + 30), None, "told before");
        assert!(cache.end(away(), NOW + 60).is_some());
        assert_eq!(step(&cache, "a", NOW + 61), Refuse(AuthError::NoKeys));
        assert!(cache.end(Ok(set("a")), NOW + 90).is_none());
        assert_eq!(step(&cache, "a", NOW + 91), Use(known("a")));
        assert!(
            cache.end(unusable(), NOW + 120).is_some(),
            "it is news again"
        );
        assert_eq!(step(&cache, "a", NOW + 121), Use(known("a")));
        assert_eq!(step(&cache, "b", NOW + 121), Refuse(error));
    }
}
