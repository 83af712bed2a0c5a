//! Rows that are inserted and changed.

use std::rc::Rc;

use anyhow::Result;

use super::{Pair, expect};
use crate::operation::{Operation, RESTORE_MISSES_NO_PARENT};
use crate::oracle::{Oracle, Row, RowId};
use crate::schema::{MOST_ROWS, OnDelete};

impl Pair<'_> {
    pub(super) async fn insert(&mut self, operation: &Operation) -> Result<()> {
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
            let beside = reference.shares.and_then(|other| references[other]);
            let to = match beside {
                Some(other) => self.pick_beside(reference.parent, other, at / 4),
                None => self.pick_parent(reference.parent, at / 4),
            };
            references.push(to.filter(|_| reference.required || !at.is_multiple_of(4)));
        }
        let cells = schema.cells(table, &references);
        let object = Oracle::object(id);
        let sql = schema.insert(table, id.1, &cells, operation.label, &object);
        let row = Row {
            cells,
            label: operation.label,
            plain: 0,
            deletion: None,
        };
        self.put(&sql, id, row).await
    }

    pub(super) async fn put(&mut self, sql: &str, id: RowId, row: Row) -> Result<()> {
        let refusals = self.oracle.put(id, row);
        let answer = self.attempt(sql).await?;
        expect(sql, &answer, &refusals)
    }

    pub(super) async fn change(
        &mut self,
        operation: &Operation,
        change: impl Fn(&mut Row),
    ) -> Result<()> {
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

    pub(super) async fn reparent(&mut self, operation: &Operation) -> Result<()> {
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
        if schema.target(&row.cells, id.0, at) == to {
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
        // What PostgreSQL's own SET DEFAULT would leave behind, once the parent is purged, may be no row's key.
        if row.deletion.is_some()
            && references[at].action == OnDelete::SetDefault
            && references[at].listed.is_some()
        {
            return Ok(());
        }
        schema.point(&mut row.cells, id.0, at, to);
        let sql = schema.reparent(id.0, id.1, at, &row.cells);
        self.put(&sql, id, row).await
    }
}
