//! Object keys: `t/<tenant>/<entity>/<entity id>/<attachment uuidv7>.<ext>`.
//!
//! Only the server makes keys. A key holds checked ids and nothing a user typed, so it needs no
//! percent-encoding, and it never changes: a soft delete leaves the object where it is.

use alloc::{format, string::String};
use core::{fmt, str::FromStr};

use crate::{
    FileName,
    id::{AttachmentId, EntityId, EntityType, IdError, TenantId},
    text_serde::serde_as_text,
};

/// The longest extension in a key, in characters.
pub const MAX_EXTENSION_CHARS: usize = 10;

/// The extension in the key of a file whose own would not fit: only files of no known type have such.
const OTHER_EXTENSION: &str = "bin";

/// The extension that the key of a file of this name has: the name's own, where it fits a key.
#[must_use]
pub fn key_extension(name: &FileName) -> &str {
    name.extension()
        .filter(|extension| check_extension(extension).is_ok())
        .unwrap_or(OTHER_EXTENSION)
}

/// Why a text is not an object key, or why one cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ObjectKeyError {
    /// It has not the six parts of a key, beginning with `t`.
    #[error(
        "an object key has the form t/<tenant>/<entity>/<entity id>/<attachment id>.<extension>"
    )]
    Form,
    /// The tenant is not an id.
    #[error("the tenant in the object key is wrong: {0}")]
    Tenant(#[source] IdError),
    /// The entity type is not one.
    #[error("the entity type in the object key is wrong: {0}")]
    EntityType(#[source] IdError),
    /// The entity id is not an id.
    #[error("the entity id in the object key is wrong: {0}")]
    EntityId(#[source] IdError),
    /// The attachment id is not a version 7 UUID (RFC 9562) in lower case.
    #[error("the attachment id in the object key is not a version 7 UUID in lower case")]
    AttachmentId,
    /// The extension is not 1 to 10 of `a-z 0-9`.
    #[error("the extension in the object key is not 1 to 10 lower-case letters and digits")]
    Extension,
}

/// A well-formed object key. One key has exactly one spelling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    text: String,
    tenant: TenantId,
    entity_type: EntityType,
    entity_id: EntityId,
    attachment: AttachmentId,
}

impl ObjectKey {
    /// Makes the key of an attachment. `extension` is without its dot, as
    /// [`FileName::extension`](crate::FileName::extension) gives it.
    ///
    /// # Errors
    /// [`ObjectKeyError::Extension`] or [`ObjectKeyError::AttachmentId`]; the other parts are right
    /// by their types.
    pub fn new(
        tenant: &TenantId,
        entity_type: &EntityType,
        entity_id: &EntityId,
        attachment: AttachmentId,
        extension: &str,
    ) -> Result<Self, ObjectKeyError> {
        check_attachment_id(attachment)?;
        check_extension(extension)?;
        Ok(Self {
            text: format!("t/{tenant}/{entity_type}/{entity_id}/{attachment}.{extension}"),
            tenant: tenant.clone(),
            entity_type: entity_type.clone(),
            entity_id: entity_id.clone(),
            attachment,
        })
    }

    /// Reads a key.
    ///
    /// # Errors
    /// An [`ObjectKeyError`] that names the first wrong part.
    pub fn parse(text: &str) -> Result<Self, ObjectKeyError> {
        let mut parts = text.split('/');
        let (Some("t"), Some(tenant), Some(entity_type), Some(entity_id), Some(object), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(ObjectKeyError::Form);
        };
        let (attachment, extension) = object.split_once('.').ok_or(ObjectKeyError::Form)?;
        let key = Self::new(
            &tenant.parse().map_err(ObjectKeyError::Tenant)?,
            &entity_type.parse().map_err(ObjectKeyError::EntityType)?,
            &entity_id.parse().map_err(ObjectKeyError::EntityId)?,
            attachment
                .parse()
                .map_err(|_| ObjectKeyError::AttachmentId)?,
            extension,
        )?;
        // A UUID may be spelt in upper case; a key may not.
        if key.text == text {
            Ok(key)
        } else {
            Err(ObjectKeyError::AttachmentId)
        }
    }

    /// The key as text, at most 243 bytes of ASCII.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The tenant.
    #[must_use]
    pub const fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The type of the entity the attachment belongs to.
    #[must_use]
    pub const fn entity_type(&self) -> &EntityType {
        &self.entity_type
    }

    /// The id of the entity the attachment belongs to.
    #[must_use]
    pub const fn entity_id(&self) -> &EntityId {
        &self.entity_id
    }

    /// The attachment.
    #[must_use]
    pub const fn attachment_id(&self) -> AttachmentId {
        self.attachment
    }

    /// The extension, without its dot.
    #[must_use]
    pub fn extension(&self) -> &str {
        self.text
            .rsplit_once('.')
            .map_or("", |(_, extension)| extension)
    }
}

impl FromStr for ObjectKey {
    type Err = ObjectKeyError;

    fn from_str(text: &str) -> Result<Self, ObjectKeyError> {
        Self::parse(text)
    }
}

impl AsRef<str> for ObjectKey {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

serde_as_text!(ObjectKey);

fn check_attachment_id(attachment: AttachmentId) -> Result<(), ObjectKeyError> {
    let time_ordered =
        attachment.0.get_version_num() == 7 && attachment.0.get_variant() == uuid::Variant::RFC4122;
    time_ordered
        .then_some(())
        .ok_or(ObjectKeyError::AttachmentId)
}

fn check_extension(extension: &str) -> Result<(), ObjectKeyError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = (1..=MAX_EXTENSION_CHARS).contains(&extension.len());
    (fits && extension.bytes().all(allowed))
        .then_some(())
        .ok_or(ObjectKeyError::Extension)
}
