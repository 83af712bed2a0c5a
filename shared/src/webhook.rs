//! Signed messages to an endpoint of somebody else's, as Standard Webhooks has them, and which endpoints may be told.
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use alloc::{string::String, string::ToString, vec::Vec};
use core::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{ShownOrigin, keyed_hash::keyed};

/// What the text of a key begins with.
const PREFIX: &str = "whsec_";

/// How many bytes a key has, as the standard asks for.
const KEY_BYTES: core::ops::RangeInclusive<usize> = 24..=64;

/// Seconds by which the clocks of sender and receiver may differ.
pub const TOLERANCE_SECONDS: u64 = 300;

/// Why a setting is no list of webhook keys. No message holds any part of it, but the place of the wrong entry, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WebhookKeysError {
    /// A key is not `whsec_` and base64 after it.
    #[error("key {0} has not the form \"whsec_base64\"")]
    Form(usize),
    /// A key is too short or too long.
    #[error("key {0} has not 24 to 64 bytes")]
    Length(usize),
}

/// The keys that messages are signed with: each message with all of them, so that a receiver may have the old one or the new one
/// while they are rotated.
#[derive(Clone)]
pub struct WebhookKeys(Vec<Hmac<Sha256>>);

impl WebhookKeys {
    /// The value of `webhook-signature` for a message: a signature of each key, separated by spaces.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let mut signatures = String::new();
        for key in &self.0 {
            if !signatures.is_empty() {
                signatures.push(' ');
            }
            let mac = mac(key, id, &timestamp.to_string(), body.as_bytes());
            signatures.push_str("v1,");
            BASE64_STANDARD.encode_string(mac.finalize().into_bytes(), &mut signatures);
        }
        signatures
    }

    /// Whether one of the signatures is that of one of the keys, compared in constant time, and the message was sent at about
    /// `now`, in seconds since 1970.
    #[must_use]
    pub fn verify(
        &self,
        id: &str,
        timestamp: &str,
        signatures: &str,
        body: &[u8],
        now: i64,
    ) -> bool {
        let is_recent = timestamp
            .parse::<i64>()
            .is_ok_and(|sent| now.abs_diff(sent) <= TOLERANCE_SECONDS);
        is_recent
            && signatures
                .split(' ')
                .filter_map(|signature| signature.strip_prefix("v1,"))
                .filter_map(|encoded| BASE64_STANDARD.decode(encoded).ok())
                .any(|given| {
                    self.0
                        .iter()
                        .any(|key| mac(key, id, timestamp, body).verify_slice(&given).is_ok())
                })
    }
}

fn mac(key: &Hmac<Sha256>, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = key.clone();
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac
}

impl FromStr for WebhookKeys {
    type Err = WebhookKeysError;

    /// Reads `whsec_base64`, several separated by commas or white space.
    fn from_str(text: &str) -> Result<Self, WebhookKeysError> {
        let entries = text
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|entry| !entry.is_empty());
        let mut keys = Vec::new();
        for (entry, place) in entries.zip(1..) {
            let bytes = entry
                .strip_prefix(PREFIX)
                .and_then(|encoded| BASE64_STANDARD.decode(encoded).ok())
                .map(Zeroizing::new)
                .ok_or(WebhookKeysError::Form(place))?;
            if !KEY_BYTES.contains(&bytes.len()) {
                return Err(WebhookKeysError::Length(place));
            }
            keys.push(keyed(&bytes));
        }
        if keys.is_empty() {
            return Err(WebhookKeysError::Form(1));
        }
        Ok(Self(keys))
    }
}

impl fmt::Debug for WebhookKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "WebhookKeys({} of them, secrets not shown)",
            self.0.len()
        )
    }
}

/// An endpoint that may be told: `https`, or `http` on this machine, for development. Nothing of it is decided by who calls the API.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(String);

/// Why a text is no [`WebhookUrl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an https address without user, password and fragment (http only on localhost)")]
pub struct WebhookUrlError;

impl WebhookUrl {
    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WebhookUrl {
    type Err = WebhookUrlError;

    fn from_str(text: &str) -> Result<Self, WebhookUrlError> {
        let (is_https, rest) = text
            .strip_prefix("https://")
            .map(|rest| (true, rest))
            .or_else(|| text.strip_prefix("http://").map(|rest| (false, rest)))
            .ok_or(WebhookUrlError)?;
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !authority.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let is_local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        let is_host = !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte));
        let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
        let is_plain = text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"#\\@\"<>^`{|}".contains(&byte));
        if (is_https || is_local) && is_host && is_port && is_plain {
            Ok(Self(text.to_string()))
        } else {
            Err(WebhookUrlError)
        }
    }
}

