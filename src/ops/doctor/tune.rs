//! `lockring tune`: what mends the doctor's findings, as files with a reason beside each line, and as one
//! shell script that puts them in place. It is printed, never run.

use std::fmt::Write as _;

use super::cards::{self, cpu_ranges};
use super::facts::Facts;
use super::judge::judge;
use super::knobs::{KNOBS, KNOWN};
use super::needs::Needs;
use super::{By, Finding, State};

/// A file of the system that `tune` would write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it goes.
    pub path: &'static str,
    /// Its text.
    pub text: String,
    /// The command after it is written.
    pub then: &'static str,
}

/// The files that mend this machine; one that would say nothing is left out.
#[must_use]
pub fn files(facts: &Facts, needs: &Needs) -> Vec<File> {
    let interrupts = interrupt_script(facts, needs);
    let unit = unit(facts, needs, interrupts.is_some());
    [settings(facts, needs), login_limits(facts, needs), interrupts, Some(unit)]
        .into_iter()
        .flatten()
        .collect()
}

/// All of it as one script, to be read and then run by root.
#[must_use]
pub fn script(facts: &Facts, needs: &Needs) -> String {
    let mut out = String::from("#!/bin/sh\n");
    comment(
        &mut out,
        &format!(
            "Settings of this machine for Lockring, by `lockring tune`: {} worker(s), by {}. Read it, then run it as \
             root. Measure before and after: nothing here is a promise.",
            needs.workers.len(),
            needs.of.replace(char::is_control, "?"),
        ),
    );
    out.push_str("set -eu\n");
    for File { path, text, then } in files(facts, needs) {
        let directory = path.rsplit_once('/').map_or("/", |(directory, _)| directory);
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "\nmkdir -p {directory}\ncat > {path} <<'{END_OF_FILE}'\n{text}{END_OF_FILE}\n{then}"
        );
    }
    let lacks: Vec<Finding> = judge(facts, needs)
        .into_iter()
        .filter(|finding| matches!(finding.state, State::Better | State::Missing))
        .collect();
    for (finding, command) in by(&lacks, By::Command) {
        out.push('\n');
        let until = "Lasts until the next start of the machine, if it is no service that is disabled.";
        comment(&mut out, &format!("{}: {}. {} {until}", finding.name, finding.found, finding.means));
        let _ = writeln!(out, "{command} || echo 'lockring tune: refused' >&2");
    }
    let left = by(&lacks, By::Hand);
    if !left.is_empty() {
        out.push('\n');
        comment(&mut out, "Left to you:");
    }
    for (finding, command) in left {
        comment(&mut out, &format!("- {}: {}; {command}", finding.name, finding.found));
    }
    out
}

const END_OF_FILE: &str = "END_OF_FILE";

fn by(lacks: &[Finding], by: By) -> Vec<(&Finding, &str)> {
    let mended = |finding: &'_ Finding| finding.mend.as_ref().is_some_and(|mend| mend.by == by);
    let lacks = lacks.iter().filter(|finding| mended(finding));
    lacks.filter_map(|finding| Some((finding, finding.mend.as_ref()?.command.as_str()))).collect()
}

fn settings(facts: &Facts, needs: &Needs) -> Option<File> {
    let path = "/etc/sysctl.d/60-lockring.conf";
    let mut text = String::new();
    comment(&mut text, &format!("Kernel settings for a busy edge: {path}"));
    let mut any = false;
    for knob in &KNOBS {
        let Some(value) = knob.kept(facts, needs) else { continue };
        any |= knob.mended(facts, needs).is_some();
        text.push('\n');
        comment(&mut text, &format!("{} {KNOWN}", knob.buys));
        let _ = writeln!(text, "{} = {value}", knob.key);
    }
    let then = "sysctl -p /etc/sysctl.d/60-lockring.conf || echo 'lockring tune: a setting was refused' >&2";
    any.then_some(File { path, text, then })
}

fn login_limits(facts: &Facts, needs: &Needs) -> Option<File> {
    let path = "/etc/security/limits.d/lockring.conf";
    let mut text = String::new();
    comment(&mut text, &format!("Limits when Lockring is started from a login, not by systemd: {path}"));
    let heading = text.len();
    if facts
        .descriptors
        .is_some_and(|(_, hard)| hard < needs.descriptors() || hard == needs.descriptor_limit())
    {
        text.push('\n');
        comment(&mut text, &descriptors_reason(needs));
        let _ = writeln!(text, "lockring  hard  nofile  {}", needs.descriptor_limit());
    }
    if memory_is_charged(facts) {
        text.push('\n');
        comment(&mut text, &format!("KiB. {}", memory_reason()));
        let _ = writeln!(text, "lockring  -  memlock  {}", needs.ring_bytes().div_ceil(1024));
    }
    (text.len() > heading).then_some(File { path, text, then: "# Counts from the next login on." })
}

fn descriptors_reason(needs: &Needs) -> String {
    format!(
        "Two descriptors for each of the connections that the limits allow ({} workers, {} each), rounded up. \
         Buys: connections are not turned away earlier than the configuration says. Follows from these figures.",
        needs.workers.len(),
        needs.connections
    )
}

