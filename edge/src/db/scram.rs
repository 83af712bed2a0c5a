//! SCRAM-SHA-256, the client's side (RFC 5802, RFC 7677): the password is proven and not sent, and the
//! server proves that it knows it.
//!
//! The thousands of hashes between a password and its keys are done once for all connections, as
//! RFC 5802 (section 5.1) allows: in WebAssembly they take longer than the call they open the way for.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use keepsake_service::db::{Failure, unavailable};
use sha2::{Digest, Sha256};
use std::{cell::RefCell, ops::RangeInclusive};

/// How the mechanism is called in PostgreSQL's protocol.
pub(super) const MECHANISM: &str = "SCRAM-SHA-256";

/// No channel binding, no other identity than that of the startup message.
const HEADER: &str = "n,,";

/// Iterations that a server may ask for. PostgreSQL asks for 4,096, the fewest that RFC 7677 (section 4) deems safe: of
/// fewer the proof tells whoever got it too much of the password. One that asks for billions would keep the worker busy.
const ITERATIONS: RangeInclusive<u32> = 4096..=100_000;

/// The longest challenge, in bytes. PostgreSQL's has some eighty.
const MAX_CHALLENGE_BYTES: usize = 2048;

/// A login that has begun.
pub(super) struct Scram<'a> {
    password: &'a [u8],
    nonce: String,
}

/// What a server that knows the password has to answer.
pub(super) struct Expected(Hmac<Sha256>);

/// The two keys that a password becomes with a server's salt.
#[derive(Clone, Copy)]
struct Keys {
    client: [u8; 32],
    server: [u8; 32],
}

/// A challenge's part that stays the same from one login to the next.
#[derive(Clone, PartialEq, Eq)]
struct Salting {
    password: Vec<u8>,
    salt: Vec<u8>,
    iterations: u32,
}

thread_local! {
    /// The keys of the last login: a worker has one database.
    static LAST: RefCell<Option<(Salting, Keys)>> = const { RefCell::new(None) };
}

impl<'a> Scram<'a> {
    /// Begins, with printable text without commas that was never used before.
    ///
    /// A password of visible ASCII is what it is in SASLprep (RFC 4013); any other goes as it stands.
    pub(super) const fn new(password: &'a [u8], nonce: String) -> Self {
        Self { password, nonce }
    }

    /// The first message to the server.
    pub(super) fn first_message(&self) -> String {
        format!("{HEADER}{}", self.bare())
    }

    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// The message that proves the password, and what has to come back.
    ///
    /// # Errors
    /// A challenge that is none, or not for this login.
    pub(super) fn answer(self, challenge: &[u8]) -> Result<(String, Expected), Failure> {
        if challenge.len() > MAX_CHALLENGE_BYTES {
            return Err(malformed());
        }
        let challenge = std::str::from_utf8(challenge).map_err(|_| malformed())?;
        let mut attributes = challenge.split(',');
        let nonce = attribute(attributes.next(), "r=")?;
        let salt = attribute(attributes.next(), "s=")?;
        let iterations = attribute(attributes.next(), "i=")?;
        if !nonce.starts_with(&self.nonce) || nonce == self.nonce {
            return Err(unavailable("the server answered a different login"));
        }
        let keys = keys(Salting {
            password: self.password.to_vec(),
            salt: STANDARD.decode(salt).map_err(|_| malformed())?,
            iterations: iterations.parse().map_err(|_| malformed())?,
        })?;

        let unproven = format!("c={},r={nonce}", STANDARD.encode(HEADER));
        let signed = format!("{},{challenge},{unproven}", self.bare());
        let stored_key = Sha256::digest(keys.client);
        let mut proof = hmac(&stored_key, signed.as_bytes())?;
        for (byte, key) in proof.iter_mut().zip(keys.client) {
            *byte ^= key;
        }
        let mut expected = keyed(&keys.server)?;
        expected.update(signed.as_bytes());
        let message = format!("{unproven},p={}", STANDARD.encode(proof));
        Ok((message, Expected(expected)))
    }
}

impl Expected {
    /// Checks the server's last message.
    ///
    /// # Errors
    /// The server does not know the password.
    pub(super) fn check(self, verdict: &[u8]) -> Result<(), Failure> {
        let signature = std::str::from_utf8(verdict)
            .ok()
            .and_then(|verdict| verdict.split(',').next()?.strip_prefix("v="))
            .and_then(|signature| STANDARD.decode(signature).ok())
            .ok_or_else(malformed)?;
        self.0
            .verify_slice(&signature)
            .map_err(|_| unavailable("the server did not prove that it knows the password"))
    }
}

/// An attribute of a message, which stands in its place or nowhere.
fn attribute<'a>(text: Option<&'a str>, name: &str) -> Result<&'a str, Failure> {
    text.and_then(|text| text.strip_prefix(name))
        .ok_or_else(malformed)
}

fn keys(salting: Salting) -> Result<Keys, Failure> {
    let known = LAST.with_borrow(|last| match last {
        Some((known, keys)) if *known == salting => Some(*keys),
        _ => None,
    });
    if let Some(keys) = known {
        return Ok(keys);
    }
    let salted = salted(&salting)?;
    let keys = Keys {
        client: hmac(&salted, b"Client Key")?,
        server: hmac(&salted, b"Server Key")?,
    };
    LAST.set(Some((salting, keys)));
    Ok(keys)
}

