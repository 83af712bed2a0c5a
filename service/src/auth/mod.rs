//! Bearer tokens: who calls, for which tenant, and what they may do.
//!
//! A token is a JWT (RFC 7519), signed with HS256 by a key of the ring, or with RS256, ES256 or EdDSA by a public key of
//! the issuer's JWKS, named by `kid`. The kind of key decides the algorithm: the header only chooses among keys of that kind,
//! so that no public key ever serves as a secret. The tenant and the scopes come from the token alone.
//!
//! - `identity`: verifies a request's token. `token` takes it apart, `claims` judges it.
//! - `sound_json`: JSON that all readers read alike.
//! - `jwks`, `key_cache`: the issuer's public keys, and where they are kept.
//!
//! May call `runtime`, `clock`, `log`, `model`, `http` and `config`. Errors are [`AuthError`].

mod claims;
mod error;
mod identity;
mod jwks;
mod key_cache;
mod sound_json;
mod token;

pub(crate) use error::AuthError;
pub(crate) use identity::Identity;
pub(crate) use key_cache::check as check_issuer;
