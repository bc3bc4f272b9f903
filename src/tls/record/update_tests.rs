//! KeyUpdates, tickets, fragments of handshake messages, and the ends of keys.

use super::*;

/// Both directions still work.
fn talk(connected: &mut Connected) {
    let mut out = Vec::new();
    connected.client.seal(b"question", 100, &mut out).unwrap();
    assert_eq!(open_all(&mut connected.server, out).unwrap(), [b"question"]);
    let mut out = Vec::new();
    connected.server.seal(b"answer", 100, &mut out).unwrap();
    assert_eq!(open_all(&mut connected.client, out).unwrap(), [b"answer"]);
}

/// The client sends a KeyUpdate record by hand, with `request`, and takes its next key.
fn update(connected: &mut Connected, request: u8) -> Vec<u8> {
    let record = client_record(connected, HANDSHAKE, &[24, 0, 0, 1, request]);
    next_client_key(connected);
    record
}

fn next_client_key(connected: &mut Connected) {
    let cipher = connected.client.tx.cipher();
    connected.client.tx = connected.client.schedule.next_tx(cipher).unwrap();
}

// RFC 8446 §4.6.3.
#[test]
fn a_key_update_switches_the_opening_key_and_is_answered_when_asked() {
    for (request, answered) in [(0, false), (1, true)] {
        let mut connected = connected(TLS13);
        let mut record = update(&mut connected, request);
        assert!(matches!(connected.server.open(&mut record), Ok(Opened::Control { .. })));
        assert_eq!(connected.server.wants_reply(), answered);
        let mut out = Vec::new();
        connected.server.take_replies(&mut out);
        assert_eq!(!out.is_empty(), answered);
        assert!(!connected.server.wants_reply());
        assert_eq!(open_all(&mut connected.client, out).unwrap().len(), 0);
        talk(&mut connected);
    }
}

#[test]
fn without_our_key_log_rustls_makes_the_keys_and_they_are_the_same() {
    for suite in SUITES.into_iter().take(3) {
        let mut pair = pair(suite);
        let mut server = (*pair.server).clone();
        server.key_log = std::sync::Arc::new(rustls::NoKeyLog {});
        pair.server = std::sync::Arc::new(server);
        let mut connected = connect(&pair, usize::MAX);
        assert!(matches!(connected.server.schedule, super::super::Schedule::Server(_)));
        open_all(&mut connected.client, std::mem::take(&mut connected.to_client)).unwrap();
        let mut record = update(&mut connected, 1);
        assert!(connected.server.open(&mut record).is_ok());
        talk(&mut connected);
    }
}

#[test]
fn keys_of_many_generations_are_those_of_the_peer_in_every_suite() {
    for index in 0..3 {
        let mut connected = connected(index);
        for _ in 0..5 {
            let mut record = update(&mut connected, 1);
            assert!(connected.server.open(&mut record).is_ok());
            talk(&mut connected);
        }
    }
}

#[test]
fn several_requests_earn_one_answer_and_it_goes_before_the_next_data() {
    let mut connected = connected(TLS13);
    for _ in 0..3 {
        let mut record = update(&mut connected, 1);
        assert!(connected.server.open(&mut record).is_ok());
    }
    let mut out = b"earlier".to_vec();
    let start = connected.server.begin(&mut out);
    out.extend_from_slice(b"data");
    connected.server.commit(start, &mut out).unwrap();
    let update = 5 + 5 + 1 + 16;
    assert_eq!(out.len(), 7 + update + 4 + connected.server.overhead());
    assert_eq!(&out[..7], b"earlier");
    let mut input = out.split_off(7);
    assert_eq!(connected.client.open(&mut input), Ok(Opened::Control { used: update }));
    assert!(!connected.client.wants_reply(), "the answer asks for nothing");
    assert_eq!(open_all(&mut connected.client, input.split_off(update)).unwrap(), [b"data"]);
    talk(&mut connected);
}

#[test]
fn key_updates_without_data_are_bounded() {
    let mut connected = connected(TLS13);
    for _ in 0..KEY_UPDATES_WITHOUT_DATA {
        let mut record = update(&mut connected, 1);
        assert!(connected.server.open(&mut record).is_ok());
    }
    talk(&mut connected);
    for _ in 0..KEY_UPDATES_WITHOUT_DATA {
        let mut record = update(&mut connected, 0);
        assert!(connected.server.open(&mut record).is_ok());
    }
    let mut record = update(&mut connected, 0);
    assert_eq!(connected.server.open(&mut record), Err(RecordError::KeyUpdateFlood));
}

