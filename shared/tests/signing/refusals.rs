//! What is not signed, and what a signature depends on.

use keepsake_shared::sigv4::{
    AuthorizationRequest, Bucket, Credentials, Endpoint, MAX_EXPIRES_SECONDS, MAX_HEADERS, Payload,
    PresignRequest, Request, SessionTokenUse, SigV4Error, Signer, SigningKeyCache, authorization,
    presign,
};
use time::{OffsetDateTime, macros::datetime};

const NOW: OffsetDateTime = datetime!(2026-09-01 12:34:56 UTC);

fn bucket() -> Bucket {
    Bucket::path_style(Endpoint::parse("https://store.example").unwrap(), "bucket").unwrap()
}

fn signer_with(key_id: &str, secret: &str) -> Signer {
    Signer::s3(Credentials::new(key_id, secret, None).unwrap(), "auto").unwrap()
}

fn put<'a>(
    bucket: &'a Bucket,
    query: &'a [(&'a str, &'a str)],
    headers: &'a [(&'a str, &'a str)],
) -> PresignRequest<'a> {
    PresignRequest {
        request: Request {
            method: "PUT",
            target: bucket.object("k").unwrap(),
            query,
            headers,
            payload: Payload::Unsigned,
        },
        expires_seconds: 900,
    }
}

fn sign(request: &PresignRequest<'_>) -> Result<String, SigV4Error> {
    let mut keys = SigningKeyCache::default();
    presign(request, &signer_with("ID", "secret"), &mut keys, NOW)
}

#[test]
fn a_life_outside_one_second_to_seven_days() {
    let bucket = bucket();
    let with_life = |expires_seconds| {
        sign(&PresignRequest {
            expires_seconds,
            ..put(&bucket, &[], &[])
        })
    };
    assert_eq!(with_life(0), Err(SigV4Error::Expires));
    assert_eq!(with_life(MAX_EXPIRES_SECONDS + 1), Err(SigV4Error::Expires));
    assert!(with_life(1).unwrap().contains("&X-Amz-Expires=1&"));
    assert!(
        with_life(604_800)
            .unwrap()
            .contains("&X-Amz-Expires=604800&")
    );
}

#[test]
fn keys_that_clients_and_stores_rewrite() {
    let bucket = bucket();
    for key in [
        "/a", "a/", "a//b", ".", "..", "./a", "a/..", "a/./b", "a/../b",
    ] {
        assert_eq!(
            bucket.object(key).unwrap_err(),
            SigV4Error::KeySegment,
            "{key}"
        );
    }
    assert_eq!(bucket.object("").unwrap_err(), SigV4Error::KeyLength);
    assert_eq!(
        bucket.object(&"k".repeat(1025)).unwrap_err(),
        SigV4Error::KeyLength
    );
    assert!(bucket.object(&"k".repeat(1024)).is_ok());
    assert!(bucket.object("a/.b/..c/d.").is_ok());
}

#[test]
fn header_values_that_would_split_or_vary() {
    let bucket = bucket();
    for value in [
        "a\r\nx-evil: 1",
        "a\nb",
        "a\rb",
        "a\0b",
        "a\tb",
        "é",
        "a\x7fb",
    ] {
        let headers = [("content-type", value)];
        assert_eq!(
            sign(&put(&bucket, &[], &headers)),
            Err(SigV4Error::HeaderValue),
            "{value:?}"
        );
    }
}

#[test]
fn header_names_that_are_none() {
    let bucket = bucket();
    for name in ["", "a b", "a:b", "a\nb", "é", "a;b", "a%3Bb"] {
        let headers = [(name, "1")];
        assert_eq!(
            sign(&put(&bucket, &[], &headers)),
            Err(SigV4Error::HeaderName),
            "{name:?}"
        );
    }
}

