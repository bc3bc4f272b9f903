//! Real Python apps. Where the interpreter or its packages are missing, tests say so and are skipped,
//! except where `CI` is set: there a missing tool is a failure.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Returns from the test, saying why, unless the tool is there.
macro_rules! need {
    ($tool:expr, $what:literal) => {
        match $tool {
            Some(tool) => tool,
            None => {
                assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "missing in CI: {}", $what);
                eprintln!("skipped: no {}", $what);
                return;
            }
        }
    };
}

/// The interpreter that has the packages of `tests/requirements.txt`.
pub fn interpreter() -> Option<PathBuf> {
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.venv/bin/python");
    let path = std::env::var_os("LOCKRING_TEST_PYTHON").map_or(local, PathBuf::from);
    let probe = Command::new(&path).args(["-c", "import fastapi, uvicorn, websockets"]).output().ok()?;
    probe.status.success().then_some(path)
}

/// A command-line tool, if it is installed.
pub fn tool(name: &'static str) -> Option<&'static str> {
    let probe = Command::new(name).arg(if name == "openssl" { "version" } else { "--version" }).output();
    probe.is_ok_and(|o| o.status.success()).then_some(name)
}

/// A script of `tests/apps` as a child process.
pub struct App {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Where the apps are.
pub fn apps() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps")
}

impl App {
    /// Runs `script` with `arguments`; its first line of output is the port it took.
    #[track_caller]
    pub fn start(interpreter: &Path, script: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(interpreter)
            .arg(apps().join(script))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port: u16 = line.trim().parse().unwrap_or_else(|_| panic!("{script} said {line:?}"));
        Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
