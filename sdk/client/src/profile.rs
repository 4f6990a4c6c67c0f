//! Where a client gets address, CA and token from when it is not told: the profile file that a broker
//! writes for its own account. `MILLSTREAM_PROFILE` names one; else they lie in a registry by address.

use std::path::{Path, PathBuf};

use millstream_protocol::Secret;
use serde::Deserialize;

use crate::Error;

/// Names a profile file that goes before the registry.
const PROFILE_VARIABLE: &str = "MILLSTREAM_PROFILE";
/// Where clients connect when nobody says.
pub(crate) const DEFAULT_SERVER: &str = "127.0.0.1:9094";

/// Contents of a profile file. Its token is a secret: `Debug` leaves it out.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    pub(crate) server: String,
    /// PEM.
    pub(crate) ca: String,
    pub(crate) token: String,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Profile {
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::Credentials(format!("cannot read profile {}: {error}", path.display())))?;
        serde_yaml::from_str(&text).map_err(|error| {
            // The parser's own words quote the file, and so the token.
            let place = error.location().map(|at| format!(", look at line {}", at.line())).unwrap_or_default();
            let expected = "expected `server`, `ca` and `token`, and nothing else";
            Error::Credentials(format!("profile {} is not usable: {expected}{place}", path.display()))
        })
    }

    /// The profile for `server`: the one `MILLSTREAM_PROFILE` names, else the registry's.
    pub(crate) fn find(server: Option<&str>) -> Result<Self, Error> {
        if let Some(path) = variable(PROFILE_VARIABLE) {
            return Profile::read(Path::new(&path));
        }
        let asked = server;
        let server = server.unwrap_or(DEFAULT_SERVER);
        let Some(registry) = registry() else {
            return Err(Error::Credentials(format!(
                "no credentials for {server}: this account has no home folder; set {PROFILE_VARIABLE} to a profile file"
            )));
        };
        match file_names(server).map(|name| registry.join(name)).find(|path| path.exists()) {
            Some(path) => Profile::read(&path),
            None => Profile::other(asked, &registry),
        }
    }

    /// Where there is no profile for the address that was asked for: the only one there is, unless an address was named.
    fn other(asked: Option<&str>, registry: &Path) -> Result<Self, Error> {
        let others = registered_in(registry);
        let server = asked.unwrap_or(DEFAULT_SERVER);
        match (asked, &others[..]) {
            (None, [(only, path)]) => {
                tracing::info!(server = only, "the only broker of this account");
                Profile::read(path)
            }
            (_, []) => Err(Error::Credentials(format!(
                "no credentials for {server} in {}; is a broker of this account running there? For another's, set \
                 {PROFILE_VARIABLE} to its profile file",
                registry.display()
            ))),
            _ => {
                let others: Vec<&str> = others.iter().map(|(server, _)| server.as_str()).collect();
                Err(Error::Credentials(format!(
                    "no credentials for {server}; brokers of this account are known at {}: name one with --server (or \
                     MILLSTREAM_SERVER), or set {PROFILE_VARIABLE} to another's profile file",
                    others.join(", ")
                )))
            }
        }
    }
}

/// Addresses of the brokers that registered a profile for this account, the latest first. They need not run.
pub fn registered_servers() -> Vec<String> {
    let known = registry().map(|registry| registered_in(&registry)).unwrap_or_default();
    known.into_iter().map(|(server, _)| server).collect()
}

/// Address and file of each profile that can be read.
fn registered_in(registry: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(registry).into_iter().flatten().flatten().map(|entry| entry.path());
    let profiles = entries.filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    let mut known: Vec<(std::time::SystemTime, String, PathBuf)> = profiles
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, Profile::read(&path).ok()?.server, path)))
        .collect();
    known.sort_by(|a, b| b.cmp(a));
    known.into_iter().map(|(_, server, path)| (server, path)).collect()
}

/// A profile file's text.
pub(crate) fn text(server: &str, ca_pem: &str, token: &Secret) -> Secret {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let ca: String = ca_pem.lines().map(|line| format!("  {line}\n")).collect();
    Secret::new(format!("server: {}\nca: |\n{ca}token: {}\n", quoted(server), quoted(token.expose())))
}

