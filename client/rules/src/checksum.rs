//! Checksums of a stream. WebCrypto knows SHA-256, but only of bytes that are all in memory.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crc::{CRC_32_ISCSI, Crc, Digest, Table};
use keepsake_shared::Sha256Digest;
use sha2::{Digest as _, Sha256};
use std::fmt;
use wasm_bindgen::prelude::*;

/// The SHA-256 (FIPS 180-4) of chunks, one after the other.
#[wasm_bindgen(js_name = Sha256)]
#[derive(Debug, Default)]
pub struct Sha256Stream(Sha256);

#[wasm_bindgen(js_class = Sha256)]
impl Sha256Stream {
    /// Of nothing yet.
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on with these bytes.
    pub fn update(&mut self, chunk: &[u8]) {
        self.0.update(chunk);
    }

    /// The digest in lower-case hexadecimal. The object is used up.
    #[must_use]
    pub fn hex(self) -> String {
        self.digest().to_hex()
    }

    /// The digest in base64, as `x-amz-checksum-sha256` has it. The object is used up.
    #[must_use]
    pub fn base64(self) -> String {
        self.digest().to_base64()
    }

    fn digest(self) -> Sha256Digest {
        Sha256Digest::from_bytes(self.0.finalize().into())
    }
}

/// The small table: the large ones are four times as fast and a fifth of this module.
static CRC_32C: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);

/// The CRC-32C (RFC 3720, B.4) of chunks, one after the other.
#[wasm_bindgen(js_name = Crc32c)]
pub struct Crc32cStream(Digest<'static, u32, Table<1>>);

impl fmt::Debug for Crc32cStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crc32cStream").finish_non_exhaustive()
    }
}

impl Default for Crc32cStream {
    fn default() -> Self {
        Self(CRC_32C.digest())
    }
}

#[wasm_bindgen(js_class = Crc32c)]
impl Crc32cStream {
    /// Of nothing yet.
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on with these bytes.
    pub fn update(&mut self, chunk: &[u8]) {
        self.0.update(chunk);
    }

    /// The checksum in base64, the highest byte first, as `x-amz-checksum-crc32c` has it. The object
    /// is used up.
    #[must_use]
    pub fn base64(self) -> String {
        STANDARD.encode(self.0.finalize().to_be_bytes())
    }
}
