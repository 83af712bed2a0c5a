//! The README's tour, run exactly as it is written.

use std::os::unix::fs::symlink;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::places::checkout;
use keepsake_tests::stack::{Stack, StackSettings};
use keepsake_tests::token;

/// What the tour must print, in this order.
const PROMISED: [&str; 10] = [
    r#""method":"PUT""#,
    "length_mismatch",
    "201",
    "object_exists",
    r#""state":"completed""#,
    r#""name":"locket.png""#,
    "not_found",
    r#""restored":[{"rows":1,"table":"attachments.attachment"}"#,
    "restore_conflict",
    "purged",
];

/// The shell blocks of the section `## Tour`.
fn tour() -> Result<String> {
    let readme = std::fs::read_to_string(checkout().join("README.md"))?;
    let section = readme
        .split("\n## Tour\n")
        .nth(1)
        .context("the README has no tour")?;
    let section = section.split("\n## ").next().unwrap_or(section);
    let blocks = section
        .split("```sh\n")
        .skip(1)
        .filter_map(|block| block.split("```").next());
    Ok(blocks.collect())
}

#[tokio::test]
async fn the_tour_runs_as_written() -> Result<()> {
    let stack = Stack::start(StackSettings::default(), |_| ()).await?;
    let folder = stack.folder().join("tour");
    std::fs::create_dir(&folder)?;
    symlink(checkout().join("tests"), folder.join("tests"))?;
    let token = token::mint(&token::claims("acme", "ada"), &stack.secrets.jwt_key);
    std::fs::write(folder.join(".keepsake.env"), stack.environment(&token))?;
    let tour = tour()?;
    let ran = tokio::task::spawn_blocking(move || {
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", &tour])
            .current_dir(folder)
            .output()
    })
    .await??;
    let printed = String::from_utf8_lossy(&ran.stdout);
    let complained = String::from_utf8_lossy(&ran.stderr);
    ensure!(
        ran.status.success(),
        "the tour stopped:\n{printed}\n{complained}"
    );
    let mut rest = &*printed;
    for promised in PROMISED {
        let at = rest
            .find(promised)
            .with_context(|| format!("{promised} is not printed in its turn:\n{printed}"))?;
        rest = &rest[at..];
    }
    Ok(())
}
