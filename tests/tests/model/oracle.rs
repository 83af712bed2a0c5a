//! What the engine promises, in the simplest words: rows in memory, and no thought of speed.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::operation::{DETACHES_AT_ONCE, PURGES_RINGS};
use crate::schema::{Cells, OnDelete, Reference, Schema};

/// The table and the number of a row.
pub type RowId = (usize, i32);

#[derive(Clone, Debug)]
pub struct Row {
    pub cells: Cells,
    pub label: Option<i32>,
    pub plain: i32,
    pub deletion: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Deleted,
    Restored,
    Purging,
    Purged,
    /// Its rows went over to a later deletion of the same transaction, and it is not there any more.
    Absorbed,
}

/// How a deletion is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By `soft_delete()`.
    Call,
    /// By a plain statement: its rows go over to a deletion that the same transaction makes of a row above them.
    Statement,
}

#[derive(Clone, Debug)]
pub struct Deletion {
    pub id: String,
    pub roots: Vec<RowId>,
    pub state: State,
    /// Under whose claims it was made.
    pub tenant: Option<String>,
}

/// A reference that a deletion took away: where it had pointed, and what it had and was given in its
/// columns.
#[derive(Clone, Debug)]
struct Detached {
    /// With whose restore it is put back.
    deletion: usize,
    row: RowId,
    at: usize,
    from: RowId,
    old: Vec<Option<i32>>,
    new: Vec<Option<i32>>,
}

/// What becomes of a detached reference.
enum Fate {
    Waits(usize),
    Forgotten,
    PutBack(Cells),
}

#[derive(Clone, Debug)]
pub enum Hold {
    Row(RowId),
    Deletion(usize),
    Tenant(String),
}

/// The state of the whole database.
#[derive(Clone)]
pub struct Oracle {
    pub schema: Rc<Schema>,
    pub rows: BTreeMap<RowId, Row>,
    pub deletions: Vec<Deletion>,
    outbox: BTreeSet<String>,
    detached: Vec<Detached>,
    pub holds: BTreeMap<String, Hold>,
    /// The deletions that plain statements of this transaction made.
    by_statement: BTreeSet<usize>,
    /// Who deletes.
    pub tenant: Option<String>,
}

/// What a restore would do.
pub struct Restoration {
    /// Rows that another deletion's parent keeps deleted.
    pub held: BTreeSet<RowId>,
    /// The others.
    pub restored: BTreeSet<RowId>,
    /// Those of them that cannot be live.
    pub conflicting: BTreeSet<RowId>,
}

/// The columns of a reference in a row.
fn columns_of(schema: &Schema, table: usize, at: usize, cells: &Cells) -> Vec<Option<i32>> {
    let of = &schema.tables[table];
    let key = schema.tables[of.references[at].parent].key;
    let parts = 0..key.parts(0).len();
    parts
        .map(|part| {
            let (at, slot) = of.slot(at, part);
            cells[at][slot]
        })
        .collect()
}

/// SQLSTATEs, any of which is right; with none the statement must succeed.
pub type Refusals = BTreeSet<&'static str>;

impl Oracle {
    pub fn new(schema: Rc<Schema>) -> Self {
        let rows = schema
            .tables
            .iter()
            .enumerate()
            .map(|(number, table)| {
                let kept = |to: &Reference| to.required.then_some(0);
                let references: Vec<Option<i32>> = table.references.iter().map(kept).collect();
                let row = Row {
                    cells: schema.cells(number, &references),
                    label: None,
                    plain: 0,
                    deletion: None,
                };
                ((number, 0), row)
            })
            .collect();
        Self {
            schema,
            rows,
            deletions: Vec::new(),
            outbox: BTreeSet::new(),
            detached: Vec::new(),
            holds: BTreeMap::new(),
            by_statement: BTreeSet::new(),
            tenant: None,
        }
    }

    /// The key of the object of a row.
    pub fn object((table, number): RowId) -> String {
        format!("o{table}/{number}")
    }

