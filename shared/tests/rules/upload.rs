use keepsake_shared::{
    ErrorCode, FieldError, FileName, FileTypes, Limits, MediaType, Sha256Digest,
    upload::{
        Declared, FileDeclaration, ObjectProblem, Observed, UploadRequest, check_file_types,
        check_upload, verify_object,
    },
};
use proptest::prelude::*;

fn file(name: &str, size: i64) -> FileDeclaration {
    FileDeclaration {
        name: name.into(),
        media_type: None,
        size,
        sha256: Sha256Digest::of(name.as_bytes()).to_hex(),
    }
}

fn request(files: Vec<FileDeclaration>) -> UploadRequest {
    UploadRequest {
        entity_type: "post".into(),
        entity_id: "42".into(),
        files,
    }
}

fn errors(request: &UploadRequest) -> Vec<FieldError> {
    check_upload(request, &Limits::default()).unwrap_err()
}

/// Pointers and codes alone.
fn brief(errors: &[FieldError]) -> Vec<(&str, ErrorCode)> {
    errors
        .iter()
        .map(|error| (error.pointer.as_str(), error.code))
        .collect()
}

#[test]
fn a_right_set_is_taken() {
    let mut named = file("Re\u{301}sume\u{301}.PDF", 20);
    named.media_type = Some("Application/PDF".into());
    named.sha256 = Sha256Digest::of(b"x").to_base64();
    let mut unknown_to_the_browser = file("notes.md", 1);
    unknown_to_the_browser.media_type = Some(String::new());
    let files = vec![
        file("a.png", 10 * 1024 * 1024),
        named,
        unknown_to_the_browser,
    ];
    let checked = check_upload(&request(files), &Limits::default()).unwrap();
    assert_eq!(checked.entity_type.as_str(), "post");
    assert_eq!(checked.entity_id.as_str(), "42");
    let [first, second, third] = &checked.files[..] else {
        panic!("{checked:?}")
    };
    assert_eq!(
        (first.name.as_str(), first.size),
        ("a.png", 10 * 1024 * 1024)
    );
    assert_eq!(second.name.as_str(), "R\u{e9}sum\u{e9}.PDF");
    assert_eq!(second.media_type.as_str(), "application/pdf");
    assert_eq!(second.sha256, Sha256Digest::of(b"x"));
    assert_eq!(third.media_type.as_str(), "text/markdown");
}

#[test]
fn a_declared_type_is_told_of_what_is_saved_and_refused_of_what_is_shown() {
    let declared = |name: &str, media_type: &str| {
        let mut file = file(name, 1);
        file.media_type = Some(media_type.into());
        check_upload(&request(vec![file]), &Limits::default())
    };
    for (name, media_type) in [
        ("a.txt", "text/html"),
        ("a.docx", "image/png"),
        ("a.csv", "application/x-nonsense"),
        ("a.md", "image/*"),
    ] {
        let checked = declared(name, media_type).unwrap();
        let notes = brief(&checked.notes);
        assert_eq!(
            notes,
            [("/files/0/media_type", ErrorCode::MediaTypeMismatch)]
        );
    }
    for (name, media_type) in [
        ("a.png", "text/html"),
        ("a.pdf", "image/png"),
        ("a.png", "x"),
    ] {
        let errors = declared(name, media_type).unwrap_err();
        assert_eq!(
            brief(&errors),
            [("/files/0/media_type", ErrorCode::MediaTypeMismatch)]
        );
    }
    assert_eq!(declared("a.mov", "video/mp4").unwrap().notes, []);
}

#[test]
fn files_of_one_name_are_numbered_where_the_limits_say_so() {
    let files = ["image.jpg", "IMAGE.jpg", "image (2).jpg", "image.jpg"];
    let request = request(files.map(|name| file(name, 1)).to_vec());
    let limits = Limits {
        number_duplicates: true,
        ..Limits::default()
    };
    let checked = check_upload(&request, &limits).unwrap();
    let names: Vec<&str> = checked
        .files
        .iter()
        .map(|file| file.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "image.jpg",
            "IMAGE (3).jpg",
            "image (2).jpg",
            "image (4).jpg"
        ]
    );
}

