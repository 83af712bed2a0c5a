//! Upload sets: what a client declares before it uploads, and what must be true afterwards.

mod check;
mod parts;
mod request;
mod verify;

pub use check::{
    CheckedFile, CheckedFiles, CheckedUpload, check_file_types, check_upload, check_version,
};
pub use parts::PartPlan;
pub use request::{FileDeclaration, UploadRequest, VersionRequest};
pub use verify::{Declared, ObjectProblem, Observed, verify_object};
