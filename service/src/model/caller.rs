use keepsake_shared::TenantId;

/// A caller whose token was verified.
#[derive(Debug)]
pub struct Caller {
    /// The tenant all work is done for.
    pub tenant: TenantId,
    /// The verified claims as JSON text, for `request.jwt.claims` in the database.
    pub claims: String,
}
