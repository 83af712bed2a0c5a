//! The same requests signed by another signer, `rusty-s3`.

use std::{collections::BTreeMap, time::Duration};

use keepsake_shared::sigv4::{
    Bucket, Credentials, Endpoint, Payload, PresignRequest, Request, Signer, SigningKeyCache,
    presign,
};
use proptest::{collection::btree_map, prelude::*};
use rusty_s3::{S3Action, UrlStyle, actions::PutObject};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const YEAR_2100: i64 = 4_102_444_800;

fn key() -> impl Strategy<Value = String> {
    let segment =
        "[^/\\x00-\\x1f\\x7f-\\x9f]{1,12}".prop_filter("dots", |part| part != "." && part != "..");
    proptest::collection::vec(segment, 1..4).prop_map(|segments| segments.join("/"))
}

fn borrow(pairs: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

proptest! {
    #[test]
    fn another_signer_gives_the_same_url(
        key in key(),
        // Names that encoding leaves as they are: the other signer sorts the names before it encodes
        // them, where AWS's own suite wants it the other way round.
        query in btree_map("[a-zA-Z0-9_.~-]{1,8}", "[^\\x00-\\x1f\\x7f-\\x9f]{0,12}", 0..4),
        headers in btree_map("x-[a-z0-9-]{1,8}", "[!-~]([ -~]{0,12}[!-~])?", 0..5),
        endpoint in prop::sample::select(vec!["https://s3.example.com", "http://localhost:9000"]),
        in_host in any::<bool>(),
        token in prop::option::of("[A-Za-z0-9/+=]{1,40}"),
        seconds in 1..604_800_u32,
        unix in 0..YEAR_2100,
    ) {
        prop_assume!(query.keys().all(|name| !name.starts_with("X-Amz-")));
        prop_assume!(headers.keys().all(|name| !name.starts_with("x-amz-")));
        let now = OffsetDateTime::from_unix_timestamp(unix).unwrap();
        let ours = {
            let endpoint = Endpoint::parse(endpoint).unwrap();
            let bucket = if in_host {
                Bucket::virtual_hosted(endpoint, "my-bucket")
            } else {
                Bucket::path_style(endpoint, "my-bucket")
            };
            let bucket = bucket.unwrap();
            let credentials = Credentials::new("ID", "secret", token.as_deref()).unwrap();
            let signer = Signer::s3(credentials, "auto").unwrap();
            let (query, headers) = (borrow(&query), borrow(&headers));
            let request = PresignRequest {
                request: Request {
                    method: "PUT",
                    target: bucket.object(&key).unwrap(),
                    query: &query,
                    headers: &headers,
                    payload: Payload::Unsigned,
                },
                expires_seconds: seconds,
            };
            presign(&request, &signer, &mut SigningKeyCache::default(), now).unwrap()
        };
        let theirs = {
            let style = if in_host { UrlStyle::VirtualHost } else { UrlStyle::Path };
            let bucket =
                rusty_s3::Bucket::new(endpoint.parse().unwrap(), style, "my-bucket", "auto").unwrap();
            let credentials = match token {
                Some(token) => rusty_s3::Credentials::new_with_token("ID", "secret", token),
                None => rusty_s3::Credentials::new("ID", "secret"),
            };
            let mut action = PutObject::new(&bucket, Some(&credentials), &key);
            for (name, value) in &query { action.query_mut().insert(name.as_str(), value.as_str()); }
            for (name, value) in &headers { action.headers_mut().insert(name.as_str(), value.as_str()); }
            let now = now.format(&Rfc3339).unwrap().parse().unwrap();
            action.sign_with_time(Duration::from_secs(seconds.into()), &now).to_string()
        };
        prop_assert_eq!(ours, theirs);
    }
}
