//! The room as a whole, over files in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::model::{AccessLog, HostPattern, PathPattern, Secret, SiteTls, Upstream, Workers};
use super::reference::{self, Kind, options};
use super::*;

#[derive(Default)]
struct Memory {
    files: BTreeMap<PathBuf, String>,
    env: BTreeMap<&'static str, &'static str>,
    root: bool,
}

impl Files for Memory {
    fn read(&self, path: &Path) -> Result<String, String> {
        self.files.get(path).cloned().ok_or_else(|| "no such file".to_owned())
    }

    fn glob(&self, pattern: &str, base: &Path) -> Result<Vec<PathBuf>, String> {
        let Some((front, back)) = pattern.split_once('*') else { return Ok(vec![base.join(pattern)]) };
        let front = base.join(front).display().to_string();
        let matching = |path: &&PathBuf| {
            let path = path.display().to_string();
            path.starts_with(&front) && path.ends_with(back)
        };
        Ok(self.files.keys().filter(matching).cloned().collect())
    }

    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).map(|value| (*value).to_owned())
    }

    fn is_root(&self) -> bool {
        self.root
    }
}

fn source(text: &str) -> Source {
    Source { name: "etc/lockring.toml".into(), text: text.into() }
}

fn good(text: &str) -> Loaded {
    load(source(text), &Memory::default()).unwrap_or_else(|found| panic!("{}", render::text(&found)))
}

fn codes(text: &str) -> Vec<String> {
    codes_with(text, &Memory::default())
}

fn codes_with(text: &str, files: &Memory) -> Vec<String> {
    let found = match load(source(text), files) {
        Ok(loaded) => loaded.warnings,
        Err(found) => found,
    };
    found.iter().map(|d| format!("{} {}", d.code.id(), d.place)).collect()
}

const FULL: &str = r#"
email = "ops@example.com"

[server]
https = ["[::1]:8443"]
http = "127.0.0.1:8080"
workers = "0-1"
default_site = "app.example.com"
trusted_proxies = ["10.0.0.0/8"]
proxy_protocol = true

[limits]
body = "10MiB"

[timeouts]
first_byte = "90s"

[log]
access = "log/access"

[sites]
"app.example.com" = "127.0.0.1:8000"

[sites."api.example.com"]
to = ["unix:/run/api.sock", "10.0.0.7:9000"]
redirect = false
[[sites."api.example.com".route]]
path = "/static/*"
to = "127.0.0.1:8080"

[sites."*.example.org"]
to = "https://backend"
tls = [{ cert = "/etc/ssl/ex.pem", key = "ex.key" }]
"#;

#[test]
fn a_full_configuration_means_what_it_says() {
    // The upstream 127.0.0.1:8080 is the plain listener here.
    let loaded = good(&FULL.replace("to = \"127.0.0.1:8080\"", "to = \"127.0.0.1:8081\""));
    let model = &loaded.model;
    assert_eq!(model.server.https, ["[::1]:8443".parse().unwrap()]);
    assert_eq!(model.server.workers, Workers::Cpus(vec![0, 1]));
    assert!(model.server.proxy_protocol && model.server.https_given);
    assert_eq!(model.limits.body, Some(10 << 20));
    assert_eq!(model.timeouts.first_byte.as_secs(), 90);
    assert_eq!(model.log.access, AccessLog::File("etc/log/access".into()));
    let hosts: Vec<String> = model.sites.iter().map(|site| site.host.to_string()).collect();
    assert_eq!(hosts, ["app.example.com", "api.example.com", "*.example.org"]);
    let api = &model.sites[1];
    assert_eq!(api.index, 1);
    assert!(!api.redirect && model.sites[0].redirect);
    assert_eq!(api.routes[0].path, PathPattern::Prefix("/static/".into()));
    assert_eq!(api.routes[1].path, PathPattern::Prefix("/".into()));
    assert_eq!(api.routes[1].to[0], Upstream::Unix("/run/api.sock".into()));
    let SiteTls::Files(pairs) = &model.sites[2].tls else { panic!("files were named") };
    assert_eq!(pairs[0].key, Secret::File("etc/ex.key".into()));
    assert!(loaded.warnings.is_empty());
}

