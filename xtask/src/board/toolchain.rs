//! Builds a board with rustup's toolchain where it has the target, else with Debian's Rust and its sources.
//!
//! Boards are built outside of the clone, in a folder named after board, lock file and compiler, so that a new
//! clone finds `core` and the crates built.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::package::Package;
use crate::workspace;

/// Builds the package and copies its images, so named, into the workspace's target folder.
pub(super) fn build(package: &Package, names: &[&str]) -> Result<Vec<PathBuf>> {
    let toolchain = Toolchain::of(&package.target)?;
    let target = cache()?.join(format!("{}-{:08x}", package.name, key(package, &toolchain)?));
    fs::create_dir_all(&target)?;
    // Clones share the folder, and the last one to build owns the image in it: copy before letting go.
    let lock = File::create(target.join("in-use"))?;
    lock.lock()?;
    let mut command = toolchain.command(&package.target);
    command
        .current_dir(&package.folder)
        .args(["build", "--release", "--locked", "--quiet", "--target-dir"])
        .arg(&target);
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{} does not build", package.name);
    }
    let images = images();
    fs::create_dir_all(&images)?;
    let built = target.join(&package.target).join("release");
    let copy = |name: &&str| {
        let image = images.join(format!("{name}.elf"));
        fs::copy(built.join(name), &image)?;
        Ok(image)
    };
    names.iter().map(copy).collect()
}

/// Folder of the images that were built.
pub(super) fn images() -> PathBuf {
    workspace::target().join("boards")
}

/// Where the compiler for a board comes from.
#[derive(Debug)]
enum Toolchain {
    /// `rustup target add` has been done.
    Rustup,
    /// Debian's `rustc-web cargo-web rust-web-src lld`: `core` is built from its sources.
    Debian,
}

impl Toolchain {
    fn of(target: &str) -> Result<Self> {
        let output = Command::new("rustup").args(["target", "list", "--installed"]).output();
        let installed =
            output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        if installed.lines().any(|line| line == target) {
            return Ok(Self::Rustup);
        }
        if [DEBIAN_CARGO, DEBIAN_RUSTC].iter().all(|program| Path::new(program).exists()) {
            return Ok(Self::Debian);
        }
        bail!(
            "no compiler for {target}: `rustup target add {target}`, or on Debian \
             `apt-get install rustc-web cargo-web rust-web-src lld`"
        )
    }

    fn command(&self, target: &str) -> Command {
        match self {
            // The cargo that runs this, or rustup's of the same name, which knows its targets.
            Self::Rustup => Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
            Self::Debian => {
                let mut command = Command::new(DEBIAN_CARGO);
                let linker =
                    format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
                command
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("RUSTC", DEBIAN_RUSTC)
                    .env("CARGO_UNSTABLE_BUILD_STD", std_crates(target))
                    .env(linker, "ld.lld")
                    // Those of the workspace are meant for another compiler.
                    .env_remove("RUSTFLAGS")
                    .env_remove("RUSTC_WRAPPER");
                command
            }
        }
    }

    fn version(&self) -> Result<Vec<u8>> {
        let rustc = match self {
            Self::Rustup => "rustc",
            Self::Debian => DEBIAN_RUSTC,
        };
        let output = Command::new(rustc).arg("--version").output()?;
        Ok(output.stdout)
    }
}

/// The crates that are built from the compiler's sources. esp-hal refers to `alloc` without using it.
fn std_crates(target: &str) -> &'static str {
    if target.starts_with("riscv32") { "core,alloc" } else { "core" }
}

/// Folder of all boards' builds: `HEADWATER_BOARD_CACHE`, else below the user's cache folder.
fn cache() -> Result<PathBuf> {
    let folder = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("HEADWATER_BOARD_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("headwater/boards")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/headwater/boards")))
        .context("neither HEADWATER_BOARD_CACHE nor XDG_CACHE_HOME nor HOME is set")
}

/// Changes with the compiler and the versions of the crates.
fn key(package: &Package, toolchain: &Toolchain) -> Result<u32> {
    let lock = fs::read(package.folder.join("Cargo.lock"))?;
    Ok(crc32c::crc32c_append(crc32c::crc32c(&lock), &toolchain.version()?))
}

const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
