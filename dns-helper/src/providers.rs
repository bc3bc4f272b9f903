//! The providers: the word for each, the variables with its credentials, and how it is made of them.
//! Variables have lego's names where lego has the provider, so that its files can be used as they are.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dns_update::providers::azuredns::{AzureDnsConfig, AzureEnvironment};
use dns_update::providers::google_cloud_dns::GoogleCloudDnsConfig;
use dns_update::providers::route53::Route53Config;
use dns_update::{DnsUpdater, TsigAlgorithm};

use crate::credentials::Credentials;

/// From a request to a provider to the end of its answer.
const TIMEOUT: Option<Duration> = Some(Duration::from_secs(30));

/// One provider.
pub struct Provider {
    /// The word for it.
    pub word: &'static str,
    /// Variables that it needs.
    pub needed: &'static [&'static str],
    /// Variables that it takes.
    pub taken: &'static [&'static str],
    /// Makes it.
    pub make: fn(&Credentials) -> dns_update::Result<DnsUpdater>,
}

impl Provider {
    /// The one that a word names.
    pub fn find(word: &str) -> Option<&'static Self> {
        PROVIDERS.iter().find(|provider| provider.word == word)
    }
}

/// A provider whose constructor takes its variables in their order, and the time-out.
macro_rules! plain {
    ($word:literal, $make:ident, $($needed:literal),+) => {
        Provider {
            word: $word,
            needed: &[$($needed),+],
            taken: &[],
            make: |from| DnsUpdater::$make($(from.get($needed)),+, TIMEOUT),
        }
    };
}

/// The same with variables that need not be there.
macro_rules! optional {
    ($word:literal, $make:ident, $($needed:literal),+; $($taken:literal),+) => {
        Provider {
            word: $word,
            needed: &[$($needed),+],
            taken: &[$($taken),+],
            make: |from| DnsUpdater::$make($(from.get($needed)),+, $(from.find($taken)),+, TIMEOUT),
        }
    };
}

