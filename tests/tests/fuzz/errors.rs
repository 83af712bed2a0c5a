//! Which errors a client may be told.

use sqlx::postgres::PgDatabaseError;

/// Internal errors that are PostgreSQL's own, with what brings them about.
const KNOWN: [(&str, &str); 0] = [];

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
