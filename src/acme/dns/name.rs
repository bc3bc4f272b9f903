//! Domain names in wire form (RFC 1035 §3.1), lower-cased: comparing is comparing bytes, and the canonical
//! form that TSIG signs is the form itself.

use std::fmt;

use crate::limits;
use crate::wire::cursor::Cursor;

/// Bytes of a label (RFC 1035 §2.3.4).
const LABEL_BYTES: usize = 63;
/// Bytes of a name, its root label included (RFC 1035 §2.3.4).
const NAME_BYTES: usize = 255;
/// First byte of a compression pointer (RFC 1035 §4.1.4).
const POINTER: u8 = 0xc0;

/// Why a text or bytes are no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// It ends in the middle.
    Cut,
    /// A label without a byte, or none at all.
    EmptyLabel,
    /// A label of more than 63 bytes.
    LabelTooLong,
    /// More than 255 bytes.
    TooLong,
    /// A label of a type that nobody uses (RFC 6891 §5).
    LabelType,
    /// A pointer that does not lead back.
    Pointer,
    /// More pointers than any server makes.
    Pointers,
    /// A text with a character that host names and their underscored relatives do not have.
    Character,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "a name ends in its middle",
            Self::EmptyLabel => "a name has an empty label",
            Self::LabelTooLong => "a label of a name has more than 63 bytes",
            Self::TooLong => "a name has more than 255 bytes",
            Self::LabelType => "a label of a name is of no known type",
            Self::Pointer => "a name points to no place before it",
            Self::Pointers => "a name has too many pointers",
            Self::Character => "a name has a character that no name has here",
        })
    }
}

impl std::error::Error for NameError {}

/// A domain name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// Labels with their lengths, lower-case, with the root label at the end.
    wire: Vec<u8>,
}

impl Name {
    /// The root of all names.
    #[must_use]
    pub fn root() -> Self {
        Self { wire: vec![0] }
    }

    /// Reads `example.com` or `example.com.`: letters, digits, `-`, `_`, and `*` as a whole first label.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let labels = text.strip_suffix('.').unwrap_or(text);
        let mut wire = Vec::with_capacity(labels.len() + 2);
        for (place, label) in labels.split('.').enumerate() {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if !(label.bytes().all(known) || (label == "*" && place == 0)) {
                return Err(NameError::Character);
            }
            push_label(&mut wire, label.as_bytes())?;
        }
        end_name(wire)
    }

    /// Reads a name at `at` in a message; its pointers may lead to any place before it. Gives the name and
    /// the place behind it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(message: &[u8], at: usize) -> Result<(Self, usize), NameError> {
        let mut wire = Vec::new();
        let mut start = at;
        let mut cursor = Cursor::new(message.get(at..).ok_or(NameError::Cut)?);
        let mut end = None;
        for _ in 0..=limits::DNS_POINTERS {
            let pointer = loop {
                match cursor.u8().ok_or(NameError::Cut)? {
                    0 => {
                        let end = end.unwrap_or_else(|| message.len().saturating_sub(cursor.len()));
                        return Ok((end_name(wire)?, end));
                    }
                    byte if byte & POINTER == POINTER => {
                        let low = cursor.u8().ok_or(NameError::Cut)?;
                        break usize::from(u16::from_be_bytes([byte & !POINTER, low]));
                    }
                    byte if byte & POINTER != 0 => return Err(NameError::LabelType),
                    length => {
                        let label = cursor.take(usize::from(length)).ok_or(NameError::Cut)?;
                        push_label(&mut wire, label)?;
                    }
                }
            };
            end = end.or(Some(message.len().saturating_sub(cursor.len())));
            // Back and never forth, so that no loop is possible.
            if pointer >= start {
                return Err(NameError::Pointer);
            }
            start = pointer;
            cursor = Cursor::new(message.get(pointer..).ok_or(NameError::Pointer)?);
        }
        Err(NameError::Pointers)
    }

    /// The bytes that a message has for it, without compression.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// Whether it is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.wire.len() == 1
    }

    /// The name without its first label; the root has no parent.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let length = usize::from(*self.wire.first()?);
        let rest = self.wire.get(1 + length..).filter(|rest| length > 0 && !rest.is_empty())?;
        Some(Self { wire: rest.to_vec() })
    }

    /// Whether it is `other` or below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        let mut at = Some(self.clone());
        while let Some(name) = at {
            if name == *other {
                return true;
            }
            at = name.parent();
        }
        false
    }

    /// `label` in front of it.
    ///
    /// # Errors
    /// [`NameError::TooLong`], or what is wrong with the label.
    pub fn child(&self, label: &str) -> Result<Self, NameError> {
        let mut wire = Vec::with_capacity(self.wire.len() + label.len() + 1);
        push_label(&mut wire, label.to_ascii_lowercase().as_bytes())?;
        wire.extend_from_slice(&self.wire);
        if wire.len() > NAME_BYTES { Err(NameError::TooLong) } else { Ok(Self { wire }) }
    }
}