#[test]
fn a_malformed_key_update_is_refused() {
    for (message, error, description) in [
        (&[24, 0, 0, 1, 2][..], RecordError::BadKeyUpdateRequest, 47),
        (&[24, 0, 0, 0], RecordError::BadKeyUpdateLength, 50),
        (&[24, 0, 0, 2, 0, 0], RecordError::BadKeyUpdateLength, 50),
        (&[24, 1, 0, 1], RecordError::BadKeyUpdateLength, 50),
        (&[24, 0, 0, 1, 0, 24], RecordError::KeyUpdateNotLast, 10),
        (&[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], RecordError::KeyUpdateNotLast, 10),
    ] {
        refused(&mut connected(TLS13), HANDSHAKE, message, error);
        assert_eq!(error.alert(), Some(description));
    }
}

// RFC 8446 §5.1.
#[test]
fn a_key_update_may_come_in_fragments() {
    let message = [24, 0, 0, 1, 1];
    for cut in 1..message.len() {
        let mut connected = connected(TLS13);
        accepted(&mut connected, HANDSHAKE, &message[..cut]);
        accepted(&mut connected, HANDSHAKE, &message[cut..]);
        next_client_key(&mut connected);
        assert!(connected.server.wants_reply());
        talk(&mut connected);
    }
    let mut bytewise = connected(TLS13);
    for byte in message {
        accepted(&mut bytewise, HANDSHAKE, &[byte]);
    }
    next_client_key(&mut bytewise);
    talk(&mut bytewise);
}

// RFC 8446 §5.1.
#[test]
fn nothing_comes_between_the_fragments_of_a_message() {
    for (content_type, content) in
        [(APPLICATION_DATA, &b"data"[..]), (APPLICATION_DATA, b""), (ALERT, &[1, 0]), (ALERT, &[2, 40])]
    {
        let mut connected = connected(TLS13);
        accepted(&mut connected, HANDSHAKE, &[24, 0]);
        refused(&mut connected, content_type, content, RecordError::InterleavedHandshake);
    }
    for index in [TLS13, TLS12] {
        refused(&mut connected(index), HANDSHAKE, b"", RecordError::EmptyHandshakeFragment);
    }
}

// RFC 8446 §4.6.
#[test]
fn other_handshake_messages_are_refused_by_a_server_at_their_first_byte() {
    for message_type in (0..=255_u8).filter(|&message_type| message_type != 24) {
        let mut connected = connected(TLS13);
        refused(&mut connected, HANDSHAKE, &[message_type], RecordError::UnexpectedHandshake);
    }
    assert_eq!(RecordError::UnexpectedHandshake.alert(), Some(10));
}

#[test]
fn a_client_takes_no_other_message_than_tickets_and_key_updates() {
    for message_type in (0..=255_u8).filter(|message_type| ![4, 24].contains(message_type)) {
        let mut connected = connected(TLS13);
        let mut record = Vec::new();
        connected.server.seal_content(HANDSHAKE, &[message_type], &mut record).unwrap();
        assert_eq!(connected.client.open(&mut record), Err(RecordError::UnexpectedHandshake));
    }
}

/// A NewSessionTicket with a ticket of `length` bytes (RFC 8446 §4.6.1).
fn ticket(length: u16) -> Vec<u8> {
    let mut body = vec![0, 0, 14, 16, 1, 2, 3, 4, 1, 9];
    body.extend_from_slice(&length.to_be_bytes());
    body.resize(body.len() + usize::from(length), 7);
    body.extend_from_slice(&[0, 0]);
    let [_, a, b, c] = (body.len() as u32).to_be_bytes();
    [&[4, a, b, c], &body[..]].concat()
}

fn to_client(connected: &mut Connected, content: &[u8]) -> Result<Opened, RecordError> {
    let mut record = Vec::new();
    connected.server.seal_content(HANDSHAKE, content, &mut record).unwrap();
    connected.client.open(&mut record)
}

// RFC 8446 §4.6.1.
#[test]
fn tickets_may_share_a_record_and_span_records() {
    let mut connected = connected(TLS13);
    let two = [ticket(200), ticket(9_000)].concat();
    for cut in [1, 4, 5, 200, 230, 5_000, two.len() - 1] {
        let first = to_client(&mut connected, &two[..cut]);
        assert!(matches!(first, Ok(Opened::Control { .. })), "{first:?}");
        assert!(!connected.client.gathered.is_empty() || cut == 220);
        let second = to_client(&mut connected, &two[cut..]);
        assert!(matches!(second, Ok(Opened::Control { .. })), "{second:?}");
        assert_eq!(connected.client.gathered.capacity(), 0, "the memory is given back");
        talk(&mut connected);
    }
}

