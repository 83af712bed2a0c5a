//! What becomes of each row of a restore: it comes back, passes to another deletion, or stays.

use std::collections::{BTreeSet, HashMap, HashSet};

use pgrx::{Uuid, pg_sys};

use crate::model::conflict::Conflict;
use crate::model::deleted_row::DeletedRow;
use crate::model::error::{Failure, Outcome};
use crate::model::found_conflict::{Found, losers};
use crate::model::on_conflict::OnConflict;
use crate::model::reference::OnDelete;
use crate::model::row_id::RowId;
use crate::registry::deletion::{Deletion, State};
use crate::restore_archived::archived_rows::Archived;
use crate::restore_archived::conflicts;
use crate::restore_archived::foreign_keys;
use crate::restore_archived::orphans::{self, Orphan};
use crate::restore_archived::rights;
use crate::restore_archived::row_choice::{self, Set};
use crate::restore_archived::unreadable;
use crate::restore_archived::work::{Scope, Work, open};
use crate::spi::session::Session;

/// Rows by table.
pub type ByTable = HashMap<pg_sys::Oid, BTreeSet<RowId>>;

/// The decisions, and what they were made of.
#[derive(Debug)]
pub struct Plan {
    /// What was asked for; its set grows by the parents that are taken along.
    pub work: Work,
    /// The rows that come back.
    pub set: Set,
    /// Rows of which the set has a later version: they are dropped.
    pub superseded: ByTable,
    /// Rows that pass to another deletion.
    pub held: HashMap<Uuid, ByTable>,
    /// Rows that stay.
    pub skipped: ByTable,
    /// Whether a row that was asked for by itself stays, and so all do.
    pub nothing: bool,
    found: Vec<Found>,
}

impl Plan {
    /// Everything comes back, as far as is known without looking.
    pub fn unseen(work: Work) -> Self {
        Self {
            set: work.set.clone(),
            work,
            superseded: ByTable::new(),
            held: HashMap::new(),
            skipped: ByTable::new(),
            nothing: false,
            found: Vec::new(),
        }
    }

    /// Looks at every row.
    pub fn make(
        session: &mut Session<'_, '_>,
        work: Work,
        on_conflict: OnConflict,
    ) -> Outcome<Self> {
        let mut plan = Self::unseen(work);
        plan.leave_unreadable(session)?;
        plan.drop_superseded(session)?;
        if on_conflict == OnConflict::Parents {
            plan.take_parents(session)?;
        }
        plan.leave_behind(session)?;
        plan.hold(session)?;
        match on_conflict {
            OnConflict::Skip => plan.skip(session)?,
            OnConflict::Fail | OnConflict::Parents => {
                let found = plan.all_conflicts(session)?;
                plan.found.extend(found);
            }
        }
        Ok(plan)
    }

    /// The rows kept in place, and deleted, that the rows would refer to, or archived parents that come with them.
    pub fn parents_in_place(session: &mut Session<'_, '_>, work: Work) -> Outcome<Vec<DeletedRow>> {
        let mut plan = Self::unseen(work);
        plan.leave_unreadable(session)?;
        plan.drop_superseded(session)?;
        plan.take_parents(session)?;
        let lacking = plan.orphans(session)?.into_iter();
        let parents = lacking.filter_map(|orphan| {
            let (table, row) = orphan.parent_in_place?;
            let deletion = orphan.holder?;
            Some(DeletedRow {
                deletion,
                table,
                row,
            })
        });
        Ok(parents.collect())
    }

    /// To whom the rows are none of his business there is no such deletion, whatever stands in its way.
    pub fn refuse_strangers(&self, session: &mut Session<'_, '_>) -> Outcome<()> {
        if self.found.is_empty() {
            return Ok(());
        }
        for one in &self.work.tables {
            let roots = self.work.roots.rows(one.table.oid);
            if !roots.is_empty() && !rights::would_pass(session, one, &roots)? {
                return Err(Failure::DeletionNotFound {
                    deletion: self.work.deletion.id.to_string(),
                });
            }
        }
        Ok(())
    }

    /// The conflicts as the caller may read them.
    pub fn shown(&self, session: &mut Session<'_, '_>) -> Outcome<Vec<Conflict>> {
        if self.found.is_empty() {
            return Ok(Vec::new());
        }
        let archives = self.archives(session)?;
        conflicts::shown(session, &archives, &self.work.keys, self.found.clone())
    }