fn memory_reason() -> String {
    format!("Kernels before 5.12 charge io_uring's rings to locked memory. Buys: io_uring at all. {KNOWN}")
}

/// A kernel that is not known counts as one of the old.
fn memory_is_charged(facts: &Facts) -> bool {
    !facts.kernel_has((5, 12))
}

fn unit(facts: &Facts, needs: &Needs, interrupts: bool) -> File {
    let path = "/etc/systemd/system/lockring.service.d/tuning.conf";
    let mut text = String::new();
    comment(&mut text, &format!("What the unit of this machine has beside lockring.service: {path}"));
    text.push_str("\n[Service]\n");
    comment(&mut text, &descriptors_reason(needs));
    let _ = writeln!(text, "LimitNOFILE={}", needs.descriptor_limit());
    if memory_is_charged(facts) {
        text.push('\n');
        comment(&mut text, &memory_reason());
        let _ = writeln!(text, "LimitMEMLOCK={}K", needs.ring_bytes().div_ceil(1024));
    }
    let cpus = needs.worker_cpus();
    if !cpus.is_empty() && facts.cpus.iter().any(|cpu| !cpus.contains(cpu)) {
        text.push('\n');
        comment(
            &mut text,
            &format!(
                "The workers' CPUs, so that Lockring's other threads (log, names, certificates) leave the rest to the \
                 apps. Give these the others in their units. {KNOWN}"
            ),
        );
        let _ = writeln!(text, "CPUAffinity={}", cpu_ranges(&cpus));
    }
    if interrupts {
        text.push('\n');
        comment(
            &mut text,
            "The card's interrupts, at each start because their numbers change; by root (+), which the service is \
             not.",
        );
        let _ = writeln!(text, "ExecStartPre=+{INTERRUPT_SCRIPT}");
    }
    File { path, text, then: "systemctl daemon-reload" }
}

const INTERRUPT_SCRIPT: &str = "/usr/local/sbin/lockring-irq";

fn interrupt_script(facts: &Facts, needs: &Needs) -> Option<File> {
    let cards = facts.cards.iter().map(|card| (card, cards::script_lines(card, needs)));
    let cards: Vec<_> = cards.filter(|(_, lines)| !lines.is_empty()).collect();
    if cards.is_empty() {
        return None;
    }
    let mut text = String::from("#!/bin/sh\n");
    comment(
        &mut text,
        &format!("Gives the queues of network cards to the CPUs of workers: {INTERRUPT_SCRIPT}"),
    );
    text.push_str(INTERRUPT_FUNCTIONS);
    for (card, lines) in cards {
        text.push('\n');
        comment(
            &mut text,
            &format!(
                "{}: {} receive queue(s), {} transmit queue(s), {} workers on CPU {}.",
                card.name,
                card.receive_queues,
                card.transmit_queues,
                needs.workers.len(),
                cpu_ranges(&needs.worker_cpus()),
            ),
        );
        let mut told = "";
        for line in lines {
            let why = reason(&line);
            if told != why {
                comment(&mut text, &format!("{why} {KNOWN}"));
                told = why;
            }
            let _ = writeln!(text, "{line}");
        }
    }
    let then = "chmod 755 /usr/local/sbin/lockring-irq\n/usr/local/sbin/lockring-irq";
    Some(File { path: INTERRUPT_SCRIPT, text, then })
}

fn reason(line: &str) -> &'static str {
    if line.starts_with("pin") {
        "Interrupt of queue n to the CPU of worker n: no worker and no app carries the network for the others. \
         (Which worker a connection goes to is the kernel's choice, by a hash.)"
    } else if line.ends_with("xps_cpus") {
        "XPS: a worker sends by a queue of its own, so that workers do not wait for each other's locks, and what \
         was sent is cleared up on the same CPU."
    } else {
        "RPS: fewer queues than workers, so the kernel passes packets on to the CPUs of the others. If the card can \
         have more queues (ethtool -l), that is better: ethtool -L, then `lockring tune` again."
    }
}

/// A failure is said and skipped: a start must not depend on it.
const INTERRUPT_FUNCTIONS: &str = r#"
# pin NAME CPU: the interrupt of that name, as in the last column of /proc/interrupts, to one CPU.
pin() {
    irq=$(awk -v name="$1" '$NF == name { sub(":", "", $1); print $1; exit }' /proc/interrupts)
    if [ -z "$irq" ]; then
        echo "lockring-irq: there is no interrupt $1" >&2
    elif ! echo "$2" > "/proc/irq/$irq/smp_affinity_list"; then
        echo "lockring-irq: $1 stays where it is" >&2
    fi
}

# put MASK FILE: a set of CPUs to a queue.
put() {
    if ! echo "$1" > "$2"; then
        echo "lockring-irq: $2 stays as it is" >&2
    fi
}
"#;

/// Adds `text` as comment lines.
fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS && line.len() > 1 {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

const COLUMNS: usize = 108;
