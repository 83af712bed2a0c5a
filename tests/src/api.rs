//! The HTTP interface as a client sees it.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderMap;
use reqwest::{Method, redirect};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

use crate::contract;
use crate::fixtures::Fixture;
use crate::secrets::hex;

/// No request of ours takes longer, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client with or without a bearer token.
#[derive(Clone, Debug)]
pub struct Api {
    http: reqwest::Client,
    base: String,
    bearer: Option<String>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Api {
    /// A client of the worker at `base`, such as `http://127.0.0.1:8787`.
    ///
    /// # Errors
    /// The HTTP library cannot be set up.
    pub fn new(base: &str, bearer: Option<String>) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(redirect::Policy::none())
            .build()?;
        Ok(Self {
            http,
            base: base.to_owned(),
            bearer,
        })
    }

    /// The same client with another token.
    #[must_use]
    pub fn with_bearer(&self, bearer: Option<&str>) -> Self {
        Self {
            bearer: bearer.map(str::to_owned),
            ..self.clone()
        }
    }

    /// `GET` of a path of the interface, or of a whole URL.
    ///
    /// # Errors
    /// No answer.
    pub async fn get(&self, path: &str) -> Result<Reply> {
        self.get_with(path, &[]).await
    }

    /// `GET` with these headers.
    ///
    /// # Errors
    /// No answer.
    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Result<Reply> {
        self.send(Method::GET, path, headers, None).await
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// No answer.
    pub async fn delete(&self, path: &str) -> Result<Reply> {
        self.send(Method::DELETE, path, &[], None).await
    }

    /// `POST` without a body.
    ///
    /// # Errors
    /// No answer.
    pub async fn post_empty(&self, path: &str) -> Result<Reply> {
        self.send(Method::POST, path, &[], None).await
    }

    /// `POST` of a JSON value.
    ///
    /// # Errors
    /// No answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        self.post_bytes(path, body.to_string().into_bytes()).await
    }

    /// `PATCH` with a JSON value.
    ///
    /// # Errors
    /// No answer.
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Reply> {
        let json = [("content-type", "application/json")];
        let body = body.to_string().into_bytes();
        self.send(Method::PATCH, path, &json, Some(body)).await
    }

    /// `POST` of any bytes that are said to be JSON.
    ///
    /// # Errors
    /// No answer.
    pub async fn post_bytes(&self, path: &str, body: Vec<u8>) -> Result<Reply> {
        self.send(
            Method::POST,
            path,
            &[("content-type", "application/json")],
            Some(body),
        )
        .await
    }

    /// Any request. The bearer token goes to paths of the interface only: a signed URL speaks
    /// for itself.
    ///
    /// # Errors
    /// No answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Reply> {
        let is_path = path.starts_with('/');
        let url = if is_path {
            format!("{}{path}", self.base)
        } else {
            path.to_owned()
        };
        let mut request = self.http.request(method.clone(), url);
        if let (true, Some(bearer)) = (is_path, &self.bearer) {
            request = request.bearer_auth(bearer);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = &body {
            request = request.body(body.clone());
        }
        let reply = request.send().await.context("the worker did not answer")?;
        let url = reply.url().clone();
        let reply = Reply {
            status: reply.status().as_u16(),
            headers: reply.headers().clone(),
            body: reply
                .bytes()
                .await
                .context("the worker's answer broke off")?
                .to_vec(),
        };
        // Nothing that anybody sends, and nothing that breaks, may end in this; but what an operator set may.
        let is_failure = reply.status == 500 && reply.code().as_deref() != Some("keys_unusable");
        ensure!(!is_failure, "the worker failed: {}", reply.shown());
        // A signed URL of a store that is not the worker is not ours to describe.
        if is_path || url.path().starts_with("/v1/objects/") {
            contract::check(&method, url.path(), body.as_deref(), &reply)?;
        }
        Ok(reply)
    }

    /// Declares an upload of these files.
    ///
    /// # Errors
    /// No answer.
    pub async fn declare(&self, entity: (&str, &str), files: &[Fixture]) -> Result<Reply> {
        let files: Vec<Value> = files.iter().map(declaration).collect();
        let request = json!({ "entity_type": entity.0, "entity_id": entity.1, "files": files });
        self.post("/v1/uploads", &request).await
    }

    /// Sends the bytes for one file of a declared upload, with the headers it was told to send.
    ///
    /// # Errors
    /// No answer, or `file` is not an entry of `files` in an upload.
    pub async fn put(&self, file: &Value, bytes: &[u8]) -> Result<Reply> {
        let url = text(file, "/url")?;
        let headers = file
            .pointer("/headers")
            .and_then(Value::as_object)
            .context("no headers")?;
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
            .collect();
        self.send(Method::PUT, url, &headers, Some(bytes.to_vec()))
            .await
    }

    /// Declares an upload of these files and sends all their bytes: what is left is to complete it.
    ///
    /// # Errors
    /// A step does not succeed; with what came back.
    pub async fn store(&self, entity: (&str, &str), files: &[Fixture]) -> Result<Value> {
        let upload = self.declare(entity, files).await?.json_if(201)?;
        for (index, file) in files.iter().enumerate() {
            let target = upload
                .pointer(&format!("/files/{index}"))
                .context("a file has no URL")?;
            self.put(target, file.bytes).await?.expect_stored()?;
        }
        Ok(upload)
    }

