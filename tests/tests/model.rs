//! The engine against a model: random operations on a schema with a chain, a diamond and a
//! self-reference, and after each the same rows must be live in both.
//!
//! ```text
//!   forum ◀── thread ◀── post ◀── post (reply_to)
//!                          ▲
//!   member ◀───────────── like
//! ```

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use keepsake_tests::postgres::Postgres;
use keepsake_tests::stack::throwaway_folder;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use sqlx::{Connection as _, PgConnection};

const SCHEMA: &str = "
    CREATE EXTENSION keepsake;
    CREATE TABLE forum  (id int PRIMARY KEY);
    CREATE TABLE thread (id int PRIMARY KEY, forum_id int NOT NULL REFERENCES forum ON DELETE CASCADE);
    CREATE TABLE post   (id int PRIMARY KEY, thread_id int NOT NULL REFERENCES thread ON DELETE CASCADE,
                         reply_to int REFERENCES post ON DELETE CASCADE);
    CREATE TABLE member (id int PRIMARY KEY);
    CREATE TABLE likes  (id int PRIMARY KEY, post_id int NOT NULL REFERENCES post ON DELETE CASCADE,
                         member_id int NOT NULL REFERENCES member ON DELETE CASCADE);
    SELECT keepsake.manage('forum'), keepsake.manage('thread'), keepsake.manage('post'),
           keepsake.manage('member'), keepsake.manage('likes');";

/// Each table and the tables its references point to, with the columns.
const TABLES: [(&str, &[(&str, &str)]); 5] = [
    ("forum", &[]),
    ("thread", &[("forum_id", "forum")]),
    ("post", &[("thread_id", "thread"), ("reply_to", "post")]),
    ("member", &[]),
    ("likes", &[("post_id", "post"), ("member_id", "member")]),
];

/// How many sequences of operations, and how long each is.
const SEQUENCES: usize = 40;
const OPERATIONS: usize = 60;

/// One step; the numbers choose among what is there.
#[derive(Clone, Debug)]
enum Operation {
    Insert {
        table: usize,
        parents: [prop::sample::Index; 2],
        has_second: bool,
    },
    Delete {
        row: prop::sample::Index,
    },
    Restore {
        deletion: prop::sample::Index,
    },
    Purge {
        deletion: prop::sample::Index,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        5 => (0..TABLES.len(), [index(), index()], any::<bool>())
            .prop_map(|(table, parents, has_second)| Operation::Insert { table, parents, has_second }),
        3 => index().prop_map(|row| Operation::Delete { row }),
        3 => index().prop_map(|deletion| Operation::Restore { deletion }),
        1 => index().prop_map(|deletion| Operation::Purge { deletion }),
    ]
}

type RowId = (usize, i32);
type DeletionId = usize;

#[derive(Clone, Debug)]
struct Row {
    parents: Vec<RowId>,
    deleted_by: Option<DeletionId>,
}

/// What the engine promises, in the simplest words.
#[derive(Debug, Default)]
struct Model {
    rows: BTreeMap<RowId, Row>,
    /// Root and whether it is still deleted.
    deletions: Vec<(RowId, bool)>,
}

impl Model {
    fn live(&self) -> BTreeSet<RowId> {
        self.rows
            .iter()
            .filter(|(_, row)| row.deleted_by.is_none())
            .map(|(id, _)| *id)
            .collect()
    }

    fn delete(&mut self, root: RowId) -> DeletionId {
        let deletion = self.deletions.len();
        self.deletions.push((root, true));
        let mut gone = BTreeSet::from([root]);
        while let Some(next) = self
            .rows
            .iter()
            .find(|(id, row)| {
                row.deleted_by.is_none()
                    && !gone.contains(*id)
                    && row.parents.iter().any(|parent| gone.contains(parent))
            })
            .map(|(id, _)| *id)
        {
            gone.insert(next);
        }
        for id in gone {
            if let Some(row) = self.rows.get_mut(&id) {
                row.deleted_by = Some(deletion);
            }
        }
        deletion
    }

