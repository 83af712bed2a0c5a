//! The statements of one session, from a seed alone: what came of one does not change the next.

use std::sync::Arc;

use keepsake_tests::random::Random;

use crate::calls::{self, Routine};
use crate::statement::{Act, Phrase, Statement, one};
use crate::words::Words;
use crate::world::Role;
use crate::{definitions, hostile, rows};

pub struct Generator {
    words: Words,
    in_transaction: bool,
}

impl Generator {
    pub const fn new(random: Random, role: Role, routines: Arc<Vec<Routine>>) -> Self {
        let words = Words {
            random,
            role,
            routines,
        };
        Self {
            words,
            in_transaction: false,
        }
    }

    pub fn next(&mut self) -> Phrase {
        if let Some(phrase) = self.transaction() {
            return phrase;
        }
        let mut phrase = self.act();
        for statement in &mut phrase {
            // What is not caught spoils the whole transaction: that happens, but not to each.
            statement.guarded &= !self.words.one_in(8);
        }
        phrase
    }

    fn transaction(&mut self) -> Option<Phrase> {
        let words = &mut self.words;
        if !self.in_transaction {
            if !words.one_in(6) {
                return None;
            }
            self.in_transaction = true;
            let isolation = words.random.weighted(&[
                (4, "READ COMMITTED"),
                (1, "REPEATABLE READ"),
                (1, "SERIALIZABLE"),
                (1, "READ COMMITTED READ ONLY"),
            ]);
            return Some(vec![Statement::of(Act::Begin(isolation))]);
        }
        if words.one_in(7) {
            self.in_transaction = false;
            let how = words.random.weighted(&[
                (5, "COMMIT"),
                (2, "ROLLBACK"),
                (1, "PREPARE TRANSACTION 'fuzz'"),
            ]);
            return Some(vec![Statement::of(Act::End(how))]);
        }
        words.one_in(10).then(|| {
            one(words.pick(&[
                "SAVEPOINT s",
                "SAVEPOINT s",
                "ROLLBACK TO s",
                "ROLLBACK TO s",
                "RELEASE s",
            ]))
            .into_iter()
            .map(|statement| Statement {
                guarded: false,
                ..statement
            })
            .collect()
        })
    }

    fn act(&mut self) -> Phrase {
        let words = &mut self.words;
        match words.role {
            Role::OwnerA | Role::OwnerB => match words.number(100) {
                0..=27 => words.random.weighted(&definitions::PHRASES)(words),
                28..=45 => words.random.weighted(&hostile::PHRASES)(words),
                46..=75 => words.random.weighted(&rows::PHRASES)(words),
                76..=92 => calls::usual(words),
                _ => calls::anything(words),
            },
            Role::Application => match words.number(100) {
                0..=54 => words.random.weighted(&rows::PHRASES)(words),
                55..=84 => calls::usual(words),
                _ => calls::anything(words),
            },
            Role::Worker | Role::Operator => match words.number(100) {
                0..=39 => calls::upkeep(words),
                40..=69 => calls::usual(words),
                70..=76 => disturb(words),
                77..=79 => one("DECLARE secret CURSOR FOR SELECT 'secret'"),
                _ => calls::anything(words),
            },
            Role::Nobody => calls::anything(words),
        }
    }
}

/// Somebody interrupts the others, or ends them.
fn disturb(words: &mut Words) -> Phrase {
    let how = words.pick(&["cancel", "cancel", "cancel", "terminate"]);
    let others = "FROM pg_stat_activity WHERE datname = current_database() AND usename LIKE 'fuzz_%' AND pid <> pg_backend_pid()";
    let which = words.number(3);
    one(format!(
        "SELECT pg_{how}_backend(pid) FROM (SELECT pid {others} ORDER BY backend_start LIMIT 1 OFFSET {which}) AS other"
    ))
}
