//! A crash anywhere loses nothing: repeating the call converges.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::api::{Api, Reply, declaration, sha256_base64, text};
use keepsake_tests::fixtures::{Fixture, PDF, PNG, TEXT};
use keepsake_tests::requires;
use keepsake_tests::stack::Stack;
use keepsake_tests::worker::Host;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::agreement::{Place, assert_agreement};
use crate::object_store::{Fault, ObjectStore};
use crate::world::{
    Tenant, any_object_exists, errors, id, names, own_stack, run_schedule, s3_stack, until,
    upload_path,
};

/// Longer than a worker takes to be killed and started.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_worker_dies_between_upload_and_complete() -> Result<()> {
    let mut stack = own_stack().await?;
    let (upload, post, api) = {
        let tenant = Tenant::new(&stack).await?;
        let upload = tenant.declare(&[PNG, PDF]).await?;
        tenant.put(&upload["files"][0], PNG).await?;
        (upload, tenant.post, tenant.api)
    };

    stack.worker.kill();
    assert!(
        api.get("/healthz").await.is_err(),
        "the worker still answers after kill -9"
    );
    stack.worker.restart().await?;

    // What was stored is stored, the URL that was given still works, and the set completes.
    assert!(
        api.list(("post", &post)).await?.is_empty(),
        "half a set is visible"
    );
    api.put(&upload["files"][0], PNG.bytes).await?.expect(412)?;
    api.put(&upload["files"][1], PDF.bytes)
        .await?
        .expect_stored()?;
    api.complete(&upload).await?.json_if(200)?;
    let attachments = api.list(("post", &post)).await?;
    assert_eq!(names(&attachments), [PDF.name, PNG.name]);
    for attachment in &attachments {
        api.download(id(attachment)?).await?;
    }
    assert_agreement(&stack, Place::Bucket).await
}

#[tokio::test]
async fn the_database_dies_and_comes_back() -> Result<()> {
    let mut stack = own_stack().await?;
    let (attachments, keys, post_path, api, name) = {
        let tenant = Tenant::new(&stack).await?;
        let attachments = tenant.upload(&[PNG, TEXT]).await?;
        let keys = tenant.object_keys().await?;
        let post_path = tenant.post_path();
        (attachments, keys, post_path, tenant.api, tenant.name)
    };

    stack.postgres.kill();
    api.get("/healthz").await?.expect(200)?;
    for path in [
        "/healthz?deep=1".to_owned(),
        format!("{post_path}/attachments"),
    ] {
        api.get(&path)
            .await?
            .expect_problem(503, "database_unavailable")?;
    }
    api.delete(&post_path)
        .await?
        .expect_problem(503, "database_unavailable")?;
    match run_schedule(&stack).await {
        // The command says that it could not do the work.
        Err(_) if Host::chosen() == Host::Native => {}
        ran => ran?,
    }

    stack.postgres.restart().await?;
    api.get("/healthz?deep=1").await?.expect(200)?;
    assert_eq!(api.download(id(&attachments[0])?).await?.body, PNG.bytes);
    api.delete(&post_path).await?.expect(204)?;

    // And once more, between the deletion and its purge.
    stack.postgres.kill();
    stack.postgres.restart().await?;
    api.restore(&post_path).await?.json_if(200)?;
    api.delete(&post_path).await?.expect(204)?;
    let mut database = stack.postgres.connect().await?;
    sqlx::query("UPDATE keepsake.deletion SET expires_at = expires_at - interval '31 days' WHERE tenant = $1")
        .bind(&name)
        .execute(&mut database)
        .await?;
    run_schedule(&stack).await?;
    assert!(!any_object_exists(&stack, &keys).await?);
    assert_agreement(&stack, Place::Bucket).await
}

#[tokio::test]
async fn the_worker_dies_while_it_purges() -> Result<()> {
    let mut stack = own_stack().await?;
    let keys = {
        let tenant = Tenant::new(&stack).await?;
        tenant.upload(&[PNG, TEXT, PDF]).await?;
        let keys = tenant.object_keys().await?;
        tenant.delete_post().await?.expect(204)?;
        tenant.let_retention_run_out().await?;
        keys
    };
    // As far as a worker gets that purges the rows, leases the objects and dies: the lease must run out.
    let mut database = stack.postgres.connect().await?;
    sqlx::query("SELECT keepsake.purge_batch(1000)")
        .execute(&mut database)
        .await?;
    sqlx::query("SELECT keepsake.lease_objects(1000, interval '1 second')")
        .execute(&mut database)
        .await?;
    stack.worker.kill();
    stack.worker.restart().await?;
    assert!(
        any_object_exists(&stack, &keys).await?,
        "nothing was left to do"
    );

    let ended = "SELECT count(*) = 0 FROM keepsake.outbox WHERE leased_until > now()";
    until("the lease ends", async || {
        Ok(sqlx::query_scalar(ended).fetch_one(&mut database).await?)
    })
    .await?;
    run_schedule(&stack).await?;
    assert!(
        !any_object_exists(&stack, &keys).await?,
        "an object of a purged row is left"
    );
    let waiting: i64 =
        sqlx::query_scalar("SELECT count(*) FROM keepsake.outbox WHERE leased_until > now()")
            .fetch_one(&mut database)
            .await?;
    assert_eq!(waiting, 0);
    assert_agreement(&stack, Place::Bucket).await
}

