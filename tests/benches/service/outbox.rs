//! How fast the schedule deletes what is in the outbox.

use std::time::Instant;

use anyhow::{Result, ensure};
use keepsake_tests::stack::Stack;
use sqlx::Connection as _;

/// Objects in the outbox.
const OBJECTS: i32 = 5_000;

/// Lets the schedule delete what is in the outbox until nothing is left.
pub async fn drain(stack: &Stack) -> Result<()> {
    let mut database = stack.postgres.connect().await?;
    sqlx::query(
        "INSERT INTO keepsake.outbox (relation, object_key)
         SELECT 'attachments.attachment', 't/bench/post/1/' || keepsake.uuid_v7() || '.png' FROM generate_series(1, $1)",
    )
    .bind(OBJECTS)
    .execute(&mut database)
    .await?;
    let start = Instant::now();
    let (mut runs, mut left) = (0, i64::from(OBJECTS));
    while left > 0 && runs < 100 {
        stack.worker.run_schedule().await?;
        runs += 1;
        left = sqlx::query_scalar(
            "SELECT count(*) FROM keepsake.outbox WHERE object_key LIKE 't/bench/post/1/%'",
        )
        .fetch_one(&mut database)
        .await?;
    }
    database.close().await?;
    ensure!(left == 0, "{left} objects are left after {runs} runs");
    println!(
        "\ndraining the outbox: {:.0} objects a second, in {runs} runs of the schedule",
        f64::from(OBJECTS) / start.elapsed().as_secs_f64()
    );
    Ok(())
}
