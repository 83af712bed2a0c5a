//! Attacks that once worked, each as the words by which its statements are known: seeds must come to all of them.

use std::sync::Arc;

use keepsake_tests::random::Random;

use crate::calls::Routine;
use crate::generator::Generator;
use crate::statement::{Phrase, Statement};
use crate::world::Role;

/// Every group of words stands in one phrase.
const ATTACKS: [(&str, &[&str]); 6] = [
    (
        "a trigger function called for what it is not for",
        &[
            "BEFORE INSERT",
            "FOR EACH STATEMENT",
            "EXECUTE FUNCTION keepsake.protect_state()",
            "INSERT INTO",
        ],
    ),
    (
        "a state column exchanged for one of another type",
        &[
            "RENAME deletion_id TO x1",
            "ADD deletion_id text",
            "DELETE FROM",
        ],
    ),
    (
        "restores within restores, the last of which fails",
        &[
            "NEW.id >= 6",
            "ERRCODE = '40001'",
            "PERFORM keepsake.restore((SELECT deletion_id FROM",
        ],
    ),
    (
        "a deferred trigger that fires when whoever purged commits",
        &[
            "DEFERRABLE INITIALLY DEFERRED",
            "ALTER ROLE fuzz_a SUPERUSER",
            "CREATE OR REPLACE TRIGGER early BEFORE DELETE",
            "INSERT INTO sa.j (id) VALUES (1)",
        ],
    ),
    (
        "a setting that outlives the call",
        &[
            "set_config('search_path', 'sa', false)",
            "CREATE OR REPLACE TRIGGER early BEFORE DELETE",
        ],
    ),
    (
        "a cursor that outlives the call",
        &[
            "CURSOR WITH HOLD",
            "CREATE OR REPLACE TRIGGER early BEFORE DELETE",
        ],
    ),
];
const PHRASES: usize = 200_000;

#[test]
fn seeds_come_to_every_known_attack() {
    let routine = |name: &str| Routine {
        name: name.to_owned(),
        is_procedure: false,
        is_set: false,
        result: "trigger".to_owned(),
        arguments: Vec::new(),
        defaults: 0,
    };
    let routines = Arc::new(["guard_insert", "protect_state"].map(routine).to_vec());
    let mut generator = Generator::new(Random::new(1), Role::OwnerA, routines);
    let mut missing = ATTACKS.to_vec();
    for _ in 0..PHRASES {
        let phrase = text(&generator.next());
        missing.retain(|(_, words)| !words.iter().all(|word| phrase.contains(word)));
        if missing.is_empty() {
            return;
        }
    }
    assert!(missing.is_empty(), "no phrase is like these: {missing:?}");
}

fn text(phrase: &Phrase) -> String {
    phrase
        .iter()
        .map(Statement::sql)
        .collect::<Vec<_>>()
        .join("\n")
}
