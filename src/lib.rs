//! Lockring is a TLS termination proxy for the Linux edge: one binary in front of the apps of a machine.
//! This page is the map: the rooms, the walk of one request, the threads, and what must hold.
//!
//! # Rooms
//!
//! A file may use only rooms **above** its own in this list; the tidy test checks it, and the words
//! banned in each. The first nine rooms are pure: no socket, file, thread, clock, randomness or `.await`.
//! They take bytes and `now`, and give back values and actions. Places in a buffer ([`wire::Span`]), not
//! slices that outlive a call, cross from room to room, because the kernel owns a buffer while it works
//! on it.
//!
//! 0. [`limits`]: every bound with its reason, and the relations between them, checked when compiling.
//!    Usable by all rooms.
//! 1. [`wire`]: reading bytes safely. The one bounded reader ([`wire::cursor`]), spans ([`wire::span`]),
//!    effort that runs out ([`wire::budget`]), and the PROXY protocol prefix ([`wire::proxy_protocol`]).
//! 2. [`http`]: the words that HTTP versions share: [`http::method`], [`http::status`], [`http::field`],
//!    [`http::authority`], [`http::target`], [`http::date`], and the head as spans ([`http::head`]).
//! 3. [`config`]: what the user wrote, with positions, becomes what is meant: [`config::model`], valid,
//!    complete and immutable, so that nobody downstream checks a value again.
//! 4. [`tls`]: the ClientHello as a view, names and certificates, the choice of a site or a refusal
//!    before any session exists, rustls handshakes over buffers of the caller, and our own record layer.
//! 5. [`http1`]: one strict reading of HTTP/1.1 (RFC 9112): heads, framing, chunked bodies, and writing
//!    heads anew. Every ambiguity is refused here and nowhere else.
//! 6. [`http2`]: the place of HTTP/2; empty so far.
//! 7. [`upstream`]: endpoints of an app, whose turn it is, which are up, and the idle connections to
//!    them.
//! 8. [`proxy`]: one request's life: route, rewritten head, exchange, replay, tunnel, replies of our own,
//!    and the outcome that is counted and logged.
//! 9. [`telemetry`]: counters, and an outcome as one escaped JSON line.
//! 10. [`handoff`]: the only ways one thread gives another something: published snapshots, mailboxes and
//!     rings. The only atomics.
//! 11. [`io`]: the engine room, the only one that names the runtime: workers, listeners, connections,
//!     dialling, buffers and deadlines. It moves bytes and decides nothing about protocols.
//! 12. [`acme`]: where certificates come from: the local CA, authorities on the network (ACME) with their
//!     plan, challenges and DNS, and the store that keeps all of it.
//! 13. [`ops`]: start, checks, certificate files and the owner of what is served, signals, drain, the admin
//!     socket, the log writer, the resolver, trust.
//!
//! [`cli`] stands below all rooms: it reads the command line and says what a room found.
//!
//! # The walk of one request
//!
//! A worker accepts a connection and waits until it is readable; only then does it take a buffer
//! ([`io`]). A PROXY protocol prefix is read if the peer is trusted to send one
//! ([`wire::proxy_protocol`]). The ClientHello is read as spans, and the site and its certificate are
//! chosen or the connection is refused, before any session exists ([`tls`]). rustls shakes hands; then
//! its secrets move to our record layer, which opens each record in the buffer it arrived in ([`tls`]).
//!
//! The head is read as spans over that plaintext ([`http::head`]): what is asked and how the body ends is
//! decided once ([`http1`]). The request finds its route, the route an endpoint, the endpoint an idle
//! connection or a new one ([`proxy`], [`upstream`]). The head is written anew, never passed on, and the
//! body leaves from the buffer it was decrypted in ([`http1`], [`io`]).
//!
//! On the way back the response's head is read as strictly and written anew, and its body is sealed into
//! the buffer that is sent. The outcome becomes counters and one log line ([`telemetry`]), which crosses
//! to the log thread by a ring ([`handoff`]).
//!
//! # Threads
//!
//! * **Workers**, one per CPU in `workers`, each pinned, with its own ring, listening sockets
//!   (`SO_REUSEPORT`), connections, upstream pools, deadlines and counters. They share no lock.
//! * **Main**: starts all others, then waits for the workers to end.
//! * **Signals**: tells the workers to drain, or to stop.
//! * **Log**: writes access lines in batches. When its ring is full, lines are dropped and counted.
//! * **Resolver**: looks up names of upstreams.
//! * **Certificates**: sees certificate files change, reads them, and renews what the local CA signed.
//! * **Acme**, if a site needs an authority: an event loop of its own at the lowest priority. It alone speaks
//!   to authorities and writes what is kept of them, and it is started anew after a defect.
//! * **Admin**: answers commands, with a short-lived thread for each connection.
//!
//! Resolver, certificates and acme publish snapshots ([`handoff`]); no worker waits for any of them. The last
//! two take turns at the one owner of certificates, which workers never touch.
//!
//! # What must hold
//!
//! 1. No lock, file, name look-up or CA is touched by a worker that serves traffic.
//! 2. Ambiguity is refused: each byte has one strict reading, and a head sent on was written here.
//! 3. Nothing a peer sends can make memory or effort grow past [`limits`]; every wait has a deadline.
//! 4. An idle connection holds no buffer.
//! 5. A body cut short on one side is seen as cut short on the other; such a connection is never reused.
//! 6. Accepted connections and requests are each answered, refused with a reason, or cut by the client,
//!    and counted as that.
//! 7. State on disk is replaced whole: killed at any point, it is a valid key and certificate, or none.

pub mod limits;

pub mod wire;

pub mod http;

pub mod config;

pub mod tls;

pub mod http1;

pub mod http2;

pub mod upstream;

pub mod proxy;

pub mod telemetry;

pub mod handoff;

pub mod io;

pub mod acme;

pub mod ops;

pub mod cli;
