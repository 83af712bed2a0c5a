use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use keepsake_shared::{
    ErrorCode, FileName, KeyRing, MediaType, ObjectKey, ObjectToken, Sha256Digest, TokenError,
    token::MAX_TOKEN_CHARS,
};
use proptest::prelude::*;
use time::{Duration, OffsetDateTime, macros::datetime};

const OLD: &str = "old:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const NEW: &str = "new://////////////////////////////////////////8=";
const EXPIRES: OffsetDateTime = datetime!(2026-09-01 00:15 UTC);
const BEFORE: OffsetDateTime = datetime!(2026-09-01 00:14:59.999 UTC);

fn ring(setting: &str) -> KeyRing {
    KeyRing::parse(setting).unwrap()
}

fn upload() -> ObjectToken {
    ObjectToken::Upload {
        key: "t/acme/post/42/0198f7d0-1111-7aaa-8bbb-000000000001.png"
            .parse()
            .unwrap(),
        size: 12_345,
        media_type: MediaType::from_extension("png").unwrap(),
        sha256: Sha256Digest::of(b"abc"),
        expires_at: EXPIRES,
    }
}

fn download(file_name: &str) -> ObjectToken {
    ObjectToken::Download {
        key: "t/acme/post/42/0198f7d0-1111-7aaa-8bbb-000000000001.pdf"
            .parse()
            .unwrap(),
        media_type: MediaType::from_extension("pdf").unwrap(),
        file_name: FileName::parse(file_name).unwrap(),
        inline: true,
        size: 1,
        expires_at: EXPIRES,
    }
}

#[test]
fn tokens_are_read_as_they_were_signed() {
    let keys = ring(NEW);
    for token in [upload(), download("Übersicht \"1\".pdf")] {
        let text = token.sign(&keys);
        assert_eq!(ObjectToken::verify(&text, &keys, BEFORE), Ok(token));
    }
}

