//! Every kind of credential in every place where one is taken: each opens its own place and no other.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keepsake_shared::{KeyRing, ObjectToken};
use keepsake_tests::api::{Api, text};
use keepsake_tests::fixtures::{PDF, PNG, TEXT};
use keepsake_tests::secrets::{KEY_ID, hex};
use keepsake_tests::stack::{Stack, StackSettings};
use keepsake_tests::token::{claims, mint, mint_with_header, unix_now, unsigned};
use reqwest::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::routes::{Operation, Things};
use crate::world::{Tenant, id, start_stack};

const SCAN_KEY: &[u8] = b"scanscanscanscanscanscanscanscan";

/// What a credential is for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Bearer,
    Upload,
    Part,
    Download,
    /// Of a listing, at this path.
    Cursor(&'static str),
    ScanMessage,
    /// Good for nothing at all.
    Nothing,
}

/// A tenant with credentials of every kind, all of them good, and secrets and forgeries that are none.
struct World<'a> {
    tenant: Tenant<'a>,
    things: Things,
    /// The entry of the upload that [`Kind::Upload`] is for.
    file: Value,
    credentials: Vec<(Kind, String)>,
}

const SCAN_BODY: &str =
    r#"{"object_key":"t/a/post/1/0198f7d0-1111-7aaa-8bbb-000000000001.png","verdict":"clean"}"#;

fn ring(key: &[u8]) -> Result<KeyRing> {
    Ok(format!("{KEY_ID}:{}", STANDARD.encode(key)).parse()?)
}

/// A scanner's signature of [`SCAN_BODY`], by any key.
fn scan_signature(key_id: &str, key: &[u8], timestamp: u64) -> Result<String> {
    let signed = format!("keepsake scan result, version 1\n{timestamp}\n{SCAN_BODY}");
    let mac = ring(key)?.signing_key().sign(&[signed.as_bytes()]);
    Ok(format!("{key_id}.{}", hex(&mac)))
}

impl<'a> World<'a> {
    async fn new(stack: &'a Stack, timestamp: u64) -> Result<Self> {
        let tenant = Tenant::new(stack).await?;
        let api = &tenant.api;
        for file in [PNG, TEXT] {
            let one = tenant.upload_one(file).await?;
            tenant.delete_attachment(&one).await?.expect(204)?;
        }
        sqlx::query("INSERT INTO public.post (tenant, thread_id, slug, body) VALUES ($1, $2::bigint, 'another', '')")
            .bind(&tenant.name)
            .bind(&tenant.thread)
            .execute(&mut tenant.database().await?)
            .await?;
        let attachments = tenant.upload(&[PNG, TEXT]).await?;
        let download = api.content_url(id(&attachments[0])?).await?;
        let upload = tenant.declare(&[PDF]).await?;
        let file = upload["files"][0].clone();
        let token_of = |url: &str| {
            Ok::<_, anyhow::Error>(url.rsplit('/').next().context("no token")?.to_owned())
        };
        let (download, upload) = (token_of(&download)?, token_of(text(&file, "/url")?)?);

        let secrets = &stack.secrets;
        let keys: KeyRing = secrets.url_key_ring().parse()?;
        let now = OffsetDateTime::now_utc();
        let part = match ObjectToken::verify(&upload, &keys, now)? {
            ObjectToken::Upload {
                key,
                size,
                sha256,
                expires_at,
                ..
            } => {
                let storage_id = "x".to_owned();
                ObjectToken::Part {
                    key,
                    storage_id,
                    number: 1,
                    size,
                    sha256,
                    expires_at,
                }
            }
            other => anyhow::bail!("{other:?} in the place of an upload"),
        };
        let claims = claims(&tenant.name, "ada");
        let other_ring = ring(&secrets.jwt_key)?;
        let as_jwt = |key: &[u8], kid: &str| {
            mint_with_header(&json!({ "alg": "HS256", "kid": kid }), &claims, key)
        };
        let mut credentials = vec![
            (Kind::Bearer, mint(&claims, &secrets.jwt_key)),
            (Kind::Upload, upload.clone()),
            (Kind::Part, part.sign(&keys)),
            (Kind::Download, download.clone()),
            (
                Kind::ScanMessage,
                scan_signature("scanner", SCAN_KEY, timestamp)?,
            ),
            // The right form, by a key of another ring.
            (Kind::Nothing, as_jwt(&secrets.url_key, KEY_ID)),
            (Kind::Nothing, as_jwt(SCAN_KEY, "scanner")),
            (Kind::Nothing, unsigned(&claims)),
            (
                Kind::Nothing,
                ObjectToken::verify(&upload, &keys, now)?.sign(&other_ring),
            ),
            (
                Kind::Nothing,
                ObjectToken::verify(&download, &keys, now)?.sign(&other_ring),
            ),
            (
                Kind::Nothing,
                scan_signature("scanner", &secrets.url_key, timestamp)?,
            ),
            (
                Kind::Nothing,
                scan_signature(KEY_ID, &secrets.url_key, timestamp)?,
            ),
            // The keys themselves.
            (Kind::Nothing, hex(&secrets.jwt_key)),
            (Kind::Nothing, hex(&secrets.url_key)),
        ];
        for path in ["/v1/attachments", "/v1/deletions", "/v1/post"] {
            let page = api.get(&format!("{path}?limit=1")).await?.json_if(200)?;
            let cursor = text(&page, "/next_cursor").context(path)?;
            credentials.push((Kind::Cursor(path), cursor.to_owned()));
        }
        let things = Things {
            post: tenant.post.clone(),
            ..Things::of_nobody()
        };
        Ok(Self {
            tenant,
            things,
            file,
            credentials,
        })
    }

