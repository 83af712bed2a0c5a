//! Tokens signed by a key that the issuer publishes (RS256, ES256, EdDSA), and an issuer that is away, slow
//! or hostile.

use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keepsake_tests::api::{Api, Reply};
use keepsake_tests::stack::{Stack, StackSettings};
use keepsake_tests::token::{claims, mint, mint_with_header};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::issuer::{Answer, ISSUER, Issuer, Signer};
use crate::world::{Tenant, start_stack, until};

/// A set is fresh so long, and asked for again no sooner.
const LIFETIME: Duration = Duration::from_secs(3);
const REFRESH: Duration = Duration::from_secs(2);

/// A stack that trusts a new issuer.
async fn stack() -> Result<(Stack, Issuer)> {
    let issuer = Issuer::start()?;
    let vars = [
        ("JWKS_URL", issuer.url()),
        ("JWT_ISSUER", ISSUER.to_owned()),
        ("JWKS_TTL_SECONDS", LIFETIME.as_secs().to_string()),
        ("JWKS_REFRESH_SECONDS", REFRESH.as_secs().to_string()),
    ];
    let settings = StackSettings {
        vars: vars.map(|(name, value)| (name.to_owned(), value)).into(),
        ..StackSettings::default()
    };
    Ok((start_stack(settings).await?, issuer))
}

/// What a token opens.
async fn ask(api: &Api, token: &str) -> Result<Reply> {
    api.with_bearer(Some(token)).get("/v1/attachments").await
}

async fn opens(api: &Api, token: &str) -> Result<()> {
    ask(api, token).await?.expect(200)
}

/// Opens once the worker has the key.
async fn opens_soon(api: &Api, token: &str) -> Result<()> {
    until("the key is fetched", async || {
        Ok(ask(api, token).await?.status == 200)
    })
    .await
}

async fn refused(api: &Api, token: &str) -> Result<()> {
    ask(api, token)
        .await?
        .expect_problem(401, "invalid_token")
        .map(drop)
}

/// The bytes of a JWK's number.
fn number(jwk: &Value, name: &str) -> Result<Vec<u8>> {
    let text = jwk[name].as_str().context("no such number")?;
    Ok(URL_SAFE_NO_PAD.decode(text)?)
}

#[tokio::test]
async fn a_published_key_opens_and_never_as_a_secret() -> Result<()> {
    let (stack, issuer) = stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let (api, name) = (&tenant.api, tenant.name.as_str());
    let (rsa, curve, edwards) = (Signer::rsa()?, Signer::curve()?, Signer::edwards()?);
    // Three kinds under one name: the kind decides.
    issuer.publishes(&[rsa.jwk("k"), curve.jwk("k"), edwards.jwk("k")]);

    opens(api, &rsa.token("k", name)?).await?;
    opens(api, &curve.token("k", name)?).await?;
    opens(api, &edwards.token("k", name)?).await?;
    refused(api, &Signer::edwards()?.token("k", name)?).await?;
    let mut ours = claims(name, "ada");
    ours["iss"] = ISSUER.into();
    opens(api, &mint(&ours, &stack.secrets.jwt_key)).await?;

    // RFC 8725 §2.1: what is public serves nobody as an HMAC secret.
    let jwk = rsa.jwk("k");
    for secret in [
        number(&jwk, "n")?,
        jwk["n"].to_string().into_bytes(),
        jwk.to_string().into_bytes(),
        Vec::new(),
    ] {
        for alg in ["HS256", "RS256", "ES256", "none"] {
            let header = json!({ "alg": alg, "kid": "k" });
            refused(api, &mint_with_header(&header, &ours, &secret)).await?;
        }
    }
    for (alg, signer) in [
        ("ES256", &rsa),
        ("EdDSA", &rsa),
        ("RS256", &curve),
        ("RS256", &edwards),
        ("PS256", &rsa),
        ("none", &rsa),
    ] {
        refused(
            api,
            &signer.token_of(&json!({ "alg": alg, "kid": "k" }), &ours)?,
        )
        .await?;
    }
    for header in [
        json!({ "alg": "RS256" }),
        json!({ "alg": "RS256", "kid": "k", "crit": ["b64"], "b64": false }),
    ] {
        refused(api, &rsa.token_of(&header, &ours)?).await?;
    }
    // Header parameters that would bring or name another key are not looked at.
    let own = json!({ "alg": "ES256", "kid": "k", "jwk": Signer::curve()?.jwk("k"), "jku": issuer.url() });
    refused(api, &Signer::curve()?.token_of(&own, &ours)?).await?;

    let good = rsa.token("k", name)?;
    let (signed, signature) = good.rsplit_once('.').context("no signature")?;
    refused(
        api,
        &format!("{signed}.{}", signature.replace(['A', 'B'], "C")),
    )
    .await?;
    refused(api, &format!("{signed}.")).await?;
    refused(api, &curve.token("k", name)?.replacen('.', ".e30", 1)).await?;

    let header = json!({ "alg": "RS256", "kid": "k" });
    refused(api, &rsa.token_of(&header, &claims(name, "ada"))?).await?;
    let mut old = ours.clone();
    old["exp"] = 1_300_819_380.into();
    let answer = ask(api, &rsa.token_of(&header, &old)?).await?;
    answer.expect_problem(401, "token_expired")?;
    Ok(())
}

