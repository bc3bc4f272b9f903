//! Network cards: their queues, the interrupts of these, and which worker's CPU should take which.

use std::collections::BTreeMap;
use std::path::Path;

use super::facts::{cpu_list, entries, text};
use super::needs::Needs;
use super::{By, Finding, State, knobs::KNOWN};

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Name of the device.
    pub name: String,
    /// Receive queues in use.
    pub receive_queues: usize,
    /// Transmit queues in use.
    pub transmit_queues: usize,
    /// Interrupts of its queues; empty if their names tell nothing.
    pub interrupts: Vec<Interrupt>,
}

/// The interrupt of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Name in the last column of `/proc/interrupts`; numbers change at the next start, names do not.
    pub name: String,
    /// Which queue it serves.
    pub queue: usize,
    /// Whether it tells of packets received; transmit queues may have interrupts of their own.
    pub receives: bool,
    /// CPUs that may take it.
    pub cpus: Vec<usize>,
}

/// Cards below `root`: devices with hardware behind them, not loopback, bridges and tunnels.
pub(super) fn read(root: &Path) -> Vec<Card> {
    let devices = entries(&root.join("sys/class/net"));
    let cards = devices.iter().filter(|device| device.join("device").exists());
    cards.filter_map(|device| read_card(root, device)).collect()
}

fn read_card(root: &Path, device: &Path) -> Option<Card> {
    let name = device.file_name()?.to_str().filter(|name| is_plain(name))?;
    let queues = entries(&device.join("queues"));
    let count = |kind: &str| {
        let names = queues.iter().filter_map(|path| path.file_name()?.to_str());
        names.filter(|name| name.starts_with(kind)).count()
    };
    // A virtio device hangs below the PCI device that owns the interrupts.
    let places = ["device/msi_irqs", "device/../msi_irqs"];
    let numbers = places.iter().map(|place| entries(&device.join(place))).find(|found| !found.is_empty());
    let interrupt = |path: &std::path::PathBuf| {
        let number = path.file_name()?.to_str()?;
        read_interrupt(&root.join("proc/irq").join(number))
    };
    let mut interrupts: Vec<_> = numbers.iter().flatten().filter_map(interrupt).collect();
    interrupts.sort_by_key(|interrupt| (!interrupt.receives, interrupt.queue));
    Some(Card {
        name: name.to_owned(),
        receive_queues: count("rx-"),
        transmit_queues: count("tx-"),
        interrupts,
    })
}

/// The directory of an interrupt holds one named after its handler.
fn read_interrupt(directory: &Path) -> Option<Interrupt> {
    let handlers = entries(directory);
    let name = handlers.iter().find(|path| path.is_dir())?.file_name()?.to_str()?;
    let (queue, receives) = queue_of(name)?;
    // What the hardware took, which may be less than what it was offered.
    let effective = text(directory, "effective_affinity_list").filter(|list| !list.is_empty());
    let cpus = cpu_list(&effective.or_else(|| text(directory, "smp_affinity_list"))?);
    Some(Interrupt { name: name.to_owned(), queue, receives, cpus })
}

/// The queue that an interrupt serves, by the names that drivers give: `virtio2-input.0`, `eth0-TxRx-0`,
/// `ens5-Tx-Rx-0`, `eth0-rx-0`, `mlx5_comp0@pci:0000:01:00.0`. And whether it tells of packets received.
fn queue_of(name: &str) -> Option<(usize, bool)> {
    if !is_plain(name) {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let found = MARKS.iter().find_map(|(mark, receives)| Some((lower.split_once(mark)?.1, *receives)));
    let (rest, receives) = found?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((digits.parse().ok()?, receives))
}

/// The first that is found decides.
const MARKS: [(&str, bool); 8] = [
    ("-input.", true),
    ("-output.", false),
    ("txrx-", true),
    ("tx-rx-", true),
    ("rxtx-", true),
    ("_comp", true),
    ("rx-", true),
    ("tx-", false),
];

/// A name that needs no quoting in a shell.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '@' | ':' | '-');
    !name.is_empty() && name.chars().all(plain)
}

