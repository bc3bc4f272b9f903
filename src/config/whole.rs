//! Judges the model as a whole: listeners that collide, routes that no request reaches, upstreams that are
//! the proxy itself, nothing to serve.

use std::net::{IpAddr, SocketAddr};

use super::Places;
use super::diagnostic::{Code, Findings, Spot};
use super::model::{Model, Site, Upstream};

pub(super) fn check(model: &Model, places: &Places, findings: &mut Findings) {
    nothing_to_serve(model, findings);
    listeners(model, places, findings);
    for (site, spots) in model.sites.iter().zip(&places.sites) {
        shadowed(site, spots, findings);
        own_listener(model, places, site, spots, findings);
    }
}

fn nothing_to_serve(model: &Model, findings: &mut Findings) {
    if model.sites.is_empty() && !findings.has(Code::BadHost) {
        let remedy = "add [sites] and below it \"app.example.com\" = \"127.0.0.1:8000\"";
        findings.note(Code::NothingToServe, Spot::file(0), "there is no site", remedy);
    }
    if model.server.https.is_empty() && model.server.http.is_empty() {
        let cause = "`https` and `http` are both empty: nothing would be listened on";
        findings.note(Code::NothingToServe, Spot::file(0), cause, "add https = [\":443\"] to [server]");
    }
}

fn listeners(model: &Model, places: &Places, findings: &mut Findings) {
    let https = model.server.https.iter().zip(&places.https);
    let http = model.server.http.iter().zip(&places.http);
    let mut seen: Vec<(&SocketAddr, Option<Spot>)> = Vec::new();
    for (address, spot) in https.chain(http) {
        let first = seen.iter().find(|(known, _)| *known == address && address.port() != 0);
        match (first, *spot) {
            (Some((_, first)), here) if first.or(here).is_some() => {
                let cause = format!("`{address}` is listened on twice");
                let remedy = "give the two different ports, or remove one";
                let spot = here.or(*first).unwrap_or(Spot::file(0));
                match (first, here) {
                    (Some(first), Some(_)) if *first != spot => {
                        let other = (*first, "the first is here");
                        findings.conflict(Code::DuplicateListener, spot, other, cause, remedy);
                    }
                    _ => {
                        let cause = format!("{cause}: it is a default as well");
                        findings.note(Code::DuplicateListener, spot, cause, remedy);
                    }
                }
                // `:443` twice collides in both families, which is one mistake.
                return;
            }
            _ => seen.push((address, *spot)),
        }
    }
}

/// The most specific route wins whatever the order, so that only an equal path can hide another.
fn shadowed(site: &Site, spots: &super::SitePlaces, findings: &mut Findings) {
    let routes: Vec<_> = site.routes.iter().zip(&spots.routes).collect();
    for (at, (route, place)) in routes.iter().enumerate() {
        let earlier = routes.iter().take(at).find(|(earlier, _)| earlier.path == route.path);
        if let Some((_, first)) = earlier {
            let cause = format!("no request of `{}` reaches this route", site.host);
            let other = (first.path, "this one has the same path");
            let remedy = "the most specific path wins, so each needs its own: change or remove one";
            findings.conflict(Code::ShadowedRoute, place.path, other, cause, remedy);
        }
    }
}

fn own_listener(
    model: &Model,
    places: &Places,
    site: &Site,
    spots: &super::SitePlaces,
    findings: &mut Findings,
) {
    let written = places.https.iter().chain(&places.http);
    for (route, place) in site.routes.iter().zip(&spots.routes) {
        for (upstream, &spot) in route.to.iter().zip(&place.to) {
            let listeners = model.server.https.iter().chain(&model.server.http);
            // A default listener steps aside if an application has its port; a written one does not.
            let hit = listeners.zip(written.clone()).find_map(|(listener, at)| {
                at.filter(|_| is_reached(listener, upstream, IpAddr::is_loopback)).map(|at| (listener, at))
            });
            if let Some((listener, at)) = hit {
                let cause = format!("`{upstream}` is this proxy's own listener `{listener}`");
                let other = (at, "the listener is here");
                let remedy = "write the port on which the application listens";
                findings.conflict(Code::OwnListener, spot, other, cause, remedy);
            }
        }
    }
}

/// Whether connecting to `upstream` ends at `listener`; `is_local` tells this machine's addresses.
#[must_use]
pub fn is_reached(listener: &SocketAddr, upstream: &Upstream, is_local: impl Fn(&IpAddr) -> bool) -> bool {
    let Upstream::Tcp { host, port, .. } = upstream else { return false };
    if *port != listener.port() {
        return false;
    }
    let reaches = |ip: IpAddr| {
        let ip = ip.to_canonical();
        ip == listener.ip().to_canonical()
            || (listener.ip().is_unspecified()
                && listener.is_ipv4() == ip.is_ipv4()
                && (is_local(&ip) || ip.is_unspecified()))
    };
    match host.parse::<IpAddr>() {
        Ok(ip) => reaches(ip),
        Err(_) if host == "localhost" => {
            reaches(IpAddr::from([127, 0, 0, 1])) || reaches(std::net::Ipv6Addr::LOCALHOST.into())
        }
        Err(_) => false,
    }
}
