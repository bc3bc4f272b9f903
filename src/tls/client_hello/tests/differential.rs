//! Agreement with rustls' Acceptor: on a hello that both accept, every offer is read alike. We may refuse
//! more, for the reasons listed in [`OURS_ALONE`].

use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::{SAMPLES, records, sample};
use crate::limits;
use crate::tls::client_hello::{ClientHello, HelloError, fuzz, read};
use crate::tls::server_name::{ServerName, normalise};
use crate::wire::Parse;

/// Refusals of ours that rustls does not share: it takes an address as server name for none, and ignores
/// what follows a host name as an entry of an unknown type.
const OURS_ALONE: [HelloError; 2] = [HelloError::ServerNameIsAddress, HelloError::BadServerName];

const CASES: usize = 60_000;

/// xorshift64*: a fixed seed makes every run the same.
struct Luck(u64);

impl Luck {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }
}

/// First flights of rustls clients over versions, names and protocols.
fn first_flights() -> Vec<Vec<u8>> {
    let mut flights = Vec::new();
    let versions: [&[_]; 3] = [
        &[&rustls::version::TLS13, &rustls::version::TLS12],
        &[&rustls::version::TLS13],
        &[&rustls::version::TLS12],
    ];
    for versions in versions {
        for protocols in [&[][..], &["http/1.1"], &["h2", "http/1.1"], &["acme-tls/1"]] {
            for (name, fragment) in [("App.Example.com", None), ("a.b", Some(100)), ("192.0.2.1", None)] {
                let mut config = ClientConfig::builder_with_provider(Arc::new(crate::tls::provider()))
                    .with_protocol_versions(versions)
                    .unwrap()
                    .with_root_certificates(RootCertStore::empty())
                    .with_no_client_auth();
                config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
                config.max_fragment_size = fragment;
                config.resumption = Resumption::disabled();
                config.enable_sni = name != "a.b" || protocols.len() != 1;
                let mut client = ClientConnection::new(config.into(), name.try_into().unwrap()).unwrap();
                let mut bytes = Vec::new();
                client.write_tls(&mut bytes).unwrap();
                flights.push(bytes);
            }
        }
    }
    flights
}

/// Offers in one comparable form: name, protocols, signature schemes, suites, groups.
type Offers = (Option<String>, Vec<Vec<u8>>, Vec<u16>, Vec<u16>, Vec<u16>);

fn ours(hello: &ClientHello<'_>) -> Offers {
    (
        hello.server_name().map(|name| {
            let mut normal = ServerName::new();
            normalise(name, &mut normal).unwrap();
            normal.as_bytes().escape_ascii().to_string()
        }),
        hello.alpn().map(<[u8]>::to_vec).collect(),
        hello.signature_schemes().collect(),
        hello.cipher_suites().collect(),
        hello.supported_groups().collect(),
    )
}

/// What rustls reads; `None` if it wants more, `Err` if it refuses.
fn theirs(mut input: &[u8]) -> Result<Option<Offers>, ()> {
    let mut acceptor = Acceptor::default();
    while !input.is_empty() {
        acceptor.read_tls(&mut input).map_err(drop)?;
        if let Some(accepted) = acceptor.accept().map_err(drop)? {
            let hello = accepted.client_hello();
            return Ok(Some((
                hello.server_name().map(str::to_owned),
                hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect(),
                hello.signature_schemes().iter().map(|scheme| (*scheme).into()).collect(),
                hello.cipher_suites().iter().map(|suite| (*suite).into()).collect(),
                hello.named_groups().unwrap_or_default().iter().map(|group| (*group).into()).collect(),
            )));
        }
    }
    Ok(None)
}

/// How often each pair of answers was met, so that the test can tell that it tested something.
#[derive(Debug, Default)]
struct Tally {
    both_accept: usize,
    both_refuse: usize,
    ours_alone: BTreeSet<&'static str>,
    theirs_alone: usize,
}

impl Tally {
    fn compare(&mut self, input: &[u8]) {
        fuzz(input);
        let mut scratch = Vec::new();
        let theirs = theirs(input);
        match read(input, &mut scratch) {
            Ok(Parse::Done { value, .. }) => match theirs {
                Ok(Some(theirs)) => {
                    assert_eq!(ours(&value), theirs, "{}", input.escape_ascii());
                    self.both_accept += 1;
                }
                _ => self.theirs_alone += 1,
            },
            Err(error) => match theirs {
                Ok(Some(_)) => {
                    assert!(OURS_ALONE.contains(&error), "{error}: {}", input.escape_ascii());
                    self.ours_alone.insert(error.reason());
                }
                _ => self.both_refuse += 1,
            },
            Ok(Parse::Partial) => {
                assert!(!matches!(theirs, Ok(Some(_))), "partial for us: {}", input.escape_ascii());
            }
        }
    }
}

