//! How many files and connections the operating system lets the server have open.

use keepsake_service::log::{self, Level};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

/// Each connection has itself, and the file that it sends; or the one that it writes, twice.
const EACH: u64 = 3;

/// The database, the page, the log and whatever else.
const OTHERS: u64 = 64;

/// Asks for as many as there may be, and says when that is not enough for so many connections of clients and the database.
pub(crate) fn raise(clients: u32, database: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // A container may refuse it; then what there is counts.
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let wanted = wanted(clients, database);
    if let Some(current) = current
        && current < wanted
    {
        let advice = format!(
            "{current} open files are too few for MAX_CONNECTIONS: allow {wanted} (LimitNOFILE, ulimit -n), or lower it"
        );
        log::write(Level::Warning, "settings", json!({ "advice": advice }));
    }
}

fn wanted(clients: u32, database: usize) -> u64 {
    let database = u64::try_from(database).unwrap_or(u64::MAX);
    u64::from(clients) * EACH + database.saturating_add(OTHERS)
}
