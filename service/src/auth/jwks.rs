//! A JSON Web Key Set (RFC 7517): the public keys that an issuer publishes.
//!
//! What it holds comes from outside. A key is taken only if it can be nothing but a public key for
//! RS256, ES256 or EdDSA; every other is left out, as RFC 7517 §5 wants, without refusing the set.

use super::token::Algorithm;
use crate::runtime::{KeyKind, Signed};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

/// Most keys of a set.
const MAX_KEYS: usize = 100;

/// Bits of an RSA modulus: RFC 7518 §3.3 asks for 2048 or more; a longer one than this only costs
/// time.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// Bytes of a coordinate on P-256 (RFC 7518 §6.2.1.2), and of a public key of Ed25519 (RFC 8032 §5.1.5).
const COORDINATE_BYTES: usize = 32;

/// The usable keys of a set. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeySet(Vec<PublicKey>);

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey {
    kid: Option<String>,
    /// The one algorithm it verifies.
    algorithm: Algorithm,
    kind: KeyKind,
    /// Its JWK members beside those that its kind fixes, each checked: names and values in base64url.
    numbers: Vec<(&'static str, String)>,
}

/// Why a text is no key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeySetError {
    /// Not JSON, or not an object with a list of keys.
    Form,
    /// More keys than [`MAX_KEYS`].
    TooMany,
    /// Not one public key for RS256, ES256 or EdDSA with a kid of its own.
    NoUsableKey,
}

impl KeySetError {
    /// What is wrong with the issuer's answer.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Form => "it is not a JSON Web Key Set",
            Self::TooMany => "it has more than 100 keys",
            Self::NoUsableKey => {
                "it has no public key for RS256, ES256 or EdDSA with a kid of its own"
            }
        }
    }
}

impl KeySet {
    /// Reads a set.
    ///
    /// # Errors
    /// See [`KeySetError`].
    pub(super) fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        let set: Value = serde_json::from_slice(text).map_err(|_| KeySetError::Form)?;
        let keys = set["keys"].as_array().ok_or(KeySetError::Form)?;
        if keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let usable: Vec<PublicKey> = keys.iter().filter_map(PublicKey::parse).collect();
        // Of two keys that answer to one name neither can be trusted to be the one meant.
        let unique: Vec<PublicKey> = usable
            .iter()
            .filter(|key| {
                usable
                    .iter()
                    .filter(|other| key.is_called_as(other))
                    .count()
                    == 1
            })
            .cloned()
            .collect();
        if unique.is_empty() {
            return Err(KeySetError::NoUsableKey);
        }
        Ok(Self(unique))
    }

    /// The key of this name for this algorithm. A key without a name is meant by every token if it is the only one of its
    /// algorithm, and by those that name none if it is not.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&PublicKey> {
        let mut keys = self.0.iter().filter(|key| key.algorithm == algorithm);
        let named = keys.clone().find(|key| key.kid.as_deref() == kid);
        named.or_else(|| match (keys.next(), keys.next()) {
            (Some(only), None) if only.kid.is_none() => Some(only),
            _ => None,
        })
    }
}

impl PublicKey {
    /// Reads one JWK (RFC 7517 §4, RFC 7518 §6).
    fn parse(jwk: &Value) -> Option<Self> {
        let member = |name: &str| jwk[name].as_str();
        // One that was published with its private half is everybody's, and verifies nothing; a
        // secret is none to publish.
        if jwk.get("d").is_some() || jwk.get("k").is_some() || !is_for_verifying(jwk) {
            return None;
        }
        let (algorithm, kind, numbers) = match (member("kty")?, member("crv")) {
            ("RSA", _) => (
                Algorithm::Rs256,
                KeyKind::Rsa,
                vec![
                    ("n", modulus(member("n")?)?),
                    ("e", exponent(member("e")?)?),
                ],
            ),
            ("EC", Some("P-256")) => (
                Algorithm::Es256,
                KeyKind::P256,
                vec![
                    ("x", coordinate(member("x")?)?),
                    ("y", coordinate(member("y")?)?),
                ],
            ),
            ("OKP", Some("Ed25519")) => (
                Algorithm::EdDsa,
                KeyKind::Ed25519,
                vec![("x", coordinate(member("x")?)?)],
            ),
            _ => return None,
        };
        // A name may be missing, but not be anything else than a text.
        let kid = match &jwk["kid"] {
            Value::Null => None,
            Value::String(kid) => Some(kid.clone()),
            _ => return None,
        };
        let declared = match jwk.get("alg") {
            None => Some(algorithm),
            Some(name) => Algorithm::parse(name.as_str()?),
        };
        (declared == Some(algorithm)).then_some(Self {
            kid,
            algorithm,
            kind,
            numbers: numbers
                .into_iter()
                .map(|(name, value)| (name, value.to_owned()))
                .collect(),
        })
    }

