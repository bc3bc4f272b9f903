//! The usual ports and what happens when they are not to be had, in a network namespace of the test's own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::harness::lockring::Scratch;
use crate::harness::python::tool;

/// Starts `lockring proxy localhost=demo` twice in one new network namespace, without any address given.
fn two_of_them(state: &str) -> Child {
    let one = format!("{} proxy localhost=demo --state {state} > /dev/null", env!("CARGO_BIN_EXE_lockring"));
    // The second starts when the first has said that it is ready; both end with the script.
    let script = format!(
        "mkfifo {state}.said; {one} 2> {state}.said & first=$!; \
         while read -r line; do case $line in *ready*) break;; esac; done < {state}.said; \
         {one} & echo pid $! >&2; wait $!; kill $first; wait"
    );
    Command::new("unshare")
        .args(["--net", "--map-root-user", "sh", "-c", &script])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn ports_that_are_taken_step_aside() {
    need!(tool("unshare"), "unshare");
    let scratch = Scratch::new();
    let state = scratch.path().join("state");
    let mut child = two_of_them(state.to_str().unwrap());
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = Vec::new();
    for line in lines.map_while(Result::ok) {
        let ready = line.ends_with("ready");
        seen.push(line);
        if ready {
            break;
        }
    }
    let text = seen.join("\n");
    let second = seen.iter().find_map(|line| line.strip_prefix("pid ")).unwrap_or_default();
    // When the second has ended, the script ends the first.
    let _ = Command::new("kill").args(["-TERM", second]).status();
    child.wait().unwrap();
    assert!(text.contains("listening on https://0.0.0.0:8443"), "{text}");
    assert!(text.contains("listening on http://0.0.0.0:8080"), "{text}");
    assert!(text.contains("https://localhost:8443/"), "{text}");
}
