//! The last refusals of one worker, which other threads may read at any time. Nothing is allocated and
//! nobody waits: a reader that meets a refusal being written leaves it out.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::limits::REFUSALS_KEPT;

/// A refusal as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// When, in ms since 1970.
    pub time_unix_ms: u64,
    /// The client.
    pub peer: SocketAddr,
    /// Why: a word of a closed set.
    pub reason: &'a str,
    /// The name asked for, as sent: the server name or the host.
    pub name: &'a [u8],
    /// The status answered; 0 without one.
    pub status: u16,
    /// Position of the byte that was refused, from the start of the head.
    pub at: Option<u32>,
}

/// A refusal as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// As [`Refusal::time_unix_ms`].
    pub time_unix_ms: u64,
    /// As [`Refusal::peer`].
    pub peer: SocketAddr,
    /// The first [`REASON_BYTES`] of [`Refusal::reason`].
    pub reason: String,
    /// The first [`NAME_BYTES`] of [`Refusal::name`].
    pub name: Vec<u8>,
    /// As [`Refusal::status`].
    pub status: u16,
    /// As [`Refusal::at`].
    pub at: Option<u32>,
}

/// Bytes kept of a reason; the words in use are shorter.
pub const REASON_BYTES: usize = 40;
/// Bytes kept of a name: enough to tell whose it is.
pub const NAME_BYTES: usize = 64;

const REASON_WORDS: usize = REASON_BYTES / 8;
const NAME_WORDS: usize = NAME_BYTES / 8;
/// Time, address (two), port with status and lengths, position.
const FACTS: usize = 5;
const WORDS: usize = FACTS + REASON_WORDS + NAME_WORDS;
const NO_POSITION: u64 = u64::MAX;

/// See the module.
#[derive(Debug)]
pub struct Refusals {
    /// How many there were.
    count: AtomicU64,
    slots: Box<[Slot]>,
}

