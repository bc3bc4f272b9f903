//! What `[acme]`, `[dns.NAME]` and a site's `acme` mean; how mistakes read is in `tests/data/config`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::model::{
    Acme, AcmePolicy, ChallengeKind, DnsMeans, HostPattern, KeyKind, Preset, Propagation, Scheduling, Secret,
    TsigAlgorithm,
};
use super::{Files, Loaded, SecretForm, Source, load, render};

struct Nothing;

impl Files for Nothing {
    fn read(&self, _: &Path) -> Result<String, String> {
        Ok("[dns.corp]\nserver = \"ns\"\n".to_owned())
    }

    fn glob(&self, pattern: &str, base: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(vec![base.join(pattern)])
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }

    fn is_root(&self) -> bool {
        true
    }
}

fn read(text: &str) -> Result<Loaded, String> {
    load(Source { name: "etc/lockring.toml".into(), text: text.into() }, &Nothing)
        .map_err(|found| render::text(&found))
}

fn good(text: &str) -> Loaded {
    read(text).unwrap_or_else(|found| panic!("{found}"))
}

fn policies(text: &str) -> Vec<Option<Arc<AcmePolicy>>> {
    good(text).model.sites.iter().map(|site| site.acme.clone()).collect()
}

fn policy(acme: &str, site: &str) -> AcmePolicy {
    let text = format!("{acme}\n[sites.\"app.lockring.org\"]\nto = \"demo\"\nacme = {{ {site} }}\n");
    policies(&text).remove(0).map(|policy| (*policy).clone()).unwrap()
}

const DNS: &str = "[dns.corp]\nserver = \"ns1.lockring.org\"\n[dns.hook]\nexec = \"./hook\"\n";

#[test]
fn nothing_written_means_lets_encrypt_without_dns() {
    let found = policies("email = \"ops@lockring.org\"\n[sites]\na = \"demo\"\nb = \"demo\"\n");
    let [Some(a), Some(b)] = found.as_slice() else { panic!("two policies") };
    assert!(Arc::ptr_eq(a, b), "sites that say nothing share one policy");
    assert_eq!(a.authorities.len(), 1);
    assert_eq!(a.authorities[0].preset, Some(Preset::LetsEncrypt));
    assert_eq!(a.email.as_deref(), Some("ops@lockring.org"));
    assert_eq!(a.challenges, [ChallengeKind::TlsAlpn01, ChallengeKind::Http01]);
    assert_eq!((a.key, a.dns.is_none(), a.names.len()), (KeyKind::P256, true, 0));
}

#[test]
fn off_and_false_ask_nobody() {
    let sites = "[sites]\na = \"demo\"\nb = { to = \"demo\", acme = false }\n\
                 c = { to = \"demo\", acme = { directory = \"zerossl\", eab = { kid = \"k\", hmac = \"env:M\" } } }\n";
    let asked = |text: &str| policies(text).iter().map(Option::is_some).collect::<Vec<_>>();
    assert_eq!(asked(sites), [true, false, true]);
    assert_eq!(asked(&format!("[acme]\ndirectory = \"off\"\n{sites}")), [false, false, true]);
}

#[test]
fn what_a_site_says_stands_over_what_all_say() {
    let acme = "[acme]\nemail = \"all@lockring.org\"\nprofile = \"classic\"\nkey = \"p384\"\n\
                directory = [\"letsencrypt\", \"https://ca.internal/dir\"]\neab = { kid = \"all\", hmac = \"env:M\" }\n";
    let inherited = policy(acme, "names = [\"www.lockring.org\", \"WWW.lockring.org\", \"192.0.2.7\"]");
    assert_eq!(inherited.email.as_deref(), Some("all@lockring.org"));
    assert_eq!((inherited.profile.as_deref(), inherited.key), (Some("classic"), KeyKind::P384));
    let www = HostPattern::Exact("www.lockring.org".into());
    assert_eq!(inherited.names, [www, HostPattern::Ip(IpAddr::from([192, 0, 2, 7]))]);
    let [first, second] = inherited.authorities.as_slice() else { panic!("two authorities") };
    assert!(first.eab.is_none(), "Let's Encrypt asks for no account");
    assert_eq!(second.eab.as_ref().map(|eab| eab.kid.as_str()), Some("all"));
    let own = policy(acme, "email = \"own@lockring.org\", profile = \"tiny\", key = \"p256\"");
    assert_eq!((own.email.as_deref(), own.profile.as_deref()), (Some("own@lockring.org"), Some("tiny")));
    assert_eq!(own.key, KeyKind::P256);
}

