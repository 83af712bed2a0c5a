//! The description of the interface, held against the worker by somebody who knows nothing else: Schemathesis sends
//! what `docs/openapi.json` allows, and what it does not, with every kind of token
//! (<https://schemathesis.readthedocs.io>). No answer is a failure of the worker's, and each is one that is described.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::api::{Api, text};
use keepsake_tests::fixtures::{PNG, TEXT};
use keepsake_tests::places::{checkout, home};
use keepsake_tests::stack::{Stack, StackSettings};
use keepsake_tests::token::{ALL_SCOPES, mint, unix_now};
use serde_json::{Value, json};
use sqlx::PgConnection;

/// Enough for all of it.
const REQUESTS_A_MINUTE: u32 = 1_000_000;

/// Longest time for one kind of token, in seconds; all kinds together take about one minute and a half.
const PATIENCE: &str = "480";

/// Any other finds the same in the end; this one makes a failure come again.
const SEED: &str = "20260901";

const CHECKS: [&str; 7] = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "allow_header_conformance",
    "positive_data_acceptance",
];

/// Some of each kind, for whoever is refused nearly everywhere.
const FEW: &[&str] = &["--phases=fuzzing", "--max-examples=4"];

/// Every kind of value that a field can have, and some more, for whoever may do something there.
const OF_USERS: &[&str] = &[
    "--phases=coverage,fuzzing",
    "--max-examples=12",
    "--exclude-path-regex=^/(v1/(operator|runs)|metrics|healthz|openapi)",
];
const OF_OPERATORS: &[&str] = &[
    "--phases=coverage,fuzzing",
    "--max-examples=12",
    "--include-path-regex=^/(v1/(operator|runs)|metrics|healthz)",
];

/// What there is for requests to name, of one tenant.
struct Things {
    post: String,
    attachment: String,
    upload: String,
    deletion: String,
}

#[tokio::test]
async fn every_answer_is_one_that_is_described() -> Result<()> {
    let stack = Stack::start(StackSettings::default(), |_| ()).await?;
    let scan_keys = [(
        "SCAN_KEYS",
        "s1:c2NhbnNjYW5zY2Fuc2NhbnNjYW5zY2Fuc2NhbnNjYW4=",
    )];
    let worker = stack
        .limited_worker("described", &scan_keys, REQUESTS_A_MINUTE)
        .await?;
    let token = |claims: Value| {
        let mut claims = claims;
        claims["exp"] = json!(unix_now() + 3600);
        mint(&claims, &stack.secrets.jwt_key)
    };
    let user = |tenant: &str, scope: &str| {
        token(json!({ "sub": "ada", "tenant": tenant, "scope": scope }))
    };
    let mut database = stack.postgres.connect().await?;
    let owner = Api::new(&worker.url(), Some(user("acme", ALL_SCOPES)))?;
    let things = Things::make(&owner, &mut database).await?;
    let config = stack.folder().join("schemathesis.toml");
    fs::write(&config, things.settings()?)?;

    let tokens = [
        ("nobody", None, FEW),
        ("a reader", Some(user("acme", "attachments:read")), FEW),
        (
            "somebody of another tenant",
            Some(user("other", ALL_SCOPES)),
            FEW,
        ),
        (
            "who names no tenant",
            Some(token(json!({ "sub": "ada", "scope": ALL_SCOPES }))),
            FEW,
        ),
        (
            "who reads the metrics",
            Some(token(json!({ "sub": "prometheus", "scope": "metrics" }))),
            FEW,
        ),
        (
            "an operator",
            Some(token(json!({ "sub": "root", "scope": "operator" }))),
            OF_OPERATORS,
        ),
        // Last, for this one deletes what the others look at.
        ("the owner", Some(user("acme", ALL_SCOPES)), OF_USERS),
    ];
    for (name, bearer, requests) in tokens {
        let told = run(&worker.url(), &config, bearer.as_deref(), requests)
            .await
            .context(name)?;
        ensure!(
            told.is_empty(),
            "as {name}:\n{told}\nthe worker's log ends with:\n{}",
            worker.log_tail()
        );
    }
    Ok(())
}

