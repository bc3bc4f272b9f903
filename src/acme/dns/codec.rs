//! Reading and writing whole [`Message`]s.

use super::message::{
    CLASS_ANY, Caa, Data, Header, Kind, Message, MessageError, Opcode, Question, Rcode, Record, Signature,
    Soa, Tsig,
};
use super::name::Name;
use crate::limits;
use crate::wire::cursor::Cursor;

/// Header bits (RFC 1035 §4.1.1).
const RESPONSE: u16 = 1 << 15;
const AUTHORITATIVE: u16 = 1 << 10;
const TRUNCATED: u16 = 1 << 9;
const RECURSION_DESIRED: u16 = 1 << 8;
/// Number of the opcode of updates (RFC 2136 §1.3).
const UPDATE: u8 = 5;
/// Bytes of a message (RFC 1035 §4.2.2).
const MESSAGE_BYTES: usize = u16::MAX as usize;
/// CAA's critical bit (RFC 8659 §4.1).
const CRITICAL: u8 = 1 << 7;

/// Reads a whole message.
///
/// # Errors
/// What is wrong with it.
pub fn read(bytes: &[u8]) -> Result<Message, MessageError> {
    if bytes.len() > MESSAGE_BYTES {
        return Err(MessageError::Excess);
    }
    let mut reader = Reader { message: bytes, at: 0, left: limits::DNS_RECORDS };
    let header_id = reader.u16()?;
    let flags = reader.u16()?;
    let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
    let [asked, answers, authorities, additionals] = counts.map(usize::from);
    let mut message = Message {
        header: header(header_id, flags),
        questions: Vec::new(),
        answers: Vec::new(),
        authorities: Vec::new(),
        additionals: Vec::new(),
        tsig: None,
    };
    for _ in 0..asked {
        reader.spend()?;
        let name = reader.name()?;
        let question = Question { name, kind: Kind::from(reader.u16()?), class: reader.u16()? };
        message.questions.push(question);
    }
    message.answers = reader.records(answers)?;
    message.authorities = reader.records(authorities)?;
    for place in 1..=additionals {
        let at = reader.at;
        let Record { name, class, ttl, data } = reader.record()?;
        match data {
            Data::Tsig(_) if place != additionals => return Err(MessageError::MisplacedSignature),
            Data::Tsig(tsig) => message.tsig = Some(Signature { key: name, tsig, at }),
            data => message.additionals.push(Record { name, class, ttl, data }),
        }
    }
    if reader.at == bytes.len() { Ok(message) } else { Err(MessageError::Excess) }
}

/// Identifier and truncation of a message that may be cut anywhere behind its flags.
pub(super) fn glance(bytes: &[u8]) -> Option<Header> {
    let mut reader = Reader { message: bytes, at: 0, left: 0 };
    Some(header(reader.u16().ok()?, reader.u16().ok()?))
}

fn header(id: u16, flags: u16) -> Header {
    let [high, low] = flags.to_be_bytes();
    Header {
        id,
        response: flags & RESPONSE != 0,
        opcode: match (high >> 3) & 0x0f {
            0 => Opcode::Query,
            UPDATE => Opcode::Update,
            other => Opcode::Other(other),
        },
        authoritative: flags & AUTHORITATIVE != 0,
        truncated: flags & TRUNCATED != 0,
        recursion_desired: flags & RECURSION_DESIRED != 0,
        rcode: Rcode::from(low & 0x0f),
    }
}

/// A place in a message, and how many records it may still have.
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
    left: usize,
}

