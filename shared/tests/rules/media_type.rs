use keepsake_shared::{MediaType, object_key::MAX_EXTENSION_CHARS};

use crate::content::of;

#[test]
fn the_table_is_sound() {
    let mut extensions = Vec::new();
    let mut names = Vec::new();
    for media_type in MediaType::all() {
        let name = media_type.as_str();
        assert_eq!(name, name.to_lowercase());
        assert_eq!(MediaType::from_name(name), Some(media_type));
        assert!(media_type.goes_by(name));
        let has_none = media_type == MediaType::unknown();
        assert_eq!(media_type.extensions().is_empty(), has_none);
        for extension in media_type.extensions() {
            assert_eq!(MediaType::from_extension(extension), Some(media_type));
            assert!(extension.len() <= MAX_EXTENSION_CHARS);
            let fits_a_key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            assert!(extension.chars().all(fits_a_key), "{extension}");
            extensions.push(extension);
        }
        names.push(name);
    }
    for list in [&mut names, &mut extensions.into_iter().copied().collect()] {
        list.sort_unstable();
        assert!(list.windows(2).all(|pair| pair[0] != pair[1]), "{list:?}");
    }
}

#[test]
fn what_could_run_in_a_browser_is_not_in_the_table() {
    for extension in [
        "html", "htm", "xhtml", "svg", "xml", "js", "mjs", "css", "swf", "mht",
    ] {
        assert_eq!(MediaType::from_extension(extension), None, "{extension}");
    }
    for extension in [
        "exe",
        "jar",
        "sh",
        "bat",
        "ps1",
        "msi",
        "apk",
        "",
        "PNG",
        "constructor",
    ] {
        assert_eq!(MediaType::from_extension(extension), None, "{extension}");
    }
}

#[test]
fn archives_and_macros_are_allowed_on_request_only() {
    for extension in [
        "zip", "7z", "rar", "gz", "tgz", "tar", "bz2", "xz", "docm", "xlsm", "xlsb", "pptm",
    ] {
        assert!(!of(extension).is_usual(), "{extension}");
        assert!(!of(extension).is_inline_safe(), "{extension}");
    }
    assert!(!MediaType::unknown().is_usual());
}

#[test]
fn only_pictures_pdf_sound_and_film_are_shown_inline() {
    for media_type in MediaType::all().filter(|media_type| media_type.is_inline_safe()) {
        let name = media_type.as_str();
        let may_be = name == "application/pdf"
            || ["image/", "audio/", "video/"]
                .iter()
                .any(|kind| name.starts_with(kind));
        assert!(may_be, "{name}");
    }
    assert!(!MediaType::unknown().is_inline_safe());
    assert!(!of("txt").is_inline_safe());
}

#[test]
fn names() {
    assert_eq!(MediaType::from_name("IMAGE/PNG"), Some(of("png")));
    assert_eq!(
        MediaType::from_name("text/csv; charset=utf-8"),
        Some(of("csv"))
    );
    for wrong in [
        "",
        "image/",
        "imagex/png",
        "image/png2",
        "image",
        "*/*",
        "image/*",
        "text/html",
    ] {
        assert_eq!(MediaType::from_name(wrong), None, "{wrong}");
    }
    assert!(of("csv").goes_by("application/vnd.ms-excel"));
    assert!(of("mp3").goes_by("Audio/MP3"));
    assert!(!of("png").goes_by("image/jpeg"));
    assert!(!of("png").goes_by("imagex/png"));
    assert!(!of("png").goes_by("image/*"));
    assert!(!of("png").goes_by("image/x-"));
    for (extension, name) in [
        ("csv", "text/comma-separated-values"),
        ("zip", "application/x-zip-compressed"),
        ("mov", "video/mp4"),
        ("heic", "image/heic-sequence"),
        ("png", "application/octet-stream"),
        ("png", "image/x-png"),
        ("bmp", "image/x-bmp"),
        ("m4a", "audio/x-m4a"),
        ("ogg", "video/ogg"),
        ("pdf", "application/x-pdf"),
    ] {
        assert!(of(extension).goes_by(name), "{name}");
    }
    assert!(!of("png").goes_by(""));
}
