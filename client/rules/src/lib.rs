//! The rules of `keepsake-shared` for a browser. Nothing is decided here: each function hands its
//! arguments to the rule that the worker and the database call too, and its answer back.
//!
//! Lists and objects cross the border as JSON text, the form that the HTTP interface gives them.

mod checksum;
mod content;

use keepsake_shared::{
    FileName, FileTypes, Limits, MediaType, Problem,
    upload::{PartPlan, UploadRequest},
};
use wasm_bindgen::prelude::*;

/// Checks the body of `POST /v1/uploads` against the limits of `GET /v1/limits`, both as JSON. The
/// answer is the problem, as JSON, with which the worker would refuse it, or nothing.
///
/// # Errors
/// Either argument has another shape.
#[wasm_bindgen(js_name = checkUpload)]
pub fn check_upload(request: &str, limits: &str) -> Result<Option<String>, JsError> {
    let request: UploadRequest = serde_json::from_str(request)?;
    let limits: Limits = serde_json::from_str(limits)?;
    match keepsake_shared::upload::check_upload(&request, &limits) {
        Ok(_) => Ok(None),
        Err(errors) => Ok(Some(serde_json::to_string(&Problem::of_errors(errors))?)),
    }
}

/// Any text made a file name that [`check_upload`] takes, if its extension is an allowed one.
#[wasm_bindgen(js_name = sanitizeFileName)]
#[must_use]
pub fn sanitize_file_name(text: &str) -> String {
    FileName::sanitize(text).as_str().into()
}

/// The media type that a file name's extension stands for, if the table of types has it.
#[wasm_bindgen(js_name = mediaType)]
#[must_use]
pub fn media_type(name: &str) -> Option<String> {
    of_name(name).map(|media_type| media_type.as_str().into())
}

/// The extensions of everything that may be uploaded, each with its dot and separated by commas: the
/// `accept` of an HTML file input. Nothing where files of no known type may be, too: a browser then offers
/// all. `file_types` is a choice of types, as `GET /v1/limits` gives it.
///
/// # Errors
/// It is no choice.
#[wasm_bindgen]
pub fn accept(file_types: &str) -> Result<Option<String>, JsError> {
    let file_types: FileTypes = file_types.parse()?;
    let mut list = String::new();
    if file_types.contains(MediaType::unknown()) {
        return Ok(None);
    }
    for extension in file_types.iter().flat_map(MediaType::extensions) {
        if !list.is_empty() {
            list.push(',');
        }
        list.push('.');
        list.push_str(extension);
    }
    Ok(Some(list))
}

/// The media type that the first bytes of a file show, if any.
#[wasm_bindgen]
#[must_use]
pub fn sniff(first_bytes: &[u8]) -> Option<String> {
    keepsake_shared::content::sniff(first_bytes).map(Into::into)
}

/// The bytes of part `number`, counted from 1, of a file of `file_bytes` that is cut into parts of
/// `part_bytes`; nothing for a number that no part has.
#[wasm_bindgen(js_name = partBytes)]
#[must_use]
pub fn part_bytes(file_bytes: f64, part_bytes: f64, number: u32) -> Option<f64> {
    let plan = PartPlan::of(whole(file_bytes), whole(part_bytes))?;
    Some(plan.bytes_of(number)? as f64)
}

fn of_name(name: &str) -> Option<MediaType> {
    let name = FileName::parse(name).ok()?;
    MediaType::from_extension(name.extension()?)
}

/// A number of JavaScript as a whole one: rounded down, and held within what fits.
fn whole(number: f64) -> u64 {
    number as u64
}