#[test]
fn places_run_beside_the_model() {
    let loaded = good("[sites.a]\nto = [\":1\", \":2\"]\ntls = { cert = \"c\", key = \"k\" }\n");
    assert_eq!(loaded.places.https.len(), loaded.model.server.https.len());
    let site = &loaded.places.sites[0];
    assert_eq!((site.pairs.len(), site.routes.len(), site.routes[0].to.len()), (1, 1, 2));
    let place = site.routes[0].to[1].place(&loaded.sources);
    assert_eq!(place.to_string(), "etc/lockring.toml:2:13");
}

#[test]
fn a_key_is_a_file_or_a_variable() {
    let key = |text: &str| {
        let loaded = good(&format!("[sites.a]\nto = \"demo\"\ntls = {{ cert = \"c\", key = \"{text}\" }}\n"));
        let SiteTls::Files(pairs) = &loaded.model.sites[0].tls else { panic!("files were named") };
        (pairs[0].key.clone(), pairs[0].key.to_string())
    };
    for written in ["a.key", "file:a.key"] {
        assert_eq!(key(written), (Secret::File("etc/a.key".into()), "etc/a.key".to_owned()));
    }
    assert_eq!(key("file:/a.key").0, Secret::File("/a.key".into()));
    assert_eq!(key("env:A_KEY"), (Secret::Env("A_KEY".to_owned()), "env:A_KEY".to_owned()));
    let refused = |tls: &str| codes(&format!("[sites.a]\nto = \"demo\"\ntls = {{ {tls} }}\n")).join(", ");
    assert_eq!(refused("cert = \"c\", key = \"env:\""), "E032 etc/lockring.toml:3:27");
    assert_eq!(refused("cert = \"env:C\", key = \"k\""), "E016 etc/lockring.toml:3:16");
    assert_eq!(refused("cert = \"c\", key = \"file:~/k\""), "E016 etc/lockring.toml:3:27");
}

#[test]
fn the_model_and_the_printed_configuration_hold_no_secret() {
    let files = Memory { env: BTreeMap::from([("A_KEY", "hunter2")]), ..Memory::default() };
    let text = "[sites.a]\nto = \"demo\"\ntls = { cert = \"c\", key = \"env:A_KEY\" }\n";
    let shown = format!("{:?}", load(source(text), &files).unwrap());
    assert!(shown.contains("A_KEY") && !shown.contains("hunter2"), "{shown}");
    let sites = vec!["a=demo".to_owned()];
    let arguments = ProxyArguments { sites, state: Some("env:A_KEY".into()), ..ProxyArguments::default() };
    let (_, printed) = from_arguments(&arguments, &files).unwrap();
    assert!(printed.contains("env:A_KEY") && !printed.contains("hunter2"), "{printed}");
}

/// Whether an option needs no others beside it; `acme_tests` shows those that do.
fn stands_alone(option: &&'static reference::Reference) -> bool {
    let together = ["HOST", "NAME", "eab", "acme.directory.", "acme.on_demand", "acme.dns"];
    !together.iter().any(|word| option.name.contains(word))
}

#[test]
fn defaults_are_those_of_the_table() {
    let plain = format!("{:?}", good("[sites]\na = \"demo\"").model);
    for option in options().filter(|o| !o.default.is_empty() && stands_alone(o)) {
        let text = match option.name.rsplit_once('.') {
            Some((section, key)) => format!("[sites]\na = \"demo\"\n[{section}]\n{key} = {}", option.default),
            None => format!("{} = {}\n[sites]\na = \"demo\"", option.name, option.default),
        };
        let mut loaded = good(&text);
        let server = std::sync::Arc::new(&mut loaded.model.server);
        if let Some(server) = std::sync::Arc::into_inner(server) {
            (server.https_given, server.http_given) = (false, false);
        }
        assert_eq!(format!("{:?}", loaded.model), plain, "{}", option.name);
    }
}

