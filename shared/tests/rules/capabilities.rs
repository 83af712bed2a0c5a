//! What stores can do, and the locks of a PUT that follow.

use keepsake_shared::{
    FileName, MediaType, Sha256Digest,
    capabilities::{CapabilityError, ChecksumKind, PutSubject, StoreKind},
};

fn headers(kind: StoreKind, size: u64) -> Result<Vec<(&'static str, String)>, CapabilityError> {
    kind.capabilities().put_headers(&PutSubject {
        size,
        media_type: MediaType::from_extension("png").unwrap(),
        sha256: &Sha256Digest::of(b""),
        name: &FileName::parse("caf\u{e9}.png").unwrap(),
    })
}

fn names(kind: StoreKind) -> Vec<&'static str> {
    let headers = headers(kind, 5).unwrap();
    headers.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_put_has_every_lock_that_the_store_has() {
    use StoreKind::{Aws, Garage, Minio, Other, R2, R2Binding};
    for kind in [Aws, Minio, R2, R2Binding] {
        assert_eq!(
            names(kind),
            [
                "content-length",
                "content-type",
                "if-none-match",
                "x-amz-checksum-sha256"
            ],
            "{kind:?}"
        );
    }
    assert_eq!(
        names(Garage),
        ["content-length", "content-type", "x-amz-checksum-sha256"]
    );
    assert_eq!(
        names(Other),
        ["content-length", "content-type", "content-disposition"]
    );
}

#[test]
fn the_locks_hold_what_was_declared() {
    let digest = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    assert_eq!(
        headers(StoreKind::Aws, 5).unwrap(),
        [
            ("content-length", "5".to_owned()),
            ("content-type", "image/png".to_owned()),
            ("if-none-match", "*".to_owned()),
            ("x-amz-checksum-sha256", digest.to_owned()),
        ]
    );
    let (_, disposition) = headers(StoreKind::Other, 5).unwrap().pop().unwrap();
    assert!(disposition.starts_with("attachment; "), "{disposition}");
}

#[test]
fn more_than_one_put_takes_is_refused_before_it_is_signed() {
    for kind in StoreKind::ALL {
        let most = kind.capabilities().max_put_bytes;
        assert!(headers(kind, most).is_ok());
        assert_eq!(
            headers(kind, most + 1),
            Err(CapabilityError::TooLargeForOnePut(most))
        );
    }
}

#[test]
fn a_form_is_for_the_stores_that_take_forms() {
    for kind in StoreKind::ALL {
        let fields = kind.capabilities().form_fields(&PutSubject {
            size: 5,
            media_type: MediaType::from_extension("png").unwrap(),
            sha256: &Sha256Digest::of(b""),
            name: &FileName::parse("a.png").unwrap(),
        });
        match kind {
            StoreKind::Aws | StoreKind::Minio | StoreKind::Garage => {
                let names: Vec<_> = fields.unwrap().into_iter().map(|(name, _)| name).collect();
                assert_eq!(
                    names,
                    [
                        "content-type",
                        "x-amz-checksum-algorithm",
                        "x-amz-checksum-sha256"
                    ]
                );
            }
            _ => assert_eq!(fields, Err(CapabilityError::NoForms), "{kind:?}"),
        }
    }
}

#[test]
fn parts_have_the_checksum_that_the_store_verifies() {
    let checksum = |kind: StoreKind| kind.capabilities().parts.checksum;
    assert_eq!(checksum(StoreKind::Aws), Some(ChecksumKind::Sha256));
    assert_eq!(checksum(StoreKind::R2), Some(ChecksumKind::Crc32c));
    assert_eq!(checksum(StoreKind::Other), None);
}

#[test]
fn a_host_tells_its_store_and_nothing_that_only_looks_like_it() {
    for (host, kind) in [
        ("acct.r2.cloudflarestorage.com", Some(StoreKind::R2)),
        ("acct.eu.r2.cloudflarestorage.com", Some(StoreKind::R2)),
        ("s3.eu-central-1.amazonaws.com", Some(StoreKind::Aws)),
        ("s3.cn-north-1.amazonaws.com.cn", Some(StoreKind::Aws)),
        ("amazonaws.com.example.com", None),
        ("xamazonaws.com", None),
        ("127.0.0.1:9000", None),
    ] {
        assert_eq!(StoreKind::of_host(host), kind, "{host}");
    }
}

#[test]
fn kinds_are_read_as_they_are_written() {
    for kind in StoreKind::ALL {
        assert_eq!(kind.as_str().parse(), Ok(kind));
    }
    assert!("floppy".parse::<StoreKind>().is_err());
}

#[test]
fn bytes_that_are_stored_stay_but_in_a_store_that_nothing_is_known_of() {
    for kind in StoreKind::ALL {
        let keeps = kind.capabilities().keeps_bytes();
        assert_eq!(keeps, kind != StoreKind::Other, "{kind:?}");
    }
}
