//! `lockring-dns`: writes DNS-01 records through the APIs of DNS providers. Lockring calls it as a hook,
//! `exec = ["lockring-dns", "cloudflare"]`, so that tokens and HTTP clients of providers stay out of the
//! process that holds the keys of certificates. It is called as lego calls a hook, too.

mod credentials;
mod providers;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use dns_update::{DnsRecord, DnsRecordType};
use lockring::acme::dns::{Name, Resolver};

use credentials::Credentials;
use providers::{PROVIDERS, Provider};

const USAGE: &str = "\
lockring-dns [--env FILE] [--zone ZONE] [--resolver ADDRESS:PORT] PROVIDER present|cleanup FQDN VALUE
lockring-dns --list

  --env FILE     credentials as NAME=VALUE lines; only its owner may read it (mode 0600). Also by the
                 variable LOCKRING_DNS_ENV. What it lacks is taken from the environment, by NAME or LOCKRING_NAME
  --zone ZONE    the zone of the record, also by LOCKRING_DNS_ZONE; otherwise it is looked up
  --resolver A   name server for that, instead of those of the system
  --list         the providers with their variables; those in brackets may be missing
";
/// Seconds that a record may be kept: some providers take no less.
const TTL: u32 = 120;
/// Time for everything; lockring kills a hook after two minutes unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(100);

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
struct Job {
    env: Option<PathBuf>,
    zone: Option<String>,
    resolver: Option<std::net::SocketAddr>,
    provider: String,
    remove: bool,
    fqdn: String,
    value: String,
}

/// What the arguments ask for; `None`: something that [`USAGE`] does not have.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    List,
    Help,
    Job(Job),
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Some(Asked::List) => {
            print!("{}", list());
            ExitCode::SUCCESS
        }
        Some(Asked::Help) => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        Some(Asked::Job(job)) => match run(job) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("lockring-dns: {error}");
                ExitCode::FAILURE
            }
        },
        None => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Asked> {
    let mut job = Job {
        env: None,
        zone: None,
        resolver: None,
        provider: String::new(),
        remove: false,
        fqdn: String::new(),
        value: String::new(),
    };
    job.provider = loop {
        match arguments.next()?.as_str() {
            "--list" => return Some(Asked::List),
            "--help" | "-h" => return Some(Asked::Help),
            "--env" => job.env = Some(arguments.next()?.into()),
            "--zone" => job.zone = Some(arguments.next()?),
            "--resolver" => job.resolver = Some(arguments.next()?.parse().ok()?),
            option if option.starts_with('-') => return None,
            provider => break provider.to_owned(),
        }
    };
    job.remove = match arguments.next()?.as_str() {
        "present" => false,
        "cleanup" => true,
        _ => return None,
    };
    job.fqdn = arguments.next()?;
    job.value = arguments.next()?;
    arguments.next().is_none().then_some(Asked::Job(job))
}

fn list() -> String {
    let line = |provider: &Provider| {
        let taken = provider.taken.iter().map(|name| format!("[{name}]"));
        let all: Vec<String> = provider.needed.iter().map(|name| (*name).to_owned()).chain(taken).collect();
        format!("{:<14}{}\n", provider.word, all.join(" "))
    };
    PROVIDERS.iter().map(line).collect()
}

fn run(job: Job) -> Result<(), String> {
    let provider = Provider::find(&job.provider)
        .ok_or_else(|| format!("no provider {:?}; see lockring-dns --list", job.provider))?;
    let file = job.env.clone().or_else(|| std::env::var_os("LOCKRING_DNS_ENV").map(PathBuf::from));
    let names = [provider.needed, provider.taken].concat();
    let credentials = Credentials::load(file.as_deref(), &names).map_err(|error| error.to_string())?;
    credentials.require(provider.needed).map_err(|error| format!("{}: {error}", provider.word))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let work = async { tokio::time::timeout(TIMEOUT, write(&job, provider, &credentials)).await };
    let done = runtime.block_on(work);
    done.unwrap_or_else(|_| Err(format!("{} did not answer within {} s", provider.word, TIMEOUT.as_secs())))
}

