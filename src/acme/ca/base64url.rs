//! Base64 as ACME uses it (RFC 8555 §6.1, RFC 4648 §5): the URL-safe alphabet without padding. Reading also
//! takes the ordinary alphabet and padding, since shops hand out keys for account binding in either.

use zeroize::Zeroizing;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Without padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word =
            group.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..=group.len() {
            let six = (word >> (18 - 6 * place)) & 63;
            out.push(char::from(ALPHABET.get(six as usize).copied().unwrap_or_default()));
        }
    }
    out
}

/// The bytes, which are wiped when dropped; none if the text is not base64.
pub(crate) fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.trim_end_matches('=').as_bytes();
    // Never grown, so that no copy is left behind.
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3 + 3));
    for group in text.chunks(4) {
        let mut word = 0_u32;
        for byte in group {
            word = word << 6 | value(*byte)?;
        }
        match group.len() {
            4 => out.extend(word.to_be_bytes().iter().skip(1)),
            3 if word & 0b11 == 0 => out.extend((word >> 2).to_be_bytes().iter().skip(2)),
            2 if word & 0b1111 == 0 => out.push((word >> 4) as u8),
            _ => return None,
        }
    }
    Some(out)
}

fn value(byte: u8) -> Option<u32> {
    Some(u32::from(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'-' | b'+' => 62,
        b'_' | b'/' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lengths_and_bytes_come_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        for end in 0..bytes.len() {
            let text = encode(&bytes[..end]);
            assert_eq!(**decode(&text).unwrap(), bytes[..end]);
        }
        assert_eq!(encode(b"f\xff\xfe"), "Zv_-");
        assert_eq!(**decode("Zv/+").unwrap(), *b"f\xff\xfe");
        assert_eq!(**decode("Zg==").unwrap(), *b"f");
    }

    #[test]
    fn what_is_not_base64_is_none() {
        for bad in ["Z", "Zh", "Zm9=v", "Zm 9", "é"] {
            assert!(decode(bad).is_none(), "{bad}");
        }
    }
}
