//! The one bounded reader of binary input. A length prefix gives a sub-cursor, so an inner field cannot
//! run past its frame; after the last field, [`Cursor::is_empty`] tells whether something is left over.

/// Reads big-endian integers and byte strings from a slice and never past it.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Over the whole of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether every byte was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// The next `n` bytes; `None` (and nothing read) if fewer are left.
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(u8::from_be_bytes)
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Three bytes, big-endian.
    pub fn u24(&mut self) -> Option<u32> {
        self.array().map(|[a, b, c]: [u8; 3]| u32::from_be_bytes([0, a, b, c]))
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A vector with a one-byte length.
    pub fn vec8(&mut self) -> Option<Self> {
        let length = self.u8()?;
        self.take(usize::from(length)).map(Self::new)
    }

    /// A vector with a two-byte length.
    pub fn vec16(&mut self) -> Option<Self> {
        let length = self.u16()?;
        self.take(usize::from(length)).map(Self::new)
    }

    /// A vector with a three-byte length.
    pub fn vec24(&mut self) -> Option<Self> {
        let length = self.u24()?;
        self.take(length as usize).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::Cursor;

    #[test]
    fn reads_in_order_and_never_past_the_end() {
        let mut cursor = Cursor::new(&[1, 0, 2, 0, 0, 3, 0, 0, 0, 4, 9]);
        assert_eq!(cursor.u8(), Some(1));
        assert_eq!(cursor.u16(), Some(2));
        assert_eq!(cursor.u24(), Some(3));
        assert_eq!(cursor.u32(), Some(4));
        assert_eq!(cursor.u16(), None);
        assert_eq!((cursor.len(), cursor.rest()), (1, &[9][..]));
        assert_eq!(cursor.u8(), Some(9));
        assert!(cursor.is_empty());
    }

    #[test]
    fn a_length_prefix_bounds_its_content() {
        let mut cursor = Cursor::new(&[2, 7, 8, 0, 1, 9, 0, 0, 1, 5, 3, 1]);
        assert_eq!(cursor.vec8().map(|c| c.rest()), Some(&[7, 8][..]));
        assert_eq!(cursor.vec16().map(|c| c.rest()), Some(&[9][..]));
        assert_eq!(cursor.vec24().map(|c| c.rest()), Some(&[5][..]));
        assert!(cursor.vec8().is_none(), "three bytes announced, one there");
    }
}