    pub fn is_managed(&self, (table, _): RowId) -> bool {
        self.schema.tables[table].managed
    }

    pub fn is_live(&self, id: RowId) -> bool {
        self.rows.get(&id).is_some_and(|row| row.deletion.is_none())
    }

    /// Where the row's references point.
    fn references(&self, id: RowId) -> Vec<(&Reference, RowId)> {
        let Some(row) = self.rows.get(&id) else {
            return Vec::new();
        };
        self.targets(id.0, &row.cells)
            .into_iter()
            .map(|(_, reference, to)| (reference, to))
            .collect()
    }

    /// Where the references of a row with these columns point: those of which no part is NULL.
    fn targets(&self, table: usize, cells: &Cells) -> Vec<(usize, &Reference, RowId)> {
        let references = self.schema.tables[table].references.iter().enumerate();
        references
            .filter_map(|(at, reference)| {
                let to = self.schema.target(cells, table, at)?;
                Some((at, reference, (reference.parent, to)))
            })
            .collect()
    }

    /// The rows, and how, that refer to `to`.
    fn referrers(&self, to: RowId) -> Vec<(RowId, usize, &Reference)> {
        let mut found = Vec::new();
        for (id, row) in &self.rows {
            for (at, reference, target) in self.targets(id.0, &row.cells) {
                if target == to {
                    found.push((*id, at, reference));
                }
            }
        }
        found
    }

    /// Whether a row refers to one of the table, or a deleted row of the table to a deleted one.
    pub fn is_bound(&self, table: usize) -> bool {
        let is_deleted = |id| self.rows.contains_key(&id) && !self.is_live(id);
        self.rows.keys().any(|id| {
            let here = id.0 == table && is_deleted(*id);
            self.references(*id)
                .iter()
                .any(|(_, to)| to.0 == table || here && is_deleted(*to))
        })
    }

    pub fn is_referred_to(&self, id: RowId) -> bool {
        !self.referrers(id).is_empty()
    }

    /// Why a row may not point where it does.
    fn refused_parents(&self, id: RowId, row: &Row) -> Refusals {
        let mut refusals = Refusals::new();
        for (_, reference, to) in self.targets(id.0, &row.cells) {
            let exists = to == id || self.rows.contains_key(&to);
            let live = to == id || self.is_live(to);
            let dangles = !exists && (!reference.declared || row.deletion.is_none());
            let is_under_deleted = exists && !live;
            if dangles || (is_under_deleted && row.deletion.is_none()) {
                refusals.insert("23503");
            }
        }
        refusals
    }

    fn refused_label(&self, id: RowId, row: &Row) -> Refusals {
        let taken = |(other, held): (&RowId, &Row)| {
            other.0 == id.0 && other.1 != id.1 && held.deletion.is_none() && held.label == row.label
        };
        let clashes = self.schema.tables[id.0].unique
            && row.deletion.is_none()
            && row.label.is_some()
            && self.rows.iter().any(taken);
        if clashes {
            Refusals::from(["23505"])
        } else {
            Refusals::new()
        }
    }

    /// Inserts or replaces a row, or says why not.
    pub fn put(&mut self, id: RowId, row: Row) -> Refusals {
        let mut refusals = self.refused_parents(id, &row);
        refusals.extend(self.refused_label(id, &row));
        if refusals.is_empty() {
            self.rows.insert(id, row);
        }
        refusals
    }

    /// The transaction ends: what it deleted stays in its deletions.
    pub fn commit(&mut self) {
        self.by_statement.clear();
    }

    /// Whether a plain statement of this transaction deleted the row, which a deletion of a row that it refers to so would have taken, or stopped at.
    fn is_absorbed(&self, id: RowId, reference: &Reference) -> bool {
        let deletion = self.rows.get(&id).and_then(|row| row.deletion);
        !reference.action.detaches() && deletion.is_some_and(|of| self.by_statement.contains(&of))
    }