#[tokio::test]
async fn keys_rotate_and_unknown_ones_do_not_flood_the_issuer() -> Result<()> {
    let (stack, issuer) = stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let (api, name) = (&tenant.api, tenant.name.as_str());
    let (old, new) = (Signer::curve()?, Signer::curve()?);
    issuer.publishes(&[old.jwk("old")]);
    opens(api, &old.token("old", name)?).await?;
    assert_eq!(issuer.asked(), 1);
    opens(api, &old.token("old", name)?).await?;
    assert_eq!(issuer.asked(), 1, "a fresh set is not asked for again");

    issuer.publishes(&[old.jwk("old"), new.jwk("new")]);
    opens_soon(api, &new.token("new", name)?).await?;
    opens(api, &old.token("old", name)?).await?;

    issuer.publishes(&[new.jwk("new")]);
    let old_token = old.token("old", name)?;
    until("the old key is dropped", async || {
        Ok(ask(api, &old_token).await?.status == 401)
    })
    .await?;
    opens(api, &new.token("new", name)?).await?;
    refused(api, &old_token).await?;

    let before = issuer.asked();
    let begun = std::time::Instant::now();
    for index in 0..30 {
        refused(api, &old.token(&format!("made-up-{index}"), name)?).await?;
    }
    let most = 2 + begun.elapsed().as_secs() / REFRESH.as_secs();
    let asked = u64::try_from(issuer.asked() - before)?;
    assert!(asked <= most, "asked {asked} times");
    Ok(())
}

/// Asks with all these tokens at once.
async fn ask_at_once(api: &Api, tokens: Vec<String>) -> Result<Vec<Reply>> {
    let mut asking = JoinSet::new();
    for token in tokens {
        let api = api.clone();
        asking.spawn(async move { ask(&api, &token).await });
    }
    asking.join_all().await.into_iter().collect()
}

#[tokio::test]
async fn a_server_without_keys_asks_once_for_all_tokens_together() -> Result<()> {
    let (stack, issuer) = stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let signer = Signer::curve()?;

    // While the issuer hangs, forged tokens wait for one question.
    issuer.answers(Answer::Endless);
    let forged = (0..30).map(|index| signer.token(&format!("made-up-{index}"), &tenant.name));
    let begun = std::time::Instant::now();
    for reply in ask_at_once(&tenant.api, forged.collect::<Result<_>>()?).await? {
        reply.expect_problem(503, "keys_unavailable")?;
    }
    let most = 2 + begun.elapsed().as_secs() / REFRESH.as_secs();
    let asked = u64::try_from(issuer.asked())?;
    assert!(asked <= most, "asked {asked} times");

    // Once it answers, so do good ones, and all of them are let in.
    issuer.publishes(&[signer.jwk("good")]);
    tokio::time::sleep(REFRESH).await;
    let before = issuer.asked();
    let good = (0..30).map(|_| signer.token("good", &tenant.name));
    let good = good.collect::<Result<_>>()?;
    let begun = std::time::Instant::now();
    for reply in ask_at_once(&tenant.api, good).await? {
        reply.expect(200)?;
    }
    let most = 1 + begun.elapsed().as_secs() / REFRESH.as_secs();
    let asked = u64::try_from(issuer.asked() - before)?;
    assert!(asked <= most, "asked {asked} times");
    Ok(())
}

