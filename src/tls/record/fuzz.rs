//! The fuzz target of the record layer: a script of records, well sealed or not, against an opening
//! side that shares the keys of the sealing one.

use rustls::ConnectionTrafficSecrets;
use rustls::crypto::cipher::{AeadKey, Iv};

use super::{APPLICATION_DATA, ExtractedSecrets, Opened, OwnRecords, Schedule};

/// Key updates that both ends can make alike: the key is the number of the update.
#[derive(Default)]
pub(in crate::tls) struct Updates {
    tx: u8,
    rx: u8,
}

impl Updates {
    /// The next sealing secrets.
    pub(super) fn next_tx(&mut self) -> ConnectionTrafficSecrets {
        self.tx = self.tx.wrapping_add(1);
        secrets(self.tx, false)
    }

    /// The next opening secrets.
    pub(super) fn next_rx(&mut self) -> ConnectionTrafficSecrets {
        self.rx = self.rx.wrapping_add(1);
        secrets(self.rx, false)
    }
}

fn secrets(generation: u8, chacha: bool) -> ConnectionTrafficSecrets {
    let (key, iv) = (AeadKey::from([generation; 32]), Iv::new([generation; 12]));
    if chacha {
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }
    } else {
        ConnectionTrafficSecrets::Aes256Gcm { key, iv }
    }
}

/// One end; all four directions have the same first key, so each end opens what the other seals.
fn end(tls13: bool, chacha: bool) -> Option<OwnRecords> {
    let secrets = ExtractedSecrets { tx: (0, secrets(0, chacha)), rx: (0, secrets(0, chacha)) };
    let schedule = if tls13 { Schedule::Fuzz(Updates::default()) } else { Schedule::Tls12 };
    OwnRecords::new(&secrets, schedule).ok()
}

/// Runs the script `data`: a version and suite byte, then steps of a kind, a length and as many bytes.
///
/// # Panics
/// When well-sealed data comes out changed, when more is used than is there, or when a refusal does not
/// last.
pub fn fuzz(data: &[u8]) {
    let Some((&first, mut script)) = data.split_first() else {
        return;
    };
    let (tls13, chacha) = (first & 1 == 0, first & 3 == 3);
    let (Some(mut sealing), Some(mut opening)) = (end(tls13, chacha), end(tls13, chacha)) else {
        return;
    };
    let mut wire = Vec::new();
    let mut expected = Vec::new();
    let mut honest = true;
    while let Some((&[kind, length], rest)) = script.split_first_chunk::<2>() {
        let (content, rest) = rest.split_at_checked(usize::from(length)).unwrap_or((rest, &[]));
        script = rest;
        match kind {
            // As the peer would say it.
            0..=99 => {
                let sealed = sealing.seal(content, usize::from(kind), &mut wire);
                assert!(sealed.is_ok(), "{sealed:?}");
                expected.extend_from_slice(content);
            }
            100 if tls13 => assert!(sealing.key_update(&mut wire).is_ok(), "an honest update"),
            101 => opening.rest(),
            // Well sealed, but any type and content.
            102..=199 => {
                honest &= content.is_empty() && kind - 100 == APPLICATION_DATA;
                let sealed = sealing.seal_content(kind - 100, content, &mut wire);
                assert!(sealed.is_ok(), "{sealed:?}");
            }
            // Bytes that nobody sealed.
            _ => {
                honest &= content.is_empty();
                wire.extend_from_slice(content);
            }
        }
    }
    let opened = open_all(&mut opening, &mut wire);
    // A flood of updates or empty records may end an honest script early, but changes nothing in it.
    assert!(!honest || expected.starts_with(&opened), "what was sealed is what is opened");
    let mut replies = Vec::new();
    opening.take_replies(&mut replies);
    opening.close_notify(&mut replies);
    assert!(!opening.wants_reply(), "nothing is due after closing");
}

/// Opens until a record is missing, refused or the last.
fn open_all(opening: &mut OwnRecords, mut input: &mut [u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    loop {
        let used = match opening.open(input) {
            Ok(Opened::Partial { need }) => {
                assert!(need > input.len(), "what is needed is not there");
                return plain;
            }
            Ok(Opened::Data { plaintext, used }) => {
                assert!(!plaintext.is_empty() && plaintext.end <= used, "{plaintext:?}");
                plain.extend_from_slice(input.get(plaintext).unwrap_or_default());
                used
            }
            Ok(Opened::Control { used }) => used,
            Ok(Opened::CloseNotify { used }) => {
                assert!(used <= input.len(), "{used}");
                return plain;
            }
            Err(error) => {
                assert_eq!(opening.open(&mut []), Err(error), "a refusal is final");
                return plain;
            }
        };
        assert!(0 < used && used <= input.len(), "every record moves on: {used}");
        input = input.get_mut(used..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::fuzz;

    #[test]
    fn the_target_holds_on_seeded_scripts() {
        let mut state = 1_u64;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        for round in 0..2_000_usize {
            let mut script = vec![byte()];
            for _ in 0..round % 12 {
                let kind = match byte() % 4 {
                    0 => 121 + byte() % 3,
                    1 => 100,
                    _ => byte(),
                };
                let length = byte() % 40;
                script.extend_from_slice(&[kind, length]);
                // Handshake bytes more often than chance would have them.
                script.extend((0..length).map(|at| if at == 0 && kind == 122 { 24 } else { byte() % 3 }));
            }
            fuzz(&script);
        }
    }

    #[test]
    fn an_honest_script_arrives_whole() {
        for first in 0..4 {
            fuzz(&[first, 50, 3, 1, 2, 3, 100, 0, 1, 2, 8, 9, 101, 0, 9, 1, 7]);
        }
    }
}
