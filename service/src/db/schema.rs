//! The version of the attachment schema that this worker needs.

/// The schema's oldest version that has everything this worker calls. A newer one works as well: a migration keeps what
/// the worker before it calls, so that the schema is updated first and the worker after it.
pub(crate) const REQUIRED_SCHEMA: i32 = 1;

#[cfg(test)]
mod tests {
    use super::REQUIRED_SCHEMA;

    #[test]
    fn is_the_version_that_the_migrations_give() {
        let schema = include_str!("../../../migrations/schema/22_version.sql");
        let body = schema.split("AS $$").nth(1).unwrap();
        let words: Vec<&str> = body
            .split("$$")
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        assert_eq!(
            words.join(" "),
            format!("BEGIN RETURN {REQUIRED_SCHEMA}; END")
        );
    }
}
