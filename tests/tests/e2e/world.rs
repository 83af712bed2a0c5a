//! What each test stands on: one shared stack, and in it a tenant of the test's own.

use anyhow::{Context, Result, bail, ensure};
use keepsake_shared::{FileName, KeyRing, MediaType, ObjectKey, ObjectToken};
use keepsake_tests::api::{Api, Reply, text};
use keepsake_tests::fixtures::Fixture;
use keepsake_tests::secrets::{hex, random};
use keepsake_tests::stack::{Stack, StackSettings};
use keepsake_tests::token;
use keepsake_tests::worker::{OuterStore, Store};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};
use tokio::sync::OnceCell;

use crate::object_store::ObjectStore;

static STACK: OnceCell<Stack> = OnceCell::const_new();

/// The stack that all tests share, except those that break it.
pub async fn shared_stack() -> Result<&'static Stack> {
    STACK.get_or_try_init(own_stack).await
}

/// A stack for a test that kills parts of it.
pub async fn own_stack() -> Result<Stack> {
    start_stack(StackSettings {
        keep: crate::KEEP,
        ..StackSettings::default()
    })
    .await
}

/// A stack with these settings, and with the store that was chosen.
pub async fn start_stack(settings: StackSettings) -> Result<Stack> {
    let store: Option<Arc<dyn OuterStore>> = match Store::chosen() {
        Store::S3 => Some(Arc::new(ObjectStore::start()?)),
        Store::R2 | Store::File => None,
    };
    Stack::start(StackSettings { store, ..settings }, |_| ()).await
}

/// A stack whose objects are in a store that speaks S3, with these further settings.
pub async fn s3_stack(vars: &[(&str, &str)]) -> Result<(Stack, ObjectStore)> {
    s3_stack_off(vars, 0).await
}

/// [`s3_stack`] with a worker whose clock is so many seconds ahead of all others.
pub async fn s3_stack_off(
    vars: &[(&str, &str)],
    worker_clock_ahead: i32,
) -> Result<(Stack, ObjectStore)> {
    let store = ObjectStore::start()?;
    let further = vars
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let settings = StackSettings {
        vars: store.settings().into_iter().chain(further).collect(),
        worker_clock_ahead,
        ..StackSettings::default()
    };
    Ok((Stack::start(settings, |_| ()).await?, store))
}

static S3_STACK: OnceCell<(Stack, ObjectStore)> = OnceCell::const_new();

/// The stack with an S3 store that all tests share, except those that break it.
pub async fn shared_s3_stack() -> Result<&'static (Stack, ObjectStore)> {
    S3_STACK.get_or_try_init(|| s3_stack(&[])).await
}

/// A tenant with one thread and one post.
#[derive(Debug)]
pub struct Tenant<'a> {
    pub stack: &'a Stack,
    pub name: String,
    pub api: Api,
    pub thread: String,
    pub post: String,
}

/// A tenant on the shared stack.
pub async fn tenant() -> Result<Tenant<'static>> {
    Tenant::new(shared_stack().await?).await
}

impl<'a> Tenant<'a> {
    pub async fn new(stack: &'a Stack) -> Result<Self> {
        let name = format!("tenant-{}", hex(&random::<6>()?));
        let mut database = stack.postgres.connect().await?;
        let (thread, post): (i64, i64) = sqlx::query_as(
            "WITH thread AS (INSERT INTO public.thread (tenant, title) VALUES ($1, 'a thread') RETURNING id)
             INSERT INTO public.post (tenant, thread_id, slug, body) SELECT $1, id, 'a-post', '' FROM thread
             RETURNING thread_id, id",
        )
        .bind(&name)
        .fetch_one(&mut database)
        .await?;
        database.close().await?;
        let bearer = token::mint(&token::claims(&name, "ada"), &stack.secrets.jwt_key);
        let api = Api::new(&stack.worker.url(), Some(bearer))?;
        Ok(Self {
            stack,
            name,
            api,
            thread: thread.to_string(),
            post: post.to_string(),
        })
    }

    /// The interface as another user of the tenant.
    pub fn user(&self, name: &str) -> Api {
        let claims = token::claims(&self.name, name);
        let bearer = token::mint(&claims, &self.stack.secrets.jwt_key);
        self.api.with_bearer(Some(&bearer))
    }

    /// The post, as the interface names it.
    pub fn entity(&self) -> (&str, &str) {
        ("post", &self.post)
    }