impl<'a> Reader<'a> {
    fn cursor(&self) -> Cursor<'a> {
        Cursor::new(self.message.get(self.at..).unwrap_or_default())
    }

    fn u16(&mut self) -> Result<u16, MessageError> {
        let value = self.cursor().u16().ok_or(MessageError::Cut)?;
        self.at += 2;
        Ok(value)
    }

    fn name(&mut self) -> Result<Name, MessageError> {
        let (name, end) = Name::read(self.message, self.at)?;
        self.at = end;
        Ok(name)
    }

    fn spend(&mut self) -> Result<(), MessageError> {
        self.left = self.left.checked_sub(1).ok_or(MessageError::TooManyRecords)?;
        Ok(())
    }

    fn records(&mut self, count: usize) -> Result<Vec<Record>, MessageError> {
        let mut records = Vec::new();
        for _ in 0..count {
            let record = self.record()?;
            if record.data.kind() == Kind::Tsig {
                return Err(MessageError::MisplacedSignature);
            }
            records.push(record);
        }
        Ok(records)
    }

    fn record(&mut self) -> Result<Record, MessageError> {
        self.spend()?;
        let name = self.name()?;
        let mut cursor = self.cursor();
        let fixed = (cursor.u16(), cursor.u16(), cursor.u32(), cursor.u16());
        let (Some(kind), Some(class), Some(ttl), Some(length)) = fixed else { return Err(MessageError::Cut) };
        let kind = Kind::from(kind);
        let bytes = cursor.take(usize::from(length)).ok_or(MessageError::Cut)?;
        let start = self.message.len() - cursor.len() - bytes.len();
        self.at = start + bytes.len();
        // An update names types without content (RFC 2136 §2.4 and §2.5).
        let data = match kind {
            Kind::Opt => Data::Opt(class),
            Kind::Tsig if class != CLASS_ANY || ttl != 0 => return Err(MessageError::Content(kind)),
            Kind::Tsig => self.content(kind, start, bytes).ok_or(MessageError::Content(kind))?,
            _ if bytes.is_empty() => Data::Other { kind: kind.into(), bytes: Vec::new() },
            _ => self.content(kind, start, bytes).ok_or(MessageError::Content(kind))?,
        };
        Ok(Record { name, class, ttl, data })
    }

    /// A record's content, which must fill its length; names in it may point to anywhere before them.
    fn content(&self, kind: Kind, start: usize, bytes: &[u8]) -> Option<Data> {
        let end = start + bytes.len();
        let name = |at| Name::read(self.message, at).ok().filter(|(_, behind)| *behind <= end);
        let whole_name = || name(start).filter(|(_, behind)| *behind == end).map(|(name, _)| name);
        let mut cursor = Cursor::new(bytes);
        let data = match kind {
            Kind::A => Data::A(cursor.array::<4>()?.into()),
            Kind::Aaaa => Data::Aaaa(cursor.array::<16>()?.into()),
            Kind::Ns => return whole_name().map(Data::Ns),
            Kind::Cname => return whole_name().map(Data::Cname),
            Kind::Soa => {
                let (primary, behind) = name(start)?;
                let (_, behind) = name(behind)?;
                let mut rest = Cursor::new(self.message.get(behind..end)?);
                let serial = rest.u32()?;
                // Four timers follow.
                return (rest.len() == 16).then_some(Data::Soa(Soa { primary, serial }));
            }
            Kind::Txt => {
                let mut strings = Vec::new();
                while !cursor.is_empty() {
                    strings.push(cursor.vec8()?.rest().to_vec());
                }
                Data::Txt(strings)
            }
            Kind::Caa => {
                let critical = cursor.u8()? & CRITICAL != 0;
                let tag = cursor.vec8()?.rest();
                let tag = std::str::from_utf8(tag).ok().filter(|tag| !tag.is_empty())?;
                let tag = tag.bytes().all(|byte| byte.is_ascii_alphanumeric()).then_some(tag)?;
                let value = cursor.take(cursor.len())?.to_vec();
                Data::Caa(Caa { critical, tag: tag.to_ascii_lowercase(), value })
            }
            Kind::Tsig => {
                let (algorithm, behind) = name(start)?;
                cursor = Cursor::new(self.message.get(behind..end)?);
                Data::Tsig(signature(algorithm, &mut cursor)?)
            }
            Kind::Opt | Kind::Other(_) => {
                Data::Other { kind: kind.into(), bytes: cursor.take(bytes.len())?.to_vec() }
            }
        };
        cursor.is_empty().then_some(data)
    }
}

fn signature(algorithm: Name, cursor: &mut Cursor<'_>) -> Option<Tsig> {
    let time = u64::from(cursor.u16()?) << 32 | u64::from(cursor.u32()?);
    Some(Tsig {
        algorithm,
        time,
        fudge: cursor.u16()?,
        mac: cursor.vec16()?.rest().to_vec(),
        original_id: cursor.u16()?,
        error: cursor.u16()?,
        other: cursor.vec16()?.rest().to_vec(),
    })
}

/// Writes a message; names are not compressed. What has more than 65,535 of anything is cut off there, so
/// that lengths stay true.
#[must_use]
pub fn write(message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    put16(&mut out, message.header.id);
    put16(&mut out, flags(&message.header));
    let signed = usize::from(message.tsig.is_some());
    let counts = [
        message.questions.len(),
        message.answers.len(),
        message.authorities.len(),
        message.additionals.len() + signed,
    ];
    for count in counts {
        put16(&mut out, u16::try_from(count).unwrap_or(u16::MAX));
    }
    for Question { name, kind, class } in message.questions.iter().take(usize::from(u16::MAX)) {
        out.extend_from_slice(name.wire());
        put16(&mut out, (*kind).into());
        put16(&mut out, *class);
    }
    for section in [&message.answers, &message.authorities, &message.additionals] {
        section.iter().take(usize::from(u16::MAX)).for_each(|record| put_record(&mut out, record));
    }
    if let Some(Signature { key, tsig, .. }) = &message.tsig {
        put_signature(&mut out, key, tsig);
    }
    out
}

