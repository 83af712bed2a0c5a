//! Step 3: the signing key of a day, and the signature.

use alloc::{format, string::String, vec::Vec};
use core::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::{Signer, Timestamp, encode::percent_encode};
use crate::keyed_hash::keyed;

const TERMINATOR: &str = "aws4_request";

/// The key that signs everything of one access key, day, region and service. It is wiped when it is
/// dropped.
///
/// Deriving it costs four HMACs, so it is kept in a [`SigningKeyCache`].
#[derive(Clone)]
pub struct SigningKey {
    signer: Signer,
    date: String,
    /// `20260901/auto/s3/aws4_request`
    scope: String,
    /// Access key id and scope, encoded for a query.
    encoded_credential: String,
    keyed: Hmac<Sha256>,
}

impl SigningKey {
    /// Derives the key of a day.
    ///
    /// Source: AWS, "Create a signed AWS API request", step 4.
    #[must_use]
    pub fn derive(signer: &Signer, timestamp: &Timestamp) -> Self {
        let date = timestamp.date();
        let secret = signer.credentials().secret_access_key();
        let first = Zeroizing::new(format!("AWS4{secret}"));
        let day = hmac(first.as_bytes(), date);
        let region = hmac(&*day, signer.region());
        let service = hmac(&*region, signer.service());
        let key = hmac(&*service, TERMINATOR);

        let scope = format!(
            "{date}/{}/{}/{TERMINATOR}",
            signer.region(),
            signer.service()
        );
        let credential = format!("{}/{scope}", signer.credentials().access_key_id());
        Self {
            signer: signer.clone(),
            date: date.into(),
            encoded_credential: percent_encode(&credential),
            scope,
            keyed: keyed(&*key),
        }
    }

    /// The credential scope: `20260901/auto/s3/aws4_request`.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.scope
    }

    pub(super) fn encoded_credential(&self) -> &str {
        &self.encoded_credential
    }

    /// Whether this is the key for a signer and day. The secret is compared too, in constant time:
    /// who knows an access key id but not its secret must not sign with another's cached key.
    fn is_for(&self, signer: &Signer, date: &str) -> bool {
        let [own, other] = [&self.signer, signer].map(Signer::credentials);
        self.date == date
            && self.signer.region() == signer.region()
            && self.signer.service() == signer.service()
            && own.access_key_id() == other.access_key_id()
            && is_same_secret(
                own.secret_access_key().as_bytes(),
                other.secret_access_key().as_bytes(),
            )
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, secret not shown)", self.scope)
    }
}

/// The signature: HMAC-SHA-256 of the string to sign. It stands in URLs and headers as 64 lower-case
/// hexadecimal digits.
#[must_use]
pub fn signature(key: &SigningKey, string_to_sign: &str) -> [u8; 32] {
    let mut mac = key.keyed.clone();
    mac.update(string_to_sign.as_bytes());
    mac.finalize().into_bytes().into()
}

/// Signing keys that have been derived, at most [`CAPACITY`](Self::CAPACITY), the last used first.
///
/// It belongs to the caller; nothing here is global.
#[derive(Debug, Clone, Default)]
pub struct SigningKeyCache {
    keys: Vec<SigningKey>,
}

impl SigningKeyCache {
    /// How many keys are kept.
    pub const CAPACITY: usize = 8;

    /// The key for a signer and time, derived if it is not there.
    pub fn key(&mut self, signer: &Signer, timestamp: &Timestamp) -> &SigningKey {
        let known = self
            .keys
            .iter()
            .position(|key| key.is_for(signer, timestamp.date()));
        match known {
            Some(0) => {}
            Some(place) => self.keys[..=place].rotate_right(1),
            None => {
                self.keys.truncate(Self::CAPACITY - 1);
                self.keys.insert(0, SigningKey::derive(signer, timestamp));
            }
        }
        &self.keys[0]
    }
}

/// Compares in a time that depends on the lengths alone, eight bytes at once.
fn is_same_secret(left: &[u8], right: &[u8]) -> bool {
    let ((left_words, left_rest), (right_words, right_rest)) =
        (left.as_chunks::<8>(), right.as_chunks::<8>());
    let words = left_words.iter().zip(right_words);
    let same_words = words.fold(Choice::from(1), |same, (left, right)| {
        same & u64::from_ne_bytes(*left).ct_eq(&u64::from_ne_bytes(*right))
    });
    left.len() == right.len() && (same_words & left_rest.ct_eq(right_rest)).into()
}

fn hmac(key: &[u8], message: &str) -> Zeroizing<[u8; 32]> {
    let mut mac = keyed(key);
    mac.update(message.as_bytes());
    Zeroizing::new(mac.finalize().into_bytes().into())
}
