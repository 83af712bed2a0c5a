//! What the service's requests take and cost: the worker in workerd and the native server, beside a worker that only runs `SELECT 1`, on the same
//! machine and database, behind the same pool of connections, in one run. Then what a signature takes in the workers' runtime, and how
//! fast the outbox drains.
//!
//! `KEEPSAKE_BENCH_REQUESTS` sets how many requests of each kind are measured (200).

mod measure;
mod outbox;
mod side;
mod signer;
mod store;

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use keepsake_tests::api::text;
use keepsake_tests::fixtures::{Fixture, PNG};
use keepsake_tests::stack::{Stack, StackSettings};
use measure::{Measured, measure};
use side::{Side, declaration};
use sqlx::Connection as _;

const TENANT: &str = "bench";
/// Connections of the pool.
const POOL: u8 = 8;
/// Files of a post that is deleted and restored.
const FILES: usize = 5;
/// Files of the post that is listed.
const LISTED: usize = 100;

/// What is measured.
struct Bench {
    stack: Stack,
    select_one: Side,
    /// The service, on each of its hosts.
    services: [Side; 2],
    count: usize,
    /// A post for each upload: names are taken only once on one.
    posts: std::sync::Mutex<std::vec::IntoIter<String>>,
}

impl Bench {
    async fn start(count: usize) -> Result<Self> {
        let settings = StackSettings {
            pool: Some(POOL),
            ..StackSettings::default()
        };
        let stack = Stack::start(settings, |step| println!("==> {step}")).await?;
        println!("==> Starting the worker in workerd, the native server, and SELECT 1");
        let services = [Side::workerd(&stack).await?, Side::native(&stack).await?];
        // For each host and each kind of request that needs posts, as many alone as together, and what is listed.
        let posts = make_posts(&stack, 2 * 6 * 2 * count + 2).await?;
        Ok(Self {
            select_one: Side::select_one(&stack).await?,
            stack,
            services,
            count,
            posts: posts.into_iter().into(),
        })
    }

    fn post(&self) -> Result<String> {
        let mut posts = self
            .posts
            .lock()
            .map_err(|_| anyhow::anyhow!("a thread panicked"))?;
        posts.next().context("too few posts were made")
    }

    /// As many posts for each host as it gets requests.
    fn posts(&self) -> Result<[Vec<String>; 2]> {
        let posts = || (0..2 * self.count).map(|_| self.post()).collect();
        let [first, second]: [Result<_>; 2] = [posts(), posts()];
        Ok([first?, second?])
    }

    /// What both hosts take for these requests.
    async fn services<S>(&self, what: &str, send: S) -> Result<()>
    where
        S: AsyncFn(&Side, usize, usize) -> Result<()>,
    {
        let sides: Vec<&Side> = self.services.iter().collect();
        let send = async |place: usize, request| send(&self.services[place], place, request).await;
        let measured = measure(&self.stack, &sides, self.count, send).await?;
        for (side, measured) in self.services.iter().zip(&measured) {
            print(what, side, measured);
        }
        Ok(())
    }
}

async fn make_posts(stack: &Stack, count: usize) -> Result<Vec<String>> {
    let mut database = stack.postgres.connect().await?;
    let posts = sqlx::query_scalar(
        "WITH thread AS (INSERT INTO public.thread (tenant, title) VALUES ($1, 'a thread') RETURNING id)
         INSERT INTO public.post (tenant, thread_id, slug, body)
         SELECT $1, id, 'post-' || n, '' FROM thread, generate_series(1, $2) AS n
         RETURNING id::text",
    )
    .bind(TENANT)
    .bind(i32::try_from(count)?)
    .fetch_all(&mut database)
    .await?;
    database.close().await?;
    Ok(posts)
}

fn print(what: &str, side: &Side, measured: &Measured) {
    let [service, database] = measured.cost();
    println!(
        "{what:<28} {:<9} {:>7.1} ms {:>7.1} ms {:>7.0}/s {service:>9.2} ms {database:>9.2} ms",
        side.name,
        measured.percentile(50),
        measured.percentile(99),
        measured.rate(),
    );
}

/// A text of 20 kB, another one each time.
fn twenty_kilobytes(number: usize) -> Fixture {
    let line = format!("keepsake {number}\n");
    let text = line.repeat(20_000 / line.len());
    Fixture {
        name: "report.txt",
        media_type: "text/plain",
        bytes: text.into_bytes().leak(),
    }
}

