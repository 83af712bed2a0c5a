//! What becomes of a Rust panic's place and backtrace.
//!
//! pgrx turns a panic into an ERROR, and gives its DETAIL a backtrace where the server's environment asks for
//! one (`RUST_BACKTRACE`): kilobytes of the server's insides, for whoever is connected. An error that
//! passes through Rust code is a panic as well, and would cost a backtrace each time.

use std::io::Write as _;
use std::panic::PanicHookInfo;

/// Takes the place of pgrx's hook; once in a backend's life.
pub fn install() {
    std::panic::set_hook(Box::new(tell));
}

/// Tells the server's log alone where a panic of our own was, and nothing of an error that passes.
fn tell(panic: &PanicHookInfo<'_>) {
    if let (Some(message), Some(place)) = (panic.payload_as_str(), panic.location()) {
        // Where nobody reads it, nothing can be done.
        let _ = writeln!(std::io::stderr(), "keepsake: panic at {place}: {message}");
    }
}