#[test]
fn the_choice_of_types_counts() {
    let request = request(vec![file("a.zip", 1), file("b.mov", 1), file("c.q3", 1)]);
    let names = ["a.zip", "b.mov", "c.q3"].map(|name| FileName::parse(name).unwrap());
    for (choice, refused) in [
        ("", &["/files/0/name", "/files/2/name"][..]),
        ("+zip -mov", &["/files/1/name", "/files/2/name"]),
        ("+zip +unknown", &[]),
    ] {
        let file_types: FileTypes = choice.parse().unwrap();
        let limits = Limits {
            file_types,
            ..Limits::default()
        };
        let errors = check_upload(&request, &limits).err().unwrap_or_default();
        let pointers: Vec<&str> = errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, refused, "{choice}");
        assert_eq!(check_file_types(names.iter(), file_types), errors);
    }
}

#[test]
fn every_error_is_reported_at_its_place() {
    let mut wrong_type = file("b.png", 1);
    wrong_type.media_type = Some("image/jpeg".into());
    let mut wrong_digest = file("c.png", 0);
    wrong_digest.sha256 = "abc".into();
    let mut request = request(vec![
        file("../a.png", -1),
        wrong_type,
        wrong_digest,
        file("d.exe", 1),
        file("README", 1),
    ]);
    request.entity_type = "Post".into();
    request.entity_id = String::new();
    let errors = errors(&request);
    assert_eq!(
        brief(&errors),
        [
            ("/entity_type", ErrorCode::InvalidId),
            ("/entity_id", ErrorCode::InvalidId),
            ("/files/0/name", ErrorCode::FileNameInvalid),
            ("/files/0/size", ErrorCode::InvalidField),
            ("/files/1/media_type", ErrorCode::MediaTypeMismatch),
            ("/files/2/size", ErrorCode::FileEmpty),
            ("/files/2/sha256", ErrorCode::Sha256Invalid),
            ("/files/3/name", ErrorCode::MediaTypeNotAllowed),
            ("/files/4/name", ErrorCode::MediaTypeNotAllowed),
        ]
    );
    assert_eq!(
        errors[2].reason.as_deref(),
        Some("file_name_path_separator")
    );
    assert_eq!(
        errors[2].detail,
        "The file name holds a path separator, '/' or '\\'."
    );
}

#[test]
fn limits_are_kept_and_told() {
    let mib = 1024 * 1024;
    let too_large = errors(&request(vec![file("a.png", 10 * mib + 1)]));
    assert_eq!(
        brief(&too_large),
        [("/files/0/size", ErrorCode::FileTooLarge)]
    );
    assert_eq!(
        too_large[0].detail,
        "The file has 10485761 bytes; at most 10485760 are allowed."
    );

    let set = ["a.png", "b.png", "c.png"]
        .map(|name| file(name, 9 * mib))
        .to_vec();
    assert_eq!(
        brief(&errors(&request(set))),
        [("/files", ErrorCode::SetTooLarge)]
    );

    let whole = ["a.png", "b.png"].map(|name| file(name, 10 * mib)).to_vec();
    let whole = [whole, vec![file("c.png", 5 * mib)]].concat();
    assert!(check_upload(&request(whole), &Limits::default()).is_ok());

    let many = (0..6)
        .map(|number| file(&format!("{number}.png"), 1))
        .collect();
    assert_eq!(
        brief(&errors(&request(many))),
        [("/files", ErrorCode::TooManyFiles)]
    );
    assert_eq!(
        brief(&errors(&request(vec![]))),
        [("/files", ErrorCode::NoFiles)]
    );
}

#[test]
fn sizes_cannot_overflow_the_sum() {
    let files = (0..5)
        .map(|number| file(&format!("{number}.png"), i64::MAX))
        .collect();
    let limits = Limits {
        max_file_bytes: u64::MAX,
        ..Limits::default()
    };
    let errors = check_upload(&request(files), &limits).unwrap_err();
    assert_eq!(brief(&errors), [("/files", ErrorCode::SetTooLarge)]);
    // A negative size takes nothing off the sum.
    let errors = check_upload(
        &request(vec![
            file("a.png", 30 * 1024 * 1024),
            file("b.png", i64::MIN),
        ]),
        &limits,
    );
    let errors = errors.unwrap_err();
    assert_eq!(
        brief(&errors),
        [
            ("/files", ErrorCode::SetTooLarge),
            ("/files/1/size", ErrorCode::InvalidField)
        ]
    );
}

