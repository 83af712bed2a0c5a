//! The page in a real browser: Chromium on the machine, driven by Playwright. What is seen there is
//! told in `page/tests/`.

use std::process::Command;

use anyhow::{Result, ensure};
use keepsake_tests::places::{POSTGRES_MAJOR, checkout, node_program, postgres_program};
use keepsake_tests::secrets::{KEY_ID, hex};
use keepsake_tests::stack::{Stack, StackSettings};

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

#[tokio::test]
async fn the_page_works_in_chromium() -> Result<()> {
    let settings = StackSettings {
        vars: SETTINGS
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..StackSettings::default()
    };
    let stack = Stack::start(settings, |_| ()).await?;
    let mut playwright = Command::new(node_program("playwright")?);
    playwright
        .args(["test", "--config=page/tests/playwright.config.ts"])
        // Which of them, and how: `KEEPSAKE_BROWSER_TESTS="bin --workers=1"`.
        .args(chosen().split_whitespace())
        .current_dir(checkout())
        .env("KEEPSAKE_URL", stack.worker.url())
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

fn chosen() -> String {
    std::env::var("KEEPSAKE_BROWSER_TESTS").unwrap_or_default()
}
