//! Several sessions side by side, under isolation levels of their own. What each may answer depends
//! on who came first; what holds when all are done does not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use sqlx::PgConnection;
use tokio::task::JoinSet;

use crate::database::{Answer, SHUT_DOWN, Server, ask, column, run};
use crate::invariants;
use crate::operation::{Kind, Operation, PURGES_RINGS, RESTORE_MISSES_NO_PARENT};
use crate::schema::Schema;
use crate::seeds::{FIRST_ARCHIVE, FIRST_WIDE};
use keepsake_tests::random::Random;

const SESSIONS: usize = 3;
const ROUNDS: usize = 24;
/// Rows of a table; few, so that sessions meet.
const NUMBERS: usize = 4;
const ISOLATION: [(usize, &str); 3] = [
    (3, "READ COMMITTED"),
    (2, "REPEATABLE READ"),
    (2, "SERIALIZABLE"),
];
const SETTINGS: &str =
    "SET lock_timeout = '3s'; SET statement_timeout = '20s'; SET deadlock_timeout = '40ms'";

#[derive(Clone, Copy, Debug)]
enum End {
    Commit,
    Abort,
    /// The backend is terminated in the middle of the last step.
    Kill,
}

/// One transaction of one session.
#[derive(Clone, Debug)]
struct Turn {
    session: usize,
    isolation: &'static str,
    steps: Vec<Step>,
    end: End,
}

#[derive(Clone, Debug)]
struct Step {
    operation: Operation,
    /// Within a savepoint, to which a failure rolls back.
    guarded: bool,
    /// Rolled back even when it succeeded.
    undone: bool,
}

/// A schema, and rounds of transactions that run at the same time.
#[derive(Clone)]
pub struct Case {
    schema: Arc<Schema>,
    rounds: Vec<Vec<Turn>>,
    /// The round in whose midst the whole server is killed.
    crash: Option<usize>,
    /// Whether each session acts under the claims of a tenant of its own.
    tenants: bool,
}

impl Step {
    fn random(random: &mut Random) -> Self {
        let mut operation = Operation::random(random);
        while matches!(
            operation.kind,
            Kind::Savepoint
                | Kind::RollbackToSavepoint
                | Kind::Commit
                | Kind::Abort
                | Kind::Kill
                | Kind::Release
        ) {
            operation = Operation::random(random);
        }
        Self {
            operation,
            guarded: random.one_in(3),
            undone: random.one_in(12),
        }
    }
}

impl Case {
    pub fn random(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let mut schema = Schema::random(random);
        let turn = |random: &mut Random, session| Turn {
            session,
            isolation: random.weighted(&ISOLATION),
            steps: (0..=random.below(4))
                .map(|_| Step::random(random))
                .collect(),
            end: random.weighted(&[(8, End::Commit), (1, End::Abort), (1, End::Kill)]),
        };
        let rounds = (0..ROUNDS)
            .map(|_| (0..SESSIONS).map(|at| turn(random, at)).collect())
            .collect();
        schema.choose_policies(random);
        schema.choose_overrides(random);
        let mut case = Self {
            schema: Arc::new(schema.clone()),
            rounds,
            crash: None,
            tenants: false,
        };
        if seed >= FIRST_WIDE {
            case.widen(random, schema);
        }
        if seed >= FIRST_ARCHIVE {
            Arc::make_mut(&mut case.schema).use_archives();
            for step in case
                .rounds
                .iter_mut()
                .flatten()
                .flat_map(|turn| &mut turn.steps)
            {
                step.operation.kind = step.operation.kind.of_archives();
            }
        }
        case
    }

    fn widen(&mut self, random: &mut Random, mut schema: Schema) {
        schema.choose_shapes(random, false);
        self.schema = Arc::new(schema);
        for turn in self.rounds.iter_mut().flatten() {
            for step in &mut turn.steps {
                step.operation.widen(random);
            }
        }
        self.crash = random.one_in(5).then(|| random.below(ROUNDS));
        self.tenants = random.one_in(2);
    }