#[test]
fn a_huge_set_gets_a_short_answer() {
    let files = (0..100_000).map(|_| file("../x", -1)).collect();
    assert!(errors(&request(files)).len() < 20);
}

#[test]
fn two_files_of_one_name_are_refused() {
    let files = ["Photo.JPG", "b.png", "photo.jpg"]
        .map(|name| file(name, 1))
        .to_vec();
    let errors = errors(&request(files));
    assert_eq!(
        brief(&errors),
        [("/files/2/name", ErrorCode::DuplicateName)]
    );
    assert_eq!(errors[0].detail, "The file at /files/0 has the same name.");
}

#[test]
fn the_body_takes_no_other_field_and_no_other_type() {
    let read = |json: &str| serde_json::from_str::<UploadRequest>(json).is_ok();
    let file = "{\"name\":\"a.png\",\"size\":1,\"sha256\":\"x\"}";
    assert!(read(&format!(
        "{{\"entity_type\":\"post\",\"entity_id\":\"1\",\"files\":[{file}]}}"
    )));
    for wrong in [
        format!("{{\"entity_type\":\"post\",\"entity_id\":\"1\",\"files\":[{file}],\"state\":\"clean\"}}"),
        format!("{{\"entity_type\":\"post\",\"entity_id\":1,\"files\":[{file}]}}"),
        "{\"entity_type\":\"post\",\"entity_id\":\"1\"}".into(),
        "{\"entity_type\":\"post\",\"entity_id\":\"1\",\"files\":[{\"name\":\"a\",\"size\":1.5,\"sha256\":\"x\"}]}".into(),
        "{\"entity_type\":\"post\",\"entity_id\":\"1\",\"files\":[{\"name\":\"a\",\"size\":1,\"sha256\":\"x\",\"verified\":true}]}".into(),
    ] {
        assert!(!read(&wrong), "{wrong}");
    }
}

#[test]
fn the_body_takes_no_list_for_an_object() {
    let file = "{\"name\":\"a.png\",\"size\":1,\"sha256\":\"x\"}";
    for wrong in [
        "{\"entity_type\":\"post\",\"entity_id\":\"1\",\"files\":[[\"a.png\",null,1,\"x\"]]}"
            .into(),
        format!("[\"post\",\"1\",[{file}]]"),
    ] {
        let error = serde_json::from_str::<UploadRequest>(&wrong).unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with("invalid type: sequence, expected a JSON object"),
            "{wrong}: {error}"
        );
    }
}

#[test]
fn limits_are_read_with_their_defaults() {
    let limits: Limits = serde_json::from_str("{\"max_files\": 9}").unwrap();
    assert_eq!(
        limits,
        Limits {
            max_files: 9,
            ..Limits::default()
        }
    );
    assert!(serde_json::from_str::<Limits>("{\"max_file\": 9}").is_err());
}

mod stored {
    use super::{
        Declared, ErrorCode, MediaType, ObjectProblem, Observed, Sha256Digest, verify_object,
    };
    use crate::content::look;
    use keepsake_shared::content::{Finding, Picture};

    const PNG: &[u8] = include_bytes!("../heads/sample.png");

    fn declared() -> Declared {
        Declared {
            max_pixels: 6,
            size: PNG.len() as u64,
            media_type: MediaType::from_extension("png").unwrap(),
            sha256: Sha256Digest::of(PNG),
        }
    }

    fn stored(bytes: &[u8]) -> Observed {
        Observed::Stored {
            size: bytes.len() as u64,
            sha256: Some(Sha256Digest::of(bytes)),
            finding: Some(look("png", bytes)),
        }
    }

    #[test]
    fn what_was_declared_has_no_problem() {
        assert_eq!(verify_object(&declared(), &stored(PNG)), []);
    }

