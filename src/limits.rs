//! Every bound of the proxy in one page, each with its reason, and the relations that must hold between
//! them, checked at compile time. Those that a user may set are defaults of `[limits]` and `[timeouts]`.

use std::time::Duration;

// Heads.

/// Bytes of a request or response head. nginx gives 32 KiB in all, HAProxy 16; cookies of single
/// sign-on reach 20.
pub const HEAD_BYTES: usize = 32 * 1024;
/// Bytes of a request-target: browsers stop at 8 KiB or far above; servers answer 414 beyond 8 KiB.
pub const TARGET_BYTES: usize = 8 * 1024;
/// Field lines of a head. Browsers send 15 to 25; Apache and Go's defaults are of this size.
pub const FIELDS: usize = 128;
/// Bytes of one chunk-size line including extensions: sizes need 16, real extensions are unknown.
pub const CHUNK_LINE_BYTES: usize = 256;
/// Bytes of all chunk extensions of one body: nothing reads them, so they are only an attack.
pub const CHUNK_EXTENSIONS_BYTES: usize = 16 * 1024;
/// Bytes of a trailer section.
pub const TRAILER_BYTES: usize = 8 * 1024;
/// Interim (1xx) responses passed on for one request; more is a loop.
pub const INTERIM_RESPONSES: u32 = 16;
/// Empty lines tolerated before a request line (RFC 9112 §2.2 asks for at least one).
pub const LEADING_EMPTY_LINES: usize = 1;

// TLS.

/// Bytes of a ClientHello message: post-quantum hellos are 2 KiB; OpenSSL's own bound is 16 KiB.
pub const CLIENT_HELLO_BYTES: usize = 16 * 1024;
/// Records over which a ClientHello may be spread: real ones use 1 to 3.
pub const CLIENT_HELLO_RECORDS: usize = 32;
/// Extensions of a ClientHello: browsers send 15 to 20.
pub const CLIENT_HELLO_EXTENSIONS: usize = 64;
/// Plaintext bytes of a record (RFC 8446 §5.1).
pub const RECORD_PLAINTEXT: usize = 16 * 1024;
/// Ciphertext bytes of a TLS 1.3 record beyond its plaintext (RFC 8446 §5.2).
pub const RECORD_EXPANSION: usize = 256;
/// Ciphertext bytes of a TLS 1.2 record beyond its plaintext (RFC 5246 §6.2.3).
pub const RECORD_EXPANSION_TLS12: usize = 2048;
/// Header bytes of a record.
pub const RECORD_HEADER: usize = 5;
/// KeyUpdate messages accepted on one connection between two pieces of data: more is a flood.
pub const KEY_UPDATES_WITHOUT_DATA: u32 = 8;
/// Records in a row that carry no data (empty, warnings): more is a flood.
pub const EMPTY_RECORDS: u32 = 32;
/// Records sealed under one AES-GCM key: RFC 8446 §5.5 allows 2^24.5 full ones, and the power of two
/// below leaves a margin. TLS 1.3 then updates its key; TLS 1.2 cannot and closes (256 GiB).
pub const RECORDS_PER_AES_KEY: u64 = 1 << 24;
/// Bytes of a handshake message after the handshake, gathered over records: a session ticket that holds
/// a client certificate chain reaches a few KiB.
pub const POST_HANDSHAKE_BYTES: usize = 16 * 1024;
/// Life of a ticket key; tickets live twice as long.
pub const TICKET_KEY_LIFE: Duration = Duration::from_secs(6 * 3600);

// PROXY protocol.

/// Bytes of a version 1 line (the specification's own bound).
pub const PROXY_V1_BYTES: usize = 107;
/// Bytes of a version 2 header: 16 fixed, the addresses, and room for TLVs that are skipped.
pub const PROXY_V2_BYTES: usize = 16 + 2048;

// Memory.

/// A connection's receive buffer: one whole record of the largest kind, so it can be opened in place.
pub const RECEIVE_BUFFER: usize = RECORD_HEADER + RECORD_PLAINTEXT + RECORD_EXPANSION_TLS12;
/// A buffer for a long body: syscall and TCP cost per byte halve from 16 KiB to 256 KiB.
pub const BULK_BUFFER: usize = 256 * 1024;
/// A body longer than this earns bulk buffers.
pub const BULK_THRESHOLD: u64 = 128 * 1024;
/// Bulk buffers of one worker; without one the body goes on in receive-buffer steps.
pub const BULK_BUFFERS_PER_WORKER: usize = 128;
/// Free receive buffers that a worker keeps.
pub const FREE_BUFFERS_PER_WORKER: usize = 1024;
/// Request bytes kept so that a request can be sent again on a fresh connection.
pub const REPLAY_BYTES: usize = 64 * 1024;
/// Request body bytes read and thrown away so that a connection can go on after an early answer.
pub const DRAIN_BODY_BYTES: u64 = 64 * 1024;