    pub fn simpler(&self) -> Vec<Self> {
        let with = |rounds| Self {
            schema: Arc::clone(&self.schema),
            rounds,
            ..*self
        };
        let mut simpler: Vec<Self> = keepsake_tests::shrink::with_parts_left_out(&self.rounds)
            .into_iter()
            .map(with)
            .collect();
        for (at, round) in self.rounds.iter().enumerate() {
            for turn in 0..round.len() {
                let mut rounds = self.rounds.clone();
                rounds[at].remove(turn);
                simpler.push(with(rounds));
                for step in 0..round[turn].steps.len() {
                    let mut rounds = self.rounds.clone();
                    rounds[at][turn].steps.remove(step);
                    simpler.push(with(rounds));
                }
            }
        }
        simpler.extend(self.schema.simpler().into_iter().map(|schema| Self {
            schema: Arc::new(schema),
            rounds: self.rounds.clone(),
            ..*self
        }));
        if self.crash.is_some() {
            let mut other = self.clone();
            other.crash = None;
            simpler.push(other);
        }
        simpler
    }

    /// Runs it in the database `name`; the failure, if any, with what happened until then.
    pub async fn run(&self, server: &Arc<Server>, name: &str) -> Result<(), String> {
        let history = History::default();
        let ran = self.run_in(server, name, &history).await;
        let dropped = server.discard(name).await;
        ran.and(dropped).map_err(|error| {
            let ddl: Vec<String> = self.schema.ddl().iter().map(|sql| format!("{sql};")).collect();
            format!(
                "{error:#}\n\nCREATE EXTENSION keepsake;\n{}\n\n-- Before each statement the session that begins it; a comment says what came of it, when it did.\n{}\n",
                ddl.join("\n"),
                history.text()
            )
        })
    }

