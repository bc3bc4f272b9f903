//! Writing heads and chunks (RFC 9112 §3, §4, §5, §7.1). The caller gives bytes that a parser of this
//! crate has accepted, or its own; nothing is checked again in release builds.

use super::scan::{VALUE, is, is_token};

/// Appends `method SP target SP HTTP/1.1 CRLF`.
pub fn request_line(out: &mut Vec<u8>, method: &[u8], target: &[u8]) {
    debug_assert!(is_token(method) && !target.is_empty(), "a request line of accepted bytes");
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Appends `HTTP/1.1 SP status SP reason CRLF`; `status` is 100 to 999.
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    debug_assert!((100..=999).contains(&status), "a status code has three digits");
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// Appends `name: SP value CRLF`.
#[inline]
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    debug_assert!(is_token(name) && value.iter().all(|&byte| is(VALUE, byte)), "a field line stays one line");
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends the empty line that ends a head.
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of a chunk of `len` bytes, which must be in hand; `len` is not 0, which would be the
/// last chunk.
pub fn chunk_start(out: &mut Vec<u8>, len: usize) {
    debug_assert!(len > 0, "an empty chunk ends the body");
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        let nibble = (len >> (4 * digit)) as u8 & 0x0f;
        out.push(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the CRLF after a chunk's data.
pub fn chunk_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk, the trailer section (field lines with their CRLFs, or nothing) and the end.
pub fn last_chunk(out: &mut Vec<u8>, trailers: &[u8]) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}

/// Appends `n` in decimal digits.
pub fn decimal(out: &mut Vec<u8>, n: u64) {
    let mut digits = [0; 20];
    let mut rest = n;
    let mut first = digits.len();
    for (place, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (rest % 10) as u8;
        first = place;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(first..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::{chunk_end, chunk_start, decimal, end, field, last_chunk, request_line, status_line};

    #[test]
    fn heads_and_chunks_are_written_as_the_rfc_spells_them() {
        let mut out = Vec::new();
        request_line(&mut out, b"GET", b"/a?b");
        field(&mut out, b"Host", b"x");
        end(&mut out);
        status_line(&mut out, 404, b"");
        chunk_start(&mut out, 0x1fa0);
        chunk_end(&mut out);
        last_chunk(&mut out, b"a: b\r\n");
        let want = "GET /a?b HTTP/1.1\r\nHost: x\r\n\r\nHTTP/1.1 404 \r\n1fa0\r\n\r\n0\r\na: b\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&out), want);
    }

    #[test]
    fn numbers_of_every_length_are_written_whole() {
        let powers = (0..20).map(|power| 10_u64.pow(power));
        for n in powers.flat_map(|n| [n - 1, n, n + 1]).chain([u64::MAX]) {
            let mut out = Vec::new();
            decimal(&mut out, n);
            assert_eq!(String::from_utf8_lossy(&out), n.to_string());
            let Ok(len) = usize::try_from(n.max(1)) else { continue };
            out.clear();
            chunk_start(&mut out, len);
            assert_eq!(String::from_utf8_lossy(&out), format!("{len:x}\r\n"));
        }
    }
}
