//! `cargo xtask board`: the packages below `firmware/boards/`, each a workspace of its own.

mod emulate;
mod flash;
mod footprint;
mod image;
mod list;
mod package;
mod size;
mod toolchain;
mod uf2;

use std::{path::PathBuf, process::Command};

use anyhow::Result;
use image::Image;
use package::Package;

use crate::workspace;

/// What can be done with a board.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Board {
    /// Name the boards: chip, target, how an image gets there, whether QEMU emulates it
    #[command(after_help = "Example:\n  cargo xtask board list")]
    List,
    /// Build a board's image and print where it is
    #[command(after_help = "Example:\n  cargo xtask board build lm3s6965evb")]
    Build {
        /// Folder below firmware/boards
        name: String,
    },
    /// Flash and RAM of every board and of link and node alone, by section; fails if the link can panic or a bar is passed
    #[command(after_help = "Example:\n  cargo xtask board size --check")]
    Size(size::Options),
    /// Build a board's image and put it on a board that is plugged in; what the board remembers stays there
    #[command(after_help = "Example:\n  cargo xtask board flash rp2040")]
    Flash(flash::Options),
    /// Build a board's image as a .uf2 file, for boards that show up as a drive, and print where it is
    #[command(
        after_help = "Example:\n  cp \"$(cargo xtask board uf2 rp2040)\" /media/$USER/RPI-RP2/"
    )]
    Uf2 {
        /// A board that takes such files
        name: String,
    },
    /// Run a board in QEMU until it is interrupted: its link goes to a gateway, the ledger of lm3s6965evb to the terminal
    #[command(after_help = "Example:\n  headwater serve &\n  cargo xtask board run lm3s6965evb")]
    Run {
        /// A board that QEMU emulates
        name: String,
        /// Device address of the gateway
        #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7411")]
        connect: String,
    },
}

/// Runs one of the commands.
pub(crate) fn run(board: &Board) -> Result<()> {
    match board {
        Board::List => list::run(),
        Board::Build { name } => {
            println!("{}", build(name)?.display());
            Ok(())
        }
        Board::Size(options) => size::run(options),
        Board::Flash(options) => flash::run(options),
        Board::Uf2 { name } => {
            println!("{}", uf2::write(&Package::open(name)?)?.display());
            Ok(())
        }
        Board::Run { name, connect } => emulate::run(name, connect),
    }
}

/// Builds the board's image; returns the path of its ELF file.
pub(crate) fn build(name: &str) -> Result<PathBuf> {
    let package = Package::open(name)?;
    Ok(toolchain::build(&package, &[&package.name])?.remove(0))
}

/// Builds every board, prints what it takes and how long that took, and holds it against README's table; builds the
/// link's images, which must not panic.
pub(crate) fn size() -> Result<()> {
    size::run(&size::Options { check: true })
}

/// Folder of the images that were built: `NAME.elf`.
pub(crate) fn images() -> PathBuf {
    toolchain::images()
}

/// The formatting check of every board and of the link's images: `cargo fmt --all` in the root does not reach them.
pub(crate) fn format_checks() -> Result<Vec<Command>> {
    let check = |package: &Package| {
        let mut command = workspace::cargo(&["fmt", "--check", "--manifest-path"]);
        command.arg(package.folder.join("Cargo.toml"));
        command
    };
    Ok(package::all()?.iter().chain([&footprint::package()?]).map(check).collect())
}
