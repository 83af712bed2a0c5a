//! Tokens that stand in the URLs of the worker-served store: each allows one upload of exactly one
//! object, or downloads of one, until it expires.
//!
//! A token is `k2.<key id>.<payload>.<mac>`: the payload is JSON in base64url, the MAC is
//! HMAC-SHA-256 over a text that no other part of the system signs, the key id and the payload.

use alloc::{format, string::String, vec::Vec};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{FileName, KeyRing, MediaType, ObjectKey, Sha256Digest};

/// The longest token, in characters. A longer text is refused before anything is decoded.
pub const MAX_TOKEN_CHARS: usize = 2048;

const VERSION: &str = "k2";
const DOMAIN: &[u8] = b"keepsake object token, version 2\n";

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ObjectToken {
    /// To store one object, once.
    Upload {
        /// Where.
        key: ObjectKey,
        /// Its exact length in bytes.
        size: u64,
        /// Its media type.
        media_type: MediaType,
        /// The SHA-256 of its content.
        sha256: Sha256Digest,
        /// The first second at which the token is refused.
        #[serde(with = "unix_seconds")]
        expires_at: OffsetDateTime,
    },
    /// To store one part of an object that is uploaded in parts, until the upload is closed.
    Part {
        /// Where the object goes.
        key: ObjectKey,
        /// What the store calls the upload.
        storage_id: String,
        /// The part's number.
        number: u16,
        /// Its exact length in bytes.
        size: u64,
        /// The SHA-256 of its content.
        sha256: Sha256Digest,
        /// The first second at which the token is refused.
        #[serde(with = "unix_seconds")]
        expires_at: OffsetDateTime,
    },
    /// To read one object.
    Download {
        /// Where it lies.
        key: ObjectKey,
        /// The media type to send.
        media_type: MediaType,
        /// The name to send.
        file_name: FileName,
        /// Whether it may be shown instead of saved. Never true for a type that is not
        /// [inline-safe](MediaType::is_inline_safe): the server that reads the token asks again.
        inline: bool,
        /// Its length in bytes.
        size: u64,
        /// The first second at which the token is refused.
        #[serde(with = "unix_seconds")]
        expires_at: OffsetDateTime,
    },
}

/// Why a token is refused. [`Expired`](Self::Expired) is answered with
/// [`ErrorCode::UrlExpired`](crate::ErrorCode::UrlExpired), everything else with
/// [`ErrorCode::UrlInvalid`](crate::ErrorCode::UrlInvalid).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It has not the form of a token.
    #[error("the URL is malformed")]
    Malformed,
    /// It names a key that is not in the ring.
    #[error("the URL was signed with a key that is no longer in use")]
    UnknownKey,
    /// Its MAC is wrong.
    #[error("the URL was altered")]
    BadSignature,
    /// It has run out.
    #[error("the URL has expired")]
    Expired,
}

impl TokenError {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> crate::ErrorCode {
        match self {
            Self::Expired => crate::ErrorCode::UrlExpired,
            Self::Malformed | Self::UnknownKey | Self::BadSignature => crate::ErrorCode::UrlInvalid,
        }
    }
}

impl ObjectToken {
    /// The first second at which the token is refused. Fractions of a second are not kept.
    #[must_use]
    pub const fn expires_at(&self) -> OffsetDateTime {
        match self {
            Self::Upload { expires_at, .. }
            | Self::Part { expires_at, .. }
            | Self::Download { expires_at, .. } => *expires_at,
        }
    }

    /// The object the token is about.
    #[must_use]
    pub const fn key(&self) -> &ObjectKey {
        match self {
            Self::Upload { key, .. } | Self::Part { key, .. } | Self::Download { key, .. } => key,
        }
    }

    /// Writes and signs the token with the ring's first key: at most [`MAX_TOKEN_CHARS`] of
    /// `A-Z a-z 0-9 - _ .`
    #[must_use]
    pub fn sign(&self, keys: &KeyRing) -> String {
        let key = keys.signing_key();
        // Every field is text, a number or a flag, so this cannot fail; if it did, the token would
        // be one that nobody accepts.
        let json = serde_json::to_vec(self).unwrap_or_default();
        let payload = URL_SAFE_NO_PAD.encode(json);
        let mac = key.sign(&signed_parts(key.id(), &payload));
        let mac = URL_SAFE_NO_PAD.encode(mac);
        format!("{VERSION}.{}.{payload}.{mac}", key.id())
    }

    /// Reads a token: its form, its key, its MAC in constant time, and only then what it says.
    ///
    /// A token is good before the second `expires_at` and refused from it on.
    ///
    /// # Errors
    /// A [`TokenError`].
    pub fn verify(token: &str, keys: &KeyRing, now: OffsetDateTime) -> Result<Self, TokenError> {
        let (key_id, payload, mac) = split(token)?;
        let key = keys.key(key_id).ok_or(TokenError::UnknownKey)?;
        let mac = decode(mac)?;
        if !key.verify(&signed_parts(key_id, payload), &mac) {
            return Err(TokenError::BadSignature);
        }
        let token: Self =
            serde_json::from_slice(&decode(payload)?).map_err(|_| TokenError::Malformed)?;
        if now.unix_timestamp() >= token.expires_at().unix_timestamp() {
            return Err(TokenError::Expired);
        }
        Ok(token)
    }
}

fn split(token: &str) -> Result<(&str, &str, &str), TokenError> {
    if token.len() > MAX_TOKEN_CHARS {
        return Err(TokenError::Malformed);
    }
    let mut parts = token.split('.');
    match (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) {
        (Some(VERSION), Some(key_id), Some(payload), Some(mac), None) => Ok((key_id, payload, mac)),
        _ => Err(TokenError::Malformed),
    }
}

fn decode(text: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| TokenError::Malformed)
}

/// A key id holds no dot, so the parts can be told from one another in only one way.
fn signed_parts<'a>(key_id: &'a str, payload: &'a str) -> [&'a [u8]; 4] {
    [DOMAIN, key_id.as_bytes(), b".", payload.as_bytes()]
}

mod unix_seconds {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use time::OffsetDateTime;

    pub(super) fn serialize<S: Serializer>(
        time: &OffsetDateTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(time.unix_timestamp())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<OffsetDateTime, D::Error> {
        OffsetDateTime::from_unix_timestamp(i64::deserialize(deserializer)?)
            .map_err(D::Error::custom)
    }
}
