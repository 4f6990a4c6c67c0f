//! One connected client: whose token it showed, and what that token may do now. Every request asks here. Rights
//! are taken from the metadata anew when that changed; until then what was found is remembered by topic id, so that
//! produce and fetch cost a comparison of numbers and a look into a small map.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use millstream_cluster::metadata::{Digest, State};
use millstream_protocol::access::{Grant, PATTERN_BYTES_MAX, Resource, Right, Rights, rights_anywhere, rights_on};
use millstream_protocol::{ErrorCode, Failure, TopicId};
use tokio::sync::Notify;

use super::tokens::Who;
use crate::clock::now_ms;
use crate::limits::EXPIRY_LOOK_MS;
use crate::service::Service;

/// Sessions so far.
static SESSIONS: AtomicU64 = AtomicU64::new(0);

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Unlike that of any other of this process.
    session: u64,
    service: Arc<Service>,
    who: Who,
    /// Stays empty for the admin token.
    known: RwLock<Known>,
    /// Told when a request was refused because the token is not accepted any more.
    ended: Notify,
}

/// What is true for one version of the metadata.
#[derive(Debug, Default)]
struct Known {
    /// That version, the number of commands it has seen.
    applied: u64,
    /// From then on the token is not accepted; `i64::MIN` when it is not at all.
    until_ms: i64,
    rights: Vec<Grant>,
    /// Topics that were asked for.
    topics: HashMap<TopicId, Rights>,
}

impl Known {
    fn of(state: &State, id: &str, secret: &Digest, now_ms: i64) -> Self {
        let token = state.token(id);
        let accepted = token.and_then(|token| Some((token, token.accepts(secret, now_ms)?)));
        let (rights, until_ms) =
            accepted.map_or((Vec::new(), i64::MIN), |(token, until)| (token.rights.clone(), until));
        Known { applied: state.applied(), until_ms, rights, topics: HashMap::new() }
    }
}

impl Caller {
    pub(crate) fn new(service: Arc<Service>, who: Who) -> Self {
        // Version 0 is older than any, so the first request reads the rights.
        let known = RwLock::new(Known { until_ms: i64::MIN, ..Known::default() });
        Caller { session: SESSIONS.fetch_add(1, Ordering::Relaxed), service, who, known, ended: Notify::new() }
    }

    /// A number that no other caller has.
    pub(crate) fn session(&self) -> u64 {
        self.session
    }

    pub(crate) fn who(&self) -> &Who {
        &self.who
    }

