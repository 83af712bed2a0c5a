//! TLS of connections to others.

use std::error::Error;
use std::io;

use rustls::{CertificateError, ClientConfig, RootCertStore};

/// The certificate and the name are checked, by the roots of the system or those of `SSL_CERT_FILE`.
///
/// # Errors
/// There are none.
pub(crate) fn config() -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("the system has no root certificates: install ca-certificates".to_owned());
    }
    Ok(ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// What to do about a certificate that was refused, for the causes that other programs let pass.
pub(crate) fn hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    match refused_certificate(error)? {
        // OpenSSL lets an authority be a server, and `openssl req -x509` makes one.
        CertificateError::Other(_) => Some(
            "If the server's certificate is that of an authority, make one for the server: openssl req \
             -x509 -addext basicConstraints=critical,CA:FALSE …",
        ),
        CertificateError::UnknownIssuer => Some(
            "Nobody trusted vouches for the server's certificate. Name the file of who does in \
             SSL_CERT_FILE.",
        ),
        _ => None,
    }
}

/// The driver hides the cause in an error of input and output.
fn refused_certificate<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CertificateError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(reason)) = error.downcast_ref() {
            return Some(reason);
        }
        next = match error.downcast_ref::<io::Error>() {
            Some(error) => error.get_ref().map(|inner| inner as _),
            None => error.source(),
        };
    }
    None
}
