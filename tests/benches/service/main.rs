//! What the worker's answers take beside a worker that only runs `SELECT 1`, on the same machine and
//! database, behind the same pool of connections, in one run; what a signature takes in the same runtime beside
//! aws4fetch; and how fast the outbox drains.
//!
//! `KEEPSAKE_BENCH_REQUESTS` sets how many requests of each kind are measured (200).

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use keepsake_tests::api::{Api, text};
use keepsake_tests::fixtures::PNG;
use keepsake_tests::stack::{Stack, StackSettings};
use keepsake_tests::token::{claims, mint};
use serde_json::{Value, json};
use sqlx::Connection as _;

const TENANT: &str = "bench";
/// Requests at the same time, where their rate is measured.
const SIDE_BY_SIDE: usize = 8;
/// Rounds in which signers alternate.
const ROUNDS: u32 = 9;
/// Connections of the pool.
const POOL: u8 = 8;
/// Objects in the outbox, where its draining is measured.
const OBJECTS: i32 = 5_000;

/// What is measured, and against what.
struct Bench {
    stack: Stack,
    select_one: String,
    client: reqwest::Client,
    /// A thing for each upload: names are taken only once on one.
    posts: Vec<String>,
}

/// How long each request took, one after the other, and how many there were in a second side by side.
struct Measured {
    times: Vec<Duration>,
    rate: f64,
}

impl Measured {
    fn percentile(&self, percent: usize) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(at).copied().unwrap_or_default().as_secs_f64() * 1e3
    }
}

impl Bench {
    async fn start(posts: i32) -> Result<Self> {
        let settings = StackSettings {
            pool: Some(POOL),
            ..StackSettings::default()
        };
        let stack = Stack::start(settings, |step| println!("==> {step}")).await?;
        let select_one = stack
            .companion("tests/benches/select-one/wrangler.toml")
            .await?;
        let mut database = stack.postgres.connect().await?;
        let posts = sqlx::query_scalar(
            "WITH thread AS (INSERT INTO public.thread (tenant, title) VALUES ($1, 'a thread') RETURNING id)
             INSERT INTO public.post (tenant, thread_id, slug, body)
             SELECT $1, id, 'post-' || n, '' FROM thread, generate_series(1, $2) AS n
             RETURNING id::text",
        )
        .bind(TENANT)
        .bind(posts)
        .fetch_all(&mut database)
        .await?;
        database.close().await?;
        let url = select_one.url.clone();
        // It ends with this process.
        std::mem::forget(select_one);
        let no_redirect = reqwest::redirect::Policy::none();
        Ok(Self {
            stack,
            select_one: url,
            client: reqwest::Client::builder().redirect(no_redirect).build()?,
            posts,
        })
    }

    /// Each request is another user's: one user's are limited.
    fn bearer(&self, user: usize) -> String {
        mint(
            &claims(TENANT, &format!("user-{user}")),
            &self.stack.secrets.jwt_key,
        )
    }

    fn entity(&self, user: usize) -> (&str, &str) {
        ("post", &self.posts[user % self.posts.len()])
    }

    async fn answered(&self, request: reqwest::RequestBuilder) -> Result<()> {
        let reply = request.send().await?;
        let status = reply.status();
        let body = reply.text().await?;
        ensure!(status.as_u16() < 400, "{status}: {body}");
        Ok(())
    }

    async fn ask_one(&self) -> Result<()> {
        self.answered(self.client.get(&self.select_one)).await
    }

    async fn get(&self, path: &str, user: usize) -> Result<()> {
        let url = format!("{}{path}", self.stack.worker.url());
        self.answered(self.client.get(url).bearer_auth(self.bearer(user)))
            .await
    }