#[test]
fn an_account_belongs_to_the_authorities_beside_it() {
    let acme = "[acme]\ndirectory = \"https://ca.internal/dir\"\neab = { kid = \"all\", hmac = \"env:M\" }\n";
    let kid = |site: &str| {
        let policy = policy(acme, site);
        policy.authorities.iter().map(|a| a.eab.as_ref().map(|eab| eab.kid.clone())).collect::<Vec<_>>()
    };
    assert_eq!(kid(""), [Some("all".to_owned())]);
    assert_eq!(kid("eab = { kid = \"own\", hmac = \"env:M\" }"), [Some("own".to_owned())]);
    assert_eq!(kid("directory = \"https://other.internal/dir\""), [None]);
    let table = "directory = [{ url = \"https://a.internal/\", eab = { kid = \"a\", hmac = \"env:M\" } }, \
                 \"https://b.internal/\"], eab = { kid = \"b\", hmac = \"file:mac\" }";
    assert_eq!(kid(table), [Some("a".to_owned()), Some("b".to_owned())]);
}

#[test]
fn a_preset_by_its_url_is_the_preset() {
    let found = policy("", &format!("directory = \"{}\"", Preset::LetsEncryptStaging.directory()));
    assert!(found.authorities[0].is_staging());
}

#[test]
fn naming_a_provider_means_to_use_it() {
    let kinds = |acme: &str, site: &str| {
        let policy = policy(&format!("{DNS}{acme}"), site);
        let words: Vec<_> = policy.challenges.iter().map(|kind| kind.word()).collect();
        (words.join(" "), policy.dns.as_ref().map(|dns| dns.name.clone()))
    };
    let both = "tls-alpn-01 http-01".to_owned();
    assert_eq!(kinds("", ""), (both.clone(), None));
    assert_eq!(kinds("", "dns = \"corp\""), ("dns-01".to_owned(), Some("corp".to_owned())));
    assert_eq!(kinds("[acme]\ndns = \"corp\"\n", ""), ("dns-01".to_owned(), Some("corp".to_owned())));
    assert_eq!(kinds("[acme]\ndns = \"corp\"\n", "challenge = \"http-01\""), ("http-01".to_owned(), None));
    assert_eq!(
        kinds("[acme]\nchallenge = \"http-01\"\n", "dns = \"hook\""),
        ("dns-01".to_owned(), Some("hook".to_owned()))
    );
    assert_eq!(
        kinds("[acme]\ndns = \"corp\"\n", "challenge = [\"http-01\", \"dns-01\", \"http-01\"]"),
        ("http-01 dns-01".to_owned(), Some("corp".to_owned()))
    );
    let no_plain = "[server]\nhttp = []\n";
    assert_eq!(kinds(no_plain, ""), ("tls-alpn-01".to_owned(), None));
    assert_eq!(kinds("[server]\nhttps = []\n", ""), ("http-01".to_owned(), None));
}

#[test]
fn a_wildcard_needs_dns_unless_it_is_local_or_has_files_or_is_for_others() {
    let wildcard = |front: &str, site: &str| {
        read(&format!("{front}\n[sites.\"*.lockring.org\"]\nto = \"demo\"\n{site}\n")).is_ok()
    };
    assert!(!wildcard("", ""));
    assert!(!wildcard(DNS, ""));
    assert!(wildcard(DNS, "acme = { dns = \"corp\" }"));
    assert!(wildcard("", "acme = { challenge = \"dns-persist-01\" }"));
    assert!(wildcard("", "acme = false"));
    assert!(wildcard("[acme]\ndirectory = \"off\"\n", ""));
    assert!(wildcard("", "tls = { cert = \"c\", key = \"k\" }"));
    assert!(wildcard("[server]\ncertificates = \"/etc/certs\"\n", ""));
    assert!(wildcard("[acme.on_demand]\nallow = \"*.lockring.org\"\n", ""));
    assert!(read("[sites]\n\"*.app.localhost\" = \"demo\"\n").is_ok());
}

