//! Tests of HTTP to authorities, over loopback: a TLS server that answers from a script.

use std::net::SocketAddr;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(20);

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A self-signed certificate for `localhost` and the acceptor that shows it.
fn acceptor() -> (String, TlsAcceptor) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(crate::tls::policy::provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], der)
        .unwrap();
    (certificate.pem(), TlsAcceptor::from(Arc::new(config)))
}

/// A file that goes away with the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lockring-{name}-{}.pem", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Answers each request of each connection with `answer`; gives the heads of requests, each with the number
/// of its connection.
fn serve(
    acceptor: TlsAcceptor,
    listener: TcpListener,
    answer: String,
) -> Arc<watch::Sender<Vec<(usize, String)>>> {
    let heads = Arc::new(watch::Sender::new(Vec::new()));
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        let mut connection = 0;
        while let Ok((stream, _)) = listener.accept().await {
            connection += 1;
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            while let Some(head) = read_head(&mut stream).await {
                seen.send_modify(|seen| seen.push((connection, head)));
                if stream.write_all(answer.as_bytes()).await.is_err() || answer.contains("connection: close")
                {
                    break;
                }
            }
            let _closed = stream.shutdown().await;
        }
    });
    heads
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn get(port: u16, path: &str) -> Request<Bytes> {
    Request::get(format!("https://localhost:{port}{path}")).body(Bytes::new()).unwrap()
}

