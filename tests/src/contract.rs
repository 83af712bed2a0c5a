//! What `docs/openapi.json` promises, held against what really comes back.
//!
//! Every answer the client of [`crate::api`] sees goes through [`check`], so that each end-to-end
//! test is also a test of the description: an undeclared status, code, content type, header or
//! field fails it.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use anyhow::{Context, Result, anyhow, ensure};
use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::api::Reply;

static CONTRACT: LazyLock<Result<Contract, String>> =
    LazyLock::new(|| Contract::new().map_err(|error| format!("docs/openapi.json: {error:#}")));

/// Fails unless the description allows this answer to this request.
///
/// `path` is the path alone, as it was sent; `sent` the request's body.
///
/// # Errors
/// What the description says otherwise.
pub fn check(method: &Method, path: &str, sent: Option<&[u8]>, reply: &Reply) -> Result<()> {
    let contract = CONTRACT.as_ref().map_err(|error| anyhow!("{error}"))?;
    // What `wrangler dev` itself serves, the scheduled work among it, is no part of the interface.
    if path.starts_with("/__") || path.starts_with("/cdn-cgi/") {
        return Ok(());
    }
    contract.check(method, path, sent, reply).with_context(|| {
        let body = String::from_utf8_lossy(&reply.body);
        let begin: String = body.chars().take(500).collect();
        format!(
            "{method} {path} answered unlike docs/openapi.json: {} {begin}",
            reply.status
        )
    })
}

struct Contract {
    document: Value,
    /// By the text of the schema they stand for.
    validators: HashMap<String, Validator>,
}

impl Contract {
    fn new() -> Result<Self> {
        let mut document: Value = serde_json::from_str(include_str!("../../docs/openapi.json"))?;
        close(&mut document);
        let mut contract = Self {
            validators: HashMap::new(),
            document,
        };
        for schema in contract.body_schemas() {
            let validator = contract.validator(&schema)?;
            contract.validators.insert(schema.to_string(), validator);
        }
        Ok(contract)
    }

    fn check(&self, method: &Method, path: &str, sent: Option<&[u8]>, reply: &Reply) -> Result<()> {
        check_common_headers(path, reply)?;
        if method == Method::OPTIONS && reply.status == 204 {
            self.check_methods(path, reply)?;
            return check_no_body(reply);
        }
        let item = self.path_item(path);
        let is_none = item.is_none_or(|item| operation(item, method).is_none());
        if is_none && reply.status == 429 {
            return self.check_problem(&json!(["too_many_requests"]), 429, reply);
        }
        let Some(item) = item else {
            return self.check_problem(&json!(["not_found"]), 404, reply);
        };
        let operation = match operation(item, method) {
            Some(operation) => operation,
            None => {
                ensure!(reply.header("allow").is_some(), "no Allow header");
                return self.check_problem(&json!(["method_not_allowed"]), 405, reply);
            }
        };
        self.check_answer(operation, method, reply)?;
        if reply.status < 300 {
            self.check_request(operation, sent)?;
        }
        Ok(())
    }

    /// A preflight tells the methods that the path has, and no other; what is there for GET is there for HEAD.
    fn check_methods(&self, path: &str, reply: &Reply) -> Result<()> {
        let described = self.path_item(path).into_iter().flat_map(members);
        let mut methods: BTreeSet<String> =
            described.map(|(name, _)| name.to_uppercase()).collect();
        methods.remove("PARAMETERS");
        if methods.contains("GET") {
            methods.insert("HEAD".to_owned());
        }
        methods.insert("OPTIONS".to_owned());
        for name in ["allow", "access-control-allow-methods"] {
            let Some(told) = reply.header(name) else {
                continue;
            };
            let told: BTreeSet<String> = told.split(", ").map(str::to_owned).collect();
            ensure!(told == methods, "{name} is {told:?} instead of {methods:?}");
        }
        ensure!(reply.header("allow").is_some(), "no Allow header");
        Ok(())
    }

    /// A request that succeeded has to be one that the description allows.
    fn check_request(&self, operation: &Value, sent: Option<&[u8]>) -> Result<()> {
        match operation.pointer("/requestBody/content/application~1json/schema") {
            Some(schema) => {
                let body = serde_json::from_slice(sent.unwrap_or_default())
                    .context("a body that is no JSON was taken")?;
                self.check_schema(schema, &body)
                    .context("a body of another form was taken")
            }
            None => Ok(()),
        }
    }

