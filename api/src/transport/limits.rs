//! What one request, one socket, one event stream and one document may cost at most.
//!
//! The same figures hold on HTTP and on WebSocket: both go through the same preparation. Nothing here knows the
//! schema; limits that need it (page sizes, rate per tenant) belong to the resolvers.

use std::time::Duration;

/// Limits of one GraphQL endpoint. [`Limits::default`] is meant for production.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a POST body.
    pub body_bytes_max: usize,
    /// Time in which a POST body must have arrived.
    pub body_timeout: Duration,
    /// Bytes of the `query` text.
    pub query_bytes_max: usize,
    /// Lexical tokens of the `query` text.
    pub tokens_max: usize,
    /// Brackets open at once, of any kind.
    pub nesting_max: usize,
    /// Operations in one document; one of them is executed.
    pub operations_max: usize,
    /// Fragments in one document; the validator's work grows with their square.
    pub fragments_max: usize,
    /// Fields below each other, the root field being 1.
    pub depth_max: u64,
    /// Fields of one operation after its fragments are written out.
    pub fields_max: u64,
    /// Sum of fields, each multiplied by the page sizes (`first`, `last`) above it.
    pub complexity_max: u64,
    /// The page size that a connection without `first` and `last` is counted with.
    pub page_size_default: u64,
    /// Aliases of one operation after its fragments are written out.
    pub aliases_max: u64,
    /// Root fields of one operation after its fragments are written out.
    pub root_fields_max: u64,
    /// Directives of one operation after its fragments are written out.
    pub directives_max: u64,
    /// Whether `GET` may carry a query; mutations and subscriptions never come by `GET`.
    pub get_queries: bool,
    /// Limits of a WebSocket, and of an event stream where they can be its too.
    pub socket: SocketLimits,
}

/// Limits of one WebSocket; an operation on it is bound by [`Limits`] as well. An event stream is a socket with one
/// operation: its comments are the pings, which nothing answers.
#[derive(Debug, Clone)]
pub struct SocketLimits {
    /// Bytes of one message from the client; a longer one closes the socket with 1009.
    pub message_bytes_max: usize,
    /// Operations running at once.
    pub operations_per_socket_max: usize,
    /// Time until `connection_init` must have come; else 4408.
    pub init_timeout: Duration,
    /// How often an idle peer is pinged and the token asked about; a socket that stays silent for two intervals is
    /// dropped.
    pub ping_interval: Duration,
    /// Time in which the peer must take one message; a slower reader is dropped.
    pub send_timeout: Duration,
    /// Answers waiting for the socket before operations have to wait themselves.
    pub send_buffer_messages: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 1024 * 1024,
            body_timeout: Duration::from_secs(20),
            query_bytes_max: 64 * 1024,
            tokens_max: 10_000,
            nesting_max: 50,
            operations_max: 10,
            fragments_max: 100,
            depth_max: 15,
            fields_max: 2_000,
            complexity_max: 50_000,
            page_size_default: 50,
            aliases_max: 30,
            root_fields_max: 20,
            directives_max: 50,
            get_queries: true,
            socket: SocketLimits::default(),
        }
    }
}

impl Default for SocketLimits {
    fn default() -> Self {
        Self {
            message_bytes_max: 256 * 1024,
            operations_per_socket_max: 100,
            init_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(20),
            send_timeout: Duration::from_secs(15),
            send_buffer_messages: 16,
        }
    }
}
