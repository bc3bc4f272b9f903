//! Damaged input for the tests of this room: a small seeded generator, and the fuzz functions run on what
//! it makes. The same seed gives the same bytes.

/// Whole requests to be damaged.
pub(super) const REQUESTS: [&[u8]; 4] = [
    b"GET /a/b?c=d HTTP/1.1\r\nHost: example.com\r\nUser-Agent: x/1.0 (y; z)\r\nAccept: */*\r\n\r\n",
    b"POST / HTTP/1.0\r\nContent-Length: 5\r\nX: \t\r\n\r\nhello",
    b"\r\nOPTIONS * HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"M-SEARCH http://a.b:80/ HTTP/1.1\r\nHOST:a.b\r\nX-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n",
];
/// Whole responses to be damaged.
pub(super) const RESPONSES: [&[u8]; 3] = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: x\r\nSet-Cookie: a=b; c\r\n\r\nhello",
    b"HTTP/1.0 404 \r\nA:\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nKeep-Alive: timeout=5\r\n\r\n",
];
const CHUNKED: [&[u8]; 3] = [
    b"5\r\nhello\r\n6;a=b;c=\"d\"\r\n world\r\n0\r\n\r\nGET",
    b"00a\r\n0123456789\r\n0;x\r\nDigest: x\r\nHost: y\r\n\r\n",
    b"1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n",
];
const TARGETS: [&[u8]; 4] = [
    b"/a/./b/../%2e%2E/c;d/..%2fe?f=/../g",
    b"//%41/%2F/...//",
    b"http://a.b:80/x/..;y?",
    b"/a/b/c/d/../../..",
];
const SPICE: &[u8] = b"\r\n\t :;,/#%\0\x0b\x7f\x80\xffaZ0-_\"\\(=HTTP/1.";

/// Damages bytes: inserts, removes, cuts, repeats and replaces.
pub(super) struct Mutator(pub(super) u64);

impl Mutator {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n
    }

    /// One to three wounds.
    pub(super) fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let place = self.below(bytes.len());
            let spice = SPICE[self.below(SPICE.len())];
            match self.below(5) {
                0 => bytes.insert(place, spice),
                1 if bytes.len() > 1 => drop(bytes.remove(place)),
                2 => bytes.truncate(place + 1),
                3 => {
                    let end = bytes.len().min(place + self.below(8));
                    let piece = bytes[place..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
                _ => bytes[place] = spice,
            }
        }
    }
}

/// Rounds per machine; `LOCKRING_ROUNDS` asks for more.
fn rounds() -> usize {
    std::env::var("LOCKRING_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5_000)
}

fn run(seed: u64, seeds: &[&[u8]], machine: impl Fn(&[u8])) {
    let mut mutator = Mutator(seed);
    for round in 0..rounds() {
        let mut bytes = seeds[round % seeds.len()].to_vec();
        mutator.damage(&mut bytes);
        machine(&bytes);
    }
}

#[test]
fn damaged_heads_are_read_alike_in_pieces() {
    run(0xabcd_ef01_2345_6789, &REQUESTS, super::head::fuzz);
}

#[test]
fn damaged_heads_have_one_framing_or_none() {
    run(0x1357_9bdf_0246_8ace, &REQUESTS, super::request::fuzz);
    run(0x2468_ace0_1357_9bdf, &RESPONSES, super::response::fuzz);
}

#[test]
fn damaged_chunks_are_read_alike_in_pieces() {
    run(0x0f1e_2d3c_4b5a_6978, &CHUNKED, super::chunked::fuzz);
}

#[test]
fn damaged_targets_have_one_normal_path_or_none() {
    run(0x8796_a5b4_c3d2_e1f0, &TARGETS, crate::http::target::fuzz);
}
