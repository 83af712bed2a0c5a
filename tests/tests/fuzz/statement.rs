//! What a session is told to do: statements, and phrases of a few that belong together.

/// One statement.
#[derive(Clone, Debug)]
pub struct Statement {
    pub act: Act,
    /// It calls Keepsake and does nothing else, so the session must be afterwards what it was before.
    pub is_call: bool,
    /// It serves all owners, so what one of them did must not have it refused.
    pub must_answer: bool,
    /// Within a savepoint, to which a failure rolls back, when a transaction is open.
    pub guarded: bool,
}

/// How it is sent.
#[derive(Clone, Debug)]
pub enum Act {
    Run(String),
    Begin(&'static str),
    End(&'static str),
    CopyIn { sql: String, data: String },
    CopyOut(String),
}

/// Statements that one session runs one after the other.
pub type Phrase = Vec<Statement>;

impl Statement {
    pub fn run(sql: impl Into<String>) -> Self {
        Self::of(Act::Run(sql.into()))
    }

    pub const fn of(act: Act) -> Self {
        Self {
            act,
            is_call: false,
            must_answer: false,
            guarded: true,
        }
    }

    pub fn call(sql: impl Into<String>) -> Self {
        Self {
            is_call: true,
            ..Self::run(sql)
        }
    }

    /// As psql would be given it.
    pub fn sql(&self) -> String {
        match &self.act {
            Act::Run(sql) | Act::CopyOut(sql) => format!("{sql};"),
            Act::Begin(isolation) => format!("BEGIN ISOLATION LEVEL {isolation};"),
            Act::End(how) => format!("{how};"),
            Act::CopyIn { sql, data } => format!("{sql};\n{data}\\."),
        }
    }
}

/// A phrase of one statement.
pub fn one(sql: impl Into<String>) -> Phrase {
    vec![Statement::run(sql)]
}

/// A phrase of several.
pub fn all<S: Into<String>>(statements: impl IntoIterator<Item = S>) -> Phrase {
    statements.into_iter().map(Statement::run).collect()
}
