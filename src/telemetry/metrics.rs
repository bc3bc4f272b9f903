//! What is counted, under which name: one table for counting, exposition and status. Values live in
//! atomics elsewhere; here are only their places and their sums.

/// Whether a value only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows for the life of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations by bucket; never in the table below.
    Histogram,
}

/// How a counter is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// Metric family, as the Prometheus text format writes it.
    pub family: &'static str,
    /// One label and its value, which tell the members of a family apart.
    pub label: Option<(&'static str, &'static str)>,
    /// Whether it only grows.
    pub kind: Kind,
    /// One sentence about the family.
    pub help: &'static str,
}

/// Families stand together: the first row of a family carries its help, and the text format asks that
/// its members follow each other.
macro_rules! table {
    ($($variant:ident $kind:ident $family:literal $(($label:literal $value:literal))? $help:literal;)*) => {
        /// A thing that workers count.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter {
            $(
                #[doc = concat!("`", $family, $("{", $label, "=\"", $value, "\"}",)? "`: ", $help)]
                $variant,
            )*
        }

        impl Counter {
            /// Every counter, in table order, which is the order of the numbers.
            pub const ALL: [Self; COUNTERS] = [$(Self::$variant),*];

            /// How it is shown.
            #[must_use]
            pub const fn description(self) -> Description {
                match self {
                    $(Self::$variant => Description {
                        family: $family,
                        label: table!(@label $(($label, $value))?),
                        kind: Kind::$kind,
                        help: $help,
                    },)*
                }
            }
        }

        /// How many counters there are.
        pub const COUNTERS: usize = [$(stringify!($variant)),*].len();
    };
    (@label) => { None };
    (@label ($label:literal, $value:literal)) => { Some(($label, $value)) };
}

table! {
    Accepted Counter "lockring_connections_accepted_total" "Client connections accepted.";
    ConnectionsOpen Gauge "lockring_connections_open" "Client connections open now.";
    ConnectionsIdle Gauge "lockring_connections_idle" "Client connections that have waited for a request for a second or longer, and hold no buffer.";
    TunnelsOpen Gauge "lockring_tunnels_open" "Upgraded connections open now.";
    AcceptPaused Counter "lockring_accept_paused_total" "Times accepting paused at a limit.";
    HandshakesFull Counter "lockring_tls_handshakes_total" ("kind" "full") "TLS handshakes completed.";
    HandshakesResumed Counter "lockring_tls_handshakes_total" ("kind" "resumed") "TLS handshakes completed.";
    RefusedPlain Counter "lockring_tls_refused_total" ("reason" "plain_http") "Connections refused before or in the handshake.";
    RefusedNotTls Counter "lockring_tls_refused_total" ("reason" "not_tls") "Connections refused before or in the handshake.";
    RefusedMalformedHello Counter "lockring_tls_refused_total" ("reason" "malformed_hello") "Connections refused before or in the handshake.";
    RefusedNoSni Counter "lockring_tls_refused_total" ("reason" "no_sni") "Connections refused before or in the handshake.";
    RefusedUnknownName Counter "lockring_tls_refused_total" ("reason" "unknown_name") "Connections refused before or in the handshake.";
    RefusedNoCertificate Counter "lockring_tls_refused_total" ("reason" "no_certificate") "Connections refused before or in the handshake.";
    RefusedOnDemand Counter "lockring_tls_refused_total" ("reason" "on_demand") "Connections refused before or in the handshake.";
    RefusedOnDemandBusy Counter "lockring_tls_refused_total" ("reason" "on_demand_busy") "Connections refused before or in the handshake.";
    RefusedHandshake Counter "lockring_tls_refused_total" ("reason" "handshake") "Connections refused before or in the handshake.";
    RefusedHandshakeTimeout Counter "lockring_tls_refused_total" ("reason" "timeout") "Connections refused before or in the handshake.";
    RefusedProxyPrefix Counter "lockring_tls_refused_total" ("reason" "proxy_prefix") "Connections refused before or in the handshake.";
    TlsRecordErrors Counter "lockring_tls_record_errors_total" "Connections closed for a record that was not valid.";
    RequestsHttp1 Counter "lockring_requests_total" ("protocol" "http/1") "Requests whose head was read whole.";
    RequestsHttp2 Counter "lockring_requests_total" ("protocol" "h2") "Requests whose head was read whole.";
    RequestsOpen Gauge "lockring_requests_open" "Requests in progress now.";
    Answered1xx Counter "lockring_responses_total" ("class" "1xx") "Responses sent, by class of status.";
    Answered2xx Counter "lockring_responses_total" ("class" "2xx") "Responses sent, by class of status.";
    Answered3xx Counter "lockring_responses_total" ("class" "3xx") "Responses sent, by class of status.";
    Answered4xx Counter "lockring_responses_total" ("class" "4xx") "Responses sent, by class of status.";
    Answered5xx Counter "lockring_responses_total" ("class" "5xx") "Responses sent, by class of status.";
    RefusedMalformed Counter "lockring_requests_refused_total" ("reason" "malformed") "Requests that reached no upstream.";
    RefusedTooLarge Counter "lockring_requests_refused_total" ("reason" "too_large") "Requests that reached no upstream.";
    RefusedMisdirected Counter "lockring_requests_refused_total" ("reason" "misdirected") "Requests that reached no upstream.";
    RefusedNoRoute Counter "lockring_requests_refused_total" ("reason" "no_route") "Requests that reached no upstream.";
    RefusedUnavailable Counter "lockring_requests_refused_total" ("reason" "unavailable") "Requests that reached no upstream.";
    RefusedSlow Counter "lockring_requests_refused_total" ("reason" "slow") "Requests that reached no upstream.";
    ClientGone Counter "lockring_requests_cancelled_total" "Requests whose client went away before the answer was whole.";
    UpstreamDials Counter "lockring_upstream_connections_total" ("kind" "new") "Upstream connections used, fresh or from the pool.";
    UpstreamReused Counter "lockring_upstream_connections_total" ("kind" "reused") "Upstream connections used, fresh or from the pool.";
    UpstreamConnectFailed Counter "lockring_upstream_failures_total" ("reason" "connect") "Failures of upstreams, retried ones included.";
    UpstreamConnectTimeout Counter "lockring_upstream_failures_total" ("reason" "connect_timeout") "Failures of upstreams, retried ones included.";
    UpstreamUnresolved Counter "lockring_upstream_failures_total" ("reason" "unresolved") "Failures of upstreams, retried ones included.";
    UpstreamClosed Counter "lockring_upstream_failures_total" ("reason" "closed") "Failures of upstreams, retried ones included.";
    UpstreamTimeout Counter "lockring_upstream_failures_total" ("reason" "timeout") "Failures of upstreams, retried ones included.";
    UpstreamMalformed Counter "lockring_upstream_failures_total" ("reason" "malformed") "Failures of upstreams, retried ones included.";
    Retries Counter "lockring_upstream_retries_total" "Requests sent again on a fresh connection.";
    BuffersFree Gauge "lockring_buffers_free" "Buffers of one record kept for the next use.";
    BulkBuffersInUse Gauge "lockring_bulk_buffers_in_use" "Buffers of many records in use now.";
    PoolIdle Gauge "lockring_upstream_idle" "Idle upstream connections kept now.";
    BytesFromClients Counter "lockring_client_bytes_total" ("direction" "in") "Bytes of requests and responses, before encryption.";
    BytesToClients Counter "lockring_client_bytes_total" ("direction" "out") "Bytes of requests and responses, before encryption.";
    LogLinesDropped Counter "lockring_log_lines_dropped_total" "Access log lines dropped.";
}

