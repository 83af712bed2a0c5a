//! TLS of connections to others.

use rustls::{ClientConfig, RootCertStore};

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
