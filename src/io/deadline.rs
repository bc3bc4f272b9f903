//! Deadlines of one worker: a hashed wheel of [`limits::DEADLINE_STEP`] steps. Moving a deadline later, which
//! is what every request does, is one store; an entry whose bucket comes too early moves itself on.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use crate::limits;

/// Buckets; later deadlines wait in the last bucket and are looked at again.
const BUCKETS: u32 = 1024;
/// The step that never comes: 13 years after the worker's start.
const NEVER: u32 = u32::MAX;

/// A shared handle to the worker's wheel.
#[derive(Clone, Debug)]
pub struct Wheel {
    inner: Rc<RefCell<Inner>>,
}

#[derive(Debug)]
struct Inner {
    start: Instant,
    /// The step that was looked at last.
    step: u32,
    buckets: Vec<Vec<u32>>,
    entries: Vec<Entry>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Step at which it is due; [`NEVER`]: never.
    due: u32,
    /// Step of the bucket in which it waits; 0: none.
    bucket: u32,
    /// `None`: nobody holds it.
    waker: Option<Waker>,
}

/// One deadline; it is freed when dropped.
#[derive(Debug)]
pub struct Deadline {
    wheel: Wheel,
    id: u32,
}

impl Wheel {
    /// An empty wheel that begins at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let buckets = (0..BUCKETS).map(|_| Vec::new()).collect();
        let inner = Inner { start: now, step: 0, buckets, entries: Vec::new(), free: Vec::new() };
        Self { inner: Rc::new(RefCell::new(inner)) }
    }

    /// A deadline that is not set yet. It wakes `waker`.
    #[must_use]
    pub fn deadline(&self, waker: Waker) -> Deadline {
        let mut inner = self.inner.borrow_mut();
        let entry = Entry { due: NEVER, bucket: 0, waker: Some(waker) };
        let id = match inner.free.pop() {
            Some(id) => {
                if let Some(slot) = inner.entries.get_mut(id as usize) {
                    // Its bucket is kept: an old place in a bucket may still name this id.
                    let bucket = slot.bucket;
                    *slot = Entry { bucket, ..entry };
                }
                id
            }
            None => {
                inner.entries.push(entry);
                inner.entries.len() as u32 - 1
            }
        };
        drop(inner);
        Deadline { wheel: self.clone(), id }
    }

    /// Wakes everything that is due at `now`.
    pub fn advance(&self, now: Instant) {
        let mut due = Vec::new();
        self.inner.borrow_mut().collect(now, &mut due);
        due.into_iter().for_each(Waker::wake);
    }

    /// Wakes every holder of a deadline, due or not (to tell it that the worker drains).
    pub fn wake_all(&self) {
        let inner = self.inner.borrow();
        let wakers: Vec<Waker> = inner.entries.iter().filter_map(|entry| entry.waker.clone()).collect();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Inner {
    fn step_of(&self, at: Instant) -> u32 {
        let elapsed = at.saturating_duration_since(self.start).as_millis() as u64;
        // Rounded up, so that nothing fires early.
        let step = elapsed / limits::DEADLINE_STEP.as_millis() as u64 + 1;
        u32::try_from(step).unwrap_or(NEVER)
    }

    fn place(&mut self, id: u32, due: u32) {
        let bucket = due.max(self.step + 1).min(self.step + BUCKETS - 1);
        if let Some(entry) = self.entries.get_mut(id as usize) {
            entry.bucket = bucket;
        }
        if let Some(list) = self.buckets.get_mut((bucket % BUCKETS) as usize) {
            list.push(id);
        }
    }

    fn collect(&mut self, now: Instant, due: &mut Vec<Waker>) {
        let target = self.step_of(now).saturating_sub(1);
        while self.step < target {
            self.step += 1;
            let step = self.step;
            let list =
                self.buckets.get_mut((step % BUCKETS) as usize).map(std::mem::take).unwrap_or_default();
            for id in list {
                self.visit(id, step, due);
            }
        }
    }

    fn visit(&mut self, id: u32, step: u32, due: &mut Vec<Waker>) {
        let Some(entry) = self.entries.get_mut(id as usize) else { return };
        if entry.bucket != step {
            return;
        }
        entry.bucket = 0;
        if entry.waker.is_none() || entry.due == NEVER {
            return;
        }
        if entry.due <= step {
            due.extend(entry.waker.clone());
        } else {
            let due = entry.due;
            self.place(id, due);
        }
    }
}

impl Deadline {
    /// Sets or moves the deadline; `None`: there is none.
    pub fn set(&self, at: Option<Instant>) {
        let mut inner = self.wheel.inner.borrow_mut();
        let due = at.map_or(NEVER, |at| inner.step_of(at));
        let Some(entry) = inner.entries.get_mut(self.id as usize) else { return };
        entry.due = due;
        let waits_early_enough = entry.bucket != 0 && entry.bucket <= due;
        if due != NEVER && !waits_early_enough {
            inner.place(self.id, due);
        }
    }

    /// The task that holds this deadline now.
    pub fn wakes(&self, waker: &Waker) {
        let mut inner = self.wheel.inner.borrow_mut();
        if let Some(entry) = inner.entries.get_mut(self.id as usize)
            && !entry.waker.as_ref().is_some_and(|known| known.will_wake(waker))
        {
            entry.waker = Some(waker.clone());
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let mut inner = self.wheel.inner.borrow_mut();
        if let Some(entry) = inner.entries.get_mut(self.id as usize) {
            entry.due = NEVER;
            entry.waker = None;
            inner.free.push(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    #[derive(Default)]
    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counting(wheel: &Wheel) -> (Deadline, Arc<Count>) {
        let count = Arc::new(Count::default());
        (wheel.deadline(Waker::from(count.clone())), count)
    }

    fn woken(count: &Count) -> u32 {
        count.0.load(Ordering::Relaxed)
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_deadline_fires_once_it_is_due_and_not_before() {
        let start = Instant::now();
        let wheel = Wheel::new(start);
        let (deadline, count) = counting(&wheel);
        deadline.set(Some(start + 250 * MS));
        wheel.advance(start + 249 * MS);
        assert_eq!(woken(&count), 0);
        wheel.advance(start + 250 * MS + limits::DEADLINE_STEP);
        assert_eq!(woken(&count), 1);
        wheel.advance(start + 5000 * MS);
        assert_eq!(woken(&count), 1);
    }

    #[test]
    fn moving_it_later_or_away_keeps_it_silent() {
        let start = Instant::now();
        let wheel = Wheel::new(start);
        let (deadline, count) = counting(&wheel);
        for step in 1..50_u32 {
            deadline.set(Some(start + 300 * MS + 100 * step * MS));
            wheel.advance(start + 100 * step * MS);
        }
        assert_eq!(woken(&count), 0);
        deadline.set(None);
        wheel.advance(start + 60_000 * MS);
        assert_eq!(woken(&count), 0);
        deadline.set(Some(start + 61_000 * MS));
        wheel.advance(start + 62_000 * MS);
        assert_eq!(woken(&count), 1);
    }

    #[test]
    fn moving_it_earlier_works_and_far_deadlines_do_not_wrap() {
        let start = Instant::now();
        let wheel = Wheel::new(start);
        let (far, far_count) = counting(&wheel);
        let (near, near_count) = counting(&wheel);
        far.set(Some(start + Duration::from_secs(3600)));
        near.set(Some(start + Duration::from_secs(3600)));
        near.set(Some(start + 200 * MS));
        wheel.advance(start + Duration::from_secs(1000));
        assert_eq!((woken(&far_count), woken(&near_count)), (0, 1));
        wheel.advance(start + Duration::from_secs(3601));
        assert_eq!(woken(&far_count), 1);
    }

    #[test]
    fn a_dropped_deadline_wakes_nobody_and_its_place_is_used_again() {
        let start = Instant::now();
        let wheel = Wheel::new(start);
        let (first, first_count) = counting(&wheel);
        first.set(Some(start + 200 * MS));
        drop(first);
        let (second, second_count) = counting(&wheel);
        second.set(Some(start + 5000 * MS));
        wheel.advance(start + 1000 * MS);
        assert_eq!((woken(&first_count), woken(&second_count)), (0, 0));
        wheel.advance(start + 6000 * MS);
        assert_eq!(woken(&second_count), 1);
        assert_eq!(wheel.inner.borrow().entries.len(), 1);
    }
}
