//! Who may connect and what clients trust: the broker's certificate, the admin token, and the profile file
//! that lets clients of the same account connect without being told anything but the address.
//!
//! A loopback broker makes its own at first start (all files 0600); any other must be given both.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use millstream_protocol::Secret;
use millstream_transport::{ServerTls, tls};

use crate::config::{Config, HttpDoor};
use crate::data_dir::{DataDir, write_file};
use crate::error::StartError;

/// What the QUIC door needs.
pub(crate) struct Credentials {
    pub(crate) tls: ServerTls,
    /// The admin token.
    pub(crate) token: Secret,
    /// Absent when the operator did not name a CA.
    ca_pem: Option<String>,
}

/// Refuses an address that others could reach without both a certificate and a token of the operator's, and an HTTP
/// address that others could reach without the operator's word.
///
/// # Errors
/// [`StartError::Exposed`], [`StartError::HttpExposed`].
pub(crate) fn check_exposure(config: &Config) -> Result<(), StartError> {
    let guarded = config.tls.is_some() && config.token_file.is_some();
    if !config.quic.ip().is_loopback() && !guarded {
        return Err(StartError::Exposed { address: config.quic });
    }
    match config.http {
        HttpDoor::At(address) if !address.ip().is_loopback() && !config.http_remote => {
            Err(StartError::HttpExposed { address })
        }
        HttpDoor::At(_) | HttpDoor::Off => Ok(()),
    }
}

/// Loads the credentials, making those of a loopback broker at first start.
///
/// # Errors
/// A file that can't be read, written or used.
pub(crate) fn load(config: &Config, data_dir: &DataDir) -> Result<Credentials, StartError> {
    let token = match &config.token_file {
        Some(file) => read_token(file)?,
        None => own_token(&data_dir.token_file())?,
    };
    let (tls, ca_pem) = match &config.tls {
        Some(files) => {
            let chain = read(&files.cert)?;
            let tls = ServerTls::from_pem(&chain, &read(&files.key)?).map_err(|e| unusable(&files.cert, &e))?;
            (tls, files.ca.as_deref().map(read).transpose()?)
        }
        None => own_certificate(&data_dir.tls())?,
    };
    Ok(Credentials { tls, token, ca_pem })
}

fn own_certificate(folder: &Path) -> Result<(ServerTls, Option<String>), StartError> {
    let ca = folder.join(tls::CA_FILE);
    if !ca.exists() {
        tls::generate_dev(folder, &[]).map_err(|e| unusable(folder, &e))?;
    }
    let server = ServerTls::load(folder).map_err(|e| unusable(folder, &e))?;
    Ok((server, Some(read(&ca)?)))
}

fn own_token(file: &Path) -> Result<Secret, StartError> {
    if !file.exists() {
        let token = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
        write_file(file, token.as_bytes(), 0o600).map_err(|e| unusable(file, &e))?;
    }
    read_token(file)
}

fn read_token(file: &Path) -> Result<Secret, StartError> {
    let token = read(file)?.trim().to_owned();
    if token.len() < 16 {
        let reason = "the token must have at least 16 characters".to_owned();
        return Err(StartError::Credentials { file: file.to_owned(), reason });
    }
    Ok(Secret::from(token))
}

fn read(file: &Path) -> Result<String, StartError> {
    fs::read_to_string(file).map_err(|e| unusable(file, &e))
}

fn unusable(file: &Path, reason: &impl ToString) -> StartError {
    StartError::Credentials { file: file.to_owned(), reason: reason.to_string() }
}

/// Writes the client profile into the data folder and, when asked, the account's registry.
///
/// # Errors
/// The one in the data folder can't be written. The registry is a convenience: failing there is a warning.
pub(crate) fn write_profiles(
    config: &Config,
    data_dir: &DataDir,
    credentials: &Credentials,
    address: SocketAddr,
) -> Result<(), StartError> {
    let profile = profile_text(address, credentials);
    let file = data_dir.profile_file();
    let known = fs::read(&file).is_ok_and(|known| known == profile.as_bytes());
    match if known { Ok(()) } else { write_file(&file, profile.as_bytes(), 0o600) } {
        // A broker on a full disk is needed to make room on it.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            tracing::warn!(file = %file.display(), %error, "client profile not renewed; the address in it is old");
        }
        written => written.map_err(|e| unusable(&file, &e))?,
    }
    if !config.register_profile {
        return Ok(());
    }
    let Some(registry) = registry() else { return Ok(()) };
    let file = registry.join(format!("{}_{}.yaml", address.ip(), address.port()));
    let written = create_private(&registry).and_then(|()| write_file(&file, profile.as_bytes(), 0o600));
    if let Err(error) = written {
        tracing::warn!(file = %file.display(), %error, "client profile not registered; clients need --profile");
    }
    Ok(())
}

fn create_private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn profile_text(address: SocketAddr, credentials: &Credentials) -> String {
    let mut text = format!("server: \"{address}\"\n");
    if let Some(ca) = &credentials.ca_pem {
        text.push_str("ca: |\n");
        for line in ca.lines() {
            text.push_str("  ");
            text.push_str(line);
            text.push('\n');
        }
    }
    let token = credentials.token.expose().replace('\\', "\\\\").replace('"', "\\\"");
    text.push_str(&format!("token: \"{token}\"\n"));
    text
}

/// Where clients of this account look for profiles.
fn registry() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("MILLSTREAM_CONFIG_DIR")
        .or_else(|| set("XDG_CONFIG_HOME").map(|home| home.join("millstream")))
        .or_else(|| set("HOME").map(|home| home.join(".config/millstream")))?;
    Some(base.join("profiles"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exposed_address_needs_both_credentials() {
        let check = |quic: &str, guarded: bool, allowed: bool| {
            let file = || PathBuf::from("x");
            let tls = guarded.then(|| crate::config::TlsFiles { cert: file(), key: file(), ca: None });
            let config =
                Config { quic: quic.parse().unwrap(), tls, token_file: guarded.then(file), ..Config::default() };
            assert_eq!(check_exposure(&config).is_ok(), allowed, "{quic}");
        };
        check("127.0.0.1:9094", false, true);
        check("[::1]:0", false, true);
        check("0.0.0.0:9094", false, false);
        check("[::]:9094", false, false);
        check("0.0.0.0:9094", true, true);
    }

    #[test]
    fn an_exposed_http_address_needs_the_operators_word() {
        let check = |http: &str, http_remote: bool, allowed: bool| {
            let config = Config { http: http.parse().unwrap(), http_remote, ..Config::default() };
            assert_eq!(check_exposure(&config).is_ok(), allowed, "{http}");
        };
        check("off", false, true);
        check("127.0.0.1:9096", false, true);
        check("[::1]:0", false, true);
        check("0.0.0.0:9096", false, false);
        check("[::]:9096", false, false);
        check("192.0.2.1:9096", true, true);
    }
}