fn push_label(wire: &mut Vec<u8>, label: &[u8]) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::EmptyLabel);
    }
    let length = u8::try_from(label.len()).ok().filter(|_| label.len() <= LABEL_BYTES);
    wire.push(length.ok_or(NameError::LabelTooLong)?);
    wire.extend(label.iter().map(u8::to_ascii_lowercase));
    // The root label is yet to come.
    if wire.len() >= NAME_BYTES { Err(NameError::TooLong) } else { Ok(()) }
}

fn end_name(mut wire: Vec<u8>) -> Result<Name, NameError> {
    wire.push(0);
    Ok(Name { wire })
}

/// With its final dot, as zone files and lego's hooks write it; odd bytes as `\DDD` (RFC 1035 §5.1).
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cursor = Cursor::new(&self.wire);
        if self.is_root() {
            return f.write_str(".");
        }
        while let Some(label) = cursor.vec8().filter(|label| !label.is_empty()) {
            for byte in label.rest() {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                    b'!'..=b'~' => write!(f, "{}", char::from(*byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::{Name, NameError};

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn texts_are_read_and_written() {
        for (text, shown) in [
            ("Example.COM", "example.com."),
            ("_acme-challenge.a.b.", "_acme-challenge.a.b."),
            ("*.a", "*.a."),
        ] {
            assert_eq!(name(text).to_string(), shown);
        }
        assert_eq!(name("a.b").wire(), b"\x01a\x01b\0");
        assert_eq!(Name::root().to_string(), ".");
        assert_eq!(Name { wire: b"\x05a.\\ \xff\0".to_vec() }.to_string(), "a\\.\\\\\\032\\255.");
    }

    #[test]
    fn texts_that_are_no_names_are_refused() {
        let label = "a".repeat(63);
        let cases = [
            ("", NameError::EmptyLabel),
            (".", NameError::EmptyLabel),
            ("a..b", NameError::EmptyLabel),
            ("a b", NameError::Character),
            ("b.*", NameError::Character),
            ("é.com", NameError::Character),
            ("a\n", NameError::Character),
            (&format!("a{label}"), NameError::LabelTooLong),
            (&format!("{label}.{label}.{label}.{label}"), NameError::TooLong),
        ];
        for (text, error) in cases {
            assert_eq!(Name::parse(text), Err(error), "{text:?}");
        }
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(name(&longest).wire().len(), 255);
        assert_eq!(name(&longest).child("a"), Err(NameError::TooLong));
        assert_eq!(name("a").child(""), Err(NameError::EmptyLabel));
    }

    #[test]
    fn names_stand_in_a_tree() {
        assert_eq!(name("a.b.c").parent(), Some(name("b.c")));
        assert_eq!(name("c").parent(), Some(Name::root()));
        assert_eq!(Name::root().parent(), None);
        assert!(name("a.b.c").is_within(&name("b.c")) && name("b.c").is_within(&name("b.c")));
        assert!(name("b").is_within(&Name::root()));
        assert!(!name("xb.c").is_within(&name("b.c")) && !name("c").is_within(&name("b.c")));
        assert_eq!(name("b.c").child("_Acme"), Ok(name("_acme.b.c")));
    }

    #[test]
    fn pointers_lead_back() {
        let message = b"\x01b\0\x01A\xc0\0\xc0\x03rest";
        assert_eq!(Name::read(message, 0), Ok((name("b"), 3)));
        assert_eq!(Name::read(message, 3), Ok((name("a.b"), 7)));
        assert_eq!(Name::read(message, 7), Ok((name("a.b"), 9)));
    }

    #[test]
    fn bytes_that_are_no_names_are_refused() {
        let cases: [(&[u8], NameError); 8] = [
            (b"", NameError::Cut),
            (b"\x02a", NameError::Cut),
            (b"\x01a", NameError::Cut),
            (b"\xc0", NameError::Cut),
            (b"\x41a\0", NameError::LabelType),
            (b"\x81a\0", NameError::LabelType),
            (b"\xc0\x00", NameError::Pointer),
            (b"\xc0\x05\0\0\0\0", NameError::Pointer),
        ];
        for (bytes, error) in cases {
            assert_eq!(Name::read(bytes, 0), Err(error), "{bytes:?}");
        }
        assert_eq!(Name::read(b"\x01a\xc0\x00", 0), Err(NameError::Pointer), "into itself");
        let labels: Vec<u8> = [[63; 64].repeat(4), vec![0]].concat();
        assert_eq!(Name::read(&labels, 0), Err(NameError::TooLong));
        // Each points to the one before: no loop, but work without an end in sight.
        let mut chain = b"\0\0".to_vec();
        for place in 0..40u8 {
            chain.extend([0xc0, place * 2]);
        }
        assert_eq!(Name::read(&chain, 80), Err(NameError::Pointers));
        assert!(Name::read(&chain, 20).is_ok());
    }
}