    /// `Err` when the root's own parent stays deleted.
    fn restore(&mut self, deletion: DeletionId) -> Result<(), ()> {
        let (root, _) = self.deletions[deletion];
        let other =
            |model: &Self, id: &RowId| model.rows[id].deleted_by.filter(|by| *by != deletion);
        if self.rows[&root]
            .parents
            .iter()
            .any(|parent| other(self, parent).is_some())
        {
            return Err(());
        }
        loop {
            let held = self.rows.iter().find_map(|(id, row)| {
                let of_this = row.deleted_by == Some(deletion) && *id != root;
                let holder = row.parents.iter().find_map(|parent| other(self, parent));
                of_this
                    .then_some(())
                    .and(holder)
                    .map(|holder| (*id, holder))
            });
            let Some((id, holder)) = held else { break };
            if let Some(row) = self.rows.get_mut(&id) {
                row.deleted_by = Some(holder);
            }
        }
        for row in self
            .rows
            .values_mut()
            .filter(|row| row.deleted_by == Some(deletion))
        {
            row.deleted_by = None;
        }
        self.deletions[deletion].1 = false;
        Ok(())
    }

    /// Rows go as long as nothing that stays refers to them.
    fn purge(&mut self, deletion: DeletionId) {
        loop {
            let free = self.rows.iter().find(|(id, row)| {
                row.deleted_by == Some(deletion)
                    && !self.rows.values().any(|other| other.parents.contains(id))
            });
            let Some((id, _)) = free else { break };
            let id = *id;
            self.rows.remove(&id);
        }
        self.deletions[deletion].1 = false;
    }
}

/// The model and the database side by side.
struct Pair {
    model: Model,
    database: PgConnection,
    ids: Vec<String>,
    next_id: i32,
}

impl Pair {
    async fn step(&mut self, operation: &Operation) -> Result<()> {
        match operation {
            Operation::Insert {
                table,
                parents,
                has_second,
            } => self.insert(*table, parents, *has_second).await?,
            Operation::Delete { row } => self.delete(row).await?,
            Operation::Restore { deletion } => self.restore(deletion).await?,
            Operation::Purge { deletion } => self.purge(deletion).await?,
        }
        let live = self.live().await?;
        ensure!(
            live == self.model.live(),
            "after {operation:?}: {live:?} is live, not {:?}",
            self.model.live()
        );
        let rows = self.count_rows().await?;
        ensure!(
            rows == self.model.rows.len(),
            "after {operation:?}: {rows} rows, not {}",
            self.model.rows.len()
        );
        Ok(())
    }

    async fn insert(
        &mut self,
        table: usize,
        picks: &[prop::sample::Index; 2],
        has_second: bool,
    ) -> Result<()> {
        let (name, references) = TABLES[table];
        let mut parents = Vec::new();
        let mut columns = vec!["id".to_owned()];
        for ((column, target), pick) in references.iter().zip(picks) {
            let nullable = *column == "reply_to";
            let target = TABLES.iter().position(|(name, _)| name == target);
            let candidates: Vec<RowId> = self
                .model
                .rows
                .keys()
                .filter(|(of, _)| Some(*of) == target)
                .copied()
                .collect();
            if nullable && (!has_second || candidates.is_empty()) {
                continue;
            }
            if candidates.is_empty() {
                return Ok(());
            }
            parents.push(*pick.get(&candidates));
            columns.push((*column).to_owned());
        }
        self.next_id += 1;
        let id = self.next_id;
        let values: Vec<String> = std::iter::once(id)
            .chain(parents.iter().map(|(_, id)| *id))
            .map(|id| id.to_string())
            .collect();
        let sql = format!(
            "INSERT INTO {name} ({}) VALUES ({})",
            columns.join(", "),
            values.join(", ")
        );
        let inserted = self.attempt(&sql).await?;
        let parents_live = parents
            .iter()
            .all(|parent| self.model.rows[parent].deleted_by.is_none());
        ensure!(
            inserted.is_ok() == parents_live,
            "a row under {parents:?}: {inserted:?}"
        );
        if parents_live {
            self.model.rows.insert(
                (table, id),
                Row {
                    parents,
                    deleted_by: None,
                },
            );
        }
        Ok(())
    }

    async fn delete(&mut self, pick: &prop::sample::Index) -> Result<()> {
        let rows: Vec<RowId> = self.model.rows.keys().copied().collect();
        if rows.is_empty() {
            return Ok(());
        }
        let root = *pick.get(&rows);
        let id: String =
            sqlx::query_scalar("SELECT keepsake.soft_delete($1::text::regclass, $2)::text")
                .bind(TABLES[root.0].0)
                .bind(root.1)
                .fetch_one(&mut self.database)
                .await?;
        match self.model.rows[&root].deleted_by {
            Some(deletion) => ensure!(
                self.ids[deletion] == id,
                "a second delete made a new deletion"
            ),
            None => {
                self.model.delete(root);
                self.ids.push(id);
            }
        }
        Ok(())
    }

