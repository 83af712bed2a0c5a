//! Who signs, and for where.

use alloc::string::String;
use core::fmt;

use zeroize::Zeroizing;

use super::SigV4Error;

/// An access key. Its secrets are wiped when it is dropped, and `Debug` does not show them.
#[derive(Clone)]
pub struct Credentials {
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    session_token: Option<Zeroizing<String>>,
}

impl Credentials {
    /// A long-lived access key, or with `session_token` a temporary one.
    ///
    /// # Errors
    /// [`SigV4Error::AccessKeyId`], [`SigV4Error::SecretAccessKey`] or [`SigV4Error::SessionToken`].
    pub fn new(
        access_key_id: &str,
        secret_access_key: &str,
        session_token: Option<&str>,
    ) -> Result<Self, SigV4Error> {
        if !is_visible_ascii(access_key_id) || access_key_id.contains('/') {
            return Err(SigV4Error::AccessKeyId);
        }
        if secret_access_key.is_empty() {
            return Err(SigV4Error::SecretAccessKey);
        }
        if !session_token.is_none_or(is_visible_ascii) {
            return Err(SigV4Error::SessionToken);
        }
        Ok(Self {
            access_key_id: access_key_id.into(),
            secret_access_key: Zeroizing::new(secret_access_key.into()),
            session_token: session_token.map(|token| Zeroizing::new(token.into())),
        })
    }

    /// The access key id, which is no secret: it stands in every signed URL.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    pub(super) fn secret_access_key(&self) -> &str {
        &self.secret_access_key
    }

    pub(super) fn session_token(&self) -> Option<&str> {
        self.session_token.as_ref().map(|token| token.as_str())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// What is done with the token of temporary credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionTokenUse {
    /// It is signed, as S3 and nearly every service wants it.
    #[default]
    Signed,
    /// It is added after signing, as a few services want it.
    AddedUnsigned,
}

/// Credentials with the region and service they sign for.
#[derive(Debug, Clone)]
pub struct Signer {
    credentials: Credentials,
    region: String,
    service: String,
    session_token_use: SessionTokenUse,
}

impl Signer {
    /// Signs for S3 or a store like it. R2's region is `auto`.
    ///
    /// # Errors
    /// [`SigV4Error::Scope`].
    pub fn s3(credentials: Credentials, region: &str) -> Result<Self, SigV4Error> {
        Self::new(credentials, region, "s3", SessionTokenUse::Signed)
    }

    /// Signs for any service.
    ///
    /// # Errors
    /// [`SigV4Error::Scope`].
    pub fn new(
        credentials: Credentials,
        region: &str,
        service: &str,
        session_token_use: SessionTokenUse,
    ) -> Result<Self, SigV4Error> {
        let is_name = |text: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            !text.is_empty() && text.bytes().all(allowed)
        };
        if !is_name(region) || !is_name(service) {
            return Err(SigV4Error::Scope);
        }
        Ok(Self {
            credentials,
            region: region.into(),
            service: service.into(),
            session_token_use,
        })
    }

    /// The credentials.
    #[must_use]
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The session token to sign, and the one to add after signing.
    pub(super) fn session_tokens(&self) -> (Option<&str>, Option<&str>) {
        let token = self.credentials.session_token();
        match self.session_token_use {
            SessionTokenUse::Signed => (token, None),
            SessionTokenUse::AddedUnsigned => (None, token),
        }
    }
}

fn is_visible_ascii(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}
