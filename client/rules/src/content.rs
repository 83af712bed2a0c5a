//! Is the content what the name says? The worker asks the same when an upload is completed; here
//! it is asked before a byte is sent.

use keepsake_shared::{
    ErrorCode, MediaType, Sha256Digest,
    content::{Finding, Inspection, Next},
    upload::{Declared, Observed, verify_object},
};
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::{of_name, whole};

/// One difference, as the HTTP interface writes it.
#[derive(Serialize)]
struct FileProblem {
    code: ErrorCode,
    detail: String,
}

/// A piece of a file.
#[wasm_bindgen]
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// Where it begins, in bytes from the start of the file.
    pub offset: f64,
    /// How many bytes it has at most: the file may end before.
    pub length: u32,
}

/// A look at a file's content, piece by piece.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Content {
    media_type: Option<MediaType>,
    inspection: Option<Inspection>,
    finding: Option<Finding>,
    asked: Option<keepsake_shared::content::Piece>,
}

#[wasm_bindgen]
impl Content {
    /// Begins to look at a file of this name and so many bytes. A name of no known type has nothing to
    /// be compared with.
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new(name: &str, size: f64) -> Self {
        let media_type = of_name(name);
        Self {
            media_type,
            inspection: media_type.map(|media_type| Inspection::new(media_type, whole(size))),
            finding: None,
            asked: None,
        }
    }

    /// The piece that has to be seen next; nothing when all is seen that tells.
    pub fn step(&mut self) -> Option<Piece> {
        match self.inspection.as_mut()?.step() {
            Next::Found(finding) => {
                self.finding = Some(finding);
                None
            }
            Next::Read(piece) => {
                self.asked = Some(piece);
                Some(Piece {
                    // Whole numbers of JavaScript are exact up to 2^53, beyond any file.
                    offset: piece.offset as f64,
                    length: u32::try_from(piece.length).unwrap_or(u32::MAX),
                })
            }
        }
    }

    /// Takes the bytes of the piece that [`step`](Self::step) named.
    pub fn add(&mut self, bytes: Vec<u8>) {
        if let (Some(inspection), Some(piece)) = (&mut self.inspection, self.asked.take()) {
            inspection.add(piece, bytes);
        }
    }

    /// How the content differs from the name, once [`step`](Self::step) gives nothing: a JSON array of
    /// `{"code", "detail"}`.
    ///
    /// # Errors
    /// None that a caller can bring about.
    pub fn problems(&self, max_image_pixels: f64) -> Result<String, JsError> {
        let problems = match (self.media_type, self.finding) {
            (Some(media_type), Some(finding)) => {
                problems(media_type, finding, whole(max_image_pixels))
            }
            _ => Vec::new(),
        };
        Ok(serde_json::to_string(&problems)?)
    }
}

fn problems(media_type: MediaType, finding: Finding, max_pixels: u64) -> Vec<FileProblem> {
    // Its length and its SHA-256 are the file's own, whatever they are.
    let (size, sha256) = (0, Sha256Digest::from_bytes([0; 32]));
    let declared = Declared {
        size,
        media_type,
        sha256,
        max_pixels,
    };
    let observed = Observed::Stored {
        size,
        sha256: Some(sha256),
        finding: Some(finding),
    };
    verify_object(&declared, &observed)
        .iter()
        .map(|problem| FileProblem {
            code: problem.code(),
            detail: problem.detail(),
        })
        .collect()
}