    /// All but those of one kind.
    fn but(&self, kind: Kind) -> impl Iterator<Item = (Kind, &str)> {
        let others = self.credentials.iter().filter(move |(one, _)| *one != kind);
        others.map(|(kind, text)| (*kind, text.as_str()))
    }

    fn of(&self, kind: Kind) -> Result<&str> {
        let found = self.credentials.iter().find(|(one, _)| *one == kind);
        Ok(&found.context("no such credential")?.1)
    }

    fn path_of(&self, token: &str) -> String {
        format!("/v1/objects/{token}")
    }
}

async fn stack() -> Result<Stack> {
    let keys = format!("scanner:{}", STANDARD.encode(SCAN_KEY));
    let settings = StackSettings {
        vars: vec![("SCAN_KEYS".to_owned(), keys)],
        ..StackSettings::default()
    };
    start_stack(settings).await
}

/// As `Authorization: Bearer`, on every route that asks for it.
async fn as_bearers(world: &World<'_>) -> Result<()> {
    for operation in Operation::with_bearer()? {
        let request = operation.about(&world.things)?;
        let missing = request.send(&world.tenant.api.with_bearer(None)).await?;
        missing
            .expect_problem(401, "missing_token")
            .with_context(|| format!("{} {}", operation.method, operation.template))?;
        for (kind, text) in world.but(Kind::Bearer) {
            let reply = request
                .send(&world.tenant.api.with_bearer(Some(text)))
                .await?;
            reply
                .expect_problem(401, "invalid_token")
                .with_context(|| {
                    format!("{kind:?} at {} {}", operation.method, operation.template)
                })?;
        }
    }
    Ok(())
}

/// In the place of an object URL's token.
async fn in_object_urls(world: &World<'_>) -> Result<()> {
    let api = &world.tenant.api;
    let headers = world.file["headers"].as_object().context("no headers")?;
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
        .collect();
    for (kind, text) in world.but(Kind::Download) {
        let path = world.path_of(text);
        let got = api.get(&path).await?;
        got.expect_problem(403, "url_invalid")
            .with_context(|| format!("GET with {kind:?}"))?;
        let head = api.send(Method::HEAD, &path, &[], None).await?;
        head.expect(403)
            .with_context(|| format!("HEAD with {kind:?}"))?;
    }
    for (kind, text) in world.but(Kind::Upload) {
        let path = world.path_of(text);
        let body = Some(PDF.bytes.to_vec());
        let put = api.send(Method::PUT, &path, &headers, body).await?;
        // A part's own place is PUT, too; this one is of an upload that the store does not know.
        let (status, code) = match kind {
            Kind::Part => (409, "upload_closed"),
            _ => (403, "url_invalid"),
        };
        put.expect_problem(status, code)
            .with_context(|| format!("PUT with {kind:?}"))?;
    }
    api.get(&world.path_of(world.of(Kind::Download)?))
        .await?
        .expect(200)?;
    let put = api.put(&world.file, PDF.bytes).await?;
    put.expect_stored()
}

/// As the cursor of every listing.
async fn as_cursors(world: &World<'_>) -> Result<()> {
    let operator = json!({ "sub": "olga", "scope": "operator", "exp": unix_now() + 60 });
    let operator = mint(&operator, &world.tenant.stack.secrets.jwt_key);
    let operator = world.tenant.api.with_bearer(Some(&operator));
    let mut listings = 0;
    for operation in Operation::with_bearer()? {
        if !operation.is_paged() {
            continue;
        }
        let request = operation.about(&world.things)?;
        let api = match operation.scope() {
            Some("operator") => &operator,
            _ => &world.tenant.api,
        };
        for (kind, text) in &world.credentials {
            let path = format!("{}?cursor={text}", request.path);
            let reply = api.get(&path).await?;
            match kind {
                Kind::Cursor(own) if *own == request.path => reply.expect(200)?,
                _ => reply
                    .expect_problem(400, "invalid_field")
                    .map(drop)
                    .with_context(|| format!("{kind:?} at {}", request.path))?,
            }
        }
        listings += 1;
    }
    ensure!(listings > 5, "only {listings} listings");
    Ok(())
}