#[test]
fn examples_of_the_table_load_and_change_the_model() {
    let plain = format!("{:?}", good("[sites]\n\"app.example.com\" = \"demo\"").model);
    for option in options().filter(|o| !o.example.is_empty() && stands_alone(o)) {
        let site = "[sites]\n\"app.example.com\" = \"demo\"";
        let text = match option.name.rsplit_once('.') {
            Some((section, key)) => format!("{site}\n[{section}]\n{key} = {}", option.example),
            None => format!("{} = {}\n{site}", option.name, option.example),
        };
        let same = format!("{:?}", good(&text).model) == plain;
        let may_be_same = matches!(option.name, "include" | "log.format" | "server.proxy_protocol");
        assert!(may_be_same || !same, "{} does nothing", option.name);
    }
}

#[test]
fn bounds_are_held_at_both_ends() {
    for option in options().filter(stands_alone) {
        let (low, high, below, above) = match option.kind {
            Kind::Count(low, high) => {
                (low.to_string(), high.to_string(), (low - 1).to_string(), (high + 1).to_string())
            }
            Kind::Duration(low, high) => {
                let show = |ms: u64| format!("\"{ms}ms\"");
                (
                    show(low),
                    show(high),
                    low.checked_sub(1).map(show).unwrap_or("\"-1ms\"".into()),
                    show(high + 1),
                )
            }
            _ => continue,
        };
        let (section, key) = option.name.rsplit_once('.').unwrap();
        let with = |value: &str| codes(&format!("[sites]\na = \"demo\"\n[{section}]\n{key} = {value}"));
        assert_eq!(with(&low).len() + with(&high).len(), 0, "{}", option.name);
        assert_eq!((with(&below).len(), with(&above).len()), (1, 1), "{}", option.name);
    }
}

#[test]
fn the_state_directory_follows_the_user() {
    let state = |files: &Memory| load(source("[sites]\na = \"demo\""), files).unwrap().model.server.state;
    let env = BTreeMap::from([("XDG_STATE_HOME", "/x"), ("HOME", "/h")]);
    assert_eq!(
        state(&Memory { root: true, env: env.clone(), ..Memory::default() }),
        Path::new("/var/lib/lockring")
    );
    assert_eq!(state(&Memory { env, ..Memory::default() }), Path::new("/x/lockring"));
    let home = BTreeMap::from([("HOME", "/h"), ("XDG_STATE_HOME", "relative")]);
    assert_eq!(state(&Memory { env: home, ..Memory::default() }), Path::new("/h/.local/state/lockring"));
}

#[test]
fn included_files_join_the_main_one() {
    let files = Memory {
        files: BTreeMap::from([
            ("etc/sites/a.toml".into(), "[sites]\n\"a.example\" = \":1\"\n".to_owned()),
            ("etc/sites/b.toml".into(), "[sites.\"b.example\"]\nto = \"unix:b.sock\"\n".to_owned()),
        ]),
        ..Memory::default()
    };
    let loaded =
        load(source("include = [\"sites/*.toml\", \"sites/a.toml\"]\n[sites]\nc = \"demo\""), &files);
    let loaded = loaded.unwrap();
    let hosts: Vec<String> = loaded.model.sites.iter().map(|site| site.host.to_string()).collect();
    assert_eq!(hosts, ["c", "a.example", "b.example"]);
    assert_eq!(loaded.model.sites[2].routes[0].to[0], Upstream::Unix("etc/sites/b.sock".into()));
    assert_eq!(loaded.sources.len(), 3);
}

