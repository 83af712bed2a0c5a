//! Holds, and rows that go for good.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::{Pair, expect};
use crate::database::Answer;
use crate::operation::{Kind, Operation};
use crate::oracle::{Hold, Refusals, RowId, State};
use crate::schema::literal;

impl Pair<'_> {
    pub(super) async fn hold(&mut self, operation: &Operation) -> Result<()> {
        if operation.kind == Kind::HoldTenant {
            let tenant = format!("t{}", operation.subject % 2);
            let sql = format!(
                "SELECT keepsake.hold_tenant({}, 'a lawsuit')::text",
                literal(&tenant)
            );
            let answer = self.attempt(&sql).await?;
            expect(&sql, &answer, &Refusals::new())?;
            if let Ok(Some(made)) = answer {
                self.oracle.holds.insert(made, Hold::Tenant(tenant));
            }
            return Ok(());
        }
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
            self.claim_of(deletion).await?;
            let id = literal(&self.oracle.deletions[deletion].id);
            (Hold::Deletion(deletion), format!("{id}::uuid"))
        };
        let sql = format!("SELECT keepsake.hold({arguments}, 'a lawsuit')::text");
        if let Ok(Some(made)) = self.attempt(&sql).await? {
            self.oracle.holds.insert(made, hold);
        }
        Ok(())
    }

    pub(super) async fn release(&mut self, operation: &Operation) -> Result<()> {
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

    pub(super) async fn purge_deletion(&mut self, operation: &Operation) -> Result<()> {
        let Some(deletion) = self.pick_deletion(operation.subject) else {
            return Ok(());
        };
        self.claim_of(deletion).await?;
        let of = &self.oracle.deletions[deletion];
        let root_is_there = of
            .roots
            .iter()
            .any(|id| self.oracle.rows.get(id).and_then(|row| row.deletion) == Some(deletion));
        let refusals = match of.state {
            State::Restored | State::Absorbed => Refusals::from(["P0002"]),
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
            .await?;
        self.put_off |= !self.oracle.rows_of(deletion).is_empty();
        Ok(())
    }

    pub(super) async fn purge_batch(&mut self, operation: &Operation) -> Result<()> {
        let most = [1, 3, 1000][operation.subject % 3];
        let sql = format!("SELECT keepsake.purge_batch({most})::text");
        let answer = self.attempt(&sql).await?;
        expect(&sql, &answer, &Refusals::new())?;
        let mut expected = self.oracle.purgeable(&self.oracle.open());
        // What a purge by itself had to leave behind waits until a batch has found other rows.
        if self.put_off {
            let marks = self.marks().await?;
            expected.retain(|id| !marks.contains_key(id));
            self.put_off = expected.is_empty();
        }
        self.adopt_purged(&sql, &answer, &expected, most).await
    }

    /// Takes the purged rows out of the oracle when they are those that it expected; which of them
    /// a small batch takes first is the engine's choice, and so is what a hold keeps back with it; a
    /// ring of rows goes whole, beyond the size of the batch.
    pub(super) async fn adopt_purged(
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
}