    fn leave_unreadable(&mut self, session: &mut Session<'_, '_>) -> Outcome<()> {
        let mut rows = ByTable::new();
        for one in &self.work.tables {
            let among = self.set.rows(one.table.oid);
            if among.is_empty() {
                continue;
            }
            for found in unreadable::unreadable(session, one, &among)? {
                let (table, row) = found.row;
                self.set.remove(table, row);
                rows.entry(table).or_default().insert(row);
                self.skipped.entry(table).or_default().insert(row);
                self.found.push(found);
            }
        }
        self.let_go(session, rows, None, false)
    }

    fn drop_superseded(&mut self, session: &mut Session<'_, '_>) -> Outcome<()> {
        for one in &self.work.tables {
            let rows = self.set.rows(one.table.oid);
            if rows.is_empty() {
                continue;
            }
            for row in conflicts::superseded(session, one, &rows)? {
                self.set.remove(one.table.oid, row);
                self.superseded
                    .entry(one.table.oid)
                    .or_default()
                    .insert(row);
            }
        }
        Ok(())
    }

    /// The tables with archives that are referred to, with those that get rows.
    fn archives(&self, session: &Session<'_, '_>) -> Outcome<Vec<Archived>> {
        let parents = self.work.keys.iter().map(|key| key.parent.oid);
        let all: HashSet<pg_sys::Oid> = parents
            .chain(self.work.tables.iter().map(|one| one.table.oid))
            .collect();
        Archived::read(session, &all.into_iter().collect::<Vec<_>>())
    }

    fn orphans(&self, session: &mut Session<'_, '_>) -> Outcome<Vec<Orphan>> {
        let archives = self.archives(session)?;
        let mut found = Vec::new();
        for key in self.work.keys.iter().enumerate() {
            let tables = &self.work.tables;
            found.extend(orphans::orphans(
                session, tables, &archives, key, &self.set,
            )?);
        }
        Ok(found)
    }

    /// Takes along the archived parents that rows lack, and theirs, where the caller may restore them by themselves.
    fn take_parents(&mut self, session: &mut Session<'_, '_>) -> Outcome<()> {
        let mut refused: HashSet<pg_sys::Oid> = HashSet::new();
        loop {
            let mut grew = false;
            for orphan in self.orphans(session)? {
                let (Some(holder), Some((table, parent))) = (orphan.holder, orphan.parent) else {
                    continue;
                };
                if refused.contains(&table) || !self.lock_deletion(session, holder)? {
                    continue;
                }
                if !self.open_table(session, table)? {
                    refused.insert(table);
                    continue;
                }
                if self.set.add(table, parent) {
                    self.work.roots.add(table, parent);
                    grew = true;
                }
            }
            if !grew {
                return Ok(());
            }
        }
    }

    /// Locks another deletion, unless it is a preview; false when it can be restored no more.
    fn lock_deletion(&mut self, session: &mut Session<'_, '_>, id: Uuid) -> Outcome<bool> {
        if self.work.locked.contains(&id) {
            return Ok(true);
        }
        let deletion = Deletion::read(session, id, self.work.scope != Scope::Preview)?;
        let restorable = deletion.is_some_and(|deletion| deletion.state == State::Deleted);
        if restorable {
            self.work.locked.push(id);
        }
        Ok(restorable)
    }

