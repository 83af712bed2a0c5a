//! One session and the oracle side by side: after each step the two must agree in everything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::rc::Rc;

use anyhow::{Context as _, Result, bail, ensure};
use sqlx::PgConnection;

use crate::database::{Answer, Server, ask, column, run};
use crate::operation::{Kind, Operation, RESTORE_MISSES_NO_PARENT, RESTORE_SEES_HELD_PARENTS};
use crate::oracle::{Hold, Oracle, Refusals, Row, RowId, State};
use crate::random::Random;
use crate::schema::{MOST_ROWS, Policy, Schema, literal};

const STEPS: usize = 60;
const ISOLATION: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

/// A schema and what is done to it.
#[derive(Clone)]
pub struct Case {
    pub schema: Schema,
    isolation: &'static str,
    operations: Vec<Operation>,
}

impl Case {
    pub fn random(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let mut case = Self {
            schema: Schema::random(random),
            isolation: random.one_of(&ISOLATION),
            operations: (0..STEPS).map(|_| Operation::random(random)).collect(),
        };
        case.schema.choose_policies(random);
        case
    }

    /// Smaller cases, the much smaller ones first.
    pub fn simpler(&self) -> Vec<Self> {
        let fewer = crate::shrink::with_parts_left_out(&self.operations);
        let fewer = fewer.into_iter().map(|operations| Self {
            operations,
            ..self.clone()
        });
        let schemas = self.schema.simpler().into_iter().map(|schema| Self {
            schema,
            ..self.clone()
        });
        fewer.chain(schemas).collect()
    }

    /// Runs it in the database `name`; the failure, if any, with a script that shows it.
    pub async fn run(&self, server: &Server, name: &str) -> Result<(), String> {
        let mut script = vec![
            "\\set ON_ERROR_ROLLBACK on".to_owned(),
            "CREATE EXTENSION keepsake;".to_owned(),
        ];
        script.extend(self.schema.ddl().iter().map(|sql| format!("{sql};")));
        let ran = self.run_in(server, name, &mut script).await;
        let dropped = server.discard(name).await;
        ran.and(dropped)
            .map_err(|error| format!("{error:#}\n\n{}\n", script.join("\n")))
    }

    async fn run_in(&self, server: &Server, name: &str, script: &mut Vec<String>) -> Result<()> {
        server.make(name, &self.schema).await?;
        let oracle = Oracle::new(Rc::new(self.schema.clone()));
        let mut pair = Pair {
            server,
            name,
            begin: format!("BEGIN ISOLATION LEVEL {}", self.isolation),
            session: server.connect(name).await?,
            known: vec![vec![0]; self.schema.tables.len()],
            last_number: 0,
            names: BTreeMap::new(),
            savepoints: Vec::new(),
            committed: oracle.clone(),
            oracle,
            script,
        };
        let begin = pair.begin.clone();
        pair.say(&begin).await?;
        for operation in &self.operations {
            pair.step(operation).await?;
            pair.compare().await?;
        }
        Ok(())
    }
}

struct Pair<'a> {
    server: &'a Server,
    name: &'a str,
    begin: String,
    session: PgConnection,
    oracle: Oracle,
    committed: Oracle,
    savepoints: Vec<Oracle>,
    /// The numbers of the rows that each table ever had: also those purged, to refer to in vain.
    known: Vec<Vec<i32>>,
    last_number: i32,
    /// The psql variable that stands for the id of each deletion in the script.
    names: BTreeMap<String, String>,
    script: &'a mut Vec<String>,
}

const REGISTRY_LINES: &str = r#"
    SELECT format('deletion %s %s %s', d.id, d.state, coalesce(
        (SELECT string_agg(value, '/' ORDER BY key COLLATE "C") FROM jsonb_each_text(d.root_key)), 'several'))
    FROM keepsake.deletion d
    UNION ALL
    SELECT format('holds %s %s of "%s"."%s"', h.deletion_id, h.row_count - h.purged,
                  replace(n.nspname, '"', '""'), replace(c.relname, '"', '""'))
    FROM keepsake.deletion_table h JOIN keepsake.deletion d ON d.id = h.deletion_id
    JOIN pg_class c ON c.oid = h.relation JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE d.state IN ('deleted', 'purging') AND h.row_count <> h.purged
    UNION ALL
    SELECT 'object ' || object_key FROM keepsake.outbox"#;