    /// A text that is said to be signed with it.
    pub(super) fn signed<'a>(&'a self, text: &'a [u8], signature: &'a [u8]) -> Signed<'a> {
        Signed {
            kind: self.kind,
            numbers: &self.numbers,
            text,
            signature,
        }
    }

    fn is_called_as(&self, other: &Self) -> bool {
        self.kid == other.kid && self.algorithm == other.algorithm
    }
}

/// What `use` and `key_ops` say, where they stand (RFC 7517 §4.2, §4.3).
fn is_for_verifying(jwk: &Value) -> bool {
    jwk.get("use").is_none_or(|of| of == "sig")
        && jwk.get("key_ops").is_none_or(|operations| {
            operations
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one == "verify"))
        })
}

fn modulus(text: &str) -> Option<&str> {
    let bytes = decode(text)?;
    let bits = bytes.len() * 8 - bytes.first()?.leading_zeros() as usize;
    RSA_BITS.contains(&bits).then_some(text)
}

/// Odd and at least 3; in practice 65537.
fn exponent(text: &str) -> Option<&str> {
    let bytes = decode(text)?;
    let number = match bytes.as_slice() {
        [] => None,
        bytes if bytes.len() > 4 => None,
        bytes => Some(
            bytes
                .iter()
                .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)),
        ),
    };
    number
        .is_some_and(|number| number >= 3 && number % 2 == 1)
        .then_some(text)
}