    /// Resolves when a request was refused because the token is not accepted any more.
    pub(crate) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Waits until the token is not accepted any more, without a request that would find out: looks when the metadata
    /// change and when the token expires. Never resolves for the admin token.
    pub(crate) async fn lapsed(&self) {
        let Who::Token { id, secret } = &self.who else { return std::future::pending().await };
        let mut states = self.service.watch_state();
        loop {
            // Not `known`: the count of commands that it goes by is raised only after this state is there.
            let until_ms = states.borrow_and_update().token(id).and_then(|token| token.accepts(secret, now_ms()));
            let Some(until_ms) = until_ms else { return };
            let left_ms = until_ms.saturating_sub(now_ms());
            // The calendar clock may be set meanwhile.
            let left = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0).min(EXPIRY_LOOK_MS));
            tokio::select! {
                changed = states.changed() => if changed.is_err() {
                    // The broker is going, and the session with it.
                    return std::future::pending().await;
                },
                () = tokio::time::sleep(left), if left_ms < i64::MAX / 2 => {}
            }
        }
    }

    /// Whether this is the admin token, for which nothing has to be looked up.
    pub(crate) fn has_all(&self) -> bool {
        self.who == Who::Admin
    }

    /// Whether the token is still accepted.
    ///
    /// # Errors
    /// `Unauthenticated`.
    pub(crate) fn check_alive(&self) -> Result<(), Failure> {
        self.known().map(drop)
    }

    /// # Errors
    /// `Forbidden`, in the same words whether there is such a name or not.
    pub(crate) fn need(&self, right: Right, resource: Resource, name: &str) -> Result<(), Failure> {
        match self.known()? {
            Some(known) if !rights_on(&known.rights, resource, name).has(right) => Err(refusal(right, resource, name)),
            _ => Ok(()),
        }
    }

    /// A right on any name of this kind.
    ///
    /// # Errors
    /// `Forbidden`.
    pub(crate) fn need_somewhere(&self, right: Right, resource: Resource) -> Result<(), Failure> {
        match self.known()? {
            Some(known) if !rights_anywhere(&known.rights, resource).has(right) => {
                let (right, kind) = (right.name(), resource.name());
                let message = format!("not authorised: it takes a token with `{right}` on a {kind}");
                Err(Failure::new(ErrorCode::Forbidden, message))
            }
            _ => Ok(()),
        }
    }

    /// A right on a topic by its id. A topic that is not there is the handler's matter for the admin token.
    ///
    /// # Errors
    /// `UnknownTopic` when the caller has no right on it or it is not there, `Forbidden` when it has others only.
    pub(crate) fn need_topic(&self, right: Right, id: TopicId) -> Result<(), Failure> {
        let found = match self.known()? {
            None => return Ok(()),
            Some(known) => known.topics.get(&id).copied(),
        };
        let rights = found.map_or_else(|| self.look_up(id), Ok)?;
        match (rights.has(right), rights.is_visible()) {
            (true, _) => Ok(()),
            (false, true) => {
                let name = self.service.state().topic_by_id(id).map(|topic| topic.name.clone());
                Err(refusal(right, Resource::Topic, &name.unwrap_or_default()))
            }
            (false, false) => Err(unknown(id)),
        }
    }

    /// Whether the caller may know of this name: it has a right on it.
    pub(crate) fn sees(&self, resource: Resource, name: &str) -> bool {
        match self.known() {
            Ok(Some(known)) => rights_on(&known.rights, resource, name).is_visible(),
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// [`Caller::sees`] for a topic by its id.
    pub(crate) fn sees_topic(&self, id: TopicId) -> bool {
        match self.known() {
            Ok(None) => true,
            Ok(Some(known)) => {
                let found = known.topics.get(&id).copied();
                // The look-up takes the lock itself.
                drop(known);
                found.map_or_else(|| self.look_up(id), Ok).is_ok_and(Rights::is_visible)
            }
            Err(_) => false,
        }
    }

    /// What the newest metadata says; `None` for the admin token, which needs no looking up.
    fn known(&self) -> Result<Option<RwLockReadGuard<'_, Known>>, Failure> {
        let Who::Token { id, secret } = &self.who else { return Ok(None) };
        let mut known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.applied != self.service.applied() {
            drop(known);
            let fresh = Known::of(&self.service.state(), id, secret, now_ms());
            *self.known.write().unwrap_or_else(PoisonError::into_inner) = fresh;
            known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        }
        // Most tokens never expire: they need no clock.
        if known.until_ms == i64::MAX || now_ms() < known.until_ms {
            return Ok(Some(known));
        }
        self.ended.notify_one();
        let message = format!("token `{id}` is not accepted any more: it expired, was replaced or deleted");
        Err(Failure::new(ErrorCode::Unauthenticated, message))
    }

    /// Finds the rights on a topic and remembers them for this version of the metadata.
    fn look_up(&self, id: TopicId) -> Result<Rights, Failure> {
        let state = self.service.state();
        let name = &state.topic_by_id(id).ok_or_else(|| unknown(id))?.name;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let rights = rights_on(&known.rights, Resource::Topic, name);
        if known.applied == state.applied() {
            known.topics.insert(id, rights);
        }
        Ok(rights)
    }
}

fn refusal(right: Right, resource: Resource, name: &str) -> Failure {
    let (right, kind) = (right.name(), resource.name());
    // It is the caller's own, and may be of any length.
    let name = &name[..name.floor_char_boundary(PATTERN_BYTES_MAX)];
    let message = match resource {
        Resource::Cluster => format!("not authorised: it takes a token with `{right}:{kind}`"),
        _ => format!("{kind} `{name}`: not authorised, or unknown; it takes a token with `{right}:{kind}:{name}`"),
    };
    Failure::new(ErrorCode::Forbidden, message)
}

fn unknown(id: TopicId) -> Failure {
    Failure::new(ErrorCode::UnknownTopic, format!("topic id {id}: not authorised, or unknown"))
}
