//! The ids that stand in paths, keys and rows. Each is checked when it is made, so that a value of
//! one of these types needs no second look.

use alloc::string::String;
use core::{fmt, str::FromStr};

use uuid::Uuid;

use crate::text_serde::serde_as_text;

/// The longest tenant and entity id, in characters.
pub const MAX_ID_CHARS: usize = 64;

/// The longest entity type, in characters: PostgreSQL's limit for an identifier.
pub const MAX_ENTITY_TYPE_CHARS: usize = 63;

/// Words that stand where an entity type stands in a path, and so cannot be one.
pub const RESERVED_ENTITY_TYPES: [&str; 10] = [
    "attachments",
    "deletions",
    "healthz",
    "limits",
    "metrics",
    "objects",
    "operator",
    "runs",
    "uploads",
    "usage",
];

/// Why a text is not an id. Its stable code is [`crate::ErrorCode::InvalidId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// There is no character in it.
    #[error("the id is empty")]
    Empty,
    /// It is longer than the limit, given in characters.
    #[error("the id is longer than {0} characters")]
    TooLong(usize),
    /// A tenant or entity id holds something other than an ASCII letter, digit, `_` or `-`.
    #[error("an id may hold only the letters A to Z and a to z, digits, '_' and '-'")]
    Character,
    /// An entity type is not a lower-case ASCII letter followed by lower-case letters, digits and `_`.
    #[error(
        "an entity type begins with a letter a to z and goes on with letters a to z, digits and '_'"
    )]
    EntityTypeCharacter,
    /// An entity type is one of [`RESERVED_ENTITY_TYPES`].
    #[error("this entity type is a word of the API's own paths")]
    Reserved,
    /// The text is not a UUID in its usual form of 36 characters.
    #[error("the id is not a UUID of the form 00000000-0000-0000-0000-000000000000")]
    NotUuid,
}

/// A tenant: 1 to 64 of `A-Z a-z 0-9 _ -`. It comes from the caller's token and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(String);

/// The type of the entity an attachment belongs to, such as `post`: a lower-case letter and up to 62 more
/// of `a-z 0-9 _`, not one of [`RESERVED_ENTITY_TYPES`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityType(String);

/// The id of the entity an attachment belongs to: 1 to 64 of `A-Z a-z 0-9 _ -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId(String);

macro_rules! text_id {
    ($name:ident, $check:ident) => {
        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(TenantId, check_id);
text_id!(EntityType, check_entity_type);
text_id!(EntityId, check_id);

fn check_id(text: &str) -> Result<(), IdError> {
    check_length(text, MAX_ID_CHARS)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if text.bytes().all(allowed) {
        Ok(())
    } else {
        Err(IdError::Character)
    }
}

fn check_entity_type(text: &str) -> Result<(), IdError> {
    check_length(text, MAX_ENTITY_TYPE_CHARS)?;
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !text.starts_with(|first: char| first.is_ascii_lowercase()) || !text.bytes().all(allowed) {
        return Err(IdError::EntityTypeCharacter);
    }
    if RESERVED_ENTITY_TYPES.contains(&text) {
        return Err(IdError::Reserved);
    }
    Ok(())
}

fn check_length(text: &str, max: usize) -> Result<(), IdError> {
    if text.is_empty() {
        Err(IdError::Empty)
    } else if text.chars().count() > max {
        Err(IdError::TooLong(max))
    } else {
        Ok(())
    }
}

macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl FromStr for $name {
            type Err = IdError;

            /// Takes the hyphenated form only, in either case: no braces, no `urn:`, no bare hex.
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_uuid(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }
    )+};
}

uuid_id! {
    /// One attachment: the id of its row and the last part of its object key.
    AttachmentId,
    /// One upload set.
    UploadId,
    /// One deletion: all that one soft delete removed together.
    DeletionId,
}

const HYPHENATED_UUID_CHARS: usize = 36;

fn parse_uuid(text: &str) -> Result<Uuid, IdError> {
    if text.len() != HYPHENATED_UUID_CHARS {
        return Err(IdError::NotUuid);
    }
    Uuid::try_parse(text).map_err(|_| IdError::NotUuid)
}

serde_as_text!(
    TenantId,
    EntityType,
    EntityId,
    AttachmentId,
    UploadId,
    DeletionId,
);