    fn check_answer(&self, operation: &Value, method: &Method, reply: &Reply) -> Result<()> {
        let status = reply.status.to_string();
        let response = operation["responses"]
            .get(&status)
            .context("the status is not declared")?;
        let response = self.resolve(response)?;
        for (name, header) in members(&response["headers"]) {
            if header["required"] == true {
                let value = reply.header(name);
                ensure!(value.is_some(), "no {name} header");
            }
        }
        // An answer to HEAD has the headers alone (RFC 9110 §9.3.2).
        if method == Method::HEAD {
            return check_no_body(reply);
        }
        if reply.status >= 400 {
            return self.check_problem(&operation["x-codes"][&status], reply.status, reply);
        }
        match members(&response["content"]).next() {
            Some((kind, media)) => self.check_body(kind, media, reply),
            None => check_no_body(reply),
        }
    }

    fn check_body(&self, kind: &str, media: &Value, reply: &Reply) -> Result<()> {
        let sent = reply.header("content-type").context("no Content-Type")?;
        if kind == "*/*" {
            return Ok(());
        }
        ensure!(sent == kind, "the content type is {sent} instead of {kind}");
        if kind.ends_with("json") {
            self.check_schema(&media["schema"], &reply.json()?)?;
        }
        Ok(())
    }

    /// A problem (RFC 9457) with one of `codes`.
    fn check_problem(&self, codes: &Value, status: u16, reply: &Reply) -> Result<()> {
        ensure!(reply.status == status, "the status is not {status}");
        let problem = &self.document["components"]["responses"]["Problem"];
        for (kind, media) in members(&problem["content"]) {
            self.check_body(kind, media, reply)?;
        }
        let body = reply.json()?;
        ensure!(body["status"] == status, "the body has another status");
        let declared = codes
            .as_array()
            .is_some_and(|all| all.contains(&body["code"]));
        ensure!(declared, "the code {} is not declared", body["code"]);
        Ok(())
    }

    fn check_schema(&self, schema: &Value, instance: &Value) -> Result<()> {
        let validator = self.validators.get(&schema.to_string());
        let errors: Vec<String> = validator
            .context("a schema that is not compiled")?
            .iter_errors(instance)
            .map(|error| format!("at {:?}: {error}", error.instance_path().as_str()))
            .collect();
        ensure!(errors.is_empty(), "{}", errors.join("; "));
        Ok(())
    }

    /// The description of the path that the worker's router would choose: of those that match, the
    /// one with the earliest literal segments.
    fn path_item(&self, path: &str) -> Option<&Value> {
        members(&self.document["paths"])
            .filter_map(|(template, item)| Some((shape(template, path)?, item)))
            .min_by_key(|(shape, _)| shape.clone())
            .map(|(_, item)| item)
    }

    fn body_schemas(&self) -> Vec<Value> {
        let operations = members(&self.document["paths"])
            .flat_map(|(_, item)| members(item))
            .filter(|(method, _)| *method != "parameters")
            .map(|(_, operation)| operation);
        let mut bodies: Vec<&Value> = Vec::new();
        for operation in operations {
            bodies.push(&operation["requestBody"]);
            bodies.extend(members(&operation["responses"]).map(|(_, response)| response));
        }
        bodies.extend(members(&self.document["components"]["responses"]).map(|(_, one)| one));
        bodies
            .into_iter()
            .flat_map(|body| members(&body["content"]))
            .filter(|(kind, _)| kind.ends_with("json"))
            .map(|(_, media)| media["schema"].clone())
            .collect()
    }

    /// OpenAPI 3.1 schemas are JSON Schema 2020-12; what they refer to has to stand in one document
    /// with them.
    fn validator(&self, schema: &Value) -> Result<Validator> {
        let mut root: Map<String, Value> = schema.as_object().cloned().unwrap_or_default();
        root.insert("components".to_owned(), self.document["components"].clone());
        jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(&Value::Object(root))
            .map_err(|error| anyhow!("{schema}: {error}"))
    }

    fn resolve<'a>(&'a self, node: &'a Value) -> Result<&'a Value> {
        match node.get("$ref").and_then(Value::as_str) {
            None => Ok(node),
            Some(reference) => reference
                .strip_prefix('#')
                .and_then(|pointer| self.document.pointer(pointer))
                .with_context(|| format!("{reference} leads nowhere")),
        }
    }
}