/// As a scanner's signature.
async fn as_signatures(world: &World<'_>, timestamp: u64) -> Result<()> {
    let send = async |signature: &str, bearer: Option<&str>| {
        let timestamp = timestamp.to_string();
        let headers = [
            ("content-type", "application/json"),
            ("keepsake-timestamp", timestamp.as_str()),
            ("keepsake-signature", signature),
        ];
        let body = Some(SCAN_BODY.as_bytes().to_vec());
        let api = world.tenant.api.with_bearer(bearer);
        api.send(Method::POST, "/v1/scan-results", &headers, body)
            .await
    };
    for (kind, text) in world.but(Kind::ScanMessage) {
        // A good bearer beside it changes nothing.
        for bearer in [None, Some(world.of(Kind::Bearer)?)] {
            let reply = send(text, bearer).await?;
            reply
                .expect_problem(401, "signature_invalid")
                .with_context(|| format!("{kind:?}"))?;
        }
    }
    // The right one is taken; there is no such object.
    let reply = send(world.of(Kind::ScanMessage)?, None).await?;
    reply.expect_problem(404, "not_found")?;
    Ok(())
}

/// A good bearer token where none is taken.
async fn elsewhere(world: &World<'_>) -> Result<()> {
    let api = world.tenant.api.with_bearer(None);
    let good = world.of(Kind::Bearer)?;
    for (name, value) in [
        ("authorization", format!("Basic {good}")),
        ("authorization", format!("Token {good}")),
        ("authorization", good.to_owned()),
        (
            "cookie",
            format!("authorization=Bearer {good}; token={good}"),
        ),
        ("x-authorization", format!("Bearer {good}")),
        ("proxy-authorization", format!("Bearer {good}")),
    ] {
        let reply = api.get_with("/v1/attachments", &[(name, &value)]).await?;
        reply.expect_problem(401, "missing_token").context(value)?;
    }
    for path in ["/v1/attachments", "/v1/usage"] {
        let reply = api.get(&format!("{path}?access_token={good}")).await?;
        reply.expect_problem(401, "missing_token")?;
    }
    // Of two, whoever comes first, neither.
    let (good, bad) = (format!("Bearer {good}"), "Bearer x.y.z".to_owned());
    for pair in [[&good, &bad], [&bad, &good], [&good, &good]] {
        let headers = pair.map(|value| ("authorization", value.as_str()));
        let reply = api.get_with("/v1/attachments", &headers).await?;
        reply.expect_problem(401, "invalid_token")?;
    }
    Ok(())
}

#[tokio::test]
async fn each_opens_its_own_place_and_no_other() -> Result<()> {
    let stack = stack().await?;
    let timestamp = unix_now();
    let world = World::new(&stack, timestamp).await?;
    as_bearers(&world).await.context("as bearers")?;
    in_object_urls(&world).await.context("in object URLs")?;
    as_cursors(&world).await.context("as cursors")?;
    as_signatures(&world, timestamp)
        .await
        .context("as signatures")?;
    elsewhere(&world).await
}

/// Every single character of a cursor, of an object token and of a bearer token counts.
#[tokio::test]
async fn no_character_can_be_changed() -> Result<()> {
    let stack = stack().await?;
    let world = World::new(&stack, unix_now()).await?;
    let api = &world.tenant.api;
    let changed = |text: &str| -> Vec<String> {
        let flip = |at: usize| {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            String::from_utf8_lossy(&bytes).into_owned()
        };
        (0..text.len()).map(flip).collect()
    };
    for cursor in changed(world.of(Kind::Cursor("/v1/attachments"))?) {
        let reply = api.get(&format!("/v1/attachments?cursor={cursor}")).await?;
        reply.expect_problem(400, "invalid_field").context(cursor)?;
    }
    for token in changed(world.of(Kind::Download)?) {
        let reply = api.get(&world.path_of(&token)).await?;
        reply.expect_problem(403, "url_invalid").context(token)?;
    }
    for token in changed(world.of(Kind::Bearer)?) {
        let api: Api = api.with_bearer(Some(&token));
        let reply = api.get("/v1/attachments").await?;
        reply.expect_problem(401, "invalid_token").context(token)?;
    }
    Ok(())
}