    async fn restore(&mut self, pick: &prop::sample::Index) -> Result<()> {
        let Some((deletion, id)) = self.pick_deletion(pick) else {
            return Ok(());
        };
        let restored = self
            .attempt(&format!("SELECT keepsake.restore('{id}')"))
            .await?;
        let expected = self.model.restore(deletion);
        ensure!(
            restored.is_ok() == expected.is_ok(),
            "restore of {deletion}: {restored:?}, not {expected:?}"
        );
        Ok(())
    }

    async fn purge(&mut self, pick: &prop::sample::Index) -> Result<()> {
        let Some((deletion, id)) = self.pick_deletion(pick) else {
            return Ok(());
        };
        // Only whole: what a blocked purge leaves behind is `purge.sql`'s matter.
        let mut trial = Model {
            rows: self.model.rows.clone(),
            deletions: self.model.deletions.clone(),
        };
        trial.purge(deletion);
        if trial
            .rows
            .values()
            .any(|row| row.deleted_by == Some(deletion))
        {
            return Ok(());
        }
        sqlx::query("SELECT keepsake.purge_deletion($1::text::uuid)")
            .bind(&id)
            .execute(&mut self.database)
            .await?;
        self.model = trial;
        Ok(())
    }

    /// Runs a statement that may fail, without ending the transaction.
    async fn attempt(&mut self, sql: &str) -> Result<Result<(), sqlx::Error>> {
        sqlx::query("SAVEPOINT attempt")
            .execute(&mut self.database)
            .await?;
        let outcome = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()))
            .execute(&mut self.database)
            .await;
        let end = if outcome.is_ok() {
            "RELEASE attempt"
        } else {
            "ROLLBACK TO attempt"
        };
        sqlx::query(end).execute(&mut self.database).await?;
        Ok(outcome.map(|_| ()))
    }

    /// One that is still deleted.
    fn pick_deletion(&self, pick: &prop::sample::Index) -> Option<(DeletionId, String)> {
        let open: Vec<DeletionId> = (0..self.ids.len())
            .filter(|id| self.model.deletions[*id].1)
            .collect();
        if open.is_empty() {
            return None;
        }
        let deletion = *pick.get(&open);
        Some((deletion, self.ids[deletion].clone()))
    }

    async fn live(&mut self) -> Result<BTreeSet<RowId>> {
        let mut live = BTreeSet::new();
        for (table, (name, _)) in TABLES.iter().enumerate() {
            let sql = format!("SELECT id FROM {name} WHERE deleted_at IS NULL");
            let ids: Vec<i32> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                .fetch_all(&mut self.database)
                .await?;
            live.extend(ids.into_iter().map(|id| (table, id)));
        }
        Ok(live)
    }

    async fn count_rows(&mut self) -> Result<usize> {
        let counts = TABLES.map(|(name, _)| format!("(SELECT count(*) FROM {name})"));
        let sql = format!("SELECT {}", counts.join(" + "));
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .fetch_one(&mut self.database)
            .await?;
        Ok(usize::try_from(count)?)
    }
}

#[tokio::test]
async fn the_engine_does_what_the_model_does() -> Result<()> {
    let (folder, leash) = throwaway_folder()?;
    let postgres = Postgres::start(&folder, "model", &leash).await?;
    let mut setup = postgres.connect().await?;
    sqlx::raw_sql(SCHEMA).execute(&mut setup).await?;
    setup.close().await?;

    // The same sequences in every run, so that a failure can be repeated.
    let mut runner = TestRunner::deterministic();
    for sequence in 0..SEQUENCES {
        let operations = prop::collection::vec(operation(), OPERATIONS).new_tree(&mut runner);
        let operations = operations
            .map_err(|error| anyhow::anyhow!("{error}"))?
            .current();
        let mut database = postgres.connect().await?;
        // One transaction, never committed: all its deletions bear the same time, so that only
        // their ids can tell them apart.
        sqlx::query("BEGIN").execute(&mut database).await?;
        let mut pair = Pair {
            model: Model::default(),
            database,
            ids: Vec::new(),
            next_id: 0,
        };
        for (step, operation) in operations.iter().enumerate() {
            pair.step(operation)
                .await
                .map_err(|error| error.context(format!("sequence {sequence}, step {step}")))?;
        }
    }
    Ok(())
}
