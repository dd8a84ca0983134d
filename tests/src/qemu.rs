//! A machine in QEMU: its process, and QMP to play its world.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{process::Process, wait};

const START: Duration = Duration::from_secs(60);
/// QMP answers at once unless the machine is very busy.
const ANSWER: Duration = Duration::from_secs(60);

/// A running machine; dropping it is a power cut.
#[derive(Debug)]
pub(crate) struct Machine {
    // Dropped in this order, so that nobody talks to a dead process.
    monitor: Monitor,
    _process: Process,
}

impl Machine {
    /// Starts QEMU by `command`, with its monitor's socket and its log in `folder`.
    pub(crate) fn start(mut command: Command, folder: &Path) -> Self {
        let socket = folder.join("qmp.sock");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("a socket in the test's folder");
        command.args(["-qmp", &format!("unix:{}", socket.display())]);
        let mut process = Process::start("qemu", &mut command, &folder.join("qemu.log"));
        listener.set_nonblocking(true).expect("a socket can be made so");
        let stream = wait::until("QEMU's monitor", START, || {
            assert!(process.is_running(), "QEMU ended: {}", process.output());
            listener.accept().ok().map(|(stream, _)| stream)
        });
        Self { monitor: Monitor::new(stream), _process: process }
    }

    /// Executes a command of QMP; it must succeed.
    pub(crate) fn execute(&mut self, command: &str, arguments: &Value) {
        self.monitor.execute(command, arguments);
    }
}

/// QEMU's control channel: JSON lines.
#[derive(Debug)]
struct Monitor {
    out: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Monitor {
    fn new(stream: UnixStream) -> Self {
        stream.set_nonblocking(false).expect("a socket can be made so");
        stream.set_read_timeout(Some(ANSWER)).expect("not zero");
        let lines = BufReader::new(stream.try_clone().expect("a descriptor is free"));
        let mut monitor = Self { out: stream, lines };
        let greeting = monitor.line();
        assert!(greeting.get("QMP").is_some(), "QEMU greets with {greeting}");
        monitor.execute("qmp_capabilities", &json!({}));
        monitor
    }

    fn execute(&mut self, command: &str, arguments: &Value) {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.out, "{request}").unwrap_or_else(|error| panic!("QEMU is gone: {error}"));
        let answer = loop {
            let line = self.line();
            if line.get("event").is_none() {
                break line;
            }
        };
        assert!(answer.get("return").is_some(), "{command} {arguments}: {answer}");
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line);
        read.unwrap_or_else(|error| panic!("QEMU does not answer: {error}"));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("QEMU said {line:?}: {error}"))
    }
}
