//! Each finding in both of its states, on a machine that is described here; the JSON of all of them; and the
//! files in `tuning/`, which are what `tune` writes for that machine. `UPDATE_GOLDEN=1` writes both anew;
//! read the difference before keeping it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;
use crate::io::sys::RingFlags;

/// A machine with eight CPUs, a card with four queues, and the settings that Linux 6.1 and Debian 12 begin with.
fn stock() -> Facts {
    let settings = [
        ("fs.file-max", "9223372036854775807"),
        ("fs.nr_open", "1048576"),
        ("net.core.default_qdisc", "fq_codel"),
        ("net.core.somaxconn", "4096"),
        ("net.ipv4.ip_local_port_range", "32768 60999"),
        ("net.ipv4.tcp_available_ulp", "espintcp mptcp"),
        ("net.ipv4.tcp_congestion_control", "cubic"),
        ("net.ipv4.tcp_fin_timeout", "60"),
        ("net.ipv4.tcp_max_syn_backlog", "4096"),
        ("net.ipv4.tcp_notsent_lowat", "4294967295"),
        ("net.ipv4.tcp_rmem", "4096 131072 6291456"),
        ("net.ipv4.tcp_slow_start_after_idle", "1"),
        ("net.ipv4.tcp_syncookies", "1"),
        ("net.ipv4.tcp_tw_reuse", "2"),
        ("net.ipv4.tcp_wmem", "4096 16384 4194304"),
    ];
    let flags = RingFlags {
        single_issuer: true,
        defer_taskrun: true,
        coop_taskrun: true,
        submit_all: true,
        large_queue: true,
    };
    let interrupt = |queue| Interrupt {
        name: format!("eth0-TxRx-{queue}"),
        queue,
        receives: true,
        cpus: (0..8).collect(),
    };
    Facts {
        kernel: Some((6, 1)),
        ring: Ok(flags),
        settings: settings
            .into_iter()
            .map(|(key, value)| (key, value.to_owned()))
            .collect::<BTreeMap<_, _>>(),
        descriptors: Some((1024, 524_288)),
        locked_memory: Some((8 << 20, 8 << 20)),
        cpus: (0..8).collect(),
        features: words("sse2 aes pclmulqdq avx2 vaes vpclmulqdq"),
        governors: words("schedutil"),
        clock: Some(true),
        irqbalance: true,
        cards: vec![Card {
            name: "eth0".into(),
            receive_queues: 4,
            transmit_queues: 4,
            interrupts: (0..4).map(interrupt).collect(),
        }],
    }
}

