//! Writing to the terminal, or to what stands in its place.
//!
//! `print!` and `eprint!` end the program where nobody reads any more or the disk is full, in the middle of its work. So nothing here
//! uses them: work goes on without a reader, and whether the result was written is the caller's to tell.

use std::io::{self, Write as _};

/// Writes the result to standard output.
///
/// # Errors
/// It cannot be written, for instance because the disk is full.
pub fn result(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    unless_closed(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// A reader that has closed its end, such as `head`, is no failure.
///
/// # Errors
/// Any other than that.
pub fn unless_closed(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// A text without what would move the terminal's cursor, but for the ends of lines: names come from a database, where anything may
/// be one.
#[must_use]
pub fn shown(text: &str) -> String {
    let is_plain = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars()
        .map(|c| if is_plain(c) { c } else { ' ' })
        .collect()
}

/// Reports progress on standard error. Standard output is for results.
pub fn progress(step: &str) {
    complain(&format!("==> {}", shown(step)));
}

/// Writes a line to standard error, if it can be written.
pub fn complain(line: &str) {
    let _ = io::stderr()
        .lock()
        .write_all(format!("{line}\n").as_bytes());
}
