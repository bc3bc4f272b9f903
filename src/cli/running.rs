//! The words of commands to a running lockring: `status`, `drain`, `explain`, `rejects`, `tls` and `top`.

use clap::{Args, Subcommand};

use super::Command;
use super::certs::TargetWords;
use crate::ops::asking::Ask;

/// How an answer is printed, and by whom it is given.
#[derive(Debug, Args)]
pub(super) struct AskWords {
    #[command(flatten)]
    target: TargetWords,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

impl AskWords {
    pub(super) fn status(self) -> Command {
        Command::Ask { ask: Ask::Status { json: self.json }, target: self.target.into() }
    }

    pub(super) fn rejects(self) -> Command {
        Command::Ask { ask: Ask::Rejects { json: self.json }, target: self.target.into() }
    }
}

#[derive(Debug, Args)]
pub(super) struct DrainWords {
    #[command(flatten)]
    target: TargetWords,
}

impl From<DrainWords> for Command {
    fn from(words: DrainWords) -> Self {
        Self::Ask { ask: Ask::Drain, target: words.target.into() }
    }
}

#[derive(Debug, Args)]
pub(super) struct ExplainWords {
    /// URL of the request, such as app.example.com/login with its scheme in front
    url: String,
    /// Address of the client; without it a public one that no proxy is trusted at
    #[arg(long, value_name = "IP")]
    from: Option<String>,
    #[command(flatten)]
    ask: AskWords,
}

impl From<ExplainWords> for Command {
    fn from(words: ExplainWords) -> Self {
        let ExplainWords { url, from, ask } = words;
        Self::Ask { ask: Ask::Explain { url, from, json: ask.json }, target: ask.target.into() }
    }
}

#[derive(Debug, Args)]
pub(super) struct TlsWords {
    #[command(subcommand)]
    action: TlsActions,
}

#[derive(Debug, Subcommand)]
enum TlsActions {
    /// Show the last connections refused before or in the handshake: by name and reason, with the last peer
    Failures(AskWords),
}

impl From<TlsWords> for Command {
    fn from(words: TlsWords) -> Self {
        let TlsActions::Failures(words) = words.action;
        Self::Ask { ask: Ask::TlsFailures { json: words.json }, target: words.target.into() }
    }
}

#[derive(Debug, Args)]
pub(super) struct TopWords {
    #[command(flatten)]
    target: TargetWords,
    /// Print one picture and end
    #[arg(long)]
    once: bool,
}

impl From<TopWords> for Command {
    fn from(words: TopWords) -> Self {
        Self::Top { target: words.target.into(), once: words.once }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::certs::Target;

    fn words(line: &str) -> Command {
        super::super::parse(["lockring"].into_iter().chain(line.split_whitespace())).unwrap()
    }

    #[test]
    fn each_command_names_its_question_and_the_process() {
        let target = Target { admin: Some("/s".into()), ..Target::default() };
        let asked = |ask| Command::Ask { target: target.clone(), ask };
        assert_eq!(words("status --admin /s --json"), asked(Ask::Status { json: true }));
        assert_eq!(words("drain --admin /s"), asked(Ask::Drain));
        let explain = Ask::Explain { url: "https://a/".into(), from: Some("10.0.0.1".into()), json: false };
        assert_eq!(words("explain https://a/ --from 10.0.0.1 --admin /s"), asked(explain));
        assert_eq!(words("rejects --admin /s"), asked(Ask::Rejects { json: false }));
        assert_eq!(words("tls failures --admin /s --json"), asked(Ask::TlsFailures { json: true }));
        assert_eq!(words("top --once --admin /s"), Command::Top { target: target.clone(), once: true });
        let config = Target { config: Some("f".into()), ..Target::default() };
        assert_eq!(words("status -c f"), Command::Ask { target: config, ask: Ask::Status { json: false } });
    }
}