    /// The post's own address.
    pub fn post_path(&self) -> String {
        format!("/v1/post/{}", self.post)
    }

    /// The body that declares an upload of these files to the post.
    pub fn request(&self, files: Value) -> Value {
        json!({ "entity_type": "post", "entity_id": self.post, "files": files })
    }

    /// Declares an upload of these files to the post; none of their bytes are sent.
    pub async fn declare(&self, files: &[Fixture]) -> Result<Value> {
        self.api.declare(self.entity(), files).await?.json_if(201)
    }

    /// Declares an upload of these files to the post and sends their bytes, but does not complete it.
    pub async fn store(&self, files: &[Fixture]) -> Result<Value> {
        self.api.store(self.entity(), files).await
    }

    /// Sends a file's bytes for this entry of `files` in an upload.
    pub async fn put(&self, target: &Value, file: Fixture) -> Result<()> {
        self.api.put(target, file.bytes).await?.expect_stored()
    }

    /// Asks for a declared upload to be completed.
    pub async fn complete(&self, upload: &Value) -> Result<Reply> {
        self.api.complete(upload).await
    }

    /// Uploads these files to the post and completes the upload.
    pub async fn upload(&self, files: &[Fixture]) -> Result<Vec<Value>> {
        self.api.upload(self.entity(), files).await
    }

    /// Uploads one file to the post and completes the upload.
    pub async fn upload_one(&self, file: Fixture) -> Result<Value> {
        let mut attachments = self.upload(&[file]).await?;
        attachments.pop().context("no attachment")
    }

    /// The attachments of the post that its users see.
    pub async fn attachments(&self) -> Result<Vec<Value>> {
        self.api.list(self.entity()).await
    }

    /// The names of the attachments of the post that its users see, sorted.
    pub async fn visible(&self) -> Result<Vec<String>> {
        let attachments = self.attachments().await?;
        Ok(names(&attachments).into_iter().map(str::to_owned).collect())
    }

    /// Asks for an attachment to be deleted.
    pub async fn delete_attachment(&self, attachment: &Value) -> Result<Reply> {
        self.api.delete(&attachment_path(attachment)?).await
    }

    /// Asks for the post to be deleted.
    pub async fn delete_post(&self) -> Result<Reply> {
        self.api.delete(&self.post_path()).await
    }

    /// Asks for the deleted post to come back.
    pub async fn restore_post(&self) -> Result<Reply> {
        self.api.restore(&self.post_path()).await
    }

    /// A connection as the superuser, who sees everything.
    pub async fn database(&self) -> Result<PgConnection> {
        self.stack.postgres.connect().await
    }

    /// What a query counts whose one parameter is this tenant's name.
    pub async fn count(&self, sql: &'static str) -> Result<i64> {
        let mut database = self.database().await?;
        Ok(sqlx::query_scalar(sql)
            .bind(&self.name)
            .fetch_one(&mut database)
            .await?)
    }

    /// How many attachments of any state this tenant has in the database.
    pub async fn rows(&self) -> Result<i64> {
        self.count("SELECT count(*) FROM attachments.attachment WHERE tenant_id = $1")
            .await
    }

    /// How many upload sets of any state this tenant has.
    pub async fn upload_sets(&self) -> Result<i64> {
        self.count("SELECT count(*) FROM attachments.upload_set WHERE tenant_id = $1")
            .await
    }

    /// The object keys of all attachments of this tenant, in the order they were declared.
    pub async fn object_keys(&self) -> Result<Vec<String>> {
        let mut database = self.database().await?;
        let sql = "SELECT object_key FROM attachments.attachment WHERE tenant_id = $1 ORDER BY id";
        Ok(sqlx::query_scalar(sql)
            .bind(&self.name)
            .fetch_all(&mut database)
            .await?)
    }

    /// Lets the open uploads of this tenant have so much time left, or none when it is negative.
    pub async fn let_time_pass_until(&self, left: &str) -> Result<()> {
        let sql = "UPDATE attachments.upload_set SET expires_at = now() + $2::interval WHERE tenant_id = $1 AND state = 'pending'";
        let aged = sqlx::query(sql)
            .bind(&self.name)
            .bind(left)
            .execute(&mut self.database().await?)
            .await?;
        ensure!(aged.rows_affected() > 0, "there is no open upload");
        Ok(())
    }

