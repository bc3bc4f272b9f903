//! The log thread: takes the workers' lines and writes them in batches. It never makes a worker wait; what
//! cannot be written is dropped and counted, with one warning per trouble.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::handoff::counters::Tally;
use crate::handoff::published::Published;
use crate::handoff::ring::LineConsumer;

/// How long the thread sleeps when no line waits. A wake-up per line would cost each worker a system call
/// per request; a ring of 4096 lines lasts 10 ms up to 400,000 requests per second.
const IDLE: Duration = Duration::from_millis(10);
/// Bytes of one write: large enough that the system call is nothing beside the copy.
const BATCH_BYTES: usize = 256 * 1024;
/// How long a sink that takes nothing (a full non-blocking pipe) is waited for before lines are dropped.
const SINK_PATIENCE: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Standard output.
    Stdout,
    /// Appended to this file, which is made (0640) if it is not there.
    File(PathBuf),
}

impl Sink {
    fn open(&self) -> io::Result<File> {
        match self {
            Self::Stdout => Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
            Self::File(path) => OpenOptions::new().append(true).create(true).mode(0o640).open(path),
        }
    }
}

/// What the thread is to do.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    /// Raised by one each time the file is to be opened anew.
    reopen: u64,
    stop: bool,
}

/// The running log thread.
#[derive(Debug)]
pub struct LogWriter {
    orders: Published<Orders>,
    lost: Tally,
    thread: JoinHandle<()>,
}

impl LogWriter {
    /// Starts writing the lines of these workers to `sink`.
    ///
    /// # Errors
    /// The system's, when the sink cannot be opened or no thread can be made.
    pub fn start(workers: Vec<LineConsumer>, sink: Sink) -> io::Result<Self> {
        let file = sink.open()?;
        let orders = Published::new(Arc::new(Orders::default()));
        let lost = Tally::default();
        let writer = Writer { file, lost: lost.clone(), in_line: false, in_trouble: false };
        let work = {
            let orders = orders.clone();
            move || run(workers, writer, &sink, &orders)
        };
        let thread = thread::Builder::new().name("log".to_owned()).spawn(work)?;
        Ok(Self { orders, lost, thread })
    }

    /// Lines taken from workers that could not be written. Those that workers dropped since their ring
    /// was full are counted by their rings.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// The same figure, to be read after this is gone.
    #[must_use]
    pub fn losses(&self) -> Tally {
        self.lost.clone()
    }

    /// Opens the file anew, after something renamed it (log rotation).
    pub fn reopen(&self) {
        let now = self.orders.load();
        self.order(Orders { reopen: now.reopen.wrapping_add(1), ..*now });
    }

    /// Writes what waits and ends the thread; whether that was done within `timeout`. If it was not (the
    /// sink blocks), the thread is left behind for the process' end.
    #[must_use]
    pub fn stop(self, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        self.order(Orders { stop: true, ..*self.orders.load() });
        while !self.thread.is_finished() {
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.thread.join().is_ok()
    }

    fn order(&self, orders: Orders) {
        self.orders.publish(Arc::new(orders));
        self.thread.thread().unpark();
    }
}

/// The thread: one turn takes a batch and writes it; without lines it sleeps.
fn run(mut workers: Vec<LineConsumer>, mut writer: Writer, sink: &Sink, orders: &Published<Orders>) {
    let mut batch = Vec::new();
    let mut opened = 0;
    loop {
        // Read before the lines: what was sent before the order to stop is then taken below.
        let order = *orders.load();
        if order.reopen != opened {
            opened = order.reopen;
            writer.reopen(sink);
        }
        let mut lines = 0;
        for worker in &mut workers {
            // Each gets a share, so that one busy worker does not fill the batch alone.
            let share = batch.len() + BATCH_BYTES / 4;
            lines += worker.take(&mut batch, share);
        }
        if lines > 0 {
            writer.write(&batch, lines);
            batch.clear();
            batch.shrink_to(4 * BATCH_BYTES);
        } else if order.stop || workers.iter().all(LineConsumer::is_finished) && !workers.is_empty() {
            return;
        } else {
            thread::park_timeout(IDLE);
        }
    }
}

/// The sink and what is known about it.
struct Writer {
    file: File,
    lost: Tally,
    /// Whether the last byte written was inside a line.
    in_line: bool,
    /// Whether the last batch could not be written; warned of once.
    in_trouble: bool,
}

impl Writer {
    fn reopen(&mut self, sink: &Sink) {
        match sink.open() {
            Ok(file) => {
                self.file = file;
                self.in_line = false;
            }
            Err(error) => {
                warn(&format!("cannot open the access log again, writing to the old file: {error}"))
            }
        }
    }

    /// Writes a batch of whole lines; what cannot be written is dropped and counted.
    fn write(&mut self, batch: &[u8], lines: u64) {
        match self.write_all(batch) {
            Ok(()) if self.in_trouble => {
                self.in_trouble = false;
                warn(&format!("access log lines are written again; lost so far: {}", self.lost.get()));
            }
            Ok(()) => {}
            Err((written, error)) => {
                let whole = batch.iter().take(written).filter(|byte| **byte == b'\n').count() as u64;
                self.lost.add(lines.saturating_sub(whole));
                if !self.in_trouble {
                    self.in_trouble = true;
                    warn(&format!("cannot write the access log, lines are dropped: {error}"));
                }
            }
        }
    }

