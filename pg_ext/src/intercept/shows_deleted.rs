//! What the policy that hides deleted rows asks of each.

use pgrx::Uuid;
use pgrx::prelude::*;

use crate::intercept::statement_deletion;
use crate::spi::including_deleted;

/// Whether rows of this deletion are shown where a policy hides deleted rows: when
/// `keepsake.include_deleted` is on, and to the very statement that marks them.
#[pg_extern(stable, parallel_safe)]
fn shows_deleted(deletion: Option<Uuid>) -> bool {
    including_deleted::is_on() || deletion.is_some_and(statement_deletion::is_making)
}
