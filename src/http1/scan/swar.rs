//! Eight bytes at a time in a general register: the scanner of machines without AVX2, and of short inputs.

use super::{Scan, TARGET, TOKEN, Table, VALUE};

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = LOW << 7;

/// Scans eight bytes per step.
#[derive(Clone, Copy, Debug)]
pub struct Swar;

impl Scan for Swar {
    // Names are short and their class has no arithmetic form, so the table is as fast.
    #[inline(always)]
    fn token_end(self, input: &[u8], from: usize) -> usize {
        Table::end(TOKEN, input, from)
    }

    #[inline(always)]
    fn value_end(self, input: &[u8], from: usize) -> usize {
        let end = end(VALUE, input, from, |x| below(x, 0x20) | delete(x));
        if input.get(end) == Some(&b'\t') { after_tab(input, end + 1) } else { end }
    }

    #[inline(always)]
    fn target_end(self, input: &[u8], from: usize) -> usize {
        end(TARGET, input, from, |x| below(x, 0x21) | delete(x) | (x & HIGH))
    }
}

/// HTAB belongs to values but lies among the controls, and is rare: the byte loop takes over.
#[cold]
fn after_tab(input: &[u8], from: usize) -> usize {
    Table::end(VALUE, input, from)
}

/// `stops` marks bytes that may not belong; the lowest mark is exact, those above it may be false.
#[inline(always)]
fn end(class: u8, input: &[u8], from: usize, stops: impl Fn(u64) -> u64) -> usize {
    let mut at = from;
    while let Some(bytes) = input.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let marks = stops(u64::from_le_bytes(*bytes));
        if marks != 0 {
            return at + marks.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    Table::end(class, input, at)
}

/// Marks bytes below `limit` (at most 0x80).
#[inline(always)]
fn below(x: u64, limit: u64) -> u64 {
    x.wrapping_sub(LOW * limit) & !x & HIGH
}

/// Marks bytes equal to DEL.
#[inline(always)]
fn delete(x: u64) -> u64 {
    below(x ^ (LOW * 0x7f), 1)
}
