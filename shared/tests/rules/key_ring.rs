use keepsake_shared::{KeyRing, KeyRingError};
use proptest::prelude::*;

/// 32 bytes of 0xff, which the two alphabets of base64 spell differently.
const STANDARD: &str = "//////////////////////////////////////////8=";
const URL_SAFE: &str = "__________________________________________8";
const OTHER: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

#[test]
fn every_spelling_of_base64_is_the_same_key() {
    let mac = |setting: &str| {
        KeyRing::parse(setting)
            .unwrap()
            .signing_key()
            .sign(&[b"a", b"b"])
    };
    let expected = mac(&format!("k:{STANDARD}"));
    assert_eq!(
        mac(&format!("k:{}", STANDARD.trim_end_matches('='))),
        expected
    );
    assert_eq!(mac(&format!(" k:{URL_SAFE} ")), expected);
    assert_ne!(mac(&format!("k:{OTHER}")), expected);
}

/// RFC 4231, test case 6: a key longer than a block.
#[test]
fn the_mac_is_hmac_sha_256() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let setting = format!("k:{}", STANDARD.encode([0xaa; 131]));
    let ring = KeyRing::parse(&setting).unwrap();
    let message = b"Test Using Larger Than Block-Size Key - Hash Key First";
    let mac = ring.signing_key().sign(&[&message[..10], &message[10..]]);
    assert_eq!(
        keepsake_shared::Sha256Digest::from_bytes(mac).to_hex(),
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
    );
    assert!(ring.signing_key().verify(&[message], &mac));
    assert!(!ring.signing_key().verify(&[message], &mac[..31]));
    assert!(!ring.signing_key().verify(&[message], b""));
}

#[test]
fn the_first_key_signs_and_all_are_found() {
    let ring = KeyRing::parse(&format!("new:{STANDARD}, old:{OTHER}")).unwrap();
    assert_eq!(ring.signing_key().id(), "new");
    assert_eq!(ring.key("old").unwrap().id(), "old");
    assert!(ring.key("older").is_none());
    assert!(ring.key("").is_none());
}

#[test]
fn wrong_settings_are_refused_by_place() {
    let good = format!("a:{STANDARD}");
    for (setting, error) in [
        (String::new(), KeyRingError::Empty),
        ("  ".into(), KeyRingError::Empty),
        ("a".into(), KeyRingError::Form(1)),
        (format!("{good},"), KeyRingError::Form(2)),
        (format!(":{STANDARD}"), KeyRingError::KeyId(1)),
        (format!("a.b:{STANDARD}"), KeyRingError::KeyId(1)),
        (
            format!("{}:{STANDARD}", "k".repeat(129)),
            KeyRingError::KeyId(1),
        ),
        (format!("{good},b:not base64!"), KeyRingError::NotBase64(2)),
        (
            format!("{good},b:{}", &OTHER[4..]),
            KeyRingError::TooShort(2),
        ),
        ("a:".into(), KeyRingError::TooShort(1)),
        (format!("{good},a:{OTHER}"), KeyRingError::Duplicate(2)),
    ] {
        assert_eq!(KeyRing::parse(&setting).unwrap_err(), error, "{setting}");
    }
}

#[test]
fn keys_are_not_shown() {
    let shown = format!("{:?}", KeyRing::parse(&format!("a:{STANDARD}")).unwrap());
    assert_eq!(shown, "[Key(a, secret not shown)]");
}

proptest! {
    #[test]
    fn parsing_never_panics_and_shows_nothing(setting in any::<String>()) {
        let _ = KeyRing::parse(&setting);
        let long = format!("k:{setting}");
        if let (Err(error), true) = (KeyRing::parse(&long), setting.len() > 12) {
            prop_assert!(!error.to_string().contains(&setting));
        }
    }
}
