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
/// Free receive buffers that a worker keeps although none was needed for [`RELEASE_INTERVAL`].
pub const FREE_BUFFERS_AT_REST: usize = 16;
/// How often a worker frees what a burst has left; each time costs some ten microseconds.
pub const RELEASE_INTERVAL: Duration = Duration::from_millis(500);
/// Connections that went to rest or ended since: fewer have left nothing worth it.
pub const RELEASE_AFTER: u32 = 64;
/// Request bytes kept so that a request can be sent again on a fresh connection.
pub const REPLAY_BYTES: usize = 64 * 1024;
/// Request bytes gathered for an app that is still taking the ones before: large sends cost less per byte.
pub const UPLOAD_QUEUE_BYTES: usize = BULK_BUFFER / 2;
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
/// How long a port that nobody has is waited for: the kernel takes the ring of a killed process apart within
/// some tens of milliseconds.
pub const PORT_PATIENCE: Duration = Duration::from_secs(1);
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

// What is kept and told of traffic.

/// Refusals kept per worker and kind for whoever asks afterwards: a screenful.
pub const REFUSALS_KEPT: usize = 64;
/// Scrapes at once: two servers and a person.
pub const METRICS_CONNECTIONS: usize = 4;
/// Bytes of the head of a scrape; scrapers send some 300.
pub const METRICS_HEAD_BYTES: usize = 8 * 1024;
/// Until a scrape has asked, and until it has taken the answer.
pub const METRICS_TIMEOUT: Duration = Duration::from_secs(10);

// The admin socket.

/// Bytes of a request: a name has at most 253.
pub const ADMIN_REQUEST_BYTES: usize = 4096;
/// Bytes of an answer: the status of ten thousand certificates has about 8 MiB.
pub const ADMIN_ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// Connections at once: people and a script or two.
pub const ADMIN_CONNECTIONS: usize = 8;
/// Until a request is there, and until an answer is taken.
pub const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Until the answer comes: revoking waits for an authority, two minutes and a half at most.
pub const ADMIN_ANSWER_TIMEOUT: Duration = Duration::from_secs(180);
// Certificates in files.

/// How long nothing may happen to a file before it is read: a certificate and its key are written one
/// after the other.
pub const CERTIFICATE_SETTLE: Duration = Duration::from_millis(50);
/// The longest wait for that, while files go on changing: a new pair is in service within a second.
pub const CERTIFICATE_SETTLE_MOST: Duration = Duration::from_millis(300);
/// How long a pair may be unusable before the reason is said: between the writing of its two halves.
pub const CERTIFICATE_GRACE: Duration = Duration::from_secs(2);
/// How often every file is compared with what was read, for changes that the kernel does not tell: network
/// file systems, too many files to watch. 10,000 pairs take some 30 ms.
pub const CERTIFICATE_SWEEP: Duration = Duration::from_secs(30);
/// Symbolic links followed from a file's name to the file; the kernel's own bound.
pub const CERTIFICATE_LINKS: u32 = 40;

// Certificate authorities.

