//! The database and the oracle: each operation is done to both, and then they must agree.

mod deleting;
mod purging;
mod restoring;
mod writing;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::rc::Rc;

use anyhow::{Result, bail, ensure};
use sqlx::PgConnection;

use crate::database::{Answer, Server, ask, column, run};
use crate::operation::{Kind, Operation};
use crate::oracle::{Oracle, Refusals, Row, RowId};
use crate::schema::{Schema, literal};

/// A session of the database and the oracle.
pub struct Pair<'a> {
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
    /// Whether a deletion that was purged by itself had to leave rows behind.
    put_off: bool,
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

impl<'a> Pair<'a> {
    /// Opens a session, and its first transaction, in a database that was just made.
    pub async fn begin(
        server: &'a Server,
        name: &'a str,
        schema: &Schema,
        isolation: &str,
        script: &'a mut Vec<String>,
    ) -> Result<Self> {
        let oracle = Oracle::new(Rc::new(schema.clone()));
        let mut pair = Self {
            server,
            name,
            begin: format!("BEGIN ISOLATION LEVEL {isolation}"),
            session: server.connect(name).await?,
            known: vec![vec![0]; schema.tables.len()],
            last_number: 0,
            put_off: false,
            names: BTreeMap::new(),
            savepoints: Vec::new(),
            committed: oracle.clone(),
            oracle,
            script,
        };
        let begin = pair.begin.clone();
        pair.say(&begin).await?;
        Ok(pair)
    }

    /// Does it to both, and fails where they answer differently.
    pub async fn step(&mut self, operation: &Operation) -> Result<()> {
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
            Kind::DeleteAll => {
                self.delete_several(operation, "DELETE FROM {table} WHERE n IN ({rows})")
                    .await
            }
            Kind::MarkAll => {
                self.delete_several(operation, "UPDATE {table} SET deleted_at = now() WHERE n IN ({rows})")
                    .await
            }
            Kind::Truncate => self.truncate(operation).await,
            Kind::Reattach => self.reattach(operation).await,
            Kind::HoldTenant => self.hold(operation).await,
            Kind::Crash => self.crash().await,
        }
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
        self.oracle.commit();
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

    /// The whole server dies and recovers.
    async fn crash(&mut self) -> Result<()> {
        self.server.crash().await?;
        self.session = self.server.connect(self.name).await?;
        self.savepoints.clear();
        self.oracle = self.committed.clone();
        self.script
            .push("-- the server is killed and started again here:".to_owned());
        self.script.push("\\connect".to_owned());
        let begin = self.begin.clone();
        self.say(&begin).await
    }

    /// Acts under the claims of a tenant.
    async fn claim(&mut self, tenant: Option<String>) -> Result<()> {
        if tenant == self.oracle.tenant && tenant.is_none() {
            return Ok(());
        }
        let claims = tenant.as_ref().map_or_else(String::new, |tenant| {
            format!("{{\"tenant\": \"{tenant}\"}}")
        });
        self.oracle.tenant = tenant;
        self.say(&format!("SET LOCAL \"request.jwt.claims\" = '{claims}'"))
            .await
    }

    /// Acts as the tenant under whose claims a deletion was made.
    async fn claim_of(&mut self, deletion: usize) -> Result<()> {
        let tenant = self.oracle.deletions[deletion].tenant.clone();
        self.claim(tenant).await
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

    /// A live row whose key begins with that of row `other` of another table, as two references over one column
    /// have it.
    fn pick_beside(&self, table: usize, other: i32, at: usize) -> Option<i32> {
        let key = self.oracle.schema.tables[table].key;
        let fits = |id: &RowId| {
            id.0 == table && key.parts(id.1)[0] == key.parts(other)[0] && self.oracle.is_live(*id)
        };
        let rows: Vec<i32> = self
            .oracle
            .rows
            .keys()
            .filter(|id| fits(id))
            .map(|id| id.1)
            .collect();
        pick(&rows, at)
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

    /// Fails unless both hold the same.
    pub async fn compare(&mut self) -> Result<()> {
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
