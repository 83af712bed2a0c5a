//! Requests signed by headers: the four examples of the AWS documentation for S3.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>

use keepsake_shared::{
    Sha256Digest,
    sigv4::{
        AuthorizationRequest, Bucket, Credentials, Endpoint, Payload, Request, SignedRequest,
        Signer, SigningKeyCache, authorization,
    },
};
use time::macros::datetime;

struct Example<'a> {
    method: &'a str,
    key: &'a str,
    query: &'a [(&'a str, &'a str)],
    headers: &'a [(&'a str, &'a str)],
    body: &'a [u8],
}

fn sign(example: &Example<'_>) -> SignedRequest {
    let endpoint = Endpoint::parse("https://s3.amazonaws.com").unwrap();
    let bucket = Bucket::virtual_hosted(endpoint, "examplebucket").unwrap();
    let credentials = Credentials::new(
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        None,
    );
    let signer = Signer::s3(credentials.unwrap(), "us-east-1").unwrap();
    let target = match example.key {
        "" => bucket.itself(),
        key => bucket.object(key).unwrap(),
    };
    let request = AuthorizationRequest {
        request: Request {
            method: example.method,
            target,
            query: example.query,
            headers: example.headers,
            payload: Payload::Sha256(Sha256Digest::of(example.body)),
        },
        send_content_sha256: true,
    };
    let now = datetime!(2013-05-24 00:00 UTC);
    authorization(&request, &signer, &mut SigningKeyCache::default(), now).unwrap()
}

fn check(signed: &SignedRequest, canonical_request_hash: &str, signature: &str) {
    let string_to_sign = format!(
        "AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n{canonical_request_hash}"
    );
    assert_eq!(signed.string_to_sign, string_to_sign);
    assert_eq!(
        Sha256Digest::from_bytes(signed.signature).to_hex(),
        signature
    );
}

#[test]
fn get_object() {
    let signed = sign(&Example {
        method: "GET",
        key: "test.txt",
        query: &[],
        headers: &[("Range", "bytes=0-9")],
        body: b"",
    });
    assert_eq!(
        signed.canonical_request.as_str(),
        "GET\n\
         /test.txt\n\
         \n\
         host:examplebucket.s3.amazonaws.com\n\
         range:bytes=0-9\n\
         x-amz-content-sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\
         x-amz-date:20130524T000000Z\n\
         \n\
         host;range;x-amz-content-sha256;x-amz-date\n\
         e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    check(
        &signed,
        "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    );
    assert_eq!(
        signed.authorization,
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    );
}

#[test]
fn put_object() {
    let signed = sign(&Example {
        method: "PUT",
        key: "test$file.text",
        query: &[],
        headers: &[
            ("Date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ],
        body: b"Welcome to Amazon S3.",
    });
    assert_eq!(
        signed.canonical_request.as_str(),
        "PUT\n\
         /test%24file.text\n\
         \n\
         date:Fri, 24 May 2013 00:00:00 GMT\n\
         host:examplebucket.s3.amazonaws.com\n\
         x-amz-content-sha256:44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072\n\
         x-amz-date:20130524T000000Z\n\
         x-amz-storage-class:REDUCED_REDUNDANCY\n\
         \n\
         date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class\n\
         44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
    );
    check(
        &signed,
        "9e0e90d9c76de8fa5b200d8c849cd5b8dc7a3be3951ddb7f6a76b4158342019d",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    );
}

#[test]
fn get_bucket_lifecycle() {
    let signed = sign(&Example {
        method: "GET",
        key: "",
        query: &[("lifecycle", "")],
        headers: &[],
        body: b"",
    });
    assert!(
        signed
            .canonical_request
            .as_str()
            .starts_with("GET\n/\nlifecycle=\nhost:")
    );
    check(
        &signed,
        "9766c798316ff2757b517bc739a67f6213b4ab36dd5da2f94eaebf79c77395ca",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    );
}

#[test]
fn list_objects() {
    let signed = sign(&Example {
        method: "GET",
        key: "",
        query: &[("prefix", "J"), ("max-keys", "2")],
        headers: &[],
        body: b"",
    });
    assert!(
        signed
            .canonical_request
            .as_str()
            .starts_with("GET\n/\nmax-keys=2&prefix=J\nhost:")
    );
    check(
        &signed,
        "df57d21db20da04d7fa30298dd4488ba3a2b47ca3a489c74750e0f1e7df1b9b7",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    );
}