/// A user of a stack whose worker will be killed.
struct User {
    api: Api,
    post: String,
}

impl User {
    async fn new(stack: &Stack) -> Result<Self> {
        let Tenant { api, post, .. } = Tenant::new(stack).await?;
        Ok(Self { api, post })
    }

    fn entity(&self) -> (&str, &str) {
        ("post", &self.post)
    }

    async fn visible(&self) -> Result<Vec<String>> {
        let attachments = self.api.list(self.entity()).await?;
        Ok(names(&attachments).into_iter().map(str::to_owned).collect())
    }

    async fn state(&self, upload: &Value) -> Result<String> {
        let shown = self.api.get(&upload_path(upload)?).await?.json_if(200)?;
        Ok(text(&shown, "/state")?.to_owned())
    }

    async fn declare(&self, key: &str, files: &[Fixture]) -> Result<Reply> {
        let files: Vec<Value> = files.iter().map(declaration).collect();
        let body = json!({ "entity_type": "post", "entity_id": self.post, "files": files });
        let headers = [
            ("content-type", "application/json"),
            ("idempotency-key", key),
        ];
        let body = body.to_string().into_bytes();
        self.api
            .send(Method::POST, "/v1/uploads", &headers, Some(body))
            .await
    }

    /// Completes the set, and finds it whole.
    async fn complete(&self, upload: &Value) -> Result<()> {
        self.api.complete(upload).await?.json_if(200)?;
        ensure!(self.visible().await? == [PNG.name, TEXT.name]);
        Ok(())
    }
}

/// Kills the worker once `request` is `under_way`, and starts it again.
async fn killed_in(
    stack: &mut Stack,
    request: impl Future<Output = Result<Reply>> + Send + 'static,
    under_way: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let request = tokio::spawn(request);
    under_way().await?;
    stack.worker.kill();
    ensure!(request.await?.is_err(), "it was answered before");
    stack.worker.restart().await
}

