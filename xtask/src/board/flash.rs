//! `board flash`: puts an image on a board by what is at hand: the drive of a boot loader, espflash, a debug probe.
//!
//! No way here erases more than what the image itself covers: stream, boot counter and queue of the device stay.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{
    package::{Package, Way},
    uf2,
};

/// Options of `board flash`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Folder below firmware/boards
    name: String,
}

/// Builds the board's image and flashes it.
pub(super) fn run(options: &Options) -> Result<()> {
    let package = Package::open(&options.name)?;
    let Some(handiest) = package.ways().next() else {
        bail!("{} is not flashed from here; QEMU runs it: cargo xtask board run", package.name);
    };
    let Some(way) = package.ways().find(|way| is_at_hand(*way)) else {
        bail!("{}", how_to_get(handiest, &package)?);
    };
    flash(way, &package)?;
    println!("{} is flashed by {}", package.name, way.name());
    Ok(())
}

fn is_at_hand(way: Way<'_>) -> bool {
    match way {
        Way::Uf2(_) => drive().is_some(),
        Way::ProbeRs(_) => is_on_path("probe-rs"),
        Way::Espflash(_) => is_on_path("espflash"),
    }
}

fn flash(way: Way<'_>, package: &Package) -> Result<()> {
    match way {
        Way::Uf2(_) => {
            let drive = drive().context("the drive is gone")?;
            fs::copy(uf2::write(package)?, drive.join("headwater.uf2"))?;
            Ok(())
        }
        Way::ProbeRs(_) | Way::Espflash(_) => {
            let elf = super::build(&package.name)?;
            for arguments in arguments(way, package, &elf) {
                let mut command = Command::new(way.name());
                command.args(arguments);
                let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
                if !status.success() {
                    bail!("{command:?} failed");
                }
            }
            Ok(())
        }
    }
}

/// What the tool is called with, call by call. Neither `--chip-erase` nor `--erase-parts` is among it: a tool then
/// erases the sectors that it writes.
fn arguments(way: Way<'_>, package: &Package, elf: &Path) -> Vec<Vec<OsString>> {
    let elf = elf.as_os_str();
    let call = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    match way {
        Way::Uf2(_) => vec![],
        Way::ProbeRs(chip) => {
            let mut download = call(&["download", "--chip", chip]);
            download.push(elf.into());
            vec![download, call(&["reset", "--chip", chip])]
        }
        Way::Espflash(chip) => {
            let mut flash = call(&["flash", "--chip", chip, "--partition-table"]);
            flash.push(package.folder.join("partitions.csv").into());
            flash.push(elf.into());
            vec![flash]
        }
    }
}

/// The one thing to do where nothing is at hand.
fn how_to_get(way: Way<'_>, package: &Package) -> Result<String> {
    let Package { name, .. } = package;
    Ok(match way {
        Way::Uf2(_) => format!(
            "no drive of a boot loader is mounted. Hold the board's BOOTSEL button while you plug it in, then run this \
             again, or copy the file yourself:\n  cp {} /media/$USER/RPI-RP2/",
            uf2::write(package)?.display()
        ),
        Way::ProbeRs(_) => format!(
            "probe-rs is not installed. Run\n  cargo install probe-rs-tools --locked && cargo xtask board flash {name}"
        ),
        Way::Espflash(_) => format!(
            "espflash is not installed. Run\n  cargo install espflash --locked && cargo xtask board flash {name}"
        ),
    })
}

/// Where a boot loader's drive is mounted.
fn drive() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let of_macos = fs::read_dir("/Volumes").into_iter().flatten().flatten();
    let folders = mount_points(&mounts).into_iter().chain(of_macos.map(|entry| entry.path()));
    folders.into_iter().find(|folder| folder.join(DRIVE_MARK).is_file())
}

/// The folders of `/proc/mounts`, where a space is `\040`.
fn mount_points(mounts: &str) -> Vec<PathBuf> {
    let folder = |line: &str| Some(line.split(' ').nth(1)?.replace("\\040", " ").into());
    mounts.lines().filter_map(folder).collect()
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// On every drive of a boot loader that takes UF2 files.
const DRIVE_MARK: &str = "INFO_UF2.TXT";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_way_erases_what_the_image_does_not_cover() {
        for package in super::super::package::all().unwrap() {
            for way in package.ways() {
                for call in arguments(way, &package, Path::new("image.elf")) {
                    let erases = |word: &OsString| word.to_string_lossy().contains("erase");
                    assert!(!call.iter().any(erases), "{call:?}");
                }
            }
        }
    }

    #[test]
    fn mount_points_are_found_with_their_spaces() {
        let mounts = "/dev/sda1 / ext4 rw 0 0\n/dev/sdb1 /media/a/NAME\\040X vfat rw 0 0\n\n";
        assert_eq!(mount_points(mounts), [Path::new("/"), Path::new("/media/a/NAME X")]);
    }
}
