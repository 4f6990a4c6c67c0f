//! Every setting of the QUIC endpoints and every limit on a connection. The figures of MTU, windows
//! and buffers are those that measured best on loopback and are explained where they surprise.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use quinn::{AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::ServerTls;

/// Names the native protocol in the TLS handshake. Another major version of it is another name.
pub const ALPN: &[u8] = b"millstream/1";

/// quinn batches up to ten datagrams in one GSO send. Ten of this size, with 8 bytes of UDP's header, 20 of IP's and 14
/// of the link's, stay below the 65,536 that a device takes as one (`gso_max_size`), 40 of IPv6 included. A little more,
/// and the kernel cuts each send into datagrams before it hands them over, one buffer each; above 6,550 the send fails,
/// black-hole detection falls back to 1200 and throughput collapses.
const MTU_MAX: u16 = 6540;
/// Both ends must announce it, or the other's MTU discovery stops at 1472.
const UDP_PAYLOAD_BYTES_MAX: u16 = 6560;
/// Works on every path; discovery raises it.
const MTU_INITIAL: u16 = 1200;
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const SEND_WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// Without it loopback loses thousands of datagrams per second under load.
pub(crate) const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Streams a client may have open at a time, once it uses those it has.
pub const STREAMS_MAX: u32 = 64;
/// Streams of a session that begins: each that may be opened takes memory, and most clients need two or three. It is
/// what QUIC's maps hold before they grow.
pub const STREAMS_AT_FIRST: u32 = 7;
/// Streams before the session is authenticated: the one that carries `Hello`.
pub const STREAMS_MAX_ANONYMOUS: u32 = 1;
/// Unread bytes a server holds for a connection: more than a few stalled produce streams can fill, so
/// that heartbeats get through beside them.
const SERVER_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
/// Unread bytes before authentication: a `Hello` and little else.
const SERVER_WINDOW_BYTES_ANONYMOUS: u32 = 128 * 1024;

/// Longest delay of an acknowledgement, which each end asks of the other (draft-ietf-quic-ack-frequency). It is also what a
/// sender waits for beyond a round trip before it takes the last packet for lost: with QUIC's own 25 ms, one lost packet
/// in a thousand is what the 99.9th percentile shows. Acknowledging every tenth packet instead of every other one, beside it,
/// saved a reader 5 % of CPU and cost 10 ms at that percentile.
const ACK_DELAY_MAX: Duration = Duration::from_millis(2);

/// A connection without a sign of life ends after this.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Clients show a sign of life this often; servers rely on it, so idle connections cost them no timers.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Longest TLS handshake, and longest wait for the first frame.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of one listener.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Handshakes in progress above which a client must first prove its address with a retry packet.
pub const HANDSHAKES_BEFORE_RETRY: usize = 64;
/// Handshakes in progress above which connections are refused.
pub const HANDSHAKES_MAX: usize = 512;
/// Of these, those that one address may have once clients have to prove theirs: one IPv4 address, or one /64 of IPv6.
pub const HANDSHAKES_PER_ADDRESS_MAX: usize = HANDSHAKES_MAX / 8;
/// Bytes buffered for connections that are not accepted yet, each and all together.
const INCOMING_BYTES: u64 = 64 * 1024;
const INCOMING_BYTES_TOTAL: u64 = 4 * 1024 * 1024;
/// Requests an [`crate::Rpc`] keeps in flight unless told otherwise.
pub const REQUESTS_IN_FLIGHT: usize = 1024;

/// Why an end closes a connection, as QUIC application error codes. The reason text is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    Done = 0,
    ShuttingDown = 1,
    Protocol = 2,
    Unauthenticated = 3,
    Limit = 4,
}

impl From<CloseCode> for VarInt {
    fn from(code: CloseCode) -> VarInt {
        VarInt::from_u32(code as u32)
    }
}

/// Opens an accepted connection to a session's limits. Call it when `Hello` was accepted; until then the
/// client has one stream and a small window.
pub fn admit(connection: &quinn::Connection) -> Streams {
    connection.set_receive_window(VarInt::from_u32(SERVER_WINDOW_BYTES));
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(STREAMS_AT_FIRST));
    Streams { opened: 1, max: STREAMS_AT_FIRST }
}

/// The streams of a session: whoever uses many may open more, up to [`STREAMS_MAX`] at a time.
#[derive(Debug)]
pub struct Streams {
    /// Since the session began; counts to [`STREAMS_MAX`].
    opened: u32,
    max: u32,
}

impl Streams {
    /// Call it for each stream that was accepted after the first.
    pub fn opened(&mut self, connection: &quinn::Connection) {
        self.opened = (self.opened + 1).min(STREAMS_MAX);
        // Before the limit is reached, so that nobody waits for a round trip.
        if self.opened * 2 > self.max && self.max < STREAMS_MAX {
            // No small step at the end: quinn does not announce one of an eighth.
            self.max = if self.max * 4 > STREAMS_MAX { STREAMS_MAX } else { self.max * 2 };
            connection.set_max_concurrent_bi_streams(VarInt::from_u32(self.max));
        }
    }
}

fn transport() -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(MTU_MAX);
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements
        .max_ack_delay(Some(ACK_DELAY_MAX))
        // RFC 9000's own: a gap is told at once.
        .reordering_threshold(VarInt::from_u32(1));
    let mut config = TransportConfig::default();
    config
        .ack_frequency_config(Some(acknowledgements))
        .initial_mtu(MTU_INITIAL)
        .mtu_discovery_config(Some(discovery))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT.as_millis() as u32))));
    config
}

pub(crate) fn server_transport() -> Arc<TransportConfig> {
    let mut config = transport();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX_ANONYMOUS))
        .receive_window(VarInt::from_u32(SERVER_WINDOW_BYTES_ANONYMOUS));
    Arc::new(config)
}

pub(crate) fn client_transport() -> Arc<TransportConfig> {
    // The connection's window stays unlimited: a subscription nobody reads must not stall the others,
    // and each stream's own window bounds it.
    let mut config = transport();
    config.max_concurrent_bidi_streams(VarInt::from_u32(0)).keep_alive_interval(Some(KEEP_ALIVE));
    Arc::new(config)
}

/// A server's endpoint is recognised after a restart: it can tell clients of the process before it that
/// their connections are gone (a stateless reset), where they would else wait for [`IDLE_TIMEOUT`].
pub(crate) fn server_endpoint(tls: &ServerTls) -> quinn::EndpointConfig {
    let ids = tls.derive("millstream connection ids");
    let ids = u64::from_be_bytes(ids[..8].try_into().expect("eight bytes of 32"));
    let mut config = endpoint();
    config
        .reset_key(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &tls.derive("millstream stateless reset"))))
        .cid_generator(move || Box::new(quinn_proto::HashedConnectionIdGenerator::from_key(ids)));
    config
}

pub(crate) fn endpoint() -> quinn::EndpointConfig {
    let mut config = quinn::EndpointConfig::default();
    config.max_udp_payload_size(UDP_PAYLOAD_BYTES_MAX).expect("the size is within QUIC's range");
    config
}

pub(crate) fn limit_server(config: &mut quinn::ServerConfig) {
    config
        .transport_config(server_transport())
        .max_incoming(HANDSHAKES_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES_TOTAL);
}
