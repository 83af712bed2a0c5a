//! JSON that every reader takes for the same thing, PostgreSQL's `jsonb` among them.

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use std::fmt;

/// The largest power of ten, up or down, that a number may be written with. Every number that a double holds can be
/// written so, and `numeric` takes whatever fits into a token.
const MAX_EXPONENT: u32 = 400;

/// Reads JSON of which every reader makes the same, and which `jsonb` takes: no name stands twice in an object (readers
/// take the first or the last), no text has a NUL or half of a surrogate pair, no number is out of reach, and nothing is
/// nested deeper than `serde_json` goes.
pub(super) fn read(text: &str) -> Option<Value> {
    serde_json::from_str::<Sound>(text).ok()?;
    if !exponents_are_small(text) {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// Any JSON value, looked at and forgotten.
struct Sound;

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Walk)
    }
}

struct Walk;

impl<'de> Visitor<'de> for Walk {
    type Value = Sound;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Sound, E> {
        if text.contains('\0') {
            return Err(E::custom("a text has a NUL"));
        }
        Ok(Sound)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Sound, A::Error> {
        while items.next_element::<Sound>()?.is_some() {}
        Ok(Sound)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Sound, A::Error> {
        // Few, for a token is short.
        let mut names: Vec<String> = Vec::new();
        while let Some(name) = members.next_key::<String>()? {
            if name.contains('\0') || names.contains(&name) {
                return Err(A::Error::custom("a name stands twice, or has a NUL"));
            }
            names.push(name);
            members.next_value::<Sound>()?;
        }
        Ok(Sound)
    }
}

/// Looks at the numbers of well-formed JSON as they are written: `serde_json` makes 0 of `1e-200000`, which `numeric` does
/// not take.
fn exponents_are_small(json: &str) -> bool {
    // What stands between quotes, but for those that are escaped, is text.
    let unescaped = json.replace("\\\\", "").replace("\\\"", "");
    unescaped.split('"').enumerate().all(|(place, part)| {
        let is_text = place % 2 == 1;
        is_text || part.split([',', ':', '[', ']', '{', '}']).all(is_small)
    })
}

/// Whether a number has a small exponent. A word has none.
fn is_small(value: &str) -> bool {
    let value = value.trim();
    if !value.ends_with(|last: char| last.is_ascii_digit()) {
        return true;
    }
    value.split_once(['e', 'E']).is_none_or(|(_, exponent)| {
        exponent
            .trim_start_matches(['+', '-'])
            .parse::<u32>()
            .is_ok_and(|exponent| exponent <= MAX_EXPONENT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn is_sound(text: &str) -> bool {
        read(text).is_some()
    }

    #[test]
    fn takes_what_everybody_reads_alike() {
        for text in [
            r#"{"a":{"a":[{"a":1},{"a":2}]},"b":"a"}"#,
            // The six characters, and no NUL.
            r#"{"path":"C:\\u0000\\","e":"1e-200000","\"":"\"1e9999\""}"#,
            r#"[0, -0, 0.0, 1e308, -1e308, 5e-324, 1E+2, 12345678901234567890123, true, false, null]"#,
            r#"{"surrogates":"\ud83d\ude00","emoji":"😀"}"#,
            &format!("{}1{}", "[".repeat(100), "]".repeat(100)),
        ] {
            assert!(is_sound(text), "{text}");
        }
    }

    #[test]
    fn refuses_what_somebody_reads_otherwise_or_not_at_all() {
        for text in [
            "",
            "{",
            "{} x",
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"{"b":[{"a":{"c":1,"c":2}}]}"#,
            r#"{"a":"\u0000"}"#,
            r#"{"a":"x\\\u0000"}"#,
            r#"{"a\u0000":1}"#,
            r#"[["\u0000"]]"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\udc00\ud800"}"#,
            r#"{"\ud800":1}"#,
            "[1e999]",
            "[1e-200000]",
            r#"{"a":"\\","b":1e-200000}"#,
            r#"{"a":"\\\"","b":-0.0E-99999999999}"#,
            "[0e200000]",
            "[01]",
            "[+1]",
            "[.5]",
            "[NaN]",
            "[Infinity]",
            &format!("{}1{}", "[".repeat(200), "]".repeat(200)),
            &"{\"a\":".repeat(2000),
        ] {
            assert!(!is_sound(text), "{text}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(|number| json!(number)),
            "[\\PC\\\\\"\u{0}]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[\\PC\\\\\"\u{0}]{0,4}", inner, 0..4)
                    .prop_map(Value::from_iter),
            ]
        })
    }

    fn has_nul(value: &Value) -> bool {
        match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(items) => items.iter().any(has_nul),
            Value::Object(members) => members
                .iter()
                .any(|(name, value)| name.contains('\0') || has_nul(value)),
            _ => false,
        }
    }

    proptest! {
        /// A NUL is the one thing in a value that makes it unsound, wherever it is.
        #[test]
        fn a_value_is_sound_unless_it_has_a_nul(value in any_json()) {
            prop_assert_eq!(is_sound(&value.to_string()), !has_nul(&value));
        }

        #[test]
        fn no_text_breaks_it(text in "[\\[\\]{},:\"\\\\0-9eE+.u-]{0,40}") {
            is_sound(&text);
        }
    }
}
