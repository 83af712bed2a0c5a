//! What each object store can do, and the locks that a single signed PUT gets from it.
//!
//! Stores that speak S3 do not all know the same part of it, and some answer what they do not know
//! with 501. One table says which store can do what. Whatever signs asks it first: the strongest
//! locks that the store has are taken, and what it cannot do is never signed.
//!
//! Sources: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>,
//! <https://developers.cloudflare.com/r2/api/s3/api/>,
//! <https://garagehq.deuxfleurs.fr/documentation/reference-manual/s3-compatibility/>.

use alloc::{format, string::String, vec, vec::Vec};

use crate::{FileName, MediaType, Sha256Digest, content_disposition, text_serde::serde_as_text};
use core::{fmt, str::FromStr};

const MIB: u64 = 1024 * 1024;

/// A kind of object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// R2 through the worker's binding; the worker serves its signed URLs.
    R2Binding,
    /// R2 through its S3 API.
    R2,
    /// Amazon S3.
    Aws,
    /// MinIO, and others that know as much of S3 as it does.
    Minio,
    /// Garage.
    Garage,
    /// Any other store that verifies signatures: it gets what all of them understand. So a signed PUT can store other bytes over those that
    /// are there, as long as it works.
    Other,
}

/// A checksum that a store verifies when it takes in a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumKind {
    /// SHA-256.
    Sha256,
    /// CRC-32C (RFC 3720, B.4), as four bytes, the highest first.
    Crc32c,
}

/// How an object may be cut into parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartRules {
    /// The least bytes of any part but the last.
    pub min_bytes: u64,
    /// The most bytes of a part.
    pub max_bytes: u64,
    /// The most parts of one object.
    pub max_parts: u32,
    /// What the store verifies of each part beside its length; `None` when nothing.
    pub checksum: Option<ChecksumKind>,
}

/// What a store can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// `If-None-Match: *` on a PUT keeps it from overwriting.
    pub conditional_put: bool,
    /// `If-None-Match: *` on the completion of a multipart upload does the same.
    pub conditional_complete: bool,
    /// It verifies `x-amz-checksum-sha256` of a PUT, and refuses other bytes.
    pub put_sha256: bool,
    /// A signed GET can say what `Content-Disposition` to answer with.
    pub disposition_override: bool,
    /// It takes HTML forms with a signed POST policy.
    pub post_policy: bool,
    /// The most bytes of one PUT.
    pub max_put_bytes: u64,
    /// How objects are cut into parts. All parts but the last have one size, whatever the store: R2
    /// takes nothing else.
    pub parts: PartRules,
}

const S3_PARTS: PartRules = PartRules {
    min_bytes: 5 * MIB,
    max_bytes: 5 * 1024 * MIB,
    max_parts: 10_000,
    checksum: Some(ChecksumKind::Sha256),
};

const AWS: Capabilities = Capabilities {
    conditional_put: true,
    conditional_complete: true,
    put_sha256: true,
    disposition_override: true,
    post_policy: true,
    max_put_bytes: 5 * 1024 * MIB,
    parts: S3_PARTS,
};

/// <https://developers.cloudflare.com/r2/platform/limits/>: 4.995 GiB, rounded down.
const R2_MAX_PUT_BYTES: u64 = 4_995 * MIB;

/// What Cloudflare lets through to a worker on its smaller plans
/// (<https://developers.cloudflare.com/workers/platform/limits/#request-limits>): 100 MB, rounded
/// down.
const WORKER_MAX_BODY_BYTES: u64 = 95 * MIB;

impl StoreKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::R2Binding,
        Self::R2,
        Self::Aws,
        Self::Minio,
        Self::Garage,
        Self::Other,
    ];

    /// The kind's name in settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::R2Binding => "r2_binding",
            Self::R2 => "r2",
            Self::Aws => "aws",
            Self::Minio => "minio",
            Self::Garage => "garage",
            Self::Other => "other",
        }
    }

    /// The kind that an endpoint's host tells, if it tells one. Of no other is [`Other`](Self::Other) presumed, which has the fewest locks.
    #[must_use]
    pub fn of_host(host: &str) -> Option<Self> {
        if host.ends_with(".r2.cloudflarestorage.com") {
            Some(Self::R2)
        } else if host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn") {
            Some(Self::Aws)
        } else {
            None
        }
    }

    /// The row of the table.
    #[must_use]
    pub const fn capabilities(self) -> Capabilities {
        match self {
            Self::Aws | Self::Minio => AWS,
            Self::R2Binding => Capabilities {
                // The worker serves the downloads, and no form is ever sent to it.
                conditional_complete: false,
                post_policy: false,
                max_put_bytes: R2_MAX_PUT_BYTES,
                parts: PartRules {
                    max_bytes: WORKER_MAX_BODY_BYTES,
                    ..S3_PARTS
                },
                ..AWS
            },
            Self::R2 => Capabilities {
                conditional_complete: false,
                post_policy: false,
                max_put_bytes: R2_MAX_PUT_BYTES,
                parts: PartRules {
                    max_bytes: R2_MAX_PUT_BYTES,
                    // It answers 501 to a SHA-256 of a part.
                    checksum: Some(ChecksumKind::Crc32c),
                    ..S3_PARTS
                },
                ..AWS
            },
            // It passes over `If-None-Match`.
            Self::Garage => Capabilities {
                conditional_put: false,
                conditional_complete: false,
                ..AWS
            },
            // Some answer with an error (501) to a checksum or a condition that they do not know: then nobody could upload.
            Self::Other => Capabilities {
                conditional_put: false,
                conditional_complete: false,
                put_sha256: false,
                disposition_override: false,
                post_policy: false,
                parts: PartRules {
                    checksum: None,
                    ..S3_PARTS
                },
                ..AWS
            },
        }
    }
}

