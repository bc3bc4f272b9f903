//! What clients ask and what origins answer: drawn from the seed, known to both ends and to the checks.

use crate::luck::{Luck, body};
use crate::net::{Style, Time};

/// How a message body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    None,
    Length,
    Chunked,
    UntilClose,
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Its head is malformed or ambiguous.
    Head,
    /// No site has its host; the connection may go on.
    Host,
    /// Its chunks are malformed.
    Body,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Spec {
    pub id: u64,
    pub method: &'static str,
    pub http10: bool,
    /// The connection ends after the answer, because the client says so.
    pub last: bool,
    pub expect: bool,
    pub upgrade: bool,
    pub flaw: Option<Flaw>,
    pub body: Vec<u8>,
    pub trailer: bool,
    pub head_wire: Vec<u8>,
    pub body_wire: Vec<u8>,
    /// Bytes for the other protocol.
    pub tunnel: usize,
}

impl Spec {
    /// Whether it may be done twice (RFC 9110 §9.2.2).
    pub fn is_idempotent(&self) -> bool {
        self.method != "POST"
    }

    /// Draws the request `id`; `end`: it is the last of its connection.
    pub fn draw(luck: &mut Luck, id: u64, end: bool, calm: bool) -> Self {
        let upgrade = end && luck.percent(15);
        let method = if upgrade { "GET" } else { luck.pick(&["GET", "GET", "HEAD", "POST", "POST", "PUT"]) };
        let http10 = end && !upgrade && luck.percent(15);
        let carries = matches!(method, "POST" | "PUT");
        let frame = match (carries, http10) {
            (false, _) => Frame::None,
            (true, true) => Frame::Length,
            (true, false) => luck.pick(&[Frame::Length, Frame::Chunked]),
        };
        let flaw = match luck.below(if calm { 200 } else { 30 }) {
            0 if !calm => Some(Flaw::Head),
            // A body that is refused may end the connection.
            1 if !calm || frame == Frame::None => Some(Flaw::Host),
            2 if !calm && frame == Frame::Chunked => Some(Flaw::Body),
            _ => None,
        };
        let mut length = if frame == Frame::None { 0 } else { luck.length() };
        if calm && flaw.is_some() {
            length = length.min(1000);
        }
        let mut spec = Self {
            id,
            method,
            http10,
            last: http10 || end && luck.percent(30),
            expect: frame != Frame::None && length > 0 && luck.percent(15),
            upgrade,
            flaw,
            body: body(id, length),
            trailer: frame == Frame::Chunked && luck.percent(30),
            head_wire: Vec::new(),
            body_wire: Vec::new(),
            tunnel: luck.length(),
        };
        spec.write(luck, frame);
        spec
    }

    fn write(&mut self, luck: &mut Luck, frame: Frame) {
        let version = if self.http10 { "1.0" } else { "1.1" };
        let host = if self.flaw == Some(Flaw::Host) { "other.test" } else { "a.test" };
        let mut head = format!("{} /r{} HTTP/{version}\r\nHost: {host}\r\n", self.method, self.id);
        match frame {
            Frame::Length => head += &format!("Content-Length: {}\r\n", self.body.len()),
            Frame::Chunked => head += "Transfer-Encoding: chunked\r\n",
            Frame::None | Frame::UntilClose => {}
        }
        if self.flaw == Some(Flaw::Head) {
            head += luck.pick(&["Content-Length: +1\r\n", "Bad : x\r\n", "Host: a.test\r\n", "X: a\r\n b\r\n", "T\0: 1\r\n"]);
        }
        if self.expect {
            head += "Expect: 100-continue\r\n";
        }
        if self.upgrade {
            head += "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        } else if self.last && !self.http10 {
            head += "Connection: close\r\n";
        }
        self.head_wire = (head + "\r\n").into_bytes();
        self.body_wire = match frame {
            Frame::Length => self.body.clone(),
            Frame::Chunked => chunks(luck, &self.body, self.trailer),
            Frame::None | Frame::UntilClose => Vec::new(),
        };
        if self.flaw == Some(Flaw::Body) {
            // In the place of the last chunk.
            let end = if self.trailer { 5 + 10 } else { 5 };
            self.body_wire.truncate(self.body_wire.len() - end);
            self.body_wire.extend_from_slice(luck.pick(&[b"-1\r\n\r\n".as_slice(), b"0x0\r\n\r\n", b"0\n\n", b" 0\r\n\r\n"]));
        }
    }
}

fn chunks(luck: &mut Luck, mut data: &[u8], trailer: bool) -> Vec<u8> {
    let mut wire = Vec::new();
    while !data.is_empty() {
        let (chunk, rest) = data.split_at(data.len().min(1 + luck.length()));
        wire.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
        data = rest;
    }
    wire.extend_from_slice(if trailer { b"0\r\nX-Sum: 42\r\n\r\n" } else { b"0\r\n\r\n" });
    wire
}

