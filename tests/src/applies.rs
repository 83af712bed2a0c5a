//! Where a test applies. Most apply on every host and with every store; one that does not declares what it needs, and where that is
//! not there it is reported as not applicable:
//!
//! ```
//! # fn test() -> anyhow::Result<()> {
//! keepsake_tests::requires!(NATIVE);
//! # Ok(())
//! # }
//! ```

use std::fmt::Write as _;
use std::io::Write as _;

use crate::worker::{Host, Store};

/// What a test needs.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    what: &'static str,
    is_met: fn() -> bool,
}

/// The worker: its queue, its own conversation with PostgreSQL, its memory.
pub const WORKER: Needs = Needs {
    what: "the worker",
    is_met: || Host::chosen() == Host::Worker,
};

/// The native server.
pub const NATIVE: Needs = Needs {
    what: "keepsake serve",
    is_met: || Host::chosen() == Host::Native,
};

/// A store whose objects the service serves itself, under its own URLs.
pub const SERVED: Needs = Needs {
    what: "a store that the service serves itself",
    is_met: || Store::chosen() != Store::S3,
};

/// Files in a folder.
pub const FOLDER: Needs = Needs {
    what: "keepsake serve with files in a folder",
    is_met: || Store::chosen() == Store::File,
};

/// A store that speaks S3, which the test starts for itself. It runs unless another store was named.
pub const S3: Needs = Needs {
    what: "a store that speaks S3",
    is_met: || Store::named().is_none_or(|named| named == Store::S3),
};

impl Needs {
    /// Whether it is not there. Then it is reported, also by tests whose output is hidden: `make test-stores` counts these lines.
    #[must_use]
    pub fn is_missing(self) -> bool {
        let is_missing = !(self.is_met)();
        if is_missing {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("a test");
            let mut line = String::new();
            let _ = writeln!(line, "not applicable: {test} needs {}", self.what);
            // `eprint!` would be hidden with the rest that a test prints.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        is_missing
    }
}

/// Declares what a test needs; see [`applies`](crate::applies).
#[macro_export]
macro_rules! requires {
    ($needs:ident) => {
        if $crate::applies::$needs.is_missing() {
            return Ok(());
        }
    };
}
