//! The words of a file name, as a search finds them: whole, by their beginnings, or with a typing error.
//!
//! An index holds the terms of each name: the trigrams of its words, each from the word's beginning. Natively only: the database has the index.

use crate::{FileName, Sha256Digest, TenantId};
use alloc::{collections::BTreeSet, format, string::String, vec::Vec};
use unicode_normalization::UnicodeNormalization;

/// Hexadecimal digits of the tenant's digest before each of its terms. They keep the terms of tenants apart in one index; whose a row is must be
/// asked besides.
const MARK_DIGITS: usize = 6;

/// The words of a folded text ([`FileName::comparison_key`]), without the marks of accents.
#[must_use]
pub fn words(folded: &str) -> Vec<String> {
    let plain: String = folded.nfkd().filter(|char| !is_accent(*char)).collect();
    let words = plain.split(separates).filter(|word| !word.is_empty());
    words.map(Into::into).collect()
}

/// The terms of a word: its trigrams, the first with two blanks before its first letter.
#[must_use]
pub fn terms(tenant: &TenantId, word: &str) -> Vec<String> {
    terms_with(&mark(tenant), word)
}

/// All terms of a file name, in order and each once.
#[must_use]
pub fn name_terms(tenant: &TenantId, name: &FileName) -> BTreeSet<String> {
    let mark = mark(tenant);
    let words = words(&name.comparison_key());
    words
        .iter()
        .flat_map(|word| terms_with(&mark, word))
        .collect()
}

fn terms_with(mark: &str, word: &str) -> Vec<String> {
    let letters: Vec<char> = [' ', ' '].into_iter().chain(word.chars()).collect();
    let trigrams = letters.windows(3).map(|trigram| trigram.iter().collect());
    trigrams
        .map(|trigram: String| format!("{mark}{trigram}"))
        .collect()
}

fn mark(tenant: &TenantId) -> String {
    let digest = Sha256Digest::of(tenant.as_str().as_bytes()).to_hex();
    digest.chars().take(MARK_DIGITS).collect()
}

/// The combining marks of Latin, Greek and Cyrillic accents.
const fn is_accent(char: char) -> bool {
    matches!(char, '\u{300}'..='\u{36f}')
}

/// Whatever is no letter, digit or mark in ASCII, in Latin-1 and in the blocks of punctuation.
const fn separates(char: char) -> bool {
    matches!(
        char,
        '\0'..='/' | ':'..='@' | '['..='`' | '{'..='\u{bf}' | '\u{2000}'..='\u{206f}' | '\u{3000}'..='\u{303f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tenant() -> TenantId {
        "acme".parse().unwrap()
    }

    #[test]
    fn words_have_no_punctuation_and_no_accents() {
        assert_eq!(
            words("r\u{e9}sum\u{e9} (final)_v2.pdf"),
            ["resume", "final", "v2", "pdf"]
        );
        assert_eq!(
            words("\u{fb01}le\u{2014}\u{65e5}\u{672c}\u{8a9e}\u{3000}x"),
            ["file", "\u{65e5}\u{672c}\u{8a9e}", "x"]
        );
        assert!(words(" .-_\u{2026}").is_empty());
    }

    #[test]
    fn terms_begin_with_the_tenants_mark() {
        // printf acme | sha256sum
        assert_eq!(mark(&tenant()), "822b33");
        assert_eq!(
            terms(&tenant(), "cat"),
            ["822b33  c", "822b33 ca", "822b33cat"]
        );
        assert!(terms(&tenant(), "").is_empty());
    }

    #[test]
    fn a_name_has_each_term_once() {
        let name = FileName::parse("Cat cat.PNG").unwrap();
        let all: Vec<_> = name_terms(&tenant(), &name).into_iter().collect();
        assert_eq!(
            all,
            [
                "822b33  c",
                "822b33  p",
                "822b33 ca",
                "822b33 pn",
                "822b33cat",
                "822b33png"
            ]
        );
    }

    proptest! {
        #[test]
        fn a_word_is_found_by_its_beginning(text in "\\PC{1,40}", letters in 1usize..8) {
            let name = FileName::sanitize(&text);
            let of_name = name_terms(&tenant(), &name);
            for word in words(&name.comparison_key()) {
                let beginning: String = word.chars().take(letters).collect();
                prop_assert!(terms(&tenant(), &beginning).iter().all(|term| of_name.contains(term)));
            }
        }
    }
}
