//! Step 1: the canonical request, the one spelling of a request that both sides hash.

use alloc::string::String;
use core::{fmt, ops::Range};

use super::{
    PresignParameters, Request, SigV4Error, SortedHeaders, encode::push_encoded_path,
    query::SortedQuery,
};

/// A canonical request: six parts, each ended by a line feed but the last.
///
/// ```text
/// method
/// path
/// query
/// name:value, one line a header
/// <empty line>
/// names of the headers
/// hash of the body
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct CanonicalRequest {
    text: String,
    path: Range<usize>,
    query: Range<usize>,
}

impl CanonicalRequest {
    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path as it was signed, and as it must stand in the URL.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(self.path.clone()).unwrap_or_default()
    }

    /// The query as it was signed, and as it must stand in the URL.
    #[must_use]
    pub fn query(&self) -> &str {
        self.text.get(self.query.clone()).unwrap_or_default()
    }
}

/// Shows nothing of the content, which may hold a session token.
impl fmt::Debug for CanonicalRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CanonicalRequest({} bytes)", self.text.len())
    }
}

/// Writes the canonical request, once, into one buffer. `parameters` are those of a presigned URL.
///
/// Source: AWS, "Create a signed AWS API request", step 1.
///
/// # Errors
/// [`SigV4Error::Method`], [`SigV4Error::QueryCharacter`] or [`SigV4Error::ReservedParameter`].
pub fn canonical_request(
    request: &Request<'_>,
    headers: &SortedHeaders<'_>,
    parameters: Option<&PresignParameters<'_>>,
) -> Result<CanonicalRequest, SigV4Error> {
    let is_method =
        |method: &str| !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    if !is_method(request.method) {
        return Err(SigV4Error::Method);
    }
    let sorted_query = SortedQuery::new(request.query)?;
    let target = &request.target;
    let mut text = String::with_capacity(
        request.method.len()
            + target.prefix.len()
            + target.path.len()
            + sorted_query.len_bytes()
            + headers.len_bytes()
            + parameters.map_or(0, PresignParameters::len_bytes)
            + 80,
    );
    text.push_str(request.method);
    text.push('\n');

    let path_start = text.len();
    text.push_str(target.prefix);
    push_encoded_path(&mut text, target.path);
    let path = path_start..text.len();
    text.push('\n');

    let query_start = text.len();
    sorted_query.push_around(&mut text, |query| {
        if let Some(parameters) = parameters {
            parameters.push(query, headers);
        }
    });
    let query = query_start..text.len();
    text.push('\n');

    headers.push_canonical(&mut text);
    text.push('\n');
    headers.push_names(&mut text, ";");
    text.push('\n');
    request.payload.write(|payload| text.push_str(payload));
    Ok(CanonicalRequest { text, path, query })
}
