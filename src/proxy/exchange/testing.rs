//! What tests of this room share.

use std::sync::Arc;

use crate::config::model::{
    Acme, HostPattern, Limits, Log, Metrics, Model, PathPattern, Route, Server, Site, SiteTls, Timeouts, Tls,
    Upstream, Workers,
};

/// A model of `(host, path, 127.0.0.1:port | demo)` lines; lines with the same host are one site.
pub(crate) fn model(lines: &[(&str, &str, &str)]) -> Model {
    let mut sites: Vec<Site> = Vec::new();
    for (host, path, to) in lines {
        let host = match (host.strip_prefix("*."), host.parse()) {
            (Some(parent), _) => HostPattern::Wildcard(parent.into()),
            (_, Ok(ip)) => HostPattern::Ip(ip),
            _ => HostPattern::Exact((*host).into()),
        };
        let to = match to.split_once(':') {
            Some((host, port)) => {
                Upstream::Tcp { host: host.into(), port: port.parse().unwrap_or_default(), tls: false }
            }
            None => Upstream::Demo,
        };
        let path = match path.strip_suffix('*') {
            Some(prefix) => PathPattern::Prefix(prefix.into()),
            None if *path == "/" => PathPattern::Prefix("/".into()),
            None => PathPattern::Exact((*path).into()),
        };
        let route = Route { path, to: vec![to] };
        if let Some(site) = sites.iter_mut().find(|site| site.host == host) {
            site.routes.push(route);
        } else {
            let index = sites.len() as u32;
            sites.push(Site {
                index,
                host,
                tls: SiteTls::Auto,
                acme: None,
                redirect: true,
                routes: vec![route],
            });
        }
    }
    let server = Server {
        https: Vec::new(),
        http: Vec::new(),
        https_given: false,
        http_given: false,
        workers: Workers::Auto,
        state: "/nonexistent".into(),
        admin: None,
        trusted_proxies: Vec::new(),
        proxy_protocol: false,
        default_site: None,
        certificates: None,
        forwarded: false,
        underscores: false,
    };
    Model {
        acme: Acme::default(),
        server,
        limits: Limits::default(),
        timeouts: Timeouts::default(),
        log: Log::default(),
        tls: Tls::default(),
        metrics: Metrics::default(),
        sites: sites.into_iter().map(Arc::new).collect(),
    }
}
