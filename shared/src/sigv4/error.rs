//! What cannot be signed.

use crate::ErrorCode;

/// Why a request is not signed. No message holds a value from the request, for some are secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigV4Error {
    /// The endpoint is not `http://host[:port]` or `https://host[:port]`.
    #[error("the endpoint is not of the form https://host or https://host:port")]
    Endpoint,
    /// The bucket's name is not 3 to 63 lower-case letters, digits, `.` and `-`.
    #[error("the bucket's name is not 3 to 63 lower-case letters, digits, '.' and '-'")]
    BucketName,
    /// The key is empty or longer than 1,024 bytes.
    #[error("the key is empty or longer than 1024 bytes")]
    KeyLength,
    /// The key has an empty, `.` or `..` segment, which clients and stores rewrite differently.
    #[error("the key has an empty, '.' or '..' segment")]
    KeySegment,
    /// A generic path does not begin with `/`.
    #[error("the path does not begin with '/'")]
    Path,
    /// The method is not made of capital letters.
    #[error("the method is not made of capital letters")]
    Method,
    /// The access key id is empty or holds a space, `/` or something beside visible ASCII.
    #[error("the access key id is empty or holds a character that it cannot have")]
    AccessKeyId,
    /// The secret access key is empty.
    #[error("the secret access key is empty")]
    SecretAccessKey,
    /// The session token is empty or holds something beside visible ASCII.
    #[error("the session token is empty or holds a character that it cannot have")]
    SessionToken,
    /// The region or service is not made of letters, digits, `-` and `_`.
    #[error("the region or the service is not made of letters, digits, '-' and '_'")]
    Scope,
    /// There are more headers than [`MAX_HEADERS`](super::MAX_HEADERS).
    #[error("there are too many headers")]
    TooManyHeaders,
    /// A header's name is not made of ASCII letters, digits, `-` and `_`.
    #[error("the name of a header is not made of letters, digits, '-' and '_'")]
    HeaderName,
    /// A header's value holds a control character (CR, LF, NUL …) or something beside ASCII.
    #[error("the value of a header holds a control character or one beside ASCII")]
    HeaderValue,
    /// A header was given that signing itself sets.
    #[error("a header was given that signing itself sets")]
    ReservedHeader,
    /// A query parameter was given whose name begins with `X-Amz-`, as those that signing itself
    /// sets.
    #[error("a query parameter was given whose name begins with \"X-Amz-\"")]
    ReservedParameter,
    /// A query parameter holds a control character.
    #[error("a query parameter holds a control character")]
    QueryCharacter,
    /// The life of a URL is not 1 to 604,800 seconds.
    #[error("a signed URL lives for 1 to 604800 seconds")]
    Expires,
    /// The time has a year that cannot be written with four digits.
    #[error("the time is outside the years 0 to 9999")]
    Time,
}

impl SigV4Error {
    /// The stable code: a request that cannot be signed is a wrong setting or argument.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        ErrorCode::InvalidField
    }
}
