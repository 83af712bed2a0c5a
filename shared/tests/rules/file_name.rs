use FileNameError::{
    BidiCharacter, ControlCharacter, DeviceName, Dots, Empty, InvisibleCharacter, LeadingDot,
    LeadingSpace, LineSeparator, PathSeparator, TooLong, TrailingSpaceOrDot,
};
use keepsake_shared::{FileName, FileNameError, file_name::MAX_FILE_NAME_BYTES};
use proptest::prelude::*;

fn refusal(name: &str) -> Option<FileNameError> {
    FileName::parse(name).err()
}

fn repaired(name: &str) -> String {
    FileName::sanitize(name).as_str().into()
}

#[test]
fn names_of_many_languages_are_taken() {
    for name in [
        "a",
        "photo.jpg",
        "Übersicht – Größe (1).pdf",
        "отчёт.docx",
        "報告書.xlsx",
        "تقرير.pdf",
        "रिपोर्ट.txt",
        "a.tar.gz",
        "Screenshot 2026-09-01 at 9.41.00\u{202F}AM.png",
        "100% \"sure\" <it's> #1?.txt",
        "console.txt",
        "com.example.txt",
        "COM10.txt",
        "COM0",
        "nul-and-void.txt",
        "❤\u{FE0F}.png",
        // Persian "I want", whose two parts a zero-width non-joiner keeps apart.
        "می\u{200C}خواهم.pdf",
        // A family, joined of three people.
        "👨\u{200D}👩\u{200D}👧.png",
    ] {
        assert_eq!(FileName::parse(name).unwrap().as_str(), name);
    }
}

#[test]
fn names_are_put_in_nfc() {
    let name = FileName::parse("re\u{301}sume\u{301}.PDF").unwrap();
    assert_eq!(name.as_str(), "r\u{e9}sum\u{e9}.PDF");
    assert_eq!(name.extension(), Some("pdf"));
}

#[test]
fn every_reason_to_refuse() {
    for (name, reason) in [
        ("", Empty),
        ("a\0.png", ControlCharacter),
        ("a\r\n.png", ControlCharacter),
        ("a\u{1b}[31m.png", ControlCharacter),
        ("a\u{7f}.png", ControlCharacter),
        ("a\u{85}.png", ControlCharacter),
        ("a\u{9b}.png", ControlCharacter),
        ("photo\u{202e}gnp.exe", BidiCharacter),
        ("a\u{200e}.png", BidiCharacter),
        ("a\u{200f}.png", BidiCharacter),
        ("a\u{61c}.png", BidiCharacter),
        ("a\u{202a}.png", BidiCharacter),
        ("a\u{2066}.png", BidiCharacter),
        ("a\u{2069}.png", BidiCharacter),
        ("a\u{2028}.png", LineSeparator),
        ("a\u{2029}.png", LineSeparator),
        ("\u{feff}a.png", InvisibleCharacter),
        ("a\u{200b}.png", InvisibleCharacter),
        ("a\u{2060}.png", InvisibleCharacter),
        ("a\u{ad}.png", InvisibleCharacter),
        ("a\u{3164}.png", InvisibleCharacter),
        ("a\u{e0041}.png", InvisibleCharacter),
        ("a\u{ffff}.png", InvisibleCharacter),
        // Joiners with nothing to join.
        ("pay\u{200d}pal.png", InvisibleCharacter),
        ("\u{200c}خ.png", InvisibleCharacter),
        ("خ\u{200c}.png", InvisibleCharacter),
        ("خ\u{200c}\u{200d}خ.png", InvisibleCharacter),
        ("../../etc/passwd", PathSeparator),
        ("a/b.png", PathSeparator),
        ("C:\\a.png", PathSeparator),
        (".", Dots),
        ("..", Dots),
        ("...", Dots),
        (".htaccess", LeadingDot),
        ("..a", LeadingDot),
        (" a.png", LeadingSpace),
        ("\u{a0}a.png", LeadingSpace),
        ("\u{3000}a.png", LeadingSpace),
        ("a.png ", TrailingSpaceOrDot),
        ("a.png.", TrailingSpaceOrDot),
        ("a.png\u{2003}", TrailingSpaceOrDot),
        ("CON", DeviceName),
        ("con.txt", DeviceName),
        ("Nul.tar.gz", DeviceName),
        ("aux .txt", DeviceName),
        ("PRN", DeviceName),
        ("COM1", DeviceName),
        ("lpt9.png", DeviceName),
        ("COM¹.txt", DeviceName),
        ("LPT³", DeviceName),
        ("CONIN$", DeviceName),
    ] {
        assert_eq!(refusal(name), Some(reason), "{name:?}");
    }
}