/// All of them, by their words.
pub const PROVIDERS: &[Provider] = &[
    optional!("alidns", new_alidns, "ALICLOUD_ACCESS_KEY", "ALICLOUD_SECRET_KEY"; "ALICLOUD_REGION_ID", "ALICLOUD_SECURITY_TOKEN", "ALICLOUD_LINE"),
    plain!("arvancloud", new_arvancloud, "ARVANCLOUD_API_KEY"),
    Provider {
        word: "azuredns",
        needed: &[
            "AZURE_TENANT_ID",
            "AZURE_CLIENT_ID",
            "AZURE_CLIENT_SECRET",
            "AZURE_SUBSCRIPTION_ID",
            "AZURE_RESOURCE_GROUP",
        ],
        taken: &[],
        make: azure,
    },
    plain!("baiducloud", new_baiducloud, "BAIDUCLOUD_ACCESS_KEY_ID", "BAIDUCLOUD_SECRET_ACCESS_KEY"),
    plain!("bunny", new_bunny, "BUNNY_API_KEY"),
    plain!("cloudflare", new_cloudflare, "CLOUDFLARE_DNS_API_TOKEN"),
    Provider {
        word: "cloudns",
        needed: &["CLOUDNS_AUTH_PASSWORD"],
        taken: &["CLOUDNS_AUTH_ID", "CLOUDNS_SUB_AUTH_ID"],
        make: |from| {
            DnsUpdater::new_cloudns(
                from.find("CLOUDNS_AUTH_ID"),
                from.find("CLOUDNS_SUB_AUTH_ID"),
                from.get("CLOUDNS_AUTH_PASSWORD"),
                TIMEOUT,
            )
        },
    },
    plain!("constellix", new_constellix, "CONSTELLIX_API_KEY", "CONSTELLIX_SECRET_KEY"),
    plain!("cpanel", new_cpanel, "CPANEL_BASE_URL", "CPANEL_USERNAME", "CPANEL_TOKEN"),
    plain!("ddnss", new_ddnss, "DDNSS_KEY"),
    plain!("desec", new_desec, "DESEC_TOKEN"),
    plain!("digitalocean", new_digitalocean, "DO_AUTH_TOKEN"),
    plain!("dnsimple", new_dnsimple, "DNSIMPLE_OAUTH_TOKEN", "DNSIMPLE_ACCOUNT_ID"),
    plain!("dnsmadeeasy", new_dnsmadeeasy, "DNSMADEEASY_API_KEY", "DNSMADEEASY_API_SECRET"),
    plain!("domeneshop", new_domeneshop, "DOMENESHOP_API_TOKEN", "DOMENESHOP_API_SECRET"),
    plain!("dreamhost", new_dreamhost, "DREAMHOST_API_KEY"),
    plain!("duckdns", new_duckdns, "DUCKDNS_TOKEN"),
    plain!("dynu", new_dynu, "DYNU_API_KEY"),
    plain!("easydns", new_easydns, "EASYDNS_TOKEN", "EASYDNS_KEY"),
    plain!("exoscale", new_exoscale, "EXOSCALE_API_KEY", "EXOSCALE_API_SECRET"),
    plain!("freemyip", new_freemyip, "FREEMYIP_TOKEN"),
    plain!("gandiv5", new_gandiv5, "GANDIV5_PERSONAL_ACCESS_TOKEN"),
    Provider {
        word: "gcloud",
        needed: &["GCE_SERVICE_ACCOUNT", "GCE_PROJECT"],
        taken: &["GCE_ZONE_ID"],
        make: google,
    },
    plain!("gcore", new_gcore, "GCORE_PERMANENT_API_TOKEN"),
    plain!("glesys", new_glesys, "GLESYS_API_USER", "GLESYS_API_KEY"),
    plain!("godaddy", new_godaddy, "GODADDY_API_KEY", "GODADDY_API_SECRET"),
    plain!("hetzner", new_hetzner, "HETZNER_API_TOKEN"),
    plain!("hostingde", new_hostingde, "HOSTINGDE_API_KEY"),
    plain!("hostinger", new_hostinger, "HOSTINGER_API_TOKEN"),
    plain!(
        "huaweicloud",
        new_huaweicloud,
        "HUAWEICLOUD_ACCESS_KEY_ID",
        "HUAWEICLOUD_SECRET_ACCESS_KEY",
        "HUAWEICLOUD_REGION"
    ),
    plain!("ibmcloud", new_ibmcloud, "SOFTLAYER_USERNAME", "SOFTLAYER_API_KEY"),
    plain!("infomaniak", new_infomaniak, "INFOMANIAK_ACCESS_TOKEN"),
    Provider {
        word: "inwx",
        needed: &["INWX_USERNAME", "INWX_PASSWORD"],
        taken: &[],
        make: |from| {
            DnsUpdater::new_inwx(from.get("INWX_USERNAME"), from.get("INWX_PASSWORD"), false, TIMEOUT)
        },
    },
    plain!("ionos", new_ionos, "IONOS_API_KEY"),
    plain!("ipv64", new_ipv64, "IPV64_API_KEY"),
    plain!("linode", new_linode, "LINODE_TOKEN"),
    plain!("luadns", new_luadns, "LUADNS_API_USERNAME", "LUADNS_API_TOKEN"),
    plain!("mythicbeasts", new_mythicbeasts, "MYTHICBEASTS_USERNAME", "MYTHICBEASTS_PASSWORD"),
    optional!("namecheap", new_namecheap, "NAMECHEAP_API_USER", "NAMECHEAP_API_KEY", "NAMECHEAP_CLIENT_IP"; "NAMECHEAP_USERNAME"),
    plain!("namedotcom", new_namedotcom, "NAMECOM_USERNAME", "NAMECOM_API_TOKEN"),
    plain!("namesilo", new_namesilo, "NAMESILO_API_KEY"),
    plain!("netcup", new_netcup, "NETCUP_CUSTOMER_NUMBER", "NETCUP_API_KEY", "NETCUP_API_PASSWORD"),
    plain!("netlify", new_netlify, "NETLIFY_TOKEN"),
    plain!("nifcloud", new_nifcloud, "NIFCLOUD_ACCESS_KEY_ID", "NIFCLOUD_SECRET_ACCESS_KEY"),
    plain!("ns1", new_ns1, "NS1_API_KEY"),
    Provider {
        word: "ovh",
        needed: &["OVH_APPLICATION_KEY", "OVH_APPLICATION_SECRET", "OVH_CONSUMER_KEY", "OVH_ENDPOINT"],
        taken: &[],
        make: |from| {
            DnsUpdater::new_ovh(
                from.get("OVH_APPLICATION_KEY"),
                from.get("OVH_APPLICATION_SECRET"),
                from.get("OVH_CONSUMER_KEY"),
                from.get("OVH_ENDPOINT").parse()?,
                TIMEOUT,
            )
        },
    },
    optional!("pdns", new_pdns, "PDNS_API_KEY"; "PDNS_API_URL", "PDNS_SERVER_NAME"),
    plain!("plesk", new_plesk, "PLESK_SERVER_BASE_URL", "PLESK_API_KEY"),
    plain!("porkbun", new_porkbun, "PORKBUN_API_KEY", "PORKBUN_SECRET_API_KEY"),
    Provider {
        word: "rfc2136",
        needed: &["RFC2136_NAMESERVER", "RFC2136_TSIG_KEY", "RFC2136_TSIG_SECRET"],
        taken: &["RFC2136_TSIG_ALGORITHM"],
        make: rfc2136,
    },
    Provider {
        word: "route53",
        needed: &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
        taken: &["AWS_SESSION_TOKEN", "AWS_REGION", "AWS_HOSTED_ZONE_ID"],
        make: route53,
    },
    plain!("safedns", new_safedns, "SAFEDNS_AUTH_TOKEN"),
    plain!("scaleway", new_scaleway, "SCW_SECRET_KEY"),
    plain!(
        "selectel",
        new_selectel,
        "SELECTELV2_USERNAME",
        "SELECTELV2_PASSWORD",
        "SELECTELV2_ACCOUNT_ID",
        "SELECTELV2_PROJECT_ID"
    ),
    plain!("simplycom", new_simplycom, "SIMPLY_ACCOUNT_NAME", "SIMPLY_API_KEY"),
    plain!("spaceship", new_spaceship, "SPACESHIP_API_KEY", "SPACESHIP_API_SECRET"),
    optional!("tencentcloud", new_tencentcloud, "TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY"; "TENCENTCLOUD_REGION", "TENCENTCLOUD_SESSION_TOKEN"),
    optional!("vercel", new_vercel, "VERCEL_API_TOKEN"; "VERCEL_TEAM_ID"),
    plain!("vultr", new_vultr, "VULTR_API_KEY"),
    plain!("websupport", new_websupport, "WEBSUPPORT_API_KEY", "WEBSUPPORT_SECRET"),
    plain!("zoneeu", new_zoneeu, "ZONEEU_API_USER", "ZONEEU_API_KEY"),
];