#[tokio::test]
async fn an_issuer_that_is_away_or_hostile() -> Result<()> {
    let (stack, issuer) = stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let (api, name) = (&tenant.api, tenant.name.as_str());
    let (good, evil) = (Signer::curve()?, Signer::rsa()?);
    let (token, evil_token) = (good.token("good", name)?, evil.token("evil", name)?);

    // Nothing is known yet: neither of the token nor of the keys.
    let away = ask(api, &token).await?;
    away.expect_problem(503, "keys_unavailable")?;
    let mut ours = claims(name, "ada");
    ours["iss"] = ISSUER.into();
    opens(api, &mint(&ours, &stack.secrets.jwt_key)).await?;
    issuer.publishes(&[good.jwk("good")]);
    opens_soon(api, &token).await?;

    let set = |keys: Value| json!({ "keys": keys }).to_string();
    let mut undersized = evil.jwk("evil");
    undersized["n"] = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp".into();
    let mut off_the_curve = good.jwk("evil");
    off_the_curve["y"] = off_the_curve["x"].clone();
    for answer in [
        Answer::Nothing,
        Answer::Text(500, set(json!([evil.jwk("evil")]))),
        Answer::Text(200, "<html>".to_owned()),
        Answer::Text(
            200,
            format!("{}{}", " ".repeat(1 << 20), set(json!([evil.jwk("evil")]))),
        ),
        Answer::Text(200, "[".repeat(60_000)),
        Answer::Text(200, set(json!([]))),
        Answer::Text(200, set(json!([Signer::private_jwk("evil")]))),
        Answer::Text(200, set(json!([evil.jwk("evil"), evil.jwk("evil")]))),
        Answer::Text(
            200,
            set(json!([{ "kty": "oct", "kid": "evil", "k": "AAAA" }])),
        ),
        Answer::Text(200, set(json!([undersized]))),
        Answer::Redirect(set(json!([evil.jwk("evil")]))),
    ] {
        issuer.answers(answer.clone());
        let issuer_answer = answer;
        let shown = format!("{issuer_answer:?}")
            .chars()
            .take(60)
            .collect::<String>();
        let asked = issuer.asked();
        until("the issuer is asked", async || {
            let answer = ask(api, &evil_token).await?;
            if issuer.asked() == asked {
                return Ok(false);
            }
            // What is no usable set stays none, however often it is asked for.
            let (status, code) = match &issuer_answer {
                Answer::Text(200, text) if text.len() < 1 << 20 => (500, "keys_unusable"),
                _ => (503, "keys_unavailable"),
            };
            answer
                .expect_problem(status, code)
                .with_context(|| shown.clone())?;
            Ok(true)
        })
        .await?;
        opens(api, &token).await.context(shown)?;
    }

    // The last good set still serves, and an answer that never ends is not waited for.
    issuer.answers(Answer::Endless);
    let asked = issuer.asked();
    until("the issuer is asked", async || {
        opens(api, &token).await?;
        Ok(issuer.asked() > asked)
    })
    .await?;
    opens(api, &token).await?;

    // Numbers that are no key at all are found out by the runtime.
    issuer.publishes(&[good.jwk("good"), off_the_curve]);
    let off_the_curve = good.token("evil", name)?;
    until("the new set is read", async || {
        Ok(ask(api, &off_the_curve).await?.status == 401)
    })
    .await?;
    refused(api, &off_the_curve).await?;
    opens(api, &token).await?;

    issuer.publishes(&[good.jwk("good"), evil.jwk("evil")]);
    opens_soon(api, &evil_token).await
}

/// An issuer that publishes one key, and calls it nothing.
#[tokio::test]
async fn a_key_without_a_name_is_usable_while_it_is_the_only_one() -> Result<()> {
    let (stack, issuer) = stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let (api, name) = (&tenant.api, tenant.name.as_str());
    let (ours, other) = (Signer::curve()?, Signer::curve()?);
    let nameless = |signer: &Signer| {
        let mut jwk = signer.jwk("");
        jwk.as_object_mut().map(|jwk| jwk.remove("kid"));
        jwk
    };
    issuer.publishes(&[nameless(&ours)]);
    let mut claims = claims(name, "ada");
    claims["iss"] = ISSUER.into();
    for header in [
        json!({ "alg": "ES256" }),
        json!({ "alg": "ES256", "kid": "any" }),
    ] {
        opens(api, &ours.token_of(&header, &claims)?).await?;
        refused(api, &other.token_of(&header, &claims)?).await?;
    }
    let long = "k".repeat(128);
    issuer.publishes(&[nameless(&ours), other.jwk(&long)]);
    opens_soon(api, &other.token(&long, name)?).await?;
    opens(api, &ours.token_of(&json!({ "alg": "ES256" }), &claims)?).await?;
    refused(api, &ours.token("any", name)?).await
}

/// A fault of the configuration is told as what it is, where it is looked for, and not as something that passes.
#[tokio::test]
async fn keys_that_cannot_be_used_are_told_as_such() -> Result<()> {
    let (stack, issuer) = stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let (api, name) = (&tenant.api, tenant.name.as_str());
    let signer = Signer::edwards()?;
    let healthy = async || api.with_bearer(None).get("/healthz?deep=1").await;
    healthy().await?.expect_problem(503, "keys_unavailable")?;

    issuer.answers(Answer::Text(
        200,
        json!({ "keys": [{ "kty": "OKP", "crv": "X25519" }] }).to_string(),
    ));
    let token = signer.token("k", name)?;
    until("the set is read", async || {
        Ok(healthy().await?.status == 500)
    })
    .await?;
    let told = healthy().await?;
    told.expect_problem(500, "keys_unusable")?;
    assert!(told.header("retry-after").is_none());
    let refused = ask(api, &token).await?;
    let problem = refused.expect_problem(500, "keys_unusable")?;
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("no public key"), "{detail}");
    // Told once, however often it is asked for.
    tokio::time::sleep(2 * REFRESH).await;
    for _ in 0..3 {
        healthy().await?.expect_problem(500, "keys_unusable")?;
    }
    let log = std::fs::read_to_string(stack.folder().join("worker.log"))?;
    assert_eq!(log.matches("\"event\":\"jwks\"").count(), 2, "{log}");

    issuer.publishes(&[signer.jwk("k")]);
    until("the new set is read", async || {
        Ok(healthy().await?.status == 200)
    })
    .await?;
    opens(api, &token).await
}
