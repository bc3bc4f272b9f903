//! The one source of chance: a seed gives the same sequence for ever (splitmix64).

/// A generator.
#[derive(Clone, Debug)]
pub struct Luck(u64);

impl Luck {
    /// The sequence of `seed` for `purpose`, so that one use does not shift another.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut luck = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose.wrapping_mul(0xd1b5_4a32_d192_ed03));
        luck.next();
        luck
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.next() % n }
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// A length: mostly short, now and then long.
    pub fn length(&mut self) -> usize {
        let most = self.pick(&[1, 10, 300, 300, 5_000, 40_000, 150_000]);
        self.below(most) as usize
    }
}

/// The body that belongs to `id`: both ends know it without telling each other.
pub fn body(id: u64, length: usize) -> Vec<u8> {
    let mut luck = Luck::new(id, 77);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&luck.next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