#[test]
fn what_signing_sets_itself() {
    let bucket = bucket();
    for name in [
        "host",
        "Host",
        "authorization",
        "X-Amz-Date",
        "x-amz-security-token",
    ] {
        let headers = [(name, "1")];
        assert_eq!(
            sign(&put(&bucket, &[], &headers)),
            Err(SigV4Error::ReservedHeader),
            "{name}"
        );
    }
    for name in ["X-Amz-Expires", "X-Amz-Signature", "X-Amz-Anything"] {
        let query = [(name, "1")];
        assert_eq!(
            sign(&put(&bucket, &query, &[])),
            Err(SigV4Error::ReservedParameter),
            "{name}"
        );
    }
    let headers = [("x-amz-content-sha256", "UNSIGNED-PAYLOAD")];
    let request = AuthorizationRequest {
        request: put(&bucket, &[], &headers).request,
        send_content_sha256: true,
    };
    let mut keys = SigningKeyCache::default();
    let refused = authorization(&request, &signer_with("ID", "secret"), &mut keys, NOW);
    assert_eq!(refused.unwrap_err(), SigV4Error::ReservedHeader);
}

#[test]
fn control_characters_in_the_query() {
    let bucket = bucket();
    for parameter in [("a", "b\r\nc"), ("a\0", "b"), ("a", "\u{85}")] {
        let query = [parameter];
        assert_eq!(
            sign(&put(&bucket, &query, &[])),
            Err(SigV4Error::QueryCharacter)
        );
    }
}

#[test]
fn too_many_headers() {
    let bucket = bucket();
    let names: Vec<String> = (0..MAX_HEADERS)
        .map(|number| format!("x-{number}"))
        .collect();
    let headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(
        sign(&put(&bucket, &[], &headers)),
        Err(SigV4Error::TooManyHeaders)
    );
    assert!(sign(&put(&bucket, &[], &headers[1..])).is_ok());
}

#[test]
fn methods_that_are_none() {
    let bucket = bucket();
    for method in ["", "put", "PUT\n", "P UT"] {
        let mut request = put(&bucket, &[], &[]);
        request.request.method = method;
        assert_eq!(sign(&request), Err(SigV4Error::Method), "{method:?}");
    }
}

#[test]
fn endpoints() {
    let host = |url| Endpoint::parse(url).map(|endpoint| endpoint.host().to_owned());
    assert_eq!(
        host("https://Store.Example").as_deref(),
        Ok("store.example")
    );
    assert_eq!(
        host("https://store.example/").as_deref(),
        Ok("store.example")
    );
    assert_eq!(
        host("https://store.example:443").as_deref(),
        Ok("store.example")
    );
    assert_eq!(host("http://localhost:80").as_deref(), Ok("localhost"));
    assert_eq!(host("http://localhost:443").as_deref(), Ok("localhost:443"));
    assert_eq!(
        host("http://127.0.0.1:9000").as_deref(),
        Ok("127.0.0.1:9000")
    );
    assert_eq!(host("http://[::1]:9000").as_deref(), Ok("[::1]:9000"));
    for url in [
        "",
        "store.example",
        "ftp://store.example",
        "https://",
        "https:///",
        "https://a b",
        "https://user@store.example",
        "https://store.example/path",
        "https://store.example?q",
        "https://store.example#f",
        "https://store.example:",
        "https://store.example:0",
        "https://store.example:70000",
        "https://store.example:+1",
        "https://é.example",
        "https://[::1",
        "https://[]",
        "https://a\r\nb",
    ] {
        assert_eq!(host(url), Err(SigV4Error::Endpoint), "{url}");
    }
}

#[test]
fn bucket_names() {
    let endpoint = || Endpoint::parse("https://store.example").unwrap();
    for name in [
        "",
        "ab",
        "Bucket",
        "a_b_c",
        "-abc",
        "abc-",
        "a..b",
        "a/b",
        "é12",
        &"b".repeat(64),
    ] {
        assert_eq!(
            Bucket::path_style(endpoint(), name),
            Err(SigV4Error::BucketName),
            "{name}"
        );
        assert_eq!(
            Bucket::virtual_hosted(endpoint(), name),
            Err(SigV4Error::BucketName),
            "{name}"
        );
    }
    let bucket = Bucket::virtual_hosted(endpoint(), "my.bucket-1").unwrap();
    assert_eq!(bucket.endpoint().host(), "my.bucket-1.store.example");
    let address = Endpoint::parse("http://[::1]").unwrap();
    assert_eq!(
        Bucket::virtual_hosted(address, "bucket"),
        Err(SigV4Error::Endpoint)
    );
}

