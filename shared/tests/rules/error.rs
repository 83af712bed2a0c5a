use keepsake_shared::{ErrorCode, FieldError, Problem};
use serde_json::json;

#[test]
fn every_code_is_whole() {
    let mut codes: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    for code in ErrorCode::ALL {
        let text = code.as_str();
        assert!(
            text.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        );
        assert_eq!(text.parse(), Ok(*code));
        assert!((400..600).contains(&code.status()), "{code}");
        assert!(
            !code.title().is_empty() && !code.title().ends_with('.'),
            "{code}"
        );
        assert!(
            code.meaning().ends_with('.') && !code.meaning().starts_with(' '),
            "{code}"
        );
    }
    codes.sort_unstable();
    assert!(codes.windows(2).all(|pair| pair[0] != pair[1]));
    assert!("nothing".parse::<ErrorCode>().is_err());
}

/// Clients and the database hold on to these.
#[test]
fn codes_and_statuses_are_fixed() {
    for (code, status) in [
        ("malformed_json", 400),
        ("unknown_field", 400),
        ("invalid_field", 400),
        ("invalid_id", 400),
        ("missing_token", 401),
        ("invalid_token", 401),
        ("token_expired", 401),
        ("signature_invalid", 401),
        ("missing_tenant", 403),
        ("insufficient_scope", 403),
        ("quota_exceeded", 403),
        ("file_quarantined", 403),
        ("url_expired", 403),
        ("url_invalid", 403),
        ("not_found", 404),
        ("method_not_allowed", 405),
        ("part_invalid", 422),
        ("not_in_parts", 422),
        ("name_taken", 409),
        ("not_uploaded", 409),
        ("version_conflict", 409),
        ("upload_closed", 409),
        ("idempotency_in_flight", 409),
        ("file_scanning", 409),
        ("restore_conflict", 409),
        ("delete_blocked", 409),
        ("upload_expired", 410),
        ("purged", 410),
        ("object_exists", 412),
        ("body_too_large", 413),
        ("file_too_large", 413),
        ("set_too_large", 413),
        ("media_type_not_allowed", 415),
        ("invalid_upload", 422),
        ("upload_rejected", 422),
        ("idempotency_mismatch", 422),
        ("too_many_pending", 429),
        ("sha256_mismatch", 422),
        ("image_too_large", 422),
        ("image_unreadable", 422),
        ("content_encoded", 422),
        ("internal", 500),
        ("database_unavailable", 503),
        ("storage_unavailable", 503),
    ] {
        assert_eq!(
            code.parse::<ErrorCode>().unwrap().status(),
            status,
            "{code}"
        );
    }
}

fn error(code: ErrorCode) -> FieldError {
    FieldError::new("/files/0/size", code, "Detail.")
}

#[test]
fn the_code_for_a_list_of_errors() {
    use ErrorCode::{FileTooLarge, InvalidUpload, MediaTypeNotAllowed, SetTooLarge, Sha256Invalid};
    let of = |codes: &[ErrorCode]| {
        ErrorCode::of_errors(&codes.iter().copied().map(error).collect::<Vec<_>>())
    };
    assert_eq!(of(&[]), InvalidUpload);
    assert_eq!(of(&[FileTooLarge]), FileTooLarge);
    assert_eq!(of(&[SetTooLarge, FileTooLarge]), SetTooLarge);
    assert_eq!(
        of(&[MediaTypeNotAllowed, MediaTypeNotAllowed]),
        MediaTypeNotAllowed
    );
    assert_eq!(of(&[FileTooLarge, MediaTypeNotAllowed]), InvalidUpload);
    assert_eq!(of(&[FileTooLarge, Sha256Invalid]), InvalidUpload);
    assert_eq!(of(&[Sha256Invalid, Sha256Invalid]), InvalidUpload);
}

#[test]
fn a_problem_in_json() {
    let mut problem = Problem::new(ErrorCode::NotFound, "There is no such attachment.");
    assert_eq!(
        serde_json::to_value(&problem).unwrap(),
        json!({
            "type": "urn:problem-type:keepsake:not_found",
            "title": "Not found",
            "status": 404,
            "detail": "There is no such attachment.",
            "code": "not_found",
        })
    );
    problem.instance = Some("/v1/attachments/1".into());
    problem.request_id = Some("r1".into());
    problem.conflicts.push(json!({"kind": "unique"}));
    problem
        .errors
        .push(error(ErrorCode::FileNameInvalid).because("file_name_dots"));
    let value = serde_json::to_value(&problem).unwrap();
    assert_eq!(value["instance"], "/v1/attachments/1");
    assert_eq!(value["request_id"], "r1");
    assert_eq!(value["conflicts"], json!([{"kind": "unique"}]));
    assert_eq!(
        value["errors"],
        json!([{
            "pointer": "/files/0/size",
            "code": "file_name_invalid",
            "reason": "file_name_dots",
            "detail": "Detail.",
        }])
    );
}

#[test]
fn a_problem_of_field_errors() {
    let one = Problem::of_errors(vec![error(ErrorCode::FileTooLarge)]);
    assert_eq!((one.status, one.detail.as_str()), (413, "Detail."));
    let two = Problem::of_errors(vec![
        error(ErrorCode::FileTooLarge),
        error(ErrorCode::FileEmpty),
    ]);
    assert_eq!((two.status, two.code), (422, ErrorCode::InvalidUpload));
    assert_eq!(
        two.detail,
        "The request has 2 errors, all listed under errors."
    );
    assert_eq!(two.errors.len(), 2);
}

#[test]
fn a_field_error_is_read_again() {
    let error = error(ErrorCode::FileNameInvalid).because("file_name_dots");
    let json = serde_json::to_string(&error).unwrap();
    assert_eq!(serde_json::from_str::<FieldError>(&json).unwrap(), error);
    let bare = json!({"pointer": "/a", "code": "invalid_field", "detail": "d"});
    assert_eq!(
        serde_json::from_value::<FieldError>(bare).unwrap().reason,
        None
    );
}
