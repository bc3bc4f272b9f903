//! Kernel settings (`sysctl`) that matter to a proxy, in one table: what each should be, what that buys and
//! how it is known. The doctor judges by it and `tune` writes what it says.

use super::facts::Facts;
use super::needs::Needs;
use crate::limits;

/// One kernel setting.
pub(super) struct Knob {
    /// Its `sysctl` name.
    pub key: &'static str,
    /// What it buys, in sentences.
    pub buys: &'static str,
    /// Whether the lack of it is a defect, not only a loss.
    pub grave: bool,
    wants: Wants,
}

enum Wants {
    /// This figure or more.
    AtLeast(fn(&Needs) -> u64),
    /// This figure or less.
    AtMost(u64),
    /// This figure or less, for connections to apps over TCP.
    AtMostForApps(u64),
    /// 0 unless io_uring works anyway, by the group of the service.
    RingAllowed,
    /// These source ports, for apps over TCP.
    Ports(u32, u32),
    /// Reuse of ports that wait in TIME_WAIT, for apps over TCP.
    PortReuse,
    /// Three figures, the last one at least this.
    Largest(u64),
    /// The queueing discipline that paces, if the congestion control needs it.
    Pacing,
}

/// How all of these are known: by the kernel's documentation and common practice.
pub(super) const KNOWN: &str = "Known, not measured here.";

impl Knob {
    /// What to set it to; `None` if it is right already, does not matter here, or is not there.
    pub fn mended(&self, facts: &Facts, needs: &Needs) -> Option<String> {
        self.target(facts, needs).filter(|target| !target.is_met).map(|target| target.value)
    }

    /// What a file of settings should say: also what is right because it was set to just that, since a file
    /// written anew without it would undo it at the next start.
    pub fn kept(&self, facts: &Facts, needs: &Needs) -> Option<String> {
        let target = self.target(facts, needs)?;
        let is_exact = facts.setting(self.key) == Some(&target.value);
        (!target.is_met || is_exact).then_some(target.value)
    }

    fn target(&self, facts: &Facts, needs: &Needs) -> Option<Target> {
        let now = facts.setting(self.key)?;
        // A text that is no figure is not right.
        let figure = |otherwise: u64| now.parse().unwrap_or(otherwise);
        let at_least = |now: u64, wanted: u64| Target { value: wanted.to_string(), is_met: now >= wanted };
        let at_most = |now: u64, wanted: u64| Target { value: wanted.to_string(), is_met: now <= wanted };
        let target = match self.wants {
            Wants::AtLeast(wanted) => at_least(figure(0), wanted(needs)),
            Wants::AtMost(wanted) => at_most(figure(u64::MAX), wanted),
            Wants::AtMostForApps(_) | Wants::Ports(..) | Wants::PortReuse if !needs.tcp_upstreams => {
                return None;
            }
            Wants::AtMostForApps(wanted) => at_most(figure(u64::MAX), wanted),
            Wants::RingAllowed => {
                Target { value: "0".into(), is_met: now == "0" || now == "1" && facts.ring.is_ok() }
            }
            Wants::Ports(first, last) => {
                let range =
                    now.split_once(' ').and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
                let is_met = range.is_some_and(|(low, high): (u32, u32)| low <= first && high >= last);
                Target { value: format!("{first} {last}"), is_met }
            }
            // 2 is: for connections within the machine only.
            Wants::PortReuse => {
                let is_met = now == "1" || now == "2" && !needs.remote_upstreams;
                Target { value: "1".into(), is_met }
            }
            Wants::Largest(wanted) => {
                let (others, largest) = now.rsplit_once(' ')?;
                let Target { value, is_met } = at_least(largest.parse().ok()?, wanted);
                Target { value: format!("{others} {value}"), is_met }
            }
            Wants::Pacing if facts.setting(CONGESTION) != Some("bbr") => return None,
            Wants::Pacing => Target { value: "fq".into(), is_met: now == "fq" },
        };
        Some(target)
    }
}

/// What a setting should be, and whether what it is will do.
struct Target {
    value: String,
    is_met: bool,
}

/// The setting that names the congestion control.
pub(super) const CONGESTION: &str = "net.ipv4.tcp_congestion_control";
/// The setting that lists what may sit between TCP and a socket, kernel TLS among it.
pub(super) const ULP: &str = "net.ipv4.tcp_available_ulp";

