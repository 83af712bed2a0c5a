//! Rows that are deleted, softly and for good.

use std::collections::BTreeSet;
use std::rc::Rc;

use anyhow::{Context as _, Result, ensure};

use super::{Pair, expect};
use crate::operation::{Kind, Operation};
use crate::oracle::{How, Refusals, RowId};
use crate::schema::{Policy, Table};

impl Pair<'_> {
    pub(super) async fn soft_delete(&mut self, operation: &Operation) -> Result<()> {
        let schema = Rc::clone(&self.oracle.schema);
        let managed = |(table, _): RowId| schema.tables[table].managed;
        let Some((id, row)) = self.pick_row(operation.subject, managed) else {
            return Ok(());
        };
        self.claim(tenant(operation)).await?;
        let table = &schema.tables[id.0];
        let sql = format!(
            "SELECT keepsake.soft_delete({}, {})::text AS {}",
            table.as_literal(),
            table.key_argument(id.1),
            self.next_name()
        );
        let refusals = match row.deletion {
            Some(_) => Refusals::new(),
            None => self.oracle.delete(&[id], How::Call),
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
    pub(super) async fn delete_several(
        &mut self,
        operation: &Operation,
        template: &str,
    ) -> Result<()> {
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
        let mut rows: BTreeSet<RowId> = further.map(|(id, _)| id).chain([first]).collect();
        if matches!(operation.kind, Kind::DeleteAll | Kind::MarkAll) {
            let all = self.oracle.rows.keys();
            rows.extend(all.filter(|id| id.0 == first.0 && id.1 != 0));
        }
        self.claim(tenant(operation)).await?;
        let numbers: Vec<String> = rows.iter().map(|(_, number)| number.to_string()).collect();
        let sql = template
            .replace("{table}", &schema.tables[first.0].sql())
            .replace("{rows}", &numbers.join(", "));
        let live: Vec<RowId> = rows
            .into_iter()
            .filter(|id| self.oracle.is_live(*id))
            .collect();
        let policy = schema.tables[first.0].policy;
        if policy == Policy::Allow && matches!(operation.kind, Kind::PlainDelete | Kind::DeleteAll)
        {
            return self.delete_for_good(&sql, &live).await;
        }
        let refusals = if live.is_empty() {
            Refusals::new()
        } else if policy == Policy::Reject {
            Refusals::from(["55000"])
        } else {
            self.oracle.delete(&live, How::Statement)
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
    pub(super) async fn delete_for_good(&mut self, sql: &str, live: &[RowId]) -> Result<()> {
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

    /// Refused, whoever asks.
    pub(super) async fn truncate(&mut self, operation: &Operation) -> Result<()> {
        let schema = Rc::clone(&self.oracle.schema);
        let managed: Vec<&Table> = schema.tables.iter().filter(|table| table.managed).collect();
        let Some(table) = managed.get(operation.subject % managed.len().max(1)) else {
            return Ok(());
        };
        let sql = format!("TRUNCATE {} CASCADE", table.sql());
        let answer = self.attempt(&sql).await?;
        expect(&sql, &answer, &Refusals::from(["55000"]))
    }

    /// A partition is taken away and given back: nothing has changed then. PostgreSQL refuses it while rows
    /// elsewhere refer to its rows, and Keepsake while rows of it stand under deleted ones.
    pub(super) async fn reattach(&mut self, operation: &Operation) -> Result<()> {
        let schema = Rc::clone(&self.oracle.schema);
        let tables = 0..schema.tables.len();
        let partitioned: Vec<usize> = tables.filter(|at| schema.tables[*at].partitioned).collect();
        let Some(table) = partitioned.get(operation.subject % partitioned.len().max(1)) else {
            return Ok(());
        };
        let sql = schema.reattach(*table, operation.picks[0] % 3);
        let answer = self.attempt(&sql).await?;
        let may_be_refused = self.oracle.is_bound(*table);
        if answer.is_err() && may_be_refused {
            return expect(&sql, &answer, &Refusals::from(["23503"]));
        }
        expect(&sql, &answer, &Refusals::new())
    }

    pub(super) async fn delete_unmanaged(&mut self, operation: &Operation) -> Result<()> {
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
}

/// Under whose claims it is done; nobody's, in the first seeds.
fn tenant(operation: &Operation) -> Option<String> {
    operation.tenant.map(|tenant| format!("t{tenant}"))
}
