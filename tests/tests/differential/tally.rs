//! What the cases of a search have shown.

use crate::answer::answers;

/// What cases have shown.
#[derive(Debug, Default)]
pub struct Tally {
    pub statements: usize,
    pub errors: usize,
    /// Those that are refused on both sides, for another reason.
    pub otherwise_refused: usize,
    /// Cases of which no more is compared, since a deferred key was checked at the statement.
    pub refused_early: usize,
    /// MERGEs of which only what the tables hold afterwards is compared.
    pub uncounted: usize,
    /// Cases of which no more is compared, since one side's plan let a trigger change a row before the statement came to it.
    pub by_plan: usize,
    /// Cases of which no more is compared, since PostgreSQL came to a key before the cascade that would have taken the row that refers.
    pub refused_before_cascade: usize,
    pub removed: usize,
    pub restored: usize,
}

impl Tally {
    pub fn count(&mut self, said: &str) {
        for answer in answers(said) {
            self.statements += 1;
            self.errors += usize::from(answer.contains("ERROR:  "));
        }
        let removed = said.lines().filter_map(|line| line.strip_prefix("DELETE "));
        self.removed += removed
            .filter_map(|rows| rows.parse::<usize>().ok())
            .sum::<usize>();
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} statements, {} of them refused ({} for another reason, {} at once where the key is deferred, {} before a cascade, {} by a plan; {} MERGEs uncounted), {} rows removed by name, {} removals restored",
            self.statements,
            self.errors,
            self.otherwise_refused,
            self.refused_early,
            self.refused_before_cascade,
            self.by_plan,
            self.uncounted,
            self.removed,
            self.restored
        )
    }
}
