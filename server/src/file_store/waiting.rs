//! How long is waited for what another request has.

use std::time::Duration;

/// How long is waited for a place in `incoming/`, and for parts that another request joins.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(20);
/// How often is looked.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