/// Waits until somebody waits for a lock.
async fn somebody_waits(database: &mut PgConnection) -> Result<()> {
    for _ in 0..500 {
        let waits: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
                .fetch_one(&mut *database)
                .await?;
        if waits {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("nobody waits")
}

async fn dies_while_it_declares(stack: &mut Stack) -> Result<()> {
    let user = User::new(stack).await?;
    let mut database = stack.postgres.connect().await?;
    let mut lock = database.begin().await?;
    sqlx::query("LOCK TABLE attachments.upload_set IN EXCLUSIVE MODE")
        .execute(&mut *lock)
        .await?;
    let (api, post) = (user.api.clone(), user.post.clone());
    let request = async move { User { api, post }.declare("k1", &[PNG, TEXT]).await };
    killed_in(stack, request, async || somebody_waits(&mut lock).await).await?;
    // The call that nobody waits for any longer goes on, and commits.
    lock.commit().await?;
    for _ in 0..100 {
        if count_sets(&mut database, &user.post).await? == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let upload = user.declare("k1", &[PNG, TEXT]).await?.json_if(201)?;
    ensure!(
        count_sets(&mut database, &user.post).await? == 1,
        "declared twice"
    );
    for (index, file) in [PNG, TEXT].into_iter().enumerate() {
        let reply = user.api.put(&upload["files"][index], file.bytes).await?;
        reply.expect_stored()?;
    }
    user.complete(&upload).await
}

async fn count_sets(database: &mut PgConnection, post: &str) -> Result<i64> {
    let sql = "SELECT count(*) FROM attachments.upload_set WHERE entity_id = $1";
    Ok(sqlx::query_scalar(sql)
        .bind(post)
        .fetch_one(database)
        .await?)
}

/// After so many files were stored; 0: after it was declared.
async fn dies_after(stack: &mut Stack, stored: usize) -> Result<()> {
    let user = User::new(stack).await?;
    let files = [PNG, TEXT];
    let upload = user.declare("k1", &files).await?.json_if(201)?;
    for (index, file) in files.into_iter().enumerate() {
        if index == stored {
            stack.worker.kill();
            stack.worker.restart().await?;
            ensure!(user.visible().await?.is_empty(), "half a set is visible");
        }
        let reply = user.api.put(&upload["files"][index], file.bytes).await?;
        reply.expect_stored()?;
    }
    if stored == files.len() {
        stack.worker.kill();
        stack.worker.restart().await?;
    }
    user.complete(&upload).await
}

async fn dies_while_it_looks_at_the_objects(stack: &mut Stack, store: &ObjectStore) -> Result<()> {
    let user = User::new(stack).await?;
    let upload = user.api.store(user.entity(), &[PNG, TEXT]).await?;
    store.trap("HEAD", "", Fault::Slow(LONG), 1);
    let (api, set) = (user.api.clone(), upload.clone());
    let request = async move { api.complete(&set).await };
    killed_in(stack, request, async || store.sprung().await).await?;
    ensure!(user.visible().await?.is_empty(), "half a set is visible");
    user.complete(&upload).await
}

async fn dies_before_it_tells_that_a_set_is_complete(stack: &mut Stack) -> Result<()> {
    let user = User::new(stack).await?;
    let upload = user.api.store(user.entity(), &[PNG, TEXT]).await?;
    let mut database = stack.postgres.connect().await?;
    let mut lock = database.begin().await?;
    sqlx::query("SELECT FROM attachments.upload_set WHERE id = $1::uuid FOR UPDATE")
        .bind(id(&upload)?)
        .execute(&mut *lock)
        .await?;
    let (api, set) = (user.api.clone(), upload.clone());
    let request = async move { api.complete(&set).await };
    killed_in(stack, request, async || somebody_waits(&mut lock).await).await?;
    ensure!(user.visible().await?.is_empty(), "half a set is visible");
    lock.commit().await?;
    for _ in 0..100 {
        if user.state(&upload).await? == "completed" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ensure!(user.visible().await? == [PNG.name, TEXT.name]);
    user.complete(&upload).await
}

async fn dies_while_it_deletes_a_rejected_set(
    stack: &mut Stack,
    store: &ObjectStore,
) -> Result<()> {
    let user = User::new(stack).await?;
    let upload = user.api.store(user.entity(), &[PNG, TEXT]).await?;
    let key: String =
        sqlx::query_scalar("SELECT object_key FROM attachments.attachment WHERE id = $1::uuid")
            .bind(text(&upload, "/files/0/attachment_id")?)
            .fetch_one(&mut stack.postgres.connect().await?)
            .await?;
    // Behind the store's back, so that completing finds another file.
    std::fs::write(store.path(&key), PDF.bytes)?;
    store.trap("POST", "delete", Fault::Slow(LONG), 1);
    let (api, set) = (user.api.clone(), upload.clone());
    let request = async move { api.complete(&set).await };
    killed_in(stack, request, async || store.sprung().await).await?;
    let refused = user.api.complete(&upload).await?;
    let problem = refused.expect_problem(422, "upload_rejected")?;
    ensure!(!errors(&problem).is_empty(), "why was forgotten");
    ensure!(store.holds(&key), "nothing was left to do");
    Ok(())
}

async fn dies_after_an_upload_was_given_up(stack: &mut Stack, store: &ObjectStore) -> Result<()> {
    let user = User::new(stack).await?;
    let upload = user.api.store(user.entity(), &[PNG, TEXT]).await?;
    store.trap("POST", "delete", Fault::Slow(LONG), 1);
    let path = upload_path(&upload)?;
    user.api.delete(&path).await?.expect(204)?;
    store.sprung().await?;
    stack.worker.kill();
    stack.worker.restart().await?;
    user.api.delete(&path).await?.expect(204)?;
    ensure!(user.state(&upload).await? == "aborted");
    Ok(())
}

#[tokio::test]
async fn the_worker_dies_after_each_step_of_an_upload_set() -> Result<()> {
    requires!(S3);
    let (mut stack, store) = s3_stack(&[]).await?;
    dies_while_it_declares(&mut stack).await?;
    for stored in 0..=2 {
        dies_after(&mut stack, stored).await?;
    }
    dies_while_it_looks_at_the_objects(&mut stack, &store).await?;
    dies_before_it_tells_that_a_set_is_complete(&mut stack).await?;
    dies_while_it_deletes_a_rejected_set(&mut stack, &store).await?;
    dies_after_an_upload_was_given_up(&mut stack, &store).await?;
    assert_agreement(&stack, Place::Store(&store)).await
}

#[tokio::test]
async fn the_worker_dies_in_the_middle_of_a_file() -> Result<()> {
    requires!(SERVED);
    let mut stack = own_stack().await?;
    let user = User::new(&stack).await?;
    let upload = user.declare("k1", &[PNG, TEXT]).await?.json_if(201)?;
    let url = text(&upload, "/files/0/url")?;
    let address = stack.worker.url();
    let path = url.strip_prefix(&address).context("another origin")?;
    let mut connection = TcpStream::connect(address.trim_start_matches("http://"))?;
    write!(
        connection,
        "PUT {path} HTTP/1.1\r\nhost: worker\r\ncontent-length: {}\r\ncontent-type: {}\r\nif-none-match: *\r\nx-amz-checksum-sha256: {}\r\n\r\n",
        PNG.bytes.len(),
        PNG.media_type,
        sha256_base64(PNG.bytes),
    )?;
    connection.write_all(&PNG.bytes[..PNG.bytes.len() / 2])?;
    connection.flush()?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    stack.worker.kill();
    stack.worker.restart().await?;

    let refused = user.api.complete(&upload).await?;
    let problem = refused.expect_problem(409, "not_uploaded")?;
    ensure!(errors(&problem).len() == 2, "{problem}");
    for (index, file) in [PNG, TEXT].into_iter().enumerate() {
        let reply = user.api.put(&upload["files"][index], file.bytes).await?;
        reply.expect_stored()?;
    }
    user.complete(&upload).await?;
    assert_agreement(&stack, Place::Bucket).await
}