impl fmt::Debug for WebhookUrl {
    /// The address without what may be a secret in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&ShownOrigin(&self.0), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    // The example that the standard's own libraries are tested with.
    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIME: i64 = 1_614_265_330;
    const BODY: &str = r#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn keys(text: &str) -> WebhookKeys {
        text.parse().unwrap()
    }

    #[test]
    fn signs_as_the_standard_does() {
        assert_eq!(keys(KEY).sign(ID, TIME, BODY), SIGNATURE);
    }

    #[test]
    fn verifies_what_was_signed_and_nothing_else() {
        let keys = keys(KEY);
        let time = TIME.to_string();
        let verify = |id: &str, time: &str, signature: &str, body: &str, now: i64| {
            keys.verify(id, time, signature, body.as_bytes(), now)
        };
        assert!(verify(ID, &time, SIGNATURE, BODY, TIME));
        assert!(verify(ID, &time, SIGNATURE, BODY, TIME + 300));
        assert!(verify(
            ID,
            &time,
            &format!("v1a,AAAA v1,AAAA {SIGNATURE}"),
            BODY,
            TIME
        ));
        assert!(!verify("msg_other", &time, SIGNATURE, BODY, TIME));
        assert!(!verify(ID, &time, SIGNATURE, "{}", TIME));
        assert!(!verify(ID, &time, SIGNATURE, BODY, TIME + 301));
        assert!(!verify(ID, &time, SIGNATURE, BODY, TIME - 301));
        assert!(!verify(ID, "1614265331", SIGNATURE, BODY, TIME));
        assert!(!verify(ID, "soon", SIGNATURE, BODY, TIME));
        for signature in [
            "",
            "v1,",
            "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            "v1,g0hM",
        ] {
            assert!(!verify(ID, &time, signature, BODY, TIME), "{signature}");
        }
    }

    #[test]
    fn signs_with_the_old_key_and_the_new_one_while_they_are_rotated() {
        let new = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let both = keys(&format!("{new}, {KEY}"));
        let signatures = both.sign(ID, TIME, BODY);
        assert!(signatures.ends_with(SIGNATURE) && signatures.split(' ').count() == 2);
        for one in [new, KEY] {
            assert!(keys(one).verify(ID, &TIME.to_string(), &signatures, BODY.as_bytes(), TIME));
        }
    }

    #[test]
    fn refuses_weak_keys_and_shows_none() {
        assert_eq!(
            "".parse::<WebhookKeys>().unwrap_err(),
            WebhookKeysError::Form(1)
        );
        assert_eq!(
            format!("{KEY},MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
                .parse::<WebhookKeys>()
                .unwrap_err(),
            WebhookKeysError::Form(2)
        );
        assert_eq!(
            "whsec_c2hvcnQ=".parse::<WebhookKeys>().unwrap_err(),
            WebhookKeysError::Length(1)
        );
        assert!(!format!("{:?}", keys(KEY)).contains("MfKQ"));
    }

    #[test]
    fn tells_no_endpoint_without_encryption() {
        for good in [
            "https://example.com/hooks?x=1",
            "https://example.com:8443",
            "http://127.0.0.1:9000/hooks",
            "http://localhost/",
            "https://[2001:db8::1]:8443/",
        ] {
            assert_eq!(good.parse::<WebhookUrl>().unwrap().as_str(), good);
        }
        for bad in [
            "http://example.com/hooks",
            "http://localhost.example.com/",
            "http://127.0.0.1@example.com/",
            "https://user:pass@example.com/",
            "https:///hooks",
            "https://example.com/#there",
            "https://example.com:0/",
            "https://exa mple.com/",
            "ftp://example.com/",
            "https://example.com\\@localhost/",
            "",
        ] {
            assert_eq!(bad.parse::<WebhookUrl>(), Err(WebhookUrlError), "{bad}");
        }
        for behind in ["/hooks/secret", "?token=secret", "/?token=secret", ""] {
            let url: WebhookUrl = format!("https://example.com{behind}").parse().unwrap();
            assert_eq!(format!("{url:?}"), "https://example.com/…");
        }
    }
}