/// Four workers, apps on this machine and on others.
fn four_workers() -> Needs {
    Needs {
        of: "lockring.toml".into(),
        workers: (0..4).map(Some).collect(),
        connections: 65_536,
        tcp_upstreams: true,
        loopback_upstreams: true,
        remote_upstreams: true,
    }
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The stock machine but for one thing.
fn but(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = stock();
    change(&mut facts);
    facts
}

fn find(facts: &Facts, name: &str) -> Option<Finding> {
    judge(facts, &four_workers()).into_iter().find(|finding| finding.name == name)
}

/// The state of a finding, and that what is lacking comes with a remedy.
fn state(facts: &Facts, name: &str) -> State {
    let finding = find(facts, name).unwrap_or_else(|| panic!("{name}"));
    assert!(!finding.found.is_empty() && finding.means.ends_with('.'), "{name}");
    let lacks = matches!(finding.state, State::Better | State::Missing);
    assert!(!lacks || finding.mend.is_some(), "{name}");
    assert!(finding.state != State::Good || finding.mend.is_none(), "{name}");
    finding.state
}

fn command(facts: &Facts, name: &str) -> String {
    find(facts, name).and_then(|finding| finding.mend).unwrap_or_else(|| panic!("{name}")).command
}

#[test]
fn a_ring_is_there_or_refused_for_a_reason() {
    assert_eq!(state(&stock(), "io_uring"), State::Good);
    for (error, switch, remedy) in [
        (libc::EPERM, None, "seccomp"),
        (libc::EPERM, Some("2"), "kernel.io_uring_disabled=0"),
        (libc::ENOSYS, None, "6.1"),
        (libc::ENOMEM, None, "ulimit -l"),
        (0, None, "strace"),
    ] {
        let facts = but(|facts| {
            facts.ring = Err(error);
            facts.settings.extend(switch.map(|value| ("kernel.io_uring_disabled", value.to_owned())));
        });
        assert_eq!(state(&facts, "io_uring"), State::Missing);
        assert!(command(&facts, "io_uring").contains(remedy), "{error} {switch:?}");
        assert!(find(&facts, "IORING_SETUP_SUBMIT_ALL").is_none(), "no ring, no flags");
    }
}

#[test]
fn ring_flags_are_told_one_by_one() {
    for (name, change) in [
        ("IORING_SETUP_SINGLE_ISSUER", (|flags| flags.single_issuer = false) as fn(&mut RingFlags)),
        ("IORING_SETUP_DEFER_TASKRUN", |flags| flags.defer_taskrun = false),
        ("IORING_SETUP_SUBMIT_ALL", |flags| flags.submit_all = false),
        ("IORING_SETUP_CQSIZE", |flags| flags.large_queue = false),
    ] {
        assert_eq!(state(&stock(), name), State::Good);
        let lacking = but(|facts| facts.ring.iter_mut().for_each(change));
        assert_eq!(state(&lacking, name), State::Better);
        let found = judge(&lacking, &four_workers()).len();
        assert_eq!(found > judge(&stock(), &four_workers()).len(), name.contains("DEFER"), "its substitute");
    }
    let old = but(|facts| facts.ring = Ok(RingFlags { submit_all: true, ..RingFlags::default() }));
    assert_eq!(state(&old, "IORING_SETUP_COOP_TASKRUN"), State::Better);
}

#[test]
fn limits_are_held_against_the_need() {
    let name = "limit of descriptors";
    let with = |hard| but(move |facts| facts.descriptors = Some((1024, hard)));
    assert_eq!(state(&with(524_352), name), State::Good);
    assert_eq!(state(&with(u64::MAX), name), State::Good);
    assert_eq!(state(&with(524_351), name), State::Better);
    assert_eq!(state(&with(4096), name), State::Missing);
    assert_eq!(state(&but(|facts| facts.descriptors = None), name), State::Unknown);
    assert_eq!(command(&with(4096), name), "ulimit -n 1048576; in the unit: LimitNOFILE=1048576");

    let name = "limit of locked memory";
    let with = |minor, soft| {
        but(move |facts| (facts.kernel, facts.locked_memory) = (Some((5, minor)), Some((soft, soft))))
    };
    assert_eq!(state(&with(12, 0), name), State::Good);
    assert_eq!(state(&with(11, 65_536), name), State::Missing);
    assert_eq!(state(&with(11, 8 << 20), name), State::Good);
}

#[test]
fn settings_are_judged_in_both_states() {
    for (key, right, wrong, wanted) in [
        ("kernel.io_uring_disabled", "1", "2", "0"),
        ("net.core.somaxconn", "65535", "128", "4096"),
        ("net.ipv4.tcp_max_syn_backlog", "8192", "512", "8192"),
        ("net.ipv4.tcp_syncookies", "2", "0", "1"),
        ("net.ipv4.ip_local_port_range", "1024 65535", "32768 60999", "10240 65535"),
        ("net.ipv4.tcp_tw_reuse", "1", "2", "1"),
        ("net.ipv4.tcp_fin_timeout", "15", "120", "60"),
        ("net.ipv4.tcp_slow_start_after_idle", "0", "1", "0"),
        ("net.ipv4.tcp_rmem", "4096 131072 33554432", "4096 87380 6291456", "4096 87380 16777216"),
        ("net.ipv4.tcp_wmem", "4096 16384 16777216", "4096 16384 4194304", "4096 16384 16777216"),
        ("net.ipv4.tcp_notsent_lowat", "16384", "4294967295", "131072"),
        ("fs.file-max", "9223372036854775807", "65536", "2097152"),
        ("fs.nr_open", "1073741816", "65536", "1048576"),
    ] {
        let with = |value: &str| but(|facts| drop(facts.settings.insert(key, value.to_owned())));
        assert_eq!(state(&with(right), key), State::Good, "{key}");
        assert_ne!(state(&with(wrong), key), State::Good, "{key}");
        assert_eq!(command(&with(wrong), key), format!("sysctl -w {key}='{wanted}'"));
        let mended = with(wanted);
        assert_eq!(state(&mended, key), State::Good, "{key}: the remedy is one");
        let absent = but(|facts| drop(facts.settings.remove(key)));
        let expected = if key.starts_with("kernel") { State::Good } else { State::Unknown };
        assert_eq!(state(&absent, key), expected, "{key}");
        let is_list = key.ends_with("mem");
        assert!(is_list || state(&with("nonsense"), key) != State::Good, "{key}");
    }
    let grave = |key, value: &str| state(&but(|facts| drop(facts.settings.insert(key, value.into()))), key);
    assert_eq!(grave("net.ipv4.tcp_syncookies", "0"), State::Missing);
    assert_eq!(grave("kernel.io_uring_disabled", "2"), State::Missing);
    assert_eq!(grave("net.core.somaxconn", "128"), State::Better);
}

#[test]
fn apps_on_unix_sockets_need_no_ports() {
    let needs =
        Needs { tcp_upstreams: false, loopback_upstreams: false, remote_upstreams: false, ..four_workers() };
    let findings = judge(&stock(), &needs);
    let of = |name: &str| findings.iter().find(|finding| finding.name == name).unwrap().state;
    assert_eq!(of("net.ipv4.ip_local_port_range"), State::Good);
    assert_eq!(of("net.ipv4.tcp_tw_reuse"), State::Good);
    let local = Needs { remote_upstreams: false, ..four_workers() };
    let reuse = judge(&stock(), &local).into_iter().find(|finding| finding.name.ends_with("tw_reuse"));
    assert_eq!(reuse.unwrap().state, State::Good, "2 is enough for loopback");
}

#[test]
fn bbr_is_kept_from_loopback_and_paced_by_fq() {
    let name = "net.ipv4.tcp_congestion_control";
    let bbr = but(|facts| drop(facts.settings.insert(name, "bbr".into())));
    assert_eq!(state(&stock(), name), State::Good);
    assert_eq!(state(&bbr, name), State::Better);
    assert!(command(&bbr, name).ends_with("congctl cubic"));
    let remote = Needs { loopback_upstreams: false, ..four_workers() };
    let finding = judge(&bbr, &remote).into_iter().find(|finding| finding.name == name);
    assert_eq!(finding.unwrap().state, State::Good);
    assert_eq!(state(&stock(), "net.core.default_qdisc"), State::Good);
    assert_eq!(command(&bbr, "net.core.default_qdisc"), "sysctl -w net.core.default_qdisc='fq'");
    assert!(script(&bbr, &four_workers()).contains("congctl cubic || echo"));
}

#[test]
fn the_processor_is_judged() {
    let with = |features: &str| but(|facts| facts.features = words(features));
    assert_eq!(state(&stock(), "CPU: AES"), State::Good);
    assert_eq!(state(&with("sse2 avx2"), "CPU: AES"), State::Missing);
    assert_eq!(state(&stock(), "CPU: VAES"), State::Good);
    assert_eq!(state(&with("sse2 aes pclmulqdq"), "CPU: VAES"), State::Better);
    assert_eq!(state(&stock(), "CPU: AVX2"), State::Good);
    assert_eq!(state(&with("sse2"), "CPU: AVX2"), State::Better);
    assert_eq!(state(&with("fp aes pmull"), "CPU: AES"), State::Good);
    assert!(find(&with("fp aes pmull"), "CPU: VAES").is_none(), "not a word of ARM");
    assert_eq!(state(&with(""), "CPU: AES"), State::Unknown);
}

#[test]
fn frequency_clock_and_kernel_tls_are_judged() {
    let name = "CPU frequency governor";
    assert_eq!(state(&stock(), name), State::Better);
    assert_eq!(state(&but(|facts| facts.governors = words("performance")), name), State::Good);
    assert_eq!(state(&but(|facts| facts.governors.clear()), name), State::Good);
    assert_eq!(state(&stock(), "clock"), State::Good);
    assert_eq!(state(&but(|facts| facts.clock = Some(false)), "clock"), State::Better);
    assert_eq!(find(&but(|facts| facts.clock = None), "clock").unwrap().state, State::Unknown);
    let tls = but(|facts| drop(facts.settings.insert("net.ipv4.tcp_available_ulp", "mptcp tls".into())));
    assert_eq!(find(&tls, "kernel TLS").unwrap().found, "there");
    assert_eq!(find(&stock(), "kernel TLS").unwrap().found, "not loaded");
}

#[test]
fn workers_stand_on_cpus_that_are_there() {
    assert_eq!(state(&stock(), "workers"), State::Good);
    assert_eq!(state(&but(|facts| facts.cpus = vec![0, 1]), "workers"), State::Better);
    assert_eq!(state(&but(|facts| facts.cpus.clear()), "workers"), State::Unknown);
}

#[test]
fn queues_and_their_interrupts_are_judged() {
    let card = |change: fn(&mut Card)| but(|facts| facts.cards.iter_mut().for_each(change));
    assert_eq!(state(&stock(), "queues of eth0"), State::Good);
    let one = card(|card| card.receive_queues = 1);
    assert_eq!(command(&one, "queues of eth0"), "ethtool -L eth0 combined 4");
    assert_eq!(state(&stock(), "interrupts of eth0"), State::Better);
    let pinned = card(|card| card.interrupts.iter_mut().for_each(|one| one.cpus = vec![one.queue]));
    assert_eq!(state(&pinned, "interrupts of eth0"), State::Good);
    let heaped = card(|card| card.interrupts.iter_mut().for_each(|one| one.cpus = vec![0]));
    assert_eq!(state(&heaped, "interrupts of eth0"), State::Better);
    let beside = card(|card| card.interrupts.iter_mut().for_each(|one| one.cpus = vec![one.queue + 4]));
    assert_eq!(state(&beside, "interrupts of eth0"), State::Better);
    let nameless = card(|card| card.interrupts.clear());
    assert_eq!(state(&nameless, "interrupts of eth0"), State::Unknown);
    assert!(find(&nameless, "irqbalance").is_none(), "nothing it could move");
    assert_eq!(state(&stock(), "irqbalance"), State::Better);
    assert_eq!(state(&but(|facts| facts.irqbalance = false), "irqbalance"), State::Good);
    assert_eq!(state(&but(|facts| facts.cards.clear()), "network cards"), State::Unknown);
}

#[test]
fn the_exit_code_says_whether_something_is_missing() {
    let diagnosis = Diagnosis::new(&stock(), &four_workers());
    assert_eq!((diagnosis.count(State::Missing), diagnosis.exit_code()), (0, 0));
    let text = diagnosis.render(Format::Text);
    assert!(text.starts_with("4 worker(s), by lockring.toml\n"), "{text}");
    assert!(text.contains("\ncould be better  net.ipv4.tcp_tw_reuse: 2\n"), "{text}");
    let missing = Diagnosis::new(&but(|facts| facts.ring = Err(libc::EPERM)), &four_workers());
    assert_eq!(missing.exit_code(), 3);
    assert!(missing.render(Format::Text).ends_with(", 1 missing, 0 unknown\n"));
}

/// Compares a text with a file of the repository.
fn golden(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&file).unwrap_or_default(), "{path}");
}