    async fn post(&self, path: &str, body: Option<&Value>, user: usize) -> Result<()> {
        let url = format!("{}{path}", self.stack.worker.url());
        let request = self.client.post(url).bearer_auth(self.bearer(user));
        self.answered(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    /// An upload whose file is there, to be completed; its id.
    async fn stored(&self, user: usize) -> Result<String> {
        let api = Api::new(&self.stack.worker.url(), Some(self.bearer(user)))?;
        let upload = api.store(self.entity(user), &[PNG]).await?;
        Ok(text(&upload, "/id")?.to_owned())
    }

    fn declaration(&self, user: usize) -> Value {
        let sha256 = keepsake_tests::api::sha256_hex(PNG.bytes);
        let file =
            json!({ "name": format!("{user}.png"), "size": PNG.bytes.len(), "sha256": sha256 });
        let (kind, id) = self.entity(user);
        json!({ "entity_type": kind, "entity_id": id, "files": [file] })
    }
}

/// Sends `count` requests one after the other, each followed by one that runs `SELECT 1`, so that what else the machine
/// does falls on both; then as many of each kind side by side. Answers with the requests and with the `SELECT 1`.
async fn measure<F, Fut>(bench: &Bench, count: usize, send: F) -> Result<[Measured; 2]>
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let mut times = [Vec::with_capacity(count), Vec::with_capacity(count)];
    for n in 0..count {
        let start = Instant::now();
        send(n).await?;
        let between = Instant::now();
        bench.ask_one().await?;
        times[0].push(between - start);
        times[1].push(between.elapsed());
    }
    let rates = [
        rate(count, |n| send(count + n)).await?,
        rate(count, |_| bench.ask_one()).await?,
    ];
    let [ours, one] = times;
    Ok([
        Measured {
            times: ours,
            rate: rates[0],
        },
        Measured {
            times: one,
            rate: rates[1],
        },
    ])
}

/// How many requests a second are answered, with some at the same time.
async fn rate<F, Fut>(count: usize, send: F) -> Result<f64>
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let start = Instant::now();
    stream::iter(0..count)
        .map(&send)
        .buffer_unordered(SIDE_BY_SIDE)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

fn print(what: &str, [ours, one]: &[Measured; 2]) {
    println!(
        "{what:<24} {:>7.1} ms {:>7.1} ms {:>7.0}/s {:>7.1} ms {:>7.1} ms {:>7.0}/s {:>7.2} × {:>7.2} ×",
        ours.percentile(50),
        ours.percentile(99),
        ours.rate,
        one.percentile(50),
        one.percentile(99),
        one.rate,
        ours.percentile(50) / one.percentile(50),
        one.rate / ours.rate,
    );
}

async fn compare(bench: &Bench, count: usize) -> Result<()> {
    // The first requests start the workers and fill their caches.
    for _ in 0..20 {
        bench.ask_one().await?;
    }
    let uploads: Vec<String> = stream::iter(0..2 * count)
        .map(|n| bench.stored(n))
        .buffered(4)
        .try_collect()
        .await?;
    // What autovacuum does within the first minutes of a database: without statistics every plan is a guess.
    let mut database = bench.stack.postgres.connect().await?;
    sqlx::query("ANALYZE").execute(&mut database).await?;
    database.close().await?;

    println!(
        "\n{:<24} {:>10} {:>10} {:>9} {:>10} {:>10} {:>9} {:>9} {:>9}",
        format!("{count} requests each"),
        "p50",
        "p99",
        "rate",
        "SELECT 1",
        "p99",
        "rate",
        "p50 ratio",
        "rate ratio"
    );
    let created = measure(bench, count, async |n| {
        let user = 2 * count + n;
        let declaration = bench.declaration(user);
        bench.post("/v1/uploads", Some(&declaration), user).await
    })
    .await?;
    print("create an upload", &created);
    let completed = measure(bench, count, async |n| {
        let path = format!("/v1/uploads/{}/complete", uploads[n]);
        bench.post(&path, None, n).await
    })
    .await?;
    print("complete it", &completed);

    let api = Api::new(&bench.stack.worker.url(), Some(bench.bearer(0)))?;
    let attachments = api.list(bench.entity(0)).await?;
    let attachment = attachments.first().context("nothing was completed")?;
    let path = format!("/v1/attachments/{}", text(attachment, "/id")?);
    let metadata = measure(bench, count, |n| bench.get(&path, n)).await?;
    print("metadata", &metadata);
    let content_path = format!("{path}/content");
    let content = measure(bench, count, |n| bench.get(&content_path, n)).await?;
    print("content (its redirect)", &content);
    Ok(())
}

/// How long so many signatures take in a worker; what a request costs besides is taken off.
async fn signing(url: &str, count: u32) -> Result<Duration> {
    let ask = async |count: u32| {
        let start = Instant::now();
        reqwest::get(format!("{url}?count={count}"))
            .await?
            .error_for_status()?
            .text()
            .await?;
        anyhow::Ok(start.elapsed())
    };
    let nothing = ask(0).await?;
    Ok(ask(count).await?.saturating_sub(nothing))
}

/// The signer in the runtime, beside aws4fetch; the best round of each counts, as for the native one.
async fn presign(bench: &Bench) -> Result<()> {
    let worker = bench
        .stack
        .companion("tests/benches/presign/wrangler.toml")
        .await?;
    let sides = [("keepsake", 20_000), ("aws4fetch", 2_000)];
    let mut signatures = Vec::new();
    for (side, _) in sides {
        let url = reqwest::get(format!("{}/{side}?count=1", worker.url))
            .await?
            .text()
            .await?;
        let signature = url
            .split("X-Amz-Signature=")
            .nth(1)
            .context("no signature")?;
        signatures.push(signature.split('&').next().map(str::to_owned));
    }
    ensure!(signatures[0] == signatures[1], "not the same request");
    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        for ((side, count), best) in sides.iter().zip(&mut best) {
            let took = signing(&format!("{}/{side}", worker.url), *count).await?;
            *best = took.div_f64(f64::from(*count)).min(*best);
        }
    }
    let [ours, theirs] = best.map(|time| time.as_secs_f64() * 1e6);
    println!("\na presigned PUT with five signed headers in workerd, best of {ROUNDS} rounds");
    println!("  keepsake   {ours:>6.2} µs");
    println!(
        "  aws4fetch  {theirs:>6.2} µs  {:.1} × keepsake's",
        theirs / ours
    );
    Ok(())
}

