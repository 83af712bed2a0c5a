//! PostgreSQL as the oracle: random statements run in a database where nothing is managed and in one where every table
//! is, and everything that a client can see is compared: rows, counts, notices, every field of every error, what the tables hold
//! and how they are defined. Then rows are removed and restored, and the tables must be what they were, byte for byte.
//!
//! `KEEPSAKE_DIFFERENTIAL_SEED` runs one seed; `KEEPSAKE_DIFFERENTIAL_MINUTES` looks for so long, does not stop at the
//! first difference, and tells each kind once. What differs is shrunk and printed.
//! Where rows are kept in place, what works otherwise is left out (`docs/compatibility.md`).
//! `KEEPSAKE_DIFFERENTIAL_KEEP=nothing` leaves both sides alone, to show that the test itself makes no difference.

mod answer;
mod case;
mod code;
mod columns;
mod ddl;
mod restoring;
mod rows;
mod schema;
mod server;
mod statements;
mod tally;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use keepsake_tests::places::{POSTGRES_MAJOR, checkout, tested_majors};
use keepsake_tests::secrets::random;
use keepsake_tests::seeds::{Seeds, setting};
use keepsake_tests::shrink::fewest;

use crate::case::{Case, Difference, Keep, Mode};
use crate::server::Server;
use crate::tally::Tally;

/// How long to look for differences, on the stack's release and on the newest.
const SECONDS_ARCHIVE: [u64; 2] = [60, 50];
const SECONDS_IN_PLACE: [u64; 2] = [30, 25];
/// How many seeds, at most.
const SEEDS: usize = 16;
const NEWEST: u16 = 18;

#[tokio::test]
async fn nobody_notices_the_archive() -> Result<()> {
    search(Mode::Archive, POSTGRES_MAJOR, SECONDS_ARCHIVE[0]).await
}

#[tokio::test]
async fn nobody_notices_the_archive_on_the_newest_release() -> Result<()> {
    on_the_newest(Mode::Archive, SECONDS_ARCHIVE[1]).await
}

#[tokio::test]
async fn nobody_notices_rows_in_place() -> Result<()> {
    search(Mode::InPlace, POSTGRES_MAJOR, SECONDS_IN_PLACE[0]).await
}

#[tokio::test]
async fn nobody_notices_rows_in_place_on_the_newest_release() -> Result<()> {
    on_the_newest(Mode::InPlace, SECONDS_IN_PLACE[1]).await
}

async fn on_the_newest(mode: Mode, seconds: u64) -> Result<()> {
    if !tested_majors()?.contains(&NEWEST) {
        return Ok(());
    }
    search(mode, NEWEST, seconds).await
}

fn keep(mode: Mode) -> Result<Keep> {
    let mode = match mode {
        Mode::Archive => Keep::Archive,
        Mode::InPlace => Keep::InPlace,
    };
    match std::env::var("KEEPSAKE_DIFFERENTIAL_KEEP").as_deref() {
        Err(_) => Ok(mode),
        Ok("nothing") => Ok(Keep::Nothing),
        Ok(other) => bail!("KEEPSAKE_DIFFERENTIAL_KEEP is not nothing: {other}"),
    }
}

async fn search(mode: Mode, major: u16, seconds: u64) -> Result<()> {
    let server = Server::start(major).await?;
    let keep = keep(mode)?;
    let minutes = setting("KEEPSAKE_DIFFERENTIAL_MINUTES")?;
    let wanted = setting("KEEPSAKE_DIFFERENTIAL_SEED")?;
    let mut tally = Tally::default();
    let mut runs = 0;
    let seeds: Box<dyn Iterator<Item = u64>> = match (wanted, minutes) {
        (Some(seed), None) => Box::new(std::iter::once(seed)),
        _ => {
            let time = Duration::from_secs(minutes.map_or(seconds, |minutes| minutes * 60));
            let file = checkout().join("tests/tests/differential/seeds");
            let seeds = Seeds::new(file, mode.name(), wanted.unwrap_or(1), time)?;
            // And, in a long search, one that nobody has seen. A short one ends at the same seed on a fast machine.
            let unseen = minutes.map(|_| random()).transpose()?;
            let unseen = unseen.map(|bytes| u64::from(u32::from_le_bytes(bytes)));
            let most = minutes.map_or(SEEDS, |_| usize::MAX);
            Box::new(seeds.take(most).chain(unseen))
        }
    };
    let mut tried = 0;
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for seed in seeds {
        tried += 1;
        runs += 1;
        let case = Case::random(seed, mode, keep, major);
        let Some(difference) = case.run(&server, runs, &mut tally).await? else {
            continue;
        };
        let seen = kinds.entry(difference.kind()).or_default();
        *seen += 1;
        if *seen == 1 {
            let smallest = shrink(&server, &case, difference, &mut runs).await;
            eprintln!("KEEPSAKE_DIFFERENTIAL_SEED={seed} on PostgreSQL {major}\n{smallest}\n");
        }
        if minutes.is_none() {
            break;
        }
    }
    eprintln!(
        "{}: {tried} seeds on PostgreSQL {major}: {tally}",
        mode.name()
    );
    for (kind, times) in &kinds {
        eprintln!("{times} times: {kind}");
    }
    if !kinds.is_empty() {
        bail!(
            "{} kinds of difference on PostgreSQL {major}, told above",
            kinds.len()
        );
    }
    Ok(())
}

/// The fewest statements that show the difference as well.
async fn shrink(server: &Server, case: &Case, difference: Difference, runs: &mut usize) -> String {
    let kind = difference.kind();
    let told = |case: &Case, difference: &Difference| {
        format!(
            "{}\n\n{}",
            difference.what,
            case.script_for_people(difference)
        )
    };
    let failure = told(case, &difference);
    let shortened = case.until(&difference);
    let mut run = async |steps: &[String]| {
        *runs += 1;
        let case = shortened.with_steps(steps);
        match case.run(server, *runs, &mut Tally::default()).await {
            Ok(Some(found)) if found.kind() == kind => Err(told(&case, &found)),
            _ => Ok(()),
        }
    };
    // Most that goes wrong in a restore does so without anything before.
    if let Err(smallest) = run(&[]).await {
        return smallest;
    }
    fewest(shortened.steps(), failure, run).await
}
