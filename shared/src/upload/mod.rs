//! Upload sets: what a client declares before it uploads, and what must be true afterwards.

mod check;
mod parts;
mod request;
mod verify;

pub use check::{CheckedFile, CheckedUpload, check_file_types, check_upload};
pub use parts::PartPlan;
pub use request::{FileDeclaration, UploadRequest};
pub use verify::{Declared, ObjectProblem, Observed, verify_object};
