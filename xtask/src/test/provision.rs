//! What the tests need besides Rust: installed as root, or listed for whoever may install it.

mod clients;
mod recordings;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
pub(crate) use clients::{kafka_libs, test_environment};
pub(crate) use recordings::recordings;

/// A program the tests start, and the Debian package that brings it.
struct Tool {
    program: &'static str,
    package: &'static str,
}

const TOOLS: [Tool; 9] = [
    Tool { program: "qemu-system-arm", package: "qemu-system-arm" },
    Tool { program: "mosquitto", package: "mosquitto" },
    Tool { program: "mosquitto_pub", package: "mosquitto-clients" },
    Tool { program: "kcat", package: "kcat" },
    Tool { program: "java", package: "default-jdk-headless" },
    Tool { program: "mvn", package: "maven" },
    Tool { program: "python3", package: "python3" },
    Tool { program: "node", package: "nodejs" },
    Tool { program: "npm", package: "npm" },
];

/// Debian's embedded Rust, where rustup has no target for the boards.
const EMBEDDED_RUST: [(&str, &str); 3] =
    [("/usr/bin/rustc", "rustc-web"), ("/usr/bin/cargo", "cargo-web"), ("/usr/bin/ld.lld", "lld")];

/// The boards, and the link alone, are built for these targets.
const BOARD_TARGETS: [&str; 4] = [
    "thumbv6m-none-eabi",
    "thumbv7m-none-eabi",
    "thumbv7em-none-eabi",
    "riscv32imc-unknown-none-elf",
];

/// Installs what is missing, or fails with the list of it.
pub(crate) fn provision(quick: bool) -> Result<()> {
    packages()?;
    clients::provision(quick)
}

/// What the benches of servers need besides: Java with Apache Kafka, and the packages of files that are missing.
pub(crate) fn for_benches(files: &[(&str, &'static str)]) -> Result<()> {
    let mut missing: Vec<&str> =
        files.iter().filter(|(file, _)| !Path::new(file).exists()).map(|(_, it)| *it).collect();
    let java = TOOLS.iter().filter(|it| ["java", "mvn"].contains(&it.program));
    missing.extend(java.filter(|tool| !on_path(tool.program)).map(|tool| tool.package));
    install(&missing, "")?;
    clients::kafka_jars()
}

fn packages() -> Result<()> {
    let mut missing: Vec<&str> =
        TOOLS.iter().filter(|tool| !on_path(tool.program)).map(|tool| tool.package).collect();
    if !rustup_has_board_targets() {
        missing.extend(
            EMBEDDED_RUST.iter().filter(|(path, _)| !Path::new(path).exists()).map(|(_, p)| *p),
        );
        if !rust_source_exists() {
            missing.push("rust-web-src");
        }
    }
    if on_path("python3") && !python_can_make_environments() {
        missing.push("python3-venv");
    }
    let instead = format!(
        "(instead of rustc-web, cargo-web, rust-web-src and lld, `rustup target add {}` does as well)",
        BOARD_TARGETS.join(" ")
    );
    install(&missing, &instead)
}

/// Installs packages, or fails with the list of them and what else would do.
fn install(missing: &[&str], instead: &str) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !rustix::process::geteuid().is_root() || !on_path("apt-get") {
        bail!(
            "these programs are missing; install them and run again:\n  apt-get install {list}\n{instead}"
        );
    }
    println!("installing {list}");
    let apt = |arguments: &[&str]| {
        Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(arguments).output()
    };
    apt(&["update", "--quiet"])?;
    let mut install = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    install.extend(missing);
    let output = apt(&install)?;
    if !output.status.success() {
        bail!(
            "apt-get could not install {list}:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Does `make` unless `mark` says that it was done for this very content of `sources`.
fn once_per(sources: &[PathBuf], mark: &Path, make: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut wanted = Vec::new();
    for source in sources {
        let content = fs::read(source);
        wanted.extend(content.with_context(|| format!("cannot read {}", source.display()))?);
    }
    if fs::read(mark).is_ok_and(|made| made == wanted) {
        return Ok(());
    }
    fs::create_dir_all(mark.parent().context("a mark lies in a folder")?)?;
    make()?;
    fs::write(mark, wanted)?;
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let printed = [output.stdout, output.stderr].concat();
        bail!("{command:?} failed:\n{}", String::from_utf8_lossy(&printed));
    }
    Ok(())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian puts daemons here, which is not on the path of every user.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.into_iter().any(|folder| folder.join(program).is_file())
}

fn rustup_has_board_targets() -> bool {
    let output = Command::new("rustup").args(["target", "list", "--installed"]).output();
    output.is_ok_and(|output| {
        let installed = String::from_utf8_lossy(&output.stdout);
        BOARD_TARGETS.iter().all(|target| installed.lines().any(|line| line == *target))
    })
}

fn rust_source_exists() -> bool {
    let output = Command::new("/usr/bin/rustc").args(["--print", "sysroot"]).output();
    output.is_ok_and(|output| {
        let sysroot = String::from_utf8_lossy(&output.stdout);
        Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml").exists()
    })
}

fn python_can_make_environments() -> bool {
    let output = Command::new("python3").args(["-c", "import venv, ensurepip"]).output();
    output.is_ok_and(|output| output.status.success())
}
