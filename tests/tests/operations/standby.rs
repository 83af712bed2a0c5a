//! A hot standby answers what only reads, and says of the rest that it cannot write.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::places::outer_majors;
use sqlx::PgConnection;

use crate::world::{DATABASE, Server, ask, check_invariants, contents, expect, refusal, run};

const READ_ONLY: &str = "25006";
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_standby_answers_what_only_reads() -> Result<()> {
    for major in outer_majors()? {
        read_on_a_standby(major)
            .await
            .with_context(|| format!("on PostgreSQL {major}"))?;
    }
    Ok(())
}

async fn read_on_a_standby(major: u16) -> Result<()> {
    let primary = Server::with_forum(major).await?;
    let standby = primary.standby().await?;
    let (mut here, mut there) = (
        primary.connect_to(DATABASE).await?,
        standby.connect_to(DATABASE).await?,
    );
    run(
        &mut here,
        "SELECT keepsake.soft_delete('post', 52);
         INSERT INTO post VALUES (60, 5, 'POST 2')",
    )
    .await?;
    wait_for_replay(&mut here, &mut there).await?;

    assert_eq!(contents(&mut there).await?, contents(&mut here).await?);
    check_invariants(&mut there).await?;
    let conflicts = "SELECT string_agg(to_jsonb(c)::text, ' ') FROM keepsake.deletion d, keepsake.restore_conflicts(d.id) c
                     WHERE d.root_key = '{\"id\": 52}'";
    let found = ask(&mut there, conflicts).await?;
    assert!(found.contains("post_slug"), "{found}");
    assert_eq!(found, ask(&mut here, conflicts).await?);
    expect(
        &mut there,
        "SELECT keepsake.sanitize_filename('a/b.txt')",
        "b.txt",
    )
    .await?;

    for writing in [
        "SELECT keepsake.soft_delete('thread', 5)",
        "SELECT keepsake.restore(id) FROM keepsake.deletion WHERE state = 'deleted'",
        "SELECT keepsake.purge_batch(1)",
        "SELECT keepsake.purge_deletion(id) FROM keepsake.deletion WHERE state = 'deleted'",
        "SELECT keepsake.manage('pin')",
        "SELECT * FROM keepsake.lease_objects(1, '1 minute')",
        "CALL keepsake.purge()",
        "DELETE FROM thread",
    ] {
        assert_eq!(refusal(&mut there, writing).await?, READ_ONLY, "{writing}");
    }
    Ok(())
}

async fn wait_for_replay(primary: &mut PgConnection, standby: &mut PgConnection) -> Result<()> {
    let written = ask(primary, "SELECT pg_current_wal_lsn()").await?;
    let deadline = Instant::now() + PATIENCE;
    while ask(
        standby,
        &format!("SELECT pg_last_wal_replay_lsn() >= '{written}'"),
    )
    .await?
        != "true"
    {
        ensure!(Instant::now() < deadline, "the standby does not follow");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
