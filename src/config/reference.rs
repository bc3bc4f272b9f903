//! The one table of options. Parser, type checks, bounds, suggestions and the printed reference come from it.
//! `HOST` in a name stands for any host, `NAME` for any name.

mod acme;

/// What kind of value an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A string or an array of strings.
    Texts,
    /// `true` or `false`.
    Flag,
    /// A whole number within these bounds.
    Count(i64, i64),
    /// A size within these bounds in bytes.
    Size(u64, u64),
    /// A size within these bounds in bytes, or `none`.
    SizeOrNone(u64, u64),
    /// A duration within these bounds in milliseconds.
    Duration(u64, u64),
    /// A count of workers or a CPU list.
    Workers,
    /// A table with options of its own.
    Table,
    /// A table from hosts to a string, an array of strings or a table.
    Sites,
    /// A table or an array of tables, with options of its own.
    Tables,
    /// A table from names to tables; the options of one lie below `NAME`.
    Named,
    /// A table with options of its own, or `false`.
    TableOrOff,
    /// A string, or an array of strings and tables with options of their own.
    Authorities,
}

impl Kind {
    /// What to write, as the end of a sentence.
    #[must_use]
    pub const fn wants(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Texts => "a string or an array of strings",
            Self::Flag => "true or false",
            Self::Count(..) => "a whole number",
            Self::Size(..) | Self::SizeOrNone(..) => "a size in quotes, such as \"64KiB\"",
            Self::Duration(..) => "a duration in quotes, such as \"30s\"",
            Self::Workers => "a whole number, or a CPU list in quotes, such as \"0-3\"",
            Self::Table => "a table",
            Self::Sites => "an upstream in quotes, an array of them, or a table",
            Self::Tables => "a table or an array of tables",
            Self::Named => "a table with a name, such as [dns.corp]",
            Self::TableOrOff => "a table, or false",
            Self::Authorities => "a string, or an array of strings and of tables { url, eab }",
        }
    }
}

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    /// Full name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds when it is not written, as TOML; empty if nothing does.
    pub default: &'static str,
    /// A value to show, as TOML.
    pub example: &'static str,
    /// One line on what it does.
    pub doc: &'static str,
}

const fn option(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    example: &'static str,
    doc: &'static str,
) -> Reference {
    Reference { name, kind, default, example, doc }
}

/// Longest that a phase may make no progress: a day.
const DAY: u64 = 24 * 3600 * 1000;
/// Shorter than the step of the deadline wheel would fire at random.
const STEP: u64 = 100;

/// Every option, section by section.
pub fn options() -> impl Iterator<Item = &'static Reference> {
    OPTIONS.iter().chain(acme::ACME)
}

