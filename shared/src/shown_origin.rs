//! What may be shown of an address: its origin. What is behind that may be a secret.

use core::fmt;

/// The origin of an address, and a mark for what is left out.
#[derive(Clone, Copy)]
pub struct ShownOrigin<'a>(pub &'a str);

impl fmt::Debug for ShownOrigin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or_default();
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        write!(f, "{scheme}://{authority}/…")
    }
}
