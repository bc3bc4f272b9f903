//! Buffers of one worker, last in, first out, so that the ones in use stay in the cache. A connection
//! holds one only while bytes are in it or about to come.

use std::cell::RefCell;
use std::rc::Rc;

use crate::limits;

/// Which size is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// One record, [`limits::RECEIVE_BUFFER`].
    Record,
    /// Many records, [`limits::BULK_BUFFER`], if one is to be had.
    Bulk,
}

/// Capacity of a bulk buffer: its content as sealed records, behind what may be queued already.
pub const BULK_CAPACITY: usize = limits::BULK_BUFFER + 48 * 1024;

/// A shared handle to the worker's free lists.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    free: Rc<RefCell<Free>>,
}

#[derive(Debug, Default)]
struct Free {
    record: Vec<Vec<u8>>,
    bulk: Vec<Vec<u8>>,
    bulk_out: usize,
    /// The shortest that the lists were since they were trimmed: so many buffers nobody needed.
    spare_records: usize,
    spare_bulk: usize,
}

impl Buffers {
    /// An empty buffer of the size wanted; of one record if no bulk buffer is left.
    #[must_use]
    pub fn get(&self, size: Size) -> Vec<u8> {
        let free = &mut *self.free.borrow_mut();
        if size == Size::Bulk && free.bulk_out < limits::BULK_BUFFERS_PER_WORKER {
            free.bulk_out += 1;
            let buffer = free.bulk.pop();
            free.spare_bulk = free.spare_bulk.min(free.bulk.len());
            return buffer.unwrap_or_else(|| Vec::with_capacity(BULK_CAPACITY));
        }
        let buffer = free.record.pop();
        free.spare_records = free.spare_records.min(free.record.len());
        buffer.unwrap_or_else(|| Vec::with_capacity(limits::RECEIVE_BUFFER))
    }

    /// Frees what was not needed since the last time, all but a few. Returns how many buffers those were.
    pub fn trim(&self) -> usize {
        let free = &mut *self.free.borrow_mut();
        let records = free.spare_records.saturating_sub(limits::FREE_BUFFERS_AT_REST);
        // The ones in use are at the end.
        free.record.drain(..records.min(free.record.len()));
        let bulk = free.spare_bulk;
        free.bulk.drain(..bulk.min(free.bulk.len()));
        free.spare_records = free.record.len();
        free.spare_bulk = free.bulk.len();
        records + bulk
    }

    /// Buffers of one record that are kept free, and bulk buffers in use.
    #[must_use]
    pub fn figures(&self) -> (usize, usize) {
        let free = self.free.borrow();
        (free.record.len(), free.bulk_out)
    }

    /// Gives a buffer back. One of another size is freed.
    pub fn put(&self, mut buffer: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        let capacity = buffer.capacity();
        buffer.clear();
        if capacity >= BULK_CAPACITY {
            free.bulk_out = free.bulk_out.saturating_sub(1);
            if capacity == BULK_CAPACITY && free.bulk.len() < limits::BULK_BUFFERS_PER_WORKER / 8 {
                free.bulk.push(buffer);
            }
        } else if capacity == limits::RECEIVE_BUFFER && free.record.len() < limits::FREE_BUFFERS_PER_WORKER {
            free.record.push(buffer);
        }
    }

    /// Watches a buffer of this capacity while an operation owns it.
    #[must_use]
    pub fn watch(&self, capacity: usize) -> Watch {
        Watch { buffers: self.clone(), bulk: capacity >= BULK_CAPACITY }
    }
}

/// Counts a bulk buffer as gone if the operation that owns it is dropped with it.
#[derive(Debug)]
pub struct Watch {
    buffers: Buffers,
    bulk: bool,
}

impl Watch {
    /// The operation gave the buffer back.
    pub fn over(mut self) {
        self.bulk = false;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.bulk {
            let mut free = self.buffers.free.borrow_mut();
            free.bulk_out = free.bulk_out.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_newest_first() {
        let buffers = Buffers::default();
        let mut one = buffers.get(Size::Record);
        one.extend_from_slice(b"secret");
        let place = one.as_ptr();
        buffers.put(one);
        let again = buffers.get(Size::Record);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }

    #[test]
    fn what_nobody_needed_for_a_while_is_freed() {
        let buffers = Buffers::default();
        let take = |count| (0..count).map(|_| buffers.get(Size::Record)).collect::<Vec<_>>();
        let burst = limits::FREE_BUFFERS_AT_REST + 40;
        take(burst).into_iter().for_each(|buffer| buffers.put(buffer));
        buffers.put(buffers.get(Size::Bulk));
        assert_eq!(buffers.trim(), 0, "all were in use a moment ago");
        take(30).into_iter().for_each(|buffer| buffers.put(buffer));
        assert_eq!(buffers.trim(), 10 + 1);
        assert_eq!(buffers.free.borrow().record.len(), burst - 10);
        assert_eq!(buffers.trim(), 30);
        assert_eq!(buffers.trim(), 0, "a few are kept");
    }

    #[test]
    fn bulk_buffers_are_bounded() {
        let buffers = Buffers::default();
        let all: Vec<_> = (0..limits::BULK_BUFFERS_PER_WORKER).map(|_| buffers.get(Size::Bulk)).collect();
        assert!(all.iter().all(|buffer| buffer.capacity() >= BULK_CAPACITY));
        assert!(buffers.get(Size::Bulk).capacity() < BULK_CAPACITY, "the next one is small");
        all.into_iter().for_each(|buffer| buffers.put(buffer));
        assert!(buffers.get(Size::Bulk).capacity() >= BULK_CAPACITY);
    }
}
