//! The worker's settings, read once and checked whole.
//!
//! - `table`: every setting with its default, its form and its meaning, one line each.
//! - `parsers`: the forms that a setting can have. `claim` is where a token says something.
//! - `checked`: [`Config`], and what settings must be to each other.
//! - `environment`: reads them from the worker's environment.
//!
//! Plain settings are `[vars]` in `wrangler.toml`; key rings and passwords are secrets. While one is wrong the worker
//! answers 500 to every request. Its log names it once, and so does `/healthz`.
//!
//! May call `model` and `log`, and the types that `db` and `storage` are configured by.

mod checked;
mod claim;
mod environment;
mod parsers;
mod table;

pub(crate) use checked::{Config, JwksSettings, StoreSettings, TokenSettings, Webhook};
pub(crate) use claim::Claim;
pub(crate) use environment::load;
pub(crate) use parsers::ConfigError;