    async fn run_in(&self, server: &Arc<Server>, name: &str, history: &History) -> Result<()> {
        server.make(name, &self.schema).await?;
        let mut looker = server.connect(name).await?;
        for sql in invariants::record_objects(&self.schema) {
            run(&mut looker, &sql).await?;
        }
        self.fill(&mut looker, history).await?;
        let mut sessions: Vec<Option<PgConnection>> = (0..SESSIONS).map(|_| None).collect();
        for (number, round) in self.rounds.iter().enumerate() {
            history.push(format!("-- round {number}"));
            let mut playing = JoinSet::new();
            for turn in round {
                let player = Player {
                    server: Arc::clone(server),
                    schema: Arc::clone(&self.schema),
                    database: name.to_owned(),
                    history: history.clone(),
                    turn: turn.clone(),
                    round: number,
                    tenant: self.tenants.then_some(turn.session),
                };
                playing.spawn(player.play(sessions[turn.session].take()));
            }
            let crashes = self.crash == Some(number);
            if crashes {
                tokio::time::sleep(Duration::from_millis(number as u64 * 2)).await;
                history.push("-- the server is killed".to_owned());
                server.crash().await?;
            }
            while let Some(played) = playing.join_next().await {
                match played? {
                    Ok((session, connection)) => sessions[session] = connection,
                    Err(error) if crashes && is_lost(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            if crashes {
                sessions = (0..SESSIONS).map(|_| None).collect();
                looker = server.connect(name).await?;
            }
            self.check(&mut looker).await?;
        }
        self.settle(&mut looker, history).await
    }

    /// A few rows to begin with.
    async fn fill(&self, session: &mut PgConnection, history: &History) -> Result<()> {
        for table in 0..self.schema.tables.len() {
            for number in 1..NUMBERS {
                let references: Vec<Option<i32>> = self.schema.tables[table]
                    .references
                    .iter()
                    .map(|reference| {
                        let first = (number % 2) as i32;
                        (reference.required || reference.parent < table).then_some(first)
                    })
                    .collect();
                let cells = self.schema.cells(table, &references);
                let object = format!("first/{table}/{number}");
                let sql = self
                    .schema
                    .insert(table, number as i32, &cells, None, &object);
                history.push(format!("{sql};"));
                run(session, &sql).await?;
            }
        }
        Ok(())
    }

    async fn check(&self, looker: &mut PgConnection) -> Result<()> {
        let broken = column(looker, &invariants::broken(&self.schema)).await?;
        ensure!(broken.is_empty(), "{}", broken.join("\n"));
        Ok(())
    }

    /// In the end, without holds, everything that is deleted can go, and its objects with it.
    async fn settle(&self, looker: &mut PgConnection, history: &History) -> Result<()> {
        let release =
            "SELECT keepsake.release(id)::text FROM keepsake.hold WHERE released_at IS NULL";
        history.push(format!("{release};"));
        run(looker, release).await?;
        let purge = "SELECT keepsake.purge_batch(100000, now() + '2 hours')::text";
        history.push(format!("{purge};"));
        let report = column(looker, purge).await?.concat();
        ensure!(report.contains("\"failed\": 0"), "{purge} says {report}");
        self.check(looker).await?;
        let is_ring = |(table, at): (usize, &crate::schema::Table)| {
            at.references
                .iter()
                .any(|reference| reference.parent >= table)
        };
        if PURGES_RINGS || !self.schema.tables.iter().enumerate().any(is_ring) {
            let left = column(looker, &invariants::left_over(&self.schema)).await?;
            ensure!(left.is_empty(), "{}", left.join("\n"));
        }
        Ok(())
    }
}

/// Whether the connection or the server failed, not the statement.
fn is_lost(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| match cause.downcast_ref() {
        Some(sqlx::Error::Database(error)) => error.code().as_deref() == Some(SHUT_DOWN),
        Some(_) => true,
        None => false,
    })
}

/// What happened, in the order in which it was seen.
#[derive(Clone, Default)]
struct History(Arc<Mutex<Vec<String>>>);

impl History {
    fn push(&self, line: String) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }

    fn text(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .join("\n")
    }
}

/// One session in one round.
struct Player {
    server: Arc<Server>,
    schema: Arc<Schema>,
    database: String,
    history: History,
    turn: Turn,
    round: usize,
    tenant: Option<usize>,
}

impl Player {
    /// Plays its turn and gives the connection back, unless it was killed.
    async fn play(self, session: Option<PgConnection>) -> Result<(usize, Option<PgConnection>)> {
        let mut session = match session {
            Some(session) => session,
            None => {
                let mut session = self.server.connect(&self.database).await?;
                run(&mut session, SETTINGS).await?;
                if let Some(tenant) = self.tenant {
                    let claims =
                        format!("SET \"request.jwt.claims\" = '{{\"tenant\": \"t{tenant}\"}}'");
                    run(&mut session, &claims).await?;
                }
                session
            }
        };
        let begin = format!("BEGIN ISOLATION LEVEL {}", self.turn.isolation);
        self.say(&mut session, &begin).await?;
        for (number, step) in self.turn.steps.iter().enumerate() {
            let Some(sql) = self.render(number, &step.operation) else {
                continue;
            };
            let is_last = number + 1 == self.turn.steps.len();
            if is_last && matches!(self.turn.end, End::Kill) {
                self.be_killed(&mut session, &sql).await?;
                return Ok((self.turn.session, None));
            }
            if !self.step(&mut session, step, &sql).await? {
                self.say(&mut session, "ROLLBACK").await?;
                return Ok((self.turn.session, Some(session)));
            }
        }
        let end = match self.turn.end {
            End::Commit => "COMMIT",
            End::Abort | End::Kill => "ROLLBACK",
        };
        let answer = self.ask(&mut session, end).await?;
        check_refusal(Kind::Commit, end, &answer)?;
        Ok((self.turn.session, Some(session)))
    }

    /// Whether the transaction can go on.
    async fn step(&self, session: &mut PgConnection, step: &Step, sql: &str) -> Result<bool> {
        let guarded = step.guarded || step.undone;
        if guarded {
            self.say(session, "SAVEPOINT s").await?;
        }
        let answer = self.ask(session, sql).await?;
        check_refusal(step.operation.kind, sql, &answer)?;
        if guarded && (answer.is_err() || step.undone) {
            self.say(session, "ROLLBACK TO s").await?;
            return Ok(true);
        }
        Ok(answer.is_ok())
    }