/// The form is fixed: a token in use must be read by the next release. The MAC was made with
/// Python's `hmac`.
#[test]
fn the_form_is_fixed() {
    let text = upload().sign(&ring(OLD));
    let [version, kid, payload, mac] = text.split('.').collect::<Vec<_>>()[..] else {
        panic!("{text}");
    };
    assert_eq!((version, kid), ("k2", "old"));
    assert_eq!(
        String::from_utf8(URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap(),
        "{\"upload\":{\"key\":\"t/acme/post/42/0198f7d0-1111-7aaa-8bbb-000000000001.png\",\"size\":12345,\"media_type\":\"image/png\",\"sha256\":\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\",\"expires_at\":1788221700}}"
    );
    assert_eq!(mac, "7gBMoD7Gbqdnnf_HcIogZBOckqeg78nNXXlkegksK6Y");
}

#[test]
fn a_token_ends_with_the_second_it_names() {
    let keys = ring(NEW);
    let text = upload().sign(&keys);
    assert!(ObjectToken::verify(&text, &keys, BEFORE).is_ok());
    assert_eq!(
        ObjectToken::verify(&text, &keys, EXPIRES),
        Err(TokenError::Expired)
    );
    let later = EXPIRES + Duration::days(365);
    assert_eq!(
        ObjectToken::verify(&text, &keys, later),
        Err(TokenError::Expired)
    );
}

#[test]
fn keys_rotate_with_an_overlap() {
    let signed_before = upload().sign(&ring(OLD));
    let overlap = ring(&format!("{NEW},{OLD}"));
    assert!(ObjectToken::verify(&signed_before, &overlap, BEFORE).is_ok());
    assert!(upload().sign(&overlap).starts_with("k2.new."));
    let after = ring(NEW);
    assert_eq!(
        ObjectToken::verify(&signed_before, &after, BEFORE),
        Err(TokenError::UnknownKey)
    );
}

#[test]
fn the_key_id_is_signed() {
    // Two ids for one key: the MAC of one is still not that of the other.
    let secret = OLD.trim_start_matches("old:");
    let keys = ring(&format!("a:{secret},b:{secret}"));
    let text = upload().sign(&keys).replace("k2.a.", "k2.b.");
    assert_eq!(
        ObjectToken::verify(&text, &keys, BEFORE),
        Err(TokenError::BadSignature)
    );
}

#[test]
fn a_bare_hmac_of_the_same_text_is_no_token() {
    let keys = ring(NEW);
    let text = upload().sign(&keys);
    let (signed, _) = text.rsplit_once('.').unwrap();
    for message in [
        signed,
        signed.trim_start_matches("k2."),
        signed.rsplit('.').next().unwrap(),
    ] {
        let mac = URL_SAFE_NO_PAD.encode(keys.signing_key().sign(&[message.as_bytes()]));
        let forged = format!("{signed}.{mac}");
        assert_eq!(
            ObjectToken::verify(&forged, &keys, BEFORE),
            Err(TokenError::BadSignature)
        );
    }
}

#[test]
fn malformed_tokens() {
    let keys = ring(NEW);
    let text = upload().sign(&keys);
    for wrong in [
        String::new(),
        "k2".into(),
        "k2.new.".into(),
        format!("{text}."),
        format!("{text}="),
        text.replacen("k2.", "k3.", 1),
        text.replacen("k2.", "", 1),
        "a".repeat(MAX_TOKEN_CHARS + 1),
        format!("k2.new.{}.{}", "A".repeat(MAX_TOKEN_CHARS), "A".repeat(43)),
    ] {
        assert_eq!(
            ObjectToken::verify(&wrong, &keys, BEFORE),
            Err(TokenError::Malformed),
            "{wrong}"
        );
    }
}

#[test]
fn a_signed_payload_must_still_be_a_token() {
    let keys = ring(NEW);
    for json in [
        "",
        "{}",
        "{\"delete\":{}}",
        // A field too many, a key that is none.
        "{\"upload\":{\"key\":\"t/acme/post/42/0198f7d0-1111-7aaa-8bbb-000000000001.png\",\"size\":1,\"media_type\":\"image/png\",\"sha256\":\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\",\"expires_at\":1788221700,\"state\":\"clean\"}}",
        "{\"upload\":{\"key\":\"../../etc\",\"size\":1,\"media_type\":\"image/png\",\"sha256\":\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\",\"expires_at\":1788221700}}",
    ] {
        let payload = URL_SAFE_NO_PAD.encode(json);
        let parts: [&[u8]; 4] = [
            b"keepsake object token, version 2\n",
            b"new",
            b".",
            payload.as_bytes(),
        ];
        let mac = URL_SAFE_NO_PAD.encode(keys.signing_key().sign(&parts));
        let text = format!("k2.new.{payload}.{mac}");
        assert_eq!(
            ObjectToken::verify(&text, &keys, BEFORE),
            Err(TokenError::Malformed),
            "{json}"
        );
    }
}

#[test]
fn codes() {
    assert_eq!(TokenError::Expired.code(), ErrorCode::UrlExpired);
    for error in [
        TokenError::Malformed,
        TokenError::UnknownKey,
        TokenError::BadSignature,
    ] {
        assert_eq!(error.code(), ErrorCode::UrlInvalid);
    }
}

#[test]
fn the_longest_token_fits() {
    let longest = "\"".repeat(251) + ".pdf";
    let keys = ring(&NEW.replace("new", &"k".repeat(128)));
    let key = format!(
        "t/{}/{}/{}/0198f7d0-1111-7aaa-8bbb-000000000001.abcdefghij",
        "t".repeat(64),
        "e".repeat(63),
        "i".repeat(64)
    );
    let token = ObjectToken::Download {
        key: ObjectKey::parse(&key).unwrap(),
        media_type: MediaType::from_extension("pptx").unwrap(),
        file_name: FileName::parse(&longest).unwrap(),
        inline: false,
        size: u64::MAX,
        expires_at: datetime!(9999-12-31 23:59:59 UTC),
    };
    let text = token.sign(&keys);
    assert!(text.len() <= MAX_TOKEN_CHARS, "{}", text.len());
    assert_eq!(ObjectToken::verify(&text, &keys, BEFORE), Ok(token));
}

proptest! {
    #[test]
    fn no_other_text_is_taken(text in any::<String>()) {
        let keys = ring(NEW);
        prop_assert!(ObjectToken::verify(&text, &keys, BEFORE).is_err());
        let prefixed = format!("k2.new.{text}");
        prop_assert!(ObjectToken::verify(&prefixed, &keys, BEFORE).is_err());
    }

    #[test]
    fn a_token_with_one_character_changed_is_refused(place in any::<prop::sample::Index>(), with in "[A-Za-z0-9._-]") {
        let keys = ring(NEW);
        let text = upload().sign(&keys);
        let place = place.index(text.len());
        let mut bent = text.clone();
        bent.replace_range(place..=place, &with);
        prop_assume!(bent != text);
        prop_assert!(ObjectToken::verify(&bent, &keys, BEFORE).is_err());
    }

    #[test]
    fn every_token_stands_in_a_url_as_it_is(stem in "[^/\\\\\\x00-\\x1f.]{1,40}", size in any::<u64>()) {
        let file_name = FileName::sanitize(&format!("{stem}.pdf"));
        let ObjectToken::Download { key, media_type, inline, expires_at, .. } = download("a.pdf") else {
            unreachable!()
        };
        let token = ObjectToken::Download { key, media_type, file_name, inline, size, expires_at };
        let keys = ring(NEW);
        let text = token.sign(&keys);
        prop_assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)));
        prop_assert_eq!(ObjectToken::verify(&text, &keys, BEFORE), Ok(token));
    }
}
