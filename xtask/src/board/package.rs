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
    pub(super) description: String,
    /// Target triple of its `.cargo/config.toml`.
    pub(super) target: String,
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
        Ok(Self {
            name: text(&manifest, "package", "name")?,
            description: text(&manifest, "package", "description")?,
            target: text(&config, "build", "target")?,
            folder: folder.to_owned(),
        })
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
