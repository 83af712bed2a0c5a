use crate::model::Scope;

/// Why a request has no caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthError {
    /// No `Authorization: Bearer` header.
    Missing,
    /// A token that is not ours, with the reason.
    Invalid(&'static str),
    /// A token whose time is over.
    Expired,
    /// A good token that names no tenant.
    NoTenant,
    /// A good token that does not allow this.
    Scope(Scope),
    /// The issuer's keys cannot be had, so that nothing is known of the token.
    NoKeys,
    /// What the issuer publishes is no key set that can be used, with the reason.
    UnusableKeys(&'static str),
}