#[test]
fn errors_of_all_files_show_in_one_run() {
    let files = Memory {
        files: BTreeMap::from([
            (
                "etc/a.toml".into(),
                "include = \"x\"\n[server]\nhttps = \":1\"\n[sites]\nA = \":1\"\n".to_owned(),
            ),
            ("etc/b.toml".into(), "[sites\n".to_owned()),
        ]),
        ..Memory::default()
    };
    let text = "include = [\"a.toml\", \"b.toml\", \"c.toml\", \"d/*\"]\n[server]\nhttps = \"x\"\n[sites]\na = \":2\"\n";
    assert_eq!(
        codes_with(text, &files),
        [
            "E001 etc/lockring.toml:1:32",
            "W003 etc/lockring.toml:1:42",
            "E011 etc/lockring.toml:3:9",
            "E018 etc/a.toml:1:1",
            "E005 etc/a.toml:3:1",
            "E019 etc/a.toml:5:1",
            "E002 etc/b.toml:1:7",
        ]
    );
}

#[test]
fn nothing_is_said_of_what_a_broken_text_may_hold() {
    assert_eq!(codes("[sites]\n\"a\" = :8000\n"), ["E002 etc/lockring.toml:2:7"]);
    assert_eq!(codes(""), ["E024 etc/lockring.toml"]);
}

#[test]
fn every_prefix_and_every_lost_byte_gives_an_answer() {
    for cut in (0..FULL.len()).filter(|cut| FULL.is_char_boundary(*cut)) {
        let prefix = &FULL[..cut];
        let lost = format!("{prefix}{}", FULL[cut..].chars().skip(1).collect::<String>());
        let odd = format!("{prefix}]{}", &FULL[cut..]);
        for text in [prefix, &lost, &odd] {
            fuzz(text.as_bytes());
        }
    }
}

#[test]
fn arguments_are_the_toml_they_print() {
    let arguments = ProxyArguments {
        sites: [
            "app.example.com=:8000",
            "[::1]:9000",
            "app.example.com=8001",
            "unix:/run/a=b.sock",
            "x=demo",
        ]
        .map(str::to_owned)
        .to_vec(),
        https: vec![":8443".into()],
        state: Some("a \"b\"\\".into()),
        workers: Some("2".into()),
        acme: Some("https://ca.internal/dir".into()),
        acme_ca_file: Some("ca.pem".into()),
        email: Some("ops@example.com".into()),
        ..ProxyArguments::default()
    };
    let (loaded, text) = from_arguments(&arguments, &Memory::default()).unwrap();
    let again = load(Source { name: "lockring.toml".into(), text }, &Memory::default()).unwrap();
    assert_eq!(format!("{:?}", loaded.model), format!("{:?}", again.model));
    let hosts: Vec<_> = loaded.model.sites.iter().map(|site| site.host.to_string()).collect();
    assert_eq!(hosts, ["app.example.com", "localhost", "x"]);
    assert_eq!(loaded.model.sites[0].routes[0].to.len(), 2);
    assert_eq!(loaded.model.sites[1].host, HostPattern::Exact("localhost".into()));
    assert_eq!(loaded.model.server.workers, Workers::Count(2));
    assert_eq!(loaded.model.server.state, Path::new("a \"b\"\\"));
    let policy = loaded.model.sites[0].acme.as_ref().unwrap();
    assert_eq!(policy.authorities[0].directory, "https://ca.internal/dir");
    assert_eq!(policy.email.as_deref(), Some("ops@example.com"));
    assert_eq!(loaded.model.acme.ca_file.as_deref(), Some(Path::new("ca.pem")));
}

#[test]
fn hostile_arguments_are_refused_with_a_place() {
    for hostile in ["a=b\"\n[server]\nhttps = []#", "=", "\u{7f}\0=:1", "a=", ""] {
        let arguments = ProxyArguments { sites: vec![hostile.to_owned()], ..ProxyArguments::default() };
        let found = from_arguments(&arguments, &Memory::default()).unwrap_err();
        assert!(found.iter().all(|d| d.place.line == 2), "{}", render::text(&found));
    }
    for workers in ["0", "99999999999999999999", "x", "", "0,"] {
        let arguments = ProxyArguments {
            sites: vec!["demo".into()],
            workers: Some(workers.into()),
            ..ProxyArguments::default()
        };
        assert!(from_arguments(&arguments, &Memory::default()).is_err(), "{workers}");
    }
}