/// A refusal as words, with the number of times it was begun and ended to be written: odd while it is.
#[derive(Debug)]
struct Slot {
    turn: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl Default for Refusals {
    fn default() -> Self {
        let slot = || Slot { turn: AtomicU64::new(0), words: [const { AtomicU64::new(0) }; WORDS] };
        Self { count: AtomicU64::new(0), slots: (0..REFUSALS_KEPT).map(|_| slot()).collect() }
    }
}

impl Refusals {
    /// Keeps a refusal in the place of the oldest. Only the owning worker may call this.
    pub fn keep(&self, refusal: &Refusal<'_>) {
        let count = self.count.load(Ordering::Relaxed);
        let Some(slot) = self.slots.get(count as usize % REFUSALS_KEPT) else { return };
        let turn = slot.turn.load(Ordering::Relaxed);
        slot.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        // The words below must not be seen before the turn is odd.
        fence(Ordering::Release);
        for (cell, word) in slot.words.iter().zip(words(refusal)) {
            cell.store(word, Ordering::Relaxed);
        }
        slot.turn.store(turn.wrapping_add(2), Ordering::Release);
        self.count.store(count.wrapping_add(1), Ordering::Relaxed);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The last ones, in no order.
    #[must_use]
    pub fn kept(&self) -> Vec<Kept> {
        self.slots.iter().filter_map(Slot::read).collect()
    }
}

impl Slot {
    /// `None` if nothing was written, or something is being written.
    fn read(&self) -> Option<Kept> {
        let turn = self.turn.load(Ordering::Acquire);
        let words = self.words.each_ref().map(|word| word.load(Ordering::Relaxed));
        // The words above must not be read after the turn is looked at again.
        fence(Ordering::Acquire);
        let untouched = self.turn.load(Ordering::Relaxed) == turn;
        (turn > 0 && turn.is_multiple_of(2) && untouched).then(|| kept(&words)).flatten()
    }
}

fn words(refusal: &Refusal<'_>) -> impl Iterator<Item = u64> {
    let address = match refusal.peer.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    let reason = refusal.reason.as_bytes();
    let name = refusal.name;
    let lengths =
        ((reason.len().min(REASON_BYTES) as u64) << 32) | ((name.len().min(NAME_BYTES) as u64) << 48);
    let numbers = u64::from(refusal.peer.port()) | (u64::from(refusal.status) << 16) | lengths;
    let at = refusal.at.map_or(NO_POSITION, u64::from);
    let facts = [refusal.time_unix_ms, (address >> 64) as u64, address as u64, numbers, at];
    facts.into_iter().chain(text::<REASON_WORDS>(reason)).chain(text::<NAME_WORDS>(name))
}

/// The first bytes of `text` as `N` words.
fn text<const N: usize>(text: &[u8]) -> [u64; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(text.chunks(8)) {
        let mut whole = [0; 8];
        for (to, from) in whole.iter_mut().zip(bytes) {
            *to = *from;
        }
        *word = u64::from_le_bytes(whole);
    }
    words
}

fn kept(words: &[u64; WORDS]) -> Option<Kept> {
    let ([time_unix_ms, high, low, numbers, at], texts) = words.split_first_chunk::<FACTS>()?;
    let (reason, name) = texts.split_at_checked(REASON_WORDS)?;
    let ip = Ipv6Addr::from_bits((u128::from(*high) << 64) | u128::from(*low));
    let bytes = |words: &[u64], length: u64| {
        words.iter().flat_map(|word| word.to_le_bytes()).take(length as usize).collect::<Vec<u8>>()
    };
    Some(Kept {
        time_unix_ms: *time_unix_ms,
        peer: SocketAddr::new(IpAddr::V6(ip).to_canonical(), *numbers as u16),
        reason: String::from_utf8_lossy(&bytes(reason, (numbers >> 32) & 0xffff)).into_owned(),
        name: bytes(name, numbers >> 48),
        status: (numbers >> 16) as u16,
        at: u32::try_from(*at).ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(number: u64, name: &[u8]) -> Refusal<'_> {
        Refusal {
            time_unix_ms: number,
            peer: "192.0.2.1:4711".parse().unwrap(),
            reason: "field-name-invalid",
            name,
            status: 400,
            at: number.is_multiple_of(2).then_some(17),
        }
    }

    #[test]
    fn the_last_ones_come_back_whole() {
        let refusals = Refusals::default();
        assert!(refusals.kept().is_empty());
        for number in 0..3 * REFUSALS_KEPT as u64 / 2 {
            refusals.keep(&refusal(number, b"a.test"));
        }
        let mut kept = refusals.kept();
        kept.sort_by_key(|kept| kept.time_unix_ms);
        assert_eq!((kept.len(), refusals.count()), (REFUSALS_KEPT, 3 * REFUSALS_KEPT as u64 / 2));
        let last = kept.last().unwrap();
        assert_eq!(last.time_unix_ms, 3 * REFUSALS_KEPT as u64 / 2 - 1);
        assert_eq!((last.peer.to_string().as_str(), last.status), ("192.0.2.1:4711", 400));
        assert_eq!((last.reason.as_str(), last.name.as_slice()), ("field-name-invalid", &b"a.test"[..]));
        assert_eq!((last.at, kept[0].at), (None, Some(17)));
    }

    #[test]
    fn long_texts_are_cut_and_other_addresses_kept() {
        let refusals = Refusals::default();
        let long = [b'x'; 1000];
        let peer = "[2001:db8::7]:1".parse().unwrap();
        refusals.keep(&Refusal { peer, reason: &"r".repeat(99), ..refusal(1, &long) });
        let kept = refusals.kept();
        assert_eq!(
            (kept[0].peer, kept[0].reason.len(), kept[0].name.len()),
            (peer, REASON_BYTES, NAME_BYTES)
        );
    }

    #[test]
    fn a_reader_never_sees_half_of_one() {
        let refusals = Refusals::default();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for number in 0..200_000_u64 {
                    refusals.keep(&refusal(number, &number.to_le_bytes()));
                }
            });
            let mut seen = 0;
            while refusals.count() < 200_000 {
                for kept in refusals.kept() {
                    assert_eq!(kept.name, kept.time_unix_ms.to_le_bytes());
                    assert_eq!(kept.at.is_some(), kept.time_unix_ms.is_multiple_of(2));
                    seen += 1;
                }
            }
            assert!(seen > 0);
        });
    }
}
