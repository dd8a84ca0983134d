//! Both ends of the link as bare images for a Cortex-M0 (`protocol/footprint`): what they take, and that nothing in them
//! can panic.
//!
//! No code of the link may panic on a device, and the way to one costs flash. So an image must hold no symbol of
//! `core::panicking`: there is no list of exceptions. Where one appears, `llvm-objdump --disassemble --demangle` of the
//! image tells who calls it; mostly it is an index or a `copy_from_slice` of lengths that the compiler cannot compare.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSymbol};

use super::{Image, package::Package, toolchain};

/// Part of the mangled names of all that is called when something panics, in either mangling.
const PANICKING: &str = "9panicking";

/// Builds the images, prints what they take, and fails if one can panic.
pub(super) fn check() -> Result<()> {
    let package = package()?;
    let mut complaints = Vec::new();
    for path in toolchain::build(&package, &["device-end", "host-end"])? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let panics = panics(&path)?;
        println!("{name} of the link ({})\n{}", package.target, Image::read(&path)?);
        println!("  symbols of core::panicking: {}", panics.len());
        complaints.extend(panics.iter().map(|symbol| format!("{name}: {symbol}")));
    }
    if complaints.is_empty() {
        return Ok(());
    }
    bail!("the link can panic:\n  {}", complaints.join("\n  "))
}

pub(super) fn package() -> Result<Package> {
    Package::at(&crate::workspace::root().join("protocol/footprint"))
}

/// Mangled names of what is called when something panics.
fn panics(path: &Path) -> Result<Vec<String>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = object::File::parse(&*bytes)?;
    let symbols = file.symbols().filter_map(|symbol| symbol.name().ok());
    let names: Vec<&str> = symbols.filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        bail!("{} has no symbols", path.display());
    }
    Ok(names
        .iter()
        .filter(|name| name.contains(PANICKING))
        .map(|name| (*name).to_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_can_panic_is_found_out() {
        assert!(!panics(&std::env::current_exe().unwrap()).unwrap().is_empty());
    }
}
