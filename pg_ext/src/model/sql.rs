//! SQL text from typed pieces. Every identifier and literal the extension writes is quoted here.

use std::fmt;

/// A column name or any other single identifier; `Display` writes it quoted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ident(pub String);

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// A schema-qualified name; `Display` writes both parts quoted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Qualified {
    /// The schema.
    pub schema: Ident,
    /// The name within it.
    pub name: Ident,
}

impl Qualified {
    /// As a person would write it: quoted only where it must be.
    pub fn shown(&self) -> String {
        pgrx::spi::quote_qualified_identifier(&self.schema.0, &self.name.0)
    }
}

impl fmt::Display for Qualified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A text constant; `Display` writes it so that it reads the same under any
/// `standard_conforming_strings`.
#[derive(Clone, Copy, Debug)]
pub struct Literal<'a>(pub &'a str);

impl fmt::Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doubled = self.0.replace('\'', "''");
        if doubled.contains('\\') {
            write!(f, "E'{}'", doubled.replace('\\', "\\\\"))
        } else {
            write!(f, "'{doubled}'")
        }
    }
}

/// Joins the written forms of `items` with `separator`.
pub fn join<T: fmt::Display>(items: impl IntoIterator<Item = T>, separator: &str) -> String {
    let written: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    written.join(separator)
}