/// Appends a signature to a message that was written without one, and counts it in the header.
pub(super) fn append_signature(message: &mut Vec<u8>, key: &Name, tsig: &Tsig) {
    set_additionals(message, |count| count.saturating_add(1));
    put_signature(message, key, tsig);
}

/// Changes the number of additional records that the header announces.
pub(super) fn set_additionals(message: &mut [u8], change: impl Fn(u16) -> u16) {
    if let Some([.., high, low]) = message.first_chunk_mut::<12>() {
        [*high, *low] = change(u16::from_be_bytes([*high, *low])).to_be_bytes();
    }
}

fn put_signature(out: &mut Vec<u8>, key: &Name, tsig: &Tsig) {
    let data = Data::Tsig(tsig.clone());
    put_record(out, &Record { name: key.clone(), class: CLASS_ANY, ttl: 0, data });
}

fn flags(header: &Header) -> u16 {
    let opcode = match header.opcode {
        Opcode::Query => 0,
        Opcode::Update => UPDATE,
        Opcode::Other(number) => number & 0x0f,
    };
    let mut flags = u16::from(opcode) << 11 | u16::from(header.rcode.number());
    for (set, bit) in [
        (header.response, RESPONSE),
        (header.authoritative, AUTHORITATIVE),
        (header.truncated, TRUNCATED),
        (header.recursion_desired, RECURSION_DESIRED),
    ] {
        flags |= if set { bit } else { 0 };
    }
    flags
}

fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_vec8(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    out.push(length);
    out.extend(bytes.iter().take(usize::from(length)));
}

fn put_vec16(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    put16(out, length);
    out.extend(bytes.iter().take(usize::from(length)));
}

fn put_record(out: &mut Vec<u8>, record: &Record) {
    out.extend_from_slice(record.name.wire());
    put16(out, record.data.kind().into());
    let class = if let Data::Opt(payload) = record.data { payload } else { record.class };
    put16(out, class);
    out.extend_from_slice(&record.ttl.to_be_bytes());
    let mut content = Vec::new();
    put_content(&mut content, &record.data);
    put_vec16(out, &content);
}

fn put_content(out: &mut Vec<u8>, data: &Data) {
    match data {
        Data::A(address) => out.extend_from_slice(&address.octets()),
        Data::Aaaa(address) => out.extend_from_slice(&address.octets()),
        Data::Ns(name) | Data::Cname(name) => out.extend_from_slice(name.wire()),
        Data::Soa(soa) => {
            out.extend_from_slice(soa.primary.wire());
            out.extend_from_slice(Name::root().wire());
            out.extend_from_slice(&soa.serial.to_be_bytes());
            out.extend_from_slice(&[0; 16]);
        }
        Data::Txt(strings) => strings.iter().for_each(|string| put_vec8(out, string)),
        Data::Caa(caa) => {
            out.push(if caa.critical { CRITICAL } else { 0 });
            put_vec8(out, caa.tag.as_bytes());
            out.extend_from_slice(&caa.value);
        }
        Data::Tsig(tsig) => {
            out.extend_from_slice(tsig.algorithm.wire());
            let [_, _, time @ ..] = tsig.time.to_be_bytes();
            out.extend_from_slice(&time);
            put16(out, tsig.fudge);
            put_vec16(out, &tsig.mac);
            put16(out, tsig.original_id);
            put16(out, tsig.error);
            put_vec16(out, &tsig.other);
        }
        Data::Opt(_) => {}
        Data::Other { bytes, .. } => out.extend_from_slice(bytes),
    }
}

/// What must hold for any bytes at all: what was read, written and read again is the same. For fuzzing and
/// tests.
#[doc(hidden)]
pub fn fuzz(input: &[u8]) {
    let Ok(message) = read(input) else { return };
    if input.len() > MESSAGE_BYTES / 2 {
        // Without compression a record may outgrow its length.
        return;
    }
    let written = write(&message);
    let again = read(&written).map(|mut again| {
        if let (Some(new), Some(old)) = (&mut again.tsig, &message.tsig) {
            new.at = old.at;
        }
        again
    });
    assert!(again == Ok(message), "reading is the inverse of writing");
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
