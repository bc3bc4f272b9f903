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
