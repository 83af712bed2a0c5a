//! What one seed stands for: who takes part, and what each does.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};
use keepsake_tests::random::Random;
use tokio::task::JoinSet;

use crate::calls::Routine;
use crate::generator::Generator;
use crate::known::Known;
use crate::server::Server;
use crate::session::Session;
use crate::statement::Statement;
use crate::tally::Tally;
use crate::watcher::{Watcher, alarms, is_crash};
use crate::world::{Role, World};

/// Phrases of a case, all sessions together.
const PHRASES: usize = 220;
/// How often the catalog is looked at, in statements of one after the other.
const LOOK: usize = 60;

/// From here on a seed stands for tables with archives.
pub const FIRST_ARCHIVE: u64 = 1 << 31;

const CASTS: [(usize, &[Role]); 6] = [
    (3, &[Role::OwnerA]),
    (3, &[Role::OwnerA, Role::Operator]),
    (2, &[Role::OwnerA, Role::Application]),
    (1, &[Role::OwnerA, Role::Worker, Role::Nobody]),
    (
        3,
        &[
            Role::OwnerA,
            Role::OwnerB,
            Role::Application,
            Role::Operator,
        ],
    ),
    (
        1,
        &[
            Role::OwnerA,
            Role::OwnerA,
            Role::Application,
            Role::Application,
            Role::Worker,
        ],
    ),
];

/// A statement, and whose.
#[derive(Clone, Debug)]
pub struct Step {
    session: usize,
    statement: Statement,
}

#[derive(Clone, Debug)]
pub struct Case {
    world: World,
    roles: &'static [Role],
    steps: Vec<Step>,
    /// All sessions at once, each at its own pace; else one step after the other, always in the same order.
    at_once: bool,
    known: Known,
}

/// What must not be, and how it came about.
#[derive(Clone, Debug)]
pub struct Failure {
    pub what: String,
    /// The steps that were taken, in the order in which they began.
    taken: Vec<Step>,
}

impl Case {
    pub fn random(seed: u64, routines: &Arc<Vec<Routine>>, known: &Known) -> Self {
        let random = &mut Random::new(seed);
        let mut world = World::random(random);
        world.archives = seed >= FIRST_ARCHIVE;
        let roles = random.weighted(&CASTS);
        let mut generators: Vec<Generator> = roles
            .iter()
            .map(|role| Generator::new(Random::new(random.next()), *role, Arc::clone(routines)))
            .collect();
        let mut steps = Vec::new();
        for _ in 0..PHRASES {
            let session = random.below(roles.len());
            let phrase = generators[session].next();
            steps.extend(
                phrase
                    .into_iter()
                    .map(|statement| Step { session, statement }),
            );
        }
        Self {
            world,
            roles,
            steps,
            at_once: roles.len() > 1 && random.one_in(3),
            known: known.clone(),
        }
    }

    /// The steps that led to a failure, one after the other.
    pub fn until(&self, failure: &Failure) -> Self {
        Self {
            steps: failure.taken.clone(),
            at_once: false,
            // What is shrunk must fail by what it failed of.
            known: self.known.without(&failure.what),
            ..self.clone()
        }
    }

    pub const fn world(&self) -> &World {
        &self.world
    }

    pub fn with_steps(&self, steps: &[Step]) -> Self {
        Self {
            steps: steps.to_vec(),
            ..self.clone()
        }
    }

    pub fn steps(&self) -> Vec<Step> {
        self.steps.clone()
    }

    /// Runs it in the database `name`. An error of the outer kind is the test's own.
    pub async fn run(
        &self,
        server: &Arc<Server>,
        name: &str,
        tally: &Tally,
    ) -> Result<Option<Failure>> {
        server.news()?;
        server.make(name, &self.world).await?;
        let mut watcher = Watcher::new(server, name).await?;
        let history = History::default();
        let ran = if self.at_once {
            self.run_at_once(server, name, tally, &history).await
        } else {
            self.run_in_turn(server, name, tally, &history, &mut watcher)
                .await
        };
        let verdict = match ran {
            Ok(()) => self.judge_all(server, &mut watcher).await,
            Err(error) => Err(error),
        };
        drop(watcher);
        server.discard(name).await?;
        let news = server.news()?;
        let crash = is_crash(&news)
            || verdict
                .as_ref()
                .is_err_and(|error| is_crash(&error.to_string()));
        if crash {
            tally.counts().restarts += 1;
        }
        let taken = history.all();
        let mut told: Vec<String> = alarms(&news)
            .into_iter()
            .filter(|line| is_crash(line) || !self.known.meet(line))
            .map(str::to_owned)
            .collect();
        match verdict {
            Ok(()) if told.is_empty() => return Ok(None),
            Ok(()) => {}
            Err(error) => told.splice(0..0, [format!("{error:#}")]).for_each(drop),
        }
        let what = told.join("\n");
        // Whatever else it looked like, it was the crash.
        let what = if crash {
            crash_told(&what, &taken)
        } else {
            what
        };
        Ok(Some(Failure { what, taken }))
    }

