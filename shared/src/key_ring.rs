//! Named HMAC-SHA-256 keys with rotation: the first signs, all verify.

use alloc::{string::String, vec::Vec};
use core::{fmt, str::FromStr};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::keyed_hash::keyed;

/// The shortest key, in bytes: as long as the digest (RFC 7518, 3.2).
pub const MIN_KEY_BYTES: usize = 32;

/// The longest key id, in characters.
pub const MAX_KEY_ID_CHARS: usize = 128;

const STANDARD: GeneralPurpose = engine(&alphabet::STANDARD);
const URL_SAFE: GeneralPurpose = engine(&alphabet::URL_SAFE);

const fn engine(alphabet: &alphabet::Alphabet) -> GeneralPurpose {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, config)
}

/// Why a setting is not a key ring. No message holds any part of the setting, but the place of the
/// wrong entry, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// It has no entry.
    #[error("there is no key; give at least one as \"id:base64\"")]
    Empty,
    /// An entry has not the form `id:base64`.
    #[error("key {0} has not the form \"id:base64\"")]
    Form(usize),
    /// A key id is not 1 to 128 of `A-Z a-z 0-9 _ -`.
    #[error("the id of key {0} is not 1 to 128 letters, digits, '_' and '-'")]
    KeyId(usize),
    /// A key is not base64.
    #[error("key {0} is not base64")]
    NotBase64(usize),
    /// A key is shorter than [`MIN_KEY_BYTES`].
    #[error("key {0} is shorter than 32 bytes")]
    TooShort(usize),
    /// Two keys have the same id.
    #[error("key {0} has the id of an earlier one")]
    Duplicate(usize),
}

/// Keys by id. To rotate: put the new key first, and take the old one out once nothing that it
/// signed is in use.
#[derive(Clone)]
pub struct KeyRing {
    signing: Key,
    /// Only verify.
    others: Vec<Key>,
}

/// One key. Its bytes are wiped when it is dropped.
#[derive(Clone)]
pub struct Key {
    id: String,
    keyed: Hmac<Sha256>,
}

impl KeyRing {
    /// Reads `id:base64,id:base64,…`, where white space around an entry does not count and base64
    /// may be of the standard or the URL alphabet, padded or not.
    ///
    /// # Errors
    /// A [`KeyRingError`] with the place of the first wrong entry.
    pub fn parse(text: &str) -> Result<Self, KeyRingError> {
        if text.trim().is_empty() {
            return Err(KeyRingError::Empty);
        }
        let mut entries = text.split(',').map(str::trim).zip(1..);
        let (first, place) = entries.next().ok_or(KeyRingError::Empty)?;
        let mut ring = Self {
            signing: Key::parse(first, place)?,
            others: Vec::new(),
        };
        for (entry, place) in entries {
            let key = Key::parse(entry, place)?;
            if ring.key(&key.id).is_some() {
                return Err(KeyRingError::Duplicate(place));
            }
            ring.others.push(key);
        }
        Ok(ring)
    }

    /// The key that signs: the first one given.
    #[must_use]
    pub const fn signing_key(&self) -> &Key {
        &self.signing
    }

    /// The key of this id.
    #[must_use]
    pub fn key(&self, id: &str) -> Option<&Key> {
        self.iter().find(|key| key.id == id)
    }

    fn iter(&self) -> impl Iterator<Item = &Key> {
        core::iter::once(&self.signing).chain(&self.others)
    }
}

impl Key {
    fn parse(entry: &str, place: usize) -> Result<Self, KeyRingError> {
        let (id, encoded) = entry.split_once(':').ok_or(KeyRingError::Form(place))?;
        if !is_key_id(id) {
            return Err(KeyRingError::KeyId(place));
        }
        let bytes = STANDARD
            .decode(encoded)
            .or_else(|_| URL_SAFE.decode(encoded))
            .map(Zeroizing::new)
            .map_err(|_| KeyRingError::NotBase64(place))?;
        if bytes.len() < MIN_KEY_BYTES {
            return Err(KeyRingError::TooShort(place));
        }
        Ok(Self {
            id: id.into(),
            keyed: keyed(&bytes),
        })
    }

    /// The key's id. It is no secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// HMAC-SHA-256 (RFC 2104) of the parts one after another.
    #[must_use]
    pub fn sign(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.mac(parts).finalize().into_bytes().into()
    }

    /// Whether `mac` is the whole HMAC-SHA-256 of the parts, compared in constant time.
    #[must_use]
    pub fn verify(&self, parts: &[&[u8]], mac: &[u8]) -> bool {
        self.mac(parts).verify_slice(mac).is_ok()
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        for part in parts {
            mac.update(part);
        }
        mac
    }
}

fn is_key_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=MAX_KEY_ID_CHARS).contains(&id.len()) && id.bytes().all(allowed)
}

impl FromStr for KeyRing {
    type Err = KeyRingError;

    fn from_str(text: &str) -> Result<Self, KeyRingError> {
        Self::parse(text)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, secret not shown)", self.id)
    }
}
