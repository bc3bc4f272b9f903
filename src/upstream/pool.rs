//! Idle upstream connections of one worker: last in, first out, so that few stay warm and the rest age
//! out. How long an app keeps idle connections is not known at first; [`Patience`] learns it.

use std::time::{Duration, Instant};

use super::group::EndpointId;

/// How long an idle connection to one endpoint may be used again.
///
/// Starts at the configured guess. An announced `Keep-Alive: timeout=` sets it, less a margin; a
/// close seen earlier than expected lowers it (a restart closes everything early), and connections that
/// stay open for longer than it raise it again, never past what was guessed or announced.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    limit: Duration,
    /// What was guessed or announced: it is never exceeded.
    ceiling: Duration,
}

/// Time that a request may be under way while the app's own timer runs out.
const MARGIN: Duration = Duration::from_millis(500);
/// Below this, keeping connections costs more races than it saves connects.
const SHORTEST: Duration = Duration::from_millis(50);

impl Patience {
    /// The first guess.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit, ceiling: limit }
    }

    /// How long a connection may have been idle to be used.
    #[must_use]
    pub fn limit(self) -> Duration {
        self.limit
    }

    /// The app announced `Keep-Alive: timeout=seconds`.
    pub fn announced(&mut self, seconds: u32) {
        let announced = Duration::from_secs(u64::from(seconds));
        self.ceiling = announced.saturating_sub(MARGIN).max(announced / 2);
        self.limit = self.ceiling;
    }

    /// How long an idle connection is kept to see whether the app keeps it, too.
    fn probation(self) -> Duration {
        (self.limit * 2).min(self.ceiling)
    }

    /// The app has kept a connection that was idle for `idle`.
    fn kept_for(&mut self, idle: Duration) {
        self.limit = self.limit.max(idle).min(self.ceiling);
    }

    /// The app closed a connection that had been idle for `idle`.
    pub fn closed_after(&mut self, idle: Duration) {
        if idle < self.limit + MARGIN {
            self.limit = self.limit.min((idle * 3 / 4).max(SHORTEST));
        }
    }
}

/// Idle connections of all endpoints.
#[derive(Debug)]
pub struct Pool<T> {
    endpoints: Vec<Shelf<T>>,
    per_endpoint: usize,
}

#[derive(Debug)]
struct Shelf<T> {
    idle: Vec<Idle<T>>,
    patience: Patience,
}

#[derive(Debug)]
struct Idle<T> {
    connection: T,
    since: Instant,
}

impl<T> Pool<T> {
    /// An empty pool for `endpoints` endpoints, `per_endpoint` idle connections each, idle for `guess`.
    #[must_use]
    pub fn new(endpoints: usize, per_endpoint: usize, guess: Duration) -> Self {
        let shelf = || Shelf { idle: Vec::new(), patience: Patience::new(guess) };
        Self { endpoints: (0..endpoints).map(|_| shelf()).collect(), per_endpoint }
    }

    /// The most recently used connection to `endpoint`, unless it has been idle for too long, and for how
    /// long it was idle.
    pub fn take(&mut self, endpoint: EndpointId, now: Instant) -> Option<(T, Duration)> {
        let shelf = self.endpoints.get_mut(endpoint.0 as usize)?;
        let age = now.saturating_duration_since(shelf.idle.last()?.since);
        // Last in, first out: if the newest is too old, all are.
        if age >= shelf.patience.limit() {
            return None;
        }
        Some((shelf.idle.pop()?.connection, age))
    }

    /// Keeps `connection` for later; gives it back if the shelf is full.
    pub fn put(&mut self, endpoint: EndpointId, connection: T, now: Instant) -> Option<T> {
        let Some(shelf) = self.endpoints.get_mut(endpoint.0 as usize) else { return Some(connection) };
        if shelf.idle.len() >= self.per_endpoint {
            return Some(connection);
        }
        shelf.idle.push(Idle { connection, since: now });
        None
    }

    /// The app announced how long it keeps idle connections.
    pub fn announced(&mut self, endpoint: EndpointId, seconds: u32) {
        if let Some(shelf) = self.endpoints.get_mut(endpoint.0 as usize) {
            shelf.patience.announced(seconds);
        }
    }

