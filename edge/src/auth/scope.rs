/// What a token may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
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
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Read => "attachments:read",
            Self::Write => "attachments:write",
            Self::Metrics => "metrics",
            Self::Operator => "operator",
        }
    }
}