    /// On error also says how many bytes of `batch` were written.
    fn write_all(&mut self, batch: &[u8]) -> Result<(), (usize, io::Error)> {
        if self.in_line {
            // A disk that filled up cut a line; the next begins on a line of its own.
            self.put(b"\n").map_err(|(_, error)| (0, error))?;
            self.in_line = false;
        }
        let result = self.put(batch);
        let written = result.as_ref().map_or_else(|(written, _)| *written, |()| batch.len());
        if let Some(last) = written.checked_sub(1).and_then(|last| batch.get(last)) {
            self.in_line = *last != b'\n';
        }
        result
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut rest = bytes;
        let mut end = None;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err((bytes.len() - rest.len(), ErrorKind::WriteZero.into())),
                Ok(written) => {
                    rest = rest.split_at_checked(written).map_or(&[], |(_, rest)| rest);
                    end = None;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let now = Instant::now();
                    if now >= *end.get_or_insert(now + SINK_PATIENCE) {
                        return Err((bytes.len() - rest.len(), error));
                    }
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err((bytes.len() - rest.len(), error)),
            }
        }
        Ok(())
    }
}

/// To standard error; a failure there has nobody left to be told.
fn warn(text: &str) {
    let _ = writeln!(io::stderr(), "lockring: warning: {text}");
}

#[cfg(test)]
mod tests {
    use super::{LogWriter, Sink, Writer};
    use crate::acme::store::tests::Scratch;
    use crate::handoff::counters::Tally;
    use crate::handoff::ring::{LineProducer, lines};
    use std::fs::{self, File};
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn lines_of_all_workers_arrive_whole_and_in_their_order() {
        let scratch = Scratch::new("log");
        let path = scratch.path.join("access.log");
        fs::write(&path, "before\n").unwrap();
        let (producers, consumers): (Vec<_>, Vec<_>) = (0..3).map(|_| lines(64)).unzip();
        let writer = LogWriter::start(consumers, Sink::File(path.clone())).unwrap();
        let write_all = |(worker, mut producer): (usize, LineProducer)| {
            for n in 0..500 {
                while !producer.write(|out| out.extend(format!("{worker} {n}\n").bytes())) {
                    std::thread::yield_now();
                }
            }
            producer
        };
        let workers: Vec<_> =
            producers.into_iter().enumerate().map(|one| std::thread::spawn(move || write_all(one))).collect();
        let producers: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        assert!(writer.stop(LONG));
        drop(producers);
        let text = fs::read_to_string(path).unwrap();
        assert!(text.starts_with("before\n"), "appended");
        for worker in 0..3 {
            let prefix = format!("{worker} ");
            let numbers: Vec<u32> =
                text.lines().filter_map(|line| line.strip_prefix(&prefix)?.parse().ok()).collect();
            assert_eq!(numbers, (0..500).collect::<Vec<_>>());
        }
        assert_eq!(text.lines().count(), 1501);
    }

    #[test]
    fn a_full_disk_drops_and_counts_and_does_not_end_the_thread() {
        let (mut producer, consumer) = lines(8);
        let writer = LogWriter::start(vec![consumer], Sink::File(PathBuf::from("/dev/full"))).unwrap();
        for expected in 1..=2 {
            assert!(producer.write(|out| out.extend_from_slice(b"line\n")));
            let end = Instant::now() + LONG;
            while writer.lost() < expected && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(writer.lost(), expected);
        }
        assert!(writer.stop(LONG));
    }

    #[test]
    fn a_rotated_file_is_opened_anew() {
        let scratch = Scratch::new("rotate");
        let path = scratch.path.join("access.log");
        let (mut producer, consumer) = lines(8);
        let writer = LogWriter::start(vec![consumer], Sink::File(path.clone())).unwrap();
        fs::rename(&path, scratch.path.join("access.log.1")).unwrap();
        writer.reopen();
        let end = Instant::now() + LONG;
        while !path.exists() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(producer.write(|out| out.extend_from_slice(b"new\n")));
        assert!(writer.stop(LONG));
        assert_eq!(fs::read_to_string(path).unwrap(), "new\n");
    }

    #[test]
    fn the_thread_ends_with_its_workers() {
        let scratch = Scratch::new("ends");
        let (producer, consumer) = lines(8);
        let writer = LogWriter::start(vec![consumer], Sink::File(scratch.path.join("a"))).unwrap();
        drop(producer);
        let end = Instant::now() + LONG;
        while !writer.thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(writer.thread.is_finished());
    }

    fn over(socket: UnixStream) -> Writer {
        let file = File::from(OwnedFd::from(socket));
        Writer { file, lost: Tally::default(), in_line: false, in_trouble: false }
    }

    #[test]
    fn a_reader_that_left_is_survived() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let mut writer = over(ours);
        writer.write(b"a\nb\n", 2);
        writer.write(b"c\n", 1);
        assert_eq!(writer.lost.get(), 3);
        assert!(writer.in_trouble);
    }

    #[test]
    fn a_cut_line_is_ended_before_the_next() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut writer = over(ours);
        let long = vec![b'x'; 8 << 20];
        let (written, _) = writer.write_all(&long).unwrap_err();
        assert!(writer.in_line && written > 0);
        theirs.read_exact(&mut vec![0; written]).unwrap();
        writer.write(b"next\n", 1);
        let mut rest = [0; 6];
        theirs.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"\nnext\n");
        assert!(!writer.in_line);
    }
}