/// The file names a broker at `server` may have registered under.
fn file_names(server: &str) -> impl Iterator<Item = String> + use<> {
    let (host, port) = server.rsplit_once(':').unwrap_or((server, "9094"));
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let same: &[&str] = if host == "localhost" { &["127.0.0.1", "::1"] } else { &[] };
    let hosts = [host].into_iter().chain(same.iter().map(|host| (*host).to_owned()));
    let port = port.to_owned();
    hosts.map(move |host| format!("{host}_{port}.yaml"))
}

fn registry() -> Option<PathBuf> {
    let config = variable("MILLSTREAM_CONFIG_DIR").map(PathBuf::from);
    let config = config.or_else(|| variable("XDG_CONFIG_HOME").map(|dir| Path::new(&dir).join("millstream")));
    let config = config.or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config/millstream")));
    Some(config?.join("profiles"))
}

fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_an_address() {
        let check = |server: &str, expected: &[&str]| {
            assert_eq!(file_names(server).collect::<Vec<_>>(), expected);
        };
        check("127.0.0.1:9094", &["127.0.0.1_9094.yaml"]);
        check("localhost:9", &["localhost_9.yaml", "127.0.0.1_9.yaml", "::1_9.yaml"]);
        check("[::1]:9", &["::1_9.yaml"]);
        check("host", &["host_9094.yaml"]);
    }

    #[test]
    fn the_only_profile_is_taken_and_several_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let write = |port: u16| {
            let text = text(&format!("127.0.0.1:{port}"), "PEM\n", &Secret::new("t"));
            std::fs::write(dir.path().join(format!("127.0.0.1_{port}.yaml")), text.expose()).unwrap();
        };
        let found = |asked: Option<&str>| Profile::other(asked, dir.path());
        assert!(found(None).unwrap_err().to_string().contains("is a broker of this account running there"));
        write(9123);
        assert_eq!(found(None).unwrap().server, "127.0.0.1:9123");
        let error = found(Some("127.0.0.1:9")).unwrap_err().to_string();
        assert!(
            error.contains("no credentials for 127.0.0.1:9; brokers of this account are known at 127.0.0.1:9123"),
            "{error}"
        );
        // Written later, and so told first.
        let earlier = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
        let first = std::fs::File::options().write(true).open(dir.path().join("127.0.0.1_9123.yaml")).unwrap();
        first.set_modified(earlier).unwrap();
        write(9122);
        std::fs::write(dir.path().join("broken.yaml"), "server: x").unwrap();
        let error = found(None).unwrap_err().to_string();
        assert!(error.contains("known at 127.0.0.1:9122, 127.0.0.1:9123: name one with --server"), "{error}");
    }

    #[test]
    fn a_profile_is_read_or_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.yaml");
        std::fs::write(&path, "server: a:1\nca: |\n  PEM\n  LINES\ntoken: t\n").unwrap();
        let profile = Profile::read(&path).unwrap();
        assert_eq!((profile.server.as_str(), profile.ca.as_str()), ("a:1", "PEM\nLINES\n"));
        assert!(!format!("{profile:?}").contains("token"));
        let written = text("[::1]:9", "PEM\nLINES\n", &Secret::new("ms_\"x"));
        std::fs::write(&path, written.expose()).unwrap();
        let profile = Profile::read(&path).unwrap();
        let read = (profile.server.as_str(), profile.ca.as_str(), profile.token.as_str());
        assert_eq!(read, ("[::1]:9", "PEM\nLINES\n", "ms_\"x"));
        std::fs::write(&path, "server: a:1\n").unwrap();
        let error = Profile::read(&path).unwrap_err().to_string();
        assert!(error.contains("p.yaml is not usable: expected `server`, `ca` and `token`"), "{error}");
        for text in
            ["plover", "token: [plover]", "server: a:1\ntoken: \"plover\nca: x", "plover: 1", "token: plover: x"]
        {
            std::fs::write(&path, text).unwrap();
            let error = Profile::read(&path).unwrap_err().to_string();
            assert!(error.contains("not usable") && !error.contains("plover"), "{error}");
        }
        let error = Profile::read(&dir.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("cannot read profile"), "{error}");
    }
}
