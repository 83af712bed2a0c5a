//! Where a request goes: endpoint, bucket and key.

use alloc::{format, string::String};

use super::SigV4Error;

/// The longest key, in bytes, of S3 and R2.
pub const MAX_KEY_BYTES: usize = 1024;

/// A store's address: `https://host` or `https://host:port`, and the same with `http`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    scheme: &'static str,
    /// The value of the `host` header: with the port, unless that is the scheme's own.
    host: String,
}

impl Endpoint {
    /// Reads an address. A `/` at its end is let pass; a path, query or user is not.
    ///
    /// # Errors
    /// [`SigV4Error::Endpoint`].
    pub fn parse(url: &str) -> Result<Self, SigV4Error> {
        let (scheme, own_port, rest) = if let Some(rest) = url.strip_prefix("https://") {
            ("https://", ":443", rest)
        } else if let Some(rest) = url.strip_prefix("http://") {
            ("http://", ":80", rest)
        } else {
            return Err(SigV4Error::Endpoint);
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if !is_authority(authority) {
            return Err(SigV4Error::Endpoint);
        }
        let host = authority.strip_suffix(own_port).unwrap_or(authority);
        Ok(Self {
            scheme,
            host: host.to_ascii_lowercase(),
        })
    }

    /// The value of the `host` header.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `https://` or `http://`.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// The target of a path that is given as it is, not yet encoded, and begins with `/`. For
    /// requests to services other than S3; S3's keys go through [`Bucket::object`], which is
    /// stricter.
    ///
    /// # Errors
    /// [`SigV4Error::Path`].
    pub fn path<'a>(&'a self, path: &'a str) -> Result<Target<'a>, SigV4Error> {
        if !path.starts_with('/') {
            return Err(SigV4Error::Path);
        }
        Ok(Target {
            endpoint: self,
            prefix: "",
            path,
        })
    }
}

fn is_authority(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port_is_right = port.is_none_or(|port| {
        port.parse::<u16>().is_ok_and(|number| number > 0) && !port.starts_with(['+', '0'])
    });
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_ipv6 = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let inner_ipv6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host_is_right = match inner_ipv6 {
        Some(inner) => inner.contains(':') && inner.bytes().all(is_ipv6),
        None => !host.is_empty() && host.bytes().all(is_name),
    };
    port_is_right && host_is_right
}

/// A bucket at an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    endpoint: Endpoint,
    name: String,
    /// What stands before a key in the path: `/` or `/bucket/`.
    prefix: String,
}

impl Bucket {
    /// A bucket named in the path: `https://host/bucket/key`, as R2 and local stores have it.
    ///
    /// # Errors
    /// [`SigV4Error::BucketName`].
    pub fn path_style(endpoint: Endpoint, name: &str) -> Result<Self, SigV4Error> {
        check_bucket_name(name)?;
        Ok(Self {
            endpoint,
            name: name.into(),
            prefix: format!("/{name}/"),
        })
    }

    /// A bucket named in the host: `https://bucket.host/key`, as S3 prefers it.
    ///
    /// # Errors
    /// [`SigV4Error::BucketName`]; [`SigV4Error::Endpoint`] when the host is an IPv6 address, which
    /// cannot have a name before it.
    pub fn virtual_hosted(endpoint: Endpoint, name: &str) -> Result<Self, SigV4Error> {
        check_bucket_name(name)?;
        if endpoint.host.starts_with('[') {
            return Err(SigV4Error::Endpoint);
        }
        Ok(Self {
            endpoint: Endpoint {
                scheme: endpoint.scheme,
                host: format!("{name}.{}", endpoint.host),
            },
            name: name.into(),
            prefix: "/".into(),
        })
    }

    /// The bucket's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bucket's own path: `/bucket/`, or `/` where its name stands in the host.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.prefix
    }

    /// The endpoint, in virtual-hosted style with the bucket before its host.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// An object of the bucket, its key given as it is, not yet encoded.
    ///
    /// # Errors
    /// [`SigV4Error::KeyLength`] or [`SigV4Error::KeySegment`].
    pub fn object<'a>(&'a self, key: &'a str) -> Result<Target<'a>, SigV4Error> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(SigV4Error::KeyLength);
        }
        if key
            .split('/')
            .any(|segment| matches!(segment, "" | "." | ".."))
        {
            return Err(SigV4Error::KeySegment);
        }
        Ok(Target {
            endpoint: &self.endpoint,
            prefix: &self.prefix,
            path: key,
        })
    }

    /// The bucket itself, for requests such as a listing.
    #[must_use]
    pub fn itself(&self) -> Target<'_> {
        Target {
            endpoint: &self.endpoint,
            // S3 takes `/bucket` and `/bucket/` alike.
            prefix: &self.prefix,
            path: "",
        }
    }
}

/// S3's rules for names, but for those that only S3 itself has.
fn check_bucket_name(name: &str) -> Result<(), SigV4Error> {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-')
    };
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let right = (3..=63).contains(&name.len())
        && name.bytes().all(allowed)
        && name.starts_with(ends)
        && name.ends_with(ends)
        && !name.contains("..");
    right.then_some(()).ok_or(SigV4Error::BucketName)
}

/// The address of one request, checked.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub(super) endpoint: &'a Endpoint,
    /// Encoded already.
    pub(super) prefix: &'a str,
    /// Not yet encoded.
    pub(super) path: &'a str,
}
