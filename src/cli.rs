//! The command line: words to a [`Command`]. What a command does is `ops`'s.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::config::ProxyArguments;
use crate::ops::asking::Ask;
use crate::ops::certs::{AcmeAction, CertsAction, Target};
use crate::ops::check::Format;

mod certs;
mod running;

use certs::{AcmeWords, CertsWords};
use running::{AskWords, DrainWords, ExplainWords, TlsWords, TopWords};

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `lockring proxy`: run from arguments.
    Proxy(ProxyArguments),
    /// `lockring run`: run from a file.
    Run {
        /// The file.
        config: PathBuf,
    },
    /// `lockring check`: say what is wrong with a file.
    Check {
        /// The file.
        config: PathBuf,
        /// How to say it.
        format: Format,
        /// Ask authorities and name servers too.
        online: bool,
    },
    /// `lockring doctor`: say what this machine lacks.
    Doctor {
        /// The file whose needs count; none: the usual one, or the defaults.
        config: Option<PathBuf>,
        /// How to say it.
        format: Format,
    },
    /// `lockring tune`: print a script that mends it.
    Tune {
        /// The file whose needs count; none: the usual one, or the defaults.
        config: Option<PathBuf>,
    },
    /// `lockring certs`: certificates there are.
    Certs {
        /// Whose.
        target: Target,
        /// What about them.
        action: CertsAction,
    },
    /// `lockring acme`: how they are got.
    Acme {
        /// By whom.
        target: Target,
        /// What about it.
        action: AcmeAction,
    },
    /// `lockring status` and its kin: ask the running process.
    Ask {
        /// Which one.
        target: Target,
        /// For what.
        ask: Ask,
    },
    /// `lockring top`: watch it.
    Top {
        /// Which one.
        target: Target,
        /// One picture and no more.
        once: bool,
    },
    /// `lockring trust`: make this machine trust the local CA.
    Trust {
        /// The state directory that holds the CA; none: the default one.
        state: Option<PathBuf>,
    },
    /// `lockring untrust`: undo it.
    Untrust {
        /// The state directory that holds the CA; none: the default one.
        state: Option<PathBuf>,
    },
}

/// Nothing to run: a text to print, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CliExit {
    /// 0 for help and version, which go to standard output; 1 for a mistake, which goes to standard error.
    pub code: u8,
    /// What to print, ending in a line feed.
    pub text: String,
}

/// Reads the words of a command line, the program's name first.
///
/// # Errors
/// Help, the version, or what is wrong with the words.
pub fn parse<W: Into<OsString> + Clone>(words: impl IntoIterator<Item = W>) -> Result<Command, CliExit> {
    match Words::try_parse_from(words) {
        Ok(words) => Ok(words.command.into()),
        Err(error) => {
            let code = u8::from(error.use_stderr());
            Err(CliExit { code, text: error.to_string() })
        }
    }
}

/// TLS termination proxy: names a domain, serves it over HTTPS.
#[derive(Debug, Parser)]
#[command(name = "lockring", version, arg_required_else_help = true)]
struct Words {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Serve applications without a configuration file
    #[command(after_help = PROXY_EXAMPLES)]
    Proxy {
        /// An application: [HOST=]UPSTREAM. Without HOST it is localhost; a HOST given twice shares its
        /// requests among its upstreams. UPSTREAM is host:port, :port, unix:PATH, https://host:port or demo
        #[arg(value_name = "[HOST=]UPSTREAM", required = true)]
        sites: Vec<String>,
        /// Address of a TLS listener, such as :443 or 127.0.0.1:8443; may be given several times
        #[arg(long, value_name = "ADDR")]
        https: Vec<String>,
        /// Address of a plain listener, which redirects to HTTPS; may be given several times
        #[arg(long, value_name = "ADDR")]
        http: Vec<String>,
        /// Directory of certificates and the local CA
        #[arg(long, value_name = "DIR")]
        state: Option<String>,
        /// Worker count, or the CPUs that get one, such as 0-3
        #[arg(long, value_name = "N|CPULIST")]
        workers: Option<String>,
        /// Authority for public names: letsencrypt, letsencrypt-staging, a URL, or off
        #[arg(long, value_name = "DIRECTORY")]
        acme: Option<String>,
        /// PEM file of roots for the authority's own HTTPS, beside those of the system
        #[arg(long, value_name = "FILE")]
        acme_ca_file: Option<String>,
        /// Contact address for the authority
        #[arg(long, value_name = "ADDR")]
        email: Option<String>,
        /// Print the configuration file that means the same, and exit
        #[arg(long)]
        print_config: bool,
    },
    /// Serve what a configuration file names
    Run {
        /// The configuration file
        #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
    /// Say all that is wrong with a configuration file
    Check {
        /// The configuration file
        #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// Form of the answer: text for people, json for editors
        #[arg(long, value_enum, default_value = "text")]
        format: FormatWord,
        /// Also ask the authorities for their directories and name servers for the sites' addresses
        #[arg(long)]
        online: bool,
    },
    /// Say what this machine and its kernel lack for serving fast, and what mends it; exit code 3 if something
    /// is missing
    Doctor {
        /// The configuration file whose needs count; without one lockring.toml if it is here, or the defaults
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Form of the answer: text for people, json for programs
        #[arg(long, value_enum, default_value = "text")]
        format: FormatWord,
    },
    /// Print a shell script that mends what the doctor finds; changes nothing
    Tune {
        /// The configuration file whose needs count; without one lockring.toml if it is here, or the defaults
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print the script, which is all that is ever done
        #[arg(long)]
        print: bool,
    },
    /// Show, renew, revoke and copy certificates
    Certs(CertsWords),
    /// Show how certificates are got from authorities on the network
    Acme(AcmeWords),
    /// Show how the running lockring does; exit code 3 if a site has no valid certificate, or renewal fails
    Status(AskWords),
    /// Have the running lockring answer what is under way and end
    Drain(DrainWords),
    /// Show what the running lockring would do with a request: certificate, site, route, upstreams, fields
    Explain(ExplainWords),
    /// Show the last requests that were refused, with the position of the byte
    Rejects(AskWords),
    /// Show what goes wrong in TLS
    Tls(TlsWords),
    /// Watch the running lockring: rates, durations, upstreams, certificates
    Top(TopWords),
    /// Make this machine trust the local certificate authority
    Trust {
        /// Directory of certificates and the local CA
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
    },
    /// Make this machine forget the local certificate authority
    Untrust {
        /// Directory of certificates and the local CA
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
    },
}

const DEFAULT_CONFIG: &str = "lockring.toml";

const PROXY_EXAMPLES: &str = "Examples:
  lockring proxy :8000                         https://localhost to the application on port 8000
  lockring proxy app.example.com=:8000         a public name, HTTPS included
  lockring proxy localhost=demo --https :8443  the built-in demonstration application";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatWord {
    Text,
    Json,
}

