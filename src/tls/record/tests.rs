//! Every rule of the record layer, one test each.

use super::{ALERT, APPLICATION_DATA, HANDSHAKE, Opened, OwnRecords, RecordError, Records, alert};
use crate::limits::{
    EMPTY_RECORDS, KEY_UPDATES_WITHOUT_DATA, POST_HANDSHAKE_BYTES, RECORD_PLAINTEXT, RECORDS_PER_AES_KEY,
};
use crate::tls::session::tests::{Connected, SUITES, connect, pair};

const TLS13: usize = 0;
const TLS12: usize = 3;

/// A connected pair in suite `index`, the server's tickets taken.
fn connected(index: usize) -> Connected {
    let mut connected = connect(&pair(SUITES[index]), usize::MAX);
    let mut input = std::mem::take(&mut connected.to_client);
    let mut at = 0;
    while at < input.len() {
        let Ok(Opened::Control { used }) = connected.client.open(&mut input[at..]) else { panic!("tickets") };
        at += used;
    }
    connected
}

/// Opens every record of `input`, as [`Opened`] without places.
fn open_all(records: &mut OwnRecords, mut input: Vec<u8>) -> Result<Vec<Vec<u8>>, RecordError> {
    let mut data = Vec::new();
    while !input.is_empty() {
        let used = match records.open(&mut input)? {
            Opened::Partial { need } => panic!("whole records only, {need} needed"),
            Opened::Data { plaintext, used } => {
                data.push(input[plaintext].to_vec());
                used
            }
            Opened::Control { used } | Opened::CloseNotify { used } => used,
        };
        input.drain(..used);
    }
    Ok(data)
}

/// One record of `content_type`, from the client.
fn client_record(connected: &mut Connected, content_type: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    connected.client.seal_content(content_type, content, &mut out).unwrap();
    out
}

/// What the server makes of one client record.
fn from_client(connected: &mut Connected, content_type: u8, content: &[u8]) -> Result<Opened, RecordError> {
    let mut record = client_record(connected, content_type, content);
    connected.server.open(&mut record)
}

#[test]
fn data_of_any_size_passes_in_every_suite_and_both_directions() {
    for index in 0..SUITES.len() {
        let mut connected = connected(index);
        for size in [1_usize, 2, 15, 16, 17, 1_350, 16_383, 16_384, 16_385, 70_000] {
            let plain: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            let mut out = Vec::new();
            connected.server.seal(&plain, 16_384, &mut out).unwrap();
            assert_eq!(out.len(), size + size.div_ceil(16_384) * connected.server.overhead());
            assert_eq!(open_all(&mut connected.client, out).unwrap().concat(), plain);
            let mut out = Vec::new();
            connected.client.seal(&plain, 1_300, &mut out).unwrap();
            assert_eq!(open_all(&mut connected.server, out).unwrap().concat(), plain);
        }
    }
}

/// Client records that the server refuses with `error`, and that it goes on refusing.
fn refused(connected: &mut Connected, content_type: u8, content: &[u8], error: RecordError) {
    assert_eq!(from_client(connected, content_type, content), Err(error));
    assert_eq!(from_client(connected, APPLICATION_DATA, b"more"), Err(error), "a refusal is final");
}

fn accepted(connected: &mut Connected, content_type: u8, content: &[u8]) {
    let opened = from_client(connected, content_type, content);
    assert!(matches!(opened, Ok(Opened::Control { .. })), "{opened:?}");
}

#[test]
fn the_state_of_a_connection_is_small() {
    // At rest a connection is this; at work two AEAD contexts of 584 bytes (EVP_AEAD_CTX) come on top.
    assert!(size_of::<OwnRecords>() <= 320, "{}", size_of::<OwnRecords>());
    // The other engine hides where no value of ours lies.
    assert_eq!(size_of::<Records>(), size_of::<OwnRecords>());
    assert!(matches!(connected(TLS13).server.schedule, super::Schedule::Traffic(_)));
}

#[test]
fn a_rested_connection_goes_on() {
    for index in 0..SUITES.len() {
        let mut connected = connected(index);
        for turn in 0..3_u8 {
            let mut out = Vec::new();
            connected.client.seal(&[turn; 100], 50, &mut out).unwrap();
            assert_eq!(open_all(&mut connected.server, out).unwrap(), [[turn; 50], [turn; 50]]);
            connected.server.rest();
            connected.client.rest();
        }
    }
}

