//! The resolver against servers that lie, stumble and go in circles.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::super::codec::write;
use super::super::message::{Caa, Data, Kind, Message, Rcode, Soa};
use super::super::test_server::{honest, name, record, reply, start, start_with, txt};
use super::{LookupError, Resolver, name_servers};

const SHORT: Duration = Duration::from_millis(100);

fn resolver(server: SocketAddr) -> Resolver {
    Resolver::new(&[server]).timeout(SHORT)
}

fn soa(zone: &str) -> super::Record {
    record(zone, Data::Soa(Soa { primary: name("ns.example"), serial: 1 }))
}

fn with_rcode(mut message: Message, rcode: Rcode) -> Vec<u8> {
    message.header.rcode = rcode;
    write(&message)
}

#[test]
fn resolv_conf_is_read_as_the_system_reads_it() {
    let text = "# nameserver 1.1.1.1\nsearch a b\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 \n\
                nameserver fe80::1%3\nnameserver fe80::1%eth0\nnameserver x\nnameserver\noptions ndots:5\n";
    let found: Vec<String> = name_servers(text).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%3]:53"]);
    assert_eq!(name_servers(""), ["127.0.0.1:53".parse().unwrap()]);
    assert_eq!(name_servers(&"nameserver 192.0.2.1\n".repeat(100)).len(), crate::limits::DNS_SERVERS);
}

#[tokio::test]
async fn each_type_is_found() {
    let server = start_with(vec![
        record("a.example", Data::A([192, 0, 2, 1].into())),
        record("a.example", Data::A([192, 0, 2, 2].into())),
        record("a.example", Data::Aaaa([1; 16].into())),
        txt("a.example", "one"),
        txt("a.example", "two"),
        record("example", Data::Ns(name("ns.example"))),
        soa("example"),
    ])
    .await;
    let resolver = resolver(server);
    let a = name("a.example");
    assert_eq!(resolver.a(&a).await.unwrap(), [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)]);
    assert_eq!(resolver.aaaa(&a).await.unwrap().len(), 1);
    assert_eq!(resolver.txt(&a).await.unwrap(), [b"one", b"two"]);
    assert_eq!(resolver.txt(&name("b.example")).await.unwrap(), [b""; 0]);
    assert_eq!(resolver.ns(&name("example")).await.unwrap(), [name("ns.example")]);
    assert_eq!(resolver.soa(&name("x.a.example")).await.unwrap().name, name("example"));
    let no_zone = resolver.soa(&name("other")).await.unwrap_err();
    assert_eq!(no_zone, LookupError::NoZone(name("other")));
}

#[tokio::test]
async fn what_does_not_answer_the_question_is_passed_over() {
    let server = start(|request, _| {
        let good = reply(request, vec![txt("a.example", "good")]);
        let bad = reply(request, vec![txt("a.example", "bad")]);
        let mut wrong_id = bad.clone();
        wrong_id.header.id ^= 1;
        let mut wrong_name = bad.clone();
        wrong_name.questions[0].name = name("b.example");
        let mut wrong_kind = bad.clone();
        wrong_kind.questions[0].kind = Kind::A;
        let mut no_question = bad.clone();
        no_question.questions.clear();
        let mut two = bad.clone();
        two.questions.push(two.questions[0].clone());
        let mut no_answer = bad.clone();
        no_answer.header.response = false;
        let lies = [wrong_id, wrong_name, wrong_kind, no_question, two, no_answer];
        let mut all: Vec<Vec<u8>> = lies.iter().map(write).collect();
        all.extend([Vec::new(), vec![0; 3], [write(&bad), vec![0]].concat(), write(&good)]);
        all
    })
    .await;
    assert_eq!(resolver(server).txt(&name("a.example")).await.unwrap(), [b"good"]);
    // By TCP nobody else can speak, so that a wrong answer ends it.
    let error = Resolver::authoritative(server).timeout(SHORT).txt(&name("a.example")).await.unwrap_err();
    assert!(error.to_string().contains("to another question"), "{error}");
}

