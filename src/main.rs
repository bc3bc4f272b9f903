//! The `lockring` binary: words to a command, the command to an exit code.
//!
//! 0: it did what was asked. 1: the configuration or the command line is wrong. 2: it failed at run time.
//! 3: it works, but the machine lacks something, or certificates are not renewed.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use lockring::acme::local_ca::{LocalCa, Root};
use lockring::acme::store::Store;
use lockring::cli::{self, Command};
use lockring::config::{self, Loaded, Severity};
use lockring::ops::doctor::{self, Diagnosis, Facts, Needs};
use lockring::ops::trust::{self, Machine};
use lockring::ops::{asking, certs, check, startup, top};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONFIG_ERROR: u8 = 1;
const RUN_TIME_ERROR: u8 = 2;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(command) => run(command),
        Err(exit) => {
            if exit.code == 0 {
                print(&exit.text);
            } else {
                complain(&exit.text);
            }
            ExitCode::from(exit.code)
        }
    }
}

fn run(command: Command) -> ExitCode {
    match command {
        Command::Proxy(arguments) => match config::from_arguments(&arguments, &check::Disk) {
            Ok((_, toml)) if arguments.print_config => {
                print(&toml);
                ExitCode::SUCCESS
            }
            Ok((loaded, _)) => serve(loaded, true),
            Err(diagnostics) => refuse(&config::render::text(&diagnostics)),
        },
        Command::Run { config } => match check::check_file(&config) {
            Ok(loaded) => serve(loaded, false),
            Err(report) => refuse(&report.render(check::Format::Text)),
        },
        Command::Check { config, format, online } => {
            let judge = if online { check::check_online } else { check::check };
            let report = judge(&config, check::now_unix());
            print(&report.render(format));
            ExitCode::from(report.exit_code())
        }
        Command::Doctor { config, format } => examine(config, |facts, needs| {
            let diagnosis = Diagnosis::new(facts, needs);
            print(&diagnosis.render(format));
            ExitCode::from(diagnosis.exit_code())
        }),
        Command::Tune { config } => examine(config, |facts, needs| {
            print(&doctor::script(facts, needs));
            ExitCode::SUCCESS
        }),
        Command::Certs { target, action } => finish(certs::certs(&target, &action, check::now_unix())),
        Command::Acme { target, action } => finish(certs::acme(&target, &action, check::now_unix())),
        Command::Ask { target, ask } => finish(asking::ask(&target, &ask)),
        Command::Top { target, once } => finish(top::top(&target, once)),
        Command::Trust { state } => trusting(state, trust::trust),
        Command::Untrust { state } => trusting(state, trust::untrust),
    }
}

/// `hint`: print how to try it.
fn serve(loaded: Loaded, hint: bool) -> ExitCode {
    let (diagnostics, pairs) = check::before_start(&loaded, &check::Disk, check::now_unix());
    if !diagnostics.is_empty() {
        complain(&config::render::text(&diagnostics));
    }
    if diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        return ExitCode::from(CONFIG_ERROR);
    }
    match startup::run(loaded.model, pairs, hint) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            startup::say(&error);
            ExitCode::from(RUN_TIME_ERROR)
        }
    }
}

/// Compares this machine with what a file needs.
fn examine(config: Option<PathBuf>, tell: impl FnOnce(&Facts, &Needs) -> ExitCode) -> ExitCode {
    match doctor::needs_of(config.as_deref()) {
        Ok(needs) => tell(&Facts::of_this_machine(), &needs),
        Err(report) => refuse(&report.render(check::Format::Text)),
    }
}

fn trusting(state: Option<PathBuf>, act: fn(&Root, &Machine) -> trust::Report) -> ExitCode {
    let state = state.unwrap_or_else(|| config::default_state(&check::Disk));
    let root = Store::open(&state).map_err(|error| error.to_string()).and_then(|store| {
        LocalCa::find_root(&store).map_err(|error| error.to_string())?.ok_or_else(|| {
            format!("{}: no local CA here yet; `lockring proxy localhost=demo` makes one", state.display())
        })
    });
    match root {
        Ok(root) => {
            let report = act(&root, &Machine::this());
            print(&report.to_string());
            if report.succeeded() { ExitCode::SUCCESS } else { ExitCode::from(RUN_TIME_ERROR) }
        }
        Err(error) => {
            startup::say(&error);
            ExitCode::from(RUN_TIME_ERROR)
        }
    }
}

fn finish(result: Result<certs::Done, certs::Failure>) -> ExitCode {
    match result {
        Ok(done) => {
            print(&done.text);
            ExitCode::from(done.code)
        }
        // Diagnostics of a file stand as they are.
        Err(failure) if failure.text.ends_with('\n') => {
            complain(&failure.text);
            ExitCode::from(failure.code)
        }
        Err(failure) => {
            startup::say(&failure.text);
            ExitCode::from(failure.code)
        }
    }
}

fn refuse(text: &str) -> ExitCode {
    complain(text);
    ExitCode::from(CONFIG_ERROR)
}

fn print(text: &str) {
    // A closed pipe is the reader's choice.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn complain(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
