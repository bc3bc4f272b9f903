//! A place in a buffer: offset and length. Spans, not slices, cross room borders, because the kernel
//! owns the buffer while an operation is in flight.

/// `len` bytes from `start` of a buffer that the holder knows. Buffers are below 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

impl Span {
    /// The bytes from `start` up to and without `end`.
    #[must_use]
    pub fn between(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && u32::try_from(end).is_ok(), "a span of a buffer below 4 GiB");
        Self { start: start as u32, len: end.saturating_sub(start) as u32 }
    }

    /// One past the last byte.
    #[must_use]
    pub fn end(self) -> usize {
        self.start as usize + self.len as usize
    }

    /// Whether no byte belongs to it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Number of bytes, as `usize`.
    #[must_use]
    pub fn len(self) -> usize {
        self.len as usize
    }

    /// The same bytes after the buffer's content moved `by` bytes towards its end.
    #[must_use]
    pub fn shifted(self, by: usize) -> Self {
        Self { start: self.start + by as u32, len: self.len }
    }

    /// The bytes themselves; empty if the span does not lie in `buffer` (a defect of the caller).
    #[must_use]
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        let bytes = buffer.get(self.start as usize..self.end());
        debug_assert!(bytes.is_some(), "span {self:?} outside of a buffer of {}", buffer.len());
        bytes.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Span;

    #[test]
    fn a_span_reads_the_bytes_it_names() {
        let span = Span::between(2, 5);
        assert_eq!(span.of(b"0123456"), b"234");
        assert_eq!((span.len(), span.end(), span.is_empty()), (3, 5, false));
        assert_eq!(span.shifted(1).of(b"0123456"), b"345");
        assert!(Span::default().is_empty());
    }
}
