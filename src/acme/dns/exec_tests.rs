//! Hooks that work, fail, hang, talk too much and leave things behind.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use super::{Call, ExecError, Hook, Lines, escape, is_passed, secrets};
use crate::limits;

const LONG: Duration = Duration::from_secs(20);

fn shell(script: &str, timeout: Duration) -> Hook {
    Hook { command: ["/bin/sh", "-c", script, "hook"].map(str::to_owned).to_vec(), timeout }
}

fn call() -> Call<'static> {
    Call { verb: "present", arguments: ["_acme-challenge.a.example.", "value", ""], raw: false }
}

/// Whether a process runs; one that is dead and not waited for does not.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn until(what: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !what() {
        assert!(Instant::now() < end, "waited too long");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[tokio::test]
async fn it_is_called_as_lego_calls_it() {
    let hook = shell("echo \"$# $@\"; echo problem >&2; cat", LONG);
    let mut lines = hook.run(&call()).await.unwrap();
    lines.sort();
    assert_eq!(lines, ["3 present _acme-challenge.a.example. value", "problem"]);
    let raw = Call { verb: "cleanup", arguments: ["a.example.", "token", "key.auth"], raw: true };
    assert_eq!(
        shell("echo \"$# $@\"", LONG).run(&raw).await.unwrap(),
        ["5 cleanup -- a.example. token key.auth"]
    );
    let hostile = Call { verb: "present", arguments: ["$(touch /x);", "`id`", ""], raw: false };
    let hook = Hook { command: ["/bin/echo", "first"].map(str::to_owned).to_vec(), timeout: LONG };
    assert_eq!(hook.run(&hostile).await.unwrap(), ["first present $(touch /x); `id`"]);
}

#[tokio::test]
async fn its_failure_is_told_with_its_output() {
    let error = shell("echo 'no such zone'; exit 3", LONG).run(&call()).await.unwrap_err().to_string();
    assert!(error.contains("failed to present: exit status: 3: no such zone"), "{error}");
    let error = shell("kill -9 $$", LONG).run(&call()).await.unwrap_err().to_string();
    assert!(error.contains("signal: 9 (SIGKILL), without output"), "{error}");
    let missing = Hook { command: vec!["/nowhere/hook\u{1b}".to_owned()], timeout: LONG };
    let error = missing.run(&call()).await.unwrap_err().to_string();
    assert!(error.contains("cannot start the hook /nowhere/hook\\u{1b}: No such file"), "{error}");
    let none = Hook { command: Vec::new(), timeout: LONG };
    assert!(matches!(none.run(&call()).await, Err(ExecError::Start { .. })));
}

#[tokio::test]
async fn one_that_hangs_is_killed_with_its_children() {
    let hook = shell("sleep 1000 & echo $! $$; trap '' TERM; wait; sleep 1000", Duration::from_millis(300));
    let Err(ExecError::TimedOut { output, .. }) = hook.run(&call()).await else { panic!("it ended") };
    let pids: Vec<&str> = output[0].split(' ').collect();
    assert_eq!(pids.len(), 2);
    until(|| !pids.iter().any(|pid| runs(pid)));
}

#[tokio::test]
async fn what_it_leaves_running_is_killed() {
    let start = Instant::now();
    let lines = shell("sleep 1000 & echo $!", LONG).run(&call()).await.unwrap();
    until(|| !runs(&lines[0]));
    assert!(start.elapsed() < LONG, "its output, which the child held open, was not waited for");
}

#[tokio::test]
async fn given_up_it_is_killed() {
    let file = std::env::temp_dir().join(format!("lockring-hook-{}", std::process::id()));
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 1000", file.display());
    let hook = shell(&script, LONG);
    let call = call();
    let running = hook.run(&call);
    let written = async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        _ = running => panic!("it ended"),
        () = written => {}
    }
    let pid = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    until(|| !runs(pid.trim()));
}

#[tokio::test]
async fn a_flood_of_output_is_cut_and_does_not_block() {
    let script =
        "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done; head -c 300000 /dev/zero | tr '\\0' x";
    let lines = shell(script, LONG).run(&call()).await.unwrap();
    assert_eq!(lines.len(), limits::HOOK_LINES);
    assert_eq!(lines.last().unwrap().len(), limits::HOOK_LINE_BYTES);
    assert_eq!(lines[lines.len() - 2], "line 299");
}

#[test]
fn output_cannot_command_a_terminal_or_show_secrets() {
    let mut lines = Lines::new(vec!["hunter2-long".to_owned()]);
    let mut rest = Vec::new();
    lines.take_piece(&mut rest, b"a\x1b[2J\rb\xff hunter2-long\n\n  \nnot over");
    lines.end(&mut rest);
    assert_eq!(lines.take(), ["a\\u{1b}[2J\\rb\u{fffd} [redacted]", "not over"]);
    assert_eq!(escape("é\u{202e}x".as_bytes()), "é\\u{202e}x");
}

#[test]
fn its_environment_is_a_list_of_names() {
    for name in ["PATH", "HOME", "LANG", "TZ", "EXEC_PATH", "LEGO_X", "LOCKRING_DNS_TOKEN"] {
        assert!(is_passed(name.as_ref()), "{name}");
    }
    for name in ["LD_PRELOAD", "AWS_SECRET_ACCESS_KEY", "PATHX", "NOTIFY_SOCKET", "lego_x"] {
        assert!(!is_passed(name.as_ref()), "{name}");
    }
    let environment = [
        ("LEGO_TOKEN", "long-secret"),
        ("EXEC_API_KEY", "a-longer-secret"),
        ("LEGO_KEY", "x"),
        ("EXEC_PATH", "/bin/hook"),
        ("API_TOKEN", "not-passed"),
    ];
    let environment = environment.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    assert_eq!(secrets(environment.clone().into_iter()), ["a-longer-secret", "long-secret"]);
    let hook = shell("env", LONG);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lines = runtime.block_on(async {
        let given = environment.into_iter().chain([("LD_PRELOAD".into(), "x".into())]);
        let (child, _group) = hook.start(&call(), given).unwrap();
        child.wait_with_output().await.unwrap()
    });
    let text = String::from_utf8(lines.stdout).unwrap();
    assert!(
        text.contains("LEGO_TOKEN=long-secret")
            && !text.contains("LD_PRELOAD")
            && !text.contains("API_TOKEN"),
        "{text}"
    );
}
