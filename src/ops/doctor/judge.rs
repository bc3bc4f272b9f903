//! Facts to findings: one function for each thing that is looked at, none of which looks itself.

use super::cards::{self, cpu_ranges};
use super::facts::Facts;
use super::knobs::{self, CONGESTION, KNOBS, KNOWN, Knob, ULP};
use super::needs::Needs;
use super::{By, Finding, State};
use crate::limits;

/// Judges a machine by what a configuration needs of it.
#[must_use]
pub fn judge(facts: &Facts, needs: &Needs) -> Vec<Finding> {
    let mut findings = vec![ring(facts)];
    findings.extend(ring_flags(facts));
    findings.push(locked_memory(facts, needs));
    findings.push(descriptors(facts, needs));
    findings.extend(KNOBS.iter().map(|knob| setting(knob, facts, needs)));
    findings.push(congestion(facts, needs));
    findings.push(kernel_tls(facts));
    findings.extend(cpu_features(facts));
    findings.push(governor(facts));
    findings.push(clock(facts));
    findings.push(workers(facts, needs));
    findings.extend(cards::judge(&facts.cards, facts.irqbalance, needs));
    findings
}

fn ring(facts: &Facts) -> Finding {
    let means = "The workers' event loop; without it they run on epoll, at a higher cost per request.";
    let Err(refusal) = facts.ring else { return Finding::new("io_uring", State::Good, "there", means) };
    let (found, mend) = match (facts.setting("kernel.io_uring_disabled"), refusal) {
        (Some("1" | "2"), _) => {
            ("refused by kernel.io_uring_disabled", "sysctl -w kernel.io_uring_disabled=0")
        }
        (_, libc::EPERM | libc::EACCES) => (
            "refused to this process",
            "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile of the container \
             (Docker: --security-opt seccomp=PROFILE.json; its own profile refuses them)",
        ),
        (_, libc::ENOSYS) => ("not in this kernel", "start a kernel of 6.1 or newer, with CONFIG_IO_URING"),
        (_, libc::ENOMEM) => ("refused by the limit of locked memory", "ulimit -l unlimited"),
        _ => ("refused", "strace -e io_uring_setup lockring doctor"),
    };
    let by = if mend.starts_with("sysctl") { By::File } else { By::Hand };
    Finding::new("io_uring", State::Missing, found, means).mend(by, mend)
}

/// One for each flag with which a worker sets its ring up, if there are rings at all.
fn ring_flags(facts: &Facts) -> Vec<Finding> {
    let Ok(flags) = facts.ring else { return Vec::new() };
    let deferred = "Completions are handled when the worker asks, and never interrupt it. Measured (prototype, \
                    TLS 1.3, 1 KiB answers, 64 connections, loopback): 11 to 15 µs of CPU per request with it, \
                    25 without.";
    let single = "Tells the kernel that one thread submits, which DEFER_TASKRUN needs. Not measured alone.";
    let all = format!("An entry that is refused does not hold up those behind it. {KNOWN}");
    let large = format!(
        "{} completions have room: a burst does not take the kernel's slow path of overflow. {KNOWN}",
        limits::RING_COMPLETIONS
    );
    let mut findings = vec![
        flag("IORING_SETUP_SINGLE_ISSUER", flags.single_issuer, "6.0", single),
        flag("IORING_SETUP_DEFER_TASKRUN", flags.defer_taskrun, "6.1", deferred),
        flag("IORING_SETUP_SUBMIT_ALL", flags.submit_all, "5.18", &all),
    ];
    if !flags.defer_taskrun {
        let coop = format!("The next best to DEFER_TASKRUN: fewer interruptions of a worker. {KNOWN}");
        findings.push(flag("IORING_SETUP_COOP_TASKRUN", flags.coop_taskrun, "5.19", &coop));
    }
    let queue = flag("IORING_SETUP_CQSIZE", flags.large_queue, "5.5", &large);
    findings.push(if flags.large_queue {
        queue
    } else {
        queue.mend(By::Hand, "ulimit -l unlimited (before Linux 5.12)")
    });
    findings
}

