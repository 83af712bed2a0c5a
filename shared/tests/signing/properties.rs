//! What holds of every signed request.

use keepsake_shared::sigv4::{
    Bucket, Credentials, Endpoint, Payload, PresignRequest, Request, Signer, SigningKeyCache,
    canonical_query, normalise_path, percent_encode, presign, presigned_request,
};
use proptest::{collection::vec, prelude::*};
use time::{OffsetDateTime, macros::datetime};

const NOW: OffsetDateTime = datetime!(2026-09-01 12:34:56 UTC);

fn signer() -> Signer {
    let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", "secret", Some("a/b+c=")).unwrap();
    Signer::s3(credentials, "auto").unwrap()
}

fn bucket() -> Bucket {
    Bucket::path_style(Endpoint::parse("https://store.example").unwrap(), "bucket").unwrap()
}

fn printable() -> impl Strategy<Value = String> {
    "[^\\x00-\\x1f\\x7f-\\x9f]{0,20}"
}

fn parameter() -> impl Strategy<Value = (String, String)> {
    (printable(), printable()).prop_filter("reserved", |(name, _)| !name.starts_with("X-Amz-"))
}

fn header() -> impl Strategy<Value = (String, String)> {
    ("x-[a-zA-Z0-9_-]{1,10}", "[ -~]{0,20}").prop_filter("reserved", |(name, _)| {
        !name.to_lowercase().starts_with("x-amz-")
    })
}

fn borrow(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

fn url(key: &str, query: &[(&str, &str)], headers: &[(&str, &str)]) -> String {
    let bucket = bucket();
    let request = PresignRequest {
        request: Request {
            method: "PUT",
            target: bucket.object(key).unwrap(),
            query,
            headers,
            payload: Payload::Unsigned,
        },
        expires_seconds: 900,
    };
    presign(&request, &signer(), &mut SigningKeyCache::default(), NOW).unwrap()
}

proptest! {
    #[test]
    fn signing_any_request_never_panics(
        method in any::<String>(), key in any::<String>(), endpoint in any::<String>(),
        query in vec((any::<String>(), any::<String>()), 0..4),
        headers in vec((any::<String>(), any::<String>()), 0..4),
        expires_seconds in any::<u32>(), unix in any::<i64>(),
    ) {
        let _ = Endpoint::parse(&endpoint);
        let _ = Endpoint::parse(&format!("https://{endpoint}"));
        let bucket = bucket();
        if let (Ok(target), Ok(now)) =
            (bucket.object(&key), OffsetDateTime::from_unix_timestamp(unix))
        {
            let (query, headers) = (borrow(&query), borrow(&headers));
            let payload = Payload::Unsigned;
            let request = Request { method: &method, target, query: &query, headers: &headers, payload };
            let request = PresignRequest { request, expires_seconds };
            let _ = presign(&request, &signer(), &mut SigningKeyCache::default(), now);
        }
    }

    #[test]
    fn a_url_is_plain_ascii_and_carries_what_was_signed(
        key in "[^/\\x00-\\x1f]{1,20}", query in vec(parameter(), 0..4),
    ) {
        prop_assume!(key != "." && key != "..");
        let query = borrow(&query);
        let bucket = bucket();
        let request = PresignRequest {
            request: Request {
                method: "GET",
                target: bucket.object(&key).unwrap(),
                query: &query,
                headers: &[],
                payload: Payload::Unsigned,
            },
            expires_seconds: 900,
        };
        let signer = signer();
        let mut keys = SigningKeyCache::default();
        let signed = presigned_request(&request, &signer, &mut keys, NOW).unwrap();
        let url = signed.url();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~%/?&=:".contains(c);
        prop_assert!(url.chars().all(allowed), "{}", url);

        let mut lines = signed.canonical_request().as_str().lines().skip(1);
        let (path, signed_query) = (lines.next().unwrap(), lines.next().unwrap());
        let expected = format!("https://store.example{path}?{signed_query}&X-Amz-Signature=");
        prop_assert!(url.starts_with(&expected));
    }

    #[test]
    fn the_order_of_parameters_and_headers_does_not_matter(
        query in vec(parameter(), 0..5), headers in vec(header(), 0..5),
    ) {
        // Headers of one name are a list, and a list has an order.
        let mut names: Vec<String> = headers.iter().map(|(name, _)| name.to_lowercase()).collect();
        names.sort_unstable();
        names.dedup();
        prop_assume!(names.len() == headers.len());
        let (mut query, mut headers) = (borrow(&query), borrow(&headers));
        let forward = url("k", &query, &headers);
        query.reverse();
        headers.reverse();
        prop_assert_eq!(forward, url("k", &query, &headers));
    }

    #[test]
    fn spaces_around_and_between_words_of_a_header_do_not_matter(
        words in vec("[!-~]{1,5}", 1..4), spaces in 1..4_usize,
    ) {
        let gap = " ".repeat(spaces);
        let (folded, wide) = (words.join(" "), format!("{gap}{}{gap}", words.join(&gap)));
        prop_assert_eq!(url("k", &[], &[("a", &folded)]), url("k", &[], &[("A", &wide)]));
    }

    #[test]
    fn the_canonical_query_is_sorted_by_encoded_bytes(query in vec(parameter(), 0..6)) {
        let canonical = canonical_query(&borrow(&query)).unwrap();
        let names: Vec<(&str, &str)> = canonical
            .split('&')
            .filter(|parameter| !parameter.is_empty())
            .map(|parameter| parameter.split_once('=').unwrap())
            .collect();
        prop_assert!(names.is_sorted());
        prop_assert_eq!(names.len(), query.len());
    }

    #[test]
    fn percent_encoding_decodes_to_the_text(text in any::<String>()) {
        let encoded = percent_encode(&text);
        prop_assert!(encoded.chars().all(|c| c.is_ascii_alphanumeric() || "-._~%".contains(c)));
        prop_assert_eq!(super::percent_decode(&encoded), text);
    }

    #[test]
    fn a_normal_path_stays_as_it_is(path in "/(([a.]{0,3})/){0,4}[a.]{0,3}") {
        let normal = normalise_path(&path);
        prop_assert_eq!(normalise_path(&normal), normal.as_str());
        prop_assert!(normal.starts_with('/'));
        prop_assert!(!normal.contains("//"));
        prop_assert!(normal.split('/').all(|segment| segment != "." && segment != ".."));
    }
}
