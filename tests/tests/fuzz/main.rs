//! Owners who do their worst: nothing that roles without special rights do to their own tables, rows and sessions
//! may bring the server down, raise an internal error, show where in its source the extension failed, or
//! give anybody rights.
//!
//! A seed names the roles that take part and the statements of each. Some cases run one step after the other, and so
//! always alike; the others run all sessions at once. Seeds from 2147483648 on stand for tables with archives. `KEEPSAKE_FUZZ_SEED` runs one seed; `KEEPSAKE_FUZZ_MINUTES` looks for
//! so long, does not stop at the first failure, and tells each kind once. What fails is shrunk and printed.

mod attacks;
mod calls;
mod case;
mod definitions;
mod errors;
mod generator;
mod hostile;
mod known;
mod open;
mod rows;
mod server;
mod session;
mod statement;
mod tally;
mod watcher;
mod words;
mod world;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use keepsake_tests::places::{POSTGRES_MAJOR, checkout, tested_majors};
use keepsake_tests::secrets::random;
use keepsake_tests::seeds::{Seeds, setting};
use keepsake_tests::shrink::fewest;

use crate::calls::Routine;
use crate::case::{Case, FIRST_ARCHIVE, Failure, Step};
use crate::known::{Known, kind};
use crate::server::Server;
use crate::tally::Tally;

/// How long to try the same seeds as always, on the stack's release, on the newest, and with archives.
const SECONDS: [u64; 3] = [60, 20, 45];
const NEWEST: u16 = 18;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_owner_brings_the_server_down_or_gains_rights() -> Result<()> {
    Search::start(POSTGRES_MAJOR).await?.go(1, SECONDS[0]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_one_on_the_newest_release() -> Result<()> {
    if !tested_majors()?.contains(&NEWEST) {
        return Ok(());
    }
    Search::start(NEWEST).await?.go(1, SECONDS[1]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_one_whose_rows_are_archived() -> Result<()> {
    Search::start(POSTGRES_MAJOR)
        .await?
        .go(FIRST_ARCHIVE, SECONDS[2])
        .await
}

struct Search {
    server: Arc<Server>,
    routines: Arc<Vec<Routine>>,
    tally: Tally,
    runs: usize,
    known: Known,
}

impl Search {
    async fn start(major: u16) -> Result<Self> {
        let server = Arc::new(Server::start(major).await?);
        let routines = Routine::all(&mut server.superuser("blank").await?).await?;
        Ok(Self {
            server,
            routines: Arc::new(routines),
            tally: Tally::default(),
            runs: 0,
            known: Known::default(),
        })
    }

    async fn go(mut self, first: u64, seconds: u64) -> Result<()> {
        let minutes = setting("KEEPSAKE_FUZZ_MINUTES")?;
        let wanted = setting("KEEPSAKE_FUZZ_SEED")?;
        if let (Some(seed), None) = (wanted, minutes) {
            self.try_seed(seed, None, false).await?;
            return self.conclude(1);
        }
        let time = Duration::from_secs(minutes.map_or(seconds, |minutes| minutes * 60));
        let file = checkout().join("tests/tests/fuzz/seeds");
        let kept = if first == FIRST_ARCHIVE {
            "archive"
        } else {
            "fuzz"
        };
        let mut seeds = Seeds::new(file, kept, wanted.unwrap_or(first), time)?;
        while let Some(seed) = seeds.next() {
            self.try_seed(seed, Some(&seeds), minutes.is_some()).await?;
        }
        // And one that nobody has seen.
        let seed = first | u64::from(u32::from_le_bytes(random()?) >> 1);
        self.try_seed(seed, Some(&seeds), minutes.is_some()).await?;
        self.conclude(seeds.tried() + 1)
    }

    /// Runs a case; one that fails is shrunk, told, and written down. When the search `goes_on`, only the first of a kind.
    async fn try_seed(&mut self, seed: u64, seeds: Option<&Seeds>, goes_on: bool) -> Result<()> {
        let case = Case::random(seed, &self.routines, &self.known);
        let Some(failure) = self.run(&case).await? else {
            return Ok(());
        };
        if self.known.meet(&failure.what) {
            return Ok(());
        }
        self.known.learn(&failure.what);
        let kind = kind(&failure.what);
        eprintln!("seed {seed} fails: {}", failure.what);
        if let Some(seeds) = seeds {
            seeds.keep(seed)?;
        }
        self.server.prepare(case.world()).await?;
        let smallest = self.shrink(&case, failure).await;
        eprintln!("KEEPSAKE_FUZZ_SEED={seed}\n{smallest}");
        if !goes_on {
            bail!("seed {seed} fails: {kind}; the smallest script is above");
        }
        Ok(())
    }

    /// A shorter script that fails in the same way, when the steps taken one after the other fail at all.
    async fn shrink(&mut self, case: &Case, failure: Failure) -> String {
        let kind = kind(&failure.what);
        let taken = case.until(&failure);
        let mut run = async |steps: &[Step]| match self.run(&taken.with_steps(steps)).await {
            Ok(Some(found)) if known::kind(&found.what) == kind => {
                let script = taken.until(&found).script();
                Err(format!("{}\n\n{script}", found.what))
            }
            _ => Ok(()),
        };
        match run(&taken.steps()).await {
            Err(first) => fewest(taken.steps(), first, run).await,
            Ok(()) => format!(
                "The steps one after the other do not fail; they began in this order:\n{}",
                taken.script()
            ),
        }
    }

    async fn run(&mut self, case: &Case) -> Result<Option<Failure>> {
        self.runs += 1;
        let name = format!("fuzz_{}", self.runs);
        case.run(&self.server, &name, &self.tally).await
    }

    fn conclude(&self, seeds: usize) -> Result<()> {
        eprintln!("{seeds} seeds: {}", self.tally);
        let kinds = self.known.all();
        for (kind, times) in &kinds {
            eprintln!("{times} times: {kind}");
        }
        if !kinds.is_empty() {
            bail!("{} kinds of failure, told above", kinds.len());
        }
        Ok(())
    }
}