/// From a request to an authority sent to the end of its answer; Let's Encrypt answers within seconds.
pub const ACME_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Connecting to an authority, TLS included.
pub const ACME_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// From a challenge answered to the verdict: authorities look from several places, one after another.
pub const ACME_ORDER_TIMEOUT: Duration = Duration::from_secs(120);
/// Names of one certificate: Let's Encrypt's own bound.
pub const ACME_NAMES: usize = 100;
/// Until a record is seen by whoever must see it: secondaries of most zones follow within a minute.
pub const DNS_PROPAGATION_TIMEOUT: Duration = Duration::from_secs(120);
/// After which a program that writes records is ended: some wait for the record to spread.
pub const DNS_PROGRAM_TIMEOUT: Duration = Duration::from_secs(120);
/// New names in an hour that clients may ask certificates for: a fifth of what Let's Encrypt allows an account.
pub const ON_DEMAND_PER_HOUR: usize = 20;
/// Such names in all.
pub const ON_DEMAND_TOTAL: usize = 1000;
/// Until the application says whether a name may have a certificate; the client's handshake waits for it.
pub const ON_DEMAND_ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an authority's answer: a chain is 8 KiB, a directory 1.
pub const ACME_ANSWER_BYTES: usize = 1024 * 1024;
/// Bytes of one text of an authority that are kept for logs; a link to a page with a token is the longest.
pub const ACME_TEXT_BYTES: usize = 2048;
/// Subproblems of one answer, and challenges of one authorization: certificates have up to 100 names.
pub const ACME_PROBLEMS: usize = 100;
/// Longest `Retry-After` believed: rate limits of Let's Encrypt are counted over a week.
pub const ACME_RETRY_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// Tries of one operation whose nonces are refused, each of up to four requests: of 1000 issuances not one
/// fails when half of all nonces are refused.
pub const ACME_NONCE_TRIES: u32 = 10;
/// First wait before an order is looked at again; it grows by a third each time.
pub const ACME_POLL_FIRST: Duration = Duration::from_secs(1);
/// Longest of those waits.
pub const ACME_POLL_LONGEST: Duration = Duration::from_secs(15);
/// Idle connections to one authority are not kept longer than this; its servers close them after minutes.
pub const ACME_KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Hosts of authorities to which an idle connection is kept: an authority has one, seldom two.
pub const ACME_IDLE_CONNECTIONS: usize = 8;
/// Addresses of an authority's name that are tried in turn.
pub const ACME_ADDRESSES: usize = 8;
/// Bytes of a proxy's answer to CONNECT.
pub const ACME_PROXY_HEAD_BYTES: usize = 8 * 1024;
/// Renewal windows are not fetched more often than this (RFC 9773 §4.3.2).
pub const ACME_RENEWAL_INFO_SOONEST: Duration = Duration::from_secs(60);
/// Nor more seldom than this: a revocation should be seen within a day.
pub const ACME_RENEWAL_INFO_LATEST: Duration = Duration::from_secs(24 * 3600);
/// When the authority does not say: RFC 9773 §4.3.3 suggests 6 hours.
pub const ACME_RENEWAL_INFO_DEFAULT: Duration = Duration::from_secs(6 * 3600);
/// Life of a certificate that answers TLS-ALPN-01; validators do not look at it.
pub const ACME_CHALLENGE_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A life below this renews at its half instead of at two thirds: Let's Encrypt's advice to integrators.
pub const ACME_SHORT_LIFE: Duration = Duration::from_secs(10 * DAY);
/// Shortest life that public authorities issue, rounded down (160 h): below it, every wait of the schedule
/// shrinks in proportion, so that a certificate of a minute is retried within seconds.
pub const ACME_REFERENCE_LIFE: Duration = Duration::from_secs(6 * DAY);
/// Part of its life by which a renewal is moved at random: 90-day certificates spread over two days.
pub const ACME_JITTER: f64 = 0.02;
/// Time left at which a certificate is renewed whatever renewal information says, at least (a twentieth of
/// its life otherwise): certmagic's bound, with a few attempts' time at the end.
pub const ACME_EMERGENCY: Duration = Duration::from_secs(5 * MINUTE);
/// First question for renewal information, at the earliest: the authority has to know its certificate.
pub const ACME_ARI_FIRST_MIN: Duration = Duration::from_secs(MINUTE);
/// The same at the latest; the spread keeps a thousand new certificates from asking at once.
pub const ACME_ARI_FIRST_MAX: Duration = Duration::from_secs(10 * MINUTE);
/// Shortest wait between questions for renewal information (RFC 9773 §4.3.2 names a minute).
pub const ACME_ARI_POLL_MIN: Duration = Duration::from_secs(MINUTE);
/// Longest: RFC 9773 §4.3.2 names a day, Let's Encrypt asks for two questions a day.
pub const ACME_ARI_POLL_MAX: Duration = Duration::from_secs(12 * HOUR);
/// The wait when the authority names none; Let's Encrypt names this.
pub const ACME_ARI_POLL: Duration = Duration::from_secs(6 * HOUR);
/// Bytes kept of the page that explains a changed window; it only goes into a log line.
pub const ACME_EXPLANATION_BYTES: usize = 512;
/// Waits after the first failures in a row, and after all later ones: Let's Encrypt's own advice.
pub const ACME_BACKOFF: [Duration; 4] = [
    Duration::from_secs(MINUTE),
    Duration::from_secs(10 * MINUTE),
    Duration::from_secs(100 * MINUTE),
    Duration::from_secs(DAY),
];
/// Part by which a wait is lengthened or shortened at random, so that slots that failed together part.
pub const ACME_BACKOFF_SPREAD: f64 = 0.1;
/// With less than this left (or a quarter of the life), attempts come at least each [`ACME_BACKOFF_SOON`].
pub const ACME_SOON: Duration = Duration::from_secs(3 * DAY);
/// Longest wait then, and while there is no certificate: four attempts a day.
pub const ACME_BACKOFF_SOON: Duration = Duration::from_secs(6 * HOUR);
/// With less than this left, attempts come at least each [`ACME_BACKOFF_LAST`].
pub const ACME_LAST: Duration = Duration::from_secs(DAY);
/// Longest wait then: hourly, far below the five failures an hour that Let's Encrypt allows.
pub const ACME_BACKOFF_LAST: Duration = Duration::from_secs(HOUR);
/// Expired for longer than this, a certificate is tried for as if there were none: hourly failures would
/// reach the 1,152 in a row at which Let's Encrypt pauses an account.
pub const ACME_GIVEN_UP: Duration = Duration::from_secs(7 * DAY);
/// Between attempts that the authority refused for what was asked: only a person can change that.
pub const ACME_BLOCKED_RETRY: Duration = Duration::from_secs(DAY);
/// Wait after another instance turned out to have finished the same order.
pub const ACME_LOST_ORDER_RETRY: Duration = Duration::from_secs(MINUTE);
/// Longest `Retry-After` believed: the longest window of a limit at Let's Encrypt.
pub const ACME_RETRY_AFTER_MAX: Duration = Duration::from_secs(7 * DAY);
/// Age up to which an order is resumed after a restart: authorizations live an hour with short profiles.
pub const ACME_RESUME_AGE: Duration = Duration::from_secs(50 * MINUTE);
/// Restarts that may resume one order; more are a crash loop, and each counts as a failure.
pub const ACME_RESUMES: u32 = 3;
/// How long failures of an authority itself go on before the next authority is asked.
pub const ACME_NEXT_AUTHORITY: Duration = Duration::from_secs(HOUR);
/// Bytes kept of a failure's text, which may be the authority's own words.
pub const ACME_FAILURE_BYTES: usize = 1024;
/// Failing for longer than this is an error, no longer a warning.
pub const ACME_FAILING_ERROR: Duration = Duration::from_secs(DAY);
/// Between calls of the hook while a renewal fails.
pub const ACME_HOOK_INTERVAL: Duration = Duration::from_secs(DAY);
/// The same while it is critical.
pub const ACME_HOOK_INTERVAL_CRITICAL: Duration = Duration::from_secs(HOUR);
/// Failed authorizations of one name in an hour; Let's Encrypt allows five.
pub const ACME_FAILED_AUTHORIZATIONS: usize = 3;
/// In which they are counted.
pub const ACME_FAILED_AUTHORIZATIONS_WINDOW: Duration = Duration::from_secs(HOUR);
/// Certificates for one exact set of names in [`ACME_ISSUED_WINDOW`]; Let's Encrypt allows five.
pub const ACME_ISSUED: usize = 3;
/// The same when the authority itself asks for a new one: one is in reserve for that.
pub const ACME_ISSUED_REQUESTED: usize = 4;
/// In which they are counted.
pub const ACME_ISSUED_WINDOW: Duration = Duration::from_secs(7 * DAY);
/// Shortest time between two certificates of a set that the authority asks for: its renewal information may
/// be stuck in the past.
pub const ACME_ISSUED_SPACING_REQUESTED: Duration = Duration::from_secs(DAY);
/// The same when the certificate was lost or its configuration changed.
pub const ACME_ISSUED_SPACING_LOST: Duration = Duration::from_secs(HOUR);
/// Orders of an account in one go; Let's Encrypt allows 300.
pub const ACME_ORDER_BURST: u32 = 20;
/// After which one more order may follow: Let's Encrypt's own refill.
pub const ACME_ORDER_REFILL: Duration = Duration::from_secs(36);
/// Orders of an account at the same time: more win nothing, as the acme thread is one.
pub const ACME_ORDERS_OPEN: usize = 2;
/// Sets and names that one account's budget counts; the oldest are forgotten first. 100,000 sites and
/// their failures stay below 20 MB.
pub const ACME_BUDGET_ENTRIES: usize = 100_000;
/// How far the clock may be from the authority's before it is suspect.
pub const ACME_CLOCK_SKEW: Duration = Duration::from_secs(5 * MINUTE);
/// Longest time that the plan asks the driver to wait: wall time may step.
pub const ACME_WAIT_MAX: Duration = Duration::from_secs(DAY);
/// Life of an answer that allows a name on demand.
pub const ACME_DEMAND_ALLOWED: Duration = Duration::from_secs(60);
/// Life of an answer that refuses one.
pub const ACME_DEMAND_REFUSED: Duration = Duration::from_secs(300);
/// Answers kept, the oldest forgotten first: about a megabyte.
pub const ACME_DEMAND_ANSWERS: usize = 4096;
/// Handshakes that wait for a name on demand, over all names.
pub const ACME_DEMAND_WAITING: usize = 10;
/// Names on demand that may wait unread for the acme thread: places of clients that left are taken anew
/// before it has looked.
pub const ACME_DEMAND_UNREAD: usize = 64;
/// Longest time between two looks whether a certificate on demand is in use, once it is due; a short-lived
/// one is looked at more often.
pub const ACME_DEMAND_LOOK: Duration = Duration::from_secs(HOUR);
/// Labels of a name on demand in front of its suffix of two labels.
pub const ACME_DEMAND_LABELS: usize = 5;
/// In which new names on demand are counted.
pub const ACME_DEMAND_WINDOW: Duration = Duration::from_secs(HOUR);
// Before an order.

