//! The codec beside other formats; the bench itself is the simulator's (`sim/benches/codec`).

use std::{path::PathBuf, process::Command};

use anyhow::{Result, bail};

use crate::{test, workspace};

/// The packages that the recordings are in, and what reads them.
const PACKAGES: [&str; 2] = ["aeon==1.6.0", "seglearn==1.2.5"];

pub(super) fn run() -> Result<()> {
    let recordings = recordings()?;
    let mut command =
        workspace::cargo(&["bench", "--quiet", "--workspace", "--bench", "codec", "--"]);
    command.arg("--recordings").arg(recordings);
    if !command.status()?.success() {
        bail!("the bench failed");
    }
    Ok(())
}

/// The folder with the recordings, fetched when they are not there yet.
fn recordings() -> Result<PathBuf> {
    let folder = workspace::target().join("codec-recordings");
    if folder.join("watch-4mg.csv").exists() {
        return Ok(folder);
    }
    println!("fetching {}", PACKAGES.join(" and "));
    test::provision_for_benches(&[("/usr/share/doc/python3-venv", "python3-venv")])?;
    std::fs::create_dir_all(&folder)?;
    let environment = folder.join("venv");
    succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let python = environment.join("bin/python");
    let pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"];
    succeed(Command::new(&python).args(pip).args(["install", "numpy"]))?;
    let mut download = Command::new(&python);
    download.args(pip).args(["download", "--no-deps", "--dest"]).arg(&folder).args(PACKAGES);
    succeed(&mut download)?;
    let script = workspace::root().join("sim/benches/codec/recordings.py");
    succeed(Command::new(&python).arg(script).arg(&folder).arg(&folder))?;
    Ok(folder)
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
