//! Legal holds on a row, a deletion or a tenant. They block purges and changes of a held row's key, nothing else.
//!
//! - `legal_hold` has the SQL functions that make a hold and release it.
//! - `in_force` finds the holds that keep deletions from being purged, and refuses what would change a held row.
//!
//! It uses `model`, `call`, `spi`, `graph`, `access` and `registry`.

pub mod in_force;
pub mod legal_hold;