    /// The live rows among `roots` and all that cascades from them, with what this transaction deleted beneath them before.
    fn closure(&self, roots: &[RowId]) -> BTreeSet<RowId> {
        let live = roots.iter().filter(|id| self.is_live(**id));
        let mut gone: BTreeSet<RowId> = live.copied().collect();
        loop {
            let further: Vec<RowId> = gone
                .iter()
                .flat_map(|id| self.referrers(*id))
                .filter(|(id, _, reference)| {
                    let cascades = reference.action == OnDelete::Cascade && self.is_live(*id);
                    self.is_managed(*id)
                        && !gone.contains(id)
                        && (cascades || self.is_absorbed(*id, reference))
                })
                .map(|(id, ..)| id)
                .collect();
            if further.is_empty() {
                return gone;
            }
            gone.extend(further);
        }
    }

    /// One deletion of these roots; its id is still unknown.
    pub fn delete(&mut self, roots: &[RowId], how: How) -> Refusals {
        let before = self.clone();
        let gone = self.closure(roots);
        let deletion = self.deletions.len();
        let live = roots.iter().filter(|id| self.is_live(**id));
        self.deletions.push(Deletion {
            id: String::new(),
            roots: live.copied().collect(),
            state: State::Deleted,
            tenant: self.tenant.clone(),
        });
        let mut others = BTreeSet::new();
        for id in &gone {
            if let Some(row) = self.rows.get_mut(id) {
                others.extend(row.deletion);
                row.deletion = Some(deletion);
            }
        }
        for other in others {
            if self.rows_of(other).is_empty() {
                self.absorb(other, deletion);
            }
        }
        let refusals = if DETACHES_AT_ONCE {
            self.detach(&gone, Some(deletion))
        } else {
            Refusals::new()
        };
        let restricts = |(id, _, reference): (RowId, usize, &Reference)| {
            reference.is_enforced() && self.is_live(id)
        };
        if refusals.is_empty()
            && !gone
                .iter()
                .flat_map(|id| self.referrers(*id))
                .any(restricts)
        {
            if how == How::Statement {
                self.by_statement.insert(deletion);
            }
            return refusals;
        }
        *self = before;
        Refusals::from(["23503"])
    }

    /// A deletion that has no rows left becomes part of another.
    fn absorb(&mut self, empty: usize, into: usize) {
        self.deletions[empty].state = State::Absorbed;
        self.by_statement.remove(&empty);
        for hold in self.holds.values_mut() {
            if matches!(hold, Hold::Deletion(held) if *held == empty) {
                *hold = Hold::Deletion(into);
            }
        }
        for entry in &mut self.detached {
            if entry.deletion == empty {
                entry.deletion = into;
            }
        }
    }

    /// Takes away the references to `gone` of other rows and of their own; remembered when a restore of
    /// the deletion may put them back. Refused where a default refers to no row, or to a deleted one.
    fn detach(&mut self, gone: &BTreeSet<RowId>, deletion: Option<usize>) -> Refusals {
        let mut changes = Vec::new();
        for to in gone {
            for (row, at, reference) in self.referrers(*to) {
                if reference.action.detaches() {
                    changes.push((row, at, *to));
                }
            }
        }
        let schema = Rc::clone(&self.schema);
        let mut refusals = Refusals::new();
        for (id, at, from) in changes {
            let Some(row) = self.rows.get_mut(&id) else {
                continue;
            };
            let table = &schema.tables[id.0];
            let reference = &table.references[at];
            let key = schema.tables[reference.parent].key;
            let left = (reference.action == OnDelete::SetDefault).then_some(0);
            let old = columns_of(&schema, id.0, at, &row.cells);
            for part in reference.let_go(key) {
                let (at, slot) = table.slot(at, part);
                row.cells[at][slot] = left;
            }
            let row = row.clone();
            let new = columns_of(&schema, id.0, at, &row.cells);
            let default = schema.target(&row.cells, id.0, at);
            if default.is_some_and(|to| !self.is_live((reference.parent, to))) {
                refusals.insert("23503");
            }
            self.detached.extend(deletion.map(|deletion| Detached {
                deletion,
                row: id,
                at,
                from,
                old,
                new,
            }));
        }
        refusals
    }

