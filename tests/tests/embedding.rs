//! The examples of `docs/guides/embed.md` in a real browser: Chromium on the machine, driven by
//! Playwright. What is seen there is told in `examples/tests/`.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keepsake_tests::leash::Leash;
use keepsake_tests::places::{checkout, free_port, node_program};
use keepsake_tests::process::Daemon;
use keepsake_tests::secrets::KEY_ID;
use keepsake_tests::stack::{Stack, StackSettings};
use keepsake_tests::token::{claims, mint};

const TENANT: &str = "acme";

/// Posts of the example application, one for each way of embedding.
async fn posts(stack: &Stack) -> Result<Vec<String>> {
    let mut database = stack.postgres.connect().await?;
    let posts =
        sqlx::query_scalar("SELECT id::text FROM public.post WHERE tenant = $1 ORDER BY id")
            .bind(TENANT)
            .fetch_all(&mut database)
            .await?;
    Ok(posts)
}

/// `next start` of the example that `scripts/build-examples` has built.
async fn next(stack: &Stack, port: u16, leash: &Leash) -> Result<Daemon> {
    let folder = checkout().join("examples/nextjs");
    let program = folder.join("node_modules/next/dist/bin/next");
    ensure!(
        folder.join(".next/BUILD_ID").exists(),
        "run scripts/build-examples first"
    );
    let mut command = Command::new(node_program("node")?);
    command
        .arg(program)
        .args(["start", "--hostname=127.0.0.1"])
        .arg(format!("--port={port}"))
        .current_dir(folder)
        .env("NEXT_TELEMETRY_DISABLED", "1")
        .env("KEEPSAKE_URL", stack.worker.url())
        .env("KEEPSAKE_KEY_ID", KEY_ID)
        .env("KEEPSAKE_JWT_KEY", STANDARD.encode(&stack.secrets.jwt_key));
    let mut server = Daemon::spawn(
        "next",
        &mut command,
        &stack.folder().join("next.log"),
        leash,
    )?;
    let client = reqwest::Client::new();
    let address = format!("http://127.0.0.1:{port}/");
    let answers = async || client.get(&address).send().await.is_ok();
    server.wait_until(Duration::from_secs(60), answers).await?;
    Ok(server)
}

#[tokio::test]
async fn the_examples_of_the_guide_work_in_chromium() -> Result<()> {
    let (plain_port, next_port) = (free_port(None)?, free_port(None)?);
    let origins = format!("http://127.0.0.1:{plain_port},http://127.0.0.1:{next_port}");
    let settings = StackSettings {
        vars: vec![("ALLOWED_ORIGINS".to_owned(), origins)],
        ..StackSettings::default()
    };
    let stack = Stack::start(settings, |_| ()).await?;
    let leash = Leash::new(None)?;
    let server = next(&stack, next_port, &leash)
        .await
        .context("Next.js does not start")?;
    let posts = posts(&stack).await?;
    let [plain_post, next_post, other_post] = posts.as_slice() else {
        anyhow::bail!("the example application has other posts: {posts:?}");
    };
    let mut playwright = Command::new(node_program("playwright")?);
    playwright
        .args(["test", "--config=examples/tests/playwright.config.ts"])
        .current_dir(checkout())
        .env("KEEPSAKE_URL", stack.worker.url())
        .env(
            "KEEPSAKE_TOKEN",
            mint(&claims(TENANT, "ada"), &stack.secrets.jwt_key),
        )
        .env("KEEPSAKE_CHROMIUM", "/usr/bin/chromium")
        .env("PLAIN_PORT", plain_port.to_string())
        .env("PLAIN_POST", plain_post)
        .env("NEXT_URL", format!("http://127.0.0.1:{next_port}"))
        .env("NEXT_POST", next_post)
        .env("NEXT_OTHER_POST", other_post);
    let ended = tokio::task::spawn_blocking(move || playwright.status()).await??;
    ensure!(
        ended.success(),
        "see above; the logs end with:\n{}\n{}",
        stack.worker.log_tail(),
        server.log_tail()
    );
    Ok(())
}