    async fn run_in_turn(
        &self,
        server: &Arc<Server>,
        name: &str,
        tally: &Tally,
        history: &History,
        watcher: &mut Watcher,
    ) -> Result<()> {
        let mut sessions = self.sessions(name, tally);
        for (at, step) in self.steps.iter().enumerate() {
            history.push(step);
            let goes_on = sessions[step.session]
                .perform(server, &step.statement)
                .await?;
            heed(server, &self.known)?;
            if !goes_on {
                server.wait_until_recovered().await?;
                heed(server, &self.known)?;
            }
            if at % LOOK == LOOK - 1 {
                self.judge(server, watcher).await?;
            }
        }
        Ok(())
    }

    async fn run_at_once(
        &self,
        server: &Arc<Server>,
        name: &str,
        tally: &Tally,
        history: &History,
    ) -> Result<()> {
        let mut playing = JoinSet::new();
        for (number, mut session) in self.sessions(name, tally).into_iter().enumerate() {
            let (server, history, known) =
                (Arc::clone(server), history.clone(), self.known.clone());
            let steps: Vec<Step> = self
                .steps
                .iter()
                .filter(|step| step.session == number)
                .cloned()
                .collect();
            playing.spawn(async move {
                for step in steps {
                    history.push(&step);
                    if !session.perform(&server, &step.statement).await? {
                        server.wait_until_recovered().await?;
                        heed(&server, &known)?;
                    }
                }
                Ok(())
            });
        }
        let mut outcome = Ok(());
        while let Some(played) = playing.join_next().await {
            let played: Result<()> = played?;
            outcome = outcome.and(played);
        }
        outcome
    }

    fn sessions(&self, name: &str, tally: &Tally) -> Vec<Session> {
        let session =
            |role: &Role| Session::new(*role, name.to_owned(), tally.clone(), self.known.clone());
        self.roles.iter().map(session).collect()
    }

    async fn judge(&self, server: &Server, watcher: &mut Watcher) -> Result<()> {
        heed(server, &self.known)?;
        let wrong = watcher.wrong().await?;
        match wrong.iter().any(|line| !self.known.meet(line)) {
            true => bail!("{}", wrong.join("\n")),
            false => Ok(()),
        }
    }

    async fn judge_all(&self, server: &Server, watcher: &mut Watcher) -> Result<()> {
        self.judge(server, watcher).await?;
        match watcher.others_can_work().await? {
            Some(wrong) if !self.known.meet(&wrong) => bail!("{wrong}"),
            _ => Ok(()),
        }
    }

    /// As a script for a person. All connect anew at first; a comment says who speaks.
    pub fn script(&self) -> String {
        let mut script =
            String::from("-- The database: CREATE EXTENSION keepsake, then as superuser:\n");
        let superusers = [self.world.database("fuzz"), self.world.grants()];
        for sql in superusers.concat() {
            let _ = writeln!(script, "{sql};");
        }
        for role in [Role::OwnerA, Role::OwnerB] {
            let _ = writeln!(script, "-- {}", role.name());
            for sql in self.world.tables(role) {
                let _ = writeln!(script, "{sql};");
            }
        }
        script.push_str("-- The steps; within a transaction most in a savepoint of their own (ON_ERROR_ROLLBACK).\n");
        let mut speaks = None;
        for step in &self.steps {
            if speaks != Some(step.session) {
                let _ = writeln!(
                    script,
                    "-- session {} of {}",
                    step.session,
                    self.roles[step.session].name()
                );
                speaks = Some(step.session);
            }
            let _ = writeln!(script, "{}", step.statement.sql());
        }
        script
    }
}

/// What the log tells of a crash, its cause first; where it gives none, what was being done.
fn crash_told(told: &str, taken: &[Step]) -> String {
    let cause = told
        .lines()
        .find(|line| line.contains("PANIC:") || line.contains("TRAP:"));
    let signal = told.lines().find(|line| line.contains("by signal"));
    let doing = || {
        let last = taken.last().map(|step| step.statement.sql());
        let words: Vec<String> = last
            .iter()
            .flat_map(|sql| sql.split(['(', ' ']).take(2))
            .map(str::to_owned)
            .collect();
        format!("{}, in {}", signal.unwrap_or("a crash"), words.join(" "))
    };
    let first = cause.map_or_else(doing, str::to_owned);
    format!("{first}\n{told}")
}

/// Fails when the log tells of what must not be.
fn heed(server: &Server, known: &Known) -> Result<()> {
    let news = server.news()?;
    let alarms = alarms(&news);
    let is_new = |line: &&str| is_crash(line) || !known.meet(line);
    if alarms.iter().any(is_new) {
        bail!("{}", alarms.join("\n"));
    }
    Ok(())
}

#[derive(Clone, Default)]
struct History(Arc<Mutex<Vec<Step>>>);

impl History {
    fn push(&self, step: &Step) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(step.clone());
    }

    fn all(&self) -> Vec<Step> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