    /// The rows of a deletion.
    pub fn rows_of(&self, deletion: usize) -> BTreeSet<RowId> {
        let of_it = self
            .rows
            .iter()
            .filter(|(_, row)| row.deletion == Some(deletion));
        of_it.map(|(id, _)| *id).collect()
    }

    /// Whether the row is deleted, and by another deletion.
    fn deleted_by_other(&self, id: RowId, deletion: usize) -> bool {
        let of = self.rows.get(&id).and_then(|row| row.deletion);
        of.is_some_and(|of| of != deletion)
    }

    pub fn restoration(&self, deletion: usize) -> Restoration {
        let all = self.rows_of(deletion);
        // One root comes back or nothing does; of several each may be held by another deletion.
        let roots = match self.deletions[deletion].roots.as_slice() {
            [root] => Some(*root),
            _ => None,
        };
        let mut held = BTreeSet::new();
        loop {
            let stays = |id: &RowId| {
                self.references(*id).iter().any(|(reference, to)| {
                    reference.action == OnDelete::Cascade
                        && (held.contains(to) || self.deleted_by_other(*to, deletion))
                })
            };
            let further: Vec<RowId> = all
                .iter()
                .filter(|id| !held.contains(*id) && roots != Some(**id) && stays(id))
                .copied()
                .collect();
            if further.is_empty() {
                break;
            }
            held.extend(further);
        }
        let restored: BTreeSet<RowId> = all.difference(&held).copied().collect();
        let conflicting = restored
            .iter()
            .filter(|id| self.cannot_live(**id, &restored))
            .copied()
            .collect();
        Restoration {
            held,
            restored,
            conflicting,
        }
    }

    /// Whether one of `rows` must not be live without one of `held`.
    pub fn need(&self, rows: &BTreeSet<RowId>, held: &BTreeSet<RowId>) -> bool {
        rows.iter()
            .flat_map(|id| self.references(*id))
            .any(|(reference, to)| reference.is_enforced() && held.contains(&to))
    }

    /// Those of the rows that could come back together beside what is live: none of them, when a restore had to
    /// skip them.
    pub fn could_live(&self, mut rows: BTreeSet<RowId>) -> BTreeSet<RowId> {
        loop {
            let stay: Vec<RowId> = rows
                .iter()
                .filter(|id| self.cannot_live(**id, &rows))
                .copied()
                .collect();
            if stay.is_empty() {
                return rows;
            }
            for id in stay {
                rows.remove(&id);
            }
        }
    }

    /// Whether the row cannot be live together with the others and with what is live now.
    pub fn cannot_live(&self, id: RowId, others: &BTreeSet<RowId>) -> bool {
        let dead_parent = self.references(id).iter().any(|(reference, to)| {
            reference.is_enforced() && !others.contains(to) && !self.is_live(*to)
        });
        let label = self.rows[&id].label;
        let clash = self.schema.tables[id.0].unique
            && label.is_some()
            && self.rows.iter().any(|(other, row)| {
                other.0 == id.0
                    && *other != id
                    && row.label == label
                    && (row.deletion.is_none() || others.contains(other))
            });
        dead_parent || clash
    }

    /// Makes the rows live, those of `passed` to their new deletions, and puts references back.
    pub fn revive(
        &mut self,
        deletion: usize,
        live: &BTreeSet<RowId>,
        passed: &BTreeMap<RowId, usize>,
    ) {
        for id in live {
            if let Some(row) = self.rows.get_mut(id) {
                row.deletion = None;
            }
        }
        for (id, to) in passed {
            if let Some(row) = self.rows.get_mut(id) {
                row.deletion = Some(*to);
            }
        }
        if self.rows_of(deletion).is_empty() {
            self.deletions[deletion].state = State::Restored;
        }
        self.put_back(deletion);
    }

