//! Log lines from one worker to the log thread. The worker never waits: a full ring drops the line and
//! counts it. Buffers go back through a second ring, so that steady state allocates nothing.

use rtrb::{Consumer, Producer, RingBuffer};

use super::counters::Tally;

/// Bytes above which a buffer is not kept for the next line: one long target must not stay for ever.
const KEPT_BYTES: usize = 4096;

/// A ring for `capacity` lines: the worker's end and the log thread's end.
#[must_use]
pub fn lines(capacity: usize) -> (LineProducer, LineConsumer) {
    let (full, filled) = RingBuffer::new(capacity);
    let (emptied, empty) = RingBuffer::new(capacity);
    let dropped = Tally::default();
    (LineProducer { full, empty, dropped: dropped.clone() }, LineConsumer { filled, emptied, dropped })
}

/// The worker's end.
#[derive(Debug)]
pub struct LineProducer {
    full: Producer<Vec<u8>>,
    empty: Consumer<Vec<u8>>,
    dropped: Tally,
}

impl LineProducer {
    /// Hands over one line that `write` puts into an empty buffer, newline included.
    ///
    /// Returns `false` when the ring is full or the log thread is gone; then `write` did not run, and
    /// the line is counted as dropped.
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.full.is_full() || self.full.is_abandoned() {
            self.dropped.add(1);
            return false;
        }
        let mut line = self.empty.pop().unwrap_or_default();
        write(&mut line);
        // The one producer saw a free slot, so this push cannot fail.
        self.full.push(line).is_ok()
    }

    /// Lines dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }
}

/// The log thread's end.
#[derive(Debug)]
pub struct LineConsumer {
    filled: Consumer<Vec<u8>>,
    emptied: Producer<Vec<u8>>,
    dropped: Tally,
}

impl LineConsumer {
    /// Appends waiting lines to `batch` until it holds `bytes_max` or more, or none waits; returns how
    /// many lines that were. The last line is never cut, so `batch` may end above `bytes_max`.
    pub fn take(&mut self, batch: &mut Vec<u8>, bytes_max: usize) -> u64 {
        let mut count = 0;
        while batch.len() < bytes_max {
            let Ok(mut line) = self.filled.pop() else { break };
            batch.extend_from_slice(&line);
            count += 1;
            line.clear();
            if line.capacity() <= KEPT_BYTES {
                // Full only when more buffers exist than slots; the spare one is then freed here.
                let _ = self.emptied.push(line);
            }
        }
        count
    }

    /// Lines that the worker dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    /// Whether the worker is gone and nothing waits any more.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        // In this order: a worker that left can add nothing between the two looks.
        self.filled.is_abandoned() && self.filled.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT_BYTES, lines};

    #[test]
    fn lines_keep_their_order_and_a_full_ring_drops_and_counts() {
        let (mut producer, mut consumer) = lines(2);
        assert!(producer.write(|out| out.extend_from_slice(b"a\n")));
        assert!(producer.write(|out| out.extend_from_slice(b"b\n")));
        assert!(!producer.write(|_| unreachable!("a dropped line is not written")));
        let mut batch = Vec::new();
        assert_eq!(consumer.take(&mut batch, 1024), 2);
        assert_eq!(batch, b"a\nb\n");
        assert_eq!((consumer.dropped(), producer.dropped()), (1, 1));
    }

    #[test]
    fn buffers_come_back_but_not_large_ones() {
        let (mut producer, mut consumer) = lines(1);
        let mut batch = Vec::new();
        assert!(producer.write(|out| out.reserve_exact(100)));
        consumer.take(&mut batch, 1);
        assert!(producer.write(|out| {
            assert!(out.is_empty() && out.capacity() >= 100, "the same buffer again");
            out.resize(KEPT_BYTES + 1, b'x');
        }));
        consumer.take(&mut batch, 1);
        assert_eq!(batch.len(), KEPT_BYTES + 1);
        batch.clear();
        assert!(producer.write(|out| assert_eq!(out.capacity(), 0)));
    }

    #[test]
    fn a_batch_stops_at_its_size_after_a_whole_line() {
        let (mut producer, mut consumer) = lines(8);
        for _ in 0..3 {
            assert!(producer.write(|out| out.extend_from_slice(b"1234\n")));
        }
        let mut batch = Vec::new();
        assert_eq!(consumer.take(&mut batch, 6), 2);
        assert_eq!(batch.len(), 10);
        assert!(!consumer.is_finished());
        drop(producer);
        assert!(!consumer.is_finished(), "a line still waits");
        batch.clear();
        assert_eq!(consumer.take(&mut batch, 6), 1);
        assert!(consumer.is_finished());
    }

    #[test]
    fn nothing_is_lost_between_threads_but_what_is_counted() {
        let (mut producer, mut consumer) = lines(16);
        let sent = std::thread::spawn(move || {
            let written =
                (0..20_000u32).filter(|n| producer.write(|out| out.extend(n.to_be_bytes()))).count();
            (written as u64, producer.dropped())
        });
        let (mut batch, mut taken) = (Vec::new(), 0);
        while !consumer.is_finished() {
            taken += consumer.take(&mut batch, usize::MAX);
        }
        let (written, dropped) = sent.join().unwrap();
        assert_eq!((taken, written + dropped), (written, 20_000));
        let numbers: Vec<u32> =
            batch.chunks_exact(4).map(|b| u32::from_be_bytes(b.try_into().unwrap())).collect();
        assert!(numbers.is_sorted(), "lines keep their order");
        assert_eq!(numbers.len() as u64, taken);
    }
}
