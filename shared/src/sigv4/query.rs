//! The canonical query: parameters encoded, then sorted by their encoded bytes.

use alloc::{string::String, vec::Vec};

use super::{SigV4Error, encode::percent_encode};

/// The names of the parameters that hold a presigned URL's authentication all begin so.
pub(super) const RESERVED_PREFIX: &str = "X-Amz-";

/// The canonical query of some parameters, not yet encoded.
///
/// # Errors
/// [`SigV4Error::QueryCharacter`] or [`SigV4Error::ReservedParameter`].
pub fn canonical_query(parameters: &[(&str, &str)]) -> Result<String, SigV4Error> {
    let sorted = SortedQuery::new(parameters)?;
    let mut query = String::with_capacity(sorted.len_bytes());
    sorted.push_around(&mut query, |_| {});
    Ok(query)
}

/// Encoded and sorted parameters. Without parameters it allocates nothing.
#[derive(Debug)]
pub(super) struct SortedQuery {
    /// Sorted by name, then value.
    parameters: Vec<(String, String)>,
}

impl SortedQuery {
    pub(super) fn new(parameters: &[(&str, &str)]) -> Result<Self, SigV4Error> {
        let mut sorted = Vec::with_capacity(parameters.len());
        for (name, value) in parameters {
            if name.starts_with(RESERVED_PREFIX) {
                return Err(SigV4Error::ReservedParameter);
            }
            if name.chars().chain(value.chars()).any(char::is_control) {
                return Err(SigV4Error::QueryCharacter);
            }
            sorted.push((percent_encode(name), percent_encode(value)));
        }
        sorted.sort_unstable();
        Ok(Self { parameters: sorted })
    }

    /// Appends the parameters, with those of the signature in their place among them: none of the
    /// others can lie between two of those, for their prefix is reserved.
    pub(super) fn push_around(
        &self,
        out: &mut String,
        push_signature_parameters: impl FnOnce(&mut QueryWriter<'_>),
    ) {
        let mut writer = QueryWriter {
            start: out.len(),
            out,
        };
        let middle = self
            .parameters
            .partition_point(|(name, _)| name.as_str() < RESERVED_PREFIX);
        let (before, after) = self.parameters.split_at(middle);
        for (name, value) in before {
            writer.push(name, value);
        }
        push_signature_parameters(&mut writer);
        for (name, value) in after {
            writer.push(name, value);
        }
    }

    pub(super) fn len_bytes(&self) -> usize {
        self.parameters
            .iter()
            .map(|(name, value)| name.len() + value.len() + 2)
            .sum()
    }
}

/// Writes encoded parameters with `&` between them.
pub(super) struct QueryWriter<'a> {
    out: &'a mut String,
    start: usize,
}

impl QueryWriter<'_> {
    /// Appends a parameter that is encoded already.
    #[inline]
    pub(super) fn push(&mut self, name: &str, encoded_value: &str) {
        self.push_with(name, |out| out.push_str(encoded_value));
    }

    /// Appends a parameter whose encoded value `push_value` appends.
    #[inline]
    pub(super) fn push_with(&mut self, name: &str, push_value: impl FnOnce(&mut String)) {
        if self.out.len() > self.start {
            self.out.push('&');
        }
        self.out.push_str(name);
        self.out.push('=');
        push_value(self.out);
    }
}