/// A text that names no [`StoreKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no kind of store")]
pub struct UnknownStoreKind;

impl FromStr for StoreKind {
    type Err = UnknownStoreKind;

    fn from_str(text: &str) -> Result<Self, UnknownStoreKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(UnknownStoreKind)
    }
}

impl ChecksumKind {
    /// The kind's name: `sha256` or `crc32c`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Crc32c => "crc32c",
        }
    }

    /// The header that carries it, in base64.
    #[must_use]
    pub const fn header(self) -> &'static str {
        match self {
            Self::Sha256 => "x-amz-checksum-sha256",
            Self::Crc32c => "x-amz-checksum-crc32c",
        }
    }
}

impl fmt::Display for ChecksumKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ChecksumKind {
    type Err = UnknownStoreKind;

    fn from_str(text: &str) -> Result<Self, UnknownStoreKind> {
        [Self::Sha256, Self::Crc32c]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(UnknownStoreKind)
    }
}

serde_as_text!(ChecksumKind);

/// A request that a store cannot fulfil, told before anything is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// The file has more bytes than one PUT takes.
    #[error("the store takes at most {0} bytes in one PUT")]
    TooLargeForOnePut(u64),
    /// The store takes no HTML forms.
    #[error("the store takes no HTML forms")]
    NoForms,
    /// The file cannot be cut into parts that the store takes.
    #[error("the file cannot be cut into parts of {0} bytes")]
    PartSize(u64),
}

/// A file for which a PUT is to be signed.
#[derive(Debug, Clone, Copy)]
pub struct PutSubject<'a> {
    /// Its length in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: MediaType,
    /// Its digest.
    pub sha256: &'a Sha256Digest,
    /// Its name, for a store which can only be told at the PUT how a download is to be named.
    pub name: &'a FileName,
}

impl Capabilities {
    /// Whether a signed PUT can store no other bytes than those that are there already.
    #[must_use]
    pub const fn keeps_bytes(&self) -> bool {
        self.conditional_put || self.put_sha256
    }

    /// The headers to sign into a single PUT, each a lock: the exact length and type, the SHA-256,
    /// and no overwriting, as far as the store has them. With a SHA-256 an overwrite can only write
    /// the same bytes again. Without either, the completion of the upload finds other bytes that came before it, and none that come later.
    ///
    /// # Errors
    /// [`CapabilityError::TooLargeForOnePut`].
    pub fn put_headers(
        &self,
        subject: &PutSubject<'_>,
    ) -> Result<Vec<(&'static str, String)>, CapabilityError> {
        if subject.size > self.max_put_bytes {
            return Err(CapabilityError::TooLargeForOnePut(self.max_put_bytes));
        }
        let mut headers = vec![
            ("content-length", format!("{}", subject.size)),
            ("content-type", subject.media_type.as_str().into()),
        ];
        if self.conditional_put {
            headers.push(("if-none-match", "*".into()));
        }
        if self.put_sha256 {
            headers.push((ChecksumKind::Sha256.header(), subject.sha256.to_base64()));
        }
        if !self.disposition_override {
            let disposition = content_disposition(subject.name, false);
            headers.push(("content-disposition", disposition));
        }
        Ok(headers)
    }

    /// The fields to sign into an HTML form, beside its key and length: the type and the SHA-256. A
    /// form cannot be kept from overwriting; with the SHA-256 it can only write the same bytes
    /// again.
    ///
    /// # Errors
    /// [`CapabilityError::NoForms`] or [`CapabilityError::TooLargeForOnePut`].
    pub fn form_fields(
        &self,
        subject: &PutSubject<'_>,
    ) -> Result<Vec<(&'static str, String)>, CapabilityError> {
        if !self.post_policy || !self.put_sha256 {
            return Err(CapabilityError::NoForms);
        }
        if subject.size > self.max_put_bytes {
            return Err(CapabilityError::TooLargeForOnePut(self.max_put_bytes));
        }
        Ok(vec![
            ("content-type", subject.media_type.as_str().into()),
            ("x-amz-checksum-algorithm", "SHA256".into()),
            (ChecksumKind::Sha256.header(), subject.sha256.to_base64()),
        ])
    }
}
