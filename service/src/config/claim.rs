//! Where a token says something.

use serde_json::Value;
use std::str::FromStr;

/// A claim: by its name, which may be a URL, or by a JSON pointer (RFC 6901), which begins with a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim(String);

impl Claim {
    /// What the claims have there.
    pub(crate) fn of<'a>(&self, claims: &'a Value) -> Option<&'a Value> {
        if self.0.starts_with('/') {
            claims.pointer(&self.0)
        } else {
            claims.get(&self.0)
        }
    }

    /// Whether it is a scope claim, whose text is a list of words (RFC 8693 §4.2). Elsewhere a text is one role, whose name may
    /// have spaces.
    pub(crate) fn has_words(&self) -> bool {
        matches!(self.0.as_str(), "scope" | "scp")
    }
}

/// The claim that the database's functions read.
impl Default for Claim {
    fn default() -> Self {
        Self("tenant".to_owned())
    }
}

impl FromStr for Claim {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim();
        if name.is_empty() || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(
                "must be the name of a claim, or a JSON pointer such as /app_metadata/tenant_id",
            );
        }
        Ok(Self(name.to_owned()))
    }
}