    /// Makes a table one of those that get rows, where the caller has the privileges.
    fn open_table(&mut self, session: &mut Session<'_, '_>, table: pg_sys::Oid) -> Outcome<bool> {
        if !self.work.tables.iter().any(|one| one.table.oid == table) {
            let opened = open(session, vec![table], Scope::Deletion)?;
            let keys = foreign_keys::read(session, &opened, &self.work.returning)?;
            self.work.keys.extend(keys);
            self.work.tables.extend(opened);
            self.work
                .tables
                .sort_by(|one, other| one.table.shown.cmp(&other.table.shown));
        }
        let Some(one) = self.work.tables.iter().find(|one| one.table.oid == table) else {
            return Ok(false);
        };
        match rights::refuse_unless_may(session, &one.table) {
            Ok(()) => Ok(true),
            Err(Failure::MayNotDelete { .. } | Failure::MayNotInsert { .. }) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Leaves where they are rows that would be brought along and lack another parent: their own deletion, or the parent's,
    /// brings them back.
    fn leave_behind(&mut self, session: &mut Session<'_, '_>) -> Outcome<()> {
        let archives = self.archives(session)?;
        let Work {
            tables,
            keys,
            whole,
            roots,
            ..
        } = &self.work;
        let asked_for = (whole.as_slice(), roots);
        orphans::leave_behind(session, (tables, &archives, keys), asked_for, &mut self.set)
    }

    /// Lets go of rows that another deletion removes as well: rows whose parent it has, by a reference that cascades, and
    /// what hangs on them. A single root is never held: who asks for it is told of its parent.
    fn hold(&mut self, session: &mut Session<'_, '_>) -> Outcome<()> {
        loop {
            let mut taken: HashMap<Uuid, ByTable> = HashMap::new();
            for orphan in self.orphans(session)? {
                let key = self.work.keys.get(orphan.key);
                let cascades = key.is_some_and(|key| key.reference.on_delete == OnDelete::Cascade);
                let (table, row) = orphan.row;
                let own = self.work.deletion.id;
                let Some(holder) = orphan.holder.filter(|holder| cascades && *holder != own) else {
                    continue;
                };
                if self.is_single_root(table, row) || !self.lock_deletion(session, holder)? {
                    continue;
                }
                if self.set.remove(table, row) {
                    taken
                        .entry(holder)
                        .or_default()
                        .entry(table)
                        .or_default()
                        .insert(row);
                }
            }
            if taken.is_empty() {
                return Ok(());
            }
            for (holder, rows) in taken {
                let held = self.held.entry(holder).or_default();
                for (table, rows) in &rows {
                    held.entry(*table).or_default().extend(rows);
                }
                self.let_go(session, rows, Some(holder), true)?;
            }
        }
    }

    fn is_single_root(&self, table: pg_sys::Oid, row: RowId) -> bool {
        self.work.single_root && self.work.roots.rows(table).also.contains(&row)
    }

    /// Takes rows out of the set that refer to rows which do not come back, and those that refer to these.
    fn let_go(
        &mut self,
        session: &mut Session<'_, '_>,
        mut rows: ByTable,
        holder: Option<Uuid>,
        only_cascades: bool,
    ) -> Outcome<()> {
        while !rows.is_empty() {
            let mut next = ByTable::new();
            for key in &self.work.keys {
                let cascades = key.reference.on_delete == OnDelete::Cascade;
                let Some(both) = row_choice::between(&self.work.tables, key) else {
                    continue;
                };
                let Some(staying) = rows
                    .get(&both.1.table.oid)
                    .filter(|_| cascades || !only_cascades)
                else {
                    continue;
                };
                let table = both.0.table.oid;
                for row in orphans::dependents(session, key, both, &self.set, staying)? {
                    if self.set.remove(table, row) {
                        next.entry(table).or_default().insert(row);
                    }
                }
            }
            for (table, rows) in &next {
                let to = match holder {
                    Some(holder) => self.held.entry(holder).or_default(),
                    None => &mut self.skipped,
                };
                to.entry(*table).or_default().extend(rows);
            }
            rows = next;
        }
        Ok(())
    }

    fn all_conflicts(&self, session: &mut Session<'_, '_>) -> Outcome<Vec<Found>> {
        let (tables, keys) = (&self.work.tables, &self.work.keys);
        let mut found = conflicts::find(session, tables, &self.set)?;
        let mut told = HashSet::new();
        for orphan in self.orphans(session)? {
            // Several parents of one deletion may hold parts of a range. Of those in place no more is told than their deletion.
            let is_told = orphan.parent_in_place.is_some()
                && !told.insert((orphan.row, orphan.key, orphan.holder));
            if !is_told {
                found.extend(orphans::of_orphan(&orphan, keys, tables));
            }
        }
        Ok(found)
    }

    /// Leaves out what conflicts, and what hangs on it, until nothing conflicts.
    fn skip(&mut self, session: &mut Session<'_, '_>) -> Outcome<()> {
        loop {
            let losing = losers(self.all_conflicts(session)?);
            if losing.is_empty() {
                break;
            }
            let mut rows = ByTable::new();
            for loser in losing {
                let (table, row) = loser.row;
                if self.set.remove(table, row) {
                    rows.entry(table).or_default().insert(row);
                    self.skipped.entry(table).or_default().insert(row);
                }
                self.found.push(loser);
            }
            self.let_go(session, rows, None, false)?;
        }
        self.nothing = !self.skipped.is_empty() && self.skips_every_root(session)?;
        Ok(())
    }

    fn skips_every_root(&self, session: &mut Session<'_, '_>) -> Outcome<bool> {
        for one in &self.work.tables {
            let mut roots = self.work.roots.rows(one.table.oid);
            for row in self.skipped.get(&one.table.oid).into_iter().flatten() {
                roots.remove(*row);
            }
            if !roots.is_empty() && unreadable::has_rows(session, one, &roots)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