#[test]
fn a_ticket_beyond_the_bound_and_a_malformed_one_are_refused() {
    let longest = (POST_HANDSHAKE_BYTES - 4 - 14) as u16;
    let mut bound = connected(TLS13);
    assert_eq!(ticket(longest).len(), POST_HANDSHAKE_BYTES);
    assert!(to_client(&mut bound, &ticket(longest)).is_ok());
    assert_eq!(to_client(&mut bound, &ticket(longest + 1)[..100]), Err(RecordError::HandshakeTooLong));
    let mut malformed = connected(TLS13);
    assert_eq!(to_client(&mut malformed, &[4, 0, 0, 2, 1, 2]), Err(RecordError::BadTicket));
    let mut flood = connected(TLS13);
    talk(&mut flood);
    for _ in 0..EMPTY_RECORDS {
        assert!(to_client(&mut flood, &ticket(32)).is_ok());
    }
    assert_eq!(to_client(&mut flood, &ticket(32)), Err(RecordError::EmptyRecordFlood));
}

// RFC 8446 §5.5.
#[test]
fn a_worn_tls13_key_is_updated_before_the_next_data() {
    for index in [0, 1] {
        let mut connected = connected(index);
        connected.server.tx.skip_to(RECORDS_PER_AES_KEY - 1);
        connected.client.rx.skip_to(RECORDS_PER_AES_KEY - 1);
        let mut out = Vec::new();
        connected.server.seal(b"abc", 1, &mut out).unwrap();
        assert_eq!(connected.server.tx.sequence(), 2, "the second record is under a new key");
        assert_eq!(open_all(&mut connected.client, out).unwrap(), [b"a", b"b", b"c"]);
        talk(&mut connected);
    }
}

#[test]
fn a_worn_tls12_key_carries_alerts_only() {
    let mut connected = connected(TLS12);
    connected.server.tx.skip_to(RECORDS_PER_AES_KEY - 1);
    connected.client.rx.skip_to(RECORDS_PER_AES_KEY - 1);
    let mut out = Vec::new();
    assert_eq!(connected.server.seal(b"ab", 1, &mut out), Err(RecordError::KeyExhausted));
    connected.server.close_notify(&mut out);
    assert_eq!(open_all(&mut connected.client, out).unwrap(), [b"a"]);
    assert_eq!(RecordError::KeyExhausted.alert(), Some(80));
}

// RFC 8446 §5.3.
#[test]
fn sequence_numbers_never_wrap() {
    for index in 0..SUITES.len() {
        let mut opening = connected(index);
        opening.server.rx.skip_to(u64::MAX);
        opening.client.tx.skip_to(u64::MAX - 1);
        let record = client_record(&mut opening, APPLICATION_DATA, b"x");
        assert_eq!(opening.server.open(&mut record.clone()), Err(RecordError::KeyExhausted));
        let mut out = Vec::new();
        let sealed = opening.client.seal_content(APPLICATION_DATA, b"x", &mut out);
        assert_eq!((sealed, out.len()), (Err(RecordError::KeyExhausted), 0));
        opening.client.close_notify(&mut out);
        assert!(out.is_empty(), "no number is left for an alert");
    }
}

#[cfg(not(feature = "fips"))]
#[test]
fn chacha_keys_are_bounded_by_the_sequence_number() {
    for (index, result) in [(2, Ok(())), (5, Err(RecordError::KeyExhausted))] {
        let mut connected = connected(index);
        connected.server.tx.skip_to(u64::MAX - 1024);
        let mut out = Vec::new();
        assert_eq!(connected.server.seal(b"x", 1, &mut out), result);
    }
}

#[test]
fn a_record_in_place_is_the_record_that_seal_makes() {
    for index in 0..SUITES.len() {
        let mut connected = connected(index);
        let mut out = b"before".to_vec();
        let start = connected.server.begin(&mut out);
        let empty = connected.server.commit(start, &mut out);
        assert_eq!((empty, &out[..]), (Ok(()), &b"before"[..]), "no empty record is made");
        let start = connected.server.begin(&mut out);
        out.extend_from_slice(&[7; RECORD_PLAINTEXT]);
        connected.server.commit(start, &mut out).unwrap();
        assert_eq!(out.len(), 6 + RECORD_PLAINTEXT + connected.server.overhead());
        let opened = open_all(&mut connected.client, out.split_off(6)).unwrap();
        assert_eq!(opened, [[7; RECORD_PLAINTEXT]]);
        let start = connected.server.begin(&mut out);
        out.extend_from_slice(&[7; RECORD_PLAINTEXT + 1]);
        assert_eq!(connected.server.commit(start, &mut out), Err(RecordError::BadRecordStart));
        assert_eq!(out, b"before", "plaintext does not stay");
    }
}

#[test]
fn a_record_start_of_another_buffer_is_refused() {
    let mut connected = connected(TLS13);
    let start = connected.server.begin(&mut vec![0; 100]);
    let mut out = b"short".to_vec();
    assert_eq!(connected.server.commit(start, &mut out), Err(RecordError::BadRecordStart));
    assert_eq!(out, b"short");
}