fn flag(name: &str, taken: bool, since: &str, means: &str) -> Finding {
    if taken {
        return Finding::new(name, State::Good, "taken", means);
    }
    Finding::new(name, State::Better, "refused", means)
        .mend(By::Hand, format!("start a kernel of {since} or newer"))
}

fn locked_memory(facts: &Facts, needs: &Needs) -> Finding {
    let name = "limit of locked memory";
    let means = "Kernels before 5.12 charge io_uring's rings to it; newer ones to the memory of the service.";
    let needed = needs.ring_bytes();
    match facts.locked_memory {
        _ if facts.kernel_has((5, 12)) => {
            Finding::new(name, State::Good, "does not matter to this kernel", means)
        }
        None => Finding::new(name, State::Unknown, "cannot be read", means),
        Some((soft, _)) if soft >= needed => {
            Finding::new(name, State::Good, format!("{} KiB of {} needed", kib(soft), kib(needed)), means)
        }
        Some((soft, _)) => {
            Finding::new(name, State::Missing, format!("{} KiB of {} needed", kib(soft), kib(needed)), means)
                .mend(
                    By::File,
                    format!("ulimit -l {}; in the unit: LimitMEMLOCK={}K", kib(needed), kib(needed)),
                )
        }
    }
}

fn kib(bytes: u64) -> String {
    if bytes == u64::MAX { "unlimited".to_owned() } else { bytes.div_ceil(1024).to_string() }
}

fn descriptors(facts: &Facts, needs: &Needs) -> Finding {
    let name = "limit of descriptors";
    let means = "Of this login; a service has its own. Each proxied connection takes two; when they run out, \
                 Lockring stops accepting and goes on with the connections it has. It raises the soft limit to \
                 the hard one by itself.";
    let Some((soft, hard)) = facts.descriptors else {
        return Finding::new(name, State::Unknown, "cannot be read", means);
    };
    let needed = needs.descriptors();
    let shown = |limit: u64| if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
    let found = format!("soft {}, hard {}, of {needed} needed", shown(soft), shown(hard));
    let state = match hard {
        hard if hard >= needed => return Finding::new(name, State::Good, found, means),
        // Not even one full accept queue could be served.
        hard if hard < knobs::BACKLOG * 2 + limits::RESERVED_DESCRIPTORS => State::Missing,
        _ => State::Better,
    };
    let limit = needs.descriptor_limit();
    Finding::new(name, state, found, means)
        .mend(By::File, format!("ulimit -n {limit}; in the unit: LimitNOFILE={limit}"))
}

fn setting(knob: &Knob, facts: &Facts, needs: &Needs) -> Finding {
    let means = format!("{} {KNOWN}", knob.buys);
    let Some(now) = facts.setting(knob.key) else {
        // The switch came with 6.6; before it, io_uring is for all.
        let absent_is_good = knob.key == "kernel.io_uring_disabled";
        let state = if absent_is_good { State::Good } else { State::Unknown };
        return Finding::new(knob.key, state, "not in this kernel or namespace", means);
    };
    let Some(mended) = knob.mended(facts, needs) else {
        return Finding::new(knob.key, State::Good, now, means);
    };
    let state = if knob.grave { State::Missing } else { State::Better };
    Finding::new(knob.key, state, now, means).mend(By::File, format!("sysctl -w {}='{mended}'", knob.key))
}

fn congestion(facts: &Facts, needs: &Needs) -> Finding {
    let means = format!(
        "bbr paces with timers, on the loopback device too: small answers of apps on this machine look slow, \
         and so do comparisons made there. The remedy is for 127.0.0.1 (checked: both ends then use cubic), not \
         for ::1. Towards clients it may be the better one. {KNOWN}"
    );
    match facts.setting(CONGESTION) {
        None => Finding::new(CONGESTION, State::Unknown, "cannot be read", means),
        Some("bbr") if needs.loopback_upstreams => {
            Finding::new(CONGESTION, State::Better, "bbr, with apps on this machine", means)
                .mend(By::Command, LOOPBACK_CUBIC)
        }
        Some(other) => Finding::new(CONGESTION, State::Good, other, means),
    }
}

