//! TLS 1.3 only, AES-128-GCM first, one provider (aws-lc-rs). Owns the development CA: made once, its
//! key thrown away after it signed the server's certificate, so nobody can sign another with it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use ::aws_lc_rs::hmac;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{Error, config};

/// The files of a server, inside its TLS folder.
pub const CA_FILE: &str = "ca.pem";
pub const CERTIFICATE_FILE: &str = "server.pem";
pub const KEY_FILE: &str = "server.key";

/// What every development certificate is good for.
const DEV_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A server's certificate chain and key.
#[derive(Clone)]
pub struct ServerTls {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

/// What a client trusts, and the name it expects in the server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// One or more certificates, PEM.
    pub ca_pem: String,
    /// A DNS name or an IP address.
    pub server_name: String,
}

/// Writes a new CA certificate, server certificate and server key (all 0600) into `dir`, which is
/// created if need be. The certificate is good for localhost, 127.0.0.1, ::1 and `names`.
///
/// # Errors
/// [`Error::Tls`] when a file can't be written or a name is not one.
pub fn generate_dev(dir: &Path, names: &[String]) -> Result<(), Error> {
    let generated = generate(names).map_err(|error| Error::Tls(format!("cannot make a certificate: {error}")))?;
    let write = |name: &str, text: &str| write_private(&dir.join(name), text);
    fs::create_dir_all(dir)
        .and_then(|()| write(KEY_FILE, &generated.key))
        .and_then(|()| write(CERTIFICATE_FILE, &generated.certificate))
        // Last: its presence says that the other two are complete.
        .and_then(|()| write(CA_FILE, &generated.ca))
        .map_err(|error| Error::Tls(format!("cannot write certificates to {}: {error}", dir.display())))
}

struct Generated {
    ca: String,
    certificate: String,
    key: String,
}

fn generate(names: &[String]) -> Result<Generated, rcgen::Error> {
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name.push(DnType::CommonName, "Millstream development CA");
    let ca_key = KeyPair::generate()?;
    let ca_certificate = ca.self_signed(&ca_key)?;

    let mut all: Vec<String> = DEV_NAMES.map(String::from).into();
    all.extend(names.iter().filter(|name| !DEV_NAMES.contains(&name.as_str())).cloned());
    let mut server = CertificateParams::new(all)?;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.distinguished_name.push(DnType::CommonName, "Millstream broker");
    server.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &Issuer::new(ca, ca_key))?;
    Ok(Generated { ca: ca_certificate.pem(), certificate: certificate.pem(), key: key.serialize_pem() })
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    // Removed first: the mode applies only to a file that is created.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

impl ServerTls {
    /// Reads the certificate chain and key that [`generate_dev`] or an operator put into `dir`.
    ///
    /// # Errors
    /// [`Error::Tls`] that names the file that is missing or not PEM.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).map_err(|error| Error::Tls(format!("cannot read {}: {error}", path.display())))
        };
        ServerTls::from_pem(&read(CERTIFICATE_FILE)?, &read(KEY_FILE)?)
    }

    /// # Errors
    /// [`Error::Tls`] when a text holds no certificate or no key.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, Error> {
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| Error::Tls(format!("server key: {error}")))?;
        Ok(ServerTls { chain: certificates("server certificate", chain)?, key: Arc::new(key) })
    }

    /// A secret for one purpose, the same in every process that serves with this key.
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.secret_der());
        let tag = hmac::sign(&key, purpose.as_bytes());
        tag.as_ref().try_into().expect("SHA-256 gives 32 bytes")
    }

    pub(crate) fn config(&self) -> Result<quinn::ServerConfig, Error> {
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls_error)?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(tls_error)?;
        tls.alpn_protocols = vec![config::ALPN.to_vec()];
        let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls)
            .map_err(|error| Error::Tls(format!("TLS set-up: {error}")))?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config::limit_server(&mut server);
        Ok(server)
    }
}

impl ClientTls {
    pub(crate) fn config(&self) -> Result<quinn::ClientConfig, Error> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in certificates("CA", &self.ca_pem)? {
            roots.add(certificate).map_err(tls_error)?;
        }
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls_error)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![config::ALPN.to_vec()];
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls)
            .map_err(|error| Error::Tls(format!("TLS set-up: {error}")))?;
        let mut client = quinn::ClientConfig::new(Arc::new(crypto));
        client.transport_config(config::client_transport());
        Ok(client)
    }
}

fn certificates(what: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Error::Tls(format!("{what}: no certificate found, expected PEM"))),
        Err(error) => Err(Error::Tls(format!("{what}: {error}"))),
    }
}

fn tls_error(error: rustls::Error) -> Error {
    Error::Tls(format!("TLS set-up: {error}"))
}

/// AES-128-GCM first: half the cost of ChaCha20 where the processor has AES, and ample.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![
        aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(provider)
}
