//! `board size`: what each image takes of its chip, and whether README's table still says so.

use std::{fs, time::Instant};

use anyhow::{Context, Result, bail};

use super::{Image, build, footprint, package};
use crate::workspace;

/// Options of `board size`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Fail where README's table is off by more than 5 % of flash or 256 bytes of RAM: as much as compilers differ
    #[arg(long)]
    pub(super) check: bool,
}

/// A row of README's table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    board: String,
    flash_bytes: u64,
    ram_bytes: u64,
}

/// Builds and prints all, then compares if asked to.
pub(super) fn run(options: &Options) -> Result<()> {
    let mut measured = Vec::new();
    for package in package::all()? {
        let started = Instant::now();
        let image = Image::read(&build(&package.name)?)?;
        let seconds = started.elapsed().as_secs_f64();
        println!("{} ({}), built in {seconds:.1} s\n{image}", package.name, package.target);
        let (flash_bytes, ram_bytes) = (image.flash_bytes(), image.ram_bytes());
        measured.push(Row { board: package.name, flash_bytes, ram_bytes });
    }
    footprint::check()?;
    if options.check {
        let readme = fs::read_to_string(workspace::root().join("README.md"))?;
        check(&rows(&readme)?, &measured)?;
    }
    Ok(())
}

/// Every board that was measured has its row, near enough, and no other board has one.
fn check(told: &[Row], measured: &[Row]) -> Result<()> {
    let is_told = |row: &Row| told.iter().any(|told| is_near(told, row));
    let wrong: Vec<String> =
        measured.iter().filter(|row| !is_told(row)).map(Row::to_string).collect();
    let gone: Vec<&str> = told
        .iter()
        .map(|row| row.board.as_str())
        .filter(|board| !measured.iter().any(|row| row.board == *board))
        .collect();
    if wrong.is_empty() && gone.is_empty() {
        return Ok(());
    }
    bail!(
        "README's table of boards is out of date; measured:\n{}\nno such board: {gone:?}",
        wrong.join("\n")
    )
}

fn is_near(told: &Row, measured: &Row) -> bool {
    told.board == measured.board
        && told.flash_bytes.abs_diff(measured.flash_bytes) * 100
            <= told.flash_bytes * FLASH_TOLERANCE_PERCENT
        && told.ram_bytes.abs_diff(measured.ram_bytes) <= RAM_TOLERANCE_BYTES
}

/// The rows between [`TABLE`] and the next empty line.
fn rows(readme: &str) -> Result<Vec<Row>> {
    let (_, table) = readme.split_once(TABLE).context("README has no table of boards")?;
    table.lines().skip(2).take_while(|line| line.starts_with('|')).map(row).collect()
}

fn row(line: &str) -> Result<Row> {
    let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`'));
    let mut cell = || cells.next().with_context(|| format!("too few cells: {line}"));
    let number = |cell: &str| -> Result<u64> {
        cell.replace(',', "").parse().with_context(|| format!("`{cell}` is no number: {line}"))
    };
    Ok(Row {
        board: cell()?.to_owned(),
        flash_bytes: number(cell()?)?,
        ram_bytes: number(cell()?)?,
    })
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (flash, ram) = (thousands(self.flash_bytes), thousands(self.ram_bytes));
        write!(f, "| `{}` | {flash} | {ram} |", self.board)
    }
}

/// With commas, for numbers below a million.
fn thousands(number: u64) -> String {
    match (number / 1_000, number % 1_000) {
        (0, below) => below.to_string(),
        (above, below) => format!("{above},{below:03}"),
    }
}

/// Heading of the table in README.
const TABLE: &str = "| board | flash, bytes | RAM, bytes |";
/// Releases of rustc inline differently, and Debian's build of `core` is not rustup's.
const FLASH_TOLERANCE_PERCENT: u64 = 5;
/// Variables are what the source says, but for what a compiler pads or merges.
const RAM_TOLERANCE_BYTES: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Vec<Row> {
        rows(&format!("Text.\n\n{TABLE}\n| --- | ---: | ---: |\n{text}\n\nMore.\n")).unwrap()
    }

    fn board(board: &str, flash_bytes: u64, ram_bytes: u64) -> Row {
        Row { board: board.into(), flash_bytes, ram_bytes }
    }

    #[test]
    fn a_table_is_read_as_it_is_printed() {
        let rows = [board("rp2040", 23_004, 48_136), board("microbit", 900, 12_000)];
        let text = rows.iter().map(Row::to_string).collect::<Vec<_>>().join("\n");
        assert_eq!(text.lines().next(), Some("| `rp2040` | 23,004 | 48,136 |"));
        assert_eq!(table(&text), rows);
    }

    #[test]
    fn what_is_off_missing_or_gone_is_told() {
        let told = table("| `a` | 10,000 | 5,000 |");
        for (measured, is_right) in [
            (vec![board("a", 10_000, 5_000)], true),
            (vec![board("a", 10_500, 4_744)], true),
            (vec![board("a", 10_501, 5_000)], false),
            (vec![board("a", 9_499, 5_000)], false),
            (vec![board("a", 10_000, 5_257)], false),
            (vec![board("a", 10_000, 5_000), board("b", 1, 1)], false),
            (vec![], false),
        ] {
            assert_eq!(check(&told, &measured).is_ok(), is_right, "{measured:?}");
        }
    }

    #[test]
    fn a_table_that_cannot_be_read_is_no_pass() {
        assert!(rows("no table").is_err());
        assert!(rows(&format!("{TABLE}\n| --- |\n| `a` | many | 1 |\n")).is_err());
    }
}
