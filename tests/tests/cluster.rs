//! The stack's own promises: what it starts survives what it should, and never outlives it.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::Result;
use keepsake_tests::leash::Leash;
use keepsake_tests::postgres::Postgres;
use keepsake_tests::stack::throwaway_folder;

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port_with_its_data() -> Result<()> {
    let (folder, leash) = throwaway_folder()?;
    let mut postgres = Postgres::start(&folder, "secret", &leash).await?;
    let address = postgres.superuser_url();
    let mut connection = postgres.connect().await?;
    sqlx::query("CREATE TABLE kept AS SELECT 42 AS answer")
        .execute(&mut connection)
        .await?;

    postgres.kill();
    assert!(
        postgres.connect().await.is_err(),
        "the server still answers after kill -9"
    );
    postgres.restart().await?;

    let mut connection = postgres.connect().await?;
    let answer: i32 = sqlx::query_scalar("SELECT answer FROM kept")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(answer, 42);
    assert_eq!(postgres.superuser_url(), address);
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_refused() -> Result<()> {
    let (folder, leash) = throwaway_folder()?;
    let postgres = Postgres::start(&folder, "right", &leash).await?;
    let url = postgres.url("postgres", "wrong", "postgres");
    assert!(
        <sqlx::PgConnection as sqlx::Connection>::connect(&url)
            .await
            .is_err()
    );
    Ok(())
}

#[test]
fn nothing_outlives_the_leash() -> Result<()> {
    let (folder, leash) = throwaway_folder()?;
    // Ignores the polite signal, so that only the last resort ends it.
    let mut stubborn = Command::new("sh")
        .args(["-c", "trap '' INT; while :; do sleep 1; done"])
        .process_group(0)
        .spawn()?;
    leash.watch(stubborn.id());

    drop(leash);
    assert!(stubborn.try_wait()?.is_some(), "a watched process is left");
    assert!(!folder.exists(), "{} is left", folder.display());
    Ok(())
}

#[test]
fn a_released_group_is_left_alone() -> Result<()> {
    let mut bystander = Command::new("sleep")
        .arg("60")
        .stdout(Stdio::null())
        .spawn()?;
    let leash = Leash::new(None)?;
    leash.watch(bystander.id());
    leash.release(bystander.id());
    drop(leash);
    assert!(
        bystander.try_wait()?.is_none(),
        "a released process was ended"
    );
    bystander.kill()?;
    bystander.wait()?;
    Ok(())
}
