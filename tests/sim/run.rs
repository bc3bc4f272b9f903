//! One run: a seed, some clients, the proxy, one or two origins, until everything is over.

use std::collections::BTreeSet;
use std::time::Instant;

use lockring::config::model::{
    Acme, HostPattern, Limits, Log, Metrics, Model, PathPattern, Route, Server, Site, SiteTls, Timeouts, Tls,
    Upstream, Workers,
};
use lockring::proxy::outcome::ConnectionFacts;
use lockring::proxy::route::Table;
use lockring::upstream::pool::Pool;

use crate::check;
use crate::client::Client;
use crate::luck::Luck;
use crate::net::{Net, Time};
use crate::origin::{Book, Origin, Stale};
use crate::proxy::Connection;
use crate::spec;
use crate::stream::{Graves, Stream};
use crate::world::{Fault, World};

/// No run lasts longer than this: the longest wait of the proxy is an hour.
const END: Time = 3 * 3_600_000_000;

/// What came of a run.
pub struct Report {
    pub violations: Vec<String>,
    pub trace: Vec<String>,
    /// Of all that clients saw and the log said: equal for equal seeds.
    pub digest: String,
    /// Requests, whole answers from origins, replays.
    pub counts: [usize; 3],
}

fn model(luck: &mut Luck, calm: bool) -> Model {
    let to = |port| Upstream::Tcp { host: "127.0.0.1".into(), port, tls: false };
    let to = if luck.percent(50) { vec![to(1)] } else { vec![to(1), to(2)] };
    let routes = vec![Route { path: PathPattern::Prefix("/".into()), to }];
    let host = HostPattern::Exact("a.test".into());
    let site = Site { index: 0, host, tls: SiteTls::Auto, acme: None, redirect: false, routes };
    let body = (!calm && luck.percent(20)).then(|| luck.below(60_000));
    Model {
        acme: Acme::default(),
        server: Server {
            https: Vec::new(),
            http: Vec::new(),
            https_given: false,
            http_given: false,
            workers: Workers::Auto,
            state: "nowhere".into(),
            admin: None,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            default_site: None,
            certificates: None,
            forwarded: luck.percent(20),
            underscores: false,
        },
        limits: Limits { body, ..Limits::default() },
        timeouts: Timeouts::default(),
        log: Log::default(),
        tls: Tls::default(),
        metrics: Metrics::default(),
        sites: vec![site.into()],
    }
}

/// Everything of a run.
struct Run {
    world: World,
    book: Book,
    clients: Vec<Client>,
    connections: Vec<Connection>,
    origins: Vec<Origin>,
    luck: Luck,
    calm: bool,
}

/// Runs `seed` to its end.
pub fn run(seed: u64, fault: Option<Fault>, traced: bool) -> Report {
    let mut luck = Luck::new(seed, 1);
    let calm = luck.percent(30);
    let model = model(&mut luck, calm);
    let table = Table::new(&model);
    let style = spec::network(&mut luck);
    let endpoints = table.groups().endpoints().len();
    let pool = Pool::new(endpoints, 1 + luck.below(8) as usize, model.timeouts.pool_idle);
    let facts = ConnectionFacts {
        client: ([192, 0, 2, 1], 5).into(),
        client_ip: "192.0.2.1".into(),
        trusted: luck.percent(20),
        tls: None,
        resumed: false,
        worker: 0,
    };
    let world = World {
        net: Net::new(Luck::new(seed, 2), style),
        model,
        table,
        facts,
        pool,
        graves: Graves::default(),
        luck: Luck::new(seed, 3),
        base: Instant::now(),
        now: 0,
        fault,
        dial_trouble: if calm { 0 } else { luck.pick(&[0, 10, 40]) },
        attempts: Vec::new(),
        accepted: Vec::new(),
        violations: Vec::new(),
        trace: Vec::new(),
        traced,
    };
    let book = Book { seed, calm, ..Book::default() };
    let mut run =
        Run { world, book, clients: Vec::new(), connections: Vec::new(), origins: Vec::new(), luck, calm };
    for number in 0..1 + run.luck.below(4) as usize {
        run.add_client(seed, number);
    }
    run.turn();
    check::all(&mut run.world, &run.book, &run.clients, &run.connections, calm);
    run.report()
}

