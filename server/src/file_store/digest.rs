//! The digest of what lies on the disk.

use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Read, Write},
};

/// How much of a file is read at once.
pub(super) const CHUNK_BYTES: usize = 64 << 10;

/// Adds a file to a digest, and to a copy if there is one; says how long it is.
///
/// # Errors
/// The operating system's.
pub(super) fn sha256(
    mut file: File,
    mut copy: Option<&mut File>,
    digest: &mut Sha256,
) -> io::Result<u64> {
    let (mut buffer, mut total) = (vec![0; CHUNK_BYTES], 0);
    loop {
        let length = file.read(&mut buffer)?;
        let bytes = buffer.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(total);
        }
        digest.update(bytes);
        if let Some(copy) = &mut copy {
            copy.write_all(bytes)?;
        }
        total += length as u64;
    }
}
