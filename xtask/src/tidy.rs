//! House rules that no compiler checks.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// A longer file has more than one owner noun.
const MAX_LINES: usize = 700;

/// Marks of unfinished work.
const UNFINISHED: [&str; 4] = [
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
    concat!("FIX", "ME"),
    concat!("#[ign", "ore]"),
];

/// Checks every Rust file that git knows.
pub(crate) fn run() -> Result<()> {
    let mut complaints = Vec::new();
    for path in rust_files()? {
        let text = fs::read_to_string(workspace::root().join(&path))
            .with_context(|| format!("cannot read {}", path.display()))?;
        complaints.extend(complaints_about(&path, &text));
    }
    if complaints.is_empty() {
        return Ok(());
    }
    bail!("house rules:\n  {}", complaints.join("\n  "))
}

fn rust_files() -> Result<Vec<PathBuf>> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.rs"];
    let output = Command::new("git").current_dir(workspace::root()).args(arguments).output()?;
    let names = String::from_utf8(output.stdout)?;
    let paths = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    Ok(paths.filter(|path| workspace::root().join(path).exists()).collect())
}

fn complaints_about(path: &Path, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut complain = |what: String| complaints.push(format!("{}: {what}", path.display()));
    if !text.starts_with("//!") {
        complain("does not open with what it owns (//!)".into());
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        complain(format!("{lines} lines, more than {MAX_LINES}: split it by owner"));
    }
    for (number, line) in text.lines().enumerate() {
        if let Some(mark) = UNFINISHED.iter().find(|mark| line.contains(**mark)) {
            complain(format!("line {}: {mark}", number + 1));
        }
        if line.trim_start().starts_with(concat!("#[all", "ow(")) {
            complain(format!("line {}: use #[expect(lint, reason = ...)]", number + 1));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_is_found() {
        let unfinished = format!("//! A.\nfn a() {{ {})\n}}", UNFINISHED[0]);
        let long = "//! A.\n".repeat(MAX_LINES + 1);
        for (text, count) in
            [("//! Owns a.\n", 0), ("fn a() {}\n", 1), (&unfinished, 1), (&long, 1)]
        {
            assert_eq!(complaints_about(Path::new("a.rs"), text).len(), count, "{text}");
        }
    }
}