#[test]
fn a_record_is_partial_until_its_last_byte_and_says_what_it_needs() {
    for index in 0..SUITES.len() {
        let mut connected = connected(index);
        let record = client_record(&mut connected, APPLICATION_DATA, b"some data");
        for cut in 0..record.len() {
            let need = if cut < 5 { 5 } else { record.len() };
            let mut prefix = record[..cut].to_vec();
            assert_eq!(connected.server.open(&mut prefix), Ok(Opened::Partial { need }));
            assert_eq!(prefix, record[..cut], "an unfinished record is not touched");
        }
        assert_eq!(open_all(&mut connected.server, record).unwrap(), [b"some data"]);
    }
}

#[test]
fn bytes_after_the_record_stay() {
    let mut connected = connected(TLS13);
    let mut input = client_record(&mut connected, APPLICATION_DATA, b"one");
    let first = input.len();
    let second = client_record(&mut connected, APPLICATION_DATA, b"two");
    input.extend_from_slice(&second);
    assert_eq!(connected.server.open(&mut input), Ok(Opened::Data { plaintext: 5..8, used: first }));
    assert_eq!(&input[first..], second);
}

#[test]
fn any_changed_byte_is_refused() {
    for index in 0..SUITES.len() {
        let mut pristine = connected(index);
        let record = client_record(&mut pristine, APPLICATION_DATA, b"data");
        for at in 5..record.len() {
            let mut server = connected(index);
            let mut record = client_record(&mut server, APPLICATION_DATA, b"data");
            record[at] ^= 0x40;
            assert_eq!(server.server.open(&mut record), Err(RecordError::BadRecordMac), "byte {at}");
        }
    }
    assert_eq!(RecordError::BadRecordMac.alert(), Some(20));
}

#[test]
fn a_changed_type_in_a_tls12_header_is_refused() {
    let mut connected = connected(TLS12);
    let mut record = client_record(&mut connected, APPLICATION_DATA, &[1, 0]);
    record[0] = ALERT;
    assert_eq!(connected.server.open(&mut record), Err(RecordError::BadRecordMac));
}

#[test]
fn a_repeated_or_skipped_record_is_refused() {
    for index in 0..SUITES.len() {
        let mut repeated = connected(index);
        let record = client_record(&mut repeated, APPLICATION_DATA, b"once");
        assert!(repeated.server.open(&mut record.clone()).is_ok());
        assert_eq!(repeated.server.open(&mut record.clone()), Err(RecordError::BadRecordMac));
        let mut skipped = connected(index);
        client_record(&mut skipped, APPLICATION_DATA, b"lost");
        let mut next = client_record(&mut skipped, APPLICATION_DATA, b"next");
        assert_eq!(skipped.server.open(&mut next), Err(RecordError::BadRecordMac));
    }
}

#[test]
fn a_body_shorter_than_a_tag_is_refused() {
    for index in [TLS13, TLS12] {
        for length in [0_u8, 1, 15, 16, 23] {
            let mut connected = connected(index);
            let mut record = vec![APPLICATION_DATA, 3, 3, 0, length];
            record.resize(5 + usize::from(length), 7);
            assert_eq!(connected.server.open(&mut record), Err(RecordError::BadRecordMac));
        }
    }
}

// RFC 8446 §5.2, RFC 5246 §6.2.3.
#[test]
fn an_announced_length_beyond_the_maximum_is_refused_at_the_header() {
    for (index, longest) in [(TLS13, 16_384_u16 + 256), (TLS12, 16_384 + 2_048)] {
        let mut connected = connected(index);
        let [high, low] = longest.to_be_bytes();
        let mut header = [APPLICATION_DATA, 3, 3, high, low];
        let need = usize::from(longest) + 5;
        assert_eq!(connected.server.open(&mut header), Ok(Opened::Partial { need }));
        let [high, low] = (longest + 1).to_be_bytes();
        let mut header = [APPLICATION_DATA, 3, 3, high, low];
        assert_eq!(connected.server.open(&mut header), Err(RecordError::CiphertextTooLong));
    }
    assert_eq!(RecordError::CiphertextTooLong.alert(), Some(22));
}

/// A TLS 1.3 record with this whole TLSInnerPlaintext; it may be longer than ours ever are.
fn tls13_inner(connected: &mut Connected, inner: &[u8]) -> Vec<u8> {
    let [high, low] = (inner.len() as u16 + 16).to_be_bytes();
    let header = [APPLICATION_DATA, 3, 3, high, low];
    let mut body = inner.to_vec();
    let tag = connected.client.tx.seal(&header, &mut body).unwrap();
    [&header, &body[..], tag.as_ref()].concat()
}

