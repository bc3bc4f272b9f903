//! Session tickets (RFC 8446 §4.6.1, RFC 5077): sealed with AES-256-GCM under keys that live in this process
//! only, are shared by all workers, and roll every [`limits::TICKET_KEY_LIFE`]. A ticket is bound to its
//! site: the site's names are authenticated with it, so another site cannot open it.
//!
//! ```text
//! ticket | key name 16 | nonce 12 | sealed state | tag 16 |
//! ```

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::SecureRandom;
use rustls::server::ProducesTickets;
use zeroize::Zeroize;

#[cfg(feature = "crypto-aws-lc")]
use aws_lc_rs::aead;
#[cfg(not(feature = "crypto-aws-lc"))]
use ring::aead;

use crate::limits;
use crate::wire::cursor::Cursor;

const KEY_NAME: usize = 16;
const KEY_BYTES: usize = 32;
/// Seconds for which a key seals; it opens for twice as long.
const LIFE: u64 = limits::TICKET_KEY_LIFE.as_secs();

/// The key that seals and the one before it. Rolling replaces the whole, so readers never wait.
pub struct TicketKeys {
    keys: ArcSwap<Generation>,
    random: &'static dyn SecureRandom,
    clock: fn() -> u64,
}

/// What is published at once.
struct Generation {
    current: Arc<Key>,
    previous: Option<Arc<Key>>,
}

struct Key {
    name: [u8; KEY_NAME],
    aead: aead::LessSafeKey,
    born: u64,
}

impl Key {
    fn new(random: &dyn SecureRandom, born: u64) -> Option<Arc<Self>> {
        let mut name = [0; KEY_NAME];
        let mut secret = [0; KEY_BYTES];
        random.fill(&mut name).ok()?;
        random.fill(&mut secret).ok()?;
        let key = aead::UnboundKey::new(&aead::AES_256_GCM, &secret);
        secret.zeroize();
        Some(Arc::new(Self { name, aead: aead::LessSafeKey::new(key.ok()?), born }))
    }

    /// Whether it may seal. A clock set back by more than a key's life would otherwise stretch that life.
    fn seals(&self, now: u64) -> bool {
        now < self.born.saturating_add(LIFE) && self.born < now.saturating_add(LIFE)
    }

    /// Whether it may open: for as long as the last ticket it sealed is promised to live.
    fn opens(&self, now: u64) -> bool {
        now < self.born.saturating_add(2 * LIFE)
    }
}

impl TicketKeys {
    /// With a fresh key; `None` if there are no random bytes. `clock` gives seconds since a fixed moment.
    #[must_use]
    pub fn new(random: &'static dyn SecureRandom, clock: fn() -> u64) -> Option<Self> {
        let current = Key::new(random, clock())?;
        Some(Self { keys: ArcSwap::from_pointee(Generation { current, previous: None }), random, clock })
    }

    /// The key to seal with, rolled if it is due. `None` if one is due and there are no random bytes: no
    /// ticket is better than one under an old key.
    fn sealing_key(&self) -> Option<Arc<Key>> {
        let now = (self.clock)();
        let generation = self.keys.load();
        if generation.current.seals(now) {
            return Some(Arc::clone(&generation.current));
        }
        let next = Arc::new(Generation {
            current: Key::new(self.random, now)?,
            previous: Some(Arc::clone(&generation.current)).filter(|key| key.opens(now)),
        });
        // Of workers that roll at the same moment one wins, and all seal with its key.
        self.keys.compare_and_swap(&generation, next);
        Some(Arc::clone(&self.keys.load().current))
    }

    /// The key called `name`, if it still opens.
    fn opening_key(&self, name: [u8; KEY_NAME]) -> Option<Arc<Key>> {
        let now = (self.clock)();
        let generation = self.keys.load();
        std::iter::once(&generation.current)
            .chain(&generation.previous)
            .find(|key| key.name == name && key.opens(now))
            .map(Arc::clone)
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").finish_non_exhaustive()
    }
}

/// The tickets of one site.
#[derive(Debug)]
pub struct SiteTickets {
    keys: Arc<TicketKeys>,
    binding: Vec<u8>,
}

impl SiteTickets {
    /// Tickets that open only where `binding` is the same.
    #[must_use]
    pub fn new(keys: Arc<TicketKeys>, binding: Vec<u8>) -> Self {
        Self { keys, binding }
    }
}

impl ProducesTickets for SiteTickets {
    fn enabled(&self) -> bool {
        true
    }