    async fn be_killed(&self, session: &mut PgConnection, sql: &str) -> Result<()> {
        let pid = column(session, "SELECT pg_backend_pid()::text")
            .await?
            .concat();
        let kill = async {
            tokio::time::sleep(Duration::from_millis(self.round as u64 % 6)).await;
            self.server.terminate(&pid).await
        };
        self.history.push(format!(
            "/* {} */ {sql}; -- and is killed",
            self.turn.session
        ));
        // It may have answered before it died, or not.
        let (killed, _) = tokio::join!(kill, ask(session, sql));
        killed
    }

    /// Runs a statement that must succeed.
    async fn say(&self, session: &mut PgConnection, sql: &str) -> Result<()> {
        let answer = self.ask(session, sql).await?;
        ensure!(answer.is_ok(), "{sql} fails: {answer:?}");
        Ok(())
    }

    async fn ask(&self, session: &mut PgConnection, sql: &str) -> Result<Answer> {
        self.history
            .push(format!("/* {} */ {sql};", self.turn.session));
        let answer = ask(session, sql).await?;
        let outcome = match &answer {
            Ok(value) => value.clone().unwrap_or_else(|| "done".to_owned()),
            Err((code, message)) => format!("{code}: {message}"),
        };
        self.history
            .push(format!("-- {}: {outcome}", self.turn.session));
        Ok(answer)
    }