#[test]
fn one_connection_carries_many_requests() {
    run(async {
        let (root, acceptor) = acceptor();
        let (_, other) = self::acceptor();
        drop(other);
        let second = self::acceptor().0;
        // The authority's root is not the first in the file.
        let file = File::new("roots", &format!("{second}{root}"));
        let (listener, address) = listen().await;
        let heads = serve(acceptor, listener, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi".to_owned());
        let https = Https::new(Some(&file.0), Proxies::default(), TIMEOUT).unwrap();
        for _ in 0..3 {
            let answer = https.send(get(address.port(), "/a?b=c")).await.unwrap();
            assert_eq!((answer.status().as_u16(), &answer.body()[..]), (200, &b"hi"[..]));
            tokio::task::yield_now().await;
        }
        let heads = heads.borrow().clone();
        assert_eq!(heads.len(), 3);
        assert!(heads.iter().all(|(connection, _)| *connection == 1), "{heads:?}");
        assert!(heads[0].1.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{}", heads[0].1);
        assert!(heads[0].1.contains(&format!("host: localhost:{}\r\n", address.port())), "{}", heads[0].1);
    });
}

#[test]
fn a_connection_that_the_authority_closed_is_made_anew() {
    run(async {
        let (root, acceptor) = acceptor();
        let file = File::new("closing", &root);
        let (listener, address) = listen().await;
        let answer = "HTTP/1.1 302 Found\r\nlocation: https://localhost/x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let heads = serve(acceptor, listener, answer.to_owned());
        let https = Https::new(Some(&file.0), Proxies::default(), TIMEOUT).unwrap();
        for _ in 0..2 {
            let answer = https.send(get(address.port(), "/")).await.unwrap();
            assert_eq!(answer.status().as_u16(), 302, "not followed");
        }
        let connections: Vec<usize> = heads.borrow().iter().map(|(connection, _)| *connection).collect();
        assert_eq!(connections, [1, 2]);
    });
}

#[test]
fn bodies_are_bounded() {
    run(async {
        let (root, acceptor) = acceptor();
        let file = File::new("large", &root);
        let (listener, address) = listen().await;
        let body = "x".repeat(limits::ACME_ANSWER_BYTES + 1);
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        serve(acceptor, listener, answer);
        let https = Https::new(Some(&file.0), Proxies::default(), TIMEOUT).unwrap();
        let error = https.send(get(address.port(), "/")).await.unwrap_err();
        assert_eq!(error, TransportError::TooLarge);
    });
}

#[test]
fn failures_to_connect_are_told_apart() {
    run(async {
        let (_, acceptor) = acceptor();
        let other = File::new("other", &self::acceptor().0);
        let (listener, address) = listen().await;
        serve(acceptor, listener, String::new());
        let https = Https::new(Some(&other.0), Proxies::default(), TIMEOUT).unwrap();
        let error = https.send(get(address.port(), "/")).await.unwrap_err();
        assert!(matches!(&error, TransportError::Tls(why) if why.contains("certificate")), "{error:?}");

        // The port of a listener that is gone.
        let (listener, closed) = listen().await;
        drop(listener);
        let error = https.send(get(closed.port(), "/")).await.unwrap_err();
        assert!(matches!(&error, TransportError::Connect(why) if why.contains("127.0.0.1:")), "{error:?}");

        let (silent, address) = listen().await;
        let hasty = Https::new(Some(&other.0), Proxies::default(), Duration::from_millis(50)).unwrap();
        let error = hasty.send(get(address.port(), "/")).await.unwrap_err();
        assert_eq!(error, TransportError::ConnectTimeout);
        drop(silent);

        let plain = Request::get("http://localhost/").body(Bytes::new()).unwrap();
        assert_eq!(https.send(plain).await.unwrap_err(), TransportError::NotHttps);
    });
}

#[test]
fn not_http_is_told_apart() {
    run(async {
        let (root, acceptor) = acceptor();
        let file = File::new("garbage", &root);
        let (listener, address) = listen().await;
        serve(acceptor, listener, "SSH-2.0-OpenSSH_9.9 garbage\r\n\r\n".to_owned());
        let https = Https::new(Some(&file.0), Proxies::default(), TIMEOUT).unwrap();
        let error = https.send(get(address.port(), "/")).await.unwrap_err();
        assert!(matches!(error, TransportError::Http(_)), "{error:?}");
    });
}

#[test]
fn a_proxy_opens_a_tunnel_or_says_why_not() {
    run(async {
        let (root, acceptor) = acceptor();
        let file = File::new("proxied", &root);
        let (listener, address) = listen().await;
        let heads = serve(acceptor, listener, "HTTP/1.1 204 No Content\r\n\r\n".to_owned());
        let (proxy, proxy_address) = listen().await;
        tokio::spawn(async move {
            let (mut client, _) = proxy.accept().await.unwrap();
            let head = read_head(&mut client).await.unwrap();
            assert!(
                head.starts_with(&format!("CONNECT localhost:{} HTTP/1.1\r\n", address.port())),
                "{head}"
            );
            assert!(head.contains("Proxy-Authorization: Basic bWU6cHc=\r\n"), "{head}");
            client.write_all(b"HTTP/1.1 200 Connection established\r\nx: y\r\n\r\n").await.unwrap();
            let mut server = TcpStream::connect(address).await.unwrap();
            let tunnel =
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
            let (mut client, _) = proxy.accept().await.unwrap();
            read_head(&mut client).await.unwrap();
            client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.unwrap();
            drop(tunnel);
        });
        let url = format!("http://me:pw@{proxy_address}");
        let proxies = Proxies::from_environment(|name| (name == "HTTPS_PROXY").then(|| url.clone())).unwrap();
        let https = Https::new(Some(&file.0), proxies.clone(), TIMEOUT).unwrap();
        assert_eq!(https.send(get(address.port(), "/")).await.unwrap().status().as_u16(), 204);
        assert_eq!(heads.borrow().len(), 1);
        let https = Https::new(Some(&file.0), proxies, TIMEOUT).unwrap();
        let error = https.send(get(address.port(), "/")).await.unwrap_err();
        assert!(matches!(&error, TransportError::Connect(why) if why.contains("407")), "{error:?}");
        assert!(!error.to_string().contains("pw"));
    });
}

#[test]
fn files_of_roots_are_read_whole_or_refused() {
    let (first, second) = (acceptor().0, acceptor().0);
    let read = |name: &str, text: &str| {
        let file = File::new(name, text);
        let mut roots = RootCertStore::empty();
        add_roots(&mut roots, &file.0).map(|()| roots.len()).map_err(|error| error.to_string())
    };
    assert_eq!(read("two", &format!("# a comment\n{first}\n{second}")), Ok(2));
    let error = read("none", "nothing").unwrap_err();
    assert!(error.ends_with("not certificates in PEM"), "{error}");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(read("broken", &format!("{first}{broken}")).is_err());
    let missing = add_roots(&mut RootCertStore::empty(), Path::new("/nonexistent/roots.pem"));
    assert!(matches!(missing, Err(SetupError::File(..))));
}
