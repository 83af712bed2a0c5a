//! Serde for whole numbers as JSON Schema has them: `7.0` is one, and is 7.

use core::{fmt, marker::PhantomData};

use serde::{
    Deserializer,
    de::{Error, Unexpected, Visitor},
};

/// From here on a double leaves whole numbers out, so that one cannot tell which was meant.
const END_OF_EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads a whole number, with a fraction of nothing or without one; for `#[serde(deserialize_with = "…")]`.
///
/// # Errors
/// Another number, one that `T` does not hold, or something else.
pub fn whole_number<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64>,
{
    deserializer.deserialize_any(WholeNumber(PhantomData))
}

struct WholeNumber<T>(PhantomData<T>);

impl<T: TryFrom<i64>> Visitor<'_> for WholeNumber<T> {
    type Value = T;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a whole number that is not too large")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::try_from(number).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        i64::try_from(number)
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        let whole = number as i64;
        let is_exact = -END_OF_EXACT < number && number < END_OF_EXACT && whole as f64 == number;
        if is_exact {
            self.visit_i64(whole)
        } else {
            Err(E::invalid_value(Unexpected::Float(number), &self))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::whole_number;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Wanted {
        #[serde(deserialize_with = "whole_number")]
        number: u16,
    }

    #[test]
    fn takes_a_whole_number_however_it_is_written() {
        for text in ["7", "7.0", "70e-1", "0.7E1"] {
            let json = alloc::format!("{{\"number\":{text}}}");
            let read: Wanted = serde_json::from_str(&json).unwrap();
            assert_eq!(read, Wanted { number: 7 }, "{text}");
        }
        for text in [
            "7.5",
            "-1",
            "-1.0",
            "65536",
            "65536.0",
            "1e300",
            "18446744073709551615",
            "9007199254740993.0",
            "\"7\"",
            "null",
            "true",
            "[7]",
            "{}",
        ] {
            let json = alloc::format!("{{\"number\":{text}}}");
            assert!(serde_json::from_str::<Wanted>(&json).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Wanted>("{}").is_err());
    }
}
