//! The rules are written once and judge in three places: in the browser as WebAssembly, in the
//! worker, in the database. Here all three judge the cases of `tests/fixtures/rules.json`, and have to
//! agree with it and with each other, to the word.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keepsake_tests::api::{Api, Reply};
use keepsake_tests::fixtures::Fixture;
use keepsake_tests::places::{checkout, node_program};
use keepsake_tests::stack::{Stack, StackSettings};
use keepsake_tests::token::{claims, mint};
use serde::Deserialize;
use serde_json::{Value, json};

const TENANT: &str = "rules";

#[derive(Deserialize)]
struct Corpus {
    uploads: Vec<UploadCase>,
    contents: Vec<ContentCase>,
}

/// A request for an upload. What it does not name is as it should be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UploadCase {
    why: String,
    entity_type: Option<String>,
    entity_id: Option<String>,
    files: Vec<Value>,
    /// What is wrong with it: `pointer`, `code` and, where there is one, `reason`.
    errors: Vec<Value>,
}

/// A file that is uploaded whole.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ContentCase {
    why: String,
    name: String,
    file: Option<String>,
    text: Option<String>,
    base64: Option<String>,
    /// What is wrong with it.
    code: Option<String>,
}

impl UploadCase {
    fn request(&self, post: &str) -> Value {
        let files: Vec<Value> = self
            .files
            .iter()
            .map(|given| {
                let mut file = json!({ "name": "a.txt", "size": 10, "sha256": "0".repeat(64) });
                for (name, value) in given.as_object().into_iter().flatten() {
                    file[name] = value.clone();
                }
                file
            })
            .collect();
        json!({
            "entity_type": self.entity_type.as_deref().unwrap_or("post"),
            "entity_id": self.entity_id.as_deref().unwrap_or(post),
            "files": files,
        })
    }
}

impl ContentCase {
    fn bytes(&self) -> Result<Vec<u8>> {
        if let Some(file) = &self.file {
            return Ok(fs::read(checkout().join(file))?);
        }
        if let Some(text) = &self.text {
            return Ok(text.clone().into_bytes());
        }
        Ok(STANDARD.decode(self.base64.as_deref().context("no content")?)?)
    }
}

/// A worker and a database, and a post for each case.
struct World {
    stack: Stack,
    posts: Vec<String>,
}

impl World {
    async fn new(cases: usize) -> Result<Self> {
        let stack = Stack::start(StackSettings::default(), |_| ()).await?;
        let mut database = stack.postgres.connect().await?;
        let posts = sqlx::query_scalar(
            "WITH thread AS (INSERT INTO public.thread (tenant, title) VALUES ($1, 'a thread') RETURNING id)
             INSERT INTO public.post (tenant, thread_id, slug, body)
             SELECT $1, id, 'post-' || number, '' FROM thread, generate_series(1, $2) AS number
             RETURNING id::text",
        )
        .bind(TENANT)
        .bind(i32::try_from(cases)?)
        .fetch_all(&mut database)
        .await?;
        Ok(Self { stack, posts })
    }

    /// A client of a user of its own: what is pending of one is bounded.
    fn api(&self, user: usize) -> Result<Api> {
        let claims = claims(TENANT, &format!("user-{user}"));
        let bearer = mint(&claims, &self.stack.secrets.jwt_key);
        Api::new(&self.stack.worker.url(), Some(bearer))
    }
}