/// What there is to say of the cards.
pub(super) fn judge(cards: &[Card], irqbalance: bool, needs: &Needs) -> Vec<Finding> {
    let mut findings = Vec::new();
    for card in cards {
        findings.push(queues(card, needs));
        findings.push(interrupts(card, needs));
    }
    if cards.is_empty() {
        let found = "none with hardware behind it";
        let means = "Queues and interrupts are the host's, or another namespace's.";
        findings.push(Finding::new("network cards", State::Unknown, found, means));
    }
    if cards.iter().any(|card| !card.interrupts.is_empty()) {
        let means = format!("It moves the interrupts of queues away from where they were put. {KNOWN}");
        findings.push(if irqbalance {
            let command = "systemctl disable --now irqbalance";
            Finding::new("irqbalance", State::Better, "runs", means).mend(By::Command, command)
        } else {
            Finding::new("irqbalance", State::Good, "does not run", means)
        });
    }
    findings
}

fn queues(card: &Card, needs: &Needs) -> Finding {
    let (queues, workers) = (card.receive_queues, needs.workers.len());
    let enough = queues >= workers;
    let means = format!(
        "With a receive queue for each worker the kernel's part of the work is shared by as many CPUs; a card \
         without that many can be helped by RPS (`lockring tune`). {KNOWN}"
    );
    let name = format!("queues of {}", card.name);
    let found = format!("{queues} to receive, {} to send; {workers} worker(s)", card.transmit_queues);
    if enough {
        return Finding::new(&name, State::Good, found, means);
    }
    let command = format!("ethtool -L {} combined {workers}", card.name);
    Finding::new(&name, State::Better, found, means).mend(By::Hand, command)
}

fn interrupts(card: &Card, needs: &Needs) -> Finding {
    let name = format!("interrupts of {}", card.name);
    let means = format!(
        "One CPU for the interrupt of each receive queue, evenly among those of the workers: none of them, and \
         no app, carries the network for the others. {KNOWN}"
    );
    let receiving: Vec<&Interrupt> = card.interrupts.iter().filter(|one| one.receives).collect();
    let cpus = needs.worker_cpus();
    if receiving.is_empty() || cpus.is_empty() {
        let found = if cpus.is_empty() { "workers are not pinned" } else { "their names tell nothing" };
        return Finding::new(&name, State::Unknown, found, means);
    }
    let share = receiving.len().div_ceil(cpus.len());
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    let mut even = true;
    for interrupt in &receiving {
        let [cpu] = interrupt.cpus.as_slice() else {
            even = false;
            continue;
        };
        let count = taken.entry(*cpu).or_default();
        *count += 1;
        even &= cpus.contains(cpu) && *count <= share;
    }
    let shown: Vec<String> =
        receiving.iter().map(|one| format!("{} on CPU {}", one.name, cpu_ranges(&one.cpus))).collect();
    let found = shown.join(", ");
    if even {
        return Finding::new(&name, State::Good, found, means);
    }
    let command = "lockring tune, whose script puts each where it belongs";
    Finding::new(&name, State::Better, found, means).mend(By::File, command)
}

/// Numbers as `0-3,8`.
pub(super) fn cpu_ranges(cpus: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => ranges.push((*cpu, *cpu)),
        }
    }
    let part = |(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(part).collect::<Vec<_>>().join(",")
}

/// Numbers as the kernel's masks: hexadecimal words of 32 bits, the highest first.
fn cpu_mask(cpus: impl Iterator<Item = usize>) -> String {
    let mut words: BTreeMap<usize, u32> = BTreeMap::new();
    for cpu in cpus {
        *words.entry(cpu / 32).or_default() |= 1 << (cpu % 32);
    }
    let highest = words.last_key_value().map_or(0, |(word, _)| *word);
    let word = |at: usize| words.get(&at).copied().unwrap_or_default();
    let texts: Vec<String> = (0..=highest)
        .rev()
        .map(|at| if at == highest { format!("{:x}", word(at)) } else { format!("{:08x}", word(at)) })
        .collect();
    texts.join(",")
}