// RFC 8446 §5.4.
#[test]
fn padding_is_stripped_and_counts_towards_the_maximum() {
    let mut padded = connected(TLS13);
    let mut inner = b"data".to_vec();
    inner.push(APPLICATION_DATA);
    inner.resize(RECORD_PLAINTEXT + 1, 0);
    let record = tls13_inner(&mut padded, &inner);
    assert_eq!(open_all(&mut padded.server, record).unwrap(), [b"data"]);
    inner.push(0);
    let mut record = tls13_inner(&mut padded, &inner);
    assert_eq!(padded.server.open(&mut record), Err(RecordError::PlaintextTooLong));
}

#[test]
fn a_tls13_plaintext_of_two_to_the_fourteen_passes_and_one_more_does_not() {
    let mut connected = connected(TLS13);
    let mut inner = vec![1; RECORD_PLAINTEXT];
    inner.push(APPLICATION_DATA);
    let record = tls13_inner(&mut connected, &inner);
    assert_eq!(open_all(&mut connected.server, record).unwrap()[0].len(), RECORD_PLAINTEXT);
    inner.insert(0, 1);
    let mut record = tls13_inner(&mut connected, &inner);
    assert_eq!(connected.server.open(&mut record), Err(RecordError::PlaintextTooLong));
}

// RFC 5246 §6.2.1.
#[test]
fn a_tls12_plaintext_beyond_the_maximum_is_refused() {
    let mut connected = connected(TLS12);
    let [high, low] = (8 + RECORD_PLAINTEXT as u16 + 1 + 16).to_be_bytes();
    let mut record = vec![APPLICATION_DATA, 3, 3, high, low];
    record.resize(5 + 8 + RECORD_PLAINTEXT + 1 + 16, 0);
    assert_eq!(connected.server.open(&mut record), Err(RecordError::PlaintextTooLong));
}

// RFC 8446 §5.4.
#[test]
fn an_inner_plaintext_without_a_type_is_refused() {
    for length in [0, 1, 100] {
        let mut connected = connected(TLS13);
        let mut record = tls13_inner(&mut connected, &vec![0; length]);
        assert_eq!(connected.server.open(&mut record), Err(RecordError::NoContentType));
    }
    assert_eq!(RecordError::NoContentType.alert(), Some(10));
}

// RFC 8446 §5.
#[test]
fn unknown_content_types_are_refused() {
    for content_type in [0_u8, 1, 19, 24, 255] {
        for index in [TLS13, TLS12] {
            let mut outer = connected(index);
            let mut header = [content_type, 3, 3, 0, 40];
            assert_eq!(outer.server.open(&mut header), Err(RecordError::UnexpectedContentType));
        }
        if content_type != 0 {
            refused(&mut connected(TLS13), content_type, b"x", RecordError::UnexpectedContentType);
        }
    }
}

// RFC 8446 §5, RFC 5246 §7.1.
#[test]
fn change_cipher_spec_is_refused_after_the_handshake() {
    for index in [TLS13, TLS12] {
        let mut plain = connected(index);
        let mut record = [20, 3, 3, 0, 1, 1];
        assert_eq!(plain.server.open(&mut record), Err(RecordError::ChangeCipherSpec));
        refused(&mut connected(index), 20, &[1], RecordError::ChangeCipherSpec);
    }
    assert_eq!(RecordError::ChangeCipherSpec.alert(), Some(10));
}

// RFC 8446 §5.2.
#[test]
fn unprotected_records_are_refused_in_tls13() {
    for mut record in [[ALERT, 3, 3, 0, 2, 1, 0], [HANDSHAKE, 3, 3, 0, 2, 24, 0]] {
        assert_eq!(connected(TLS13).server.open(&mut record), Err(RecordError::Unprotected));
    }
}

#[test]
fn the_record_version_is_ignored_by_tls13_only_as_far_as_it_authenticates_and_checked_by_tls12() {
    let mut tls12 = connected(TLS12);
    let mut record = client_record(&mut tls12, APPLICATION_DATA, b"data");
    record[2] = 1;
    assert_eq!(tls12.server.open(&mut record), Err(RecordError::WrongVersion));
    let mut tls13 = connected(TLS13);
    let mut record = client_record(&mut tls13, APPLICATION_DATA, b"data");
    record[2] = 1;
    assert_eq!(tls13.server.open(&mut record), Err(RecordError::BadRecordMac));
}

