//! Room 1. Reading bytes safely: the bounded [`cursor`], [`span`]s into a buffer, effort [`budget`]s,
//! and the PROXY protocol prefix. Pure: bytes in, values out.

pub mod budget;
pub mod cursor;
pub mod proxy_protocol;
pub mod span;

pub use span::Span;

/// The answer of every incremental parser; a refusal is the `Err` beside it.
///
/// Incomplete is not an error: `Partial` means that a longer input may still be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse<T> {
    /// The input is a prefix of something acceptable.
    Partial,
    /// A whole value, which took the first `used` bytes.
    Done {
        /// What was read.
        value: T,
        /// How many bytes of the input belong to it.
        used: usize,
    },
}
