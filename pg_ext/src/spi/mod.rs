pub mod cursor;
pub mod latest_snapshot;
pub mod session;