/// How an origin ends what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Whole,
    /// After some bytes of the answer, with FIN.
    CutFin,
    /// After some bytes of the answer, with a reset.
    CutReset,
    /// Never answers.
    Silence,
    /// Bytes that are not HTTP.
    Garbage,
    /// More bytes than the framing says.
    Extra,
    /// A FIN after the answer, and what comes is thrown away.
    HalfClose,
    /// Answers at the head and reads no body.
    StopReading,
}

/// What an origin does with one request.
#[derive(Clone, Debug)]
pub struct Plan {
    pub fate: Fate,
    pub early: bool,
    pub interim: u64,
    pub status: u16,
    pub frame: Frame,
    pub length: usize,
    pub trailer: bool,
    pub close: bool,
    pub delay: Time,
    /// Between pieces of the answer.
    pub drip: Time,
    pub tunnel: usize,
    pub luck: Luck,
}

impl Plan {
    /// For the `attempt`th time that `spec` comes.
    pub fn draw(seed: u64, spec: &Spec, attempt: u64, calm: bool) -> Self {
        let mut luck = Luck::new(seed, 1_000_000 + spec.id * 64 + attempt);
        let luck = &mut luck;
        let fates = [
            Fate::CutFin, Fate::CutFin, Fate::CutReset, Fate::CutReset, Fate::Silence, Fate::Garbage, Fate::Extra,
            Fate::HalfClose, Fate::StopReading,
        ];
        let fate = if calm || luck.percent(70) { Fate::Whole } else { luck.pick(&fates) };
        let switches = spec.upgrade && luck.percent(80);
        let status = if switches { 101 } else { luck.pick(&[200, 200, 200, 404, 500, 204, 304]) };
        let bodiless = spec.method == "HEAD" || matches!(status, 101 | 204 | 304);
        let frame = if bodiless { Frame::None } else { luck.pick(&[Frame::Length, Frame::Chunked, Frame::UntilClose]) };
        let long = luck.pick(&[0, 0, 5_000, 200_000, 2_000_000]);
        Self {
            fate,
            early: !calm && luck.percent(15),
            interim: luck.pick(&[0, 0, 0, 0, 1, 2]),
            status,
            frame,
            length: if bodiless { 0 } else { luck.length() },
            trailer: frame == Frame::Chunked && luck.percent(30),
            close: frame == Frame::UntilClose || luck.percent(10),
            delay: luck.below(luck.clone().pick(&[0, 1_000, 100_000, if calm { 1 } else { 70_000_000 }]) + 1),
            drip: luck.below(long + 1),
            tunnel: luck.length(),
            luck: luck.clone(),
        }
    }

    /// The whole answer, and how much of it is its head (with interim ones).
    pub fn wire(&mut self, spec: &Spec, attempt: u64) -> (Vec<u8>, usize) {
        let mut head = String::new();
        for _ in 0..self.interim {
            head += self.luck.pick(&["HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\n"]);
        }
        head += &format!("HTTP/1.1 {} Reason\r\nX-Id: {}-{attempt}\r\n", self.status, spec.id);
        match self.frame {
            Frame::Length => head += &format!("Content-Length: {}\r\n", self.length),
            Frame::Chunked => head += "Transfer-Encoding: chunked\r\n",
            Frame::None if self.status == 101 => head += "Connection: upgrade\r\nUpgrade: websocket\r\n",
            Frame::None | Frame::UntilClose => {}
        }
        if self.close && self.status != 101 {
            head += "Connection: close\r\n";
        } else if self.luck.percent(20) {
            head += "Keep-Alive: timeout=2\r\n";
        }
        let mut wire = (head + "\r\n").into_bytes();
        let start = wire.len();
        let data = body(spec.id * 64 + attempt + 5_000_000, self.length);
        match self.frame {
            Frame::Chunked => wire.extend(chunks(&mut self.luck, &data, self.trailer)),
            _ => wire.extend(data),
        }
        (wire, start)
    }
}

/// The body of an answer.
pub fn answer_body(id: u64, attempt: u64, length: usize) -> Vec<u8> {
    body(id * 64 + attempt + 5_000_000, length)
}

/// How the network of a run is.
pub fn network(luck: &mut Luck) -> Style {
    Style {
        piece: luck.pick(&[1, 3, 50, 1_500, 1_500, 64_000]),
        delay: luck.pick(&[0, 50, 2_000, 40_000]),
        window: luck.pick(&[2_000, 20_000, 200_000, 4_000_000]),
        lossy: luck.percent(50),
    }
}
