//! The service's settings, read once and checked whole.
//!
//! - `table`: every setting with its default, its form and its meaning, one line each.
//! - `parsers`: the forms that a setting can have. `claim` is where a token says something.
//! - `checked`: [`Config`], and what settings must be to each other.
//!
//! Plain settings of the worker are `[vars]` in `wrangler.toml`; key rings and passwords are secrets. While one is wrong
//! the worker answers 500 to every request. Its log names it once, and so does `/healthz`.
//!
//! May call `model` and `log`, and the types that `db` and `storage` are configured by.

mod checked;
mod claim;
mod parsers;
mod table;

pub use checked::{Config, StoreSettings};
pub(crate) use checked::{JwksSettings, TokenSettings, Webhook};
pub(crate) use claim::Claim;
pub use parsers::ConfigError;
pub use table::NAMES;
