//! Is the content what the name says? The worker asks the same when an upload is completed; here
//! it is asked before a byte is sent.

use keepsake_shared::{
    ErrorCode, MediaType, Sha256Digest,
    image::{self, DIRECTORY_BYTES, HEAD_BYTES, Look},
    sniff::SNIFF_BYTES,
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

/// How many first bytes of a file of this name are looked at, or all of a shorter one.
#[wasm_bindgen(js_name = firstBytes)]
#[must_use]
pub fn first_bytes(name: &str) -> u32 {
    let is_picture = |media_type| image::look(media_type, &[]) != Look::NoPicture;
    let bytes = if of_name(name).is_some_and(is_picture) {
        HEAD_BYTES
    } else {
        SNIFF_BYTES
    };
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The piece that is looked at beside the first bytes: that of a TIFF which tells its size.
#[wasm_bindgen(js_name = furtherBytes)]
#[must_use]
pub fn further_bytes(name: &str, head: &[u8]) -> Option<Piece> {
    let Look::Further(offset) = image::look(of_name(name)?, head) else {
        return None;
    };
    Some(Piece {
        // A TIFF counts in 32 bits (TIFF 6.0, section 2).
        offset: f64::from(u32::try_from(offset).ok()?),
        length: u32::try_from(DIRECTORY_BYTES).unwrap_or(u32::MAX),
    })
}

/// Compares a file's content with its name: `head` is its [`first_bytes`], `further` its
/// [`further_bytes`]. The answer is a JSON array of `{"code", "detail"}`. A name of no allowed type
/// has nothing to be compared with.
///
/// # Errors
/// None that a caller can bring about.
#[wasm_bindgen(js_name = checkContent)]
pub fn check_content(
    name: &str,
    head: &[u8],
    further: Option<Box<[u8]>>,
    max_image_pixels: f64,
) -> Result<String, JsError> {
    let problems = of_name(name).map_or_else(Vec::new, |media_type| {
        problems(
            media_type,
            head,
            further.as_deref(),
            whole(max_image_pixels),
        )
    });
    Ok(serde_json::to_string(&problems)?)
}

fn problems(
    media_type: MediaType,
    head: &[u8],
    further: Option<&[u8]>,
    max_pixels: u64,
) -> Vec<FileProblem> {
    let picture = match (image::look(media_type, head), further) {
        (Look::Further(_), Some(directory)) => {
            image::pixels_at(head, directory).map_or(Look::Unreadable, Look::Pixels)
        }
        (told, _) => told,
    };
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
        first_bytes: head,
        picture,
        encoded: false,
    };
    verify_object(&declared, &observed)
        .iter()
        .map(|problem| FileProblem {
            code: problem.code(),
            detail: problem.detail(),
        })
        .collect()
}