static OPTIONS: &[Reference] = &[
    option("email", Kind::Text, "", "\"ops@example.com\"", "contact address for certificate authorities"),
    option(
        "include",
        Kind::Texts,
        "[]",
        "[\"sites/*.toml\"]",
        "files read as if written here; `*` and `?` match",
    ),
    option("server", Kind::Table, "", "", "listeners and process-wide choices"),
    option(
        "server.https",
        Kind::Texts,
        "[\":443\"]",
        "[\"127.0.0.1:8443\"]",
        "TLS listeners; `:PORT` is IPv6 and IPv4",
    ),
    option("server.http", Kind::Texts, "[\":80\"]", "[\"127.0.0.1:8080\"]", "plain listeners"),
    option("server.workers", Kind::Workers, "\"auto\"", "\"0-3\"", "worker count, or the CPUs that get one"),
    option("server.state", Kind::Text, "", "\"/srv/lockring\"", "directory of certificates and the local CA"),
    option("server.admin", Kind::Text, "", "\"/run/lockring.sock\"", "path of the admin socket"),
    option(
        "server.trusted_proxies",
        Kind::Texts,
        "[]",
        "[\"10.0.0.0/8\"]",
        "peers whose forwarding fields are believed",
    ),
    option(
        "server.proxy_protocol",
        Kind::Flag,
        "false",
        "false",
        "trusted peers send a PROXY protocol prefix",
    ),
    option(
        "server.default_site",
        Kind::Text,
        "",
        "\"app.example.com\"",
        "site for clients that send no server name",
    ),
    option(
        "server.certificates",
        Kind::Text,
        "",
        "\"/etc/lockring/certs\"",
        "directory of NAME.pem and NAME.key pairs",
    ),
    option("server.forwarded", Kind::Flag, "false", "true", "send `Forwarded` beside `X-Forwarded-*`"),
    option("server.underscores", Kind::Flag, "false", "true", "pass on fields with `_` in their names"),
    option("tls", Kind::Table, "", "", "TLS of all sites"),
    option(
        "tls.records",
        Kind::Text,
        "\"own\"",
        "\"rustls\"",
        "what carries clients' records: `own`, or `rustls`, slower, to compare with",
    ),
    option("limits", Kind::Table, "", "", "bounds on what peers may send"),
    option(
        "limits.connections",
        Kind::Count(1, 1 << 24),
        "65536",
        "1000",
        "client connections of one worker",
    ),
    option(
        "limits.head",
        Kind::Size(1024, 64 << 10),
        "\"32KiB\"",
        "\"16KiB\"",
        "bytes of a request or response head",
    ),
    option("limits.target", Kind::Size(256, 64 << 10), "\"8KiB\"", "\"4KiB\"", "bytes of a request-target"),
    option("limits.fields", Kind::Count(8, 4096), "128", "64", "field lines of a head"),
    option("limits.body", Kind::SizeOrNone(0, u64::MAX), "\"none\"", "\"10MiB\"", "bytes of a request body"),
    option(
        "limits.pool_idle",
        Kind::Count(0, 1 << 16),
        "256",
        "32",
        "idle connections kept per upstream and worker",
    ),
    option(
        "limits.upstream_connections",
        Kind::Count(1, 1 << 20),
        "4096",
        "100",
        "connections open per upstream and worker",
    ),
    option("timeouts", Kind::Table, "", "", "how long each phase may make no progress"),
    option(
        "timeouts.hello",
        Kind::Duration(STEP, DAY),
        "\"10s\"",
        "\"5s\"",
        "from accept to a whole ClientHello",
    ),
    option(
        "timeouts.handshake",
        Kind::Duration(STEP, DAY),
        "\"10s\"",
        "\"5s\"",
        "from ClientHello to handshake end",
    ),
    option(
        "timeouts.head",
        Kind::Duration(STEP, DAY),
        "\"15s\"",
        "\"5s\"",
        "from the first byte of a head to its end",
    ),
    option(
        "timeouts.body",
        Kind::Duration(STEP, DAY),
        "\"30s\"",
        "\"1m\"",
        "between pieces of a request body",
    ),
    option("timeouts.idle", Kind::Duration(STEP, DAY), "\"75s\"", "\"5m\"", "between requests of a client"),
    option("timeouts.connect", Kind::Duration(STEP, DAY), "\"5s\"", "\"500ms\"", "connecting to an upstream"),
    option(
        "timeouts.first_byte",
        Kind::Duration(STEP, DAY),
        "\"1m\"",
        "\"2m\"",
        "from request to first response byte",
    ),
    option(
        "timeouts.between_bytes",
        Kind::Duration(STEP, DAY),
        "\"2m\"",
        "\"30s\"",
        "between pieces of a response",
    ),
    option(
        "timeouts.write",
        Kind::Duration(STEP, DAY),
        "\"30s\"",
        "\"10s\"",
        "while the client takes none of the response",
    ),
    option(
        "timeouts.tunnel",
        Kind::Duration(STEP, DAY),
        "\"1h\"",
        "\"10m\"",
        "while neither side of a WebSocket sends",
    ),
    option("timeouts.pool_idle", Kind::Duration(0, DAY), "\"4s\"", "\"1m\"", "idle upstream connections"),
    option(
        "timeouts.drain",
        Kind::Duration(0, DAY),
        "\"30s\"",
        "\"2m\"",
        "from SIGTERM to the end of the last request",
    ),
    option("log", Kind::Table, "", "", "the access log"),
    option(
        "log.access",
        Kind::Text,
        "\"stdout\"",
        "\"/var/log/lockring.log\"",
        "`off`, `stdout` or a path with a `/`",
    ),
    option("log.format", Kind::Text, "\"json\"", "\"json\"", "form of a line; `json` is the one there is"),
    option("metrics", Kind::Table, "", "", "where metrics can be scraped"),
    option(
        "metrics.listen",
        Kind::Texts,
        "[]",
        "[\"127.0.0.1:9090\"]",
        "addresses, or `unix:PATH`, that answer `GET /metrics` in the text format of Prometheus",
    ),
    option("sites", Kind::Sites, "", "", "what each host serves: `\"HOST\" = \"UPSTREAM\"` or a table"),
    option("sites.HOST.to", Kind::Texts, "", "\"127.0.0.1:8000\"", "upstreams of all paths without a route"),
    option("sites.HOST.tls", Kind::Tables, "", "", "certificate files; more than one pair is allowed"),
    option(
        "sites.HOST.tls.cert",
        Kind::Text,
        "",
        "\"/etc/ssl/app.pem\"",
        "PEM file of the chain, leaf first",
    ),
    option(
        "sites.HOST.tls.key",
        Kind::Text,
        "",
        "\"/etc/ssl/app.key\"",
        "PEM text of the private key: a path, `file:PATH`, or `env:NAME` for an environment variable",
    ),
    option(
        "sites.HOST.redirect",
        Kind::Flag,
        "true",
        "false",
        "plain HTTP is redirected; `false` serves it too",
    ),
    option("sites.HOST.route", Kind::Tables, "", "", "upstreams by path; the most specific one wins"),
    option("sites.HOST.route.path", Kind::Text, "", "\"/static/*\"", "one path, or with `/*` all below it"),
    option("sites.HOST.route.to", Kind::Texts, "", "\"127.0.0.1:8080\"", "upstreams of the route"),
];

/// Options of the design that this version does not have: refused like any unknown one, with a better remedy.
pub static LATER: &[&str] = &["server.user", "sites.HOST.health"];

/// The option of this full name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Reference> {
    options().find(|option| option.name == name)
}

/// The last part of each option directly below `section` (`""`: the top).
pub fn names_below(section: &str) -> impl Iterator<Item = &'static str> {
    options().filter_map(move |option| {
        let (parent, name) = option.name.rsplit_once('.').unwrap_or(("", option.name));
        (parent == section).then_some(name)
    })
}

/// Full names of the options whose last part is `name`.
pub fn named(name: &str) -> impl Iterator<Item = &'static str> {
    options().map(|option| option.name).filter(move |full| full.rsplit('.').next() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_lies_in_a_section_of_the_table() {
        for option in options() {
            let (parent, _) = option.name.rsplit_once('.').unwrap_or(("", ""));
            let section = parent.trim_end_matches(".HOST").trim_end_matches(".NAME");
            assert!(section.is_empty() || find(section).is_some(), "{}", option.name);
            assert!(!option.doc.is_empty());
        }
    }

    #[test]
    fn names_are_unique() {
        for option in options() {
            assert_eq!(options().filter(|o| o.name == option.name).count(), 1, "{}", option.name);
            assert!(!LATER.contains(&option.name));
        }
    }
}