async fn compare(bench: &Bench) -> Result<()> {
    let count = bench.count;
    let [attachments, listed] = prepare(bench).await?;
    println!(
        "\n{:<28} {:<9} {:>10} {:>10} {:>9} {:>12} {:>12}",
        format!("{count} requests each"),
        "",
        "p50",
        "p99",
        "rate",
        "service",
        "database"
    );
    let one = async |_, _| bench.select_one.ask_one().await;
    let one = measure(&bench.stack, &[&bench.select_one], count, one).await?;
    print("SELECT 1", &bench.select_one, &one[0]);

    bench
        .services("metadata", async |side, place, request| {
            let path = format!("/v1/attachments/{}", attachments[place]);
            side.get(&path, request).await
        })
        .await?;
    bench
        .services("content (its redirect)", async |side, place, request| {
            let path = format!("/v1/attachments/{}/content", attachments[place]);
            side.get(&path, request).await
        })
        .await?;
    bench
        .services("list 100", async |side, place, request| {
            let path = format!("/v1/post/{}/attachments?limit={LISTED}", listed[place]);
            side.get(&path, request).await
        })
        .await?;
    uploads(bench).await?;
    deletions(bench).await
}

/// An attachment and a post with many, for each host. Then statistics, as autovacuum would gather within minutes: without them every plan is a guess.
async fn prepare(bench: &Bench) -> Result<[Vec<String>; 2]> {
    let (mut attachments, mut listed) = (Vec::new(), Vec::new());
    for side in &bench.services {
        let post = bench.post()?;
        for number in 0..LISTED {
            let file = Fixture {
                name: format!("{number}.png").leak(),
                ..PNG
            };
            side.upload(&post, file, number).await?;
        }
        let items = side.api(0)?.list(("post", &post)).await?;
        let first = items.first().context("nothing was uploaded")?;
        attachments.push(text(first, "/id")?.to_owned());
        listed.push(post);
    }
    let mut database = bench.stack.postgres.connect().await?;
    sqlx::query("ANALYZE").execute(&mut database).await?;
    database.close().await?;
    Ok([attachments, listed])
}

async fn uploads(bench: &Bench) -> Result<()> {
    let posts = bench.posts()?;
    bench
        .services("create an upload", async |side, place, request| {
            let declaration = declaration(&posts[place][request], PNG);
            side.post("/v1/uploads", Some(&declaration), request)
                .await
                .map(drop)
        })
        .await?;
    let (posts, mut stored) = (bench.posts()?, Vec::new());
    for (side, posts) in bench.services.iter().zip(&posts) {
        let ids: Vec<String> = stream::iter(posts.iter().enumerate())
            .map(async |(user, post)| {
                let upload = side.api(user)?.store(("post", post), &[PNG]).await?;
                anyhow::Ok(text(&upload, "/id")?.to_owned())
            })
            .buffered(4)
            .try_collect()
            .await?;
        stored.push(ids);
    }
    bench
        .services("complete it", async |side, place, request| {
            let path = format!("/v1/uploads/{}/complete", stored[place][request]);
            side.post(&path, None, request).await.map(drop)
        })
        .await?;
    let posts = bench.posts()?;
    bench
        .services(
            "20 kB: create, PUT, complete",
            async |side, place, request| {
                let file = twenty_kilobytes(request);
                side.upload(&posts[place][request], file, request).await
            },
        )
        .await?;
    let posts = bench.posts()?;
    bench
        .services("20 kB: one request", async |side, place, request| {
            let file = twenty_kilobytes(request);
            side.attach(&posts[place][request], file, request).await
        })
        .await
}

/// Of posts with some files each.
async fn deletions(bench: &Bench) -> Result<()> {
    let posts = bench.posts()?;
    for (side, posts) in bench.services.iter().zip(&posts) {
        stream::iter(posts.iter().enumerate())
            .map(async |(user, post)| {
                let files: Vec<Fixture> = (0..FILES)
                    .map(|number| Fixture {
                        name: ["a.png", "b.png", "c.png", "d.png", "e.png"][number],
                        ..PNG
                    })
                    .collect();
                side.api(user)?.upload(("post", post), &files).await
            })
            .buffered(4)
            .try_collect::<Vec<_>>()
            .await?;
    }
    bench
        .services("delete a post of 5 files", async |side, place, request| {
            let path = format!("/v1/post/{}", posts[place][request]);
            side.delete(&path, request).await
        })
        .await?;
    bench
        .services("restore it", async |side, place, request| {
            let path = format!("/v1/post/{}/restore", posts[place][request]);
            side.post(&path, None, request).await.map(drop)
        })
        .await
}

#[tokio::main]
async fn main() -> Result<()> {
    let chosen = std::env::var("KEEPSAKE_BENCH_REQUESTS").ok();
    let count = chosen
        .and_then(|count| count.parse().ok())
        .unwrap_or(200usize);
    let bench = Bench::start(count).await?;
    compare(&bench).await?;
    signer::presign(&bench.stack).await?;
    outbox::drain(&bench.stack).await
}