#[test]
fn json_is_as_promised() {
    let json = Diagnosis::new(&stock(), &four_workers()).json();
    golden("tests/data/doctor/stock.json", &format!("{json:#}\n"));
    let line = Diagnosis::new(&stock(), &four_workers()).render(Format::Json);
    assert_eq!(line.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), json);
}

#[test]
fn the_tuning_directory_is_what_tune_writes() {
    let files = files(&stock(), &four_workers());
    let places = [
        ("/etc/sysctl.d/60-lockring.conf", "tuning/lockring.sysctl.conf"),
        ("/etc/security/limits.d/lockring.conf", "tuning/lockring.limits.conf"),
        ("/usr/local/sbin/lockring-irq", "tuning/lockring-irq"),
        ("/etc/systemd/system/lockring.service.d/tuning.conf", "tuning/lockring.service.d/tuning.conf"),
    ];
    assert_eq!(files.iter().map(|file| file.path).collect::<Vec<_>>(), places.map(|(path, _)| path));
    let script = script(&stock(), &four_workers());
    for (file, (_, place)) in files.iter().zip(places) {
        golden(place, &file.text);
        assert!(script.contains(&file.text), "{place}");
    }
}

#[test]
fn the_unit_agrees_with_what_is_written_beside_it() {
    let unit = include_str!("../../../tuning/lockring.service");
    let needs = four_workers();
    assert!(unit.contains(&format!("\nLimitNOFILE={}\n", needs.descriptor_limit())));
    assert!(needs.ring_bytes() < 64 << 20 && unit.contains("\nLimitMEMLOCK=64M\n"));
}

