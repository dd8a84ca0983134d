//! How far a long command is: a bar on a terminal, a line every tenth elsewhere.

use std::{
    io::{IsTerminal, Write, stderr},
    time::{Duration, Instant},
};

/// On standard error, so that what is found can go to a file.
#[derive(Debug)]
pub(super) struct Bar {
    on_terminal: bool,
    what: &'static str,
    begun: Instant,
    shown: Option<Instant>,
    tenths: u64,
}

/// Often enough to be seen moving.
const REDRAW: Duration = Duration::from_millis(100);
const WIDTH: u64 = 30;
const MIB: f64 = 1_048_576.0;

impl Bar {
    pub(super) fn new(what: &'static str) -> Self {
        Self {
            on_terminal: stderr().is_terminal(),
            what,
            begun: Instant::now(),
            shown: None,
            tenths: 0,
        }
    }

    pub(super) fn show(&mut self, done: u64, total: u64) {
        let is_last = done >= total;
        if self.on_terminal {
            if is_last || self.shown.is_none_or(|shown| shown.elapsed() > REDRAW) {
                self.shown = Some(Instant::now());
                let line = bar(self.what, done, total, self.begun.elapsed());
                let _ = write!(stderr(), "\r{line}\x1b[K{}", if is_last { "\n" } else { "" });
            }
            return;
        }
        let tenths = (done * 10).checked_div(total).unwrap_or(10);
        // A journal that is read at once needs no lines.
        if tenths > self.tenths && self.begun.elapsed() > Duration::from_secs(1) {
            self.tenths = tenths;
            let _ = writeln!(stderr(), "{} {}%", self.what, tenths * 10);
        }
    }
}

fn bar(what: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let full = (done * WIDTH).checked_div(total).unwrap_or(WIDTH).min(WIDTH);
    let blocks: String = (0..WIDTH).map(|at| if at < full { '#' } else { '.' }).collect();
    let percent = (done * 100).checked_div(total).unwrap_or(100).min(100);
    let (done, total) = (done as f64 / MIB, total as f64 / MIB);
    let rate = done / elapsed.as_secs_f64().max(0.001);
    format!("{what} [{blocks}] {percent:3}%  {done:.0}/{total:.0} MiB  {rate:.0} MiB/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_and_never_overflows() {
        let second = Duration::from_secs(1);
        let line = bar("verifying", 1 << 20, 2 << 20, second);
        assert_eq!(line, "verifying [###############...............]  50%  1/2 MiB  1 MiB/s");
        assert!(bar("v", 9, 0, second).contains("100%"));
        assert!(bar("v", 9, 3, second).contains("[##############################] 100%"));
    }
}
