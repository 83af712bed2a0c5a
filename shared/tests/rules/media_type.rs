use keepsake_shared::{
    MediaType, media_type::SNIFF_BYTES, object_key::MAX_EXTENSION_CHARS, sniff::sniff,
};
use proptest::prelude::*;

fn of(extension: &str) -> MediaType {
    MediaType::from_extension(extension).unwrap()
}

/// The first bytes of real files, by extension. `tests/heads/README.md` says what made them.
const REAL_FILES: [(&str, &[u8]); 16] = [
    ("png", include_bytes!("../heads/sample.png")),
    ("jpg", include_bytes!("../heads/sample.jpg")),
    ("gif", include_bytes!("../heads/sample.gif")),
    ("webp", include_bytes!("../heads/sample.webp")),
    ("avif", include_bytes!("../heads/sample.avif")),
    ("heic", include_bytes!("../heads/sample.heic")),
    ("bmp", include_bytes!("../heads/sample.bmp")),
    ("tif", include_bytes!("../heads/sample.tif")),
    ("pdf", include_bytes!("../heads/sample.pdf")),
    ("docx", include_bytes!("../heads/sample.docx")),
    ("xlsx", include_bytes!("../heads/sample.xlsx")),
    ("pptx", include_bytes!("../heads/sample.pptx")),
    ("odt", include_bytes!("../heads/sample.odt")),
    ("ods", include_bytes!("../heads/sample.ods")),
    ("odp", include_bytes!("../heads/sample.odp")),
    ("wav", include_bytes!("../heads/sample.wav")),
];