impl Run {
    fn add_client(&mut self, seed: u64, number: usize) {
        let [port, peer] = self.world.net.connect();
        let client = Client::draw(seed, number, port, self.calm);
        for spec in &client.specs {
            self.book.specs.insert(spec.id, spec.clone());
        }
        let stream = Stream::new(peer, client.tls, self.world.graves.clone());
        self.connections.push(Connection::new(number, stream, self.world.base));
        self.clients.push(client);
    }

    /// Until nothing moves and nobody waits.
    fn turn(&mut self) {
        for _ in 0..400_000 {
            if !(0..100_000).any(|_| !self.moves()) {
                return self.world.violated("(f) something moves for ever".into());
            }
            if self.connections.iter().all(Connection::is_over) {
                self.world.pool.clear();
                self.bury();
            }
            if let Some(idle) = self.connections.iter().position(|one| one.waits_for_ever(&self.world)) {
                return self.world.violated(format!("(f) c{idle} waits without a deadline"));
            }
            let now = self.world.now;
            let next = self
                .connections
                .iter()
                .filter(|one| !one.is_over())
                .filter_map(|one| one.deadline(&self.world));
            let next = next.chain(self.clients.iter().filter_map(|client| client.next_wake(now)));
            let next = next.chain(self.origins.iter().filter_map(|origin| origin.next_wake(now)));
            let Some(next) = next.chain(self.world.net.next()).min().filter(|next| *next < END) else {
                if !self.connections.iter().all(Connection::is_over) {
                    self.world.violated("(f) a connection never ends".into());
                }
                return;
            };
            self.world.now = next.max(now + 1);
        }
        self.world.violated("(f) the run does not end".into());
    }

    fn moves(&mut self) -> bool {
        let now = self.world.now;
        let mut moved = self.world.net.step(now);
        for client in &mut self.clients {
            moved |= client.act(&mut self.world.net, now);
        }
        for connection in &mut self.connections {
            moved |= connection.poll(&mut self.world);
        }
        for (port, _) in std::mem::take(&mut self.world.accepted) {
            let short = !self.calm && self.luck.percent(40);
            let idle = if short { self.luck.below(6_000_000) } else { 90_000_000_000 };
            let kinds = [Stale::Never, Stale::Never, Stale::BeforeArrival, Stale::AtArrival];
            let stale = if self.calm { Stale::Never } else { self.luck.pick(&kinds) };
            self.origins.push(Origin::new(port, now, idle, stale));
            moved = true;
        }
        for origin in &mut self.origins {
            moved |= origin.act(&mut self.world.net, &mut self.book, now);
        }
        // A worker hears of closes at once, or a little late.
        if self.luck.percent(70) {
            let net = &mut self.world.net;
            let at = self.world.base + std::time::Duration::from_micros(now);
            self.world.pool.sweep(at, |stream| {
                stream.poll(net, now);
                !stream.is_quiet()
            });
        }
        self.bury();
        moved
    }

    fn bury(&mut self) {
        for (port, reset) in self.world.graves.take() {
            if reset {
                self.world.net.reset(port, self.world.now);
            } else {
                self.world.net.close(port, self.world.now);
            }
        }
    }

    fn report(self) -> Report {
        let mut digest = String::new();
        for client in &self.clients {
            for seen in &client.answers {
                digest += &format!("{} {:?} {} {}|", seen.status, seen.id, seen.body.len(), seen.complete);
            }
        }
        for record in self.connections.iter().flat_map(|connection| &connection.records) {
            digest += &format!("{record:?}|");
        }
        digest += &format!("{}", self.world.now);
        let whole = self.clients.iter().flat_map(|client| &client.answers);
        let whole = whole.filter(|seen| seen.complete && seen.id.is_some()).count();
        let requests = self.clients.iter().map(Client::begun).sum();
        let tries: BTreeSet<_> = self.world.attempts.iter().map(|try_| (try_.client, try_.request)).collect();
        let replays = self.world.attempts.len() - tries.len();
        Report {
            violations: self.world.violations.into_iter().chain(self.book.violations).collect(),
            trace: self.world.trace,
            digest,
            counts: [requests, whole, replays],
        }
    }
}
