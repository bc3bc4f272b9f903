//! The options of `[acme]`, `[dns.NAME]` and a site's `acme`.

use super::{Kind, Reference, option};

/// The shortest wait for another machine that is not sure to fail on a slow line.
const SECOND: u64 = 1000;
/// Longer waits would hold up the certificates behind them.
const HOUR: u64 = 3600 * SECOND;

const DIRECTORY: &str =
    "authorities: `letsencrypt`, `letsencrypt-staging`, `zerossl`, a URL, or several in order; `off`";
const PROFILE: &str = "certificate profile, by the authority's name for it";
const CHALLENGE: &str = "`tls-alpn-01`, `http-01`, `dns-01`, `dns-persist-01`, or several in order";
const DNS: &str = "the [dns.NAME] that writes the records of `dns-01`";
const KEY: &str = "kind of private key: `p256` or `p384`";
const EAB: &str = "external account of the first authority that asks for one and has none of its own";
const EAB_OWN: &str = "external account at this authority";
const KID: &str = "key identifier of the external account";
const HMAC: &str = "MAC key of the external account in base64url: `env:NAME` or `file:PATH`";
const URL: &str = "an authority: one of the short names, or a URL";

pub(super) static ACME: &[Reference] = &[
    option("acme", Kind::Table, "", "", "certificates from authorities on the network (RFC 8555)"),
    option("acme.directory", Kind::Authorities, "\"letsencrypt\"", "\"letsencrypt-staging\"", DIRECTORY),
    option("acme.directory.url", Kind::Text, "", "\"https://ca.internal/acme/directory\"", URL),
    option("acme.directory.eab", Kind::Table, "", "", EAB_OWN),
    option("acme.directory.eab.kid", Kind::Text, "", "\"kid-1\"", KID),
    option("acme.directory.eab.hmac", Kind::Text, "", "\"env:EAB_HMAC\"", HMAC),
    option(
        "acme.email",
        Kind::Text,
        "",
        "\"ops@example.com\"",
        "contact address; without it that at the top of the file",
    ),
    option("acme.profile", Kind::Text, "", "\"shortlived\"", PROFILE),
    option(
        "acme.ca_file",
        Kind::Text,
        "",
        "\"/etc/ssl/private-ca.pem\"",
        "PEM file of roots for the authorities' own HTTPS, beside those of the system",
    ),
    option(
        "acme.resolvers",
        Kind::Texts,
        "",
        "[\"192.0.2.53\"]",
        "name servers that are asked for addresses and CAA records before an order, instead of those of the system",
    ),
    option("acme.eab", Kind::Table, "", "", EAB),
    option("acme.eab.kid", Kind::Text, "", "\"kid-1\"", KID),
    option("acme.eab.hmac", Kind::Text, "", "\"env:EAB_HMAC\"", HMAC),
    option("acme.challenge", Kind::Texts, "[\"tls-alpn-01\", \"http-01\"]", "\"http-01\"", CHALLENGE),
    option("acme.dns", Kind::Text, "", "\"corp\"", DNS),
    option("acme.key", Kind::Text, "\"p256\"", "\"p384\"", KEY),
    option(
        "acme.scheduling",
        Kind::Text,
        "\"nice\"",
        "\"idle\"",
        "how the thread that renews gives way to workers: `nice`, `idle` or `normal`",
    ),
    option(
        "acme.request_timeout",
        Kind::Duration(SECOND, HOUR),
        "\"1m\"",
        "\"30s\"",
        "from a request to an authority to the end of its answer",
    ),
    option(
        "acme.connect_timeout",
        Kind::Duration(SECOND, HOUR),
        "\"10s\"",
        "\"5s\"",
        "connecting to an authority",
    ),
    option(
        "acme.order_timeout",
        Kind::Duration(SECOND, HOUR),
        "\"2m\"",
        "\"5m\"",
        "from a challenge to its verdict, and from there to the certificate",
    ),
    option(
        "acme.hook",
        Kind::Texts,
        "",
        "[\"/usr/local/bin/certificate-event\"]",
        "program told of events, and its arguments",
    ),
    option(
        "acme.export",
        Kind::Text,
        "",
        "\"/srv/certificates\"",
        "directory given a copy of each new pair, NAME.pem and NAME.key",
    ),
    option(
        "acme.on_expired",
        Kind::Text,
        "\"serve\"",
        "\"refuse\"",
        "while no new certificate can be had: `serve` the expired one or `refuse` clients",
    ),
    option("acme.on_demand", Kind::Table, "", "", "certificates for names that no site lists"),
    option(
        "acme.on_demand.ask",
        Kind::Text,
        "",
        "\"http://127.0.0.1:8000/may-have-certificate\"",
        "URL asked with ?domain=NAME&remote_ip=IP: 200 to 299 allow",
    ),
    option(
        "acme.on_demand.allow",
        Kind::Texts,
        "",
        "[\"*.customers.example\"]",
        "names allowed without asking; `*.` stands for any number of labels",
    ),
    option("acme.on_demand.per_hour", Kind::Count(1, 10_000), "20", "100", "new names in an hour"),
    option("acme.on_demand.total", Kind::Count(1, 1_000_000), "1000", "5000", "names in all"),
    option(
        "acme.on_demand.ask_timeout",
        Kind::Duration(100, 60 * SECOND),
        "\"5s\"",
        "\"2s\"",
        "longest wait for an answer of `ask`",
    ),
    option("dns", Kind::Named, "", "", "how records are written into zones: tables [dns.NAME]"),
    option("dns.NAME.server", Kind::Text, "", "\"ns1.example.com:53\"", "primary server of RFC 2136 updates"),
    option("dns.NAME.zone", Kind::Text, "", "\"example.com\"", "zone; without it found by its SOA record"),
    option("dns.NAME.key", Kind::Table, "", "", "TSIG key (RFC 8945) that signs the updates"),
    option("dns.NAME.key.name", Kind::Text, "", "\"acme.\"", "name of the key"),
    option(
        "dns.NAME.key.algorithm",
        Kind::Text,
        "\"hmac-sha256\"",
        "\"hmac-sha512\"",
        "`hmac-sha256`, `hmac-sha384` or `hmac-sha512`",
    ),
    option(
        "dns.NAME.key.secret",
        Kind::Text,
        "",
        "\"file:/etc/lockring/tsig\"",
        "the key in base64: `env:NAME` or `file:PATH`",
    ),
    option(
        "dns.NAME.exec",
        Kind::Texts,
        "",
        "[\"/usr/local/bin/dns-hook\"]",
        "program called as `PROGRAM present|cleanup NAME VALUE`, and its first arguments",
    ),
    option(
        "dns.NAME.raw",
        Kind::Flag,
        "false",
        "true",
        "`exec` is given domain, token and key authorization instead of name and value",
    ),
    option(
        "dns.NAME.timeout",
        Kind::Duration(SECOND, HOUR),
        "\"2m\"",
        "\"30s\"",
        "after which the program of `exec` is ended",
    ),
    option(
        "dns.NAME.propagation",
        Kind::Text,
        "\"authoritative\"",
        "\"wait 30s\"",
        "who must see a record first: `authoritative` servers, the `resolver`, `none`, or `wait TIME`",
    ),
    option(
        "dns.NAME.propagation_timeout",
        Kind::Duration(SECOND, HOUR),
        "\"2m\"",
        "\"10m\"",
        "longest wait until a record is seen",
    ),
    option(
        "dns.NAME.resolvers",
        Kind::Texts,
        "[]",
        "[\"192.0.2.53\"]",
        "name servers asked instead of those of the system",
    ),
    option("sites.HOST.acme", Kind::TableOrOff, "", "", "as [acme], for this site; `false`: no authority"),
    option("sites.HOST.acme.directory", Kind::Authorities, "", "\"letsencrypt-staging\"", DIRECTORY),
    option("sites.HOST.acme.directory.url", Kind::Text, "", "\"https://ca.internal/acme/directory\"", URL),
    option("sites.HOST.acme.directory.eab", Kind::Table, "", "", EAB_OWN),
    option("sites.HOST.acme.directory.eab.kid", Kind::Text, "", "\"kid-1\"", KID),
    option("sites.HOST.acme.directory.eab.hmac", Kind::Text, "", "\"env:EAB_HMAC\"", HMAC),
    option("sites.HOST.acme.email", Kind::Text, "", "\"ops@example.com\"", "contact address"),
    option("sites.HOST.acme.profile", Kind::Text, "", "\"shortlived\"", PROFILE),
    option("sites.HOST.acme.eab", Kind::Table, "", "", EAB),
    option("sites.HOST.acme.eab.kid", Kind::Text, "", "\"kid-1\"", KID),
    option("sites.HOST.acme.eab.hmac", Kind::Text, "", "\"env:EAB_HMAC\"", HMAC),
    option("sites.HOST.acme.challenge", Kind::Texts, "", "\"http-01\"", CHALLENGE),
    option("sites.HOST.acme.dns", Kind::Text, "", "\"corp\"", DNS),
    option("sites.HOST.acme.key", Kind::Text, "", "\"p384\"", KEY),
    option(
        "sites.HOST.acme.names",
        Kind::Texts,
        "",
        "[\"www.example.com\"]",
        "further names on the same certificate",
    ),
];
