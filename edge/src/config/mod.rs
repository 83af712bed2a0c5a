//! The worker's settings, read once and checked whole.
//!
//! - `table`: every setting with its default, its form and its meaning, one line each.
//! - `parsers`: the forms that a setting can have.
//! - `checked`: [`Config`], and what settings must be to each other.
//! - `environment`: reads them from the worker's environment.
//!
//! Plain settings are `[vars]` in `wrangler.toml`; key rings and passwords are secrets. While one is wrong the worker
//! answers 500 to every request, `/healthz` included, and the log names it.
//!
//! May call `log`, and the types that `db` and `storage` are configured by.

mod checked;
mod environment;
mod parsers;
mod table;

pub(crate) use checked::{Config, JwksSettings, StoreSettings, TokenSettings};
pub(crate) use environment::load;
pub(crate) use parsers::ConfigError;