impl Counter {
    /// The counter of a response with this status, by its first digit.
    #[must_use]
    pub const fn answered(status: u16) -> Self {
        match status {
            0..=199 => Self::Answered1xx,
            200..=299 => Self::Answered2xx,
            300..=399 => Self::Answered3xx,
            400..=499 => Self::Answered4xx,
            _ => Self::Answered5xx,
        }
    }
}

/// The sums of all counters at about one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    values: [u64; COUNTERS],
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { values: [0; COUNTERS] }
    }
}

impl Snapshot {
    /// The sum of one counter.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.values.get(counter as usize).copied().unwrap_or(0)
    }

    /// The sum of all members of a family.
    #[must_use]
    pub fn family(&self, family: &str) -> u64 {
        let members = Counter::ALL.iter().filter(|counter| counter.description().family == family);
        members.map(|counter| self.get(*counter)).sum()
    }

    /// Adds `n` to one sum.
    pub fn add(&mut self, counter: Counter, n: u64) {
        if let Some(value) = self.values.get_mut(counter as usize) {
            *value = value.wrapping_add(n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{COUNTERS, Counter, Kind, Snapshot};
    use std::collections::HashSet;

    #[test]
    fn the_numbers_are_the_places_in_the_table() {
        for (place, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, place);
        }
        assert_eq!(Counter::ALL.len(), COUNTERS);
    }

    #[test]
    fn families_stand_together_agree_and_have_distinct_members() {
        let mut seen = HashSet::new();
        let mut members = HashSet::new();
        let mut last = None;
        for counter in Counter::ALL {
            let row = counter.description();
            assert!(members.insert((row.family, row.label)), "{} twice", row.family);
            assert_eq!(row.family.ends_with("_total"), row.kind == Kind::Counter, "{}", row.family);
            match last {
                Some((family, help, kind)) if family == row.family => {
                    assert_eq!((help, kind), (row.help, row.kind))
                }
                _ => assert!(seen.insert(row.family), "{} is split", row.family),
            }
            last = Some((row.family, row.help, row.kind));
        }
    }

    #[test]
    fn a_status_counts_in_its_class() {
        let cases = [(101, Counter::Answered1xx), (200, Counter::Answered2xx), (304, Counter::Answered3xx)];
        for (status, counter) in cases {
            assert_eq!(Counter::answered(status), counter);
        }
        assert_eq!(Counter::answered(499), Counter::Answered4xx);
        assert_eq!(Counter::answered(502), Counter::Answered5xx);
        let mut sums = Snapshot::default();
        sums.add(Counter::answered(502), 3);
        assert_eq!((sums.get(Counter::Answered5xx), sums.get(Counter::Answered4xx)), (3, 0));
    }
}
