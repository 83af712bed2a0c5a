//! The check of what really lies in the store against what was declared.

use alloc::{string::String, vec::Vec};

use crate::{
    ErrorCode, MediaType, MediaTypeMismatch, Sha256Digest,
    content::{Finding, Picture},
    sentence::sentence,
};

/// What a stored object must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declared {
    /// The length in bytes.
    pub size: u64,
    /// The media type.
    pub media_type: MediaType,
    /// The SHA-256 of the content.
    pub sha256: Sha256Digest,
    /// The most pixels of a picture.
    pub max_pixels: u64,
}

/// What the store says about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// There is none under the key.
    Missing,
    /// There is one.
    Stored {
        /// Its length in bytes.
        size: u64,
        /// The SHA-256 that the store computed. `None` when it has none, which is a problem: what
        /// cannot be verified is not accepted.
        sha256: Option<Sha256Digest>,
        /// What its bytes show. `None` when the store would send it with a `Content-Encoding`, which
        /// nobody declared: readers would undo it and get other bytes.
        finding: Option<Finding>,
    },
}

/// One way in which a stored object is not what was declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ObjectProblem {
    /// It has not been uploaded. The only problem that more time can cure.
    #[error("the file has not been uploaded")]
    Missing,
    /// It has another length.
    #[error("the file has {seen} bytes, not {declared}")]
    Size {
        /// The declared length in bytes.
        declared: u64,
        /// The length found.
        seen: u64,
    },
    /// It has another SHA-256, or one that the store does not know.
    #[error("the file's SHA-256 is not {declared}")]
    Sha256 {
        /// The declared digest.
        declared: Sha256Digest,
        /// The digest found.
        seen: Option<Sha256Digest>,
    },
    /// Its bytes are those of another type.
    #[error(transparent)]
    MediaType(#[from] MediaTypeMismatch),
    /// It is a picture of more pixels than allowed.
    #[error("the image has {pixels} pixels; at most {max} are allowed")]
    ImageTooLarge {
        /// How many it has.
        pixels: u64,
        /// The most allowed.
        max: u64,
    },
    /// It is a picture whose size cannot be found in its header.
    #[error("the image's size cannot be read from its header")]
    ImageUnreadable,
    /// It is stored with a `Content-Encoding`.
    #[error("the file is stored with an undeclared Content-Encoding")]
    Encoded,
}

impl ObjectProblem {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Missing => ErrorCode::NotUploaded,
            Self::Size { .. } => ErrorCode::SizeMismatch,
            Self::Sha256 { .. } => ErrorCode::Sha256Mismatch,
            Self::MediaType(_) => ErrorCode::MediaTypeMismatch,
            Self::ImageTooLarge { .. } => ErrorCode::ImageTooLarge,
            Self::ImageUnreadable => ErrorCode::ImageUnreadable,
            Self::Encoded => ErrorCode::ContentEncoded,
        }
    }

    /// What is wrong, as a sentence for people.
    #[must_use]
    pub fn detail(&self) -> String {
        sentence(self)
    }
}

/// Compares a stored object with its declaration: presence, length, SHA-256, type by its bytes,
/// pixels. An empty list means that it is what was declared.
#[must_use]
pub fn verify_object(declared: &Declared, observed: &Observed) -> Vec<ObjectProblem> {
    let Observed::Stored {
        size,
        sha256,
        finding,
    } = *observed
    else {
        return [ObjectProblem::Missing].into();
    };
    let mut problems = Vec::new();
    if size != declared.size {
        problems.push(ObjectProblem::Size {
            declared: declared.size,
            seen: size,
        });
    }
    if sha256 != Some(declared.sha256) {
        problems.push(ObjectProblem::Sha256 {
            declared: declared.sha256,
            seen: sha256,
        });
    }
    let Some(finding) = finding else {
        problems.push(ObjectProblem::Encoded);
        return problems;
    };
    if let Err(mismatch) = declared.media_type.check(finding.kind) {
        problems.push(mismatch.into());
    } else {
        problems.extend(picture_problem(declared.max_pixels, finding.picture));
    }
    problems
}

fn picture_problem(max: u64, picture: Picture) -> Option<ObjectProblem> {
    match picture {
        Picture::Pixels(pixels) if pixels > max => {
            Some(ObjectProblem::ImageTooLarge { pixels, max })
        }
        Picture::Pixels(_) | Picture::None => None,
        // What is not known to be small enough is not accepted.
        Picture::Unreadable => Some(ObjectProblem::ImageUnreadable),
    }
}
