//! HMAC-SHA-256 with a key set up once.

use hmac::{Hmac, KeyInit};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const BLOCK_BYTES: usize = 64;

/// HMAC-SHA-256 keyed with a key of any length: a longer one than a block is hashed first, a shorter
/// one is filled up with zeros (RFC 2104, section 2).
pub(crate) fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0; BLOCK_BYTES]);
    if let Some(start) = block.get_mut(..key.len()) {
        start.copy_from_slice(key);
    } else {
        let digest: Zeroizing<[u8; 32]> = Zeroizing::new(Sha256::digest(key).into());
        for (place, byte) in block.iter_mut().zip(digest.iter()) {
            *place = *byte;
        }
    }
    Hmac::new((&*block).into())
}

#[cfg(test)]
mod tests {
    use sha2::Sha256;
    use zeroize::ZeroizeOnDrop;

    /// A keyed `Hmac` holds its key as two states of the hash, and these are wiped only with the
    /// feature `zeroize` of `sha2`.
    #[test]
    fn keyed_states_are_wiped() {
        const fn is_wiped<T: ZeroizeOnDrop>() {}
        is_wiped::<Sha256>();
    }
}
