//! Tables managed with `keep => 'archive'`.

pub mod reading;
pub mod restore;
