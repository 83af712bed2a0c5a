//! What a file is by its bytes.

use keepsake_shared::{
    MediaType,
    content::{Finding, Inspection, MAX_PIECES, Next, Picture, Piece, first_piece, sniff},
};
use proptest::prelude::*;

/// The first bytes of real files, by extension. `tests/heads/README.md` says what made them.
pub(crate) const REAL_FILES: [(&str, &[u8]); 16] = [
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

pub(crate) fn of(extension: &str) -> MediaType {
    MediaType::from_extension(extension).unwrap()
}

/// A file without its bytes: those that are not given are zero.
struct Sparse {
    size: u64,
    parts: Vec<(u64, Vec<u8>)>,
}

impl Sparse {
    fn read(&self, piece: Piece) -> Vec<u8> {
        let left = self.size.saturating_sub(piece.offset);
        let mut read = vec![0; piece.length.min(usize::try_from(left).unwrap())];
        for (start, bytes) in &self.parts {
            let from = piece.offset.max(*start);
            let end = (piece.offset + read.len() as u64).min(start + bytes.len() as u64);
            if from < end {
                let known = &bytes[(from - start) as usize..(end - start) as usize];
                read[(from - piece.offset) as usize..(end - piece.offset) as usize]
                    .copy_from_slice(known);
            }
        }
        read
    }
}

/// Looks at a file as a store would give it, and counts what was read.
fn inspect(media_type: MediaType, file: &Sparse) -> (Finding, Vec<Piece>) {
    let mut inspection = Inspection::new(media_type, file.size);
    let mut read = Vec::new();
    loop {
        match inspection.step() {
            Next::Found(finding) => return (finding, read),
            Next::Read(piece) => {
                assert!(read.len() < MAX_PIECES as usize);
                assert!(piece.offset < file.size.max(1), "beyond the file");
                read.push(piece);
                inspection.add(piece, file.read(piece));
            }
        }
    }
}

/// What a whole file shows.
pub(crate) fn look(extension: &str, bytes: &[u8]) -> Finding {
    let file = Sparse {
        size: bytes.len() as u64,
        parts: vec![(0, bytes.to_vec())],
    };
    inspect(of(extension), &file).0
}

fn is_taken(extension: &str, bytes: &[u8]) -> bool {
    of(extension).accepts(look(extension, bytes).kind)
}

fn is_shown(extension: &str, bytes: &[u8]) -> bool {
    let media_type = of(extension);
    is_taken(extension, bytes) && media_type.is_inline_safe() && look(extension, bytes).is_plain
}

fn pixels(extension: &str, file: &Sparse) -> Picture {
    inspect(of(extension), file).0.picture
}

/// A box of ISO/IEC 14496-12.
fn iso_box(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len() + 8).unwrap().to_be_bytes();
    [&size, &kind[..], content].concat()
}

/// The properties of a HEIF picture of so many by so many pixels.
fn heif_meta(width: u32, height: u32) -> Vec<u8> {
    let ispe = [&[0; 4][..], &width.to_be_bytes(), &height.to_be_bytes()].concat();
    let ipco = iso_box(b"ipco", &iso_box(b"ispe", &ispe));
    let iprp = iso_box(b"iprp", &[iso_box(b"ipco", &ipco[8..])].concat());
    let hdlr = iso_box(b"hdlr", &[0; 20]);
    iso_box(b"meta", &[&[0; 4][..], &hdlr, &iprp].concat())
}

#[test]
fn real_files_pass_as_what_they_are() {
    for (own, bytes) in REAL_FILES {
        assert!(is_taken(own, bytes), "{own}");
        assert_eq!(is_shown(own, bytes), of(own).is_inline_safe(), "{own}");
    }
}

#[test]
fn nothing_passes_as_something_else_that_is_shown() {
    for (own, bytes) in REAL_FILES {
        for other in MediaType::all().filter(|other| *other != of(own)) {
            // HEIC and AVIF are kinds of HEIF, and cameras mix the names up.
            let is_heif = matches!(own, "heic" | "avif") && other == of("heif");
            // Early recorders put MP3 into WAVE, and players look.
            let is_recording = own == "wav" && other == of("mp3");
            if other.is_inline_safe() && !is_heif && !is_recording {
                let extension = other.extensions()[0];
                assert!(!is_taken(extension, bytes), "{own} as {other}");
            }
        }
    }
}