    /// Seconds for which the newest ticket will be opened at the least.
    fn lifetime(&self) -> u32 {
        u32::try_from(LIFE).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.keys.sealing_key()?;
        // Random nonces are safe for 2^32 tickets of one key (NIST SP 800-38D §8.3): 198,000 a second for
        // the whole of its life.
        let mut nonce = [0; aead::NONCE_LEN];
        self.keys.random.fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let aad = aead::Aad::from(self.binding.as_slice());
        let unique = aead::Nonce::assume_unique_for_key(nonce);
        key.aead.seal_in_place_append_tag(unique, aad, &mut sealed).ok()?;
        let mut ticket = Vec::with_capacity(KEY_NAME + nonce.len() + sealed.len());
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(&nonce);
        ticket.append(&mut sealed);
        Some(ticket)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let mut ticket = Cursor::new(cipher);
        let key = self.keys.opening_key(ticket.array()?)?;
        let nonce = aead::Nonce::assume_unique_for_key(ticket.array()?);
        let mut state = ticket.rest().to_vec();
        let aad = aead::Aad::from(self.binding.as_slice());
        let length = key.aead.open_in_place(nonce, aad, &mut state).ok()?.len();
        state.truncate(length);
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use rustls::server::ProducesTickets;

    use super::{LIFE, SiteTickets, TicketKeys};

    thread_local! {
        static NOW: Cell<u64> = const { Cell::new(0) };
    }

    /// Sets the clock of the test's thread.
    fn at(now: u64) {
        NOW.set(now);
    }

    fn keys() -> Arc<TicketKeys> {
        at(1_000_000);
        Arc::new(TicketKeys::new(crate::tls::provider().secure_random, || NOW.get()).unwrap())
    }

    fn site(keys: &Arc<TicketKeys>, name: &str) -> SiteTickets {
        SiteTickets::new(Arc::clone(keys), name.as_bytes().to_vec())
    }

    #[test]
    fn a_ticket_opens_for_its_site_on_any_worker_and_nowhere_else() {
        let keys = keys();
        let ticket = site(&keys, "a.example").encrypt(b"state").unwrap();
        assert_eq!(site(&keys, "a.example").decrypt(&ticket).unwrap(), b"state");
        assert_eq!(site(&keys, "b.example").decrypt(&ticket), None);
        assert_eq!(site(&keys, "").decrypt(&ticket), None);
        let others = self::keys();
        assert_eq!(site(&others, "a.example").decrypt(&ticket), None, "keys of another start");
        let again = site(&keys, "a.example").encrypt(b"state").unwrap();
        assert_ne!(ticket, again, "nonces differ");
        assert!(!ticket.windows(5).any(|window| window == b"state"));
    }

    #[test]
    fn altered_and_cut_tickets_do_not_open() {
        let tickets = site(&keys(), "a.example");
        let ticket = tickets.encrypt(b"state").unwrap();
        for at in 0..ticket.len() {
            assert_eq!(tickets.decrypt(&ticket[..at]), None);
            let mut altered = ticket.clone();
            altered[at] ^= 1;
            assert_eq!(tickets.decrypt(&altered), None);
        }
        let longer = [&ticket[..], &[0]].concat();
        assert_eq!(tickets.decrypt(&longer), None);
        assert_eq!(tickets.decrypt(&[0; 70_000]), None);
    }

    #[test]
    fn keys_roll_and_the_one_before_still_opens_until_its_tickets_are_dead() {
        let tickets = site(&keys(), "a.example");
        let start = NOW.get();
        let first = tickets.encrypt(b"first").unwrap();
        at(start + LIFE - 1);
        let last_of_first = tickets.encrypt(b"last").unwrap();
        assert_eq!(first[..16], last_of_first[..16], "one key for its whole life");
        at(start + LIFE);
        let second = tickets.encrypt(b"second").unwrap();
        assert_ne!(first[..16], second[..16], "then another");
        at(start + LIFE - 1 + u64::from(tickets.lifetime()));
        assert_eq!(tickets.decrypt(&last_of_first).unwrap(), b"last", "as long as promised");
        assert_eq!(tickets.decrypt(&second).unwrap(), b"second");
        at(start + 2 * LIFE);
        assert_eq!(tickets.decrypt(&last_of_first), None);
        assert_eq!(tickets.decrypt(&second).unwrap(), b"second");
        let third = tickets.encrypt(b"third").unwrap();
        assert_ne!(second[..16], third[..16]);
        assert_eq!(tickets.decrypt(&second).unwrap(), b"second");
    }

    #[test]
    fn a_key_that_nobody_rolled_does_not_open_for_ever() {
        let tickets = site(&keys(), "a.example");
        let ticket = tickets.encrypt(b"state").unwrap();
        at(NOW.get() + 100 * LIFE);
        assert_eq!(tickets.decrypt(&ticket), None);
        let fresh = tickets.encrypt(b"fresh").unwrap();
        assert_eq!(tickets.decrypt(&fresh).unwrap(), b"fresh");
        assert_eq!(tickets.decrypt(&ticket), None);
    }

    #[test]
    fn a_clock_set_back_does_not_stretch_a_key() {
        let tickets = site(&keys(), "a.example");
        let before = tickets.encrypt(b"before").unwrap();
        at(NOW.get() - 60);
        let corrected = tickets.encrypt(b"corrected").unwrap();
        assert_eq!(before[..16], corrected[..16], "a small correction rolls nothing");
        at(5);
        let after = tickets.encrypt(b"after").unwrap();
        assert_ne!(before[..16], after[..16]);
        assert_eq!(tickets.decrypt(&after).unwrap(), b"after");
    }

    #[test]
    fn workers_that_roll_at_once_agree_on_one_key() {
        let keys = keys();
        let before = site(&keys, "a").encrypt(b"x").unwrap();
        let due = NOW.get() + LIFE;
        let start = std::sync::Barrier::new(4);
        let names: Vec<_> = std::thread::scope(|scope| {
            let work = || {
                at(due);
                start.wait();
                site(&keys, "a").encrypt(b"x").unwrap()[..16].to_vec()
            };
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        assert!(names.iter().all(|name| *name == names[0] && *name != before[..16]));
    }
}