/// Names of all settings that are read.
pub(super) fn keys() -> Vec<&'static str> {
    KNOBS.iter().map(|knob| knob.key).chain([CONGESTION, ULP]).collect()
}

/// Connections that Lockring lets wait for each listening socket.
pub(super) const BACKLOG: u64 = limits::LISTEN_BACKLOG.unsigned_abs() as u64;

/// All of them, in the order in which they are told and written.
pub(super) const KNOBS: [Knob; 14] = [
    Knob {
        key: "kernel.io_uring_disabled",
        buys: "Lets the service use io_uring; without it each request costs more on epoll. (1 allows it to the \
               group in kernel.io_uring_group alone, 2 to nobody.)",
        grave: true,
        wants: Wants::RingAllowed,
    },
    Knob {
        key: "net.core.somaxconn",
        buys: "Connections that wait to be accepted, per listening socket: the kernel silently takes the \
               smaller of this and what Lockring asks for. No refused connections in a burst.",
        grave: false,
        wants: Wants::AtLeast(|_| BACKLOG),
    },
    Knob {
        key: "net.ipv4.tcp_max_syn_backlog",
        buys: "Connections half way through TCP's own handshake. Room in a burst before SYN cookies are used.",
        grave: false,
        wants: Wants::AtLeast(|_| 2 * BACKLOG),
    },
    Knob {
        key: "net.ipv4.tcp_syncookies",
        buys: "Answers a full queue of the above without keeping state: a SYN flood does not lock clients out.",
        grave: true,
        wants: Wants::AtLeast(|_| 1),
    },
    Knob {
        key: "net.ipv4.ip_local_port_range",
        buys: "Source ports for connections to apps over TCP: one address and port of an app can have this \
               many connections, those in TIME_WAIT included. No failed dials. (An app on a Unix socket needs \
               none.)",
        grave: false,
        wants: Wants::Ports(10_240, 65_535),
    },
    Knob {
        key: "net.ipv4.tcp_tw_reuse",
        buys: "A new connection to an app may take a port that waits in TIME_WAIT when timestamps make it \
               safe. No failed dials.",
        grave: false,
        wants: Wants::PortReuse,
    },
    Knob {
        key: "net.ipv4.tcp_fin_timeout",
        buys: "Seconds for which a closed connection waits for the app's own FIN and holds its port. Ports come \
               back from apps that never close.",
        grave: false,
        wants: Wants::AtMostForApps(60),
    },
    Knob {
        key: "net.ipv4.tcp_slow_start_after_idle",
        buys: "At 0 an idle connection keeps its congestion window: the first answer after a pause leaves in \
               fewer round trips. Costs a larger burst into a path that may have changed.",
        grave: false,
        wants: Wants::AtMost(0),
    },
    Knob {
        key: "net.ipv4.tcp_rmem",
        buys: "Receive buffers may grow to the last figure (bytes: least, first, most). Full speed over long, \
               fast paths; memory is used only while data is in flight.",
        grave: false,
        wants: Wants::Largest(16 * 1024 * 1024),
    },
    Knob {
        key: "net.ipv4.tcp_wmem",
        buys: "Send buffers may grow to the last figure (bytes: least, first, most). Full speed over long, fast \
               paths; memory is used only while data is in flight.",
        grave: false,
        wants: Wants::Largest(16 * 1024 * 1024),
    },
    Knob {
        key: "net.ipv4.tcp_notsent_lowat",
        buys: "Bytes that wait in the kernel unsent, per socket: what it holds for a slow client is little, so \
               memory stays flat and what is sent next is fresh. Costs more wake-ups in a large download.",
        grave: false,
        wants: Wants::AtMost(131_072),
    },
    Knob {
        key: "net.core.default_qdisc",
        buys: "Matters to bbr alone, which paces each connection: fq does it for all of them together, cheaper than TCP's timer for \
               each. Counts for cards that come up afterwards.",
        grave: false,
        wants: Wants::Pacing,
    },
    Knob {
        key: "fs.file-max",
        buys: "Descriptors of the whole machine: twice what Lockring's own limit allows.",
        grave: false,
        wants: Wants::AtLeast(|needs| needs.descriptor_limit().saturating_mul(2)),
    },
    Knob {
        key: "fs.nr_open",
        buys: "The most that the descriptor limit of one process can be set to. Each proxied connection takes \
               two.",
        grave: false,
        wants: Wants::AtLeast(Needs::descriptor_limit),
    },
];