/// `Hi` of RFC 5802, section 2.2: PBKDF2 with one block.
fn salted(salting: &Salting) -> Result<[u8; 32], Failure> {
    if !ITERATIONS.contains(&salting.iterations) || salting.salt.is_empty() {
        return Err(unavailable(
            "the server asks for too many hashes, or for a proof that tells too much",
        ));
    }
    let keyed = keyed(&salting.password)?;
    let mut first = keyed.clone();
    first.update(&salting.salt);
    first.update(&[0, 0, 0, 1]);
    let mut link: [u8; 32] = first.finalize().into_bytes().into();
    let mut all = link;
    for _ in 1..salting.iterations {
        link = keyed
            .clone()
            .chain_update(link)
            .finalize()
            .into_bytes()
            .into();
        for (byte, more) in all.iter_mut().zip(link) {
            *byte ^= more;
        }
    }
    Ok(all)
}

fn keyed(key: &[u8]) -> Result<Hmac<Sha256>, Failure> {
    Hmac::new_from_slice(key).map_err(|_| malformed())
}

fn hmac(key: &[u8], message: &[u8]) -> Result<[u8; 32], Failure> {
    Ok(keyed(key)?
        .chain_update(message)
        .finalize()
        .into_bytes()
        .into())
}

fn malformed() -> Failure {
    unavailable("the server's login message is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;

    // An exchange that rust-postgres recorded (`postgres-protocol`, `authentication/sasl.rs`).
    const NONCE: &str = "9IZ2O01zb9IgiIZ1WJ/zgpJB";
    const CHALLENGE: &str =
        "r=9IZ2O01zb9IgiIZ1WJ/zgpJBjx/oIRLs02gGSHcw1KEty3eY,s=fs3IXBy7U7+IvVjZ,i=4096";
    const ANSWER: &str = "c=biws,r=9IZ2O01zb9IgiIZ1WJ/zgpJBjx/oIRLs02gGSHcw1KEty3eY,\
        p=AmNKosjJzS31NTlQYNs5BTeQjdHdk7lOflDo5re2an8=";
    const VERDICT: &str = "v=U+ppxD5XUKtradnv8e2MkeupiA8FU87Sg8CXzXHDAzw=";

    fn scram(password: &str) -> Scram<'_> {
        Scram::new(password.as_bytes(), NONCE.to_owned())
    }

    #[test]
    fn proves_a_password() {
        // The second time with the keys of the first.
        for _ in 0..2 {
            assert_eq!(scram("foobar").first_message(), format!("n,,n=,r={NONCE}"));
            let (answer, expected) = scram("foobar").answer(CHALLENGE.as_bytes()).unwrap();
            assert_eq!(answer, ANSWER);
            expected.check(VERDICT.as_bytes()).unwrap();
        }
        let (other, _) = scram("foobaz").answer(CHALLENGE.as_bytes()).unwrap();
        assert_ne!(other, ANSWER);
    }

    /// Password, salt and iterations of the example in RFC 7677, section 3; the result is that of
    /// Python's `hashlib.pbkdf2_hmac`.
    #[test]
    fn salts_a_password() {
        let salting = Salting {
            password: b"pencil".to_vec(),
            salt: STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(),
            iterations: 4096,
        };
        let want: keepsake_shared::Sha256Digest =
            "c4a49510323ab4f952cac1fa99441939e78ea74d6be81ddf7096e87513dc615d"
                .parse()
                .unwrap();
        assert_eq!(salted(&salting).unwrap(), *want.as_bytes());
    }

    #[test]
    fn refuses_a_server_that_does_not_know_it() {
        for verdict in [
            "v=AAAAxD5XUKtradnv8e2MkeupiA8FU87Sg8CXzXHDAzw=",
            "v=",
            "v=U+pp",
            "e=invalid-proof",
            "",
        ] {
            let (_, expected) = scram("foobar").answer(CHALLENGE.as_bytes()).unwrap();
            assert!(expected.check(verdict.as_bytes()).is_err(), "{verdict}");
        }
    }

    #[test]
    fn refuses_a_challenge_that_is_none() {
        let own = format!("r={NONCE}");
        for challenge in [
            "".to_owned(),
            "r=another,s=fs3IXBy7U7+IvVjZ,i=4096".to_owned(),
            // Nothing of the server's own in the nonce.
            format!("{own},s=fs3IXBy7U7+IvVjZ,i=4096"),
            format!("m=ext,{own}x,s=fs3IXBy7U7+IvVjZ,i=4096"),
            format!("{own}x,i=4096,s=fs3IXBy7U7+IvVjZ"),
            format!("{own}x,s=?,i=4096"),
            format!("{own}x,s=fs3IXBy7U7+IvVjZ"),
            format!("{own}x,s=,i=4096"),
            format!("{own}{},s=fs3IXBy7U7+IvVjZ,i=4096", "x".repeat(3000)),
            format!("{own}x,s=fs3IXBy7U7+IvVjZ,i=0"),
            format!("{own}x,s=fs3IXBy7U7+IvVjZ,i=1"),
            format!("{own}x,s=fs3IXBy7U7+IvVjZ,i=4095"),
            format!("{own}x,s=fs3IXBy7U7+IvVjZ,i=100001"),
            format!("{own}x,s=fs3IXBy7U7+IvVjZ,i=4096.5"),
            format!("{own}x,s=fs3IXBy7U7+IvVjZ,i=-1"),
            format!("{own}x,s=fs3IXBy7U7+IvVjZ,i=1000000000"),
            format!("{own}x,s=fs3IXBy7U7+IvVjZ,i=99999999999"),
        ] {
            let answer = scram("foobar").answer(challenge.as_bytes());
            assert!(answer.is_err(), "{challenge}");
        }
        assert!(scram("foobar").answer(b"r=\xff").is_err());
    }
}