/// First bytes written after the formats' own specifications.
#[test]
fn heads_written_after_the_specifications_pass() {
    let frame_of_mpeg_2_5 = [&b"\xFF\xE3\x18\xC4"[..], &[0; 60]].concat();
    let with_checksum = [&b"\xFF\xFA\x90\x64"[..], &[0; 100]].concat();
    let tagged = |content: &[u8]| [b"ID3\x04\0\0\0\0\x02\x01", &[0; 257][..], content].concat();
    let heads: [(&str, &[u8]); 48] = [
        ("mp3", b"ID3\x04\x00\x00\x00\x00\x00\x23TSSE"),
        ("mp3", b"\xff\xfb\x90\x64\x00\x00\x00\x00"),
        ("mp3", &frame_of_mpeg_2_5),
        ("mp3", &with_checksum),
        ("mp3", &tagged(&with_checksum)),
        ("flac", &tagged(b"fLaC\0\0\0\x22")),
        ("aac", &tagged(b"\xff\xf1\x50\x80\x02\x1f\xfc")),
        ("m4a", b"\0\0\0\x1cftypM4A \0\0\x02\0M4A isomiso2"),
        ("m4a", b"\0\0\0\x18ftypmp42\0\0\0\0isommp42"),
        ("ogg", b"OggS\0\x02\0\0\0\0\0\0\0\0"),
        (
            "opus",
            b"OggS\0\x02\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\xa3\x1c\x9f\x01\x01\x13OpusHead\x01\x02",
        ),
        ("flac", b"fLaC\0\0\0\x22\x10\0\x10\0"),
        ("aac", b"\xff\xf1\x50\x80\x02\x1f\xfc"),
        ("wav", b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0"),
        ("wav", b"BW64\xff\xff\xff\xffWAVEds64\x1c\0\0\0"),
        ("mp4", b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41"),
        // A brand that says nothing by itself, from a camera.
        ("mp4", b"\0\0\0\x1cftypXAVC\x01\0\x1f\xffXAVCmp42iso2"),
        ("m4v", b"\0\0\0\x1cftypM4V \0\0\0\x01M4V mp42isom"),
        ("3gp", b"\0\0\0\x18ftyp3gp4\0\0\0\0isom3gp4"),
        ("mov", b"\0\0\0\x14ftypqt  \0\0\x02\0qt  "),
        ("mov", b"\0\0\0\x08wide\0\0\0\x10mdat\0\0\0\0\0\0\0\0"),
        (
            "mov",
            b"\0\0\0\x10free\0\0\0\0\0\0\0\0\0\0\0\x10mdat\0\0\0\0\0\0\0\0",
        ),
        (
            "mov",
            b"\0\0\0\x0cskip\0\0\0\0\0\0\0\x10moov\0\0\0\0\0\0\0\0",
        ),
        (
            "mov",
            b"\0\0\0\x14pnot\0\0\0\0\0\0PICT\0\x01\0\0\0\x10mdat\0\0\0\0\0\0\0\0",
        ),
        ("mov", b"\0\0\0\x08wide\0\0\0\x14ftypqt  \0\0\x02\0qt  "),
        ("doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0\0\0"),
        ("xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0\0\0"),
        ("ppt", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0\0\0"),
        // With a password (MS-OFFCRYPTO 1.3.2).
        ("docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0\0\0"),
        ("xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0\0\0"),
        ("pptx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0\0\0"),
        // What Word and Excel open under their old names.
        ("doc", b"{\\rtf1\\ansi Hello}"),
        (
            "doc",
            b"<html xmlns:o='urn:schemas-microsoft-com:office:office'>",
        ),
        ("xls", b"<table><tr><td>1</td></tr></table>"),
        ("xls", b"\x09\x08\x08\0\0\x05\x05\0\0\0\0\0"),
        ("xls", b"a\tb\r\n1\t2\r\n"),
        ("rtf", b"{\\rtf1\\ansi Hello}"),
        ("json", b"{\"a\": [1, 2, 3]}\n"),
        ("tif", b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0"),
        // Its first pixel, where bytes 8 and 9 are taken for a sign of another format.
        ("tif", b"II*\0\x0e\0\0\0CR\0\0\0\0\0\0"),
        ("gif", b"GIF87a\x01\0\x01\0\x80\0\0"),
        ("psd", b"8BPS\0\x01\0\0"),
        ("ico", b"\0\0\x01\0\x01\0\x10\x10"),
        ("jxl", b"\0\0\0\x0cJXL \r\n\x87\n"),
        ("jp2", b"\0\0\0\x0cjP  \r\n\x87\n"),
        ("aiff", b"FORM\0\0\0\x2eAIFFCOMM\0\0\0\x12"),
        ("amr", b"#!AMR\n\x3c\0"),
        ("avi", b"RIFF\0\0\0\0AVI LIST"),
    ];
    for (extension, bytes) in heads {
        assert!(is_taken(extension, bytes), "{extension}: {bytes:?}");
    }
    let mut webm = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm".to_vec();
    webm.resize(300, 0);
    assert!(is_taken("webm", &webm));
    let matroska = [&webm[..9], b"\x42\x82\x88matroska", &[0; 300]].concat();
    assert_eq!(look("webm", &matroska).kind, Some("video/x-matroska"));
    assert!(!is_taken("webm", &matroska));
    assert!(is_taken("mkv", &matroska));
}

#[test]
fn a_wrong_type_is_named() {
    let seen = look("png", include_bytes!("../heads/sample.pdf")).kind;
    let mismatch = of("png").check(seen).unwrap_err();
    assert_eq!(mismatch.expected, of("png"));
    assert_eq!(
        mismatch.to_string(),
        "the file is not what its name says: its bytes are not those of image/png but of application/pdf"
    );
    assert_eq!(look("png", b"\x01\x02\x03").kind, None);
}

#[test]
fn programs_and_archives_pass_as_nothing_that_is_usual() {
    let elf = [&b"\x7fELF\x02\x01\x01"[..], &[0; 64]].concat();
    let heads: [&[u8]; 5] = [
        b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0",
        &elf,
        include_bytes!("../heads/sample.zip"),
        include_bytes!("../heads/sample.jar"),
        b"\x1f\x8b\x08\0\0\0\0\0",
    ];
    // Their files are ZIP files of no common form.
    let in_any_zip = ["epub", "pages", "numbers", "key", "kmz", "xps", "vsd"];
    for head in heads {
        for media_type in MediaType::all().filter(|media_type| media_type.is_usual()) {
            let extension = media_type.extensions()[0];
            if !in_any_zip.contains(&extension) {
                assert!(!is_taken(extension, head), "{head:?} as {media_type}");
            }
        }
    }
}

mod text {
    use super::{is_shown, is_taken, look, of, sniff};

    const KINDS: [&str; 8] = ["txt", "csv", "md", "json", "log", "yaml", "srt", "eml"];

    #[test]
    fn of_every_encoding_passes() {
        let samples: [&[u8]; 16] = [
            b"a",
            "Grüße\r\n\t…".as_bytes(),
            "\u{feff}a,b\n1,2\n".as_bytes(),
            "日本語".as_bytes(),
            b"page\x0cbreak",
            // Windows-1252, as Excel saves CSV in most of Europe.
            b"St\xfcck;1\r\n",
            // Shift JIS, GBK, KOI8-R.
            b"\x93\xfa\x96\x7b\x8c\xea,1\r\n",
            b"\xd6\xd0\xce\xc4,1\r\n",
            b"\xd2\xd5\xd3\xd3\xcb\xc9\xca",
            // UTF-16 with a byte order mark, and without.
            b"\xff\xfea\0b\0",
            b"\xfe\xff\0a\0b",
            b"a\0b\0",
            // A terminal's colours, the end mark of DOS, delete, and a character that was cut.
            b"\x1b[31mred\x1b[0m\x07\x08",
            b"old\r\n\x1a",
            b"a\x7f",
            b"\xc3",
        ];
        for text in samples {
            for extension in KINDS {
                assert!(is_taken(extension, text), "{text:?}");
                assert!(!is_shown(extension, text), "{text:?}");
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
            "RIFF in A",
            "AC10, the model",
        ] {
            assert!(is_taken("txt", text.as_bytes()), "{text}");
            assert_eq!(sniff(text.as_bytes()), Some("text/plain"));
        }
        assert!(!is_taken("gif", b"GIF89a<script>alert(1)</script>"));
    }

    #[test]
    fn that_is_or_mentions_another_text_format_passes_and_is_named() {
        for (text, kind) in [
            ("<!DOCTYPE html><p>", "text/html"),
            ("  \n<script >", "text/html"),
            ("<h1 align=\"center\">Readme</h1>", "text/html"),
            ("<!-- badges -->\n# Readme", "text/html"),
            ("<?xml version=\"1.0\"?><svg/>", "text/xml"),
            ("#!/bin/sh\nrm -r ~", "text/x-shellscript"),
            ("{\"magic\":\"%PDF-\"}", "text/plain"),
            ("{\\rtf1}", "application/rtf"),
            ("%!PS-Adobe-3.0", "application/postscript"),
        ] {
            assert_eq!(sniff(text.as_bytes()), Some(kind));
            for extension in KINDS {
                assert!(is_taken(extension, text.as_bytes()), "{text:?}");
                assert!(!is_shown(extension, text.as_bytes()), "{text:?}");
            }
        }
    }

    #[test]
    fn is_not_a_known_binary_format() {
        let samples: [&[u8]; 6] = [
            b"%PDF-1.7\n",
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
            b"\xff\xd8\xff\xe0",
            b"MZ\x90\0\x03\0\0\0",
            b"PK\x03\x04\x14\0\0\0",
            b"OggS\0\x02\0\0",
        ];
        for bytes in samples {
            for extension in KINDS {
                let kind = look(extension, bytes).kind;
                assert!(of(extension).check(kind).is_err(), "{bytes:?}");
            }
        }
    }
}

mod office {
    use super::{Sparse, inspect, is_taken, of, sniff};

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

    /// The list of entries at the end of a ZIP file that begins with `start` and has so many bytes
    /// before the list.
    fn with_directory(start: Vec<u8>, before: u64, names: &[&str]) -> Sparse {
        let mut directory = Vec::new();
        for name in names {
            directory.extend(b"PK\x01\x02");
            directory.extend([0; 24]);
            directory.extend([u8::try_from(name.len()).unwrap(), 0]);
            directory.extend([0; 16]);
            directory.extend(name.as_bytes());
        }
        let mut end = b"PK\x05\x06".to_vec();
        end.extend([0; 8]);
        end.extend(u32::try_from(directory.len()).unwrap().to_le_bytes());
        end.extend(u32::try_from(before).unwrap().to_le_bytes());
        end.extend([0; 2]);
        let tail = [directory, end].concat();
        Sparse {
            size: before + tail.len() as u64,
            parts: vec![(0, start), (before, tail)],
        }
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
            // Writers that know no other separator, or put one before a name.
            &["[Content_Types].xml", "word\\document.xml"],
            &["/[Content_Types].xml", "/word/document.xml"],
        ] {
            assert!(is_taken("docx", &zip(names)), "{names:?}");
            assert!(!is_taken("xlsx", &zip(names)));
            assert!(!is_taken("odt", &zip(names)));
        }
        assert!(is_taken(
            "xlsx",
            &zip(&["_rels\\.rels", "xl\\workbook.xml"])
        ));
    }

    #[test]
    fn first_entries_that_do_not_tell_pass_as_any_of_the_three() {
        let head = zip(&[
            "[Content_Types].xml",
            "_rels/.rels",
            "docProps/thumbnail.jpeg",
        ]);
        assert_eq!(sniff(&head), Some("application/x-ooxml"));
        for extension in ["docx", "xlsx", "pptx"] {
            assert!(is_taken(extension, &head));
        }
    }

    #[test]
    fn the_list_at_the_end_tells_what_the_first_entries_do_not() {
        let names = ["theme.xml", "word/document.xml", "[Content_Types].xml"];
        for before in [2_000, 5_000_000] {
            let file = with_directory(zip(&names[..1]), before, &names);
            let kind = inspect(of("docx"), &file).0.kind;
            assert!(of("docx").accepts(kind), "{kind:?}");
            assert!(!of("xlsx").accepts(inspect(of("xlsx"), &file).0.kind));
        }
        // A list that is longer than what is read of the end, and a document in parts of any name.
        let mut names: Vec<String> = (0..3_000).map(|n| format!("parts/part{n}.xml")).collect();
        names.insert(0, "[Content_Types].xml".into());
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let file = with_directory(zip(&["a.xml"]), 300_000, &names);
        let kind = inspect(of("pptx"), &file).0.kind;
        assert_eq!(kind, Some("application/x-ooxml"));
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
            let file = with_directory(zip(names), 20_000, names);
            let kind = inspect(of("docx"), &file).0.kind;
            assert_eq!(kind, Some("application/zip"));
        }
        // A header within an entry's content does not make it a document.
        let hidden = [zip(&["evil.exe"]), zip(&["word/document.xml"])].concat();
        assert_eq!(sniff(&hidden), Some("application/zip"));
        assert_eq!(sniff(b"PK\x03\x04"), Some("application/zip"));
    }

    fn with_mimetype(kind: &str, extra: &[u8]) -> Vec<u8> {
        let mut bytes = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x08\0".to_vec();
        bytes.extend([u8::try_from(extra.len()).unwrap(), 0]);
        bytes.extend(b"mimetype");
        bytes.extend(extra);
        bytes.extend(kind.as_bytes());
        bytes.extend(b"PK\x03\x04");
        bytes
    }

    #[test]
    fn an_open_document_says_its_type() {
        let text = "application/vnd.oasis.opendocument.text";
        for extra in [&b""[..], b"UT\x05\0\x03abcd"] {
            assert!(is_taken("odt", &with_mimetype(text, extra)));
        }
        let behind = [
            zip(&["META-INF/manifest.xml", "content.xml"]),
            with_mimetype(text, b""),
        ];
        assert!(is_taken("odt", &behind.concat()));
        assert!(!is_taken("docx", &with_mimetype(text, b"")));
        let template = with_mimetype("application/vnd.oasis.opendocument.text-template", b"");
        assert!(!is_taken("odt", &template));
        assert!(is_taken("ott", &template));
        let book = with_mimetype("application/epub+zip", b"");
        assert!(!is_taken("odt", &book));
        assert!(is_taken("epub", &book));
    }

    #[test]
    fn an_open_document_whose_type_is_packed_passes_as_any() {
        let packed = zip(&["mimetype", "content.xml", "META-INF/manifest.xml"]);
        let far = with_directory(
            zip(&["content.xml"]),
            90_000,
            &["content.xml", "META-INF/manifest.xml", "mimetype"],
        );
        for extension in ["odt", "ods", "odp"] {
            assert!(is_taken(extension, &packed));
            let kind = inspect(of(extension), &far).0.kind;
            assert!(of(extension).accepts(kind), "{kind:?}");
        }
        assert!(!is_taken("docx", &packed));
    }
}

mod pictures {
    use super::{Picture, Sparse, heif_meta, inspect, is_shown, iso_box, look, of, pixels};

    /// Real heads, of three by two pixels but for one.
    #[test]
    fn every_kind_tells() {
        for (extension, head, pixels) in [
            ("png", &include_bytes!("../heads/sample.png")[..], 6),
            ("gif", include_bytes!("../heads/sample.gif"), 6),
            ("jpg", include_bytes!("../heads/sample.jpg"), 6),
            ("bmp", include_bytes!("../heads/sample.bmp"), 6),
            ("webp", include_bytes!("../heads/sample.webp"), 6),
            ("tif", include_bytes!("../heads/sample.tif"), 6),
            ("heic", include_bytes!("../heads/sample.heic"), 64 * 64),
            ("avif", include_bytes!("../heads/sample.avif"), 6),
        ] {
            assert_eq!(look(extension, head).picture, Picture::Pixels(pixels));
            let cut = look(extension, &head[..13]).picture;
            assert!(
                extension == "gif" || !matches!(cut, Picture::Pixels(_)),
                "{extension}"
            );
        }
        assert_eq!(look("pdf", b"%PDF-1.7").picture, Picture::None);
        assert_eq!(look("txt", b"").picture, Picture::None);
    }

    #[test]
    fn webp_has_three_forms() {
        let mut lossless = b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2F".to_vec();
        // 14 bits of width less one, 14 of height less one.
        lossless.extend_from_slice(&(999_u32 | 499 << 14).to_le_bytes());
        assert_eq!(look("webp", &lossless).picture, Picture::Pixels(1000 * 500));
        let mut extended = b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0".to_vec();
        extended.extend_from_slice(&[0xFF; 6]);
        assert_eq!(look("webp", &extended).picture, Picture::Pixels(1 << 48));
    }

    const FRAME: [u8; 11] = [0xFF, 0xC2, 0, 17, 8, 0x10, 0, 0x20, 0, 3, 1];

    /// A JPEG with so many segments of 64 KiB before its size, and `between` behind each.
    fn jpeg(segments: usize, between: &[u8]) -> Sparse {
        let mut bytes = vec![0xFF, 0xD8];
        for _ in 0..segments {
            bytes.extend_from_slice(&[0xFF, 0xFF, 0xE2, 0xFF, 0xFF]);
            bytes.resize(bytes.len() + 0xFFFF - 2, 0);
            bytes.extend_from_slice(between);
        }
        // A Huffman table is no frame header, though its marker lies among theirs.
        bytes.extend_from_slice(&[0xFF, 0xC4, 0, 4, 1, 2]);
        bytes.extend_from_slice(&FRAME);
        bytes.resize(bytes.len() + 100_000, 0x55);
        Sparse {
            size: bytes.len() as u64,
            parts: vec![(0, bytes)],
        }
    }

    #[test]
    fn a_jpeg_is_read_past_profiles_of_any_size() {
        // 140 segments are 9 MB.
        for segments in [0, 3, 4, 5, 40, 140] {
            for between in [&b""[..], b"\0\0\x12\x34"] {
                let told = pixels("jpg", &jpeg(segments, between));
                assert_eq!(told, Picture::Pixels(0x1000 * 0x2000), "{segments}");
            }
        }
        assert_eq!(pixels("jpg", &jpeg(250, b"")), Picture::Unreadable);
    }

    #[test]
    fn a_jpeg_without_a_frame_is_unreadable() {
        let no_frame = [
            0xFF, 0xD8, 0xFF, 0xDA, 0, 2, 0xFF, 0xC0, 0, 17, 8, 0, 1, 0, 1,
        ];
        assert_eq!(look("jpg", &no_frame).picture, Picture::Unreadable);
    }

    #[test]
    fn the_properties_of_a_heif_stand_anywhere() {
        let ftyp = iso_box(b"ftyp", b"heic\0\0\0\0mif1heic");
        let coded = iso_box(b"mdat", &vec![7; 300_000]);
        let exif = iso_box(b"free", &vec![7; 300_000]);
        for boxes in [
            [&ftyp[..], &coded, &heif_meta(4000, 3000)].concat(),
            [&ftyp[..], &heif_meta(4000, 3000), &coded].concat(),
            [&ftyp[..], &exif, &coded, &heif_meta(4000, 3000), &coded].concat(),
            // The size of the coded pictures in 64 bits, and of the last box none.
            [
                &ftyp[..],
                b"\0\0\0\x01mdat\0\0\0\0\0\x06\0\0",
                &vec![7; 0x6_0000 - 16],
                b"\0\0\0\0",
                &heif_meta(4000, 3000)[4..],
            ]
            .concat(),
        ] {
            assert_eq!(look("heic", &boxes).picture, Picture::Pixels(12_000_000));
            assert!(is_shown("heic", &boxes));
        }
        let without = [&ftyp[..], &coded].concat();
        assert_eq!(look("heic", &without).picture, Picture::Unreadable);
    }

    #[test]
    fn a_heif_far_away_costs_few_reads() {
        let ftyp = iso_box(b"ftyp", b"heic\0\0\0\0mif1heic");
        let start = [&ftyp[..], &0x4000_0000_u32.to_be_bytes(), b"mdat"].concat();
        let meta_at = ftyp.len() as u64 + 0x4000_0000;
        let meta = heif_meta(10, 20);
        let file = Sparse {
            size: meta_at + meta.len() as u64,
            parts: vec![(0, start), (meta_at, meta)],
        };
        let (finding, read) = inspect(of("heic"), &file);
        assert_eq!(finding.picture, Picture::Pixels(200));
        assert!(read.len() <= 3, "{read:?}");
    }

    #[test]
    fn a_sequence_tells_in_its_tracks() {
        let ftyp = iso_box(b"ftyp", b"avis\0\0\0\0avisavif");
        let mut header = vec![0; 84];
        header[76..78].copy_from_slice(&640_u16.to_be_bytes());
        header[80..82].copy_from_slice(&480_u16.to_be_bytes());
        let track = iso_box(b"trak", &iso_box(b"tkhd", &header));
        let file = [ftyp, iso_box(b"moov", &track)].concat();
        assert_eq!(look("avif", &file).picture, Picture::Pixels(640 * 480));
    }

    #[test]
    fn apples_own_png_tells() {
        let png = include_bytes!("../heads/sample.png");
        let apple = [
            &png[..8],
            b"\0\0\0\x04CgBI\x50\0\x20\x02\x2b\xd5\xb3\x7f",
            &png[8..],
        ]
        .concat();
        assert_eq!(look("png", &apple).picture, Picture::Pixels(6));
    }

    #[test]
    fn a_tiff_points_to_where_it_tells() {
        fn bytes(digits: &str) -> Vec<u8> {
            let digits: String = digits.split(' ').collect();
            (0..digits.len() / 2)
                .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
                .collect()
        }
        for (head, directory) in [
            (
                &b"MM\0*\0\x10\0\0"[..],
                "0002 0100 0004 00000001 00010000 0101 0003 00000001 00020000",
            ),
            (
                b"II*\0\0\0\x10\0",
                "0200 0001 0400 01000000 00000100 0101 0300 01000000 02000000",
            ),
            (
                b"II+\0\x08\0\0\0\0\0\x10\0\0\0\0\0",
                "0200000000000000 0001 0400 0100000000000000 0000010000000000 0101 1000 0100000000000000 0200000000000000",
            ),
        ] {
            let directory = bytes(directory);
            let file = |directory: &[u8]| Sparse {
                size: (1 << 20) + directory.len() as u64,
                parts: vec![(0, head.to_vec()), (1 << 20, directory.to_vec())],
            };
            let told = pixels("tif", &file(&directory));
            assert_eq!(told, Picture::Pixels(65536 * 2));
            assert_eq!(pixels("tif", &file(&directory[..12])), Picture::Unreadable);
            assert_eq!(pixels("tif", &file(b"")), Picture::Unreadable);
        }
    }

    #[test]
    fn sizes_that_wrap_in_32_bits_do_not() {
        let mut head = include_bytes!("../heads/sample.png").to_vec();
        head[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
        assert_eq!(look("png", &head).picture, Picture::Pixels(1 << 32));
        head[16..24].copy_from_slice(&[0xFF; 8]);
        let most = 0xFFFF_FFFF_u64 * 0xFFFF_FFFF;
        assert_eq!(look("png", &head).picture, Picture::Pixels(most));
    }
}

mod two_things_at_once {
    use super::{REAL_FILES, is_shown, is_taken, look, of};

    const PNG: &[u8] = include_bytes!("../heads/sample.png");
    const ZIP: &[u8] = include_bytes!("../heads/sample.zip");
    const PDF: &[u8] = include_bytes!("../heads/sample.pdf");

    #[test]
    fn are_never_shown() {
        let hidden: [&[u8]; 9] = [
            b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'>",
            b"<script>alert(1)</script>",
            b"<ScRiPt src=//a.b>",
            b"<!DOCTYPE html><p>",
            b"<html\n>",
            b"<?php system($_GET['c']); ?>",
            b"<iframe src='javascript:alert(1)'>",
            ZIP,
            b"Rar!\x1A\x07\x01\0",
        ];
        for (own, file) in REAL_FILES {
            if !of(own).is_inline_safe() {
                continue;
            }
            for hidden in hidden {
                assert!(
                    !is_shown(own, &[file, hidden].concat()),
                    "{own}: {hidden:?}"
                );
                // Behind more than is read at first.
                let far = [file, &vec![0; 700_000], hidden].concat();
                assert!(!is_shown(own, &far), "{own}: {hidden:?}");
                assert!(is_taken(own, &far), "{own}: {hidden:?}");
            }
        }
        assert!(!is_shown("png", &[PNG, PDF].concat()));
    }

    #[test]
    fn scripts_with_a_comment_for_a_header_are_not_shown() {
        let heads: [(&str, &[u8]); 4] = [
            ("gif", b"GIF89a/*\x01\x00\x01\x00\x00*/=1;alert(1)//;"),
            (
                "bmp",
                b"BM/*\0\0\0\0\0\0\0\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0*/=1",
            ),
            ("jpg", b"\xFF\xD8\xFF\xE0\x2F\x2A\0\0"),
            ("wav", b"RIFF/*\0\0WAVE*/=1"),
        ];
        for (extension, head) in heads {
            assert!(!is_shown(extension, head), "{extension}");
        }
    }

    #[test]
    fn a_pdf_behind_other_bytes_is_taken_and_not_shown() {
        let starts: [&[u8]; 4] = [
            b"\r\n",
            b"\xEF\xBB\xBF",
            b"HTTP/1.1 200 OK\r\n\r\n",
            &[0; 900],
        ];
        let pdf = [PDF, b"\x80\x81\0"].concat();
        assert!(is_shown("pdf", PDF));
        for start in starts {
            let file = [start, &pdf].concat();
            assert_eq!(look("pdf", &file).kind, Some("application/pdf"));
            assert!(!is_shown("pdf", &file));
        }
        assert!(!is_taken(
            "pdf",
            b"<html>%PDF-1.4 <script>alert(1)</script>"
        ));
    }

    #[test]
    fn sound_behind_other_bytes_is_taken_and_not_shown() {
        // Frames of 417 bytes: MPEG-1 layer III, 128 kbit/s, 44.1 kHz.
        let frame = [&b"\xFF\xFB\x90\x64"[..], &[0; 413]].concat();
        let sound = frame.repeat(5);
        assert!(is_shown("mp3", &sound));
        let cut = [&[0; 99][..], &sound].concat();
        assert!(is_taken("mp3", &cut));
        assert!(!is_shown("mp3", &cut));
    }
}

/// What formats begin with whose further bytes are followed.
const HEADS: [(&str, &[u8]); 14] = [
    ("txt", b""),
    ("docx", b"PK\x03\x04"),
    (
        "odt",
        b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x08\0\x04\0mimetype",
    ),
    ("heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
    (
        "avif",
        b"\0\0\0\x14ftypavif\0\0\0\0avif\0\0\0\x64meta\0\0\0\0\0\0\0\x50iprp",
    ),
    ("mov", b"\0\0\0\x10free"),
    ("wav", b"RIFF"),
    ("webp", b"RIFF\0\0\0\0WEBPVP8"),
    ("pdf", b"%PDF"),
    ("mp3", b"ID3\x04\0\0"),
    ("jpg", b"\xFF\xD8\xFF"),
    ("tif", b"II*\0"),
    ("tif", b"MM\0+"),
    ("webm", b"\x1a\x45\xdf\xa3"),
];

proptest! {
    #[test]
    fn looking_never_panics_and_ends(
        which in 0..HEADS.len(), bytes in proptest::collection::vec(any::<u8>(), 0..600),
        // A file that may be longer than its bytes, wherever the format points.
        size in prop_oneof![0..700_u64, 0..(4_u64 << 20), any::<u64>()],
    ) {
        let (extension, head) = HEADS[which];
        let bytes = [head, &bytes].concat();
        let _ = sniff(&bytes);
        let _ = inspect(of(extension), &Sparse { size, parts: vec![(0, bytes)] });
    }

    #[test]
    fn cutting_and_bending_a_real_file_never_panics(
        which in 0..REAL_FILES.len(), cut in 0..2_048_usize,
        changes in prop::collection::vec((0_usize..700, any::<u8>()), 0..8),
    ) {
        let (own, bytes) = REAL_FILES[which];
        let mut bytes = bytes.to_vec();
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) { *place = byte; }
        }
        bytes.truncate(cut);
        let _ = look(own, &bytes);
    }

    /// A store that gives more at once than it was asked for changes nothing.
    #[test]
    fn what_is_found_does_not_depend_on_how_it_is_read(
        which in 0..REAL_FILES.len(), behind in 0..400_000_usize, more in 0..100_000_usize,
    ) {
        let (own, bytes) = REAL_FILES[which];
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len() + behind, 0);
        let file = Sparse { size: bytes.len() as u64, parts: vec![(0, bytes)] };
        let expected = inspect(of(own), &file).0;
        let mut inspection = Inspection::new(of(own), file.size);
        let found = loop {
            match inspection.step() {
                Next::Found(finding) => break finding,
                Next::Read(piece) => {
                    let read = Piece { length: piece.length + more, ..piece };
                    inspection.add(piece, file.read(read));
                }
            }
        };
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn only_the_first_bytes_tell_of_a_text(tail in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut bytes = vec![b'a'; first_piece(of("txt")).length];
        bytes.extend(tail);
        prop_assert_eq!(sniff(&bytes), Some("text/plain"));
    }

    #[test]
    fn every_text_passes_and_none_is_shown(text in "\\PC{0,200}") {
        for extension in ["txt", "csv", "md", "json"] {
            let is_pdf = text.trim_start().starts_with("%PDF-");
            prop_assert!(is_pdf || is_taken(extension, text.as_bytes()));
            prop_assert!(!is_shown(extension, text.as_bytes()));
        }
    }
}