/// Bytes overwritten, flipped, taken out, put in; lengths left as they were.
fn mutate_bytes(input: &mut Vec<u8>, luck: &mut Luck) {
    for _ in 0..=luck.below(3) {
        if input.is_empty() {
            input.push(0);
        }
        let at = luck.below(input.len());
        match luck.below(6) {
            0 => input[at] ^= 1 << luck.below(8),
            1 => input[at] = luck.below(256) as u8,
            2 => input[at] = input[at].wrapping_add(1),
            3 => input[at] = input[at].wrapping_sub(1),
            4 => _ = input.remove(at),
            _ => input.insert(at, luck.below(256) as u8),
        }
    }
}

/// Extensions taken out, doubled, swapped or with other content; lengths made right again.
fn mutate_extensions(message: &[u8], luck: &mut Luck) -> Option<Vec<u8>> {
    let mut at = 4 + 2 + 32;
    at += 1 + usize::from(*message.get(at)?);
    at += 2 + usize::from(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    at += 1 + usize::from(*message.get(at)?);
    let mut rest = message.get(at + 2..)?;
    let mut list = Vec::new();
    while let [a, b, c, d, ..] = rest {
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        let (content, later) = rest.get(4..)?.split_at_checked(length)?;
        list.push((u16::from_be_bytes([*a, *b]), content.to_vec()));
        rest = later;
    }
    let (one, other) = (luck.below(list.len()), luck.below(list.len()));
    list.get(one)?;
    match luck.below(6) {
        0 => _ = list.remove(one),
        1 => list.insert(other, list[one].clone()),
        2 => list.swap(one, other),
        3 => list[one].0 = luck.below(64) as u16,
        4 => mutate_bytes(&mut list[one].1, luck),
        _ => list[one].1.truncate(other),
    }
    let extensions: Vec<u8> =
        list.iter().flat_map(|(kind, content)| super::extension(*kind, content)).collect();
    Some(super::message(1, &[&message[4..at], &super::vec16(&extensions)].concat()))
}

#[test]
fn unchanged_hellos_are_read_alike() {
    let mut tally = Tally::default();
    let flights = first_flights();
    flights.iter().for_each(|flight| tally.compare(flight));
    let samples = SAMPLES.map(|text| sample(text).0);
    samples.iter().for_each(|bytes| tally.compare(bytes));
    assert_eq!(tally.both_accept, flights.len() + samples.len(), "{tally:?}");
}

/// A hello for each of [`OURS_ALONE`].
fn ours_alone() -> [Vec<u8>; 2] {
    let with = |names: &[u8]| {
        super::hello(&[super::extension(0, names), super::extension(13, &[0, 2, 4, 3])].concat())
    };
    [with(b"\0\x0c\0\0\x09192.0.2.1"), with(b"\0\x05\0\0\x01a\x01")]
}

#[test]
fn what_we_alone_refuse_is_what_is_listed() {
    let mut tally = Tally::default();
    ours_alone().iter().for_each(|hello| tally.compare(hello));
    assert_eq!(tally.ours_alone, OURS_ALONE.iter().map(|error| error.reason()).collect());
}

#[test]
fn mutated_hellos_are_read_alike_or_refused() {
    let mut seeds = first_flights();
    seeds.extend(SAMPLES.map(|text| sample(text).0));
    seeds.extend(ours_alone());
    let mut luck = Luck(0x10c4_2106);
    let mut tally = Tally::default();
    for _ in 0..CASES {
        let mut input = seeds[luck.below(seeds.len())].clone();
        match luck.below(3) {
            0 => mutate_bytes(&mut input, &mut luck),
            1 => {
                let cut = luck.below(input.len());
                input = records(&input[limits::RECORD_HEADER..], &[cut, luck.below(400)]);
            }
            _ => {
                let message = mutate_extensions(&input[limits::RECORD_HEADER..], &mut luck);
                input = records(&message.unwrap_or_default(), &[]);
            }
        }
        tally.compare(&input);
    }
    assert!(tally.both_accept > CASES / 4 && tally.both_refuse > CASES / 20, "{tally:?}");
}