    /// Asks for a declared upload to be completed.
    ///
    /// # Errors
    /// No answer, or `upload` is not an upload.
    pub async fn complete(&self, upload: &Value) -> Result<Reply> {
        let id = text(upload, "/id")?;
        self.post_empty(&format!("/v1/uploads/{id}/complete")).await
    }

    /// Uploads these files and makes them visible: declare, send, complete.
    ///
    /// # Errors
    /// A step does not succeed; with what came back.
    pub async fn upload(&self, entity: (&str, &str), files: &[Fixture]) -> Result<Vec<Value>> {
        let upload = self.store(entity, files).await?;
        let done = self.complete(&upload).await?.json_if(200)?;
        let attachments = done.pointer("/attachments").and_then(Value::as_array);
        Ok(attachments.context("no attachments")?.clone())
    }

    /// Asks for the deleted attachment or entity at `path` to come back.
    ///
    /// # Errors
    /// No answer.
    pub async fn restore(&self, path: &str) -> Result<Reply> {
        self.post_empty(&format!("{path}/restore")).await
    }

    /// The attachments of an entity that its users see.
    ///
    /// # Errors
    /// The listing does not succeed; with what came back.
    pub async fn list(&self, entity: (&str, &str)) -> Result<Vec<Value>> {
        let path = format!("/v1/{}/{}/attachments", entity.0, entity.1);
        let page = self.get(&path).await?.json_if(200)?;
        Ok(page
            .pointer("/items")
            .and_then(Value::as_array)
            .context("no items")?
            .clone())
    }

    /// The signed URL that an attachment's content redirects to.
    ///
    /// # Errors
    /// There is no redirect; with what came back.
    pub async fn content_url(&self, attachment: &str) -> Result<String> {
        let path = format!("/v1/attachments/{attachment}/content");
        let redirect = self.get(&path).await?;
        redirect.expect(302)?;
        let url = redirect.header("location").context("no Location")?;
        Ok(url.to_owned())
    }

    /// The bytes of an attachment, through the redirect that a browser would follow.
    ///
    /// # Errors
    /// A step does not succeed; with what came back.
    pub async fn download(&self, attachment: &str) -> Result<Reply> {
        let reply = self.get(&self.content_url(attachment).await?).await?;
        reply.expect(200)?;
        Ok(reply)
    }
}

impl Reply {
    /// A header's value, if it is there and is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It is not JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.shown()))
    }

    /// The code of a problem, or nothing when this is none.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        let problem = self.json().ok()?;
        Some(problem.pointer("/code")?.as_str()?.to_owned())
    }

    /// Fails unless the status is `status`, and shows what came instead.
    ///
    /// # Errors
    /// Another status.
    pub fn expect(&self, status: u16) -> Result<()> {
        ensure!(
            self.status == status,
            "expected {status}, got {}",
            self.shown()
        );
        Ok(())
    }

    /// Fails unless a store has taken the bytes in: the worker answers 201 then, S3 answers 200.
    ///
    /// # Errors
    /// Another status.
    pub fn expect_stored(&self) -> Result<()> {
        ensure!(
            matches!(self.status, 200 | 201),
            "not stored: {}",
            self.shown()
        );
        Ok(())
    }

    /// The body as JSON if the status is `status`; `null` for an empty body.
    ///
    /// # Errors
    /// Another status, or not JSON.
    pub fn json_if(&self, status: u16) -> Result<Value> {
        self.expect(status)?;
        if self.body.is_empty() {
            Ok(Value::Null)
        } else {
            self.json()
        }
    }

    /// Fails unless this is a well-formed problem (RFC 9457) with this status and code.
    ///
    /// # Errors
    /// Anything else; with what came back.
    pub fn expect_problem(&self, status: u16, code: &str) -> Result<Value> {
        self.expect(status)?;
        let kind = self.header("content-type").unwrap_or_default();
        ensure!(
            kind.starts_with("application/problem+json"),
            "not a problem: {}",
            self.shown()
        );
        let problem = self.json()?;
        ensure!(
            problem["code"] == code,
            "expected the code {code}, got {}",
            self.shown()
        );
        ensure!(
            problem["status"] == status,
            "the body has another status: {}",
            self.shown()
        );
        for member in ["type", "title", "detail", "request_id"] {
            let value = problem
                .get(member)
                .and_then(Value::as_str)
                .unwrap_or_default();
            ensure!(
                !value.is_empty(),
                "a problem without {member}: {}",
                self.shown()
            );
        }
        Ok(problem)
    }

    fn shown(&self) -> String {
        format!("{} {}", self.status, String::from_utf8_lossy(&self.body))
    }
}

/// What a client declares about a file.
#[must_use]
pub fn declaration(file: &Fixture) -> Value {
    json!({
        "name": file.name,
        "media_type": file.media_type,
        "size": file.bytes.len(),
        "sha256": sha256_base64(file.bytes),
    })
}

/// SHA-256 as a declaration carries it.
#[must_use]
pub fn sha256_base64(bytes: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(bytes))
}

/// SHA-256 as an attachment shows it.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The text at a JSON pointer.
///
/// # Errors
/// There is none.
pub fn text<'a>(value: &'a Value, pointer: &str) -> Result<&'a str> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.with_context(|| format!("no text at {pointer} in {value}"))
}