/// Leaves bbr to everything but connections to 127.0.0.1.
const LOOPBACK_CUBIC: &str = "ip route replace table local local 127.0.0.1 dev lo proto kernel scope host src \
                                         127.0.0.1 congctl cubic";

fn kernel_tls(facts: &Facts) -> Finding {
    let there = facts.setting(ULP).is_some_and(|list| list.split(' ').any(|word| word == "tls"));
    let found = if there { "there" } else { "not loaded" };
    let means = "Lockring seals records itself and does not use it: nothing is lost without it.";
    Finding::new("kernel TLS", State::Good, found, means)
}

fn cpu_features(facts: &Facts) -> Vec<Finding> {
    let has = |name: &str| facts.features.contains(name);
    let x86 = has("sse2");
    let guest = "in a virtual machine, give the guest the host's CPU model (QEMU: -cpu host)";
    let mut findings = Vec::new();
    let mut feature = |name: &str, there: bool, lack: State, means: &str| {
        let (state, found) = match () {
            () if facts.features.is_empty() => (State::Unknown, "cannot be read"),
            () if there => (State::Good, "there"),
            () => (lack, "not there"),
        };
        let finding = Finding::new(name, state, found, means);
        findings.push(if state == lack { finding.mend(By::Hand, guest) } else { finding });
    };
    let multiply = if x86 { "pclmulqdq" } else { "pmull" };
    let aes = format!("AES-GCM in hardware; without it every byte costs many times as much. {KNOWN}");
    feature("CPU: AES", has("aes") && has(multiply), State::Missing, &aes);
    if x86 {
        let wide = "AES-GCM over several blocks at once. Measured (Zen 4, 16 KiB records): 11.0 GB/s by OpenSSL \
                    3.6, which uses it, 4.4 by OpenSSL 3.0, which does not.";
        feature("CPU: VAES", has("vaes") && has("vpclmulqdq"), State::Better, wide);
        let scan = format!("Heads are scanned 32 bytes at once; without it 8. {KNOWN}");
        feature("CPU: AVX2", has("avx2"), State::Better, &scan);
    }
    findings
}

fn governor(facts: &Facts) -> Finding {
    let name = "CPU frequency governor";
    let means = format!(
        "At partial load others let the clock of a CPU fall between requests, which shows in latency. {KNOWN}"
    );
    let found: Vec<&str> = facts.governors.iter().map(String::as_str).collect();
    match found.as_slice() {
        [] => Finding::new(name, State::Good, "none: the frequency is not the system's to set", means),
        ["performance"] => Finding::new(name, State::Good, "performance", means),
        others => Finding::new(name, State::Better, others.join(", "), means)
            .mend(By::Command, "cpupower frequency-set -g performance"),
    }
}

fn clock(facts: &Facts) -> Finding {
    let means = "Certificates begin and end by it, and so do tickets and logs.";
    match facts.clock {
        Some(true) => Finding::new("clock", State::Good, "synchronised", means),
        Some(false) => Finding::new("clock", State::Better, "nothing keeps it right", means)
            .mend(By::Hand, "timedatectl set-ntp true, or install chrony"),
        None => Finding::new("clock", State::Unknown, "the kernel does not tell", means)
            .mend(By::Hand, "chronyc tracking"),
    }
}

fn workers(facts: &Facts, needs: &Needs) -> Finding {
    let means =
        "Each worker is pinned to a CPU of its own; one that is not there or shared gives no more speed.";
    let cpus = needs.worker_cpus();
    let found =
        format!("{} on CPU {} of {}", needs.workers.len(), cpu_ranges(&cpus), cpu_ranges(&facts.cpus));
    let name = "workers";
    let strange = cpus.iter().any(|cpu| !facts.cpus.contains(cpu));
    if facts.cpus.is_empty() {
        Finding::new(name, State::Unknown, "the CPUs cannot be read", means)
    } else if strange || cpus.len() < needs.workers.len() {
        let mend = format!("workers = \"{}\" in [server], or fewer of them", cpu_ranges(&facts.cpus));
        Finding::new(name, State::Better, found, means).mend(By::Hand, mend)
    } else {
        Finding::new(name, State::Good, found, means)
    }
}