#[tokio::test]
async fn records_of_other_names_do_not_count() {
    let server = start(|request, _| {
        vec![write(&reply(
            request,
            vec![txt("evil.example", "bad"), record("b.example", Data::Cname(name("c.example")))],
        ))]
    })
    .await;
    let answer = resolver(server).query(&name("a.example"), Kind::Txt).await.unwrap();
    assert_eq!((answer.name, answer.records.len()), (name("a.example"), 0));
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_by_tcp() {
    let server = start(|request, tcp| {
        let mut message = reply(request, vec![txt("a.example", if tcp { "tcp" } else { "udp" })]);
        message.header.truncated = !tcp;
        let mut bytes = write(&message);
        if !tcp {
            // Cut in the middle of a record, as some servers do.
            bytes.truncate(bytes.len() - 2);
        }
        vec![bytes]
    })
    .await;
    assert_eq!(resolver(server).txt(&name("a.example")).await.unwrap(), [b"tcp"]);
}

#[tokio::test]
async fn aliases_are_followed_to_their_end() {
    let alias = |from: &str, to: &str| record(from, Data::Cname(name(to)));
    let server = start_with(vec![
        alias("_acme-challenge.a.example", "a.dns.example"),
        alias("a.dns.example", "b.dns.example"),
        txt("b.dns.example", "value"),
        alias("loop.example", "pool.example"),
        alias("pool.example", "loop.example"),
        alias("self.example", "self.example"),
    ])
    .await;
    let resolver = resolver(server);
    let asked = name("_acme-challenge.a.example");
    assert_eq!(resolver.cname(&asked).await.unwrap(), name("b.dns.example"));
    assert_eq!(resolver.txt(&asked).await.unwrap(), [b"value"]);
    assert_eq!(resolver.cname(&name("x.example")).await.unwrap(), name("x.example"));
    for name in ["loop.example", "self.example"].map(name) {
        assert_eq!(resolver.cname(&name).await.unwrap_err(), LookupError::Chain(name));
    }
}

#[tokio::test]
async fn aliases_within_one_message_are_bounded_too() {
    let server = start(|request, _| {
        let chain = (0..20).map(|n| record(&format!("n{n}"), Data::Cname(name(&format!("n{}", n + 1)))));
        vec![write(&reply(request, chain.collect()))]
    })
    .await;
    assert!(matches!(resolver(server).txt(&name("n0")).await, Err(LookupError::Chain(_))));
    let found = resolver(server).cname(&name("n15")).await.unwrap();
    assert_eq!(found, name("n20"));
}

#[tokio::test]
async fn an_alias_to_a_name_that_is_not_there_yet_ends_there() {
    let server = start(|request, _| {
        let alias = record("_acme-challenge.a.example", Data::Cname(name("new.example")));
        vec![with_rcode(reply(request, vec![alias]), Rcode::NxDomain)]
    })
    .await;
    let answer = resolver(server).query(&name("_acme-challenge.a.example"), Kind::Txt).await.unwrap();
    assert_eq!((answer.name, answer.exists), (name("new.example"), false));
}

#[tokio::test]
async fn no_program_is_told_an_alias_that_is_no_host_name() {
    use crate::acme::dns::{Challenge, Error, Provider};
    use crate::config::model::{DnsMeans, DnsProvider, Propagation};
    for (label, told) in [("new", true), ("$(reboot)", false), ("a b", false), ("`x`", false)] {
        let target = name("zone.example").child(label).unwrap();
        let server = start_with(vec![record("_acme-challenge.a.example", Data::Cname(target))]).await;
        let provider = DnsProvider {
            name: "alias".into(),
            means: DnsMeans::Exec { command: vec!["/bin/true".into()], raw: false, timeout: SHORT * 100 },
            propagation: Propagation::None,
            propagation_timeout: SHORT,
            resolvers: vec![server],
        };
        let provider = Provider::new(&provider, None).unwrap().with_resolver(resolver(server));
        let challenge = Challenge { domain: "a.example", value: "v", token: "t", key_authorization: "t.k" };
        match provider.present(&challenge).await {
            Ok(_) => assert!(told, "{label}"),
            Err(Error::Name { .. }) => assert!(!told, "{label}"),
            Err(error) => panic!("{label}: {error}"),
        }
    }
}

#[tokio::test]
async fn caa_climbs_to_the_nearest_parent_that_has_any() {
    let caa = |owner: &str| {
        record(owner, Data::Caa(Caa { critical: false, tag: "issue".to_owned(), value: b"ca".to_vec() }))
    };
    let server = start_with(vec![
        caa("example"),
        caa("b.example"),
        record("alias.example", Data::Cname(name("b.example"))),
    ])
    .await;
    let resolver = resolver(server);
    for (asked, found) in
        [("x.y.a.example", "example"), ("a.b.example", "b.example"), ("alias.example", "alias.example")]
    {
        assert_eq!(resolver.caa(&name(asked)).await.unwrap().unwrap().name, name(found), "{asked}");
    }
    assert_eq!(resolver.caa(&name("a.other")).await.unwrap(), None);
}

#[tokio::test]
async fn a_server_that_fails_leaves_it_to_the_next() {
    let bad = start(|request, _| vec![with_rcode(reply(request, Vec::new()), Rcode::ServFail)]).await;
    let mute = start(|_, _| Vec::new()).await;
    let good = start_with(vec![txt("a.example", "good")]).await;
    let asked = name("a.example");
    let found = Resolver::new(&[bad, mute, good]).timeout(SHORT).txt(&asked).await.unwrap();
    assert_eq!(found, [b"good"]);
    let failed = resolver(bad).caa(&asked).await.unwrap_err();
    assert_eq!(
        failed,
        LookupError::Answer { name: asked.clone(), kind: Kind::Caa, server: bad, rcode: Rcode::ServFail }
    );
    let silent = resolver(mute).txt(&asked).await.unwrap_err().to_string();
    assert!(silent.contains("no answer within 0.1 s") && silent.contains(&mute.to_string()), "{silent}");
    assert_eq!(Resolver::new(&[]).txt(&asked).await, Err(LookupError::NoServers));
}

#[tokio::test]
async fn a_server_without_edns_is_asked_without() {
    let server = start(|request, _| {
        if request.additionals.is_empty() {
            vec![write(&honest(request, &[txt("a.example", "plain")]))]
        } else {
            let mut message = reply(request, Vec::new());
            message.questions.clear();
            vec![with_rcode(message, Rcode::FormErr)]
        }
    })
    .await;
    assert_eq!(resolver(server).txt(&name("a.example")).await.unwrap(), [b"plain"]);
}