/// Lets the schedule delete what is in the outbox until nothing is left.
async fn drain(bench: &Bench) -> Result<()> {
    let mut database = bench.stack.postgres.connect().await?;
    sqlx::query(
        "INSERT INTO keepsake.outbox (relation, object_key)
         SELECT 'attachments.attachment', 't/bench/post/1/' || keepsake.uuid_v7() || '.png' FROM generate_series(1, $1)",
    )
    .bind(OBJECTS)
    .execute(&mut database)
    .await?;
    let schedule = format!("{}/__scheduled", bench.stack.worker.url());
    let start = Instant::now();
    let (mut runs, mut left) = (0, i64::from(OBJECTS));
    while left > 0 && runs < 100 {
        bench.answered(bench.client.get(&schedule)).await?;
        runs += 1;
        left = sqlx::query_scalar(
            "SELECT count(*) FROM keepsake.outbox WHERE object_key LIKE 't/bench/post/1/%'",
        )
        .fetch_one(&mut database)
        .await?;
    }
    ensure!(left == 0, "{left} objects are left after {runs} runs");
    println!(
        "\ndraining the outbox: {:.0} objects a second, in {runs} runs of the schedule",
        f64::from(OBJECTS) / start.elapsed().as_secs_f64()
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let chosen = std::env::var("KEEPSAKE_BENCH_REQUESTS").ok();
    let count = chosen
        .and_then(|count| count.parse().ok())
        .unwrap_or(200usize);
    let bench = Bench::start(i32::try_from(4 * count)?).await?;
    presign(&bench).await?;
    compare(&bench, count).await?;
    drain(&bench).await
}
