//! A board's package: its folder, and what its manifests say.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use toml::Table;

use crate::workspace;

/// One folder below `firmware/boards/`, or another of the kind.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    /// Target triple of its `.cargo/config.toml`.
    pub(super) target: String,
    /// The chip's name for people.
    pub(super) chip: String,
    /// Family of the .uf2 files that its boot loader takes as a drive.
    pub(super) uf2_family: Option<u32>,
    /// The chip's name in probe-rs.
    pub(super) probe_rs: Option<String>,
    /// The chip's name in espflash.
    pub(super) espflash: Option<String>,
}

/// How an image gets onto a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way<'a> {
    /// As a file onto the drive that the boot loader shows; the number is the file's family.
    Uf2(u32),
    /// By a debug probe, with the chip's name there.
    ProbeRs(&'a str),
    /// By the serial boot loader of Espressif's chips, with the chip's name there.
    Espflash(&'a str),
}

impl Way<'_> {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Uf2(_) => "UF2 drive",
            Self::ProbeRs(_) => "probe-rs",
            Self::Espflash(_) => "espflash",
        }
    }
}

/// Every board, by name.
pub(super) fn all() -> Result<Vec<Package>> {
    names()?.iter().map(|name| Package::open(name)).collect()
}

impl Package {
    /// The board of that name.
    pub(super) fn open(name: &str) -> Result<Self> {
        let known = names()?;
        if !known.iter().any(|board| board == name) {
            bail!("no board `{name}`; there are: {}", known.join(", "));
        }
        Self::at(&folder().join(name))
    }

    /// A package that is built for a board's processor.
    pub(super) fn at(folder: &Path) -> Result<Self> {
        let manifest = table(&folder.join("Cargo.toml"))?;
        let config = table(&folder.join(".cargo/config.toml"))?;
        let of_board = |key: &str| manifest.get("package")?.get("metadata")?.get("board")?.get(key);
        let text_of_board = |key| of_board(key).and_then(toml::Value::as_str).map(str::to_owned);
        let family = of_board("uf2-family").and_then(toml::Value::as_integer);
        Ok(Self {
            chip: text_of_board("chip").unwrap_or_else(|| "-".into()),
            uf2_family: family.map(u32::try_from).transpose().context("uf2-family")?,
            probe_rs: text_of_board("probe-rs"),
            espflash: text_of_board("espflash"),
            name: text(&manifest, "package", "name")?,
            target: text(&config, "build", "target")?,
            folder: folder.to_owned(),
        })
    }

    /// The ways to flash the board, the handiest first.
    pub(super) fn ways(&self) -> impl Iterator<Item = Way<'_>> {
        let uf2 = self.uf2_family.map(Way::Uf2);
        let espflash = self.espflash.as_deref().map(Way::Espflash);
        uf2.into_iter().chain(espflash).chain(self.probe_rs.as_deref().map(Way::ProbeRs))
    }
}

fn folder() -> PathBuf {
    workspace::root().join("firmware/boards")
}

fn names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder())? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").exists() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn table(path: &Path) -> Result<Table> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse().with_context(|| format!("{} is not TOML", path.display()))
}

fn text(table: &Table, section: &str, key: &str) -> Result<String> {
    let value = table.get(section).and_then(|section| section.get(key));
    let text = value.and_then(toml::Value::as_str);
    text.map(str::to_owned).with_context(|| format!("no {section}.{key}"))
}