impl From<FormatWord> for Format {
    fn from(word: FormatWord) -> Self {
        match word {
            FormatWord::Text => Self::Text,
            FormatWord::Json => Self::Json,
        }
    }
}

impl From<Subcommands> for Command {
    fn from(words: Subcommands) -> Self {
        match words {
            Subcommands::Proxy {
                sites,
                https,
                http,
                state,
                workers,
                acme,
                acme_ca_file,
                email,
                print_config,
            } => Self::Proxy(ProxyArguments {
                sites,
                https,
                http,
                state,
                workers,
                acme,
                acme_ca_file,
                email,
                print_config,
            }),
            Subcommands::Run { config } => Self::Run { config },
            Subcommands::Check { config, format, online } => {
                Self::Check { config, format: format.into(), online }
            }
            Subcommands::Doctor { config, format } => Self::Doctor { config, format: format.into() },
            Subcommands::Tune { config, print: _ } => Self::Tune { config },
            Subcommands::Certs(words) => words.into(),
            Subcommands::Acme(words) => words.into(),
            Subcommands::Status(words) => words.status(),
            Subcommands::Drain(words) => words.into(),
            Subcommands::Explain(words) => words.into(),
            Subcommands::Rejects(words) => words.rejects(),
            Subcommands::Tls(words) => words.into(),
            Subcommands::Top(words) => words.into(),
            Subcommands::Trust { state } => Self::Trust { state },
            Subcommands::Untrust { state } => Self::Untrust { state },
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn words(line: &str) -> Result<Command, CliExit> {
        parse(["lockring"].into_iter().chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_is_consistent() {
        Words::command().debug_assert();
    }

    #[test]
    fn commands_are_read() {
        let line =
            "proxy a.example=:8000 :9000 --https :8443 --https 127.0.0.1:9443 --workers 0-3 --print-config";
        let Ok(Command::Proxy(arguments)) = words(line) else { panic!("a proxy command") };
        assert_eq!(arguments.sites, ["a.example=:8000", ":9000"]);
        assert_eq!(arguments.https, [":8443", "127.0.0.1:9443"]);
        assert_eq!(arguments.workers.as_deref(), Some("0-3"));
        assert!(arguments.print_config);
        assert_eq!(words("run"), Ok(Command::Run { config: "lockring.toml".into() }));
        let check = Command::Check { config: "x".into(), format: Format::Json, online: true };
        assert_eq!(words("check -c x --format json --online"), Ok(check));
        let doctor = Command::Doctor { config: None, format: Format::Json };
        assert_eq!(words("doctor --format json"), Ok(doctor));
        assert_eq!(words("tune --print -c x"), Ok(Command::Tune { config: Some("x".into()) }));
        assert_eq!(words("tune"), Ok(Command::Tune { config: None }));
        assert_eq!(words("trust --state s"), Ok(Command::Trust { state: Some("s".into()) }));
        assert_eq!(words("untrust"), Ok(Command::Untrust { state: None }));
    }

    #[test]
    fn mistakes_and_help_have_their_codes() {
        assert_eq!(words("--version").unwrap_err().code, 0);
        assert!(words("proxy --help").unwrap_err().text.contains("HOST=]UPSTREAM"));
        for line in ["", "prox", "proxy", "run --nope", "check --format xml"] {
            let exit = words(line).unwrap_err();
            assert_eq!((exit.code, exit.text.is_empty()), (1, false), "{line}");
        }
        assert!(words("prox :1").unwrap_err().text.contains("proxy"));
    }
}
