//! PostgreSQL goes while requests are under way, and comes back: each is told so, asks again, and all is as if nothing
//! had been.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use keepsake_tests::api::{Api, Reply, declaration, sha256_base64};
use keepsake_tests::fixtures::{Fixture, PNG, TEXT};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::agreement::{Place, assert_agreement};
use crate::world::{Tenant, attachment_path, names, own_stack, until, upload_path};

const CLIENTS: usize = 6;
const ROUNDS: usize = 8;
/// A client asks so many times, every [`PAUSE`].
const PATIENCE: usize = 300;
const PAUSE: Duration = Duration::from_millis(200);

/// Someone who asks again while told to, as anyone should.
struct Client {
    api: Api,
    post: String,
    number: usize,
    turned_away: Arc<AtomicUsize>,
}

impl Client {
    async fn ask(&self, method: Method, path: &str, key: &str, body: &[u8]) -> Result<Reply> {
        let headers = [
            ("idempotency-key", key),
            ("content-type", "application/json"),
        ];
        let headers = if body.is_empty() {
            &headers[..1]
        } else {
            &headers[..]
        };
        for _ in 0..PATIENCE {
            let body = Some(body.to_vec()).filter(|body| !body.is_empty());
            let reply = self.api.send(method.clone(), path, headers, body).await?;
            match reply.code().as_deref() {
                Some("database_unavailable") => {
                    reply.expect_problem(503, "database_unavailable")?;
                    ensure!(reply.header("retry-after").is_some(), "no Retry-After");
                    self.turned_away.fetch_add(1, Ordering::Relaxed);
                }
                // The call that was cut off is still at its end.
                Some("idempotency_in_flight") => {}
                _ => return Ok(reply),
            }
            tokio::time::sleep(PAUSE).await;
        }
        anyhow::bail!("{path} was never answered")
    }

    /// Two files of names of their own; those of every second round are deleted again. Answers with the
    /// names that stay.
    async fn round(&self, round: usize) -> Result<Vec<String>> {
        let files = [PNG, TEXT];
        let mine: Vec<String> = files
            .iter()
            .map(|file| format!("{}-{round}-{}", self.number, file.name))
            .collect();
        let declared: Vec<Value> = files
            .iter()
            .zip(&mine)
            .map(|(file, name)| {
                let mut declared = declaration(file);
                declared["name"] = json!(name);
                declared
            })
            .collect();
        let body = json!({ "entity_type": "post", "entity_id": self.post, "files": declared });
        let key = format!("declare-{}-{round}", self.number);
        let body = body.to_string().into_bytes();
        let reply = self.ask(Method::POST, "/v1/uploads", &key, &body).await?;
        let upload = reply.json_if(201)?;
        for (index, file) in files.iter().enumerate() {
            self.put(&upload["files"][index], file).await?;
        }
        let path = format!("{}/complete", upload_path(&upload)?);
        let key = format!("complete-{}-{round}", self.number);
        let reply = self.ask(Method::POST, &path, &key, &[]).await?;
        let done = reply.json_if(200)?;
        let attachments = done["attachments"].as_array().cloned().unwrap_or_default();
        let mut complete = mine.clone();
        complete.sort_unstable();
        ensure!(names(&attachments) == complete, "{attachments:?}");
        if round.is_multiple_of(2) {
            return Ok(mine);
        }
        for attachment in &attachments {
            let path = attachment_path(attachment)?;
            self.ask(Method::DELETE, &path, "unused", &[])
                .await?
                .expect(204)?;
        }
        Ok(Vec::new())
    }

    async fn put(&self, target: &Value, file: &Fixture) -> Result<()> {
        let reply = self.api.put(target, file.bytes).await?;
        ensure!(
            matches!(reply.status, 200 | 201 | 412),
            "{} {}",
            reply.status,
            sha256_base64(file.bytes)
        );
        Ok(())
    }
}

#[tokio::test]
async fn the_database_goes_while_requests_are_under_way_and_all_converge() -> Result<()> {
    let mut stack = own_stack().await?;
    let Tenant {
        api, post, name, ..
    } = Tenant::new(&stack).await?;
    let turned_away = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = Client {
            api: api.clone(),
            post: post.clone(),
            number,
            turned_away: Arc::clone(&turned_away),
        };
        clients.spawn(async move {
            let mut stay = Vec::new();
            for round in 0..ROUNDS {
                stay.extend(client.round(round).await?);
            }
            anyhow::Ok(stay)
        });
    }
    for _ in 0..2 {
        let mut database = stack.postgres.connect().await?;
        let mut sets = async || -> Result<i64> {
            let sql = "SELECT count(*) FROM attachments.upload_set";
            Ok(sqlx::query_scalar(sql).fetch_one(&mut database).await?)
        };
        let before = sets().await?;
        until("the clients are at work", async || {
            Ok(sets().await? >= before + CLIENTS as i64)
        })
        .await?;
        let noticed = turned_away.load(Ordering::Relaxed);
        stack.postgres.kill();
        until("a client is turned away", async || {
            Ok(turned_away.load(Ordering::Relaxed) > noticed)
        })
        .await?;
        stack.postgres.restart().await?;
    }
    let mut stay = Vec::new();
    while let Some(client) = clients.join_next().await {
        stay.extend(client??);
    }
    ensure!(
        turned_away.load(Ordering::Relaxed) > 0,
        "nobody noticed that the database was gone"
    );
    stay.sort_unstable();
    let path = format!("/v1/post/{post}/attachments?limit=100");
    let page = api.get(&path).await?.json_if(200)?;
    let items = page["items"].as_array().cloned().unwrap_or_default();
    ensure!(names(&items) == stay, "{items:?}");
    let mut database = stack.postgres.connect().await?;
    let sets: i64 =
        sqlx::query_scalar("SELECT count(*) FROM attachments.upload_set WHERE tenant_id = $1")
            .bind(&name)
            .fetch_one(&mut database)
            .await?;
    ensure!(sets == (CLIENTS * ROUNDS) as i64, "{sets} sets");
    assert_agreement(&stack, Place::Bucket).await
}
