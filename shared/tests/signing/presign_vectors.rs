//! Presigned URLs against signatures that other implementations made. Where each comes from stands
//! beside it; none was made by this crate.

use keepsake_shared::Sha256Digest;
use keepsake_shared::sigv4::{
    Bucket, Credentials, Endpoint, Payload, PresignRequest, Request, SessionTokenUse, Signer,
    SigningKeyCache, presign, presigned_request,
};
use time::{OffsetDateTime, macros::datetime};

const EXAMPLE_KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const EXAMPLE_SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// The example of the AWS documentation, with the texts it prints for each step.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
#[test]
fn aws_documentation_example() {
    let endpoint = Endpoint::parse("https://s3.amazonaws.com").unwrap();
    let bucket = Bucket::virtual_hosted(endpoint, "examplebucket").unwrap();
    let signer = signer(EXAMPLE_KEY_ID, EXAMPLE_SECRET, None, "us-east-1");
    let request = get(&bucket, "test.txt", 86_400);
    let mut keys = SigningKeyCache::default();
    let now = datetime!(2013-05-24 00:00 UTC);
    let presigned = presigned_request(&request, &signer, &mut keys, now).unwrap();

    assert_eq!(
        presigned.canonical_request().as_str(),
        "GET\n\
         /test.txt\n\
         X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\n\
         host:examplebucket.s3.amazonaws.com\n\
         \n\
         host\n\
         UNSIGNED-PAYLOAD"
    );
    assert_eq!(
        presigned.string_to_sign(),
        "AWS4-HMAC-SHA256\n\
         20130524T000000Z\n\
         20130524/us-east-1/s3/aws4_request\n\
         3bfa292879f6447bbcda7001decf97f4a54dc650c8942174ae0a9121cf58ad04"
    );
    assert_eq!(
        presigned.url(),
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    );
}

/// Presigned requests of the AWS SDK for Rust.
/// <https://github.com/smithy-lang/smithy-rs>, `aws/sdk/integration-tests/s3/tests/presigning.rs`
mod aws_sdk_for_rust {
    use super::*;

    const NOW: OffsetDateTime = datetime!(2009-02-13 23:31:31 UTC);

    fn check(
        bucket: &str,
        key: &str,
        method: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        signature: &str,
    ) {
        let endpoint = Endpoint::parse("https://s3.us-east-1.amazonaws.com").unwrap();
        let bucket = Bucket::virtual_hosted(endpoint, bucket).unwrap();
        let signer = signer(
            "ANOTREAL",
            "notrealrnrELgWzOk3IfjzDKtFBhDby",
            Some("notarealsessiontoken"),
            "us-east-1",
        );
        let request = PresignRequest {
            request: Request {
                method,
                query,
                headers,
                ..get(&bucket, key, 30).request
            },
            expires_seconds: 30,
        };
        let url = presign(&request, &signer, &mut SigningKeyCache::default(), NOW).unwrap();
        assert_eq!(signature_in(&url), signature);
    }

    #[test]
    fn get_object() {
        let signature = "758353318739033a850182c7b3435076eebbbd095f8dcf311383a6a1e124c4cb";
        check(
            "test-bucket",
            "test-key",
            "GET",
            &[("x-id", "GetObject")],
            &[],
            signature,
        );
    }

    #[test]
    fn put_object_with_length_and_type() {
        check(
            "test-bucket",
            "test-key",
            "PUT",
            &[("x-id", "PutObject")],
            &[
                ("content-length", "12345"),
                ("content-type", "application/x-test"),
            ],
            "be1d41dc392f7019750e4f5e577234fb9059dd20d15f6a99734196becce55e52",
        );
    }

    #[test]
    fn upload_part_with_length() {
        check(
            "bucket",
            "key",
            "PUT",
            &[
                ("x-id", "UploadPart"),
                ("partNumber", "0"),
                ("uploadId", "upload-id"),
            ],
            &[("content-length", "12345")],
            "a702867244f0bd1fb4d161e2a062520dcbefae3b9992d2e5366bcd61a60c6ddd",
        );
    }

    #[test]
    fn get_object_of_another_service() {
        let host =
            "https://my-banner-ap-name-123456789012.s3-object-lambda.us-west-2.amazonaws.com";
        let endpoint = Endpoint::parse(host).unwrap();
        let credentials = Credentials::new(
            "ANOTREAL",
            "notrealrnrELgWzOk3IfjzDKtFBhDby",
            Some("notarealsessiontoken"),
        );
        let signer = Signer::new(
            credentials.unwrap(),
            "us-west-2",
            "s3-object-lambda",
            SessionTokenUse::Signed,
        )
        .unwrap();
        let request = PresignRequest {
            request: Request {
                method: "GET",
                target: endpoint.path("/test2.txt").unwrap(),
                query: &[("x-id", "GetObject")],
                headers: &[],
                payload: Payload::Unsigned,
            },
            expires_seconds: 30,
        };
        let url = presign(&request, &signer, &mut SigningKeyCache::default(), NOW).unwrap();
        let signature = "027976453050b6f9cca7af80a59c05ee572b462e0fc1ef564c59412b903fcdf2";
        assert_eq!(signature_in(&url), signature);
    }

    #[test]
    fn head_object() {
        let signature = "6b97012e70d5ee3528b5591e0e90c0f45e0fa303506f854eff50ff922751a193";
        check("bucket", "key", "HEAD", &[], &[], signature);
    }
}

