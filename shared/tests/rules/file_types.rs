use keepsake_shared::{FileName, FileTypes, MediaType};
use proptest::prelude::*;

use crate::content::of;

fn types(text: &str) -> FileTypes {
    text.parse().unwrap()
}

fn of_name(text: &str, name: &str) -> Option<&'static str> {
    let name = FileName::parse(name).unwrap();
    types(text).of_name(&name).map(MediaType::as_str)
}

#[test]
fn the_usual_types_are_changed_by_words() {
    assert_eq!(types(""), FileTypes::default());
    assert_eq!(of_name("", "a.zip"), None);
    assert_eq!(of_name("+zip", "a.ZIP"), Some("application/zip"));
    assert_eq!(of_name("+zip, -mov", "a.mov"), None);
    assert_eq!(of_name("-zip +zip", "a.zip"), Some("application/zip"));
    // A type goes with all its extensions.
    assert_eq!(of_name("-jpg", "a.jpeg"), None);
    assert_eq!(types("none").iter().count(), 0);
    let few: Vec<_> = types("none +pdf +png").iter().collect();
    assert_eq!(few, [of("png"), of("pdf")]);
}

#[test]
fn files_of_no_known_type_are_saved_where_they_are_allowed() {
    for name in ["README", "setup.exe", "page.html", "data.q3"] {
        assert_eq!(of_name("", name), None, "{name}");
        let media_type = of_name("+unknown", name);
        assert_eq!(media_type, Some("application/octet-stream"), "{name}");
    }
    // What is known and not allowed is not let in by that.
    assert_eq!(of_name("+unknown", "a.zip"), None);
    assert_eq!(of_name("-png +unknown", "a.png"), None);
    assert!(!MediaType::unknown().is_inline_safe());
    assert!(MediaType::unknown().accepts(None));
    assert!(MediaType::unknown().accepts(Some("image/png")));
}

#[test]
fn other_words_are_refused() {
    for text in [
        "zip", "+", "-", "+exe", "+.", "all", "+ZIP", "none+pdf", "+é", "é",
    ] {
        assert!(text.parse::<FileTypes>().is_err(), "{text}");
    }
}

#[test]
fn a_choice_is_written_by_what_differs() {
    for (text, written) in [
        ("", ""),
        ("+zip -zip +png", ""),
        ("+zip -jpeg +unknown", "-jpg +zip +unknown"),
        ("+.zip", "+zip"),
    ] {
        assert_eq!(types(text).to_string(), written);
    }
}

proptest! {
    #[test]
    fn a_written_choice_is_read_as_the_same(
        words in prop::collection::vec((any::<bool>(), 0..MediaType::all().count()), 0..20), none in any::<bool>(),
    ) {
        let mut text = String::from(if none { "none" } else { "" });
        for (is_in, index) in words {
            let extension = MediaType::all().nth(index).unwrap().extensions().first().copied().unwrap_or("unknown");
            text += &format!(" {}{extension}", if is_in { '+' } else { '-' });
        }
        let chosen = types(&text);
        prop_assert_eq!(types(&chosen.to_string()), chosen);
    }

    #[test]
    fn no_text_makes_it_stumble(text in "[-+ ,.a-z0-9é]{0,30}") {
        let _ = text.parse::<FileTypes>();
    }
}
