//! Every operation of the interface, as `docs/openapi.json` lists them, ready to be sent. A path, a body or a
//! parameter of a kind that is not known here fails whoever asks, so that no new route is forgotten.

use std::sync::LazyLock;

use anyhow::{Context, Result, bail};
use keepsake_tests::api::{Api, Reply, declaration, sha256_base64, text};
use keepsake_tests::fixtures::{Fixture, PNG, TEXT};
use keepsake_tests::secrets::{hex, random};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{deletion_id, id};

static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap_or_default()
});

/// A method at a path of the description.
#[derive(Clone, Debug)]
pub struct Operation {
    pub method: Method,
    pub template: &'static str,
    description: &'static Value,
}

impl Operation {
    /// All there are.
    pub fn all() -> Result<Vec<Self>> {
        let paths = DESCRIPTION["paths"].as_object().context("no paths")?;
        let mut all = Vec::new();
        for (template, item) in paths {
            let methods = item.as_object().context("no operations")?;
            for (method, description) in methods.iter().filter(|(name, _)| *name != "parameters") {
                all.push(Self {
                    method: method.to_uppercase().parse()?,
                    template,
                    description,
                });
            }
        }
        Ok(all)
    }

    /// Those that ask for a bearer token.
    pub fn with_bearer() -> Result<Vec<Self>> {
        let mut all = Self::all()?;
        all.retain(|one| one.scope().is_some());
        Ok(all)
    }

    /// Those that ask for the token of a tenant's user.
    pub fn of_users() -> Result<Vec<Self>> {
        let mut all = Self::with_bearer()?;
        all.retain(|one| {
            one.scope()
                .is_some_and(|scope| scope.starts_with("attachments:"))
        });
        Ok(all)
    }

    /// The scope that its token needs.
    pub fn scope(&self) -> Option<&'static str> {
        self.description.pointer("/security/0/bearer/0")?.as_str()
    }

    /// Whether its body is JSON.
    pub fn takes_json(&self) -> bool {
        let body = "/requestBody/content/application~1json";
        self.description.pointer(body).is_some()
    }

    /// Whether it answers a page at a time.
    pub fn is_paged(&self) -> bool {
        let parameters = self.description["parameters"].to_string();
        parameters.contains("parameters/Cursor")
    }

    /// The values of those of its parameters that have few: `name=value`.
    pub fn choices(&self) -> Vec<String> {
        let parameters = self.description["parameters"]
            .as_array()
            .into_iter()
            .flatten();
        let of_one = |parameter: &'static Value| {
            let name = parameter["name"].as_str().unwrap_or_default();
            let values = parameter["schema"]["enum"].as_array().into_iter().flatten();
            values.filter_map(move |value| Some(format!("{name}={}", value.as_str()?)))
        };
        parameters.flat_map(of_one).collect()
    }

    /// Whether its path or what it is about names something of a tenant's.
    pub fn names_something(&self) -> bool {
        self.template.contains("{id}") || self.template == "/v1/uploads"
    }

    /// A request about these things.
    pub fn about(&self, things: &Things) -> Result<Request> {
        let of = |kind: &str| self.template.starts_with(kind);
        let named = match self.template {
            _ if of("/v1/uploads/") => things.upload.as_str(),
            _ if of("/v1/attachments/") => &things.attachment,
            _ if of("/v1/deletions/") => &things.deletion,
            _ if of("/v1/{entity}/") => &things.post,
            _ if of("/v1/operator/") => "1",
            _ if of("/v1/objects/") => "x",
            template if !template.contains("{id}") => "",
            template => bail!("{template}: say here what its id names"),
        };
        let mut path = self
            .template
            .replace("{id}", named)
            .replace("{attachment_id}", &things.pending)
            .replace("{version}", "1")
            .replace("{entity}", "post")
            .replace("{token}", "x");
        if path.contains('{') {
            bail!("{path}: say here what fills it");
        }
        match (self.method.as_str(), self.template) {
            ("GET", "/v1/uploads/{id}/parts") => {
                path.push_str(&format!("?attachment_id={}", things.pending));
            }
            ("POST", "/v1/uploads/{id}/multipart/{attachment_id}") => path.push_str("?uploads"),
            ("POST", "/v1/{entity}/{id}/attachments") => path.push_str("?name=sent.txt"),
            _ => {}
        }
        let takes_bytes = "/requestBody/content/application~1octet-stream";
        let body = if self.description.pointer(takes_bytes).is_some() && self.scope().is_some() {
            Some(Value::from("the text of a file"))
        } else {
            self.takes_json().then(|| self.body(things)).transpose()?
        };
        Ok(Request {
            method: self.method.clone(),
            path,
            body,
        })
    }

    fn body(&self, things: &Things) -> Result<Value> {
        Ok(match self.template {
            "/v1/uploads" => {
                json!({ "entity_type": "post", "entity_id": things.post, "files": [declaration(&TEXT)] })
            }
            "/v1/uploads/{id}/parts" => {
                let part = json!({ "number": 1, "checksum": sha256_base64(b"x") });
                json!({ "attachment_id": things.pending, "parts": [part] })
            }
            "/v1/attachments/{id}" => json!({ "name": "taken.png" }),
            "/v1/attachments/{id}/versions" => json!({ "files": [declaration(&TEXT)] }),
            "/v1/{entity}/{id}" => json!({ "label": "taken" }),
            "/v1/deletions/{id}/restore" => json!({}),
            "/v1/operator/holds" => json!({ "kind": "tenant", "id": things.post, "reason": "x" }),
            "/v1/operator/erasures" => json!({ "tenant": "nobody", "reason": "x" }),
            "/v1/operator/holds/{id}/release" => json!({ "reason": "x" }),
            "/v1/scan-results" => json!({ "object_key": "x", "verdict": "clean" }),
            template => bail!("{template}: say here what its body is"),
        })
    }
}

