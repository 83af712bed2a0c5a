//! Messages for people.

use alloc::{format, string::String};
use core::fmt::Display;

/// An error's message as a sentence of its own.
pub(crate) fn sentence(error: impl Display) -> String {
    let message = format!("{error}.");
    let mut letters = message.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}
