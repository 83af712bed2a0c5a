//! The engine against a model: random schemas, random operations.
//!
//! `sequential`: one session, compared with an oracle after every step. `concurrent`: several
//! sessions side by side, and after each round the invariants, asked of the database itself; and the same
//! once more where deleted rows go to archives (seeds from 2147483648 on).
//!
//! `KEEPSAKE_MODEL_SECONDS` says how long each of them looks for failures (20), and
//! `KEEPSAKE_MODEL_SEED` the first seed (always the same, so that every run is the same). A seed that failed is
//! written to the file `seeds` beside this one; those are tried first. What fails is shrunk and
//! printed as SQL.

mod concurrent;
mod database;
mod invariants;
mod operation;
mod oracle;
mod pair;
mod schema;
mod seeds;
mod sequential;

use std::sync::Arc;

use anyhow::{Result, bail};
use keepsake_tests::seeds::Seeds;
use keepsake_tests::shrink::shrink;

use crate::database::Server;
use crate::seeds::{FIRST_ARCHIVE, FIRST_WIDE};

#[tokio::test]
async fn one_session_does_what_the_oracle_does() -> Result<()> {
    use sequential::Case;
    let server = Server::start().await?;
    let mut seeds = seeds::of("sequential", FIRST_WIDE)?;
    let mut runs = 0;
    while let Some(seed) = seeds.next() {
        let case = Case::random(seed);
        let mut run = async |case: &Case| {
            runs += 1;
            case.run(&server, &format!("sequential_{runs}")).await
        };
        if let Err(failure) = run(&case).await {
            seeds.keep(seed)?;
            let failure = shrink(case, failure, Case::simpler, run).await;
            eprintln!("{failure}");
            bail!("sequential seed {seed} fails; the smallest script is above");
        }
    }
    eprintln!("{} sequences of one session", seeds.tried());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_side_by_side_keep_the_invariants() -> Result<()> {
    side_by_side(seeds::of("concurrent", FIRST_WIDE)?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_those_of_archives() -> Result<()> {
    side_by_side(seeds::of("archive", FIRST_ARCHIVE)?).await
}

async fn side_by_side(mut seeds: Seeds) -> Result<()> {
    use concurrent::Case;
    let server = Arc::new(Server::start().await?);
    let mut runs = 0;
    while let Some(seed) = seeds.next() {
        let case = Case::random(seed);
        let mut run = async |case: &Case| {
            runs += 1;
            case.run(&server, &format!("concurrent_{runs}")).await
        };
        if let Err(failure) = run(&case).await {
            seeds.keep(seed)?;
            let failure = shrink(case, failure, Case::simpler, run).await;
            eprintln!("{failure}");
            bail!("concurrent seed {seed} fails; the smallest history is above");
        }
    }
    eprintln!("{} sequences of sessions side by side", seeds.tried());
    Ok(())
}