fn azure(from: &Credentials) -> dns_update::Result<DnsUpdater> {
    let text = |name| from.get(name).to_owned();
    DnsUpdater::new_azuredns(AzureDnsConfig {
        tenant_id: text("AZURE_TENANT_ID"),
        client_id: text("AZURE_CLIENT_ID"),
        client_secret: text("AZURE_CLIENT_SECRET"),
        subscription_id: text("AZURE_SUBSCRIPTION_ID"),
        resource_group: text("AZURE_RESOURCE_GROUP"),
        environment: AzureEnvironment::Public,
        request_timeout: TIMEOUT,
    })
}

fn google(from: &Credentials) -> dns_update::Result<DnsUpdater> {
    DnsUpdater::new_google_cloud_dns(GoogleCloudDnsConfig {
        service_account_json: from.get("GCE_SERVICE_ACCOUNT").to_owned(),
        project_id: from.get("GCE_PROJECT").to_owned(),
        managed_zone: from.find("GCE_ZONE_ID").map(str::to_owned),
        private_zone: false,
        impersonate_service_account: None,
        request_timeout: TIMEOUT,
    })
}

fn route53(from: &Credentials) -> dns_update::Result<DnsUpdater> {
    let text = |name| from.find(name).map(str::to_owned);
    DnsUpdater::new_route53(Route53Config {
        access_key_id: from.get("AWS_ACCESS_KEY_ID").to_owned(),
        secret_access_key: from.get("AWS_SECRET_ACCESS_KEY").to_owned(),
        session_token: text("AWS_SESSION_TOKEN"),
        region: text("AWS_REGION"),
        hosted_zone_id: text("AWS_HOSTED_ZONE_ID"),
        private_zone_only: None,
        endpoint: None,
    })
}

/// Lockring does this itself (`[dns.NAME]` with `server`); here it is for trying the helper out.
fn rfc2136(from: &Credentials) -> dns_update::Result<DnsUpdater> {
    let algorithm = match from.find("RFC2136_TSIG_ALGORITHM").unwrap_or("hmac-sha256").trim_end_matches('.') {
        "hmac-sha256" => TsigAlgorithm::HmacSha256,
        "hmac-sha384" => TsigAlgorithm::HmacSha384,
        "hmac-sha512" => TsigAlgorithm::HmacSha512,
        _ => return Err(dns_update::Error::Parse("RFC2136_TSIG_ALGORITHM is not known".to_owned())),
    };
    let secret = STANDARD
        .decode(from.get("RFC2136_TSIG_SECRET"))
        .map_err(|_| dns_update::Error::Parse("RFC2136_TSIG_SECRET is not base64".to_owned()))?;
    let server = format!("tcp://{}", from.get("RFC2136_NAMESERVER"));
    DnsUpdater::new_rfc2136_tsig(server, from.get("RFC2136_TSIG_KEY"), secret, algorithm)
}

#[cfg(test)]
mod tests {
    use super::{PROVIDERS, Provider};
    use crate::credentials::Credentials;

    #[test]
    fn words_are_sorted_and_stand_for_one_provider_each() {
        let words: Vec<&str> = PROVIDERS.iter().map(|provider| provider.word).collect();
        assert!(words.is_sorted_by(|one, two| one < two), "{words:?}");
        assert!(Provider::find("cloudflare").is_some() && Provider::find("Cloudflare").is_none());
    }

    #[test]
    fn each_is_made_of_the_variables_that_it_names_and_no_other() {
        for provider in PROVIDERS {
            let all = provider.needed.iter().chain(provider.taken);
            // What is no value of a variable at all is told; a variable that is asked for and not listed would
            // be empty, which all of them refuse or send.
            let text: String = all.map(|name| format!("{name}=x-{name}\n")).collect();
            let credentials = Credentials::read(&text).unwrap();
            let made = (provider.make)(&credentials);
            assert!(credentials.unlisted(provider).is_empty(), "{}", provider.word);
            if let Err(error) = made {
                assert!(
                    matches!(
                        provider.word,
                        "ovh" | "rfc2136" | "gcloud" | "route53" | "alidns" | "tencentcloud" | "huaweicloud"
                    ),
                    "{}: {error}",
                    provider.word
                );
            }
        }
    }
}