#[test]
fn providers_are_read_whole() {
    let text = "[dns.corp]\nserver = \"NS1.lockring.org\"\nzone = \"Lockring.org.\"\n\
                key = { name = \"ACME_key.\", algorithm = \"hmac-sha512\", secret = \"file:tsig\" }\n\
                propagation = \"wait 30s\"\npropagation_timeout = \"1m\"\nresolvers = [\"192.0.2.53\", \"[::1]:5353\"]\n\
                [dns.six]\nserver = \"[2001:db8::1]:5300\"\npropagation = \"none\"\n\
                [dns.hook]\nexec = [\"./hook\", \"a b\"]\nraw = true\ntimeout = \"10s\"\n\
                [sites]\na = { to = \"demo\", acme = { dns = \"corp\" } }\nb = { to = \"demo\", acme = { dns = \"six\" } }\n\
                c = { to = \"demo\", acme = { dns = \"hook\" } }\n";
    let loaded = good(text);
    let provider = |site: usize| loaded.model.sites[site].acme.as_ref().unwrap().dns.clone().unwrap();
    let DnsMeans::Update { server, zone, key } = &provider(0).means else { panic!("updates") };
    assert_eq!((server.as_str(), zone.as_deref()), ("ns1.lockring.org:53", Some("lockring.org")));
    let key = key.as_ref().unwrap();
    assert_eq!((key.name.as_str(), key.algorithm), ("acme_key", TsigAlgorithm::HmacSha512));
    assert_eq!(key.secret, Secret::File("etc/tsig".into()));
    assert_eq!(provider(0).propagation, Propagation::Wait(Duration::from_secs(30)));
    assert_eq!(provider(0).resolvers, ["192.0.2.53:53".parse().unwrap(), "[::1]:5353".parse().unwrap()]);
    let DnsMeans::Update { server, key: None, .. } = &provider(1).means else { panic!("unsigned updates") };
    assert_eq!((server.as_str(), provider(1).propagation), ("[2001:db8::1]:5300", Propagation::None));
    let expected = DnsMeans::Exec {
        command: vec!["etc/./hook".into(), "a b".into()],
        raw: true,
        timeout: Duration::from_secs(10),
    };
    assert_eq!(provider(2).means, expected);
    let places: Vec<_> = loaded.places.secrets.iter().map(|place| place.form).collect();
    assert_eq!((places, loaded.places.programs.len()), (vec![SecretForm::Base64], 1));
}

#[test]
fn what_holds_for_the_process() {
    let text = "[acme]\nca_file = \"ca.pem\"\nscheduling = \"idle\"\nhook = [\"notify\", \"x\"]\nexport = \"/srv/c\"\n\
                on_expired = \"refuse\"\nrequest_timeout = \"5s\"\n\
                [acme.on_demand]\nask = \"http://127.0.0.1/ask\"\nallow = [\"*.lockring.org\"]\nper_hour = 3\ntotal = 9\n\
                ask_timeout = \"1s\"\n[sites]\n\"*.app.localhost\" = \"demo\"\n";
    let acme: Acme = good(text).model.acme;
    assert_eq!(acme.ca_file.as_deref(), Some(Path::new("etc/ca.pem")));
    assert_eq!((acme.scheduling, acme.serve_expired), (Scheduling::Idle, false));
    assert_eq!(acme.hook.unwrap(), ["notify", "x"]);
    assert_eq!(acme.export.as_deref(), Some(Path::new("/srv/c")));
    assert_eq!(acme.request_timeout, Duration::from_secs(5));
    let demand = acme.on_demand.unwrap();
    assert_eq!((demand.per_hour, demand.total, demand.ask_timeout.as_secs()), (3, 9, 1));
    assert_eq!(demand.allow, [HostPattern::Wildcard("lockring.org".into())]);
    assert_eq!(demand.ask.as_deref(), Some("http://127.0.0.1/ask"));
}

#[test]
fn a_table_written_in_two_files_is_a_conflict() {
    let text = "include = \"more.toml\"\n[dns.corp]\nserver = \"ns\"\n[sites]\na = \"demo\"\n";
    let found = read(text).unwrap_err();
    assert!(found.contains("E005") && found.contains("[dns.corp] is set in two files"), "{found}");
    let found = good("include = \"more.toml\"\n[sites]\na = { to = \"demo\", acme = { dns = \"corp\" } }\n");
    assert!(found.model.sites[0].acme.as_ref().unwrap().dns.is_some(), "read from the other file");
}

#[test]
fn alike_policies_are_one_and_many_sites_are_read_quickly() {
    let site =
        |n: usize| format!("\"a{n}.lockring.org\" = {{ to = \"demo\", acme = {{ key = \"p384\" }} }}\n");
    let text = format!("[sites]\n{}", (0..1000).map(site).collect::<String>());
    let found = policies(&text);
    let first = found[0].as_ref().unwrap();
    assert!(found.iter().flatten().all(|policy| Arc::ptr_eq(policy, first)));
}

#[test]
fn a_secret_in_the_clear_is_shown_nowhere() {
    let inline = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajV";
    let text =
        format!("[acme]\neab = {{ kid = \"k\", hmac = \"{inline}\", x = 1 }}\n[sites]\na = \"demo\"\n");
    let found = load(Source { name: "f".into(), text }, &Nothing).unwrap_err();
    assert!(found.len() > 1, "another mistake stands on the same line");
    assert!(!format!("{found:?}{}{}", render::text(&found), render::json(&found)).contains(inline));
}

#[test]
fn every_prefix_gives_an_answer() {
    let text = include_str!("../../tests/data/config/acme_good.toml");
    for cut in 0..text.len() {
        super::fuzz(&text.as_bytes()[..cut]);
        super::fuzz([&text.as_bytes()[..cut], b"]", &text.as_bytes()[cut..]].concat().as_slice());
    }
}
