//! Tables managed with `keep => 'archive'`: PostgreSQL deletes their rows itself, and each is kept in an archive on
//! its way out.
//!
//! A managed table has one row trigger ([`capture`]) and nothing else. What it removes is collected while the client's
//! statement runs ([`removal`], one deletion each) and written when that has ended ([`write`]). An archive is a table
//! ([`table`]) that follows its source by [`layout`]s, which are only ever appended; [`source`] is what a backend knows
//! of both.

pub mod capture;
mod key;
pub mod layout;
pub mod manage;
mod memory;
pub mod reading;
mod record;
pub mod removal;
pub mod restore;
pub mod source;
pub mod table;
mod truncate;
pub mod write;