    /// Drops connections idle for too long and those that `dead` says were closed by the app (which
    /// teaches how long it waits). Returns how many are left.
    pub fn sweep(&mut self, now: Instant, mut dead: impl FnMut(&mut T) -> bool) -> usize {
        let mut left = 0;
        for shelf in &mut self.endpoints {
            let patience = &mut shelf.patience;
            shelf.idle.retain_mut(|idle| {
                let age = now.saturating_duration_since(idle.since);
                if dead(&mut idle.connection) {
                    patience.closed_after(age);
                    return false;
                }
                if age < patience.probation() {
                    return true;
                }
                patience.kept_for(age);
                false
            });
            left += shelf.idle.len();
        }
        left
    }

    /// Connections kept now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.endpoints.iter().map(|shelf| shelf.idle.len()).sum()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops all.
    pub fn clear(&mut self) {
        for shelf in &mut self.endpoints {
            shelf.idle.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: EndpointId = EndpointId(0);
    const S: Duration = Duration::from_secs(1);

    #[test]
    fn the_newest_connection_is_used_first() {
        let now = Instant::now();
        let mut pool = Pool::new(1, 2, 4 * S);
        assert_eq!(pool.put(ONE, 1, now), None);
        assert_eq!(pool.put(ONE, 2, now), None);
        assert_eq!(pool.put(ONE, 3, now), Some(3), "the shelf is full");
        let mut take = || pool.take(ONE, now).map(|(connection, _)| connection);
        assert_eq!((take(), take(), take()), (Some(2), Some(1), None));
    }

    #[test]
    fn idle_for_too_long_is_not_used() {
        let now = Instant::now();
        let mut pool = Pool::new(1, 9, 4 * S);
        pool.put(ONE, 1, now);
        pool.put(ONE, 2, now + S);
        assert_eq!(pool.take(ONE, now + 6 * S), None);
        assert_eq!(pool.sweep(now + 6 * S, |_| false), 0);
    }

    #[test]
    fn a_close_teaches_how_long_the_app_waits() {
        let now = Instant::now();
        let mut pool = Pool::new(1, 9, 4 * S);
        pool.put(ONE, 1, now);
        assert_eq!(pool.sweep(now + 2 * S, |_| true), 0);
        pool.put(ONE, 2, now);
        assert_eq!(pool.take(ONE, now + 2 * S), None, "it closes after 2 s; 1.5 s are safe");
        pool.put(ONE, 3, now);
        assert_eq!(pool.take(ONE, now + S), Some((3, S)));
    }

    #[test]
    fn a_restart_of_the_app_is_forgotten() {
        let mut now = Instant::now();
        let mut pool = Pool::new(1, 9, 4 * S);
        pool.put(ONE, 1, now);
        pool.sweep(now, |_| true);
        pool.put(ONE, 2, now);
        assert_eq!(pool.take(ONE, now + S), None, "everything was closed at once");
        for _ in 0..8 {
            pool.put(ONE, 3, now);
            for _ in 0..40 {
                now += S / 10;
                pool.sweep(now, |_| false);
            }
        }
        pool.put(ONE, 4, now);
        assert_eq!(pool.take(ONE, now + 3 * S), Some((4, 3 * S)), "the app keeps them again");
    }

    #[test]
    fn an_announced_time_is_kept_with_a_margin() {
        let now = Instant::now();
        let mut pool = Pool::new(1, 9, 4 * S);
        pool.announced(ONE, 60);
        pool.put(ONE, 1, now);
        assert_eq!(pool.take(ONE, now + 59 * S), Some((1, 59 * S)));
        pool.put(ONE, 1, now);
        assert_eq!(pool.take(ONE, now + 60 * S), None);
    }

    #[test]
    fn sweeping_drops_what_aged_and_keeps_the_rest() {
        let now = Instant::now();
        let mut pool = Pool::new(2, 9, 4 * S);
        pool.put(ONE, 1, now);
        pool.put(EndpointId(1), 2, now + 3 * S);
        assert_eq!(pool.sweep(now + 5 * S, |_| false), 1);
        assert_eq!(pool.take(EndpointId(1), now + 5 * S), Some((2, 2 * S)));
    }
}
