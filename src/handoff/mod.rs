//! Room 10. The only ways one thread gives another something, and the only atomics of the proxy:
//! [`published`] snapshots (control to workers), the [`mailbox`] (commands to one worker), the [`ring`]
//! of log lines (worker to log thread), the [`desk`] of the acme thread (requests and their answers), the
//! [`wishes`] of clients for certificates (worker to acme thread), and what workers count and control sums:
//! [`counters`], and the [`meters`] of each site with their durations ([`histogram`]) and the last
//! [`refusals`].

pub mod counters;
pub mod desk;
pub mod histogram;
pub mod mailbox;
pub mod meters;
pub mod published;
pub mod refusals;
pub mod ring;
pub mod wishes;
