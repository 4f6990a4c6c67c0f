//! Looking after a cluster: one method per request, answers as the protocol has them. Requests that may be
//! carried out twice without harm are repeated while that can help; the others are sent once.

mod groups;
mod pipelines;
mod plugins;
mod tokens;
mod topics;

pub use plugins::UploadOptions;

use std::sync::Arc;

use millstream_protocol::message::{Api, ClusterStatus, ClusterStatusAck};

use crate::Error;
use crate::link::Link;

/// See [`crate::Client::admin`].
#[derive(Clone)]
pub struct Admin {
    link: Arc<Link>,
}

impl Admin {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Admin { link }
    }

    /// Any request of the protocol that needs no payload, sent once.
    ///
    /// # Errors
    /// The broker can't be reached or refuses.
    pub async fn call<A: Api>(&self, request: &A) -> Result<A::Response, Error> {
        self.link.call_once(request).await
    }

    /// Brokers, counts, and partitions that refuse service.
    ///
    /// # Errors
    /// The broker can't be reached.
    pub async fn cluster_status(&self) -> Result<ClusterStatusAck, Error> {
        self.link.call(&ClusterStatus).await
    }
}
