//! Both ends of the link, and the firmware's node on top of the device's, as bare images for a Cortex-M0
//! (`protocol/footprint`): what they take, and that nothing in the link can panic.
//!
//! No code of the link may panic on a device, and the way to one costs flash. So an image must hold no symbol of
//! `core::panicking`: there is no list of exceptions. Where one appears, `llvm-objdump --disassemble --demangle` of the
//! image tells who calls it; mostly it is an index or a `copy_from_slice` of lengths that the compiler cannot compare.
//! The node's queue can: `copy_within` and heapless check what the queue has checked.
//!
//! What counts against a bar is a whole image but for what calls it (`_start`): also the compiler's own functions
//! (`memcpy`, 64-bit multiplication), which a board has once for all of its code.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSymbol};

use super::{Image, package::Package, toolchain};

/// Part of the mangled names of all that is called when something panics, in either mangling.
const PANICKING: &str = "9panicking";

/// What is to be kept small, and from where on it fails. Another compiler may make an image larger by some percent:
/// `most` leaves 3 % to what was measured with rustc 1.96, or to the aim where that is met.
struct Bar {
    what: &'static str,
    aim: u64,
    most: u64,
}

const LINK: Bar = Bar { what: "flash, device end of the link", aim: 10_000, most: 12_200 };
/// Queue, sealing, storage and events; 0.7 kB of it is the compiler's `memmove`.
const NODE: Bar = Bar { what: "flash, queue and node on top of it", aim: 4_000, most: 4_450 };
const LINK_RAM: Bar = Bar { what: "RAM, DeviceLink", aim: 1_000, most: 1_000 };
/// Of one channel; another takes 17 bytes more.
const BLOCK_RAM: Bar = Bar { what: "RAM, BlockBuilder beside its rows", aim: 100, most: 100 };
/// Link and block builder included.
const NODE_RAM: Bar = Bar { what: "RAM, Node beside its buffers, in all", aim: 1_000, most: 1_000 };

/// Builds the images, prints what they take, and fails if the link can panic or a bar is passed.
pub(super) fn check() -> Result<()> {
    let package = package()?;
    let mut complaints = Vec::new();
    let mut flash = Vec::new();
    let names = ["device-end", "host-end", "node-end", "variables"];
    let paths = toolchain::build(&package, &names)?;
    let (variables, ends) = paths.split_last().context("no images")?;
    for path in ends {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let image = Image::read(path)?;
        let symbols = symbols(path)?;
        let panics: Vec<_> = symbols.iter().filter(|(name, _)| name.contains(PANICKING)).collect();
        println!("{name} ({})\n{image}", package.target);
        println!("  symbols of core::panicking: {}", panics.len());
        if name != "node-end" {
            complaints
                .extend(panics.iter().map(|(symbol, _)| format!("{name} can panic: {symbol}")));
        }
        flash.push(image.flash_bytes() - bytes_of(&symbols, "_start")?);
    }
    let [device, _, node] = flash[..] else { bail!("not three images") };
    let variables = symbols(variables)?;
    println!("bars, bytes{:>37} {:>8} {:>8}", "measured", "aim", "fails at");
    for (bar, measured) in [
        (LINK, device),
        (NODE, node.saturating_sub(device)),
        (LINK_RAM, bytes_of(&variables, "DEVICE_LINK")?),
        (BLOCK_RAM, bytes_of(&variables, "BLOCK_BUILDER")?),
        (NODE_RAM, bytes_of(&variables, "NODE_BESIDE_BUFFERS")?),
    ] {
        let Bar { what, aim, most } = bar;
        println!("  {what:<37} {measured:>8} {aim:>8} {most:>8}");
        if measured > most {
            complaints.push(format!("{what}: {measured} bytes, {most} at most"));
        }
    }
    if complaints.is_empty() {
        return Ok(());
    }
    bail!("the link's images are not as they should be:\n  {}", complaints.join("\n  "))
}

pub(super) fn package() -> Result<Package> {
    Package::at(&crate::workspace::root().join("protocol/footprint"))
}

/// Mangled names and sizes of an image's symbols.
fn symbols(path: &Path) -> Result<Vec<(String, u64)>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = object::File::parse(&*bytes)?;
    let named =
        |symbol: object::Symbol<'_, '_>| Some((symbol.name().ok()?.to_owned(), symbol.size()));
    let symbols: Vec<_> =
        file.symbols().filter_map(named).filter(|(name, _)| !name.is_empty()).collect();
    if symbols.is_empty() {
        bail!("{} has no symbols", path.display());
    }
    Ok(symbols)
}

/// Size of the one symbol whose name ends like this.
fn bytes_of(symbols: &[(String, u64)], name: &str) -> Result<u64> {
    let found = symbols.iter().find(|(symbol, _)| symbol.ends_with(name));
    Ok(found.with_context(|| format!("no symbol {name}"))?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_can_panic_is_found_out() {
        let symbols = symbols(&std::env::current_exe().unwrap()).unwrap();
        assert!(symbols.iter().any(|(name, _)| name.contains(PANICKING)));
    }
}
