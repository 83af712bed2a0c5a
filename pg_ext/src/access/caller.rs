//! Who calls.

use crate::model::error::Outcome;
use crate::spi::session::Session;

/// The roles that the registry records: what the database itself vouches for, whatever `keepsake.actor` says.
#[derive(Clone, Debug)]
pub struct Caller {
    /// `current_user`: whose rights count.
    pub role: String,
    /// `session_user`: who logged in.
    pub session_role: String,
}

impl Caller {
    /// Who calls now. To be asked before the rights change.
    pub fn of(session: &Session<'_, '_>) -> Outcome<Self> {
        let rows = session
            .catalog_kept("SELECT current_user::text, session_user::text", &[])?
            .first();
        Ok(Self {
            role: rows.get(1)?.unwrap_or_default(),
            session_role: rows.get(2)?.unwrap_or_default(),
        })
    }
}