    /// The statement of one step; `None` when the schema has nothing to do it to.
    fn render(&self, step: usize, operation: &Operation) -> Option<String> {
        let schema = &self.schema;
        let managed = |wanted: bool| -> Vec<usize> {
            let numbers = 0..schema.tables.len();
            numbers
                .filter(|at| schema.tables[*at].managed == wanted)
                .collect()
        };
        let of_all: Vec<usize> = (0..schema.tables.len()).collect();
        let among = match operation.kind {
            Kind::Insert | Kind::Touch | Kind::Relabel | Kind::Reparent => of_all,
            Kind::DeleteUnmanaged => managed(false),
            Kind::Reattach => of_all
                .into_iter()
                .filter(|at| schema.tables[*at].partitioned)
                .collect(),
            _ => managed(true),
        };
        let table = *among.get(operation.subject % among.len().max(1))?;
        let of = &schema.tables[table];
        let number = 1 + (operation.picks[3] % NUMBERS) as i32;
        let to = |at: usize, pick: usize| {
            let may_be_null = !of.references[at].required && pick.is_multiple_of(4);
            (!may_be_null).then_some((pick / 4 % (NUMBERS + 1)) as i32)
        };
        let deletion = format!(
            "(SELECT id FROM keepsake.deletion WHERE state IN ('deleted', 'purging') ORDER BY deleted_at, id OFFSET {} LIMIT 1) AS d",
            operation.picks[0] % 4
        );
        let target = format!("{} WHERE n IN ({number}, {})", of.sql(), number + 1);
        Some(match operation.kind {
            Kind::Insert => {
                let references: Vec<Option<i32>> = (0..of.references.len())
                    .map(|at| to(at, operation.picks[at]))
                    .collect();
                let object = format!("{}/{}/{step}", self.round, self.turn.session);
                let cells = schema.cells(table, &references);
                schema.insert(table, number, &cells, operation.label, &object)
            }
            Kind::Touch => format!(
                "UPDATE {} SET plain = plain + 1 WHERE n = {number}",
                of.sql()
            ),
            Kind::Relabel => format!(
                "UPDATE {} SET label = {} WHERE n = {number}",
                of.sql(),
                operation
                    .label
                    .map_or_else(|| "NULL".to_owned(), |label| label.to_string())
            ),
            Kind::Reparent => {
                let at = operation.picks[0] % of.references.len().max(1);
                let reference = of.references.get(at)?;
                let mut cells = schema.cells(table, &[]);
                schema.point(&mut cells, table, at, to(at, operation.picks[1]));
                let sql = schema.reparent(table, number, at, &cells);
                if reference.declared && !RESTORE_MISSES_NO_PARENT {
                    format!("{sql} AND deleted_at IS NULL")
                } else {
                    sql
                }
            }
            Kind::SoftDelete => format!(
                "SELECT keepsake.soft_delete({}, {})::text",
                of.as_literal(),
                of.key_argument(number)
            ),
            Kind::DeleteUnmanaged => format!("DELETE FROM {} WHERE n = {number}", of.sql()),
            Kind::PlainDelete => format!("DELETE FROM {target}"),
            Kind::DeleteAll => format!("DELETE FROM {} WHERE n <> 0", of.sql()),
            Kind::MarkAll => format!("UPDATE {} SET deleted_at = now() WHERE n <> 0", of.sql()),
            Kind::Truncate => format!("TRUNCATE {} CASCADE", of.sql()),
            Kind::Reattach => schema.reattach(table, operation.picks[0] % 3),
            Kind::HoldTenant => {
                let tenant = operation.picks[0] % SESSIONS;
                format!("SELECT keepsake.hold_tenant('t{tenant}', 'a lawsuit')::text")
            }
            Kind::MarkDeleted => {
                let sql = target.replacen(" WHERE", " SET deleted_at = now() WHERE", 1);
                format!("UPDATE {sql} AND deleted_at IS NULL")
            }
            Kind::Restore => format!("SELECT keepsake.restore(d.id)::text FROM {deletion}"),
            Kind::RestoreSkipping => {
                format!("SELECT keepsake.restore(d.id, 'skip')::text FROM {deletion}")
            }
            Kind::HoldRow => format!(
                "SELECT keepsake.hold({}, {}, 'a lawsuit')::text",
                of.as_literal(),
                of.key_argument(number)
            ),
            Kind::HoldDeletion => {
                format!("SELECT keepsake.hold(d.id, 'a lawsuit')::text FROM {deletion}")
            }
            Kind::PurgeDeletion => {
                format!("SELECT keepsake.purge_deletion(d.id)::text FROM {deletion}")
            }
            Kind::PurgeBatch => {
                let most = [1, 3, 1000][operation.subject % 3];
                format!("SELECT keepsake.purge_batch({most})::text")
            }
            Kind::Savepoint
            | Kind::RollbackToSavepoint
            | Kind::Commit
            | Kind::Abort
            | Kind::Kill
            | Kind::Crash
            | Kind::Release => return None,
        })
    }
}

/// Fails when the refusal is not one that a race, a constraint or a deleted row explains.
fn check_refusal(kind: Kind, sql: &str, answer: &Answer) -> Result<()> {
    let Err((code, message)) = answer else {
        ensure!(kind != Kind::Truncate, "{sql} succeeds");
        return Ok(());
    };
    let class = code.get(..2).context("no SQLSTATE")?;
    let of_kind: &[&str] = match kind {
        // Another may purge the deletion meanwhile.
        Kind::Restore | Kind::RestoreSkipping | Kind::PurgeDeletion | Kind::HoldDeletion => {
            &["55000", "P0002"]
        }
        Kind::SoftDelete | Kind::HoldRow => &["P0002"],
        // The policy of the table, or of one that the foreign key leads to.
        Kind::PlainDelete | Kind::MarkDeleted | Kind::DeleteAll | Kind::MarkAll => &["55000"],
        // Rows whose keys are to be checked at the commit.
        Kind::Truncate => &["55000", "55006"],
        Kind::Reattach => &["55006"],
        _ => &[],
    };
    let is_expected = class == "23"
        || ["40001", "40P01", "55P03"].contains(&code.as_str())
        || of_kind.contains(&code.as_str());
    if is_expected {
        return Ok(());
    }
    bail!("{sql} fails with {code}: {message}")
}