/// A request that is ready to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub path: String,
    /// A text is sent as a file.
    pub body: Option<Value>,
}

impl Request {
    pub async fn send(&self, api: &Api) -> Result<Reply> {
        let json = [("content-type", "application/json")];
        let (headers, body) = match &self.body {
            None => (&[][..], None),
            Some(Value::String(file)) => (&[][..], Some(file.clone())),
            Some(body) => (&json[..], Some(body.to_string())),
        };
        let body = body.map(String::into_bytes);
        api.send(self.method.clone(), &self.path, headers, body)
            .await
    }

    /// The same with another body.
    pub async fn send_with(&self, api: &Api, body: Vec<u8>) -> Result<Reply> {
        let json = [("content-type", "application/json")];
        api.send(self.method.clone(), &self.path, &json, Some(body))
            .await
    }
}

/// What requests name, all of one owner and of one post, which is live.
#[derive(Clone, Debug)]
pub struct Things {
    pub post: String,
    /// Available.
    pub attachment: String,
    /// An upload set that waits for its file, and the file.
    pub upload: String,
    pub pending: String,
    /// That of another attachment of the post.
    pub deletion: String,
}

impl Things {
    /// What is nobody's, in the form of what is somebody's.
    pub fn of_nobody() -> Self {
        let nothing = |end: u8| format!("01890000-0000-7000-8000-0000000000{end:02}");
        Self {
            post: "987654321".to_owned(),
            attachment: nothing(1),
            upload: nothing(2),
            pending: nothing(3),
            deletion: nothing(4),
        }
    }

    /// One of each, new, at this post.
    pub async fn make(api: &Api, post: &str) -> Result<Self> {
        let entity = ("post", post);
        let mark = hex(&random::<4>()?);
        let named = |file: Fixture, name: &str| {
            let name: &'static str = format!("{mark}-{name}").leak();
            Fixture { name, ..file }
        };
        let there = [named(PNG, "secret.png"), named(TEXT, "deleted.txt")];
        let attachments = api.upload(entity, &there).await?;
        let [attachment, deleted] = attachments.as_slice() else {
            bail!("two files are two attachments");
        };
        let deleted = api
            .delete(&format!("/v1/attachments/{}", id(deleted)?))
            .await?;
        let upload = api
            .declare(entity, &[named(PNG, "pending.png")])
            .await?
            .json_if(201)?;
        Ok(Self {
            post: post.to_owned(),
            attachment: id(attachment)?.to_owned(),
            pending: text(&upload, "/files/0/attachment_id")?.to_owned(),
            upload: id(&upload)?.to_owned(),
            deletion: deletion_id(&deleted)?.to_owned(),
        })
    }

    /// An answer's text, in which these things have the same names as any others.
    pub fn anonymous(&self, body: &[u8]) -> Result<Value> {
        let mut text = String::from_utf8(body.to_vec())?;
        let ids = [
            &self.attachment,
            &self.pending,
            &self.upload,
            &self.deletion,
        ];
        for one in ids {
            text = text.replace(one.as_str(), "…");
        }
        text = text
            .replace(&format!("post {}", self.post), "post …")
            .replace(&format!("post/{}", self.post), "post/…");
        let mut answer: Value = serde_json::from_str(&text).context("not JSON")?;
        if let Some(members) = answer.as_object_mut() {
            members.remove("request_id");
        }
        Ok(answer)
    }
}
