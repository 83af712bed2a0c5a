//! Deletions that are undone.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};

use super::{Pair, expect};
use crate::operation::{Operation, RESTORE_SEES_HELD_PARENTS};
use crate::oracle::{Refusals, RowId, State};
use crate::schema::literal;

impl Pair<'_> {
    pub(super) async fn restore(&mut self, operation: &Operation) -> Result<()> {
        let Some(deletion) = self.pick_deletion(operation.subject) else {
            return Ok(());
        };
        self.claim_of(deletion).await?;
        let id = literal(&self.oracle.deletions[deletion].id);
        let sql = format!("SELECT keepsake.restore({id})::text");
        let refusals = match self.oracle.deletions[deletion].state {
            State::Deleted => return self.restore_open(deletion, &sql).await,
            State::Restored => Refusals::new(),
            State::Absorbed => Refusals::from(["P0002"]),
            // Its root may be gone, and with it whom to ask for leave.
            State::Purging => Refusals::from(["55000", "P0002"]),
            State::Purged => Refusals::from(["55000"]),
        };
        let answer = self.attempt(&sql).await?;
        expect(&sql, &answer, &refusals)
    }

    pub(super) async fn restore_open(&mut self, deletion: usize, sql: &str) -> Result<()> {
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
    pub(super) async fn adopt_passed(
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

    pub(super) async fn restore_skipping(&mut self, operation: &Operation) -> Result<()> {
        let Some(deletion) = self.pick_deletion(operation.subject) else {
            return Ok(());
        };
        if self.oracle.deletions[deletion].state != State::Deleted {
            return Ok(());
        }
        self.claim_of(deletion).await?;
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
        self.adopt_passed(deletion, &live, &plan.held).await?;
        let clashing = live.iter().find(|id| self.oracle.cannot_live(**id, &live));
        ensure!(
            clashing.is_none(),
            "{sql} brings back {clashing:?}, which cannot be live"
        );
        // Without its root nothing of a deletion comes back.
        if !live.is_empty() {
            let needless = self.oracle.could_live(skipped);
            ensure!(
                needless.is_empty(),
                "{sql} skips {needless:?}, which could be live"
            );
        }
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
