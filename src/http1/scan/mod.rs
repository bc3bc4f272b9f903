//! Byte classes of a head (RFC 9110 §5.6.2, §5.5; RFC 9112 §3) as one table, and the search for the first
//! byte outside of a class. The table is the truth; `swar` and `avx2` are faster twins that a test
//! proves equal to it.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod swar;

pub use swar::Swar;

/// `token` characters: names, methods.
pub const TOKEN: u8 = 1;
/// Bytes of a field value or reason phrase: HTAB, SP, VCHAR and obs-text.
pub const VALUE: u8 = 2;
/// Bytes of a request-target: VCHAR only.
pub const TARGET: u8 = 4;

/// The classes of every byte, as a union of [`TOKEN`], [`VALUE`] and [`TARGET`].
pub const CLASSES: [u8; 256] = classes();

/// Whether `byte` belongs to `class`.
#[inline]
#[must_use]
pub fn is(class: u8, byte: u8) -> bool {
    CLASSES.get(usize::from(byte)).is_some_and(|classes| classes & class != 0)
}

/// Whether `bytes` is a `token` (RFC 9110 §5.6.2): not empty, token characters only.
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is(TOKEN, byte))
}

/// Finds where a run of one class ends. Each search starts at `from` and answers the place of the first
/// byte that does not belong, or the length of `input` if all do; `from` beyond the end is the end.
pub trait Scan: Copy {
    /// End of the token that starts at `from`.
    fn token_end(self, input: &[u8], from: usize) -> usize;
    /// End of the field value that starts at `from`.
    fn value_end(self, input: &[u8], from: usize) -> usize;
    /// End of the request-target that starts at `from`.
    fn target_end(self, input: &[u8], from: usize) -> usize;
}

/// Work that needs a scanner; it is compiled once per scanner, with the searches inlined.
pub trait Task {
    /// What the work gives back.
    type Output;
    /// Does the work. Mark the implementation `#[inline(always)]`, or the searches cannot be inlined.
    fn run<S: Scan>(self, scan: S) -> Self::Output;
}

/// Runs `task` with the fastest scanner of this machine (the detection is cached by the standard library).
#[inline]
pub fn run<T: Task>(task: T) -> T::Output {
    #[cfg(target_arch = "x86_64")]
    if let Some(scan) = avx2::Avx2::detect() {
        return avx2::run(scan, task);
    }
    task.run(Swar)
}

/// The byte loop: slow, and right by sight.
#[derive(Clone, Copy, Debug)]
pub struct Table;

impl Table {
    #[inline(always)]
    pub(super) fn end(class: u8, input: &[u8], from: usize) -> usize {
        let rest = input.get(from..).unwrap_or_default();
        let run = rest.iter().position(|&byte| !is(class, byte)).unwrap_or(rest.len());
        from.min(input.len()) + run
    }
}

impl Scan for Table {
    fn token_end(self, input: &[u8], from: usize) -> usize {
        Self::end(TOKEN, input, from)
    }

    fn value_end(self, input: &[u8], from: usize) -> usize {
        Self::end(VALUE, input, from)
    }

    fn target_end(self, input: &[u8], from: usize) -> usize {
        Self::end(TARGET, input, from)
    }
}

// Evaluated by the compiler, where an index out of range is a compile error.
#[allow(clippy::indexing_slicing)]
const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = classes_of(byte as u8);
        byte += 1;
    }
    table
}

const fn classes_of(byte: u8) -> u8 {
    let token = matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
        || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+')
        || matches!(byte, b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
    let target = matches!(byte, 0x21..=0x7e);
    let value = target || matches!(byte, b'\t' | b' ' | 0x80..=0xff);
    token as u8 * TOKEN + value as u8 * VALUE + target as u8 * TARGET
}

#[cfg(test)]
mod tests {
    use super::{Scan, Swar, TARGET, TOKEN, Table, Task, VALUE, is, is_token, run};

    /// The three searches from one place with whatever scanner the machine has.
    struct Ends<'a>(&'a [u8], usize);

    impl Task for Ends<'_> {
        type Output = [usize; 3];

        #[inline(always)]
        fn run<S: Scan>(self, scan: S) -> [usize; 3] {
            let Self(input, from) = self;
            [scan.token_end(input, from), scan.value_end(input, from), scan.target_end(input, from)]
        }
    }

    fn check(input: &[u8], from: usize) {
        let truth = Ends(input, from).run(Table);
        assert_eq!(Ends(input, from).run(Swar), truth, "SWAR, from {from} of {input:?}");
        assert_eq!(run(Ends(input, from)), truth, "fastest, from {from} of {input:?}");
    }

    #[test]
    fn classes_are_those_of_the_rfcs() {
        let count = |class| (0..=255).filter(|&byte| is(class, byte)).count();
        assert_eq!((count(TOKEN), count(VALUE), count(TARGET)), (77, 95 + 1 + 128, 94));
        assert!(is_token(b"X-Real-IP") && !is_token(b"") && !is_token(b"a b"));
    }

    #[test]
    fn every_byte_at_every_place_is_seen_alike_by_all_scanners() {
        for length in [1, 7, 8, 9, 31, 32, 33, 64, 70] {
            for place in 0..length {
                for byte in 0..=255 {
                    let mut input = vec![b'a'; length];
                    input[place] = byte;
                    check(&input, 0);
                    check(&input, place);
                    check(&input, place + 1);
                }
            }
        }
    }

    #[test]
    fn random_bytes_are_seen_alike_by_all_scanners() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..20_000_usize {
            let length = round % 97;
            let input: Vec<u8> = (0..length)
                .map(|_| {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    // Mostly ordinary bytes, so that runs get long.
                    if seed >> 60 == 0 { (seed >> 20) as u8 } else { b'a' + (seed >> 24) as u8 % 26 }
                })
                .collect();
            for from in [0, length / 3, length, length + 1] {
                check(&input, from);
            }
        }
    }
}