#[test]
fn empty_records_are_dealt_with_up_to_a_bound_that_data_resets() {
    for index in [TLS13, TLS12] {
        let mut connected = connected(index);
        for _ in 0..2 {
            for _ in 0..EMPTY_RECORDS {
                accepted(&mut connected, APPLICATION_DATA, b"");
            }
            let opened = from_client(&mut connected, APPLICATION_DATA, b"x");
            assert!(matches!(opened, Ok(Opened::Data { .. })));
        }
        for _ in 0..EMPTY_RECORDS {
            accepted(&mut connected, APPLICATION_DATA, b"");
        }
        refused(&mut connected, APPLICATION_DATA, b"", RecordError::EmptyRecordFlood);
    }
}

// RFC 8446 §6.1.
#[test]
fn close_notify_ends_opening_and_later_bytes_are_ignored() {
    for index in [TLS13, TLS12] {
        let mut connected = connected(index);
        let mut out = Vec::new();
        connected.client.close_notify(&mut out);
        let used = out.len();
        connected.client.close_notify(&mut out);
        connected.client.fatal_alert(alert::INTERNAL_ERROR, &mut out);
        assert_eq!(out.len(), used, "one alert closes");
        assert_eq!(connected.client.seal(b"x", 1, &mut out), Err(RecordError::AfterClose));
        assert_eq!(out.len(), used, "nothing follows a closing alert");
        out.extend_from_slice(b"junk");
        assert_eq!(connected.server.open(&mut out), Ok(Opened::CloseNotify { used }));
        assert_eq!(connected.server.open(&mut out[used..]), Ok(Opened::CloseNotify { used: 4 }));
        let mut answer = Vec::new();
        connected.server.seal(b"half-closed is open", 100, &mut answer).unwrap();
        assert_eq!(open_all(&mut connected.client, answer).unwrap().len(), 1);
    }
}

// RFC 8446 §6, RFC 5246 §7.2.
#[test]
fn alerts_end_the_connection_except_the_warnings_that_may_pass() {
    for index in [TLS13, TLS12] {
        let mut fatal = connected(index);
        let mut out = Vec::new();
        fatal.client.fatal_alert(40, &mut out);
        assert_eq!(fatal.server.open(&mut out), Err(RecordError::PeerAlert(40)));
        for bad in [&[][..], &[2], &[1, 0, 1]] {
            refused(&mut connected(index), ALERT, bad, RecordError::BadAlert);
        }
        accepted(&mut connected(index), ALERT, &[1, alert::USER_CANCELED]);
    }
    refused(&mut connected(TLS13), ALERT, &[1, 112], RecordError::PeerAlert(112));
    refused(&mut connected(TLS12), ALERT, &[3, 112], RecordError::BadAlert);
    accepted(&mut connected(TLS12), ALERT, &[1, 112]);
    let mut flood = connected(TLS12);
    for _ in 0..EMPTY_RECORDS {
        accepted(&mut flood, ALERT, &[1, 112]);
    }
    refused(&mut flood, ALERT, &[1, 112], RecordError::EmptyRecordFlood);
    assert_eq!(RecordError::PeerAlert(40).alert(), None);
    assert_eq!(RecordError::BadAlert.alert(), Some(50));
}

// RFC 5246 §7.2.2.
#[test]
fn tls12_renegotiation_is_refused_with_a_warning() {
    refused(&mut connected(TLS12), HANDSHAKE, &[1, 0, 0, 0], RecordError::Renegotiation);
    let mut by_server = connected(TLS12);
    let mut record = Vec::new();
    by_server.server.seal_content(HANDSHAKE, &[0, 0, 0, 0], &mut record).unwrap();
    assert_eq!(by_server.client.open(&mut record), Err(RecordError::Renegotiation));
    let mut out = Vec::new();
    by_server.client.fatal_alert(RecordError::Renegotiation.alert().unwrap(), &mut out);
    let opened = by_server.server.open(&mut out);
    assert!(matches!(opened, Ok(Opened::Control { .. })), "a warning: {opened:?}");
    refused(&mut connected(TLS12), HANDSHAKE, &[24, 0, 0, 1, 0], RecordError::UnexpectedHandshake);
}

#[path = "update_tests.rs"]
mod update;
