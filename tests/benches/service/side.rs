//! What is measured: the service on one of its hosts, or the worker that only runs `SELECT 1`.

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::api::{Api, sha256_hex, text};
use keepsake_tests::fixtures::Fixture;
use keepsake_tests::stack::Stack;
use keepsake_tests::token::{claims, mint};
use keepsake_tests::worker::{Companion, Host, Worker};
use serde_json::{Value, json};

use crate::TENANT;
use crate::store;

/// A running program that answers requests.
pub struct Side {
    pub name: &'static str,
    pub url: String,
    /// The first process of its group.
    pub process: u32,
    jwt_key: Vec<u8>,
    client: reqwest::Client,
    // It ends with this.
    _program: Program,
}

enum Program {
    Service(#[expect(dead_code, reason = "kept running")] Worker),
    SelectOne(#[expect(dead_code, reason = "kept running")] Companion),
}

impl Side {
    /// A worker that connects with node-postgres and runs `SELECT 1`, in workerd.
    pub async fn select_one(stack: &Stack) -> Result<Self> {
        let config = "tests/benches/select-one/wrangler.toml";
        let companion = stack.companion_in_workerd(config).await?;
        let (url, process) = (companion.url.clone(), companion.process());
        Self::new(
            stack,
            "SELECT 1",
            url,
            process,
            Program::SelectOne(companion),
        )
    }

    /// The worker, in workerd, with its objects in a store that costs it nothing but the requests.
    pub async fn workerd(stack: &Stack) -> Result<Self> {
        let settings = store::start()?;
        let vars: Vec<_> = settings
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let worker = stack.worker_in(Host::Workerd, "workerd", &vars).await?;
        let (url, process) = (worker.url(), worker.process());
        Self::new(stack, "worker", url, process, Program::Service(worker))
    }

    /// The native server, with its objects in files.
    pub async fn native(stack: &Stack) -> Result<Self> {
        let worker = stack.worker_in(Host::Native, "native", &[]).await?;
        let (url, process) = (worker.url(), worker.process());
        Self::new(stack, "native", url, process, Program::Service(worker))
    }

    fn new(
        stack: &Stack,
        name: &'static str,
        url: String,
        process: u32,
        program: Program,
    ) -> Result<Self> {
        let no_redirect = reqwest::redirect::Policy::none();
        Ok(Self {
            name,
            url,
            process,
            jwt_key: stack.secrets.jwt_key.clone(),
            client: reqwest::Client::builder().redirect(no_redirect).build()?,
            _program: program,
        })
    }

    /// Each request is another user's: one user's are limited.
    fn bearer(&self, user: usize) -> String {
        mint(&claims(TENANT, &format!("user-{user}")), &self.jwt_key)
    }

    /// Its interface, with every answer checked: for what is not measured.
    pub fn api(&self, user: usize) -> Result<Api> {
        Api::new(&self.url, Some(self.bearer(user)))
    }

    async fn answered(&self, request: reqwest::RequestBuilder) -> Result<Vec<u8>> {
        let reply = request.send().await?;
        let status = reply.status();
        let body = reply.bytes().await?;
        ensure!(
            status.as_u16() < 400,
            "{}: {status}: {}",
            self.name,
            String::from_utf8_lossy(&body)
        );
        Ok(body.to_vec())
    }

    pub async fn ask_one(&self) -> Result<()> {
        self.answered(self.client.get(&self.url)).await.map(drop)
    }

    pub async fn get(&self, path: &str, user: usize) -> Result<()> {
        let request = self.client.get(format!("{}{path}", self.url));
        self.answered(request.bearer_auth(self.bearer(user)))
            .await
            .map(drop)
    }

    pub async fn delete(&self, path: &str, user: usize) -> Result<()> {
        let request = self.client.delete(format!("{}{path}", self.url));
        self.answered(request.bearer_auth(self.bearer(user)))
            .await
            .map(drop)
    }

    pub async fn post(&self, path: &str, body: Option<&Value>, user: usize) -> Result<Vec<u8>> {
        let request = self.client.post(format!("{}{path}", self.url));
        let request = request.bearer_auth(self.bearer(user));
        self.answered(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    /// A file as the body of one request.
    pub async fn attach(&self, post: &str, file: Fixture, user: usize) -> Result<()> {
        let path = format!("/v1/post/{post}/attachments?name={}", file.name);
        let request = self.client.post(format!("{}{path}", self.url));
        let request = request.bearer_auth(self.bearer(user)).body(file.bytes);
        self.answered(request).await.map(drop)
    }

    /// A file as a user sends it: declared, sent, completed.
    pub async fn upload(&self, post: &str, file: Fixture, user: usize) -> Result<()> {
        let declared = self
            .post("/v1/uploads", Some(&declaration(post, file)), user)
            .await?;
        let declared: Value = serde_json::from_slice(&declared)?;
        let target = declared.pointer("/files/0").context("no file")?;
        let mut request = self.client.put(text(target, "/url")?).body(file.bytes);
        let headers = target.pointer("/headers").and_then(Value::as_object);
        for (name, value) in headers.context("no headers")? {
            request = request.header(name, value.as_str().context("no header")?);
        }
        self.answered(request).await?;
        let path = format!("/v1/uploads/{}/complete", text(&declared, "/id")?);
        self.post(&path, None, user).await.map(drop)
    }
}

/// What declares a file on a post.
pub fn declaration(post: &str, file: Fixture) -> Value {
    let sha256 = sha256_hex(file.bytes);
    let file = json!({ "name": file.name, "size": file.bytes.len(), "sha256": sha256 });
    json!({ "entity_type": "post", "entity_id": post, "files": [file] })
}