/// Looking up one kind of record of a name: longer than one name server's patience.
pub const PREFLIGHT_LOOKUP: Duration = Duration::from_secs(6);
/// Knocking at one address: a handshake across the world takes half a second.
pub const PREFLIGHT_PROBE: Duration = Duration::from_secs(4);
/// All names of a certificate; an order that is right waits for those of others.
pub const PREFLIGHT_TOTAL: Duration = Duration::from_secs(20);
/// All names of a configuration, for a person who waits.
pub const PREFLIGHT_ALL: Duration = Duration::from_secs(60);
/// Names of a certificate, or certificates, that are looked at together.
pub const PREFLIGHT_AT_ONCE: usize = 8;
/// Bytes read of an answer that should be a key authorization of 100 bytes under a short head.
pub const PREFLIGHT_ANSWER_BYTES: usize = 16 * 1024;
/// A clock that is further behind than the hour by which authorities date certificates back takes a new one
/// for one of the future.
pub const PREFLIGHT_CLOCK_BEHIND: Duration = Duration::from_secs(HOUR);
/// A clock that is further ahead takes a new certificate of the usual 90 days for one that ends at once.
pub const PREFLIGHT_CLOCK_AHEAD: Duration = Duration::from_secs(80 * DAY);
/// Longest wait between two pre-flights: they ask nothing of an authority.
pub const PREFLIGHT_RETRY: Duration = Duration::from_secs(HOUR);

