//! Byte ranges of a download, RFC 9110 §14.

/// What a `Range` header asks of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByteRange {
    /// All of it: no range, or one that may be passed over.
    Whole,
    /// `length` bytes from `offset`; never empty, never past the end.
    Part {
        /// First byte.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// A well-formed range that the object does not reach: 416.
    Unsatisfiable,
}

impl ByteRange {
    /// Reads a `Range` header for an object of `size` bytes.
    ///
    /// A header that is not one single byte range counts as absent, as §14.2 allows: another unit,
    /// several ranges, or broken syntax.
    pub(crate) fn parse(header: Option<&str>, size: u64) -> Self {
        let Some((first, last)) = header
            .and_then(|text| text.trim().strip_prefix("bytes="))
            .and_then(|spec| spec.trim().split_once('-'))
        else {
            return Self::Whole;
        };
        match (position(first), position(last)) {
            (Some(Some(first)), Some(last)) => Self::between(first, last, size),
            (Some(None), Some(Some(suffix))) => Self::suffix(suffix, size),
            _ => Self::Whole,
        }
    }

    fn between(first: u64, last: Option<u64>, size: u64) -> Self {
        let last = last.unwrap_or(u64::MAX);
        if last < first {
            Self::Whole
        } else if first >= size {
            Self::Unsatisfiable
        } else {
            Self::Part {
                offset: first,
                length: last.min(size - 1) - first + 1,
            }
        }
    }

    fn suffix(suffix: u64, size: u64) -> Self {
        let length = suffix.min(size);
        if length == 0 {
            Self::Unsatisfiable
        } else {
            Self::Part {
                offset: size - length,
                length,
            }
        }
    }
}

/// `Some(None)` for an empty position, `None` for one that is not a number.
fn position(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        Some(None)
    } else if text.bytes().all(|b| b.is_ascii_digit()) {
        Some(Some(text.parse().unwrap_or(u64::MAX)))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{ByteRange, ByteRange::*};

    fn part(offset: u64, length: u64) -> ByteRange {
        Part { offset, length }
    }

    #[test]
    fn reads_every_form() {
        for (header, want) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-", part(0, 10)),
            ("bytes=3-5", part(3, 3)),
            ("bytes=9-99", part(9, 1)),
            ("bytes=-3", part(7, 3)),
            ("bytes=-99", part(0, 10)),
            ("bytes=2-99999999999999999999999", part(2, 8)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=5-3", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=0-1,3-4", Whole),
            ("items=0-1", Whole),
            ("bytes 0-1", Whole),
            ("", Whole),
        ] {
            assert_eq!(ByteRange::parse(Some(header), 10), want, "{header}");
        }
        assert_eq!(ByteRange::parse(None, 10), Whole);
        assert_eq!(ByteRange::parse(Some("bytes=0-"), 0), Unsatisfiable);
    }
}
