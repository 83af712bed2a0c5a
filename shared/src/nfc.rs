//! Normalization form C (Unicode Standard Annex 15), under which equal texts are spelt equally.
//!
//! A WebAssembly module leaves it to its host, which has it anyway: the tables would make up a sixth
//! of the worker. What is assigned in Unicode keeps its normal form in all later versions, so both
//! ways agree on every character that both know.

use alloc::string::String;

/// `text` in normalization form C.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn nfc(text: &str) -> String {
    use unicode_normalization::UnicodeNormalization;
    text.nfc().collect()
}

/// `text` in normalization form C, by `String.prototype.normalize` (ECMA-262, 22.1.3.15).
#[cfg(target_arch = "wasm32")]
pub(crate) fn nfc(text: &str) -> String {
    if text.is_ascii() {
        return text.into();
    }
    js_sys::JsString::from(text).normalize("NFC").into()
}