/// What every answer carries, whatever was asked.
fn check_common_headers(path: &str, reply: &Reply) -> Result<()> {
    // A file, which the worker is not asked for.
    let is_file = path == "/openapi.json";
    ensure!(
        is_file || reply.header("x-request-id").is_some(),
        "no x-request-id"
    );
    ensure!(
        reply.header("x-content-type-options") == Some("nosniff"),
        "no nosniff"
    );
    ensure!(reply.header("cache-control").is_some(), "no Cache-Control");
    let waits = matches!(reply.status, 429 | 503);
    ensure!(
        reply.header("retry-after").is_some() == waits,
        "Retry-After stands with 429 and 503, and with them alone"
    );
    Ok(())
}

fn check_no_body(reply: &Reply) -> Result<()> {
    ensure!(reply.body.is_empty(), "a body that is not declared");
    Ok(())
}

/// The operation of a method. `HEAD` is answered wherever `GET` is (RFC 9110 §9.3.2).
fn operation<'a>(item: &'a Value, method: &Method) -> Option<&'a Value> {
    let own = item.get(method.as_str().to_lowercase());
    match method == Method::HEAD {
        true => own.or_else(|| item.get("get")),
        false => own,
    }
}

/// Which segments of a template that matches are variable.
fn shape(template: &str, path: &str) -> Option<Vec<bool>> {
    let (template, path): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    if template.len() != path.len() {
        return None;
    }
    let segments = template.into_iter().zip(path);
    segments
        .map(|(wanted, given)| match wanted.starts_with('{') {
            true => (!given.is_empty()).then_some(true),
            false => (wanted == given).then_some(false),
        })
        .collect()
}

/// The members of an object; none of anything else.
fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let object = value.as_object().into_iter().flatten();
    object.map(|(name, member)| (name.as_str(), member))
}

/// Closes every object whose members are listed, so that a member that is not listed is found.
fn close(node: &mut Value) {
    match node {
        Value::Object(object) => {
            if object.get("properties").is_some_and(Value::is_object) {
                object
                    .entry("additionalProperties")
                    .or_insert(Value::Bool(false));
            }
            object.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    const PROBLEM: &str = "application/problem+json";

    fn reply(status: u16, kind: &'static str, body: &Value) -> Reply {
        let headers = [
            ("x-request-id", "id"),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("content-type", kind),
        ];
        Reply {
            status,
            headers: HeaderMap::from_iter(headers.map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })),
            body: body.to_string().into_bytes(),
        }
    }

    fn problem(status: u16, code: &str) -> Reply {
        let body = json!({
            "type": "https://example.com/problems", "title": "No", "status": status,
            "detail": "No.", "code": code, "request_id": "id",
        });
        reply(status, PROBLEM, &body)
    }

    fn get(path: &str, reply: &Reply) -> Result<()> {
        check(&Method::GET, path, None, reply)
    }

    #[test]
    fn lets_pass_what_is_declared() -> Result<()> {
        get(
            "/healthz",
            &reply(200, "application/json", &json!({ "status": "ok" })),
        )?;
        get("/v1/attachments/1", &problem(404, "not_found"))?;
        get("/nowhere", &problem(404, "not_found"))
    }

    #[test]
    fn finds_each_difference() {
        let healthy = json!({ "status": "ok" });
        for (what, path, answer) in [
            (
                "status",
                "/healthz",
                reply(201, "application/json", &healthy),
            ),
            (
                "content type",
                "/healthz",
                reply(200, "text/json", &healthy),
            ),
            (
                "body",
                "/healthz",
                reply(200, "application/json", &json!({ "status": "fine" })),
            ),
            (
                "field",
                "/healthz",
                reply(
                    200,
                    "application/json",
                    &json!({ "status": "ok", "load": 1 }),
                ),
            ),
            ("code", "/v1/attachments/1", problem(404, "purged")),
            ("path", "/nowhere", reply(200, "application/json", &healthy)),
            (
                "Retry-After",
                "/healthz",
                problem(503, "database_unavailable"),
            ),
        ] {
            assert!(get(path, &answer).is_err(), "{what}");
        }
    }

    #[test]
    fn chooses_the_path_as_the_router_does() {
        let (fixed, open) = ("/v1/uploads/{id}", "/v1/{entity}/{id}");
        assert!(shape(fixed, "/v1/uploads/1") < shape(open, "/v1/uploads/1"));
        assert_eq!(shape(fixed, "/v1/uploads/"), None);
        assert_eq!(shape(fixed, "/v1/uploads"), None);
    }
}