/// First bytes written after the formats' own specifications.
const WRITTEN_HEADS: [(&str, &[u8]); 17] = [
    ("mp3", b"ID3\x04\x00\x00\x00\x00\x00\x23TSSE"),
    ("mp3", b"\xff\xfb\x90\x64\x00\x00\x00\x00"),
    ("m4a", b"\0\0\0\x1cftypM4A \0\0\x02\0M4A isomiso2"),
    ("m4a", b"\0\0\0\x18ftypmp42\0\0\0\0isommp42"),
    ("ogg", b"OggS\0\x02\0\0\0\0\0\0\0\0"),
    (
        "opus",
        b"OggS\0\x02\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\xa3\x1c\x9f\x01\x01\x13OpusHead\x01\x02",
    ),
    ("flac", b"fLaC\0\0\0\x22\x10\0\x10\0"),
    ("aac", b"\xff\xf1\x50\x80\x02\x1f\xfc"),
    ("mp4", b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41"),
    // A brand that says nothing by itself, from a camera.
    ("mp4", b"\0\0\0\x1cftypXAVC\x01\0\x1f\xffXAVCmp42iso2"),
    ("m4v", b"\0\0\0\x1cftypM4V \0\0\0\x01M4V mp42isom"),
    ("mov", b"\0\0\0\x14ftypqt  \0\0\x02\0qt  "),
    ("doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0\0\0"),
    ("xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0\0\0"),
    ("ppt", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0\0\0"),
    ("rtf", b"{\\rtf1\\ansi Hello}"),
    ("json", b"{\"a\": [1, 2, 3]}\n"),
];

#[test]
fn the_table_is_sound() {
    let mut extensions = Vec::new();
    let mut names = Vec::new();
    for media_type in MediaType::all() {
        let name = media_type.as_str();
        assert_eq!(name, name.to_lowercase());
        assert_eq!(MediaType::from_name(name), Some(media_type));
        assert!(media_type.goes_by(name));
        assert!(!media_type.extensions().is_empty());
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
        "zip",
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
fn only_pictures_pdf_sound_and_film_are_shown_inline() {
    for media_type in MediaType::all() {
        let name = media_type.as_str();
        let shown = name == "application/pdf"
            || ["image/", "audio/", "video/"]
                .iter()
                .any(|kind| name.starts_with(kind));
        assert_eq!(media_type.is_inline_safe(), shown, "{name}");
    }
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
    assert!(!of("png").goes_by(""));
}

#[test]
fn real_files_pass_as_what_they_are_and_as_nothing_else() {
    for (own, bytes) in REAL_FILES {
        assert_eq!(of(own).check(bytes), Ok(()), "{own}");
        for media_type in MediaType::all().filter(|media_type| *media_type != of(own)) {
            // HEIC is a kind of HEIF, and cameras mix the two names up.
            if (own, media_type.as_str()) != ("heic", "image/heif") {
                assert!(media_type.check(bytes).is_err(), "{own} as {media_type}");
            }
        }
    }
}

#[test]
fn heads_written_after_the_specifications_pass() {
    for (extension, bytes) in WRITTEN_HEADS {
        assert_eq!(of(extension).check(bytes), Ok(()), "{extension}");
    }
    let mut webm = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm".to_vec();
    webm.resize(300, 0);
    assert_eq!(of("webm").check(&webm), Ok(()));
    let matroska = [&webm[..9], b"\x42\x82\x88matroska", &[0; 300]].concat();
    assert_eq!(
        of("webm").check(&matroska).unwrap_err().seen,
        Some("video/x-matroska")
    );
}

#[test]
fn a_wrong_type_is_named() {
    let mismatch = of("png")
        .check(include_bytes!("../heads/sample.pdf"))
        .unwrap_err();
    assert_eq!(mismatch.expected, of("png"));
    assert_eq!(mismatch.seen, Some("application/pdf"));
    assert_eq!(
        mismatch.to_string(),
        "the file is not what its name says: its first bytes are not those of image/png but of application/pdf"
    );
    assert_eq!(of("png").check(b"\x01\x02\x03").unwrap_err().seen, None);
}

#[test]
fn an_empty_file_is_of_no_type() {
    assert_eq!(sniff(b""), None);
    for media_type in MediaType::all() {
        assert!(media_type.check(b"").is_err(), "{media_type}");
    }
}

#[test]
fn programs_and_archives_pass_as_nothing() {
    let elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let heads: [&[u8]; 5] = [
        b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0",
        elf,
        include_bytes!("../heads/sample.zip"),
        include_bytes!("../heads/sample.jar"),
        b"\x1f\x8b\x08\0\0\0\0\0",
    ];
    for head in heads {
        for media_type in MediaType::all() {
            assert!(media_type.check(head).is_err(), "{head:?} as {media_type}");
        }
    }
}

mod text {
    use super::{SNIFF_BYTES, of, sniff};

    #[test]
    fn of_every_language_passes() {
        for text in [
            "a",
            "Grüße\r\n\t…",
            "\u{feff}a,b\n1,2\n",
            "日本語",
            "🎉",
            "page\x0cbreak",
        ] {
            for extension in ["txt", "csv", "md", "json"] {
                assert_eq!(of(extension).check(text.as_bytes()), Ok(()), "{text:?}");
            }
        }
    }

    #[test]
    fn that_begins_like_a_binary_file_passes() {
        for text in [
            "BMW and others",
            "GIF is a format",
            "ID3 tags",
            "MZ, his initials",
            "Rar!",
            "OTTO",
            "wOFF",
        ] {
            assert_eq!(of("txt").check(text.as_bytes()), Ok(()), "{text}");
        }
        assert!(of("gif").check(b"GIF89a<script>alert(1)</script>").is_err());
    }

    #[test]
    fn may_end_within_a_character_of_the_sample() {
        let mut text = "é".repeat(SNIFF_BYTES);
        text.insert(0, 'a');
        assert_eq!(of("txt").check(text.as_bytes()), Ok(()));
        assert_eq!(of("txt").check(&text.as_bytes()[..SNIFF_BYTES]), Ok(()));
        assert_eq!(of("txt").check(&text.as_bytes()[..SNIFF_BYTES - 1]), Ok(()));
    }

    #[test]
    fn with_other_bytes_is_none() {
        let samples: [&[u8]; 6] = [
            b"a\0b",
            b"a\x1b[31m",
            b"a\x7f",
            b"\xff\xfea\0",
            b"caf\xe9 au lait",
            b"\xc3",
        ];
        for bytes in samples {
            assert!(of("txt").check(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn that_is_another_format_is_that_format() {
        for (text, media_type) in [
            ("<!DOCTYPE html><p>", "text/html"),
            ("  \n<script >", "text/html"),
            ("<?xml version=\"1.0\"?><svg/>", "text/xml"),
            ("#!/bin/sh\nrm -r ~", "text/x-shellscript"),
            ("%PDF-1.7\n", "application/pdf"),
            ("{\\rtf1}", "application/rtf"),
        ] {
            assert_eq!(sniff(text.as_bytes()), Some(media_type));
            for extension in ["txt", "csv", "md", "json"] {
                assert!(of(extension).check(text.as_bytes()).is_err(), "{text:?}");
            }
        }
    }
}

mod office {
    use super::{of, sniff};

    /// Local file headers alone, in the order of their names: as much of a ZIP file as is looked at.
    fn zip(names: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for name in names {
            bytes.extend(b"PK\x03\x04\x14\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
            bytes.extend([u8::try_from(name.len()).unwrap(), 0, 0, 0]);
            bytes.extend(name.as_bytes());
            bytes.extend(b"\x01\x02\x03");
        }
        bytes
    }

    #[test]
    fn the_order_of_entries_does_not_matter() {
        for names in [
            &["[Content_Types].xml", "_rels/.rels", "word/document.xml"][..],
            &[
                "_rels/.rels",
                "docProps/app.xml",
                "docProps/core.xml",
                "customXml/item1.xml",
                "word/document.xml",
            ],
            &[
                "word/numbering.xml",
                "word/settings.xml",
                "[Content_Types].xml",
            ],
        ] {
            assert_eq!(of("docx").check(&zip(names)), Ok(()), "{names:?}");
            assert!(of("xlsx").check(&zip(names)).is_err());
            assert!(of("odt").check(&zip(names)).is_err());
        }
    }

    #[test]
    fn a_sample_that_ends_too_early_passes_as_any_of_the_three() {
        let head = zip(&[
            "[Content_Types].xml",
            "_rels/.rels",
            "docProps/thumbnail.jpeg",
        ]);
        assert_eq!(sniff(&head), Some("application/x-ooxml"));
        for extension in ["docx", "xlsx", "pptx"] {
            assert_eq!(of(extension).check(&head), Ok(()));
        }
    }

    #[test]
    fn any_other_zip_is_just_a_zip() {
        for names in [
            &["evil.exe"][..],
            &["META-INF/MANIFEST.MF"],
            &["sword/a"],
            &["AndroidManifest.xml"],
        ] {
            assert_eq!(sniff(&zip(names)), Some("application/zip"), "{names:?}");
        }
        // A header within an entry's content does not make it a document.
        let hidden = [zip(&["evil.exe"]), zip(&["word/document.xml"])].concat();
        assert_eq!(sniff(&hidden), Some("application/zip"));
        assert_eq!(sniff(b"PK\x03\x04"), Some("application/zip"));
    }

    #[test]
    fn an_open_document_says_its_type_first() {
        let open_document = |media_type: &str| {
            let mut bytes = zip(&["mimetype"]);
            bytes.truncate(bytes.len() - 3);
            bytes.extend(media_type.as_bytes());
            bytes.extend(b"PK\x03\x04");
            bytes
        };
        let text = open_document("application/vnd.oasis.opendocument.text");
        assert_eq!(of("odt").check(&text), Ok(()));
        assert!(of("docx").check(&text).is_err());
        let template = open_document("application/vnd.oasis.opendocument.text-template");
        assert!(of("odt").check(&template).is_err());
        let book = open_document("application/epub+zip");
        assert!(of("odt").check(&book).is_err());
    }
}

proptest! {
    #[test]
    fn looking_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = sniff(&bytes);
        for head in [&b"PK\x03\x04"[..], b"\0\0\0\x20ftyp", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"RIFF", b"%PDF"] {
            let _ = sniff(&[head, &bytes].concat());
        }
    }

    #[test]
    fn cutting_and_bending_a_real_file_never_panics(
        which in 0..REAL_FILES.len(), cut in 0..2_048_usize, place in 0..64_usize, byte in any::<u8>(),
    ) {
        let mut bytes = REAL_FILES[which].1.to_vec();
        bytes.truncate(cut);
        if let Some(bent) = bytes.get_mut(place) { *bent = byte; }
        for media_type in MediaType::all() {
            let _ = media_type.check(&bytes);
        }
    }

    #[test]
    fn only_the_first_bytes_count(tail in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut bytes = vec![b'a'; SNIFF_BYTES];
        bytes.extend(tail);
        prop_assert_eq!(sniff(&bytes), Some("text/plain"));
    }

    #[test]
    fn text_without_markup_passes_as_text(text in "[a-zA-Zäöü0-9 ,;\n]{1,200}") {
        prop_assert_eq!(of("txt").check(text.as_bytes()), Ok(()));
    }
}