    #[test]
    fn what_is_missing_is_only_missing() {
        let problems = verify_object(&declared(), &Observed::Missing);
        assert_eq!(problems, [ObjectProblem::Missing]);
        assert_eq!(problems[0].code(), ErrorCode::NotUploaded);
    }

    #[test]
    fn everything_else_is_told_at_once() {
        let problems = verify_object(&declared(), &stored(b"%PDF-1.7\n\0"));
        let codes: Vec<ErrorCode> = problems.iter().map(ObjectProblem::code).collect();
        use ErrorCode::{MediaTypeMismatch, Sha256Mismatch, SizeMismatch};
        assert_eq!(codes, [SizeMismatch, Sha256Mismatch, MediaTypeMismatch]);
        assert_eq!(problems[0].to_string(), "the file has 10 bytes, not 78");
    }

    #[test]
    fn a_picture_is_bounded_and_has_to_say_how_large_it_is() {
        let few = Declared {
            max_pixels: 5,
            ..declared()
        };
        let problems = verify_object(&few, &stored(PNG));
        assert_eq!(problems[0].code(), ErrorCode::ImageTooLarge);
        assert_eq!(
            problems[0].to_string(),
            "the image has 6 pixels; at most 5 are allowed"
        );
        let cut = stored(&PNG[..20]);
        let codes: Vec<ErrorCode> = verify_object(&declared(), &cut)
            .iter()
            .map(ObjectProblem::code)
            .collect();
        assert!(codes.contains(&ErrorCode::ImageUnreadable));
    }

    #[test]
    fn an_unknown_digest_is_a_problem() {
        let unknown = Observed::Stored {
            size: PNG.len() as u64,
            sha256: None,
            finding: Some(Finding {
                kind: Some("image/png"),
                picture: Picture::Pixels(6),
                is_plain: true,
            }),
        };
        let problems = verify_object(&declared(), &unknown);
        assert_eq!(
            problems.iter().map(ObjectProblem::code).collect::<Vec<_>>(),
            [ErrorCode::Sha256Mismatch]
        );
    }
}

fn any_file() -> impl Strategy<Value = FileDeclaration> {
    let name = prop_oneof![any::<String>(), "[a-cA-C]{1,2}\\.(png|pdf|txt|exe)"];
    let sha256 = prop_oneof![any::<String>(), Just("0".repeat(64))];
    let media_type = prop::option::of(prop_oneof![any::<String>(), Just("image/png".to_owned())]);
    (
        name,
        media_type,
        prop_oneof![any::<i64>(), 1..100_i64],
        sha256,
    )
        .prop_map(|(name, media_type, size, sha256)| FileDeclaration {
            name,
            media_type,
            size,
            sha256,
        })
}

proptest! {
    #[test]
    fn a_set_is_taken_whole_or_refused_with_errors(
        files in proptest::collection::vec(any_file(), 0..8), entity_type in "[a-z]{0,3}|.*",
    ) {
        let mut request = request(files);
        request.entity_type = entity_type;
        let limits = Limits::default();
        match check_upload(&request, &limits) {
            Ok(checked) => {
                prop_assert_eq!(checked.files.len(), request.files.len());
                prop_assert!((1..=limits.max_files as usize).contains(&checked.files.len()));
                prop_assert!(checked.files.iter().all(|file| (1..=limits.max_file_bytes).contains(&file.size)));
                prop_assert!(checked.files.iter().map(|file| file.size).sum::<u64>() <= limits.max_set_bytes);
                for file in &checked.files {
                    let extension = file.name.extension().unwrap();
                    prop_assert!(file.media_type.extensions().contains(&extension));
                }
                let mut names: Vec<_> = checked.files.iter().map(|file| file.name.comparison_key()).collect();
                names.sort_unstable();
                names.dedup();
                prop_assert_eq!(names.len(), checked.files.len());
            }
            Err(errors) => {
                prop_assert!(!errors.is_empty());
                let document = serde_json::to_value(&request).unwrap();
                for error in &errors {
                    let field_is_there = document.pointer(&error.pointer).is_some();
                    prop_assert!(field_is_there || error.pointer.ends_with("/media_type"));
                }
            }
        }
    }
}