/// Calls of the script's `pin` and `put` that give queue n to the CPU of worker n; empty if there is nothing
/// to give.
pub(super) fn script_lines(card: &Card, needs: &Needs) -> Vec<String> {
    let cpus = needs.worker_cpus();
    let mut lines = Vec::new();
    if cpus.len() < 2 {
        return lines;
    }
    for interrupt in &card.interrupts {
        if let Some(cpu) = cpus.get(interrupt.queue % cpus.len()) {
            lines.push(format!("pin '{}' {cpu}", interrupt.name));
        }
    }
    let sharing = |queue: usize, queues: usize| {
        let all = cpus.iter().copied().enumerate();
        cpu_mask(all.filter(move |(worker, _)| worker % queues == queue).map(|(_, cpu)| cpu))
    };
    let base = format!("/sys/class/net/{}/queues", card.name);
    // A single transmit queue has no such file.
    if card.transmit_queues > 1 {
        // Queues beyond the workers stay with whom the driver gave them to.
        for queue in 0..card.transmit_queues.min(cpus.len()) {
            lines.push(format!("put {} {base}/tx-{queue}/xps_cpus", sharing(queue, card.transmit_queues)));
        }
    }
    if card.receive_queues < cpus.len() {
        for queue in 0..card.receive_queues {
            lines.push(format!("put {} {base}/rx-{queue}/rps_cpus", sharing(queue, card.receive_queues)));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn drivers_name_their_queues() {
        for (name, queue) in [
            ("virtio2-input.0", Some((0, true))),
            ("virtio2-output.3", Some((3, false))),
            ("eth0-TxRx-12", Some((12, true))),
            ("ens5-Tx-Rx-7", Some((7, true))),
            ("i40e-eth0-TxRx-1", Some((1, true))),
            ("eth0-rx-2", Some((2, true))),
            ("eth0-tx-2", Some((2, false))),
            ("mlx5_comp4@pci:0000:01:00.0", Some((4, true))),
            ("virtio2-config", None),
            ("mlx5_async0@pci:0000:01:00.0", None),
            ("eth0-rx-", None),
            ("eth0'; rx-1", None),
            ("", None),
        ] {
            assert_eq!(queue_of(name), queue, "{name}");
        }
    }

    #[test]
    fn sets_of_cpus_are_written_both_ways() {
        assert_eq!(cpu_ranges(&[0, 1, 2, 8]), "0-2,8");
        assert_eq!(cpu_ranges(&[]), "");
        assert_eq!(cpu_mask([0, 1, 4].into_iter()), "13");
        assert_eq!(cpu_mask([1, 33, 64].into_iter()), "1,00000002,00000002");
        assert_eq!(cpu_mask([].into_iter()), "0");
    }

    #[test]
    fn cards_are_read_with_their_interrupts() {
        let root = std::env::temp_dir().join(format!("lockring-cards-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let pci = root.join("sys/devices/pci0");
        let net = pci.join("virtio2/net/eth0");
        for queue in ["rx-0", "rx-1", "tx-0"] {
            fs::create_dir_all(net.join("queues").join(queue)).unwrap();
        }
        fs::create_dir_all(pci.join("msi_irqs")).unwrap();
        fs::create_dir_all(root.join("sys/class/net/lo")).unwrap();
        symlink(&net, root.join("sys/class/net/eth0")).unwrap();
        symlink(pci.join("virtio2"), net.join("device")).unwrap();
        for (number, name, cpus) in [("37", "virtio2-config", "0"), ("38", "virtio2-input.0", "1")] {
            fs::write(pci.join("msi_irqs").join(number), "msix").unwrap();
            let irq = root.join("proc/irq").join(number);
            fs::create_dir_all(irq.join(name)).unwrap();
            fs::write(irq.join("smp_affinity_list"), "0-1\n").unwrap();
            fs::write(irq.join("effective_affinity_list"), cpus).unwrap();
        }
        let cards = read(&root);
        let _ = fs::remove_dir_all(&root);
        let input = Interrupt { name: "virtio2-input.0".into(), queue: 0, receives: true, cpus: vec![1] };
        let card =
            Card { name: "eth0".into(), receive_queues: 2, transmit_queues: 1, interrupts: vec![input] };
        assert_eq!(cards, [card]);
    }
}
