//! Blocking TLS connections of the demo's clients.

use crate::demo::client::{ANSWER_TIMEOUT, Target};
use crate::demo::error::DemoError;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

pub(super) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Trusts exactly this certificate, as a root.
pub fn trust(certificate: CertificateDer<'static>) -> Result<Arc<ClientConfig>, DemoError> {
    let wrong = |error: rustls::Error| DemoError::Certificate(error.to_string());
    let mut roots = RootCertStore::empty();
    roots.add(certificate).map_err(wrong)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A connection with a finished handshake; its reads and writes time out after [`ANSWER_TIMEOUT`].
pub(super) fn connect(target: &Target, address: SocketAddr) -> io::Result<Tls> {
    let stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let name = ServerName::try_from(target.name.clone()).map_err(io::Error::other)?;
    let session = ClientConnection::new(Arc::clone(&target.trust), name).map_err(io::Error::other)?;
    let mut tls = StreamOwned::new(session, stream);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    Ok(tls)
}
