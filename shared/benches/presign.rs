//! What a presigned PUT with five signed headers costs, beside `rusty-s3` and `aws-sigv4`, in one run.
//!
//! Rounds alternate between the signers, and the best round of each counts: what a machine does
//! besides only ever makes a round slower.

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials as AwsCredentials;
use aws_sigv4::http_request::{
    PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningParams,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use keepsake_shared::sigv4::{
    Bucket, Credentials, Endpoint, Payload, PresignRequest, Request, Signer, SigningKeyCache,
    presign,
};
use rusty_s3::{S3Action as _, UrlStyle, actions::PutObject};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const ROUNDS: usize = 9;
const SIGNATURES: u32 = 20_000;

const KEY: &str = "t/acme/post/7/0198f7d0-1111-7aaa-8bbb-000000000001.png";
const HEADERS: [(&str, &str); 4] = [
    ("content-length", "12345"),
    ("content-type", "image/png"),
    ("if-none-match", "*"),
    (
        "x-amz-checksum-sha256",
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    ),
];

fn best(mut round: impl FnMut()) -> impl FnMut() -> Duration {
    let mut best = Duration::MAX;
    move || {
        let start = Instant::now();
        for _ in 0..SIGNATURES {
            round();
        }
        best = best.min(start.elapsed());
        best
    }
}

#[expect(
    clippy::unwrap_used,
    reason = "a benchmark may stop at the first surprise"
)]
fn main() {
    let now = OffsetDateTime::from_unix_timestamp(1_788_220_800).unwrap();
    let credentials =
        Credentials::new("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG", None).unwrap();
    let signer = Signer::s3(credentials, "auto").unwrap();
    let endpoint = Endpoint::parse("https://acct.r2.cloudflarestorage.com").unwrap();
    let bucket = Bucket::path_style(endpoint, "bucket").unwrap();
    let request = PresignRequest {
        request: Request {
            method: "PUT",
            target: bucket.object(KEY).unwrap(),
            query: &[],
            headers: &HEADERS,
            payload: Payload::Unsigned,
        },
        expires_seconds: 900,
    };
    let mut kept = SigningKeyCache::default();
    let mut cached = best(|| {
        black_box(presign(black_box(&request), &signer, &mut kept, now).unwrap());
    });
    let mut derived = best(|| {
        let mut keys = SigningKeyCache::default();
        black_box(presign(black_box(&request), &signer, &mut keys, now).unwrap());
    });

    let their_endpoint = "https://acct.r2.cloudflarestorage.com".parse().unwrap();
    let their_bucket =
        rusty_s3::Bucket::new(their_endpoint, UrlStyle::Path, "bucket", "auto").unwrap();
    let their_credentials =
        rusty_s3::Credentials::new("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG");
    let their_now = now.format(&Rfc3339).unwrap().parse().unwrap();
    let mut theirs = best(|| {
        let mut action = PutObject::new(&their_bucket, Some(&their_credentials), black_box(KEY));
        for (name, value) in HEADERS {
            action.headers_mut().insert(name, value);
        }
        black_box(action.sign_with_time(Duration::from_secs(900), &their_now));
    });

    let identity = AwsCredentials::new(
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG",
        None,
        None,
        "bench",
    )
    .into();
    let params: SigningParams<'_> = v4::SigningParams::builder()
        .identity(&identity)
        .region("auto")
        .name("s3")
        .time(SystemTime::from(now))
        .settings(aws_settings())
        .build()
        .unwrap()
        .into();
    let url = format!("https://acct.r2.cloudflarestorage.com/bucket/{KEY}");
    // It signs, and leaves it to others to put the signature into the URL.
    let signed = || {
        let body = SignableBody::UnsignedPayload;
        let request =
            SignableRequest::new("PUT", black_box(url.as_str()), HEADERS.into_iter(), body);
        sign(request.unwrap(), &params).unwrap()
    };
    let ours = presign(&request, &signer, &mut SigningKeyCache::default(), now).unwrap();
    assert!(ours.contains(signed().signature()), "not the same request");
    let mut aws = best(|| {
        black_box(signed());
    });

    let mut times = [Duration::ZERO; 4];
    for _ in 0..ROUNDS {
        times = [cached(), derived(), theirs(), aws()];
    }
    let [cached, derived, theirs, aws] =
        times.map(|time| time.as_secs_f64() * 1e9 / f64::from(SIGNATURES));
    println!("a presigned PUT with five signed headers, best of {ROUNDS} rounds of {SIGNATURES}");
    println!("  keepsake, signing key cached     {cached:>7.0} ns");
    println!("  keepsake, key derived each time  {derived:>7.0} ns");
    for (name, time) in [("rusty-s3", theirs), ("aws-sigv4", aws)] {
        let ratio = time / cached;
        println!("  {name:<32} {time:>7.0} ns  {ratio:.1} × keepsake's");
    }
}

/// As S3 has it: names in a path are encoded once, and a path is not tidied.
fn aws_settings() -> SigningSettings {
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_secs(900));
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings
}
