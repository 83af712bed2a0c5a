//! The body of a request for an upload, as it arrives.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::object_serde::serde_as_object;

/// A request to upload files that become visible together or not at all.
///
/// Its fields are plain texts and numbers, so that [`check_upload`](super::check_upload) can report
/// everything that is wrong with them at once. A field that is not named here is refused, and
/// so is a list of values in the place of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, expecting = "a JSON object")]
pub struct UploadRequest {
    /// The type of the entity the files belong to.
    pub entity_type: String,
    /// The id of the entity the files belong to.
    pub entity_id: String,
    /// The files.
    pub files: Vec<FileDeclaration>,
}

/// A request for a new version of an attachment. Like [`UploadRequest`], but of one file, for an entity that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, expecting = "a JSON object")]
pub struct VersionRequest {
    /// The file, alone: declared, and told when it is wrong, as one of an upload.
    pub files: Vec<FileDeclaration>,
}

/// One file as its client declares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, expecting = "a JSON object")]
pub struct FileDeclaration {
    /// The file's name.
    pub name: String,
    /// The media type, if the client knows one. An empty one, which browsers give for a file they
    /// do not know, counts as none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The length in bytes.
    #[serde(deserialize_with = "crate::whole_number")]
    pub size: i64,
    /// The SHA-256 in hexadecimal or base64.
    pub sha256: String,
}

serde_as_object!(UploadRequest, VersionRequest, FileDeclaration);
