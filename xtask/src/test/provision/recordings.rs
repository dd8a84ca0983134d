//! Recordings of sensors that ship in two Python packages, as CSV files of codes, for `cargo xtask bench codec`.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use super::{install, once_per, python_can_make_environments, run};
use crate::workspace;

const PACKAGES: [&str; 2] = ["aeon==1.6.0", "seglearn==1.2.5"];

/// Their folder.
pub(crate) fn recordings() -> Result<PathBuf> {
    let script = workspace::root().join("sim/benches/codec/recordings.py");
    let folder = workspace::target().join("codec-recordings");
    once_per(std::slice::from_ref(&script), &folder.join(".fetched"), || {
        println!("fetching {}", PACKAGES.join(" and "));
        if !python_can_make_environments() {
            install(&["python3-venv"], "")?;
        }
        let environment = folder.join("venv");
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
        let python = environment.join("bin/python");
        let pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"];
        run(Command::new(&python).args(pip).args(["install", "numpy"]))?;
        let mut download = Command::new(&python);
        download.args(pip).args(["download", "--no-deps", "--dest"]).arg(&folder);
        run(download.args(PACKAGES))?;
        run(Command::new(&python).arg(&script).arg(&folder).arg(&folder))
    })?;
    Ok(folder)
}
