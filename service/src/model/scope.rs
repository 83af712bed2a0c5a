/// What a token may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// List, look at and download.
    Read,
    /// Upload, delete and restore.
    Write,
    /// Read the numbers that an operator watches, of all tenants.
    Metrics,
    /// See what waits and what failed, of all tenants, and mend it; read the numbers, too.
    Operator,
}

impl Scope {
    const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Metrics, Self::Operator];

    /// The scope of this name, which is case-sensitive (RFC 6749 §3.3).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }

    /// The word that stands for it in a token.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "attachments:read",
            Self::Write => "attachments:write",
            Self::Metrics => "metrics",
            Self::Operator => "operator",
        }
    }
}