#[test]
fn a_port_of_its_own_is_signed_and_sent() {
    let endpoint = Endpoint::parse("http://localhost:9000").unwrap();
    let bucket = Bucket::path_style(endpoint, "bucket").unwrap();
    let mut keys = SigningKeyCache::default();
    let request = put(&bucket, &[], &[]);
    let signer = signer_with("ID", "secret");
    let signed = keepsake_shared::sigv4::presigned_request(&request, &signer, &mut keys, NOW);
    let signed = signed.unwrap();
    assert!(
        signed
            .canonical_request()
            .as_str()
            .contains("\nhost:localhost:9000\n")
    );
    assert!(signed.url().starts_with("http://localhost:9000/bucket/k?"));
}

#[test]
fn credentials_and_scopes_that_would_bend_the_text_to_sign() {
    let made = |id, secret, token| Credentials::new(id, secret, token).map(drop);
    for id in ["", "a/b", "a b", "a\nb", "é"] {
        assert_eq!(
            made(id, "secret", None),
            Err(SigV4Error::AccessKeyId),
            "{id:?}"
        );
    }
    assert_eq!(made("id", "", None), Err(SigV4Error::SecretAccessKey));
    for token in ["", "a b", "a\r\nb"] {
        assert_eq!(
            made("id", "secret", Some(token)),
            Err(SigV4Error::SessionToken),
            "{token:?}"
        );
    }
    for (region, service) in [("", "s3"), ("auto", ""), ("a/b", "s3"), ("auto", "s\n3")] {
        let credentials = Credentials::new("id", "secret", None).unwrap();
        let made = Signer::new(credentials, region, service, SessionTokenUse::Signed);
        assert_eq!(
            made.map(drop),
            Err(SigV4Error::Scope),
            "{region:?} {service:?}"
        );
    }
}

#[test]
fn years_of_five_digits_and_before_christ() {
    let bucket = bucket();
    let request = put(&bucket, &[], &[]);
    let mut keys = SigningKeyCache::default();
    let before = datetime!(-0001-01-01 00:00 UTC);
    let refused = presign(&request, &signer_with("ID", "secret"), &mut keys, before);
    assert_eq!(refused, Err(SigV4Error::Time));
    // The last hour of the year 9999 in New York lies in the next year.
    let after = datetime!(9999-12-31 23:30 -5);
    let refused = presign(&request, &signer_with("ID", "secret"), &mut keys, after);
    assert_eq!(refused, Err(SigV4Error::Time));
}

#[test]
fn the_day_is_that_of_the_date_in_utc() {
    let bucket = bucket();
    let request = put(&bucket, &[], &[]);
    let mut keys = SigningKeyCache::default();
    let mut url_at = |now| presign(&request, &signer_with("ID", "secret"), &mut keys, now).unwrap();
    let last = url_at(datetime!(2026-09-01 23:59:59.999 UTC));
    assert!(
        last.contains("=ID%2F20260901%2Fauto%2Fs3%2Faws4_request&X-Amz-Date=20260901T235959Z&")
    );
    let first = url_at(datetime!(2026-09-02 00:00 UTC));
    assert!(
        first.contains("=ID%2F20260902%2Fauto%2Fs3%2Faws4_request&X-Amz-Date=20260902T000000Z&")
    );
    let elsewhere = url_at(datetime!(2026-09-02 02:00 +2));
    assert_eq!(elsewhere, first);
}