/// Fails unless the answer is as the oracle said.
fn expect(what: impl Debug, answer: &Answer, refusals: &Refusals) -> Result<()> {
    let agree = match answer {
        Ok(_) => refusals.is_empty(),
        Err((code, _)) => refusals.contains(code.as_str()),
    };
    ensure!(
        agree,
        "{what:?} answers {answer:?}, but should {}",
        if refusals.is_empty() {
            "succeed".to_owned()
        } else {
            format!("fail with one of {refusals:?}")
        }
    );
    Ok(())
}

fn pick<T: Copy>(among: &[T], at: usize) -> Option<T> {
    among.get(at % among.len().max(1)).copied()
}

impl Pair<'_> {
    async fn step(&mut self, operation: &Operation) -> Result<()> {
        match operation.kind {
            Kind::Insert => self.insert(operation).await,
            Kind::Touch => self.change(operation, |row| row.plain += 1).await,
            Kind::Relabel => {
                self.change(operation, |row| row.label = operation.label)
                    .await
            }
            Kind::Reparent => self.reparent(operation).await,
            Kind::SoftDelete => self.soft_delete(operation).await,
            Kind::DeleteUnmanaged => self.delete_unmanaged(operation).await,
            Kind::PlainDelete => {
                let template = match operation.picks[2] % 3 {
                    0 => "WITH gone AS (DELETE FROM {table} WHERE n IN ({rows}) RETURNING n) SELECT count(*)::text FROM gone",
                    _ => "DELETE FROM {table} WHERE n IN ({rows})",
                };
                self.delete_several(operation, template).await
            }
            Kind::MarkDeleted => {
                self.delete_several(
                    operation,
                    "UPDATE {table} SET deleted_at = now() WHERE n IN ({rows}) AND deleted_at IS NULL",
                )
                .await
            }
            Kind::Restore => self.restore(operation).await,
            Kind::RestoreSkipping => self.restore_skipping(operation).await,
            Kind::HoldRow | Kind::HoldDeletion => self.hold(operation).await,
            Kind::Release => self.release(operation).await,
            Kind::PurgeDeletion => self.purge_deletion(operation).await,
            Kind::PurgeBatch => self.purge_batch(operation).await,
            Kind::Savepoint => self.savepoint().await,
            Kind::RollbackToSavepoint => self.rollback_to_savepoint().await,
            Kind::Commit => self.commit().await,
            Kind::Abort => self.abort().await,
            Kind::Kill => self.kill().await,
        }
    }

    async fn insert(&mut self, operation: &Operation) -> Result<()> {
        let table = operation.subject % self.known.len();
        if self.last_number + 1 >= MOST_ROWS {
            return Ok(());
        }
        self.last_number += 1;
        let id = (table, self.last_number);
        let schema = Rc::clone(&self.oracle.schema);
        let mut references = Vec::new();
        self.known[table].push(id.1);
        for (reference, at) in schema.tables[table].references.iter().zip(operation.picks) {
            let to = self.pick_parent(reference.parent, at / 4);
            references.push(to.filter(|_| reference.required || !at.is_multiple_of(4)));
        }
        let object = Oracle::object(id);
        let sql = schema.insert(table, id.1, &references, operation.label, &object);
        let row = Row {
            references,
            label: operation.label,
            plain: 0,
            deletion: None,
        };
        self.put(&sql, id, row).await
    }

    async fn put(&mut self, sql: &str, id: RowId, row: Row) -> Result<()> {
        let refusals = self.oracle.put(id, row);
        let answer = self.attempt(sql).await?;
        expect(sql, &answer, &refusals)
    }

    async fn change(&mut self, operation: &Operation, change: impl Fn(&mut Row)) -> Result<()> {
        let Some((id, mut row)) = self.pick_row(operation.subject, |_| true) else {
            return Ok(());
        };
        change(&mut row);
        let label = row
            .label
            .map_or_else(|| "NULL".to_owned(), |label| label.to_string());
        let sql = format!(
            "UPDATE {} SET label = {label}, plain = {} WHERE n = {}",
            self.oracle.schema.tables[id.0].sql(),
            row.plain,
            id.1
        );
        self.put(&sql, id, row).await
    }

    async fn reparent(&mut self, operation: &Operation) -> Result<()> {
        let schema = Rc::clone(&self.oracle.schema);
        let refers = |(table, _): RowId| !schema.tables[table].references.is_empty();
        let Some((id, mut row)) = self.pick_row(operation.subject, refers) else {
            return Ok(());
        };
        let references = &schema.tables[id.0].references;
        let at = operation.picks[0] % references.len();
        let to = self.pick_parent(references[at].parent, operation.picks[1] / 4);
        let to = to.filter(|_| references[at].required || !operation.picks[1].is_multiple_of(4));
        // A row that stays where it is, be it under a deleted parent, is nobody's business.
        if row.references[at] == to {
            return Ok(());
        }
        let parent = to.map(|number| (references[at].parent, number));
        let is_missing = parent.is_some_and(|id| !self.oracle.rows.contains_key(&id));
        if is_missing
            && references[at].declared
            && row.deletion.is_some()
            && !RESTORE_MISSES_NO_PARENT
        {
            return Ok(());
        }
        row.references[at] = to;
        let sql = schema.reparent(id.0, id.1, at, to);
        self.put(&sql, id, row).await
    }

    async fn soft_delete(&mut self, operation: &Operation) -> Result<()> {
        let schema = Rc::clone(&self.oracle.schema);
        let managed = |(table, _): RowId| schema.tables[table].managed;
        let Some((id, row)) = self.pick_row(operation.subject, managed) else {
            return Ok(());
        };
        let table = &schema.tables[id.0];
        let sql = format!(
            "SELECT keepsake.soft_delete({}, {})::text AS {}",
            table.as_literal(),
            table.key_argument(id.1),
            self.next_name()
        );
        let refusals = match row.deletion {
            Some(_) => Refusals::new(),
            None => self.oracle.delete(&[id]),
        };
        let answer = self.attempt(&sql).await?;
        expect(&sql, &answer, &refusals)?;
        let Ok(Some(made)) = answer else {
            return Ok(());
        };
        match row.deletion {
            Some(deletion) => ensure!(
                self.oracle.deletions[deletion].id == made,
                "{sql} answers {made}, another deletion than the row's"
            ),
            None => self.name_deletion(made),
        }
        Ok(())
    }

    /// One statement that deletes several rows.
    async fn delete_several(&mut self, operation: &Operation, template: &str) -> Result<()> {
        let schema = Rc::clone(&self.oracle.schema);
        let managed = |(table, _): RowId| schema.tables[table].managed;
        if operation.picks[2].is_multiple_of(4) {
            self.begin_afresh().await?;
        }
        let Some((first, _)) = self.pick_row(operation.subject, managed) else {
            return Ok(());
        };
        let same_table = |(table, _): RowId| table == first.0;
        let further = operation.picks[..operation.picks[3] % 3].iter();
        let further = further.filter_map(|at| self.pick_row(*at, same_table));
        let rows: BTreeSet<RowId> = further.map(|(id, _)| id).chain([first]).collect();
        let numbers: Vec<String> = rows.iter().map(|(_, number)| number.to_string()).collect();
        let sql = template
            .replace("{table}", &schema.tables[first.0].sql())
            .replace("{rows}", &numbers.join(", "));
        let live: Vec<RowId> = rows
            .into_iter()
            .filter(|id| self.oracle.is_live(*id))
            .collect();
        let policy = schema.tables[first.0].policy;
        if policy == Policy::Allow && operation.kind == Kind::PlainDelete {
            return self.delete_for_good(&sql, &live).await;
        }
        let refusals = if live.is_empty() {
            Refusals::new()
        } else if policy == Policy::Reject {
            Refusals::from(["55000"])
        } else {
            self.oracle.delete(&live)
        };
        let answer = self.attempt(&sql).await?;
        expect(&sql, &answer, &refusals)?;
        if answer.is_ok() && !live.is_empty() {
            let made = self.marks().await?.remove(&live[0]);
            let made = made.with_context(|| format!("{sql} removes {:?} for good", live[0]))?;
            self.script.push(format!(
                "SELECT deletion_id AS {} FROM {} WHERE n = {} \\gset",
                self.next_name(),
                schema.tables[first.0].sql(),
                live[0].1
            ));
            self.name_deletion(made);
        }
        Ok(())
    }

    /// A plain `DELETE` that the policy lets through; only of rows that nothing refers to, the rest
    /// being PostgreSQL's business.
    async fn delete_for_good(&mut self, sql: &str, live: &[RowId]) -> Result<()> {
        let is_free =
            |id: &RowId| !self.oracle.is_referred_to(*id) && !self.oracle.is_held_legally(*id);
        if !live.iter().all(is_free) {
            return Ok(());
        }
        let answer = self.attempt(sql).await?;
        expect(sql, &answer, &Refusals::new())?;
        self.oracle.remove(&live.iter().copied().collect());
        Ok(())
    }

    async fn delete_unmanaged(&mut self, operation: &Operation) -> Result<()> {
        let schema = Rc::clone(&self.oracle.schema);
        let unmanaged = |(table, _): RowId| !schema.tables[table].managed;
        let Some((id, _)) = self.pick_row(operation.subject, unmanaged) else {
            return Ok(());
        };
        let table = schema.tables[id.0].sql();
        let sql = format!("DELETE FROM {table} WHERE n = {}", id.1);
        let refusals = self.oracle.delete_for_good(id);
        let answer = self.attempt(&sql).await?;
        expect(&sql, &answer, &refusals)
    }

    async fn restore(&mut self, operation: &Operation) -> Result<()> {
        let Some(deletion) = self.pick_deletion(operation.subject) else {
            return Ok(());
        };
        let id = literal(&self.oracle.deletions[deletion].id);
        let sql = format!("SELECT keepsake.restore({id})::text");
        let refusals = match self.oracle.deletions[deletion].state {
            State::Deleted => return self.restore_open(deletion, &sql).await,
            State::Restored => Refusals::new(),
            // Its root may be gone, and with it whom to ask for leave.
            State::Purging => Refusals::from(["55000", "P0002"]),
            State::Purged => Refusals::from(["55000"]),
        };
        let answer = self.attempt(&sql).await?;
        expect(&sql, &answer, &refusals)
    }

    async fn restore_open(&mut self, deletion: usize, sql: &str) -> Result<()> {
        let plan = self.oracle.restoration(deletion);
        if self.oracle.need(&plan.restored, &plan.held) && !RESTORE_SEES_HELD_PARENTS {
            return Ok(());
        }
        let id = literal(&self.oracle.deletions[deletion].id);
        let count = format!("SELECT count(*)::text FROM keepsake.restore_conflicts({id})");
        let reported = self.attempt(&count).await?;
        ensure!(
            (reported == Ok(Some("0".to_owned()))) == plan.conflicting.is_empty(),
            "restore_conflicts tells of {reported:?}, but these cannot be live: {:?}",
            plan.conflicting
        );
        let answer = self.attempt(sql).await?;
        let refusals = if plan.conflicting.is_empty() {
            Refusals::new()
        } else {
            Refusals::from(["23000"])
        };
        expect(sql, &answer, &refusals)?;
        let Ok(report) = answer else { return Ok(()) };
        let report = report.unwrap_or_default();
        ensure!(
            rows_in(&report, "restored")? == plan.restored.len()
                && rows_in(&report, "passed")? == plan.held.len(),
            "{sql} reports {report}, but should restore {:?} and pass {:?}",
            plan.restored,
            plan.held
        );
        self.adopt_passed(deletion, &plan.restored, &plan.held)
            .await
    }

    /// Several deletions may hold a row; which of them it passes to is the engine's choice.
    async fn adopt_passed(
        &mut self,
        deletion: usize,
        restored: &BTreeSet<RowId>,
        held: &BTreeSet<RowId>,
    ) -> Result<()> {
        let marks = self.marks().await?;
        let mut passed = BTreeMap::new();
        for id in held {
            let mark = marks.get(id).context("a passed row is gone")?;
            let holder = (0..self.oracle.deletions.len())
                .find(|at| self.oracle.deletions[*at].id == *mark)
                .with_context(|| format!("row {id:?} passed to {mark}, which is no deletion"))?;
            passed.insert(*id, holder);
        }
        self.oracle.revive(deletion, restored, &passed);
        for (id, holder) in passed {
            // With a root that conflicts nothing comes back, nor passes.
            if holder == deletion && restored.is_empty() {
                continue;
            }
            ensure!(
                self.oracle.may_pass_to(id, holder),
                "row {id:?} passed to the deletion {}, which holds none of its parents",
                self.oracle.deletions[holder].id
            );
        }
        Ok(())
    }

    async fn restore_skipping(&mut self, operation: &Operation) -> Result<()> {
        let Some(deletion) = self.pick_deletion(operation.subject) else {
            return Ok(());
        };
        if self.oracle.deletions[deletion].state != State::Deleted {
            return Ok(());
        }
        let plan = self.oracle.restoration(deletion);
        let id = literal(&self.oracle.deletions[deletion].id);
        let sql = format!("SELECT keepsake.restore({id}, 'skip')::text");
        let answer = self.attempt(&sql).await?;
        expect(&sql, &answer, &Refusals::new())?;
        let marks = self.marks().await?;
        let is_live = |id: &RowId| marks.get(id).is_some_and(|mark| mark == "live");
        let (live, skipped): (BTreeSet<RowId>, BTreeSet<RowId>) =
            plan.restored.iter().partition(|id| is_live(id));
        ensure!(
            skipped.is_empty() == plan.conflicting.is_empty(),
            "{sql} skips {skipped:?}; these cannot be live: {:?}",
            plan.conflicting
        );
        self.adopt_passed(deletion, &live, &plan.held).await
    }

    async fn hold(&mut self, operation: &Operation) -> Result<()> {
        let (hold, arguments) = if operation.kind == Kind::HoldRow {
            let Some((id, _)) = self.pick_row(operation.subject, |_| true) else {
                return Ok(());
            };
            let table = &self.oracle.schema.tables[id.0];
            if !table.managed {
                return Ok(());
            }
            let arguments = format!("{}, {}", table.as_literal(), table.key_argument(id.1));
            (Hold::Row(id), arguments)
        } else {
            let Some(deletion) = self.pick_deletion(operation.subject) else {
                return Ok(());
            };
            let id = literal(&self.oracle.deletions[deletion].id);
            (Hold::Deletion(deletion), format!("{id}::uuid"))
        };
        let sql = format!("SELECT keepsake.hold({arguments}, 'a lawsuit')::text");
        if let Ok(Some(made)) = self.attempt(&sql).await? {
            self.oracle.holds.insert(made, hold);
        }
        Ok(())
    }

    async fn release(&mut self, operation: &Operation) -> Result<()> {
        let holds: Vec<String> = self.oracle.holds.keys().cloned().collect();
        let Some(id) = holds.get(operation.subject % holds.len().max(1)) else {
            return Ok(());
        };
        let sql = format!("SELECT keepsake.release({})::text", literal(id));
        let answer = self.attempt(&sql).await?;
        expect(&sql, &answer, &Refusals::new())?;
        self.oracle.holds.remove(id);
        Ok(())
    }

    async fn purge_deletion(&mut self, operation: &Operation) -> Result<()> {
        let Some(deletion) = self.pick_deletion(operation.subject) else {
            return Ok(());
        };
        let of = &self.oracle.deletions[deletion];
        let root_is_there = of
            .roots
            .iter()
            .any(|id| self.oracle.rows.get(id).and_then(|row| row.deletion) == Some(deletion));
        let refusals = match of.state {
            State::Restored => Refusals::from(["P0002"]),
            State::Purging if !root_is_there => Refusals::from(["P0002"]),
            _ if self.oracle.has_held_row(deletion) => Refusals::from(["55000"]),
            _ => Refusals::new(),
        };
        let sql = format!("SELECT keepsake.purge_deletion({})::text", literal(&of.id));
        let answer = self.attempt(&sql).await?;
        expect(&sql, &answer, &refusals)?;
        if answer.is_err() {
            return Ok(());
        }
        let expected = self.oracle.purgeable(&[deletion]);
        self.adopt_purged(&sql, &answer, &expected, usize::MAX)
            .await
    }

    async fn purge_batch(&mut self, operation: &Operation) -> Result<()> {
        let most = [1, 3, 1000][operation.subject % 3];
        let sql = format!("SELECT keepsake.purge_batch({most})::text");
        let answer = self.attempt(&sql).await?;
        expect(&sql, &answer, &Refusals::new())?;
        let expected = self.oracle.purgeable(&self.oracle.open());
        self.adopt_purged(&sql, &answer, &expected, most).await
    }

    /// Takes the purged rows out of the oracle when they are those that it expected; which of them
    /// a small batch takes first is the engine's choice, and so is what a hold keeps back with it; a
    /// ring of rows goes whole, beyond the size of the batch.
    async fn adopt_purged(
        &mut self,
        sql: &str,
        answer: &Answer,
        expected: &BTreeSet<RowId>,
        most: usize,
    ) -> Result<()> {
        let marks = self.marks().await?;
        let gone = |id: &&RowId| !marks.contains_key(*id);
        let gone: BTreeSet<RowId> = self.oracle.rows.keys().filter(gone).copied().collect();
        let is_free = expected.len() > most || !self.oracle.holds.is_empty();
        let is_right = if is_free {
            gone.is_subset(expected) && (!gone.is_empty() || !self.oracle.holds.is_empty())
        } else {
            gone == *expected
        };
        ensure!(
            is_right && !gone.iter().any(|id| self.oracle.is_held_legally(*id)),
            "{sql} answers {answer:?} and takes {gone:?}; purgeable are {expected:?}"
        );
        self.oracle.remove(&gone);
        Ok(())
    }

    async fn savepoint(&mut self) -> Result<()> {
        self.savepoints.push(self.oracle.clone());
        self.say(&format!("SAVEPOINT s{}", self.savepoints.len()))
            .await
    }

    async fn rollback_to_savepoint(&mut self) -> Result<()> {
        let name = format!("s{}", self.savepoints.len());
        if let Some(then) = self.savepoints.pop() {
            self.oracle = then;
            self.say(&format!("ROLLBACK TO {name}")).await?;
            self.say(&format!("RELEASE {name}")).await?;
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<()> {
        self.savepoints.clear();
        self.committed = self.oracle.clone();
        self.say("COMMIT").await?;
        let begin = self.begin.clone();
        self.say(&begin).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.savepoints.clear();
        self.oracle = self.committed.clone();
        self.say("ROLLBACK").await?;
        let begin = self.begin.clone();
        self.say(&begin).await
    }

    /// A session that has not loaded the library yet.
    async fn begin_afresh(&mut self) -> Result<()> {
        self.commit().await?;
        self.session = self.server.connect(self.name).await?;
        self.script.push("\\connect".to_owned());
        let begin = self.begin.clone();
        self.say(&begin).await
    }

    /// What is not committed is lost with the session, and nothing else.
    async fn kill(&mut self) -> Result<()> {
        let pid = column(&mut self.session, "SELECT pg_backend_pid()::text").await?;
        self.server.terminate(&pid.concat()).await?;
        self.session = self.server.connect(self.name).await?;
        self.savepoints.clear();
        self.oracle = self.committed.clone();
        self.script
            .push("-- the session is killed here:".to_owned());
        self.script.push("\\connect".to_owned());
        let begin = self.begin.clone();
        self.say(&begin).await
    }

    /// Runs a statement that must succeed.
    async fn say(&mut self, sql: &str) -> Result<()> {
        self.script.push(format!("{sql};"));
        run(&mut self.session, sql).await
    }

    /// Runs a statement that may fail, without ending the transaction. What is put off to the
    /// commit is looked at now.
    async fn attempt(&mut self, sql: &str) -> Result<Answer> {
        self.log(sql);
        run(&mut self.session, "SAVEPOINT attempt").await?;
        let mut answer = ask(&mut self.session, sql).await?;
        if answer.is_ok()
            && let Err(late) = ask(&mut self.session, "SET CONSTRAINTS ALL IMMEDIATE").await?
        {
            answer = Err(late);
        }
        let end = if answer.is_ok() {
            "SET CONSTRAINTS ALL DEFERRED; RELEASE attempt"
        } else {
            "ROLLBACK TO attempt; RELEASE attempt"
        };
        run(&mut self.session, end).await?;
        if let Err((code, message)) = &answer {
            self.script.push(format!("-- {code}: {message}"));
        }
        Ok(answer)
    }

    /// Notes a statement so that it can be pasted: ids of deletions become variables.
    fn log(&mut self, sql: &str) {
        let mut line = sql.to_owned();
        for (id, name) in &self.names {
            line = line.replace(&literal(id), &format!(":'{name}'"));
        }
        let end = if line.contains(" AS d") {
            " \\gset"
        } else {
            ";"
        };
        self.script.push(format!("{line}{end}"));
    }

    fn next_name(&self) -> String {
        format!("d{}", self.names.len() + 1)
    }

    fn name_deletion(&mut self, id: String) {
        self.names.insert(id.clone(), self.next_name());
        if let Some(deletion) = self.oracle.deletions.last_mut() {
            deletion.id = id;
        }
    }

    /// Mostly a live row; else any number that the table ever had.
    fn pick_parent(&self, table: usize, at: usize) -> Option<i32> {
        let rows = self.oracle.rows.iter();
        let live = rows.filter(|(id, row)| id.0 == table && id.1 != 0 && row.deletion.is_none());
        let live: Vec<i32> = live.map(|(id, _)| id.1).collect();
        if at.is_multiple_of(8) || live.is_empty() {
            return pick(&self.known[table], at / 8);
        }
        pick(&live, at / 8)
    }

    /// A row other than those that are kept.
    fn pick_row(&self, at: usize, fits: impl Fn(RowId) -> bool) -> Option<(RowId, Row)> {
        let of_use = |(id, _): &(&RowId, &Row)| id.1 != 0 && fits(**id);
        let rows: Vec<(&RowId, &Row)> = self.oracle.rows.iter().filter(of_use).collect();
        pick(&rows, at).map(|(id, row)| (*id, row.clone()))
    }

    /// Mostly one that has rows.
    fn pick_deletion(&self, at: usize) -> Option<usize> {
        let open = self.oracle.open();
        if at.is_multiple_of(8) || open.is_empty() {
            let all: Vec<usize> = (0..self.oracle.deletions.len()).collect();
            return pick(&all, at / 8);
        }
        pick(&open, at / 8)
    }

    /// What each row of the database is marked with: `live`, or the id of a deletion.
    async fn marks(&mut self) -> Result<BTreeMap<RowId, String>> {
        let lines = column(&mut self.session, &self.oracle.schema.row_lines()).await?;
        let mut marks = BTreeMap::new();
        for line in &lines {
            let mut words = line.split(' ').skip(1);
            let (Some(table), Some(number), Some(mark)) =
                (words.next(), words.next(), line.rsplit(' ').next())
            else {
                bail!("cannot read {line}");
            };
            marks.insert((table.parse()?, number.parse()?), mark.to_owned());
        }
        Ok(marks)
    }

    async fn compare(&mut self) -> Result<()> {
        let sql = format!(
            "{}\nUNION ALL {REGISTRY_LINES}",
            self.oracle.schema.row_lines()
        );
        let mut found = column(&mut self.session, &sql).await?;
        found.sort();
        let expected = self.oracle.lines();
        let missing: Vec<&String> = expected
            .iter()
            .filter(|line| !found.contains(line))
            .collect();
        let extra: Vec<&String> = found
            .iter()
            .filter(|line| !expected.contains(line))
            .collect();
        ensure!(
            found == expected,
            "the database has {extra:#?}\nwhere there should be {missing:#?}"
        );
        Ok(())
    }
}

/// The sum of `rows` in one list of a restore's report.
fn rows_in(report: &str, list: &str) -> Result<usize> {
    let report: serde_json::Value = serde_json::from_str(report)?;
    let parts = report[list].as_array().context("no such list")?;
    let rows: u64 = parts.iter().filter_map(|part| part["rows"].as_u64()).sum();
    Ok(usize::try_from(rows)?)
}
