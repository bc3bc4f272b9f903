//! A DNS server of a few lines, which answers as a test tells it: for answers that no honest server gives.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::codec::{read, write};
use super::message::{CLASS_IN, Data, Message, Question, Record};
use super::name::Name;

/// What to send for a request; each is one datagram. By TCP the first is sent, or the connection closed.
pub(crate) type Answers = Arc<dyn Fn(&Message, bool) -> Vec<Vec<u8>> + Send + Sync>;

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn record(owner: &str, data: Data) -> Record {
    Record { name: name(owner), class: CLASS_IN, ttl: 60, data }
}

pub(crate) fn txt(owner: &str, text: &str) -> Record {
    record(owner, Data::txt(text.as_bytes()))
}

/// The request turned into an answer with these records.
pub(crate) fn reply(request: &Message, answers: Vec<Record>) -> Message {
    let mut message = Message { answers, additionals: Vec::new(), ..request.clone() };
    message.header.response = true;
    message
}

/// Starts it on a free port of loopback, UDP and TCP; the second argument of `answers` is whether it is TCP.
pub(crate) async fn start(
    answers: impl Fn(&Message, bool) -> Vec<Vec<u8>> + Send + Sync + 'static,
) -> SocketAddr {
    let answers: Answers = Arc::new(answers);
    let (tcp, udp) = loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            break (tcp, udp);
        }
    };
    let address = tcp.local_addr().unwrap();
    let by_udp = answers.clone();
    tokio::spawn(async move {
        let mut datagram = [0; 2048];
        loop {
            let (length, from) = udp.recv_from(&mut datagram).await.unwrap();
            for answer in by_udp(&read(&datagram[..length]).unwrap(), false) {
                udp.send_to(&answer, from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut request = vec![0; usize::from(length)];
            stream.read_exact(&mut request).await.unwrap();
            if let Some(answer) = answers(&read(&request).unwrap(), true).into_iter().next() {
                let length = u16::try_from(answer.len()).unwrap();
                let _ = stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await;
            }
        }
    });
    address
}

/// Starts an honest one that knows these records, follows no alias and has no recursion.
pub(crate) async fn start_with(records: Vec<Record>) -> SocketAddr {
    start(move |request, _| vec![write(&honest(request, &records))]).await
}

/// The records of the name asked; a negative answer if there are none.
pub(crate) fn honest(request: &Message, records: &[Record]) -> Message {
    let [Question { name, kind, .. }] = request.questions.as_slice() else { panic!("one question") };
    let at_name = records.iter().filter(|record| record.name == *name);
    let found = at_name.filter(|record| {
        let found = record.data.kind();
        found == *kind || found == super::message::Kind::Cname
    });
    reply(request, found.cloned().collect())
}
