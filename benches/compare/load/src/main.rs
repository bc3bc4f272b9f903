//! Load generator and origin of the comparison: what wrk and h2load cannot measure, each run one line of
//! JSON. One thread and one epoll, so that one core is all it takes.
//!
//! `load origin` answers; `load run` loads; `load relay` is the floor below every proxy; `load certs` makes many certificates.

mod args;
mod certs;
mod client;
mod cost;
mod figures;
mod origin;
mod relay;
mod run;
mod tunnel;

use std::io;
use std::process::ExitCode;

use args::Args;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let done = Args::read(words).and_then(|args| match command.as_str() {
        "origin" => origin::serve(&args),
        "relay" => relay::serve(&args),
        "run" => run::run(&args),
        "certs" => certs::make(&args),
        _ => Err(io::Error::other(USAGE)),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

const USAGE: &str = "usage:
  load origin --port P
  load relay  --port P --to P
  load run    --port P [--connections N] [--seconds S] [--warm S] [--path /BYTES] [--upload BYTES]
              [--handshakes full|resumed] [--rate R] [--idle] [--plain] [--watch PID]
  load certs  --count N --directory DIR [--bundle]";