fn coordinate(text: &str) -> Option<&str> {
    (decode(text)?.len() == COORDINATE_BYTES).then_some(text)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// RFC 7517, appendix A.1: an elliptic curve key for encryption and an RSA key for RS256.
    const RFC_7517_A_1: &str = r#"{"keys":[
        {"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
         "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"},
        {"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
         "e":"AQAB","alg":"RS256","kid":"2011-04-29"}]}"#;

    /// The key of RFC 7515, appendix A.2.
    pub(in crate::auth) fn rsa_key(kid: &str) -> Value {
        json!({ "kty": "RSA", "kid": kid, "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ" })
    }

    /// The key of RFC 7515, appendix A.3.
    fn curve_key(kid: &str) -> Value {
        json!({ "kty": "EC", "crv": "P-256", "kid": kid,
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" })
    }

    /// The key of RFC 8037, appendix A.2.
    fn edwards_key(kid: &str) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid,
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" })
    }

    fn parse(keys: &Value) -> Result<KeySet, KeySetError> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    /// Whether a set of this one key has a key.
    fn takes(key: &Value) -> bool {
        parse(&json!([key])).is_ok()
    }

    fn with(mut key: Value, name: &str, value: Value) -> Value {
        key[name] = value;
        key
    }

    #[test]
    fn reads_the_set_of_rfc_7517() {
        let set = KeySet::parse(RFC_7517_A_1.as_bytes()).unwrap();
        assert!(set.find(Some("2011-04-29"), Algorithm::Rs256).is_some());
        assert!(set.find(Some("2011-04-29"), Algorithm::Hs256).is_none());
        assert!(set.find(Some("2011-04-29"), Algorithm::Es256).is_none());
        assert!(
            set.find(Some("1"), Algorithm::Es256).is_none(),
            "it is for encryption"
        );
    }

    #[test]
    fn reads_the_keys_of_rfc_7515() {
        let set = parse(&json!([rsa_key("a"), curve_key("a"), edwards_key("a")])).unwrap();
        for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
            assert_eq!(set.find(Some("a"), algorithm).unwrap().algorithm, algorithm);
        }
    }

    #[test]
    fn takes_a_key_for_what_it_says_it_is_for() {
        for key in [
            with(rsa_key("a"), "alg", json!("RS256")),
            with(rsa_key("a"), "use", json!("sig")),
            with(curve_key("a"), "key_ops", json!(["verify"])),
            with(edwards_key("a"), "alg", json!("EdDSA")),
            with(edwards_key("a"), "alg", json!("Ed25519")),
            with(
                curve_key("a"),
                "x5c",
                json!(["unknown members do not count"]),
            ),
        ] {
            assert!(takes(&key), "{key}");
        }
        for key in [
            with(rsa_key("a"), "alg", json!("HS256")),
            with(rsa_key("a"), "alg", json!("PS256")),
            with(rsa_key("a"), "alg", json!("none")),
            with(rsa_key("a"), "alg", json!("ES256")),
            with(rsa_key("a"), "use", json!("enc")),
            with(rsa_key("a"), "key_ops", json!(["encrypt"])),
            with(rsa_key("a"), "kid", json!(7)),
            with(edwards_key("a"), "crv", json!("Ed448")),
            with(edwards_key("a"), "crv", json!("X25519")),
            with(edwards_key("a"), "x", json!("AQAB")),
            with(edwards_key("a"), "alg", json!("ES256")),
            with(curve_key("a"), "crv", json!("P-384")),
            with(curve_key("a"), "crv", json!("secp256k1")),
            with(curve_key("a"), "kty", json!("OKP")),
            json!({ "kty": "oct", "kid": "a", "k": "c2VjcmV0" }),
            json!([]),
        ] {
            assert!(!takes(&key), "{key}");
        }
    }

    /// RFC 7517 §9.2, RFC 7518 §6.3.2: what was published of a private key is everybody's.
    #[test]
    fn takes_no_private_key() {
        for (member, value) in [("d", json!("AQAB")), ("d", Value::Null), ("k", json!(""))] {
            assert!(!takes(&with(rsa_key("a"), member, value)), "{member}");
        }
    }

    #[test]
    fn takes_no_weak_or_endless_numbers() {
        let modulus = |bytes: usize, first: u8| {
            let mut number = vec![0xff; bytes];
            number[0] = first;
            with(rsa_key("a"), "n", json!(URL_SAFE_NO_PAD.encode(number)))
        };
        assert!(takes(&modulus(256, 0x80)) && takes(&modulus(512, 0xff)));
        for key in [
            modulus(256, 0x7f),
            modulus(256, 0),
            modulus(513, 1),
            with(rsa_key("a"), "n", json!("")),
            with(rsa_key("a"), "n", json!("n+/=")),
            with(rsa_key("a"), "e", json!("AQ")),
            with(rsa_key("a"), "e", json!("AA")),
            with(rsa_key("a"), "e", json!("AQAA")),
            with(rsa_key("a"), "e", json!("")),
            with(rsa_key("a"), "e", json!("AQAAAAAB")),
            with(curve_key("a"), "x", json!("AQAB")),
            with(curve_key("a"), "y", Value::Null),
        ] {
            assert!(!takes(&key), "{key}");
        }
    }

    #[test]
    fn two_keys_of_one_name_are_none() {
        let set = parse(&json!([
            rsa_key("a"),
            rsa_key("a"),
            curve_key("a"),
            rsa_key("b")
        ]))
        .unwrap();
        assert!(set.find(Some("a"), Algorithm::Rs256).is_none());
        assert!(set.find(Some("a"), Algorithm::Es256).is_some());
        assert!(set.find(Some("b"), Algorithm::Rs256).is_some());
    }

    #[test]
    fn a_key_without_a_name_serves_where_nothing_else_can_be_meant() {
        let nameless = |key| with(key, "kid", Value::Null);
        let found = |keys: Value, kid| {
            let set = parse(&keys).unwrap();
            let key = set.find(kid, Algorithm::Rs256).cloned();
            key.map(|key| key.kid)
        };
        for kid in [None, Some("a"), Some("b")] {
            let alone = json!([nameless(rsa_key("")), curve_key("b")]);
            assert_eq!(found(alone, kid), Some(None), "{kid:?}");
        }
        let both = json!([nameless(rsa_key("")), rsa_key("a")]);
        assert_eq!(found(both.clone(), None), Some(None));
        assert_eq!(found(both.clone(), Some("a")), Some(Some("a".to_owned())));
        assert_eq!(found(both, Some("b")), None);
        assert_eq!(found(json!([rsa_key("a")]), None), None);
        let two = json!([nameless(rsa_key("")), nameless(rsa_key(""))]);
        assert_eq!(parse(&two), Err(KeySetError::NoUsableKey));
    }

    #[test]
    fn refuses_what_is_no_set() {
        let many: Vec<Value> = (0..=MAX_KEYS).map(|n| rsa_key(&n.to_string())).collect();
        assert_eq!(parse(&json!(many)), Err(KeySetError::TooMany));
        assert_eq!(parse(&json!([])), Err(KeySetError::NoUsableKey));
        for text in [
            "",
            "[]",
            "{}",
            r#"{"keys":{}}"#,
            "<html>",
            &"[".repeat(9999),
        ] {
            assert_eq!(
                KeySet::parse(text.as_bytes()),
                Err(KeySetError::Form),
                "{text}"
            );
        }
    }
}
