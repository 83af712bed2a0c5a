//! The client module's own tests, in Node, against a whole stack.

use std::process::Command;

use anyhow::{Result, ensure};
use keepsake_tests::places::{checkout, node_program};
use keepsake_tests::stack::{Stack, StackSettings};
use keepsake_tests::token::{claims, mint, unix_now};
use serde_json::json;

const TENANT: &str = "client";

/// Posts for the tests to upload to.
async fn posts(stack: &Stack) -> Result<String> {
    let mut database = stack.postgres.connect().await?;
    let ids: Vec<String> = sqlx::query_scalar(
        "WITH thread AS (INSERT INTO public.thread (tenant, title) VALUES ($1, 'a thread') RETURNING id)
         INSERT INTO public.post (tenant, thread_id, slug, body)
         SELECT $1, id, 'post-' || number, '' FROM thread, generate_series(1, 20) AS number
         RETURNING id::text",
    )
    .bind(TENANT)
    .fetch_all(&mut database)
    .await?;
    Ok(ids.join(","))
}

#[tokio::test]
async fn the_client_passes_its_tests() -> Result<()> {
    // Small enough for a file in parts to be sent in a moment.
    let vars = vec![
        ("MULTIPART_THRESHOLD_BYTES".into(), "6291456".into()),
        ("PART_BYTES".into(), "5242880".into()),
    ];
    let stack = Stack::start(
        StackSettings {
            vars,
            ..StackSettings::default()
        },
        |_| (),
    )
    .await?;
    let mut expired = claims(TENANT, "ada");
    expired["exp"] = json!(unix_now() - 3600);
    let operator = json!({ "sub": "operator", "scope": "operator", "exp": unix_now() + 3600 });
    let mut node = Command::new(node_program("node")?);
    node.current_dir(checkout().join("client"))
        .args(["--test", "--test-reporter=spec", "tests/*.test.ts"])
        .env("KEEPSAKE_URL", stack.worker.url())
        .env(
            "KEEPSAKE_TOKEN",
            mint(&claims(TENANT, "ada"), &stack.secrets.jwt_key),
        )
        .env(
            "KEEPSAKE_EXPIRED_TOKEN",
            mint(&expired, &stack.secrets.jwt_key),
        )
        .env(
            "KEEPSAKE_OPERATOR_TOKEN",
            mint(&operator, &stack.secrets.jwt_key),
        )
        .env("KEEPSAKE_POSTS", posts(&stack).await?);
    let ran = tokio::task::spawn_blocking(move || node.output()).await??;
    let printed = String::from_utf8_lossy(&ran.stdout);
    ensure!(
        ran.status.success(),
        "{printed}\n{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    // Node succeeds where it finds no test.
    ensure!(
        printed.contains("files are uploaded as one set"),
        "no test ran:\n{printed}"
    );
    Ok(())
}