/// Whether a shell can read the text.
fn is_shell(text: &str) -> bool {
    let mut shell = Command::new("sh").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    shell.wait().unwrap().success()
}

#[test]
fn scripts_can_be_read_by_a_shell() {
    let old = but(|facts| {
        facts.kernel = None;
        facts.clock = Some(false);
        facts.cards.iter_mut().for_each(|card| (card.receive_queues, card.transmit_queues) = (1, 1));
    });
    let named = Needs { of: "a'b\n$(reboot)".into(), ..four_workers() };
    for text in [
        script(&stock(), &four_workers()),
        script(&old, &named),
        script(&Facts::read(Path::new("/nonexistent")), &named),
    ] {
        assert!(is_shell(&text), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("$(")), "{text}");
        assert!(text.contains("\nLimitNOFILE=1048576\n"));
    }
    assert!(script(&old, &named).contains("LimitMEMLOCK=") && script(&old, &named).contains("rx-0/rps_cpus"));
    assert!(!is_shell("if"), "the check can fail");
}

/// What `tune` says after its own settings were taken.
#[test]
fn a_second_run_loses_nothing() {
    let needs = four_workers();
    let settings = |facts: &Facts| {
        files(facts, &needs).into_iter().find(|file| file.path.contains("sysctl")).map(|file| file.text)
    };
    let lines =
        |text: &str| text.lines().filter(|line| line.contains(" = ")).map(str::to_owned).collect::<Vec<_>>();
    let first = lines(&settings(&stock()).unwrap());
    let mut set = stock();
    for line in &first {
        let (key, value) = line.split_once(" = ").unwrap();
        set.settings
            .iter_mut()
            .filter(|(name, _)| **name == key)
            .for_each(|(_, now)| *now = value.to_owned());
    }
    assert_eq!(settings(&set), None, "nothing is left to set, and the file stays as it is");
    set.settings.insert("net.ipv4.tcp_tw_reuse", "0".into());
    assert_eq!(lines(&settings(&set).unwrap()), first, "one setting was undone by someone");
}
