//! Which errors a client may be told.

use sqlx::postgres::PgDatabaseError;

/// Internal errors that are PostgreSQL's own, with what brings them about.
const KNOWN: [(&str, &str); 4] = [
    (
        "cache lookup failed for constraint ",
        "a trigger of a row drops the table whose foreign key is asked about that row",
    ),
    (
        "could not open relation with OID ",
        "a regclass that names nothing, any more or at all; nextval() and others say the same",
    ),
    (
        "cannot rename trigger ",
        "a trigger of a partitioned table is renamed on one of its partitions",
    ),
    (
        "could not read block",
        "a function in an index reads the table for which the index is being built",
    ),
];

/// What a statement that serves all owners may be refused for: limits, its own transaction, somebody who ended it, or a
/// schema or table that was dropped between its look at the catalog and its use.
const OF_ITS_OWN: [&str; 11] = [
    "25001", "25006", "25P02", "2D000", "3F000", "40001", "40P01", "42P01", "55P03", "57014",
    "57P01",
];

/// What is wrong with an error of a statement that must be answered.
pub fn wrong_refusal(error: &PgDatabaseError) -> Option<String> {
    // Raised by a trigger, it would have other words.
    let is_real = error.code() != "57014" || error.message().starts_with("canceling statement");
    let is_own = OF_ITS_OWN.contains(&error.code()) || error.code().starts_with("57P");
    let told = format!(
        "an owner has upkeep refused: {:?} {}: {}",
        error.severity(),
        error.code(),
        error.message()
    );
    (!is_own || !is_real).then_some(told)
}

/// What is wrong with an error, if anything is.
pub fn wrong(error: &PgDatabaseError) -> Option<String> {
    let said = [
        Some(error.message()),
        error.detail(),
        error.hint(),
        error.r#where(),
    ];
    let said: Vec<&str> = said.into_iter().flatten().collect();
    let leaks = said.iter().any(|text| tells_of_its_source(text));
    let is_internal = error.code().starts_with("XX") && !is_known(error.message());
    (leaks || is_internal).then(|| format!("error {}: {}", error.code(), said.join("\n")))
}

fn is_known(message: &str) -> bool {
    KNOWN.iter().any(|(known, _)| message.starts_with(known))
}

/// Whether a text names the place of a panic, or shows a backtrace.
pub fn tells_of_its_source(text: &str) -> bool {
    text.contains("panicked at")
        || text.contains("stack backtrace")
        || text.contains("RUST_BACKTRACE")
        || text.contains("unwrap()")
        || text.split(".rs:").skip(1).any(|rest| {
            rest.chars()
                .next()
                .is_some_and(|first| first.is_ascii_digit())
        })
}