// Connections.

/// Client connections of one worker.
pub const CONNECTIONS_PER_WORKER: usize = 65_536;
/// Descriptors a process keeps for what is not a client or upstream connection.
pub const RESERVED_DESCRIPTORS: u64 = 64;
/// Idle upstream connections kept per endpoint and worker.
pub const POOL_IDLE_PER_ENDPOINT: usize = 256;
/// Connections open to one endpoint per worker.
pub const UPSTREAM_CONNECTIONS_PER_ENDPOINT: usize = 4096;
/// Attempts at one request: the first, and one replay.
pub const ATTEMPTS: u32 = 2;
/// Addresses tried in turn while connecting.
pub const CONNECT_ADDRESSES: usize = 4;
/// Pending connections that the kernel holds for a listener.
pub const LISTEN_BACKLOG: i32 = 4096;
/// Steps of handshakes that one turn of a worker's loop may take: about a millisecond of CPU.
pub const HANDSHAKES_PER_TURN: u32 = 8;
/// Entries of a worker's submission queue: one batch of a busy loop turn.
pub const RING_ENTRIES: u32 = 1024;
/// Entries of a worker's completion queue: several per connection may be due at once.
pub const RING_COMPLETIONS: u32 = 16 * 1024;
/// Access log lines waiting for the log thread, per worker.
pub const LOG_LINES: usize = 4096;
/// Configuration files that one file may include, and bytes of each.
pub const INCLUDED_FILES: usize = 1024;
/// Bytes of a configuration file.
pub const CONFIG_BYTES: u64 = 16 * 1024 * 1024;
/// Diagnostics shown of one load: more are one mistake many times over.
pub const CONFIG_DIAGNOSTICS: usize = 1000;

// Time without progress, by phase.

/// From accept to a whole ClientHello.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// From the ClientHello to the end of the handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From the first byte of a head to its end.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Between pieces of a request body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Between requests on a client connection; nginx 75 s, Caddy 5 min.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Connecting to an upstream.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the request sent to the first byte of the response; nginx's figure.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(60);
/// Between pieces of a response body: event streams send a comment every 15 to 30 s.
pub const BETWEEN_BYTES_TIMEOUT: Duration = Duration::from_secs(120);
/// While the client takes none of the response.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// While neither side of a tunnel sends: WebSocket pings come every 20 to 60 s.
pub const TUNNEL_TIMEOUT: Duration = Duration::from_secs(3600);
/// Idle upstream connections of an unknown app: below Uvicorn's and Node's 5 s.
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// From SIGTERM to the end of the last request.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How often names of upstreams are looked up again.
pub const RESOLVE_INTERVAL: Duration = Duration::from_secs(10);
/// After an answer that closes: how long the client's last bytes are read and thrown away, so that a
/// reset does not overtake the answer.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that have to come at once to prolong it.
pub const LINGER_PIECE: usize = 1024;
/// The same in all, while the client goes on sending.
pub const LINGER_TOTAL: Duration = Duration::from_secs(30);
/// Idle for so long, a connection gives back all but its keys: a browser's next request within a second
/// finds everything warm.
pub const REST_AFTER: Duration = Duration::from_secs(1);
/// Step of the deadline wheel: deadlines fire at most this late.
pub const DEADLINE_STEP: Duration = Duration::from_millis(100);

// Certificate authorities.

/// From a request to an authority sent to the end of its answer; Let's Encrypt answers within seconds.
pub const ACME_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Connecting to an authority, TLS included.
pub const ACME_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// From a challenge answered to the verdict: authorities look from several places, one after another.
pub const ACME_ORDER_TIMEOUT: Duration = Duration::from_secs(120);

const _: () = assert!(TARGET_BYTES < HEAD_BYTES, "a target must fit in a head");
const _: () = assert!(REPLAY_BYTES >= HEAD_BYTES, "a head without body can be sent again");
const _: () = assert!(RECEIVE_BUFFER < BULK_BUFFER, "a bulk buffer is the larger one");
const _: () = assert!(CHUNK_LINE_BYTES < CHUNK_EXTENSIONS_BYTES, "one line fits in the whole");