    /// Puts back what the deletion made rows let go of, as far as it may be.
    fn put_back(&mut self, deletion: usize) {
        for entry in std::mem::take(&mut self.detached) {
            if entry.deletion != deletion {
                self.detached.push(entry);
                continue;
            }
            match self.fate(&entry) {
                Fate::Waits(deletion) => self.detached.push(Detached { deletion, ..entry }),
                Fate::Forgotten => {}
                Fate::PutBack(cells) => {
                    if let Some(row) = self.rows.get_mut(&entry.row) {
                        row.cells = cells;
                    }
                }
            }
        }
    }

    /// A reference waits for the row it pointed to and, where its row is live, for every row that this would
    /// refer to again by another reference over the same columns. What has been changed since stays.
    fn fate(&self, entry: &Detached) -> Fate {
        let Some(parent) = self.rows.get(&entry.from) else {
            return Fate::Forgotten;
        };
        if let Some(deletion) = parent.deletion {
            return Fate::Waits(deletion);
        }
        let Some(row) = self.rows.get(&entry.row) else {
            return Fate::Forgotten;
        };
        let (table, mut cells) = (&self.schema.tables[entry.row.0], row.cells.clone());
        let key = self.schema.tables[entry.from.0].key;
        for part in table.references[entry.at].let_go(key) {
            let (at, slot) = table.slot(entry.at, part);
            cells[at][slot] = entry.old[part];
        }
        let mut may = columns_of(&self.schema, entry.row.0, entry.at, &row.cells) == entry.new;
        for (at, _, to) in self.targets(entry.row.0, &cells) {
            if at == entry.at || self.schema.target(&row.cells, entry.row.0, at) == Some(to.1) {
                continue;
            }
            match self.rows.get(&to).map(|other| other.deletion) {
                None => may = false,
                Some(Some(deletion)) if row.deletion.is_none() => return Fate::Waits(deletion),
                Some(_) => {}
            }
        }
        if may {
            Fate::PutBack(cells)
        } else {
            Fate::Forgotten
        }
    }

    /// Whether `holder` may be the deletion that a held row passed to: that of one of its parents.
    pub fn may_pass_to(&self, id: RowId, holder: usize) -> bool {
        self.references(id).iter().any(|(reference, to)| {
            reference.action == OnDelete::Cascade
                && self.rows.get(to).and_then(|row| row.deletion) == Some(holder)
        })
    }

    /// Whether purge may touch the row.
    pub fn is_held_legally(&self, id: RowId) -> bool {
        let deletion = self.rows.get(&id).and_then(|row| row.deletion);
        self.holds.values().any(|hold| match hold {
            Hold::Row(row) => *row == id,
            Hold::Deletion(held) => deletion == Some(*held),
            Hold::Tenant(tenant) => {
                deletion.is_some_and(|of| self.deletions[of].tenant.as_ref() == Some(tenant))
            }
        })
    }

    /// Whether a hold keeps the whole deletion.
    pub fn has_held_row(&self, deletion: usize) -> bool {
        self.rows_of(deletion)
            .into_iter()
            .any(|id| self.is_held_legally(id))
    }

    /// The rows of these deletions that can go for good: nothing that stays refers to them.
    pub fn purgeable(&self, deletions: &[usize]) -> BTreeSet<RowId> {
        let of_them = |row: &Row| row.deletion.is_some_and(|of| deletions.contains(&of));
        let expired: BTreeSet<RowId> = self
            .rows
            .iter()
            .filter(|(_, row)| of_them(row))
            .map(|(id, _)| *id)
            .collect();
        if PURGES_RINGS {
            self.without_outside_referrers(expired)
        } else {
            self.leaf_by_leaf(&expired)
        }
    }

