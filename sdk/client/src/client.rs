//! The entry point: how to reach a cluster, and what can be had from it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::Secret;

use crate::admin::Admin;
use crate::consumer::ConsumerBuilder;
use crate::error::Error;
use crate::link::{Link, Settings};
use crate::producer::ProducerBuilder;
use crate::profile::{self, Profile};
use crate::reader::ReaderBuilder;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to a cluster; clones share it. A lost connection is made again by whoever needs it next.
#[derive(Clone)]
pub struct Client {
    link: Arc<Link>,
}

/// How to reach a cluster; see [`Client::builder`].
#[derive(Clone, Default)]
#[must_use]
pub struct ClientBuilder {
    servers: Vec<String>,
    profile: Option<PathBuf>,
    ca_pem: Option<String>,
    token: Option<String>,
    client_name: Option<String>,
    request_timeout: Option<Duration>,
}

impl Client {
    /// Connects to one of the brokers in `servers` (`host:port`, separated by commas), with the credentials
    /// that a broker of this account left, or those in the file that `MILLSTREAM_PROFILE` names.
    ///
    /// # Errors
    /// Nobody answers, or there are no credentials that the broker accepts.
    pub async fn connect(servers: &str) -> Result<Client, Error> {
        Client::builder().server(servers).connect().await
    }

    /// For a client with credentials, a name or time limits of its own.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A producer of records to `topic`.
    pub fn producer(&self, topic: &str) -> ProducerBuilder {
        ProducerBuilder::new(Arc::clone(&self.link), topic)
    }

    /// A consumer in the group `group`, which shares the partitions of its topics among its members and
    /// remembers how far it has read.
    pub fn consumer(&self, group: &str) -> ConsumerBuilder {
        ConsumerBuilder::new(Arc::clone(&self.link), group)
    }

    /// A reader of all or some partitions of `topic`, without a group.
    pub fn reader(&self, topic: &str) -> ReaderBuilder {
        ReaderBuilder::new(Arc::clone(&self.link), topic)
    }

    /// Looks after topics, groups, plugins and pipelines.
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.link))
    }

    /// The cluster's id, as its broker told when the connection was made.
    ///
    /// # Errors
    /// The connection was lost and can't be made again.
    pub async fn cluster_id(&self) -> Result<String, Error> {
        Ok(self.link.session().await?.hello.cluster_id.clone())
    }

    /// The text of a profile file with another token, for whoever shall connect to the same cluster: it has the
    /// servers and the CA that this client uses. Keep such a file private (0600).
    pub fn profile(&self, token: &Secret) -> Secret {
        let settings = self.link.settings();
        let server = settings.servers.first().map_or("", String::as_str);
        profile::text(server, &settings.ca_pem, token)
    }

    /// Closes the connection. Producers should be flushed and consumers closed before.
    pub async fn close(self) {
        self.link.close().await;
    }
}

impl ClientBuilder {
    /// Adds brokers, `host:port`, several separated by commas. Without any: the profile's, else 127.0.0.1:9094.
    pub fn server(mut self, servers: &str) -> Self {
        self.servers.extend(servers.split(',').map(str::trim).filter(|server| !server.is_empty()).map(str::to_owned));
        self
    }

    /// Takes what was not given otherwise from this profile file.
    pub fn profile(mut self, path: impl Into<PathBuf>) -> Self {
        self.profile = Some(path.into());
        self
    }

    /// Trusts servers with a certificate of this CA, PEM.
    pub fn ca_pem(mut self, ca_pem: impl Into<String>) -> Self {
        self.ca_pem = Some(ca_pem.into());
        self
    }

    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Shown by `group describe` and in the broker's log.
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = Some(name.into());
        self
    }

    /// How long a request may take, repeated attempts included (30 s).
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.request_timeout = Some(limit);
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect(self) -> Result<Client, Error> {
        let link = Link::new(self.settings()?);
        link.session().await?;
        Ok(Client { link: Arc::new(link) })
    }

    fn settings(self) -> Result<Settings, Error> {
        let own = self.servers.first().cloned();
        let (mut servers, ca_pem, token) = match (self.ca_pem, self.token) {
            (Some(ca_pem), Some(token)) if own.is_some() => (self.servers, ca_pem, token),
            (ca_pem, token) => {
                let profile = match &self.profile {
                    Some(path) => Profile::read(path)?,
                    None => Profile::find(own.as_deref())?,
                };
                let servers = if own.is_some() { self.servers } else { vec![profile.server] };
                (servers, ca_pem.unwrap_or(profile.ca), token.unwrap_or(profile.token))
            }
        };
        for server in &mut servers {
            if !server.contains(':') {
                server.push_str(":9094");
            }
        }
        Ok(Settings {
            servers,
            ca_pem,
            token,
            client_name: self.client_name.unwrap_or_else(default_name),
            request_timeout: self.request_timeout.unwrap_or(REQUEST_TIMEOUT),
        })
    }
}

/// The program's name.
fn default_name() -> String {
    let program = std::env::current_exe().ok();
    let name = program.as_deref().and_then(|path| path.file_stem()).map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "millstream-client".to_owned())
}