/// What WebAssembly says to all cases.
fn judged_in_wasm(cases: &Value) -> Result<Value> {
    let mut node = Command::new(node_program("node")?)
        .arg("tests/judge.ts")
        .current_dir(checkout().join("client"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = node.stdin.take().context("node takes no input")?;
    input.write_all(cases.to_string().as_bytes())?;
    drop(input);
    let ran = node.wait_with_output()?;
    ensure!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    Ok(serde_json::from_slice(&ran.stdout)?)
}

/// What a refusal says that does not depend on the request's id.
fn essence(refusal: &Value) -> Value {
    let members = ["code", "status", "title", "detail", "errors"];
    members
        .iter()
        .map(|name| ((*name).to_owned(), refusal[*name].clone()))
        .collect()
}

/// An error without its words.
fn kind(error: &Value) -> Value {
    let mut kind = error.clone();
    kind.as_object_mut().map(|error| error.remove("detail"));
    kind
}

fn errors(refusal: &Value) -> Vec<Value> {
    refusal["errors"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn browser_worker_and_database_judge_alike() -> Result<()> {
    let corpus = fs::read(checkout().join("tests/fixtures/rules.json"))?;
    let corpus: Corpus = serde_json::from_slice(&corpus)?;
    let world = World::new(corpus.uploads.len() + corpus.contents.len()).await?;
    let (upload_posts, content_posts) = world.posts.split_at(corpus.uploads.len());

    let uploads = corpus.uploads.iter().zip(upload_posts);
    let requests: Vec<Value> = uploads.map(|(case, post)| case.request(post)).collect();
    let names: Vec<&str> = requests
        .iter()
        .flat_map(|request| request["files"].as_array())
        .flatten()
        .filter_map(|file| file["name"].as_str())
        .collect();
    let contents = corpus.contents.iter().map(ContentCase::bytes);
    let contents: Vec<Vec<u8>> = contents.collect::<Result<_>>()?;
    let limits = world.api(0)?.get("/v1/limits").await?.json_if(200)?;
    let in_browser = judged_in_wasm(&json!({
        "limits": limits,
        "uploads": requests,
        "contents": corpus.contents.iter().zip(&contents)
            .map(|(case, bytes)| json!({ "name": case.name, "base64": STANDARD.encode(bytes) }))
            .collect::<Vec<_>>(),
        "names": names,
    }))?;

    for (index, (case, request)) in corpus.uploads.iter().zip(&requests).enumerate() {
        compare_upload(
            &world,
            index,
            request,
            &in_browser["uploads"][index],
            &case.errors,
        )
        .await
        .with_context(|| format!("{}: {request}", case.why))?;
    }
    for (index, (case, bytes)) in corpus.contents.iter().zip(contents).enumerate() {
        let entity = ("post", content_posts[index].as_str());
        compare_content(&world, case, bytes, entity, &in_browser["contents"][index])
            .await
            .with_context(|| case.why.clone())?;
    }
    compare_names(&world, &names, &in_browser["names"]).await
}

async fn compare_upload(
    world: &World,
    index: usize,
    request: &Value,
    in_browser: &Value,
    expected: &[Value],
) -> Result<()> {
    let reply: Reply = world.api(index)?.post("/v1/uploads", request).await?;
    let at_edge = if reply.status == 201 {
        Value::Null
    } else {
        essence(&reply.json()?)
    };
    let mut database = world.stack.postgres.connect().await?;
    let in_sql: Value = sqlx::query_scalar("SELECT keepsake.check_upload($1)")
        .bind(request)
        .fetch_one(&mut database)
        .await?;

    ensure!(
        *in_browser == at_edge,
        "the browser says {in_browser}, the worker {at_edge}"
    );
    ensure!(
        in_sql == json!(errors(&at_edge)),
        "the database says {in_sql}, the worker {at_edge}"
    );
    let kinds: Vec<Value> = errors(&at_edge).iter().map(kind).collect();
    ensure!(kinds == expected, "all three say {}", json!(kinds));
    Ok(())
}

async fn compare_content(
    world: &World,
    case: &ContentCase,
    bytes: Vec<u8>,
    entity: (&str, &str),
    in_browser: &Value,
) -> Result<()> {
    let mut database = world.stack.postgres.connect().await?;
    let sniffed: Option<String> = sqlx::query_scalar("SELECT keepsake.sniff($1)")
        .bind(&bytes)
        .fetch_one(&mut database)
        .await?;
    ensure!(
        in_browser["sniffed"] == json!(sniffed),
        "the database sees {sniffed:?}, the browser {in_browser}"
    );

    let api = world.api(0)?;
    let file = Fixture {
        name: case.name.clone().leak(),
        media_type: "",
        bytes: bytes.leak(),
    };
    let upload = api.store(entity, &[file]).await?;
    let reply = api.complete(&upload).await?;
    let mut at_edge = errors(&reply.json()?);
    for error in &mut at_edge {
        let pointer = error
            .as_object_mut()
            .and_then(|error| error.remove("pointer"));
        ensure!(pointer == Some(json!("/files/0")), "{pointer:?}");
    }
    ensure!(
        in_browser["problems"] == json!(at_edge),
        "the worker says {at_edge:?}, the browser {in_browser}"
    );
    let codes: Vec<&Value> = at_edge.iter().map(|error| &error["code"]).collect();
    ensure!(
        json!(codes) == json!(case.code.iter().collect::<Vec<_>>()),
        "both say {codes:?}"
    );
    ensure!(
        reply.status == if case.code.is_some() { 422 } else { 200 },
        "{}",
        reply.status
    );
    Ok(())
}

async fn compare_names(world: &World, names: &[&str], in_browser: &Value) -> Result<()> {
    let mut database = world.stack.postgres.connect().await?;
    for (name, in_browser) in names.iter().zip(in_browser.as_array().context("no names")?) {
        let (sanitized, media_type): (String, Option<String>) =
            sqlx::query_as("SELECT keepsake.sanitize_filename($1), keepsake.media_type($1)")
                .bind(name)
                .fetch_one(&mut database)
                .await?;
        let in_sql = json!({ "sanitized": sanitized, "media_type": media_type });
        ensure!(
            *in_browser == in_sql,
            "{name:?}: the database says {in_sql}, the browser {in_browser}"
        );
    }
    Ok(())
}
