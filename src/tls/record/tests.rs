//! Every rule of the record layer, one test each.

use super::{ALERT, APPLICATION_DATA, HANDSHAKE, Opened, RecordError, Records, alert};
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
fn open_all(records: &mut Records, mut input: Vec<u8>) -> Result<Vec<Vec<u8>>, RecordError> {
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