/// A plus sign in a name, which must sort by its encoding.
/// <https://github.com/smithy-lang/smithy-rs> at 18c964f,
/// `aws/rust-runtime/aws-sigv4/aws-signing-test-suite/v4/get-query-plus`
#[test]
fn plus_sign_in_the_query() {
    let endpoint = Endpoint::parse("https://example.amazonaws.com").unwrap();
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let credentials = Credentials::new("AKIDEXAMPLE", secret, None).unwrap();
    let signer = Signer::new(credentials, "us-east-1", "service", SessionTokenUse::Signed).unwrap();
    let request = PresignRequest {
        request: Request {
            method: "GET",
            target: endpoint.path("/").unwrap(),
            query: &[("c+d", "")],
            headers: &[],
            payload: Payload::Sha256(Sha256Digest::of(b"")),
        },
        expires_seconds: 3600,
    };
    let mut keys = SigningKeyCache::default();
    let now = datetime!(2015-08-30 12:36 UTC);
    let presigned = presigned_request(&request, &signer, &mut keys, now).unwrap();
    assert_eq!(
        presigned.canonical_request().as_str(),
        "GET\n\
         /\n\
         X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Fservice%2Faws4_request&X-Amz-Date=20150830T123600Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&c%2Bd=\n\
         host:example.amazonaws.com\n\
         \n\
         host\n\
         e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    assert_eq!(
        presigned.string_to_sign(),
        "AWS4-HMAC-SHA256\n\
         20150830T123600Z\n\
         20150830/us-east-1/service/aws4_request\n\
         5404d821be2e7073b0f7701e77aeb92f6a243fd027a2615ea9ad625923df474c"
    );
    assert_eq!(
        signature_in(&presigned.url()),
        "0eab864b028f58edbf5290cbe84acc5db34e5f92786a96fe01434e515f9342b8"
    );
}

/// The very requests that Keepsake makes, signed by `aws-sigv4` 1.6.4 and by a signer written in
/// Python; the first two by `aws4fetch` 1.0.20 too. All gave the same.
mod keepsake_requests {
    use super::*;

    fn check(
        method: &str,
        key: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        signature: &str,
    ) -> String {
        let endpoint = Endpoint::parse("https://acct.r2.cloudflarestorage.com").unwrap();
        let bucket = Bucket::path_style(endpoint, "bucket").unwrap();
        let signer = signer(EXAMPLE_KEY_ID, EXAMPLE_SECRET, None, "auto");
        let request = PresignRequest {
            request: Request {
                method,
                query,
                headers,
                ..get(&bucket, key, 900).request
            },
            expires_seconds: 900,
        };
        let now = datetime!(2026-09-01 00:00 UTC);
        let url = presign(&request, &signer, &mut SigningKeyCache::default(), now).unwrap();
        assert_eq!(signature_in(&url), signature);
        url
    }

    #[test]
    fn put_with_every_lock() {
        check(
            "PUT",
            "t1/0198f7d0-1111-7aaa-8bbb-000000000001",
            &[],
            &[
                ("content-length", "12345"),
                ("content-type", "image/png"),
                ("if-none-match", "*"),
                (
                    "x-amz-checksum-sha256",
                    "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
                ),
            ],
            "aac0b0b0e276608875d56d9a2d7833fe1261b69a2482c859bb29065225fd1edd",
        );
    }

    #[test]
    fn put_of_a_part() {
        check(
            "PUT",
            "t1/k",
            &[("uploadId", "abc+d"), ("partNumber", "1")],
            &[("content-length", "5242880")],
            "1efb1382a378d6123abeb5416316d9ff4cdc978130d33a6a0a8d204a0c1e8f6d",
        );
    }

    #[test]
    fn get_under_another_name() {
        let disposition =
            "attachment; filename=\"r_sum_.pdf\"; filename*=UTF-8''r%C3%A9sum%C3%A9.pdf";
        check(
            "GET",
            "t1/k",
            &[("response-content-disposition", disposition)],
            &[],
            "0f63901e7862707bf583155ac2e3cc99f7fd7e8ea78586074453538ce765f1f8",
        );
    }

    #[test]
    fn get_of_a_key_with_every_kind_of_character() {
        let url = check(
            "GET",
            "t1/a b+(c)*'!~é/x",
            &[],
            &[],
            "dfeb897e1ed0003b55baed68117039a3dba16ac2e5aa7d1f7a61027a950f63ef",
        );
        let path = "/bucket/t1/a%20b%2B%28c%29%2A%27%21~%C3%A9/x?";
        assert!(url.starts_with(&format!("https://acct.r2.cloudflarestorage.com{path}")));
    }
}

fn signer(key_id: &str, secret: &str, token: Option<&str>, region: &str) -> Signer {
    let credentials = Credentials::new(key_id, secret, token).unwrap();
    Signer::s3(credentials, region).unwrap()
}

fn get<'a>(bucket: &'a Bucket, key: &'a str, expires_seconds: u32) -> PresignRequest<'a> {
    PresignRequest {
        request: Request {
            method: "GET",
            target: bucket.object(key).unwrap(),
            query: &[],
            headers: &[],
            payload: Payload::Unsigned,
        },
        expires_seconds,
    }
}

fn signature_in(url: &str) -> &str {
    url.rsplit_once("&X-Amz-Signature=").unwrap().1
}
