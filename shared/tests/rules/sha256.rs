use keepsake_shared::{Sha256Digest, Sha256Error};
use proptest::prelude::*;

/// FIPS 180-4's example for "abc".
const ABC_HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const ABC_BASE64: &str = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";

#[test]
fn the_standard_s_example_in_both_spellings() {
    let digest = Sha256Digest::of(b"abc");
    assert_eq!(digest.to_hex(), ABC_HEX);
    assert_eq!(digest.to_base64(), ABC_BASE64);
    assert_eq!(ABC_HEX.parse(), Ok(digest));
    assert_eq!(ABC_HEX.to_uppercase().parse(), Ok(digest));
    assert_eq!(ABC_BASE64.parse(), Ok(digest));
    assert_eq!(
        serde_json::to_string(&digest).unwrap(),
        format!("\"{ABC_HEX}\"")
    );
}

#[test]
fn other_texts_are_refused() {
    let not_canonical = ABC_BASE64.replace("0=", "1=");
    for text in [
        "",
        &ABC_HEX[1..],
        &ABC_BASE64[1..],
        ABC_BASE64.trim_end_matches('='),
        &format!("{}g", &ABC_HEX[1..]),
        &format!("+{}", &ABC_HEX[1..]),
        &format!(" {}", &ABC_HEX[1..]),
        &"é".repeat(32),
        &"é".repeat(22),
        &ABC_BASE64.replace('+', "-").replace('/', "_"),
        &not_canonical,
    ] {
        assert_eq!(text.parse::<Sha256Digest>(), Err(Sha256Error), "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(bytes in any::<[u8; 32]>()) {
        let digest = Sha256Digest::from_bytes(bytes);
        prop_assert_eq!(digest.to_hex().parse(), Ok(digest));
        prop_assert_eq!(digest.to_base64().parse(), Ok(digest));
        prop_assert_eq!(*digest.as_bytes(), bytes);
    }

    #[test]
    fn reading_never_panics(text in any::<String>()) {
        let _ = text.parse::<Sha256Digest>();
    }
}
