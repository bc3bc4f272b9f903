//! A value that one thread replaces as a whole and many read: configuration, certificates, addresses.
//! Readers never wait and never see half of a change.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache, Guard};

/// A shared place that holds the newest version of an immutable `T`; clones share the place.
pub struct Published<T> {
    place: Arc<ArcSwap<T>>,
}

impl<T> Published<T> {
    /// A place that holds `first`.
    #[must_use]
    pub fn new(first: Arc<T>) -> Self {
        Self { place: Arc::new(ArcSwap::new(first)) }
    }

    /// The newest version, as a counted reference that may be kept.
    #[must_use]
    pub fn load(&self) -> Arc<T> {
        self.place.load_full()
    }

    /// The newest version for a moment: no count is touched, so do not keep it across waiting.
    #[must_use]
    pub fn peek(&self) -> Guard<Arc<T>> {
        self.place.load()
    }

    /// Replaces the value; readers see it at their next read, the old one goes with its last holder.
    pub fn publish(&self, next: Arc<T>) {
        self.place.store(next);
    }

    /// A reader for one thread's frequent reads.
    #[must_use]
    pub fn reader(&self) -> Reader<T> {
        Reader { cache: Cache::new(Arc::clone(&self.place)) }
    }
}

impl<T> Clone for Published<T> {
    fn clone(&self) -> Self {
        Self { place: Arc::clone(&self.place) }
    }
}

impl<T: fmt::Debug> fmt::Debug for Published<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Published").field(&*self.peek()).finish()
    }
}

/// One thread's view of a [`Published`]: a read is one load and a compare while nothing changed.
///
/// It holds the version it last saw, so a reader that is never read keeps that version alive.
pub struct Reader<T> {
    cache: Cache<Arc<ArcSwap<T>>, Arc<T>>,
}

impl<T> Reader<T> {
    /// The newest version.
    pub fn load(&mut self) -> &Arc<T> {
        self.cache.load()
    }
}

impl<T> Clone for Reader<T> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone() }
    }
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

#[cfg(test)]
mod tests {
    use super::Published;
    use std::sync::Arc;

    #[test]
    fn readers_see_the_newest_version_and_release_the_old_one() {
        let first = Arc::new(1);
        let place = Published::new(Arc::clone(&first));
        let mut reader = place.reader();
        assert_eq!(**reader.load(), 1);
        place.clone().publish(Arc::new(2));
        assert_eq!(**reader.load(), 2);
        assert_eq!((*place.load(), **place.peek()), (2, 2));
        assert_eq!(Arc::strong_count(&first), 1, "nobody holds the old version any more");
    }

    #[test]
    fn a_snapshot_is_never_torn() {
        let place = Published::new(Arc::new((0u64, 0u64)));
        let read_all = |mut reader: super::Reader<(u64, u64)>| {
            let mut last = 0;
            while last < 2000 {
                let (a, b) = **reader.load();
                assert_eq!(a, b);
                assert!(a >= last, "versions never go back");
                last = a;
                std::thread::yield_now();
            }
        };
        std::thread::scope(|threads| {
            for reader in [place.reader(), place.reader()] {
                threads.spawn(move || read_all(reader));
            }
            (1..=2000).for_each(|n| place.publish(Arc::new((n, n))));
        });
        assert_eq!(place.load().0, 2000);
    }
}