#[test]
fn a_cached_key_is_used_only_with_its_own_secret() {
    let bucket = bucket();
    let request = put(&bucket, &[], &[]);
    let secret = "0123456789abcdefghi";
    for guess in [
        "X123456789abcdefghi",
        "0123456789abcdefghX",
        "0123456789abcdeXghi",
        "0123456789abcdefgh",
        "0123456789abcdefghij",
        "0",
    ] {
        let mut shared = SigningKeyCache::default();
        let right = presign(&request, &signer_with("ID", secret), &mut shared, NOW).unwrap();
        let guessed = presign(&request, &signer_with("ID", guess), &mut shared, NOW).unwrap();
        let mut fresh = SigningKeyCache::default();
        let alone = presign(&request, &signer_with("ID", guess), &mut fresh, NOW).unwrap();
        assert_ne!(right, guessed, "{guess}");
        assert_eq!(guessed, alone, "{guess}");
    }
}

#[test]
fn a_cached_key_is_used_only_for_its_own_scope() {
    let bucket = bucket();
    let request = put(&bucket, &[], &[]);
    let signer = |key_id, region, service| {
        let credentials = Credentials::new(key_id, "secret", None).unwrap();
        Signer::new(credentials, region, service, SessionTokenUse::Signed).unwrap()
    };
    let mut shared = SigningKeyCache::default();
    for signer in [
        signer("ID", "auto", "s3"),
        signer("OTHER", "auto", "s3"),
        signer("ID", "us-east-1", "s3"),
        signer("ID", "auto", "s3express"),
    ] {
        let cached = presign(&request, &signer, &mut shared, NOW);
        let fresh = presign(&request, &signer, &mut SigningKeyCache::default(), NOW);
        assert_eq!(cached, fresh, "{signer:?}");
    }
}

#[test]
fn a_full_cache_still_gives_the_right_key() {
    let bucket = bucket();
    let request = put(&bucket, &[], &[]);
    let mut shared = SigningKeyCache::default();
    for round in 0..3 {
        for number in 0..2 * SigningKeyCache::CAPACITY {
            let signer = signer_with(&format!("ID{number}"), &format!("secret{number}"));
            let cached = presign(&request, &signer, &mut shared, NOW);
            let fresh = presign(&request, &signer, &mut SigningKeyCache::default(), NOW);
            assert_eq!(cached, fresh, "{round} {number}");
        }
    }
}

#[test]
fn every_lock_is_in_the_signature() {
    let bucket = bucket();
    let locks = [
        ("content-length", "12345"),
        ("content-type", "image/png"),
        ("if-none-match", "*"),
        (
            "x-amz-checksum-sha256",
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        ),
    ];
    let signature = |headers: &[(&str, &str)]| {
        let url = sign(&put(&bucket, &[], headers)).unwrap();
        url.rsplit_once("X-Amz-Signature=").unwrap().1.to_owned()
    };
    let whole = signature(&locks);
    for place in 0..locks.len() {
        let mut changed = locks;
        changed[place].1 = "1";
        assert_ne!(signature(&changed), whole, "{} changed", locks[place].0);
        let mut without = locks.to_vec();
        without.remove(place);
        assert_ne!(signature(&without), whole, "{} left out", locks[place].0);
    }
    let mut more = locks.to_vec();
    more.push(("x-amz-meta-a", "1"));
    assert_ne!(signature(&more), whole);
}

#[test]
fn secrets_are_not_shown() {
    let credentials = Credentials::new("ID", "hush-secret", Some("hush-token")).unwrap();
    let signer = Signer::s3(credentials.clone(), "auto").unwrap();
    let bucket = bucket();
    let query = [("versionId", "hush-query")];
    let headers = [("x-amz-meta-a", "hush-header")];
    let request = put(&bucket, &query, &headers);
    let mut keys = SigningKeyCache::default();
    let signed = keepsake_shared::sigv4::presigned_request(&request, &signer, &mut keys, NOW);
    let by_headers = AuthorizationRequest {
        request: request.request,
        send_content_sha256: true,
    };
    let by_headers = authorization(&by_headers, &signer, &mut keys, NOW).unwrap();
    let shown = format!(
        "{credentials:?} {signer:?} {keys:?} {request:?} {:?} {by_headers:?}",
        signed.unwrap()
    );
    assert!(!shown.contains("hush"), "{shown}");
    assert!(!shown.contains(&by_headers.authorization), "{shown}");
}