#[test]
fn the_limit_counts_bytes_after_nfc() {
    assert_eq!(refusal(&"a".repeat(255)), None);
    assert_eq!(refusal(&"a".repeat(256)), Some(TooLong));
    assert_eq!(refusal(&"é".repeat(127)), None);
    assert_eq!(refusal(&"é".repeat(128)), Some(TooLong));
    // 127 letters each followed by a combining accent: 381 bytes that become 254.
    assert_eq!(refusal(&"e\u{301}".repeat(127)), None);
}

#[test]
fn codes_are_distinct_and_say_what_they_are_about() {
    let reasons = [
        Empty,
        TooLong,
        ControlCharacter,
        BidiCharacter,
        LineSeparator,
        InvisibleCharacter,
        PathSeparator,
        Dots,
        LeadingDot,
        LeadingSpace,
        TrailingSpaceOrDot,
        DeviceName,
    ];
    let mut codes = reasons.map(FileNameError::code);
    assert!(codes.iter().all(|code| code.starts_with("file_name_")));
    codes.sort_unstable();
    assert!(codes.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn extensions() {
    let extension = |name| {
        FileName::parse(name)
            .unwrap()
            .extension()
            .map(str::to_owned)
    };
    assert_eq!(extension("a.PNG").as_deref(), Some("png"));
    assert_eq!(extension("a.tar.gz").as_deref(), Some("gz"));
    assert_eq!(extension("photo.jpg.exe").as_deref(), Some("exe"));
    assert_eq!(extension("README"), None);
    // The Kelvin sign becomes an ordinary letter in NFC, and so is no way around the table.
    assert_eq!(extension("a.m\u{212a}v").as_deref(), Some("mkv"));
}

#[test]
fn repairs() {
    for (name, repair) in [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\fakepath\\Photo 1.JPG", "Photo 1.JPG"),
        ("photo\u{202e}gnp.exe", "photognp.exe"),
        ("a\0b\r\nc.txt", "abc.txt"),
        (" .hidden. ", "hidden"),
        ("folder/", "folder"),
        ("a/..", "a"),
        ("con.txt", "_con.txt"),
        (".con", "_con"),
        ("pay\u{200d}pal.png", "paypal.png"),
        ("\u{3000}\u{200c}خ.png", "خ.png"),
        ("می\u{200C}خواهم\u{200b}.pdf", "می\u{200C}خواهم.pdf"),
        ("", "file"),
        ("///", "file"),
        ("\u{feff}", "file"),
        (". . .", "file"),
    ] {
        assert_eq!(repaired(name), repair, "{name:?}");
    }
}

/// England and Scotland (Unicode TS 51, C.1).
const FLAGS: [&str; 2] = [
    "\u{1F3F4}\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}",
    "\u{1F3F4}\u{E0067}\u{E0062}\u{E0073}\u{E0063}\u{E0074}\u{E007F}",
];

#[test]
fn flags_made_of_tags_are_kept_and_other_tags_are_not() {
    for flag in FLAGS {
        let name = format!("Holiday {flag} 2026.jpg");
        assert_eq!(refusal(&name), None);
        assert_eq!(repaired(&name), name);
        let cut = &flag[..flag.len() - 4];
        for wrong in [
            format!("{cut}.jpg"),
            format!("{}.jpg", &flag[4..]),
            format!("a{}.jpg", &flag[4..]),
            format!("{flag}\u{E0061}.jpg"),
            "\u{1F3F4}\u{E007F}.jpg".into(),
            "\u{1F3F4}\u{E0041}\u{E007F}.jpg".into(),
        ] {
            assert_eq!(refusal(&wrong), Some(InvisibleCharacter));
            assert!(refusal(&repaired(&wrong)).is_none(), "{wrong:?}");
            assert!(repaired(&wrong).ends_with(".jpg"), "{wrong:?}");
        }
        // One that would be cut by the limit goes whole.
        for letters in 225..255 {
            let long = format!("{}{flag}{flag}.jpg", "a".repeat(letters));
            assert!(refusal(&repaired(&long)).is_none(), "{letters}");
            assert!(repaired(&long).ends_with(".jpg"));
        }
    }
}

#[test]
fn a_name_whose_stem_cannot_be_seen_keeps_its_extension() {
    assert_eq!(repaired("\u{200e}.pdf"), "file.pdf");
    assert_eq!(repaired(".PDF"), "file.PDF");
    assert_eq!(repaired(".htaccess"), "htaccess");
}

#[test]
fn names_are_numbered_before_their_extension() {
    let numbered = |name: &str| FileName::parse(name).unwrap().numbered(2);
    assert_eq!(numbered("image.jpg").as_str(), "image (2).jpg");
    assert_eq!(numbered("README").as_str(), "README (2)");
    assert_eq!(numbered("a.tar.gz").as_str(), "a.tar (2).gz");
    let long = format!("{}.jpg", "é".repeat(125));
    let name = numbered(&long);
    assert!(name.as_str().ends_with("é (2).jpg"));
    assert!(name.as_str().len() <= 255);
}

#[test]
fn a_long_name_keeps_its_extension() {
    let repair = repaired(&format!("{}.jpeg", "é".repeat(300)));
    assert!(repair.ends_with("é.jpeg"));
    assert!(repair.len() > MAX_FILE_NAME_BYTES - 2 && repair.len() <= MAX_FILE_NAME_BYTES);
    // Cutting must not make a device's name.
    let spaces = " ".repeat(300);
    assert_eq!(repaired(&format!("con{spaces}x.png")), "_con.png");
    let device = repaired(&format!("con.{}", "x".repeat(251)));
    assert!(device.starts_with("_con.xxx") && device.len() <= MAX_FILE_NAME_BYTES);
    // What follows the dot here is no extension but most of the name.
    let repair = repaired(&format!("a.{}", "b".repeat(300)));
    assert_eq!(repair.len(), MAX_FILE_NAME_BYTES);
}

#[test]
fn names_that_file_systems_hold_for_one() {
    let key = |name| FileName::parse(name).unwrap().comparison_key();
    assert_eq!(key("Photo.JPG"), key("photo.jpg"));
    assert_eq!(key("RÉSUMÉ.pdf"), key("re\u{301}sume\u{301}.PDF"));
    assert_ne!(key("a.png"), key("b.png"));
}

/// Characters that matter to the rules, close together, and any others among them.
fn hostile_name() -> impl Strategy<Value = String> {
    let telling = prop::sample::select(vec![
        '.', ' ', '/', '\\', '\0', '\n', '\u{7f}', '\u{85}', '\u{a0}', '\u{200b}', '\u{200c}',
        '\u{200d}', '\u{200e}', '\u{202e}', '\u{2028}', '\u{feff}', '\u{301}', '\u{300}', 'e', 'é',
        'خ', '👩', '\u{fe0f}', 'C', 'O', 'N', 'c', 'm', '1', '¹', '\u{1100}', '\u{1161}', '_',
    ]);
    let character = prop_oneof![4 => telling, 1 => any::<char>()];
    prop_oneof![
        proptest::collection::vec(character.clone(), 0..12),
        proptest::collection::vec(character, 200..300),
    ]
    .prop_map(|characters| characters.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_taken_name_is_taken_again_as_it_is(name in hostile_name()) {
        if let Ok(name) = FileName::parse(&name) {
            prop_assert_eq!(FileName::parse(name.as_str()), Ok(name));
        }
    }

    #[test]
    fn a_taken_name_is_safe(name in hostile_name()) {
        if let Ok(name) = FileName::parse(&name) {
            let name = name.as_str();
            prop_assert!((1..=255).contains(&name.len()));
            prop_assert!(!name.chars().any(char::is_control));
            let hidden = ['/', '\\', '\u{202e}', '\u{200b}', '\u{2028}', '\u{feff}'];
            prop_assert!(!name.contains(hidden), "{:?}", name);
            prop_assert_eq!(name.trim(), name);
            prop_assert!(!name.starts_with('.') && !name.ends_with('.'));
        }
    }

    #[test]
    fn a_repaired_name_is_taken_and_is_repaired_to_itself(name in hostile_name()) {
        let repair = FileName::sanitize(&name);
        prop_assert_eq!(FileName::parse(repair.as_str()), Ok(repair.clone()));
        prop_assert_eq!(FileName::sanitize(repair.as_str()), repair);
    }

    #[test]
    fn repair_changes_no_name_that_is_taken(name in hostile_name()) {
        if let Ok(taken) = FileName::parse(&name) {
            prop_assert_eq!(FileName::sanitize(&name), taken);
        }
    }

    #[test]
    fn repair_falls_back_only_when_nothing_is_left(stem in "[a-z]{1,8}", wrap in "[./ \u{202e}\u{200b}]{0,3}") {
        let repair = FileName::sanitize(&format!("{wrap}{stem}-x.png{wrap}"));
        prop_assert_eq!(repair.as_str(), format!("{stem}-x.png"));
    }
}