    fn without_outside_referrers(&self, mut going: BTreeSet<RowId>) -> BTreeSet<RowId> {
        loop {
            let stays = |id: &RowId| {
                self.referrers(*id)
                    .iter()
                    .any(|(from, _, reference)| reference.is_enforced() && !going.contains(from))
            };
            let staying: Vec<RowId> = going.iter().filter(|id| stays(id)).copied().collect();
            if staying.is_empty() {
                return going;
            }
            for id in staying {
                going.remove(&id);
            }
        }
    }

    fn leaf_by_leaf(&self, expired: &BTreeSet<RowId>) -> BTreeSet<RowId> {
        let mut gone = BTreeSet::new();
        loop {
            let is_free = |id: &RowId| {
                self.referrers(*id)
                    .iter()
                    .all(|(from, _, reference)| !reference.is_enforced() || gone.contains(from))
            };
            let further: Vec<RowId> = expired
                .difference(&gone)
                .filter(|id| is_free(id))
                .copied()
                .collect();
            if further.is_empty() {
                return gone;
            }
            gone.extend(further);
        }
    }

    /// Removes rows for good: PostgreSQL carries out SET NULL, and objects reach the outbox.
    pub fn remove(&mut self, gone: &BTreeSet<RowId>) {
        self.detach(gone, None);
        let mut touched = BTreeSet::new();
        for id in gone {
            let Some(row) = self.rows.remove(id) else {
                continue;
            };
            touched.extend(row.deletion);
            let table = &self.schema.tables[id.0];
            if table.managed && table.objects {
                self.outbox.insert(Self::object(*id));
            }
        }
        self.detached
            .retain(|entry| !touched.contains(&entry.deletion));
        for deletion in touched {
            let left = self.rows_of(deletion);
            self.deletions[deletion].state = if left.is_empty() {
                State::Purged
            } else {
                State::Purging
            };
        }
    }

    /// A plain DELETE of an unmanaged row: PostgreSQL's own rules.
    pub fn delete_for_good(&mut self, id: RowId) -> Refusals {
        let restricts = |(from, _, reference): &(RowId, usize, &Reference)| {
            reference.is_enforced() && *from != id
        };
        if self.referrers(id).iter().any(restricts) {
            return Refusals::from(["23503"]);
        }
        self.remove(&BTreeSet::from([id]));
        Refusals::new()
    }

    /// Deletions that have rows.
    pub fn open(&self) -> Vec<usize> {
        let is_open =
            |at: &usize| matches!(self.deletions[*at].state, State::Deleted | State::Purging);
        (0..self.deletions.len()).filter(is_open).collect()
    }

    /// Everything, a line of text for each thing, sorted.
    pub fn lines(&self) -> Vec<String> {
        let rows = self.rows.iter().map(|((table, number), row)| {
            let mark = row.deletion.map_or("live", |of| &self.deletions[of].id);
            self.schema
                .row_line(*table, *number, &row.cells, row.label, row.plain, mark)
        });
        let there = self.deletions.iter();
        let there = there.filter(|deletion| deletion.state != State::Absorbed);
        let deletions = there.map(|deletion| {
            let root = match deletion.roots.as_slice() {
                [(table, number)] => self.schema.key_text(*table, *number),
                _ => "several".to_owned(),
            };
            let state = format!("{:?}", deletion.state).to_lowercase();
            format!("deletion {} {state} {root}", deletion.id)
        });
        let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for ((table, _), row) in &self.rows {
            if let Some(deletion) = row.deletion {
                *counts.entry((deletion, *table)).or_default() += 1;
            }
        }
        let counts = counts.iter().map(|((deletion, table), rows)| {
            let name = self.schema.tables[*table].sql();
            format!("holds {} {rows} of {name}", self.deletions[*deletion].id)
        });
        let objects = self.outbox.iter().map(|key| format!("object {key}"));
        let mut lines: Vec<String> = rows.chain(deletions).chain(counts).chain(objects).collect();
        lines.sort();
        lines
    }
}
