//! The codec beside other formats; the bench itself is the simulator's (`sim/benches/codec`).

use anyhow::{Result, bail};

use crate::{test, workspace};

pub(super) fn run() -> Result<()> {
    let recordings = test::recordings()?;
    let mut command =
        workspace::cargo(&["bench", "--quiet", "--workspace", "--bench", "codec", "--"]);
    command.arg("--recordings").arg(recordings);
    if !command.status()?.success() {
        bail!("the bench failed");
    }
    Ok(())
}
