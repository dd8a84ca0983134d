//! A child process with a log, ended by its id and never by its name.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// Lines of the log that a failed test prints.
const SHOWN_LINES: usize = 60;

/// A running child; dropping it ends it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let open = || File::options().create(true).append(true).open(log);
        let files = open().and_then(|out| Ok((out, open()?)));
        let (out, err) = files.unwrap_or_else(|e| panic!("log of {name}: {e}"));
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { name: name.into(), child, log: log.into() }
    }

    /// Ends it as a power cut would end it.
    pub fn kill(&mut self) {
        // It may have ended by itself, which a test notices elsewhere.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end and waits for that.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(deadline)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait::until(&what, deadline, || self.child.try_wait().ok().flatten())
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Resident memory in KiB now.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn rss_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// The largest resident memory so far, in KiB.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn peak_rss_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    /// Processor time in user and kernel mode so far, all threads.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let text = text.unwrap_or_else(|error| panic!("{} has ended: {error}", self.name));
        // Behind the name, which may hold anything: utime and stime are the 12th and 13th fields, in hundredths of a second.
        let fields = text.rsplit_once(") ").map(|(_, fields)| fields).unwrap_or_default();
        let ticks =
            fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    /// Its environment, a variable an entry.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn environment(&self) -> Vec<String> {
        let bytes = fs::read(format!("/proc/{}/environ", self.child.id()));
        let bytes = bytes.unwrap_or_else(|error| panic!("{} has ended: {error}", self.name));
        String::from_utf8_lossy(&bytes).split('\0').map(str::to_owned).collect()
    }

    /// What it has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read(&self.log)
            .map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn status_kib(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status: io::Result<String> = status;
        let text = status.unwrap_or_else(|error| panic!("{} has ended: {error}", self.name));
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        number.unwrap_or_else(|| panic!("no {key} of {}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let shown = lines.len().saturating_sub(SHOWN_LINES);
            println!("--- {} (last lines of {})", self.name, self.log.display());
            for line in &lines[shown..] {
                println!("{line}");
            }
        }
    }
}