// DNS, as certificates need it.

/// Records and questions of one message: answers here have a handful; thousands are an attack.
pub const DNS_RECORDS: usize = 512;
/// Compression pointers of one name: writers make one.
pub const DNS_POINTERS: usize = 16;
/// Names in a chain of CNAME records: resolvers stop at 8 to 16.
pub const DNS_CHAIN: usize = 8;
/// Waiting for one server's answer to one question; the C library's figure is 5 s.
pub const DNS_QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Times that the list of name servers is gone through; the C library's figure.
pub const DNS_TRIES: usize = 2;
/// Name servers asked: the C library takes 3 of its file; zones have up to 13.
pub const DNS_SERVERS: usize = 16;
/// Payload taken by UDP (RFC 9715 §3.1): more is fragmented on the way.
pub const DNS_UDP_PAYLOAD: u16 = 1232;
/// Waiting for a server to take a change: it may have to write it to disk.
pub const DNS_UPDATE_TIMEOUT: Duration = Duration::from_secs(20);
/// Seconds that a challenge's record may be kept by resolvers: it is good for minutes.
pub const DNS_RECORD_TTL: u32 = 60;
/// Between looks for a record that is not there yet; lego's figure.
pub const DNS_POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Lines of a hook's output that are kept: the last ones tell how it ended.
pub const HOOK_LINES: usize = 64;
/// Bytes kept of one of them.
pub const HOOK_LINE_BYTES: usize = 512;
/// From a hook's end to the end of its output, which a child of it may hold open.
pub const HOOK_OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