/// Runs Schemathesis with this token; what it says when it finds something.
async fn run(url: &str, config: &Path, bearer: Option<&str>, requests: &[&str]) -> Result<String> {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5", PATIENCE])
        .arg(home()?.join("schemathesis/bin/schemathesis"))
        .arg("--config-file")
        .arg(config)
        .args(["run", "--no-color", "--url", url])
        .args(["--seed", SEED, "--max-redirects=0"])
        .args(requests)
        // With two threads, Python 3.11 sometimes fails: its parser counts the depth for all of them together
        // (<https://github.com/python/cpython/issues/106905>).
        .arg("--workers=1")
        .args([
            "--request-timeout=30",
            "--generation-database=none",
            "--continue-on-failure",
        ])
        .arg(checkout().join("docs/openapi.json"))
        // It keeps notes where it runs.
        .current_dir(config.parent().context("a file without a folder")?)
        .stdin(Stdio::null());
    if let Some(bearer) = bearer {
        command.args(["--header", &format!("Authorization: Bearer {bearer}")]);
    }
    let output = tokio::task::spawn_blocking(move || command.output())
        .await?
        .context("cannot start Schemathesis: run 'make setup'")?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    if std::env::var_os("KEEPSAKE_SHOW_SCHEMATHESIS").is_some() {
        println!("{told}");
    }
    if output.status.success() {
        return Ok(String::new());
    }
    Ok(format!(
        "{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    ))
}

impl Things {
    async fn make(owner: &Api, database: &mut PgConnection) -> Result<Self> {
        let post: i64 = sqlx::query_scalar(
            "WITH thread AS (INSERT INTO public.thread (tenant, title) VALUES ('acme', 'a thread') RETURNING id)
             INSERT INTO public.post (tenant, thread_id, slug, body) SELECT 'acme', id, 'a-post', '' FROM thread RETURNING id",
        )
        .fetch_one(database)
        .await?;
        let post = post.to_string();
        let entity = ("post", post.as_str());
        let upload = owner.declare(entity, &[TEXT]).await?.json_if(201)?;
        let attachments = owner.upload(entity, &[PNG]).await?;
        let attachment = text(&attachments[0], "/id")?.to_owned();
        let path = format!("/v1/attachments/{attachment}");
        let deleted = owner.delete(&path).await?;
        let deletion = deleted.header("keepsake-deletion");
        let deletion = deletion.context("nothing was deleted")?.to_owned();
        owner.restore(&path).await?.expect(200)?;
        Ok(Self {
            upload: text(&upload, "/id")?.to_owned(),
            post,
            attachment,
            deletion,
        })
    }

    /// The settings of Schemathesis: what is there, for most of the paths that name it, and what may come of a
    /// request that the description allows. 400 is not among that: such a request is well formed.
    fn settings(&self) -> Result<String> {
        let mut settings = "[checks]\nenabled = false\n".to_owned();
        for check in CHECKS {
            writeln!(settings, "[checks.{check}]\nenabled = true")?;
        }
        settings.push_str(
            "expected-statuses = [\"2xx\", \"3xx\", 401, 403, 404, 409, 410, 412, 413, 415, 416, 422, 429]\n",
        );
        let ids = [
            ("upload", "/v1/uploads/{id}", &self.upload),
            ("attachment", "/v1/attachments/{id}", &self.attachment),
            ("deletion", "/v1/deletions/{id}", &self.deletion),
            ("entity", "/v1/{entity}/{id}", &self.post),
        ];
        for (name, path, id) in ids {
            let path = path.replace('{', "\\\\{").replace('}', "\\\\}");
            writeln!(
                settings,
                "[dictionaries.{name}]\nvalues = [\"{id}\"]\n\
                 [[operations]]\ninclude-path-regex = \"^{path}\"\n\
                 parameters = {{ \"path.id\" = {{ dictionary = \"{name}\", probability = 0.7 }} }}"
            )?;
        }
        // A form cannot say that only the worker makes a cursor, or that one field goes with the value of another, or with the form of the body.
        let listings = with_cursor()?.into_iter().map(|path| format!("GET {path}"));
        let related = [
            "GET /v1/operator/history",
            "POST /v1/operator/holds",
            "POST /v1/{entity}/{id}/attachments",
        ];
        for name in listings.chain(related.map(str::to_owned)) {
            writeln!(
                settings,
                "[[operations]]\ninclude-name = \"{name}\"\nchecks.positive_data_acceptance.enabled = false"
            )?;
        }
        settings.push_str(
            "[dictionaries.entities]\nvalues = [\"post\", \"thread\"]\n\
             [[operations]]\ninclude-path-regex = \"\\\\{entity\\\\}\"\n\
             parameters = { \"path.entity\" = { dictionary = \"entities\", probability = 0.7 } }\n",
        );
        Ok(settings)
    }
}

/// The paths of the listings that go on behind a cursor.
fn with_cursor() -> Result<Vec<String>> {
    let description: Value = serde_json::from_str(include_str!("../../docs/openapi.json"))?;
    let paths = description["paths"].as_object().context("no paths")?;
    let cursor = json!({ "$ref": "#/components/parameters/Cursor" });
    let has_cursor = |item: &Value| {
        let parameters = item["get"]["parameters"].as_array();
        parameters.is_some_and(|parameters| parameters.contains(&cursor))
    };
    let with_cursor = paths.iter().filter(|(_, item)| has_cursor(item));
    Ok(with_cursor.map(|(path, _)| path.clone()).collect())
}
