//! Room 10. The only ways one thread gives another something, and the only atomics of the proxy:
//! [`published`] snapshots (control to workers), the [`mailbox`] (commands to one worker), the [`ring`]
//! of log lines (worker to log thread), the [`desk`] of the acme thread (requests and their answers), the
//! [`wishes`] of clients for certificates (worker to acme thread), and the [`counters`] that workers write
//! and control sums.

pub mod counters;
pub mod desk;
pub mod mailbox;
pub mod published;
pub mod ring;
pub mod wishes;
