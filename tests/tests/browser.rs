//! The page in a real browser: Chromium on the machine, driven by Playwright. What is seen there is
//! told in `page/tests/`.

#[path = "e2e/object_store.rs"]
#[expect(
    dead_code,
    reason = "what goes wrong with a store is looked at end to end, without a browser"
)]
mod object_store;

use std::process::Command;

use anyhow::{Result, ensure};
use keepsake_tests::cors::Cors;
use keepsake_tests::places::{POSTGRES_MAJOR, checkout, node_program, postgres_program};
use keepsake_tests::secrets::{KEY_ID, hex};
use keepsake_tests::stack::{Stack, StackSettings};
use object_store::ObjectStore;
use tokio::sync::Mutex;

/// Small enough for a test to send more than one part.
const SETTINGS: [(&str, &str); 5] = [
    ("MAX_FILE_BYTES", "41943040"),
    ("MAX_SET_BYTES", "62914560"),
    ("MULTIPART_THRESHOLD_BYTES", "6291456"),
    ("PART_BYTES", "5242880"),
    // "scan", eight times.
    (
        "SCAN_KEYS",
        "scanner:c2NhbnNjYW5zY2Fuc2NhbnNjYW5zY2Fuc2NhbnNjYW4=",
    ),
];

/// Those that are about where the bytes are.
const OF_STORE: &str = "store";

/// One browser after the other: two at once are too much for a small machine.
static TURN: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn the_page_works_in_chromium() -> Result<()> {
    let _turn = TURN.lock().await;
    let stack = stack(Vec::new()).await?;
    run(&stack, &stack.worker.url(), &chosen()).await
}

#[tokio::test]
async fn the_page_works_with_a_store_that_speaks_s3() -> Result<()> {
    let _turn = TURN.lock().await;
    if !chosen().is_empty() && !chosen().contains(OF_STORE) {
        return Ok(());
    }
    let store = ObjectStore::start()?;
    let stack = stack(store.settings()).await?;
    store.admit(Cors::documented(&stack.worker.url())?);
    run(&stack, &store.url(), OF_STORE).await
}

async fn stack(mut vars: Vec<(String, String)>) -> Result<Stack> {
    vars.extend(SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let settings = StackSettings {
        vars,
        ..StackSettings::default()
    };
    Stack::start(settings, |_| ()).await
}

/// Runs these tests of the page, which finds the bytes at `store`.
async fn run(stack: &Stack, store: &str, tests: &str) -> Result<()> {
    let mut playwright = Command::new(node_program("playwright")?);
    playwright
        .args(["test", "--config=page/tests/playwright.config.ts"])
        .args(tests.split_whitespace())
        .current_dir(checkout())
        .env("KEEPSAKE_URL", stack.worker.url())
        .env("KEEPSAKE_STORE_URL", store)
        .env("KEEPSAKE_DATABASE_URL", stack.postgres.superuser_url())
        .env("KEEPSAKE_PSQL", postgres_program(POSTGRES_MAJOR, "psql")?)
        .env("KEEPSAKE_KEY_ID", KEY_ID)
        .env("KEEPSAKE_JWT_KEY", hex(&stack.secrets.jwt_key))
        .env("KEEPSAKE_CHROMIUM", "/usr/bin/chromium");
    let ended = tokio::task::spawn_blocking(move || playwright.status()).await??;
    ensure!(
        ended.success(),
        "see above; the worker's log ends with:\n{}",
        stack.worker.log_tail()
    );
    Ok(())
}

/// Which tests, and how: `KEEPSAKE_BROWSER_TESTS="bin --workers=1"`.
fn chosen() -> String {
    std::env::var("KEEPSAKE_BROWSER_TESTS").unwrap_or_default()
}