    /// Lets the retention of everything this tenant has deleted run out.
    pub async fn let_retention_run_out(&self) -> Result<()> {
        let mut database = self.database().await?;
        let sql = "UPDATE keepsake.deletion SET expires_at = expires_at - interval '31 days' WHERE tenant = $1";
        let aged = sqlx::query(sql)
            .bind(&self.name)
            .execute(&mut database)
            .await?;
        ensure!(aged.rows_affected() > 0, "there is no deletion to age");
        Ok(())
    }
}

/// Waits until something holds, for at most a minute.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    for _ in 0..1200 {
        if holds().await? {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("it never happened: {what}")
}

/// Whether a server process waits for a lock.
pub async fn is_waiting(database: &mut PgConnection, process: i32) -> Result<bool> {
    let waits =
        "SELECT coalesce(max(wait_event_type), '') = 'Lock' FROM pg_stat_activity WHERE pid = $1";
    Ok(sqlx::query_scalar(waits)
        .bind(process)
        .fetch_one(database)
        .await?)
}

/// Runs the worker's schedule once, as the runtime would every few minutes.
pub async fn run_schedule(stack: &Stack) -> Result<()> {
    let ran = stack.worker.run_schedule().await;
    ran.context("the schedule did not run")
}

/// The bytes of an object in the bucket: asked through a signed URL of our own making, so that the
/// database has no say; or of the store itself.
pub async fn object(stack: &Stack, key: &str) -> Result<Option<Vec<u8>>> {
    if let Some(store) = &stack.store {
        return Ok(store.object(key));
    }
    let keys: KeyRing = stack.secrets.url_key_ring().parse()?;
    let token = ObjectToken::Download {
        key: ObjectKey::parse(key)?,
        media_type: MediaType::from_extension("txt").context("no text")?,
        file_name: FileName::parse("any.txt")?,
        inline: false,
        size: 1,
        expires_at: OffsetDateTime::now_utc() + Duration::minutes(5),
    };
    let api = Api::new(&stack.worker.url(), None)?;
    let reply = api
        .get(&format!("/v1/objects/{}", token.sign(&keys)))
        .await?;
    match reply.status {
        200 => Ok(Some(reply.body)),
        404 => Ok(None),
        other => bail!("asked for an object, got {other}"),
    }
}

/// Whether the bucket still holds an object.
pub async fn object_exists(stack: &Stack, key: &str) -> Result<bool> {
    Ok(object(stack, key).await?.is_some())
}

/// Whether any of these objects is still there.
pub async fn any_object_exists(stack: &Stack, keys: &[String]) -> Result<bool> {
    for key in keys {
        if object_exists(stack, key).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The `id` of an attachment or an upload.
pub fn id(value: &Value) -> Result<&str> {
    text(value, "/id")
}

/// The address of an attachment.
pub fn attachment_path(attachment: &Value) -> Result<String> {
    Ok(format!("/v1/attachments/{}", id(attachment)?))
}

/// The address of an upload.
pub fn upload_path(upload: &Value) -> Result<String> {
    Ok(format!("/v1/uploads/{}", id(upload)?))
}

/// Asserts that each of these requests is answered as if nothing were there.
pub async fn expect_nothing(api: &Api, requests: &[(Method, &str)]) -> Result<()> {
    for (method, path) in requests {
        let reply = api.send(method.clone(), path, &[], None).await?;
        reply
            .expect_problem(404, "not_found")
            .with_context(|| format!("{method} {path}"))?;
    }
    Ok(())
}

/// The items of a page of a listing.
pub fn items(page: &Value) -> &[Value] {
    page["items"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The names in a listing, sorted.
pub fn names(attachments: &[Value]) -> Vec<&str> {
    let mut names: Vec<&str> = attachments
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    names.sort_unstable();
    names
}

/// `pointer` and `code` of each error of a problem.
pub fn errors(problem: &Value) -> Vec<(&str, &str)> {
    let all = problem["errors"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    all.iter()
        .map(|error| {
            (
                error["pointer"].as_str().unwrap_or_default(),
                error["code"].as_str().unwrap_or_default(),
            )
        })
        .collect()
}

/// The id of the deletion that a DELETE made.
pub fn deletion_id(reply: &Reply) -> Result<&str> {
    reply
        .header("keepsake-deletion")
        .context("no keepsake-deletion header")
}