// Several machines with one storage: see `acme::store::Lease`.

/// Between a leader's signs of life, and between the looks of others.
pub const LEASE_INTERVAL: Duration = Duration::from_secs(10);
/// From a sign of life, how long its writer leads: two may fail.
pub const LEASE_VALID: Duration = Duration::from_secs(30);
/// A sign of life that took longer to write counts for nothing: others may have gone on.
pub const LEASE_WRITE: Duration = Duration::from_secs(10);
/// Without a sign of life for so long, another claims leadership.
pub const LEASE_QUIET: Duration = Duration::from_secs(30);
/// From a claim to leadership: any leader whose sign of life it replaced has ended by then.
pub const LEASE_SETTLE: Duration = Duration::from_secs(30);

// Answers of challenges that instances with one state directory share: see `acme::store::SharedAnswer`.

/// Between two looks of a follower for answers to give.
pub const ACME_SHARED_LOOK: Duration = Duration::from_secs(1);
/// From writing an answer to telling the authority, while a process of this machine follows: one look, and
/// the time to carry it out.
pub const ACME_SHARED_SPREAD: Duration = Duration::from_millis(1500);
/// The same where other machines may follow: their kernel may show a directory as it was a second ago
/// (`actimeo=1`; nfs(5)).
pub const ACME_SHARED_SPREAD_FAR: Duration = Duration::from_secs(3);
/// Answers that a follower takes: two orders of 100 names are open at once, and what a killed leader left.
pub const ACME_SHARED_ANSWERS: usize = 1024;
/// Bytes of a shared answer: a token of 128, a dot and a thumbprint of 43, or a digest of 43.
pub const ACME_SHARED_BYTES: u64 = 256;

const _: () = assert!(ACME_SHARED_SPREAD.as_millis() > ACME_SHARED_LOOK.as_millis(), "a follower has looked");
const _: () =
    assert!(LEASE_VALID.as_secs() >= 3 * LEASE_INTERVAL.as_secs(), "one failure ends no leadership");
const _: () = assert!(LEASE_SETTLE.as_secs() >= LEASE_VALID.as_secs(), "a claim outlasts who led before it");
const _: () = assert!(LEASE_SETTLE.as_secs() > 2 * LEASE_WRITE.as_secs(), "rival claims are seen");
const _: () = assert!(TARGET_BYTES < HEAD_BYTES, "a target must fit in a head");
const _: () = assert!(REPLAY_BYTES >= HEAD_BYTES, "a head without body can be sent again");
const _: () = assert!(RECEIVE_BUFFER < BULK_BUFFER, "a bulk buffer is the larger one");
const _: () = assert!(CHUNK_LINE_BYTES < CHUNK_EXTENSIONS_BYTES, "one line fits in the whole");