async fn write(job: &Job, provider: &Provider, credentials: &Credentials) -> Result<(), String> {
    let name = Name::parse(&job.fqdn).map_err(|error| format!("{:?} is no name: {error}", job.fqdn))?;
    let zone = zone(job, &name).await?;
    // What a provider says may repeat what it was told.
    let failed = |error: dns_update::Error| {
        let text = format!("{}, zone {zone}: {error}", provider.word);
        credentials.redact(&text).escape_debug().to_string()
    };
    let updater = (provider.make)(credentials).map_err(failed)?;
    let (name, origin) = (plain(&name), plain(&zone));
    let records = vec![DnsRecord::TXT(job.value.clone())];
    let written = if job.remove {
        match updater.remove_from_rrset(&name, DnsRecordType::TXT, records, &origin).await {
            // What is not there need not be taken away.
            Err(dns_update::Error::NotFound) => Ok(()),
            other => other,
        }
    } else {
        updater.add_to_rrset(&name, DnsRecordType::TXT, TTL, records, &origin).await
    };
    written.map_err(failed)
}

/// The zone that is given, or the one that name servers tell.
async fn zone(job: &Job, name: &Name) -> Result<Name, String> {
    let given = job.zone.clone().or_else(|| std::env::var("LOCKRING_DNS_ZONE").ok());
    if let Some(given) = given {
        let zone = Name::parse(&given).map_err(|error| format!("{given:?} is no zone: {error}"))?;
        let fits = name.is_within(&zone);
        return if fits { Ok(zone) } else { Err(format!("{name} is not in the zone {zone}")) };
    }
    let resolver = job.resolver.map_or_else(Resolver::system, |server| Resolver::new(&[server]));
    resolver.soa(name).await.map(|zone| zone.name).map_err(|error| error.to_string())
}

/// Without its final dot, as providers have names.
fn plain(name: &Name) -> String {
    name.to_string().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Asked, Job, list, parse, run};

    fn asked(line: &str) -> Option<Asked> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    fn job(line: &str) -> Job {
        match asked(line) {
            Some(Asked::Job(job)) => job,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn it_is_called_as_lego_calls_a_hook() {
        let found = job("cloudflare present _acme-challenge.a.example. value");
        assert_eq!(
            (found.remove, found.fqdn.as_str(), found.value.as_str()),
            (false, "_acme-challenge.a.example.", "value")
        );
        let found = job("--zone example --env /etc/x --resolver 127.0.0.1:53 pdns cleanup a v");
        assert!(found.remove && found.env.is_some() && found.resolver.is_some());
        assert_eq!((found.zone.as_deref(), found.provider.as_str()), (Some("example"), "pdns"));
        // A value may begin with a dash, which base64url has.
        assert_eq!(job("pdns present a -v").value, "-v");
    }

    #[test]
    fn anything_else_is_refused() {
        for line in [
            "",
            "pdns",
            "pdns present",
            "pdns present a",
            "pdns present a b c",
            "pdns remove a b",
            "--x pdns present a b",
            "--resolver x pdns present a b",
            "--zone",
        ] {
            assert_eq!(asked(line), None, "{line}");
        }
        assert_eq!(asked("--list"), Some(Asked::List));
        assert_eq!(asked("--help"), Some(Asked::Help));
    }

    #[test]
    fn providers_are_listed_with_their_variables() {
        let list = list();
        assert!(list.contains("\ncloudflare    CLOUDFLARE_DNS_API_TOKEN\n"), "{list}");
        assert!(list.contains("\npdns          PDNS_API_KEY [PDNS_API_URL] [PDNS_SERVER_NAME]\n"), "{list}");
    }

    #[test]
    fn what_cannot_work_says_why() {
        let fails = |line: &str| run(job(line)).unwrap_err();
        assert!(fails("nobody present a.example v").contains("--list"));
        assert!(fails("cloudflare present a.example v").ends_with("not set: CLOUDFLARE_DNS_API_TOKEN"));
        assert!(fails("--env /nowhere/env pdns present a.example v").contains("/nowhere/env"));
    }
}
