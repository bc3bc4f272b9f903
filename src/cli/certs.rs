//! The words of `lockring certs` and `lockring acme`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Command;
use crate::acme::ca::Reason;
use crate::ops::certs::{AcmeAction, CertsAction, StatusForm, Target, parse_reason};

/// Which lockring is meant.
#[derive(Debug, Args)]
pub(super) struct TargetWords {
    /// The configuration file of the lockring meant; without any of these lockring.toml if it is here
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Its state directory
    #[arg(long, value_name = "DIR", global = true)]
    state: Option<PathBuf>,
    /// Its admin socket, if that is not admin.sock in the state directory
    #[arg(long, value_name = "SOCKET", global = true)]
    admin: Option<PathBuf>,
}

impl From<TargetWords> for Target {
    fn from(words: TargetWords) -> Self {
        Self { config: words.config, state: words.state, admin: words.admin }
    }
}

#[derive(Debug, Args)]
pub(super) struct CertsWords {
    #[command(flatten)]
    target: TargetWords,
    #[command(subcommand)]
    action: Option<CertsActions>,
}

#[derive(Debug, Subcommand)]
enum CertsActions {
    /// Show all that is known of a certificate
    Show {
        /// A name on it
        name: String,
    },
    /// Ask for a new certificate now, if one is due
    Renew {
        /// The name of the certificate, as `lockring certs` shows it
        name: String,
        /// Ask even if none is due; authorities allow that a few times a week
        #[arg(long)]
        force: bool,
    },
    /// Have a certificate of an authority revoked, and another one ordered
    Revoke {
        /// The name of the certificate, as `lockring certs` shows it
        name: String,
        /// unspecified, keyCompromise, superseded or cessationOfOperation
        #[arg(long, value_parser = parse_reason)]
        reason: Reason,
    },
    /// Copy a certificate and its key into a directory, as NAME.pem and NAME.key
    Export {
        /// The name of the certificate, as `lockring certs` shows it
        name: String,
        /// The directory, made if it is not there
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
}

impl From<CertsWords> for Command {
    fn from(words: CertsWords) -> Self {
        let action = match words.action {
            None => CertsAction::List,
            Some(CertsActions::Show { name }) => CertsAction::Show { name },
            Some(CertsActions::Renew { name, force }) => CertsAction::Renew { name, force },
            Some(CertsActions::Revoke { name, reason }) => CertsAction::Revoke { name, reason },
            Some(CertsActions::Export { name, to }) => CertsAction::Export { name, to },
        };
        Self::Certs { target: words.target.into(), action }
    }
}

#[derive(Debug, Args)]
pub(super) struct AcmeWords {
    #[command(flatten)]
    target: TargetWords,
    #[command(subcommand)]
    action: AcmeActions,
}

#[derive(Debug, Subcommand)]
enum AcmeActions {
    /// Show how renewal stands; exit code 3 if a renewal has failed for more than a day, or a person has to act
    Status {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
        /// As metrics in the text format of Prometheus, as for a textfile collector
        #[arg(long, conflicts_with = "json")]
        metrics: bool,
    },
    /// Show the accounts at authorities
    Account,
    /// Print the DNS record that the challenge dns-persist-01 asks for
    DnsRecord {
        /// The name that the record is for; `*.` in front if wildcards are to be allowed
        name: String,
        /// The authority's issuer domain name, for authorities without a short name
        #[arg(long, value_name = "DOMAIN")]
        issuer: Option<String>,
    },
}

impl From<AcmeWords> for Command {
    fn from(words: AcmeWords) -> Self {
        let action = match words.action {
            AcmeActions::Status { json, metrics } => AcmeAction::Status { form: form(json, metrics) },
            AcmeActions::Account => AcmeAction::Account,
            AcmeActions::DnsRecord { name, issuer } => AcmeAction::DnsRecord { name, issuer },
        };
        Self::Acme { target: words.target.into(), action }
    }
}

fn form(json: bool, metrics: bool) -> StatusForm {
    match (json, metrics) {
        (true, _) => StatusForm::Json,
        (false, true) => StatusForm::Metrics,
        (false, false) => StatusForm::Table,
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn words(line: &str) -> Command {
        parse(["lockring"].into_iter().chain(line.split_whitespace())).unwrap()
    }

    #[test]
    fn targets_stand_before_and_after_the_action() {
        let show = CertsAction::Show { name: "a".into() };
        let target = Target { config: Some("f".into()), ..Target::default() };
        for line in ["certs -c f show a", "certs show a -c f"] {
            assert_eq!(words(line), Command::Certs { target: target.clone(), action: show.clone() });
        }
        let target = Target { state: Some("s".into()), admin: Some("x".into()), ..Target::default() };
        let list = Command::Certs { target, action: CertsAction::List };
        assert_eq!(words("certs --state s --admin x"), list);
    }

    #[test]
    fn actions_are_read() {
        let certs = |action| Command::Certs { target: Target::default(), action };
        assert_eq!(
            words("certs renew a --force"),
            certs(CertsAction::Renew { name: "a".into(), force: true })
        );
        let reason = Reason::KeyCompromise;
        assert_eq!(
            words("certs revoke a --reason key-compromise"),
            certs(CertsAction::Revoke { name: "a".into(), reason })
        );
        let export = CertsAction::Export { name: "a".into(), to: "d".into() };
        assert_eq!(words("certs export a --to d"), certs(export));
        let acme = |action| Command::Acme { target: Target::default(), action };
        assert_eq!(words("acme status --json"), acme(AcmeAction::Status { form: StatusForm::Json }));
        assert_eq!(words("acme status"), acme(AcmeAction::Status { form: StatusForm::Table }));
        assert_eq!(words("acme status --metrics"), acme(AcmeAction::Status { form: StatusForm::Metrics }));
        assert_eq!(words("acme account"), acme(AcmeAction::Account));
        let record = AcmeAction::DnsRecord { name: "*.a".into(), issuer: Some("ca".into()) };
        assert_eq!(words("acme dns-record *.a --issuer ca"), acme(record));
    }

    #[test]
    fn mistakes_are_told() {
        for line in [
            "acme status --metrics --json",
            "certs revoke a",
            "certs revoke a --reason because",
            "certs export a",
            "acme",
            "certs renew",
        ] {
            let exit = parse(["lockring"].into_iter().chain(line.split_whitespace())).unwrap_err();
            assert_eq!(exit.code, 1, "{line}");
        }
        let exit = parse(["lockring", "certs", "revoke", "a", "--reason", "because"]).unwrap_err();
        assert!(exit.text.contains("keyCompromise"), "{}", exit.text);
    }
}
