//! Thirty-two bytes at a time with AVX2. The only `unsafe` of rooms 1 to 9: calling functions that need
//! the instruction set, which [`Avx2`] proves to be there, and one load from an array.

#![allow(unsafe_code)] // One of the named places; each block states its contract.

use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_andnot_si256, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_max_epu8,
    _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8, _mm256_setr_epi8, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_srli_epi16,
};

use super::{CLASSES, Scan, Swar, TOKEN, Task};

/// Scans thirty-two bytes per step. Invariant: a value exists only where the CPU has AVX2 and BMI1.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The scanner, if this CPU has the instructions.
    #[inline]
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1")).then_some(Self(()))
    }
}

/// Runs `task` compiled for AVX2 as a whole, so that the searches are inlined into it.
#[inline]
pub fn run<T: Task>(scan: Avx2, task: T) -> T::Output {
    // SAFETY: `scan` exists, so the CPU has AVX2 and BMI1 (invariant of `Avx2`).
    unsafe { run_compiled(scan, task) }
}

#[target_feature(enable = "avx2,bmi1")]
fn run_compiled<T: Task>(scan: Avx2, task: T) -> T::Output {
    task.run(scan)
}

impl Scan for Avx2 {
    #[inline(always)]
    fn token_end(self, input: &[u8], from: usize) -> usize {
        // SAFETY: `self` exists, so the CPU has AVX2 (invariant of `Avx2`).
        end(input, from, |block| unsafe { outside_token(block) })
            .unwrap_or_else(|| Swar.token_end(input, from))
    }

    #[inline(always)]
    fn value_end(self, input: &[u8], from: usize) -> usize {
        // SAFETY: `self` exists, so the CPU has AVX2 (invariant of `Avx2`).
        end(input, from, |block| unsafe { outside_value(block) })
            .unwrap_or_else(|| Swar.value_end(input, from))
    }

    #[inline(always)]
    fn target_end(self, input: &[u8], from: usize) -> usize {
        // SAFETY: `self` exists, so the CPU has AVX2 (invariant of `Avx2`).
        end(input, from, |block| unsafe { outside_target(block) })
            .unwrap_or_else(|| Swar.target_end(input, from))
    }
}

/// `None` when the whole input is shorter than one block, or nothing is left.
///
/// ```text
/// input    |------------------------------------------------|
/// from          ^[ block ][ block ]
/// last block                          [ block that ends here ]
///                                      shifted by the bytes that were seen already
/// ```
#[inline(always)]
fn end(input: &[u8], from: usize, outside: impl Fn(&[u8; 32]) -> u32) -> Option<usize> {
    let mut at = from;
    while let Some(block) = input.get(at..).and_then(<[u8]>::first_chunk::<32>) {
        let marks = outside(block);
        if marks != 0 {
            return Some(at + marks.trailing_zeros() as usize);
        }
        at += 32;
    }
    let block = input.last_chunk::<32>()?;
    let seen = at.checked_sub(input.len() - 32)?;
    let marks = outside(block).checked_shr(seen as u32)?;
    if marks == 0 { Some(input.len()) } else { Some(at + marks.trailing_zeros() as usize) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(block: &[u8; 32]) -> __m256i {
    // SAFETY: the reference is valid for 32 bytes; this load needs no alignment.
    unsafe { _mm256_loadu_si256(block.as_ptr().cast()) }
}

/// Marks bytes that are not token characters.
///
/// A byte belongs if bit `high nibble` is set in the entry of its low nibble. A shuffle gives 0 for an
/// index with bit 7 set, so bytes above 0x7f find nothing and are marked.
#[inline]
#[target_feature(enable = "avx2")]
fn outside_token(block: &[u8; 32]) -> u32 {
    let bytes = load(block);
    let rows = _mm256_shuffle_epi8(twice(TOKEN_ROWS), bytes);
    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi8(0x0f));
    let bits = _mm256_shuffle_epi8(twice([1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0, 0]), high);
    let inside = _mm256_and_si256(rows, bits);
    _mm256_movemask_epi8(_mm256_cmpeq_epi8(inside, _mm256_setzero_si256())) as u32
}

/// Marks controls except HTAB.
#[inline]
#[target_feature(enable = "avx2")]
fn outside_value(block: &[u8; 32]) -> u32 {
    let bytes = load(block);
    let printable = at_least(bytes, 0x20);
    let inside = _mm256_or_si256(printable, _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(0x09)));
    let delete = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(0x7f));
    !(_mm256_movemask_epi8(_mm256_andnot_si256(delete, inside)) as u32)
}

/// Marks what is not VCHAR.
#[inline]
#[target_feature(enable = "avx2")]
fn outside_target(block: &[u8; 32]) -> u32 {
    let bytes = load(block);
    let too_high = at_least(bytes, 0x7f);
    !(_mm256_movemask_epi8(_mm256_andnot_si256(too_high, at_least(bytes, 0x21))) as u32)
}

#[inline]
#[target_feature(enable = "avx2")]
fn at_least(bytes: __m256i, limit: i8) -> __m256i {
    _mm256_cmpeq_epi8(_mm256_max_epu8(bytes, _mm256_set1_epi8(limit)), bytes)
}

/// The same sixteen entries in both halves, because a shuffle stays within its half.
#[inline]
#[target_feature(enable = "avx2")]
fn twice(row: [i8; 16]) -> __m256i {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = row;
    _mm256_setr_epi8(
        a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p,
    )
}

/// For each low nibble, the high nibbles (as bits) with which it makes a token character.
const TOKEN_ROWS: [i8; 16] = token_rows();

// Evaluated by the compiler, where an index out of range is a compile error.
#[allow(clippy::indexing_slicing)]
const fn token_rows() -> [i8; 16] {
    let mut rows = [0_u8; 16];
    let mut byte = 0;
    while byte < 0x80 {
        if CLASSES[byte] & TOKEN != 0 {
            rows[byte & 0x0f] |= 1 << (byte >> 4);
        }
        byte += 1;
    }
    let mut signed = [0; 16];
    let mut low = 0;
    while low < 16 {
        signed[low] = rows[low] as i8;
        low += 1;
    }
    signed
}
