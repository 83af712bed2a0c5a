//! The tour and the README's SQL, run exactly as they are written.

use std::os::unix::fs::symlink;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::migrate::Keep;
use keepsake_tests::places::checkout;
use keepsake_tests::postgres::Postgres;
use keepsake_tests::stack::{Stack, StackSettings, throwaway_folder};
use keepsake_tests::token;

/// What the tour and the README's commands have to print, in this order.
const PROMISED: [&str; 13] = [
    r#""name":"notes.txt""#,
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
    r#""name":"letter.pdf""#,
    r#""restored":[{"rows":3,"table":"attachments.attachment"}"#,
];

/// The code blocks of a page in a language, one after the other.
fn blocks(page: &str, language: &str) -> Result<String> {
    let text = std::fs::read_to_string(checkout().join(page))?;
    let blocks: String = text
        .split(&format!("\n```{language}\n"))
        .skip(1)
        .filter_map(|block| block.split("```").next())
        .collect();
    ensure!(!blocks.is_empty(), "{page} has no block of {language}");
    Ok(blocks)
}

#[tokio::test]
async fn the_tour_runs_as_written() -> Result<()> {
    // As `make dev` has it.
    let settings = StackSettings {
        keep: Keep::Apart,
        ..StackSettings::default()
    };
    let stack = Stack::start(settings, |_| ()).await?;
    let folder = stack.folder().join("tour");
    std::fs::create_dir(&folder)?;
    symlink(checkout().join("tests"), folder.join("tests"))?;
    let token = token::mint(&token::claims("acme", "ada"), &stack.secrets.jwt_key);
    std::fs::write(folder.join(".keepsake.env"), stack.environment(&token))?;
    for (file, fixture) in [("photo.png", "locket.png"), ("letter.pdf", "letter.pdf")] {
        let fixture = checkout().join("tests/fixtures").join(fixture);
        std::fs::copy(fixture, folder.join(file))?;
    }
    // The tour needs its post as it is, and so do these: another one.
    let curl = blocks("README.md", "bash")?.replace("/post/1", "/post/2");
    let tour = format!(
        "{}\nTOKEN=$KEEPSAKE_TOKEN URL=$KEEPSAKE_URL\n{curl}",
        blocks("docs/tour.md", "sh")?
    );
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

#[tokio::test]
async fn the_sql_of_the_readme_deletes_and_restores() -> Result<()> {
    let (folder, leash) = throwaway_folder()?;
    let postgres = Postgres::start(&folder, "readme", &leash).await?;
    let sql = blocks("README.md", "sql")?
        + "SELECT count(*) AS live FROM thread JOIN post ON thread_id = thread.id;";
    let ran = Command::new("psql")
        .args([
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
        ])
        .args(["--command", "CREATE DATABASE example", "--dbname"])
        .arg(postgres.superuser_url())
        .output()?;
    ensure!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let file = folder.join("readme.sql");
    std::fs::write(&file, sql)?;
    let ran = Command::new("psql")
        .args([
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
        ])
        .arg("--file")
        .arg(&file)
        .arg(postgres.url("postgres", "readme", "example"))
        .output()?;
    let printed = String::from_utf8_lossy(&ran.stdout);
    ensure!(
        ran.status.success(),
        "{printed}\n{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    // Between the DELETE and the restore, the SELECT finds no row.
    let (_, after) = printed
        .split_once("DELETE 1\n")
        .context("no row was deleted")?;
    ensure!(
        after.starts_with("{\""),
        "the deleted post is shown: {printed}"
    );
    ensure!(
        after.ends_with("\n1\n"),
        "not both rows are back: {printed}"
    );
    Ok(())
}
