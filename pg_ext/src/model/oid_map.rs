//! Maps whose keys are OIDs. Each trigger of each statement looks into some, so they are hashed by one multiplication: nobody chooses OIDs to
//! make them collide.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use pgrx::pg_sys;

/// A map from OIDs.
pub type OidMap<V> = HashMap<pg_sys::Oid, V, BuildHasherDefault<OidHasher>>;

/// A set of OIDs.
pub type OidSet = HashSet<pg_sys::Oid, BuildHasherDefault<OidHasher>>;

/// Hashes one OID.
#[derive(Clone, Copy, Debug, Default)]
pub struct OidHasher(u64);

/// 2^64 divided by the golden ratio: it spreads neighbours over the high bits and the low ones.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for OidHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(SPREAD);
    }
}
